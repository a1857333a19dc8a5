"""Backups: whole, with everything that was answered before, and paused when they are opened."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from tests.support.builders import NOW, World, empty_database, happened, rows_of, some_rules
from tests.support.postgres import _binaries, a_database

from experiment_engine.adapters.storage import tables
from experiment_engine.adapters.storage.backups import (
    back_up_postgresql,
    back_up_sqlite,
    restore_postgresql,
    restore_sqlite,
)
from experiment_engine.adapters.storage.postgres import PostgresStorage
from experiment_engine.adapters.storage.sqlite import SqliteStorage
from experiment_engine.domain.errors import ConfigurationError, EngineError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return an empty database's file."""
    return empty_database(tmp_path)


@contextmanager
def written_to(world: World) -> Iterator[list[str]]:
    """Let events come in as fast as they can; give those that were answered."""
    answered: list[str] = []
    stopping = threading.Event()

    def write() -> None:
        while not stopping.is_set():
            name = f"user {len(answered)}"
            world.one(happened(user=name))
            answered.append(name)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield answered
    finally:
        stopping.set()
        thread.join()


def test_backups_under_load(path: Path, tmp_path: Path) -> None:
    """Copies taken while events pour in are whole, and hold every event answered before."""
    copies = []
    with closing(SqliteStorage(path)) as storage, written_to(World(storage, some_rules())) as done:
        for number in range(10):
            before = len(done)
            copy = tmp_path / f"copy-{number}.db"
            back_up_sqlite(path, copy, NOW)
            copies.append((copy, before))
    for copy, before in copies:
        with closing(sqlite3.connect(copy)) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            users = {row[0] for row in database.execute("SELECT user_id FROM event")}
        assert users >= set(done[:before])
    print(f"{len(copies)} backups while {len(done)} events came in")
    assert copies[-1][1] > 10


def test_a_copy_opens_paused(path: Path, tmp_path: Path) -> None:
    """From a copy the engine sends nothing until somebody resumes it; the original goes on."""
    with closing(SqliteStorage(path)) as storage:
        world = World(storage, some_rules())
        world.one(happened())
        back_up_sqlite(path, tmp_path / "copy.db", NOW)
        assert not storage.run(lambda tx: tx.switches(NOW)).paused
        restored = tmp_path / "restored" / "engine.db"
        restore_sqlite(tmp_path / "copy.db", restored, NOW)
        with closing(SqliteStorage(restored)) as again:
            assert again.run(lambda tx: tx.switches(NOW)).paused == {"*"}
            assert again.salt() == storage.salt()
            assert rows_of(again, tables.experiment) == world.rows(tables.experiment)


def test_nothing_is_overwritten(path: Path, tmp_path: Path) -> None:
    """Neither a backup nor a restore takes the place of a file that is there."""
    back_up_sqlite(path, tmp_path / "copy.db", NOW)
    with pytest.raises(ConfigurationError, match="there already"):
        back_up_sqlite(path, tmp_path / "copy.db", NOW)
    with pytest.raises(ConfigurationError, match="move it away"):
        restore_sqlite(tmp_path / "copy.db", path, NOW)


@pytest.mark.parametrize("content", [b"", b"text", b"SQLite format 3\x00 and then nothing"])
def test_what_is_no_copy(tmp_path: Path, content: bytes) -> None:
    """A file that is no copy makes no database."""
    (tmp_path / "copy.db").write_bytes(content)
    with pytest.raises(EngineError):
        restore_sqlite(tmp_path / "copy.db", tmp_path / "engine.db", NOW)
    assert not (tmp_path / "engine.db").exists()
    assert not (tmp_path / "engine.db.partial").exists()


def test_postgresql_by_its_own_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of PostgreSQL's comes back in an empty database, whole and paused."""
    monkeypatch.setenv("PATH", f"{_binaries()}:{os.environ['PATH']}")
    copy = tmp_path / "copy.dump"
    with a_database() as url, a_database(empty=True) as other:
        with closing(PostgresStorage(url)) as storage:
            world = World(storage, some_rules())
            world.take(*(happened(user=f"u{number}") for number in range(20)))
            back_up_postgresql(url, copy)
            restore_postgresql(copy, other, NOW)
            with closing(PostgresStorage(other)) as again:
                assert rows_of(again, tables.experiment) == world.rows(tables.experiment)
                assert again.run(lambda tx: tx.switches(NOW)).paused == {"*"}
                assert again.salt() == storage.salt()
        with pytest.raises(ConfigurationError, match="not empty"):
            restore_postgresql(copy, url, NOW)


def test_without_the_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where PostgreSQL's tools are not installed, it is said what to run, without the password."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match=r"run: pg_dump --format=custom") as failure:
        back_up_postgresql("postgresql://me:pass-word@host/name", tmp_path / "copy.dump")
    assert "pass-word" not in str(failure.value)
