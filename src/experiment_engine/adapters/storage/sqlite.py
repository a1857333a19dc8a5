"""The embedded database: one process, one writing connection, everything durable at commit."""

import errno
import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar, NoReturn, TypeVar

import structlog
from sqlalchemy import URL, Engine, create_engine, event, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from experiment_engine.adapters.storage import rows, sqlite_statements, tables
from experiment_engine.adapters.storage.cold import ColdStatements
from experiment_engine.adapters.storage.evidence import EvidenceReader, consistent
from experiment_engine.adapters.storage.hot import HotStatements, Question
from experiment_engine.adapters.storage.learning import LearningStatements
from experiment_engine.adapters.storage.ledger import LedgerStatements
from experiment_engine.adapters.storage.schema import migrate, prepare
from experiment_engine.adapters.storage.statements import HotSql
from experiment_engine.domain.errors import ConfigurationError, StorageInUse, StorageUnavailable
from experiment_engine.domain.identifiers import CallId, Channel
from experiment_engine.domain.moments import Instant

log = structlog.get_logger()

T = TypeVar("T")

_LOOK_AGAIN = 0.005  # seconds between looks whether the database is free
_CHECKPOINT_PAGES = 12_000  # 48 MiB of log before the writer folds it into the database

_TROUBLE = {  # primary result codes that may heal by themselves, or by hand from outside
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOTADB,
}

_FAILED_SYNCS = {sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC}

_PATIENCE = "PRAGMA busy_timeout = 5000"  # milliseconds

# Nobody but the writer may write or checkpoint: SQLite before 3.51.3 can corrupt its log when
# two connections do so at once.
_WRITER = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",  # an answer 2xx is on the disk, not only in the cache
    "PRAGMA foreign_keys = ON",
    "PRAGMA secure_delete = ON",  # what is deleted is overwritten: people ask to be forgotten
    _PATIENCE,
    "PRAGMA cache_size = -16000",
    f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}",
)
_READER = (
    "PRAGMA query_only = ON",
    "PRAGMA wal_autocheckpoint = 0",
    _PATIENCE,
    "PRAGMA cache_size = -8000",
)


@dataclass(frozen=True)
class SqliteTransaction(HotStatements, ColdStatements, LearningStatements, LedgerStatements):
    """Everything one transaction can do; see the ports for what each method promises."""

    connection: sqlite3.Connection
    sql: ClassVar[HotSql] = sqlite_statements

    def calls_elsewhere(
        self, channels: Sequence[Channel], under_way: Sequence[CallId], reached: Instant
    ) -> Mapping[Channel, int]:
        """Return no call: its process has the database alone, and one worker."""
        del under_way, reached
        return dict.fromkeys(channels, 0)

    def _ask(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        return self.connection.execute(statement, values).fetchall()

    def _ask_all(self, *questions: Question) -> list[Sequence[tuple[Any, ...]]]:
        execute = self.connection.execute
        return [execute(statement, values).fetchall() for statement, values in questions]

    def _run(self, statement: str, values: Sequence[Sequence[object]]) -> None:
        if values:
            self.connection.executemany(statement, values)

    def _keys(self, keys: Sequence[str]) -> object:
        return rows.to_json(keys)

    def _pairs(self, keys: Sequence[tuple[str, str]]) -> Sequence[object]:
        return (rows.to_json(keys),)


class SqliteStorage:
    """Opens transactions on the one writing connection, one after another."""

    is_shared = False  # its process has it alone
    is_steady = True

    def __init__(self, path: Path, *, throwaway: bool = False, patience: float = 0.0) -> None:
        """Open the database, and make its schema if it is empty.

        Waits at most `patience` seconds for a process that has it and is about to end.
        A `throwaway` one need not outlive a power cut: it waits for no disk.
        Raises StorageInUse, UnknownSchema or StorageUnavailable.
        """
        self._path = path
        self._lock_file = _lock(path, patience)
        try:
            prepare(embedded_url(path))
        except DBAPIError as error:
            self._lock_file.close()
            raise ConfigurationError(
                f"DATABASE_URL: {path} cannot be used ({error.orig}): name another file."
            ) from None
        except BaseException:
            self._lock_file.close()
            raise
        self._turn = threading.Lock()
        self._fold_first = False  # the disk was full: a log that grows on may fill it for good
        self._writer = _open_writer(path, throwaway=throwaway)
        self._engine = create_engine(
            "sqlite://",
            creator=lambda: self._writer,
            poolclass=StaticPool,
            isolation_level="AUTOCOMMIT",  # this class begins and ends transactions
            hide_parameters=True,  # who it is about stands in no log
        )
        self._core = self._engine.connect()
        self.readers = open_readers(path)
        # Now, because later the writing connection is asked in its transactions only.
        self._erasure_key, self._salt = self._meta("erasure_key"), self._meta("holdout_salt")
        if not throwaway:
            _sync_folder(path)
        self._files = _files_at(path)
        for moment in ("do_connect", "checkout"):
            event.listen(self.readers, moment, lambda *_: self._require_files())

    def salt(self) -> bytes:
        """Return the stored salt of the holdout."""
        return self._salt

    def evidence(self) -> AbstractContextManager[EvidenceReader]:
        """Open one consistent view for learning, which waits for no writer and stops none."""
        return consistent(self.readers)

    @contextmanager
    def transaction(self) -> Iterator[SqliteTransaction]:
        """Open a writing transaction; it is durable when the block is left without an error."""
        with self._turn:
            try:
                self._require_files()
                if self._fold_first:
                    self._fold_log()
                self._writer.execute("BEGIN IMMEDIATE")
                yield SqliteTransaction(
                    core=self._core,
                    erasure_key=self._erasure_key,
                    connection=self._writer,
                )
                self._writer.execute("COMMIT")
                self._require_files()
            except BaseException as error:
                self._give_up(error)
                raise

    def run(self, work: Callable[[SqliteTransaction], T]) -> T:
        """Do some work in a transaction of its own."""
        with self.transaction() as tx:
            return work(tx)

    def scrub(self, erased_at: Instant, now: Instant) -> bool:
        """Fold the log into the database and cut it: older pages in it still have what went.

        A reader that still looks at them is not waited for: webhooks would wait, too.
        """
        del erased_at, now
        with self._turn:
            self._writer.execute("PRAGMA busy_timeout = 0")
            try:
                busy, _, _ = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            except sqlite3.DatabaseError as error:
                self._give_up(error)
                raise
            finally:
                self._writer.execute(_PATIENCE)
        return not busy  # next time the reader has gone

    def close(self) -> None:
        """Close every connection and let go of the lock."""
        self.readers.dispose()
        self._core.close()
        self._writer.close()
        self._lock_file.close()

    def _require_files(self) -> None:
        """Refuse to work in files that lost their names: what they hold ends with the process."""
        if _files_at(self._path) != self._files:
            log.error("database_moved", path=str(self._path))
            raise StorageUnavailable(
                f"{self._path} or its -wal file was deleted or replaced while the engine runs. "
                "Nothing was stored. Put them back; stop the engine before you change them."
            )

    def _unavailable(self, cause: sqlite3.DatabaseError) -> StorageUnavailable:
        log.error("database_unavailable", error=str(cause), code=cause.sqlite_errorname)
        return StorageUnavailable(
            f"The database cannot be written now ({cause}). Nothing was stored; send it again."
        )

    def _give_up(self, error: BaseException) -> None:
        """Roll back; raise StorageUnavailable if the error may heal, and end if a sync failed."""
        cause = error.orig if isinstance(error, DBAPIError) else error
        if getattr(cause, "sqlite_errorcode", None) in _FAILED_SYNCS:
            _end_at_once(cause)
        if self._writer.in_transaction:
            self._writer.execute("ROLLBACK")
        if isinstance(cause, sqlite3.DatabaseError) and _is_trouble(cause):
            self._fold_first |= cause.sqlite_errorcode == sqlite3.SQLITE_FULL
            raise self._unavailable(cause) from error

    def _fold_log(self) -> None:
        """Fold the log into the database, so that what room there is serves once more."""
        with suppress(sqlite3.DatabaseError):  # the log stays as it is: nothing is lost
            _, pages, folded = self._writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            self._fold_first = folded < pages

    def _meta(self, key: str) -> bytes:
        value = self._core.execute(
            select(tables.meta.c.value).where(tables.meta.c.key == key)
        ).scalar_one()
        return bytes(value)


def _files_at(path: Path) -> list[tuple[int, int] | None]:
    """Return what the database and its log are to the operating system, whatever their names."""
    found: list[tuple[int, int] | None] = []
    for file in (path, path.with_name(path.name + "-wal")):
        try:
            status = file.stat()
        except OSError:
            found.append(None)
        else:
            found.append((status.st_dev, status.st_ino))
    return found


def _sync_folder(path: Path) -> None:
    """Let the names of the database and its log last, before anything is answered.

    SQLite does so at its first commit and does not look at the error.
    """
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno != errno.EINVAL:  # this file system knows nothing of the kind
            raise StorageUnavailable(
                f"{path.parent} cannot be synchronised ({error.strerror}): use a local disk."
            ) from None
    finally:
        os.close(folder)


def _end_at_once(cause: object) -> NoReturn:
    """End the process: after a failed sync nobody knows what the disk holds, and SQLite goes on.

    The next start folds the log into the database by new writes, which are synchronised anew.
    """
    log.critical("disk_failed", error=str(cause), next="the process ends; start it again")
    os._exit(1)


def migrate_file(path: Path) -> tuple[str | None, str]:
    """Bring a database to this version's schema; return the revision before and after."""
    with held(path):
        return migrate(embedded_url(path))


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a database for this process; raise StorageInUse if another one does."""
    with _lock(path):
        yield


def embedded_url(path: Path) -> URL:
    """Return SQLAlchemy's address of a file."""
    return URL.create("sqlite", database=str(path))  # takes the path as it is, % and all


def _is_trouble(error: sqlite3.DatabaseError) -> bool:
    """Tell a disk or a lock that fails from a mistake in a statement."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code & 0xFF in _TROUBLE


def open_readers(path: Path) -> Engine:
    """Return an engine whose connections can read only."""
    engine = create_engine(embedded_url(path), pool_size=4, max_overflow=8, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def _read_only(connection: sqlite3.Connection, _record: object) -> None:
        for pragma in _READER:
            connection.execute(pragma)

    return engine


def _open_writer(path: Path, *, throwaway: bool) -> sqlite3.Connection:
    writer = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    for pragma in _WRITER:
        writer.execute(pragma)
    if throwaway:
        writer.execute("PRAGMA synchronous = OFF")
        return writer
    (level,) = writer.execute("PRAGMA synchronous").fetchone()
    if level < 2:  # noqa: PLR2004 - 2 is FULL
        raise StorageUnavailable(f"{path} does not hold synchronous=FULL; use a local disk")
    return writer


def _lock(path: Path, patience: float = 0.0) -> IO[str]:
    """Hold the database for this process; the operating system lets go when it dies."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock_file = path.with_name(path.name + ".lock").open("w")
    except OSError as error:
        raise ConfigurationError(
            f"DATABASE_URL: no database can be at {path} ({error.strerror}): "
            "name a file in a folder that the engine may write to."
        ) from None
    ends = time.monotonic() + patience
    while not _held_by_us(lock_file):
        if time.monotonic() >= ends:
            lock_file.close()
            raise StorageInUse(
                f"{path} is in use by another process of the engine, and SQLite has one writing "
                "process: stop it, or use DATABASE_URL=postgresql://... for more than one."
            )
        time.sleep(_LOOK_AGAIN)
    return lock_file


def _held_by_us(lock_file: IO[str]) -> bool:
    try:
        fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
