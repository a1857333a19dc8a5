"""A disk that is full, fails, is taken away or lies about what it keeps.

Faults are injected at system calls of one whole walk; the long form takes every one of them:
`make test-long TESTS=tests/faults/test_disk_faults.py`. DISK_STEP takes every so manieth.
"""

import os
import resource
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from tests.faults.ledgers import Stored
from tests.faults.walk import Died, Stage, Walk, a_stage
from tests.support.clevertap_double import CleverTapDouble
from tests.support.configuration import COHORT, cohort, write_configuration
from tests.support.events import Json, amplitude_event
from tests.support.nursery import Child
from tests.support.server import COMMAND, ServerProcess, eventually, server_process
from tests.support.start import live
from tests.support.strace import let_go, line_with, strace, time_of

WRITE_STEP = int(os.environ.get("DISK_STEP", "60"))
SYNC_STEP = 7
AT_MOST = 1.0  # seconds that a process may live after a failed sync

INJECTED, EXITED = "(INJECTED)", "+++ exited with 1 +++"  # how strace ends its lines

_LASTS = 0.15  # seconds until the disk is well again
_FULL = 8 << 20  # bytes


# Faults at system calls


@dataclass
class Troubled:
    """A walk on a failing disk that is well again a little later."""

    child: Child
    tracer: "subprocess.Popen[str]"
    log: Path
    fault_at: float | None = None

    def alive(self) -> bool:
        """Say whether the engine lives; look after the disk on the way."""
        self.fault_at = self.fault_at or time_of(INJECTED, self.log)
        if self.fault_at is not None and time.time() > self.fault_at + _LASTS:
            let_go(self.tracer)
        return self.child.ended() is None


def test_some_writes_that_fail(tmp_path: Path) -> None:
    """A write that fails is answered 503 or waits, and all goes on by itself afterwards."""
    _fail_writes(tmp_path, WRITE_STEP)


@pytest.mark.long
def test_every_write_that_fails(tmp_path: Path) -> None:
    """The same for every write of the walk, with each of three errors."""
    _fail_writes(tmp_path, 1)


def _fail_writes(folder: Path, step: int) -> None:
    met: Counter[str] = Counter()
    with a_stage(folder) as stage:
        for error in ("ENOSPC", "EIO", "EROFS"):
            number = 1 + stage.walks % step
            while (ended := _walk_with(stage, f"pwrite64:error={error}", number)) is not None:
                met[f"{error}, {'ended at its start' if ended else 'went on'}"] += 1
                number += step
    print(f"every {step}. write fails: {met.total()} faults {dict(met)}, {stage.answered} events")
    assert met.total() > 300 // step


def _walk_with(stage: Stage, fault: str, number: int) -> bool | None:
    """Walk on a disk that fails from the given call on; return whether the engine ended.

    None means that the walk has fewer calls. An engine may end before it answers anything.
    """
    walk, child, log = stage.begin(), stage.engine(), stage.folder / "strace.log"
    call = fault.partition(":")[0]
    log.write_text("")
    with strace(child.pid, f"inject={fault}:when={number}+", calls=[call], log=log) as tracer:
        troubled, ended = Troubled(child, tracer, log), False
        child.go()
        try:
            walk.go(troubled.alive)
        except Died:
            ended = True
            assert not walk.answers, f"{fault} {number}: ended with {child.ended()}"
        was_met = time_of(INJECTED, log) is not None
    _finish(stage, walk, None if ended else child)
    return ended if was_met else None


def _finish(stage: Stage, walk: Walk, child: Child | None) -> None:
    if child is None:
        child = stage.engine()
        child.go()
    walk.go(lambda: child.ended() is None)
    assert child.ended() is None, stage.nursery.last_words
    child.kill()
    child.wait()
    stage.judge(walk)


def test_some_syncs_that_fail(tmp_path: Path) -> None:
    """After a sync that failed the process answers nothing more and ends within a second."""
    _fail_syncs(tmp_path, SYNC_STEP)


@pytest.mark.long
def test_every_sync_that_fails(tmp_path: Path) -> None:
    """The same for every sync of the walk, with each of three errors."""
    _fail_syncs(tmp_path, 1)


def _fail_syncs(folder: Path, step: int) -> None:
    lived: list[float] = []
    with a_stage(folder) as stage:
        for error in ("EIO", "ENOSPC", "EDQUOT"):
            number = 1
            while (seconds := _seconds_after(stage, error, number)) is not None:
                lived.append(seconds)
                number += step
    print(
        f"every {step}. sync fails: {len(lived)} faults, the process lived {max(lived):.3f} s"
        f" at most afterwards; {stage.answered} events acknowledged"
    )
    assert len(lived) > 30 // step
    assert max(lived) <= AT_MOST


def _seconds_after(stage: Stage, error: str, number: int) -> float | None:
    """Walk with one sync that fails; return how long the process lived on, None without fault."""
    walk, child, log = stage.begin(), stage.engine(), stage.folder / "strace.log"
    log.write_text("")
    fault = f"inject=fdatasync:error={error}:when={number}"
    with strace(child.pid, fault, calls=["fdatasync"], log=log, paths=True):
        child.go()
        try:
            walk.go(lambda: child.ended() is None)
        except Died:
            assert child.ended() == 1, f"{error} at sync {number}: {child.ended()}"
    fault_at, ended_at = time_of(INJECTED, log), time_of(EXITED, log)
    _finish(stage, walk, None if ended_at else child)
    if fault_at is None:
        return None
    if f"<{stage.folder}>" in (line_with(INJECTED, log) or ""):
        return 0.0  # SQLite's own sync of the folder, which the engine has made last already
    assert ended_at is not None, f"it goes on after {error} at sync {number}"
    assert not [at for at, status in walk.answers if status == 200 and fault_at < at <= ended_at]
    return ended_at - fault_at


@pytest.mark.parametrize(("error", "ended"), [("EIO", True), ("EINVAL", False)])
def test_the_folder_is_synchronised_before_anything_is_answered(
    tmp_path: Path, error: str, *, ended: bool
) -> None:
    """Where the names of the files would not last, the engine ends at its start and says why."""
    with a_stage(tmp_path) as stage:
        walk, child, log = stage.begin(), stage.engine(), stage.folder / "strace.log"
        log.write_text("")
        with strace(child.pid, f"inject=fsync:error={error}:when=1", calls=["fsync"], log=log):
            child.go()
            with suppress(Died):
                walk.go(lambda: child.ended() is None)
        assert time_of(INJECTED, log) is not None
        assert (child.ended() is not None) == ended
        if ended:
            assert not walk.answers
            assert "cannot be synchronised" in stage.nursery.last_words
        _finish(stage, walk, None if ended else child)


# The command itself


@contextmanager
def _serving(
    folder: Path, double: CleverTapDouble, *, mounting: Path | None = None
) -> Iterator[ServerProcess]:
    """Run `serve`; with `mounting` the database is on a small disk there, that it alone sees."""
    config = write_configuration(
        folder / "configuration",
        cohorts={COHORT: cohort(delay=["0.2s"])},
        channels={"push": {"batch": 100}},  # few transactions: a small disk is full of events
    )
    environ = {
        "DATABASE_URL": f"sqlite:///{(mounting or folder) / 'engine.db'}",
        "ENGINE_CONFIG": str(config),
        **live(double),
    }
    mount = f"mount -t tmpfs -o size={_FULL} none '{mounting}' && exec '{COMMAND}' serve"
    small = ("unshare", "--mount", "sh", "-c", mount)
    with server_process(
        folder, environ, command=small if mounting else (COMMAND, "serve")
    ) as server:
        yield server


@pytest.fixture
def double(tmp_path: Path) -> Iterator[CleverTapDouble]:
    with CleverTapDouble(tmp_path / "ledger", fsync=False) as clevertap:
        yield clevertap


def _events(first: int, number: int, filler: int = 0) -> list[Json]:
    properties = {"filler": "x" * filler}
    return [
        amplitude_event(f"user {user}", "2099-01-01T00:00:00Z", event_properties=properties)
        for user in range(first, first + number)
    ]


def _post(server: ServerProcess, events: Sequence[Json]) -> int:
    """Post events; return the status, or 0 if nobody answered."""
    try:
        return server.client.post("/webhook/amplitude", json=events, timeout=20).status_code
    except httpx2.TransportError:
        return 0


def test_serve_ends_when_a_sync_fails(tmp_path: Path, double: CleverTapDouble) -> None:
    """With all its threads, `serve` ends at once; the next start has all that was answered."""
    with _serving(tmp_path, double) as server:
        assert _post(server, _events(0, 5)) == 200
        with strace(
            server.process.pid,
            "inject=fdatasync:error=EIO",
            calls=["fdatasync"],
            all_threads=True,
        ):
            assert _post(server, _events(5, 5)) == 0
            assert server.process.wait(AT_MOST) == 1
        assert "disk_failed" in server.output + server.errors
    with _serving(tmp_path, double) as server:
        assert _post(server, _events(10, 5)) == 200
    stored = Stored.read(tmp_path / "engine.db")
    users = {row["user_id"] for row in stored.experiments.values()}
    assert {f"user {number}" for number in (*range(5), *range(10, 15))} <= users


def test_a_limit_on_the_size_of_files(tmp_path: Path, double: CleverTapDouble) -> None:
    """When no file may grow: 503 and no message; when it may again, the same events are taken."""
    with _serving(tmp_path, double) as server:
        assert _post(server, _events(0, 20)) == 200
        _until_sent(server, 20)
        wal = tmp_path / "engine.db-wal"
        _limit(server, wal.stat().st_size)
        events = _events(20, 200, filler=2_000)
        assert {_post(server, events) for _ in range(20)} == {503}
        assert server.client.get("/health").status_code == 200
        assert _reached(double) == 20
        _limit(server, resource.RLIM_INFINITY)
        assert _post(server, events) == 200
        _until_sent(server, 220)
        assert server.process.poll() is None
    _assert_all_sent(tmp_path / "engine.db", 220, double)


def _limit(server: ServerProcess, size: int) -> None:
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def _until_sent(server: ServerProcess, number: int) -> None:
    """Wait until so many messages are known as sent."""

    def sent() -> int:
        combos = server.client.get("/api/stats").json()["top_combinations"]
        return sum(combo["sent_count"] for combo in combos)

    eventually(lambda: sent() == number, 60)


def _reached(double: CleverTapDouble) -> int:
    return sum(len(call.users) for call in double.ledger())


def _assert_all_sent(database: Path, number: int, double: CleverTapDouble) -> None:
    stored = Stored.read(database)
    assert Counter(row["state"] for row in stored.experiments.values()) == {"sent": number}
    assert stored.integrity == "ok"
    assert Counter(user for call in double.ledger() for user in call.users) == {
        row["user_id"]: 1 for row in stored.experiments.values()
    }


@pytest.mark.parametrize("name", ["engine.db", "engine.db-wal"])
def test_a_file_that_is_taken_away(tmp_path: Path, double: CleverTapDouble, name: str) -> None:
    """Without its files nothing is answered 2xx and nothing is sent; with them all goes on."""
    file, elsewhere = tmp_path / name, tmp_path / "elsewhere"
    with _serving(tmp_path, double) as server:
        assert _post(server, _events(0, 10)) == 200
        _until_sent(server, 10)
        file.rename(elsewhere)
        assert {_post(server, _events(10, 10)) for _ in range(5)} == {503}
        assert server.client.get("/ready").status_code == 503
        assert server.client.get("/health").status_code == 200
        assert _reached(double) == 10
        elsewhere.replace(file)
        assert server.client.get("/ready").status_code == 200
        assert _post(server, _events(20, 10)) == 200
        _until_sent(server, 20)
    _assert_all_sent(tmp_path / "engine.db", 20, double)


def test_a_full_disk(tmp_path: Path, double: CleverTapDouble) -> None:
    """On a small disk that is full: 503 and no message; with room again all goes on by itself."""
    if not _may_mount():
        pytest.skip("mounting is not allowed here; the limit on files tests the same promise")
    disk = tmp_path / "disk"
    disk.mkdir()
    with _serving(tmp_path, double, mounting=disk) as server:
        inside = Path(f"/proc/{server.process.pid}/root{disk}")
        ballast = inside / "ballast"
        ballast.write_bytes(bytes(_FULL // 2))
        taken = refused = 0
        while refused < 5:  # in a row: the log may find room once more
            status = _post(server, _events(taken, 100, filler=2_000))
            assert status in (200, 503)
            taken, refused = (taken + 100, 0) if status == 200 else (taken, refused + 1)
        assert taken > 100
        assert server.client.get("/health").status_code == 200
        ballast.unlink()
        assert _post(server, _events(taken, 100, filler=2_000)) == 200
        _until_sent(server, taken + 100)
        for file in inside.glob("engine.db*"):
            shutil.copyfile(file, tmp_path / file.name)
    print(f"full after {taken} events")
    _assert_all_sent(tmp_path / "engine.db", taken + 100, double)


def _may_mount() -> bool:
    return subprocess.run(["unshare", "--mount", "true"], check=False).returncode == 0
