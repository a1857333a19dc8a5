"""Migrations make the same schema on both databases, and carry what is kept forward."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import URL, create_engine, select, text
from tests.support.builders import Storage
from tests.support.postgres import a_database

from experiment_engine.adapters.storage import schema, tables
from experiment_engine.adapters.storage.postgres import PostgresStorage
from experiment_engine.adapters.storage.postgres_connections import address
from experiment_engine.adapters.storage.reading import StorageReader
from experiment_engine.adapters.storage.sqlite import SqliteStorage, embedded_url
from experiment_engine.domain.delivery.experiment import Mode
from experiment_engine.domain.identifiers import CohortName


@dataclass(frozen=True)
class Database:
    """An empty database of one kind, by its address, and how it is opened."""

    url: URL
    open: Callable[[], Storage]


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Return an empty database of each kind."""
    if request.param == "sqlite":
        path = tmp_path / "engine.db"
        yield Database(embedded_url(path), lambda: SqliteStorage(path))
        return
    with a_database(empty=True) as url:
        yield Database(address(url), lambda: PostgresStorage(url))


def test_migrations_equal_the_tables(database: Database) -> None:
    """A migrated database needs no change to be what the code describes."""
    schema.migrate(database.url)
    engine = create_engine(database.url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, tables.metadata) == []
    engine.dispose()


def test_migrating_from_any_version(database: Database) -> None:
    """From each version on the newest is reached, and once more changes nothing."""
    upgrade(database, "0001")
    before, after = schema.migrate(database.url)
    assert (before, after) == ("0001", schema._head())
    assert schema.migrate(database.url) == (after, after)
    database.open().close()


def upgrade(database: Database, revision: str) -> None:
    """Bring a database to an old version's schema."""
    engine = create_engine(database.url)
    configuration = schema._config()
    with engine.begin() as connection:
        configuration.attributes["connection"] = connection
        command.upgrade(configuration, revision)
    engine.dispose()


ROWS = [
    *(
        "INSERT INTO combo_count VALUES"
        f" ('live', 'checkout', {hour}, '2min|push|urgency|none', 'combo', 5, 2, 4, 3, 1)"
        for hour in (-1, 480_000)
    ),
    """INSERT INTO combo_space VALUES ('space', '["a", "b", "c"]')""",
    "INSERT INTO snapshot VALUES ('s', 'checkout', 'live', 'uniform', 1, 'space', '{}')",
    *(
        "INSERT INTO distribution VALUES"
        f""" ('{name}', 's', 'checkout', false, '{shares}', '{{"opted_out": [1]}}')"""
        for name, shares in (("d1", "[[0.8, [2]], [0.2, [0]]]"), ("d2", "[[0.5, [0, 2]]]"))
    ),
]


def test_data_are_carried_forward(database: Database) -> None:
    """After the migration counts, distributions and the reasons of what was refused are there."""
    upgrade(database, "0001")
    engine = create_engine(database.url)
    with engine.begin() as connection:
        for row in ROWS:
            connection.execute(text(row.replace(":", r"\:")))
    engine.dispose()

    assert schema.migrate(database.url)[0] == "0001"

    with closing(database.open()) as storage:
        reader = StorageReader(storage.readers)
        (counts,) = reader.combo_counts(Mode.LIVE, CohortName("checkout"))
        one, two = reader.distribution("d1"), reader.distribution("d2")
        with storage.readers.connect() as connection:
            sets = connection.execute(select(tables.eligible_set.c.eligible)).scalars().all()

    assert (counts.trials, counts.successes, counts.sent, counts.converted) == (5, 2, 4, 1)
    assert one is not None
    assert two is not None
    assert one.propensities == {"a": 0.2, "c": 0.8}
    assert two.propensities == {"a": 0.5, "c": 0.5}
    assert one.refused == two.refused == {"opted_out": ["b"]}
    assert [msgspec.json.decode(eligible) for eligible in sets] == [[0, 2]]
