"""The power goes at any moment: what was answered is there, and the database is whole.

A run of `serve` is recorded with every byte that it writes; each cut is made of the recording,
and opened. An engine that syncs too rarely is recorded as well: the same tests must find it out.
The long forms: `make test-long TESTS=tests/faults/test_power_loss.py`. POWER_SEED draws other
moments.
"""

import os
import random
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

import httpx2
import pytest
from tests.support.builders import empty_database
from tests.support.configuration import COHORT, cohort, write_configuration
from tests.support.events import amplitude_event
from tests.support.power import LONGEST, MODES, RECORDED, Mode, Recording
from tests.support.server import eventually, free_port
from tests.support.strace import program

SEED = int(os.environ.get("POWER_SEED", "20261126"))
CLIENTS = 8

_FOLDS_OFTEN = "wal_autocheckpoint = 40"  # pages; the log is folded during the recording
_UNSAFE = "synchronous = NORMAL"


def test_a_few_losses_of_power(tmp_path: Path) -> None:
    """Nothing is answered before it is synced, and no cut loses an answer or harms the file."""
    _record_and_cut(tmp_path, requests=200, cuts=20)


@pytest.mark.long
def test_many_losses_of_power(tmp_path: Path) -> None:
    """A thousand requests, and three hundred cuts in each of three ways."""
    _record_and_cut(tmp_path, requests=1_000, cuts=300)


def _record_and_cut(folder: Path, *, requests: int, cuts: int) -> None:
    recording = _record(folder, requests, _FOLDS_OFTEN)
    unsynced = recording.unsynced()
    faults = _cut(folder, recording, cuts)
    folds = len(recording.syncs["database"])
    print(
        f"seed {SEED}: {requests} requests, {len(recording.answers)} answers 200 with"
        f" {len(recording.syncs['log'])} syncs of the log and {folds} of the database,"
        f" {len(unsynced)} answered too early; {cuts} cuts in {len(MODES)} ways: {len(faults)} bad"
    )
    assert len(recording.answers) == requests
    assert folds > 2
    assert not unsynced
    assert not faults


def test_an_engine_that_syncs_too_rarely_is_found_out(tmp_path: Path) -> None:
    """With `synchronous=NORMAL` both tests fail: answers go out early, and cuts lose them."""
    recording = _record(tmp_path, 40, _UNSAFE)
    unsynced, faults = recording.unsynced(), _cut(tmp_path, recording, 20)
    print(f"NORMAL: {len(unsynced)} of 40 answered too early, {len(faults)} of 60 cuts lose some")
    assert len(unsynced) > 20
    assert len(faults) > 20
    assert {fault.partition(":")[0] for fault in faults} == {"lost"}


def _record(folder: Path, requests: int, pragma: str) -> Recording:
    """Record `serve` while clients send so many triggers, each in a request of its own."""
    port, log, root = free_port(), folder / "strace.log", Path.cwd()
    database = empty_database(folder)
    before = database.read_bytes()
    config = write_configuration(
        folder / "configuration", cohorts={COHORT: cohort(delay=["0.2s"])}
    )
    tracing = (program(), "-f", "--seccomp-bpf", "-y", "-xx", "-s", str(LONGEST), "-o", str(log))
    serving = (sys.executable, "-m", "tests.support.tuned_serve", pragma)
    with (folder / "serve.log").open("wb") as out:
        process = subprocess.Popen(
            [*tracing, "-e", f"trace={','.join(RECORDED)}", *serving],
            cwd=folder,
            env={
                "PATH": "/usr/bin:/bin",
                "PYTHONPATH": f"{root}:{root / 'src'}",
                "PORT": str(port),
                "DATABASE_URL": f"sqlite:///{database}",
                "ENGINE_CONFIG": str(config),
            },
            stdout=out,
            stderr=out,
        )
    try:
        _send(f"http://127.0.0.1:{port}", requests)
    finally:
        _end_what_it_traces(process.pid)
        process.wait(60)
    return Recording.read(log, before)


def _end_what_it_traces(tracer: int) -> None:
    children = Path(f"/proc/{tracer}/task/{tracer}/children").read_text(encoding="ascii")
    for child in children.split():
        os.kill(int(child), signal.SIGTERM)


def _send(url: str, requests: int) -> None:
    with (
        httpx2.Client(base_url=url, trust_env=False, verify=False, timeout=30) as client,
        ThreadPoolExecutor(CLIENTS) as senders,
    ):
        eventually(partial(_is_up, client), 60)
        answers = list(senders.map(partial(_trigger, client), range(requests)))
    assert set(answers) == {200}


def _is_up(client: httpx2.Client) -> bool:
    try:
        return client.get("/health").is_success
    except httpx2.TransportError:
        return False


def _trigger(client: httpx2.Client, number: int) -> int:
    event = amplitude_event(f"user {number}", "2099-01-01T00:00:00Z")
    return client.post("/webhook/amplitude", json=event).status_code


def _cut(folder: Path, recording: Recording, cuts: int) -> list[str]:
    """Cut the power at half the moments just after an answer, at half anywhere."""
    chance = random.Random(SEED)
    moments = [
        chance.choice(recording.answers).begun
        if number % 2
        else chance.randrange(recording.length)
        for number in range(cuts)
    ]
    found = (
        _fault_after(folder, recording, moment, mode, chance)
        for moment in moments
        for mode in MODES
    )
    return [fault for fault in found if fault]


def _fault_after(
    folder: Path, recording: Recording, moment: int, mode: Mode, chance: random.Random
) -> str:
    """Open what a cut leaves; return what is wrong with it."""
    database = folder / "after the cut.db"
    for path in folder.glob("after the cut.db*"):
        path.unlink()
    left = recording.cut(moment, mode, chance)
    database.write_bytes(left["database"])
    database.with_name(database.name + "-wal").write_bytes(left["log"])
    try:
        with closing(sqlite3.connect(database)) as connection:
            (verdict,) = connection.execute("PRAGMA integrity_check").fetchone()
            kept = {id_.encode() for (id_,) in connection.execute("SELECT id FROM experiment")}
    except sqlite3.DatabaseError as error:
        return f"corrupt: {error} ({mode} at {moment})"
    if verdict != "ok":
        return f"corrupt: {verdict} ({mode} at {moment})"
    lost = recording.told_before(moment) - kept
    return f"lost: {len(lost)} ({mode} at {moment})" if lost else ""
