"""`backup`, `restore` and `migrate --from`, as an operator runs them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.events import amplitude_event
from tests.support.postgres import a_database
from tests.support.server import Command, run_command, server_process


@pytest.fixture
def postgresql() -> Iterator[dict[str, str]]:
    """Return the setting of an empty PostgreSQL database."""
    with a_database(empty=True) as url:
        yield {"DATABASE_URL": url}


def test_from_one_file_to_another_and_into_postgresql(
    tmp_path: Path, postgresql: dict[str, str]
) -> None:
    """What happened is in the backup, in what is restored from it, and in PostgreSQL after it."""
    with server_process(tmp_path) as server:
        events = [amplitude_event(f"u{n}", "2026-01-01T00:00:00Z", "app_opened") for n in range(5)]
        assert server.client.post("/webhook/amplitude", json=events).status_code == 200
        ended = run_command(Command(["backup", "copy.db"], tmp_path))  # beside the engine
        assert (ended.status, ended.errors) == (0, "")
    embedded = {"DATABASE_URL": "sqlite:///again/engine.db"}
    ended = run_command(Command(["restore", "copy.db"], tmp_path, embedded))
    assert (ended.status, ended.errors) == (0, "")
    with server_process(tmp_path, embedded) as server:
        assert server.client.get("/ready").json()["paused"] == ["*"]

    moving = ["migrate", "--from", embedded["DATABASE_URL"]]
    ended = run_command(Command(moving, tmp_path, postgresql))
    assert ended.status == 0, ended.errors
    assert "the counts agree" in ended.output
    with server_process(tmp_path, postgresql) as server:
        assert server.client.get("/ready").json()["paused"] == ["*"]
        results = server.client.post("/webhook/amplitude", json=events).json()["results"]
        assert {result["status"] for result in results} == {"duplicate"}
        assert server.client.post("/api/resume", json={}).status_code == 200
        assert server.client.get("/ready").json()["paused"] == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["backup", "there.db"], "there.db is there already"),
        (["restore", "there.db"], "no copy of such a database"),
        (["restore", "nothing.db"], "cannot be read"),
        (["migrate", "--from", "sqlite:///there.db"], "postgresql://"),
    ],
)
def test_what_cannot_be_done(tmp_path: Path, arguments: list[str], says: str) -> None:
    """A command that cannot do it says in one line why, and what to do."""
    (tmp_path / "there.db").write_text("")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "experiment_engine.db").write_text("") if "backup" in arguments else None
    ended = run_command(Command(arguments, tmp_path))
    assert ended.status == 1
    assert says in ended.errors
    assert len(ended.errors.splitlines()) == 1
