"""The embedded database: one writer, durable at commit, and honest when the disk is full."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from tests.support.builders import World, a_cohort, empty_database, happened, some_rules

from experiment_engine.adapters.storage import tables
from experiment_engine.adapters.storage.schema import prepare
from experiment_engine.adapters.storage.sqlite import SqliteStorage, embedded_url, migrate_file
from experiment_engine.domain.delivery.experiment import Mode
from experiment_engine.domain.errors import EngineError, StorageInUse, StorageUnavailable
from experiment_engine.domain.identifiers import Channel, UserId
from experiment_engine.domain.moments import Instant


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return an empty database's file."""
    return empty_database(tmp_path)


@pytest.fixture
def storage(path: Path) -> Iterator[SqliteStorage]:
    """Return the opened database."""
    with closing(SqliteStorage(path)) as opened:
        yield opened


# One writing process (R14)


def test_a_second_opener_is_refused(storage: SqliteStorage, path: Path) -> None:
    """While one holds the database no other opens or migrates it, and is told what to do."""
    for attempt in (SqliteStorage, migrate_file):
        with pytest.raises(StorageInUse, match="DATABASE_URL=postgresql://"):
            attempt(path)


def test_a_second_process_is_refused(storage: SqliteStorage, path: Path) -> None:
    """The lock is the operating system's: another process is refused as well."""
    program = (
        "import sys; from pathlib import Path\n"
        "from experiment_engine.adapters.storage.sqlite import SqliteStorage\n"
        "SqliteStorage(Path(sys.argv[1]))"
    )

    ended = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False
    )

    assert ended.returncode == 1
    assert "StorageInUse" in ended.stderr


def test_closing_lets_go(path: Path) -> None:
    """After a close the database can be opened again at once."""
    for _ in range(3):
        SqliteStorage(path).close()


def test_other_files_are_not_locked(storage: SqliteStorage, tmp_path: Path) -> None:
    """Two databases in one folder have nothing to do with each other."""
    SqliteStorage(empty_database(tmp_path, "other.db")).close()


# Durable


def test_the_writer_is_durable(storage: SqliteStorage) -> None:
    """A commit is on the disk: the log is written ahead and synchronised in full."""
    with storage.transaction() as tx:
        assert tx.connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert tx.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_copy_taken_at_any_commit_is_whole(tmp_path: Path) -> None:
    """File and log as they are after a commit are a database that holds the commit."""
    path = empty_database(tmp_path)
    with closing(SqliteStorage(path)) as storage:
        with storage.transaction() as tx:
            tx.set_paused("*", paused=True, at=Instant(1))
        copied = tmp_path / "copy"
        copied.mkdir()
        for name in ("engine.db", "engine.db-wal"):
            (copied / name).write_bytes((tmp_path / name).read_bytes())

    with closing(SqliteStorage(copied / "engine.db")) as again, again.transaction() as tx:
        assert tx.switches(Instant(2)).paused == {"*"}


def test_a_start_folds_what_a_dead_process_left(tmp_path: Path) -> None:
    """Looking at the schema writes the whole log anew, so nothing rests on syncs of the dead."""
    path = empty_database(tmp_path)
    with closing(SqliteStorage(path)) as storage:
        with storage.transaction() as tx:
            tx.set_paused("*", paused=True, at=Instant(1))
        copied = empty_database(tmp_path, "copy.db")
        log = copied.with_name("copy.db-wal")
        copied.write_bytes(path.read_bytes())
        log.write_bytes((tmp_path / "engine.db-wal").read_bytes())

    prepare(embedded_url(copied))

    assert not log.exists()
    with closing(sqlite3.connect(copied)) as connection:
        assert connection.execute("SELECT scope FROM pause").fetchall() == [("*",)]


def test_readers_cannot_write(storage: SqliteStorage) -> None:
    """What reports read through refuses to write."""
    with (
        storage.readers.connect() as connection,
        pytest.raises(OperationalError, match="readonly"),
    ):
        connection.execute(text("DELETE FROM experiment"))


def test_readers_see_what_is_committed_only(storage: SqliteStorage) -> None:
    """A reader is not held up by a transaction, and does not see into it."""
    with storage.transaction() as tx:
        tx.set_paused("*", paused=True, at=Instant(1))
        with storage.readers.connect() as connection:
            assert connection.execute(tables.pause.select()).all() == []
    with storage.readers.connect() as connection:
        assert len(connection.execute(tables.pause.select()).all()) == 1


# A full disk


def fill(storage: SqliteStorage) -> None:
    """Let the database grow no further than it has."""
    (pages,) = storage._writer.execute("PRAGMA page_count").fetchone()
    storage._writer.execute(f"PRAGMA max_page_count = {pages}")


def test_a_full_disk_is_said_and_leaves_nothing(storage: SqliteStorage) -> None:
    """With no room left nothing is accepted, in part or whole; with room again all goes on."""
    world = World(storage, some_rules(a_cohort(delays=("2min",))))
    facts = [happened(user=f"u{number}") for number in range(200)]
    fill(storage)

    with pytest.raises(StorageUnavailable, match="send it again"):
        world.take(*facts)
    assert not world.rows(tables.event)
    assert not world.experiments()

    storage._writer.execute("PRAGMA max_page_count = 1000000")
    assert {result.status for result in world.take(*facts)} == {"scheduled"}


def test_a_full_disk_for_statements_off_the_hot_path(storage: SqliteStorage) -> None:
    """Operators and learning are told the same when there is no room."""
    fill(storage)

    with pytest.raises(StorageUnavailable), storage.transaction() as tx:  # noqa: PT012 - until full
        for number in range(10_000):
            tx.set_paused(f"scope-{number}-{'x' * 500}", paused=True, at=Instant(number))

    with storage.transaction() as tx:
        assert not tx.switches(Instant(0)).paused


def test_a_mistake_is_not_trouble(storage: SqliteStorage) -> None:
    """A wrong statement is a mistake of ours, and not told as a database that is away."""
    with (
        pytest.raises(sqlite3.OperationalError, match="no such table"),
        storage.transaction() as tx,
    ):
        tx.connection.execute("SELECT * FROM nobody")


def test_after_a_failure_the_next_transaction_works(storage: SqliteStorage) -> None:
    """A failed transaction leaves the writer free for the next one."""
    with pytest.raises(ZeroDivisionError), storage.transaction():
        raise ZeroDivisionError

    with storage.transaction() as tx:
        tx.set_failures_in_a_row(Channel("push"), 1, None)
        assert tx.failures_in_a_row() == {"push": 1}


# Paths


@pytest.mark.parametrize("name", ["with space.db", "percent%20.db", "हिन्दी.db", "what?x=1#y.db"])
def test_any_name(tmp_path: Path, name: str) -> None:
    """A file may have any name; the data are in the file of that name."""
    path = tmp_path / name
    with closing(SqliteStorage(path)) as storage:
        with storage.transaction() as tx:
            tx.erase(UserId("somebody"), Instant(1))
        with storage.readers.connect() as connection:
            assert len(connection.execute(tables.erased.select()).all()) == 1
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM erased").fetchone() == (1,)


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    """A place where no file can be is refused, with words for a person."""
    (tmp_path / "file").write_text("")

    with pytest.raises(EngineError, match="file"):
        SqliteStorage(tmp_path / "file" / "engine.db")


def test_snapshots_of_both_modes_share_a_file(storage: SqliteStorage) -> None:
    """One database serves both modes, apart from each other."""
    with storage.evidence() as evidence:
        for mode in Mode:
            assert evidence.newest_snapshot(mode, a_cohort().name) is None
