"""Copies of a database to keep, and a database from such a copy. A copy opens paused.

Whoever restores an old state would otherwise send again what went out since.
"""

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

from sqlalchemy import create_engine, inspect
from sqlalchemy.exc import DBAPIError

from experiment_engine.adapters.storage.postgres_connections import address
from experiment_engine.adapters.storage.schema import require_newest
from experiment_engine.adapters.storage.sqlite import embedded_url, held
from experiment_engine.domain.errors import ConfigurationError, EngineError, StorageUnavailable
from experiment_engine.domain.moments import Instant
from experiment_engine.domain.pausing import EVERYTHING

_SQLITE, _POSTGRESQL = b"SQLite format 3\x00", b"PGDMP"  # how the files begin


def back_up_sqlite(source: Path, copy: Path, now: Instant) -> None:
    """Copy a database that may be in use: one consistent state, with every answered event.

    It only reads, so it may run beside the one writing process, on a connection of its own that
    can neither write nor fold the log into the database.
    """
    if not source.is_file():
        raise ConfigurationError(f"DATABASE_URL: there is no database at {source}")
    _refuse_existing(copy)
    partial = copy.with_name(copy.name + ".partial")
    partial.unlink(missing_ok=True)
    try:
        with (
            closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as old,
            closing(sqlite3.connect(partial)) as new,
        ):
            # In one step: with several, each commit of the engine would make it start anew.
            old.backup(new)
            _pause_and_check(new, now)
        _keep(partial, copy)
    except (sqlite3.Error, OSError) as error:
        partial.unlink(missing_ok=True)
        raise StorageUnavailable(f"The backup failed: {error}. Nothing was kept.") from error


def restore_sqlite(copy: Path, target: Path, now: Instant) -> None:
    """Make a database, which must not exist yet, from a copy; it opens paused."""
    _require(copy, _SQLITE)
    if target.exists():
        raise ConfigurationError(
            f"DATABASE_URL: there is a database at {target}: move it away, with its -wal file"
        )
    with held(target):
        partial = target.with_name(target.name + ".partial")
        try:
            shutil.copyfile(copy, partial)
            with closing(sqlite3.connect(partial)) as new:
                _pause_and_check(new, now)
            require_newest(embedded_url(partial))
            _keep(partial, target)
        except (sqlite3.Error, OSError) as error:
            raise StorageUnavailable(f"The copy cannot be restored: {error}.") from error
        finally:
            partial.unlink(missing_ok=True)


def back_up_postgresql(url: str, copy: Path) -> None:
    """Let PostgreSQL's own tool write a copy, of one consistent state."""
    _refuse_existing(copy)
    _run_tool("pg_dump", url, "--format=custom", "--no-owner", "--no-privileges", f"--file={copy}")


def restore_postgresql(copy: Path, url: str, now: Instant) -> None:
    """Fill an empty database from a copy, in one transaction; it opens paused."""
    _require(copy, _POSTGRESQL)
    engine = create_engine(address(url), hide_parameters=True)
    try:
        if inspect(engine).get_table_names():
            raise ConfigurationError("DATABASE_URL: the database is not empty: name an empty one")
        arguments = ("--no-owner", "--no-privileges", "--single-transaction", "--exit-on-error")
        _run_tool("pg_restore", url, *arguments, str(copy))
        with engine.begin() as connection:
            connection.exec_driver_sql(
                "INSERT INTO pause (scope, since) VALUES (%s, %s) ON CONFLICT DO NOTHING",
                (EVERYTHING, now),
            )
        require_newest(address(url))
    except DBAPIError as error:
        raise StorageUnavailable(f"DATABASE_URL: {str(error.orig).splitlines()[0]}") from error
    finally:
        engine.dispose()


def _pause_and_check(database: sqlite3.Connection, now: Instant) -> None:
    with database:
        database.execute("PRAGMA journal_mode = DELETE")  # one file, and no log beside it
        database.execute(
            "INSERT INTO pause (scope, since) VALUES (?, ?) ON CONFLICT DO NOTHING",
            (EVERYTHING, now),
        )
    (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)


def _keep(partial: Path, final: Path) -> None:
    """Give a whole file its name; both are on the disk afterwards."""
    for path, then in ((partial, lambda: partial.replace(final)), (final.parent, bool)):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        then()


def _refuse_existing(copy: Path) -> None:
    if copy.exists():
        raise ConfigurationError(f"{copy} is there already: name another file")
    if not copy.parent.is_dir():
        raise ConfigurationError(f"{copy.parent} is no folder: name a file in one")


def _require(copy: Path, beginning: bytes) -> None:
    try:
        with copy.open("rb") as file:
            found = file.read(len(beginning))
    except OSError as error:
        raise ConfigurationError(f"{copy} cannot be read: {error.strerror}") from None
    if found != beginning:
        raise ConfigurationError(
            f"{copy} is no copy of such a database: DATABASE_URL must be of the same kind"
        )


def _run_tool(tool: str, url: str, *arguments: str) -> None:
    """Run a tool of PostgreSQL's; the password reaches it by the environment, where none look."""
    where = address(url).set(drivername="postgresql")
    public = where.set(password=None).render_as_string()
    command = [tool, *arguments[:-1], f"--dbname={public}", arguments[-1]]
    program = shutil.which(tool)
    if program is None:
        raise EngineError(f"{tool} is not installed here. Where it is, run: {' '.join(command)}")
    password = {"PGPASSWORD": str(where.password)} if where.password else {}
    ended = subprocess.run(  # noqa: S603 - the program is PostgreSQL's, the arguments ours
        [program, *command[1:]],
        env={**os.environ, **password},
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        said = next(iter(ended.stderr.strip().splitlines()), "no word why")
        raise StorageUnavailable(f"{tool} failed: {said}")
