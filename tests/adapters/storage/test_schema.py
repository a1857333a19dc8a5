"""Migrations make the schema that the tables describe, and nothing else is opened."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, inspect

from experiment_engine.adapters.storage import schema
from experiment_engine.adapters.storage.sqlite import SqliteStorage, migrate_file
from experiment_engine.adapters.storage.tables import metadata
from experiment_engine.domain.errors import EngineError, UnknownSchema


@pytest.fixture
def migrated(tmp_path: Path) -> Path:
    """Return a database that the migrations made."""
    path = tmp_path / "migrated.db"
    migrate_file(path)
    return path


@pytest.fixture
def engine(migrated: Path) -> Iterator[Engine]:
    """Return a connection to the migrated database, past the engine's own."""
    opened = create_engine(f"sqlite:///{migrated}")
    yield opened
    opened.dispose()


def described(engine: Engine) -> dict[str, object]:
    """Return what SQLite says of every table: columns, keys, indexes, constraints."""
    found = inspect(engine)
    return {
        name: (
            [(c["name"], str(c["type"]), c["nullable"]) for c in found.get_columns(name)],
            found.get_pk_constraint(name)["constrained_columns"],
            sorted(
                (str(i["name"]), i["column_names"], i["unique"]) for i in found.get_indexes(name)
            ),
            sorted(str(c["column_names"]) for c in found.get_unique_constraints(name)),
            sorted(str(c["sqltext"]) for c in found.get_check_constraints(name)),
        )
        for name in found.get_table_names()
        if name != "alembic_version"
    }


def test_migrated_and_made_at_once_are_the_same(engine: Engine) -> None:
    """All migrations in order lead to the same schema as making the tables from scratch."""
    fresh = create_engine("sqlite://")
    metadata.create_all(fresh)

    assert described(engine) == described(fresh)
    fresh.dispose()


def test_one_line_of_migrations() -> None:
    """Migrations follow one another in one line, so that there is one newest schema."""
    scripts = ScriptDirectory.from_config(schema._config())

    assert len(scripts.get_heads()) == len(scripts.get_bases()) == 1


def test_migrating_twice(migrated: Path) -> None:
    """A database that is at the newest schema stays as it is, secrets too."""
    with closing(SqliteStorage(migrated)) as storage:
        salt = storage.salt()

    before, after = migrate_file(migrated)

    assert before == after
    with closing(SqliteStorage(migrated)) as storage:
        assert storage.salt() == salt


def test_a_new_file_is_made(tmp_path: Path) -> None:
    """Where there is no file, one is made with its folder, ready for use."""
    with closing(SqliteStorage(tmp_path / "data" / "deeper" / "engine.db")) as storage:
        assert len(storage.salt()) == 32
    assert (tmp_path / "data" / "deeper" / "engine.db").exists()


def test_two_databases_have_two_secrets(tmp_path: Path) -> None:
    """Each database has secrets of its own."""
    salts = set()
    for name in ("a.db", "b.db"):
        with closing(SqliteStorage(tmp_path / name)) as storage:
            salts.add(storage.salt())

    assert len(salts) == 2


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE alembic_version SET version_num = '9999'",
        "UPDATE alembic_version SET version_num = '0000'",
        "DELETE FROM alembic_version",
        "DROP TABLE alembic_version",
    ],
    ids=["newer", "older", "none", "no table"],
)
def test_an_unknown_schema_is_refused(migrated: Path, statement: str) -> None:
    """Another version's database is not opened, not changed, and not kept locked."""
    with closing(sqlite3.connect(migrated)) as connection, connection:
        connection.execute(statement)
    before = migrated.read_bytes()

    for _ in range(2):  # the second time the lock must be free again
        with pytest.raises(UnknownSchema, match="experiment-engine migrate"):
            SqliteStorage(migrated)

    assert migrated.read_bytes() == before


def test_somebody_else_s_database_is_refused(tmp_path: Path) -> None:
    """A file with other tables is not made into ours."""
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE shopping (item TEXT)")

    with pytest.raises(UnknownSchema, match="unknown"):
        SqliteStorage(path)


def test_what_is_no_database(tmp_path: Path) -> None:
    """A file that is no database is refused, with words for a person, and left as it is."""
    path = tmp_path / "text.db"
    path.write_text("this is no database, whatever its name says " * 100)

    with pytest.raises(EngineError, match="not a database"):
        SqliteStorage(path)

    assert path.read_text().startswith("this is no database")
