"""Moving an embedded database into PostgreSQL: in steps that can be taken up again, counted."""

import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import (
    Boolean,
    Connection,
    Engine,
    LargeBinary,
    Table,
    Text,
    create_engine,
    delete,
    func,
    insert,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError

from experiment_engine.adapters.storage import tables
from experiment_engine.adapters.storage.postgres_connections import address
from experiment_engine.adapters.storage.schema import migrate, require_newest
from experiment_engine.adapters.storage.sqlite import embedded_url, held
from experiment_engine.domain.errors import ConfigurationError, StorageUnavailable
from experiment_engine.domain.moments import Instant
from experiment_engine.domain.pausing import EVERYTHING

Tell = Callable[[str, int, int], None]  # table, rows copied so far, rows in all

STEP = 5_000  # rows in one transaction
_MARK = "copy"  # the name under which the target remembers that it is a copy, and of what
_LEFT_OUT = {"meta", "batch", "lease", "process", "progress"}  # about processes, or handled apart
_COPIED = [table for table in tables.metadata.sorted_tables if table.name not in _LEFT_OUT]


def copy_to_postgresql(
    source: Path, url: str, now: Instant, tell: Tell, *, step: int = STEP
) -> dict[str, int]:
    """Copy a SQLite database into an empty PostgreSQL one; return how many rows each table has.

    What was interrupted goes on where it stopped. The copy opens paused: its old self may still
    be able to send. Raises ConfigurationError if the target holds anything else, or if the
    counts differ in the end.
    """
    if not source.is_file():
        raise ConfigurationError(f"--from: there is no database at {source}")
    target = address(url)
    try:
        with held(source), _reading(source) as old:
            require_newest(embedded_url(source))
            migrate(target)
            writers = create_engine(
                target, hide_parameters=True
            )  # without the limits of those that serve
            try:
                return _copy(old, writers, now, tell, step)
            finally:
                writers.dispose()
    except DBAPIError as error:
        raise StorageUnavailable(
            f"The copy stopped: {str(error.orig).splitlines()[0]}. Run the same command again:"
            " it goes on where it stopped."
        ) from error


def _copy(
    old: sqlite3.Connection, writers: Engine, now: Instant, tell: Tell, step: int
) -> dict[str, int]:
    with writers.begin() as new:
        _begin(old, new)
    counts: dict[str, int] = {}
    for table in _COPIED:
        (rows,) = old.execute(f'SELECT count(*) FROM "{table.name}"').fetchone()  # noqa: S608
        counts[table.name] = rows
        _copy_table(table, old, writers, partial(tell, table.name), rows, step)
    with writers.begin() as new:
        _compare(counts, new)
        _finish(old, new, now)
    return counts


def _begin(old: sqlite3.Connection, new: Connection) -> None:
    """Make sure that the target is empty, or a copy of this very source that is not finished."""
    secrets = dict(old.execute("SELECT key, value FROM meta").fetchall())
    mark = hashlib.blake2b(secrets["holdout_salt"], digest_size=16).hexdigest()
    known = _position(new, _MARK)
    if known == mark:
        return
    if known is not None or any(_count(table, new) for table in _COPIED):
        raise ConfigurationError(
            "DATABASE_URL: the database is not empty, and no unfinished copy of this one: name an"
            " empty one"
        )
    new.execute(delete(tables.meta))
    new.execute(insert(tables.meta), [{"key": k, "value": v} for k, v in secrets.items()])
    _set_position(new, _MARK, mark)


def _copy_table(
    table: Table,
    old: sqlite3.Connection,
    writers: Engine,
    tell: Callable[[int, int], None],
    rows: int,
    step: int,
) -> None:
    name = f"{_MARK}:{table.name}"
    with writers.connect() as new:
        done = _count(table, new)
        position = _position(new, name)
    last = None if position is None else msgspec.json.decode(position)
    tell(done, rows)
    while found := _next_rows(table, last, old, step):
        keys = [column.name for column in table.primary_key.columns]
        last = [found[-1][key] for key in keys]
        with writers.begin() as new:
            new.execute(insert(table), found)
            _set_position(new, name, msgspec.json.encode(last).decode())
        done += len(found)
        tell(done, rows)


def _next_rows(
    table: Table, last: Sequence[Any] | None, old: sqlite3.Connection, step: int
) -> list[dict[str, Any]]:
    keys = ", ".join(f'"{column.name}"' for column in table.primary_key.columns)
    columns = ", ".join(f'"{column.name}"' for column in table.columns)
    after = f"WHERE ({keys}) > ({', '.join('?' * len(last))})" if last else ""
    # The names are those of our own tables.
    query = f'SELECT {columns} FROM "{table.name}" {after} ORDER BY {keys} LIMIT {step}'  # noqa: S608
    return [_row(table, values) for values in old.execute(query, last or ())]


def _row(table: Table, values: Sequence[Any]) -> dict[str, Any]:
    return {
        column.name: _as(column.type, value)
        for column, value in zip(table.columns, values, strict=True)
    }


def _as(kind: object, value: Any) -> Any:
    """Return a value of SQLite's as PostgreSQL wants it."""
    if value is None or isinstance(kind, LargeBinary):
        return value
    if isinstance(kind, Boolean):
        return bool(value)
    if isinstance(kind, Text):
        return value.replace("\x00", "\ufffd")  # the one character that PostgreSQL has no room for
    return value


def _compare(counts: dict[str, int], new: Connection) -> None:
    for table in _COPIED:
        copied = _count(table, new)
        if copied != counts[table.name]:
            raise ConfigurationError(
                f"The copy has {copied} rows of {table.name} and the original"
                f" {counts[table.name]}: name another, empty database and copy anew"
            )


def _finish(old: sqlite3.Connection, new: Connection, now: Instant) -> None:
    """Go on counting where the original stopped, and pause."""
    progress = tables.progress
    new.execute(delete(progress).where(progress.c.name.startswith(_MARK)))
    kept = [dict(zip(("name", "position"), row, strict=True)) for row in _progress_of(old)]
    if kept:
        new.execute(insert(progress), kept)
    new.execute(
        text(
            "SELECT setval(pg_get_serial_sequence('quarantine', 'id'),"
            " (SELECT coalesce(max(id), 0) + 1 FROM quarantine), false)"
        )
    )
    if not new.execute(select(tables.pause).where(tables.pause.c.scope == EVERYTHING)).first():
        new.execute(insert(tables.pause).values(scope=EVERYTHING, since=now))


def _progress_of(old: sqlite3.Connection) -> list[tuple[str, str]]:
    return old.execute("SELECT name, position FROM progress").fetchall()


def _count(table: Table, new: Connection) -> int:
    return int(new.execute(select(func.count()).select_from(table)).scalar_one())


def _position(new: Connection, name: str) -> str | None:
    progress = tables.progress.c
    return new.execute(select(progress.position).where(progress.name == name)).scalar()


def _set_position(new: Connection, name: str, position: str) -> None:
    new.execute(delete(tables.progress).where(tables.progress.c.name == name))
    new.execute(insert(tables.progress).values(name=name, position=position))


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA query_only = ON")
        yield connection
