"""How a database is, seen without changing anything and beside whoever else has it."""

import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from experiment_engine.adapters.storage import postgres_connections
from experiment_engine.adapters.storage.database_clock import DatabaseClock
from experiment_engine.domain.errors import StorageUnavailable
from experiment_engine.domain.moments import Instant

_SHOWN = ("server_version", "fsync", "full_page_writes", "synchronous_commit")
_MUST_BE_ON = frozenset(_SHOWN[1:])


@dataclass(frozen=True, slots=True)
class Condition:
    """What a look at a database showed."""

    described: str
    faults: tuple[str, ...] = ()  # settings under which what was answered could be lost
    free: int | None = None  # bytes left on its disk; None: cannot be seen from here
    now: Instant | None = None  # the server's time; None: it has none of its own
    is_new: bool = False  # there is nothing yet


def examine_sqlite(path: Path) -> Condition:
    """Look at an embedded database; raises StorageUnavailable."""
    folder = next(parent for parent in path.absolute().parents if parent.is_dir())
    free = shutil.disk_usage(folder).free
    if not path.is_file() and not os.access(folder, os.W_OK):
        raise StorageUnavailable(f"{path} cannot be made: {folder} may not be written")
    if not path.is_file():
        return Condition(f"none yet: `serve` makes {path}", free=free, is_new=True)
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as reader:
            (journal,) = reader.execute("PRAGMA journal_mode").fetchone()
            reader.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error as error:
        raise StorageUnavailable(f"{path} cannot be read: {error}") from None
    size = path.stat().st_size
    faults = () if journal == "wal" else (f"journal_mode = {journal}",)
    said = f"SQLite {sqlite3.sqlite_version}, {path}, {size:,} bytes, journal {journal}"
    return Condition(said, faults, free)


def examine_postgresql(url: str) -> Condition:
    """Look at a database of a server; raises StorageUnavailable."""
    readers = postgres_connections.open_readers(postgres_connections.address(url))
    try:
        with readers.connect() as connection:
            return _condition(connection)
    except SQLAlchemyError as error:
        said = str(getattr(error, "orig", None) or type(error).__name__)
        raise StorageUnavailable(" ".join(said.split())) from None
    finally:
        readers.dispose()


def _condition(connection: Connection) -> Condition:
    shown = {name: connection.execute(text(f"SHOW {name}")).scalar_one() for name in _SHOWN}
    size = connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one()
    tables = connection.execute(text("SELECT count(*) FROM pg_tables WHERE tablename = 'event'"))
    clock = DatabaseClock()
    clock.ask(connection)
    return Condition(
        f"PostgreSQL {shown['server_version']}, {size:,} bytes",
        tuple(f"{name} = off" for name in sorted(_MUST_BE_ON) if shown[name] == "off"),
        now=clock.now(),
        is_new=not tables.scalar_one(),
    )
