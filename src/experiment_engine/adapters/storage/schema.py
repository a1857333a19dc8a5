"""Bringing a database to this version's schema, and refusing one that is not at it."""

import secrets
import sqlite3
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, text

from experiment_engine.adapters.storage import tables
from experiment_engine.domain.errors import UnknownSchema

_MIGRATIONS = Path(__file__).with_name("migrations")
_MIGRATING = 0x6D696772  # the number of the lock


def migrate(url: URL) -> tuple[str | None, str]:
    """Bring the database to this version's schema; return the revision before and after."""
    engine = _whole_or_not_at_all(create_engine(url, hide_parameters=True))
    try:
        before = _revision(engine)
        config = _config()
        with engine.begin() as connection:
            _wait_for_others(connection)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            _make_secrets(connection)
        return before, _head()
    finally:
        engine.dispose()


def prepare(url: URL) -> None:
    """Make the schema in an empty database; raise UnknownSchema for any other but this one."""
    engine = create_engine(url, hide_parameters=True)
    try:
        revision, has_tables = (
            _revision(engine),
            bool(inspect(engine).get_table_names()),
        )
    finally:
        engine.dispose()
    if not has_tables:
        migrate(url)
    else:
        _refuse_unknown(revision)


def require_newest(url: URL) -> None:
    """Raise UnknownSchema unless the database's schema is the one of this version."""
    engine = create_engine(url, hide_parameters=True)
    try:
        _refuse_unknown(_revision(engine))
    finally:
        engine.dispose()


def _refuse_unknown(revision: str | None) -> None:
    if revision != _head():
        raise UnknownSchema(
            f"The database's schema is {revision or 'unknown'} and this version needs "
            f"{_head()}: run `experiment-engine migrate` (after a backup), or start the version "
            "that made it."
        )


def _whole_or_not_at_all(engine: Engine) -> Engine:
    """Let transactions hold changes of the schema on SQLite, too: Python's driver begins too late.

    A process that is killed half way leaves the old schema, and migrating anew succeeds.
    """
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def _leave_it_to_us(connection: sqlite3.Connection, _record: object) -> None:
            connection.isolation_level = None

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _wait_for_others(connection: Connection) -> None:
    """Let one process at a time migrate; SQLite's has the database to itself anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:ours)"), {"ours": _MIGRATING})


def _make_secrets(connection: Connection) -> None:
    known = set(connection.execute(tables.meta.select()).scalars())
    for key in ("holdout_salt", "erasure_key"):
        if key not in known:
            connection.execute(tables.meta.insert().values(key=key, value=secrets.token_bytes(32)))


def _revision(engine: Engine) -> str | None:
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def _head() -> str:
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    return config
