"""A log that nobody reads any more, or whose disk is full, stops nothing."""

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx2
from tests.support.configuration import COHORT, cohort, write_configuration
from tests.support.crash import COMMAND
from tests.support.events import amplitude_event
from tests.support.server import eventually, free_port


@contextmanager
def _serving_into_a_pipe(folder: Path) -> Iterator[tuple[httpx2.Client, int]]:
    """Run `serve` with its log in a pipe; give a client and the end that a reader holds."""
    config = write_configuration(
        folder / "configuration", cohorts={COHORT: cohort(delay=["0.1s"])}
    )
    port, (reader, writer) = free_port(), os.pipe()
    environ = {
        "PATH": "/usr/bin:/bin",
        "PORT": str(port),
        "DATABASE_URL": f"sqlite:///{folder / 'engine.db'}",
        "ENGINE_CONFIG": str(config),
    }
    process = subprocess.Popen(
        [COMMAND, "serve"], cwd=folder, env=environ, stdout=writer, stderr=subprocess.DEVNULL
    )
    os.close(writer)
    try:
        url = f"http://127.0.0.1:{port}"
        with httpx2.Client(base_url=url, trust_env=False, verify=False, timeout=3) as client:
            eventually(lambda: _is_up(client))
            yield client, reader
    finally:
        process.kill()
        process.wait()


def _is_up(client: httpx2.Client) -> bool:
    try:
        return client.get("/health").is_success
    except httpx2.TransportError:
        return False


def test_webhooks_and_deliveries_go_on(tmp_path: Path) -> None:
    """When the log's reader has gone, events are still answered and messages still go out."""
    with _serving_into_a_pipe(tmp_path) as (client, reader):
        os.close(reader)
        for number in range(5):
            event = amplitude_event(f"user {number}", "2099-01-01T00:00:00Z")
            assert client.post("/webhook/amplitude", json=event).status_code == 200
        eventually(lambda: _sent(tmp_path) == 5)
        assert client.get("/ready").status_code == 200


def _sent(folder: Path) -> int:
    with closing(sqlite3.connect(f"file:{folder / 'engine.db'}?mode=ro", uri=True)) as connection:
        (count,) = connection.execute(
            "SELECT count(*) FROM experiment WHERE state = 'sent'"
        ).fetchone()
        return int(count)
