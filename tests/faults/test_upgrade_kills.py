"""`migrate` and `backup`, killed at their system calls: a second try always ends well.

The long forms take every call: `make test-long TESTS=tests/faults/test_upgrade_kills.py`.
UPGRADE_STEP takes every so manieth.
"""

import os
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import create_engine
from tests.support.builders import World, empty_database, happened, some_rules
from tests.support.nursery import Nursery, a_nursery
from tests.support.strace import strace

from experiment_engine.adapters.storage import schema
from experiment_engine.adapters.storage.sqlite import SqliteStorage, embedded_url
from experiment_engine.domain.errors import UnknownSchema

CALLS = ("pwrite64", "fdatasync", "fsync", "unlink", "rename", "ftruncate")
STEP = int(os.environ.get("UPGRADE_STEP", "20"))
ROWS = 300

Make = Callable[[Path], None]


def test_a_migration_that_is_killed(tmp_path: Path) -> None:
    """Killed while it migrates, or makes the first schema, it leaves the next one all it needs."""
    _kill_migrations(tmp_path, STEP)


@pytest.mark.long
def test_a_migration_that_is_killed_anywhere(tmp_path: Path) -> None:
    """The same at every system call of the migration."""
    _kill_migrations(tmp_path, 1)


def test_a_backup_that_is_killed(tmp_path: Path) -> None:
    """A killed `backup` leaves no copy or a whole one, and the database as it was."""
    _kill_backups(tmp_path, STEP)


@pytest.mark.long
def test_a_backup_that_is_killed_anywhere(tmp_path: Path) -> None:
    """The same at every system call of the backup."""
    _kill_backups(tmp_path, 1)


@dataclass
class Bench:
    """A database that commands work on, anew for each kill."""

    database: Path
    nursery: Nursery

    def prepare(self, make: Make) -> None:
        """Put the database there that a command finds."""
        for old in self.database.parent.glob(f"{self.database.name}*"):
            old.unlink()
        make(self.database)

    def run(self, *arguments: str) -> None:
        """Run a command to its end, which must be a success."""
        child = self.nursery.fork(*arguments)
        child.go()
        assert child.wait() == 0, self.nursery.last_words

    def is_killed(self, call: str, number: int, *arguments: str) -> bool:
        """Run a command that is killed at a call; return whether it got that far."""
        child = self.nursery.fork(*arguments)
        with strace(child.pid, f"inject={call}:signal=KILL:when={number}", calls=[call]):
            child.go()
            status = child.wait()
        assert status in (0, -signal.SIGKILL), self.nursery.last_words
        return status != 0


@contextmanager
def _a_bench(folder: Path) -> Iterator[Bench]:
    database = folder / "engine.db"
    with a_nursery(folder, {"DATABASE_URL": f"sqlite:///{database}"}) as nursery:
        yield Bench(database, nursery)


def _kill_migrations(folder: Path, step: int) -> None:
    kills: Counter[str] = Counter()
    half_way = 0
    with _a_bench(folder) as bench:
        for name, make in (("from 0001", _first_version), ("from nothing", _nothing)):
            bench.prepare(make)
            bench.run("migrate")
            expected = _content(bench.database)
            for call in CALLS:
                number = 1
                while True:
                    bench.prepare(make)
                    if not bench.is_killed(call, number, "migrate"):
                        break
                    kills[f"{call} {name}"] += 1
                    number += step
                    half_way += _is_refused(bench.database)
                    bench.run("migrate")
                    assert _content(bench.database) == expected, f"{call} {number} {name}"
    print(
        f"every {step}. call: {kills.total()} kills of `migrate` {dict(kills)}, after"
        f" {half_way} of them the engine refused the database until it was migrated"
    )
    assert kills.total() > 150 // step


def _nothing(database: Path) -> None:
    """Leave it to `migrate` to make a database."""


def _first_version(database: Path) -> None:
    """Make a database of the first version, with rows in tables that later versions change."""
    engine = create_engine(embedded_url(database))
    configuration = schema._config()
    with engine.begin() as connection:
        configuration.attributes["connection"] = connection
        command.upgrade(configuration, "0001")
    engine.dispose()
    with closing(sqlite3.connect(database)) as made, made:
        made.executemany(
            "INSERT INTO combo_count VALUES ('live', 'checkout', ?, '2min|push|urgency|none',"
            " 'combo', 5, 2, 4, 3, 1)",
            [(hour,) for hour in range(ROWS)],
        )
        made.executemany(
            "INSERT INTO meta VALUES (?, ?)",
            [("holdout_salt", b"salt"), ("erasure_key", b"key")],
        )


def _content(database: Path) -> list[str]:
    """Return everything in a database but what is drawn by chance when it is made."""
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM meta").fetchone() == (2,)
        return [line for line in connection.iterdump() if '"meta"' not in line]


def _is_refused(database: Path) -> bool:
    """Say whether an engine refuses what a kill left; otherwise it can work with it."""
    try:
        SqliteStorage(database).close()
    except UnknownSchema:
        return True
    return False


def _kill_backups(folder: Path, step: int) -> None:
    kills: Counter[str] = Counter()
    whole, copy = 0, folder / "copies" / "copy.db"
    copy.parent.mkdir()
    with _a_bench(folder) as bench:
        bench.prepare(_in_use)
        expected = _content(bench.database)
        for call in CALLS:
            number = 1
            while bench.is_killed(call, number, "backup", str(copy)):
                kills[call] += 1
                number += step
                if copy.exists():
                    whole += 1
                else:
                    bench.run("backup", str(copy))
                _check_copy(copy, expected)
                assert _content(bench.database) == expected
            _check_copy(copy, expected)
    print(f"every {step}. call: {kills.total()} kills of `backup` {dict(kills)}, {whole} after it")
    assert kills.total() > 60 // step


def _in_use(database: Path) -> None:
    """Make a database with experiments in it, whose last changes are in the log."""
    storage = SqliteStorage(empty_database(database.parent))
    World(storage, some_rules()).take(*(happened(user=f"user {n}") for n in range(ROWS)))
    kept = {path: path.read_bytes() for path in database.parent.glob(f"{database.name}*")}
    storage.close()
    for path, content in kept.items():
        path.write_bytes(content)  # as a kill leaves them


def _check_copy(copy: Path, expected: list[str]) -> None:
    """Check that a copy holds everything and is paused; then take it away."""
    found = _content(copy)
    assert [line for line in found if 'INTO "pause"' not in line] == expected
    assert len(found) == len(expected) + 1
    for path in copy.parent.iterdir():
        path.unlink()
