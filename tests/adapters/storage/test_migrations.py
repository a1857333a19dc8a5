"""Migrations carry what is kept forward."""

import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from alembic import command
from sqlalchemy import create_engine

from experiment_engine.adapters.storage import schema
from experiment_engine.adapters.storage.reading import StorageReader
from experiment_engine.adapters.storage.sqlite import SqliteStorage, migrate_file
from experiment_engine.domain.delivery.experiment import Mode
from experiment_engine.domain.identifiers import CohortName


@pytest.fixture
def first_version(tmp_path: Path) -> Path:
    """Return a database of the first schema with counts, a snapshot and distributions."""
    path = tmp_path / "engine.db"
    engine = create_engine(f"sqlite:///{path}")
    configuration = schema._config()
    with engine.begin() as connection:
        configuration.attributes["connection"] = connection
        command.upgrade(configuration, "0001")
    engine.dispose()
    with closing(sqlite3.connect(path)) as plain, plain:
        plain.executemany(
            "INSERT INTO combo_count VALUES (?, ?, ?, ?, ?, 5, 2, 4, 3, 1)",
            [
                ("live", "checkout", hour, "2min|push|urgency|none", "combo")
                for hour in (-1, 480_000)
            ],
        )
        plain.execute("INSERT INTO combo_space VALUES ('space', ?)", ('["a", "b", "c"]',))
        plain.execute(
            "INSERT INTO snapshot VALUES ('s', 'checkout', 'live', 'uniform', 1, 'space', '{}')"
        )
        plain.executemany(
            "INSERT INTO distribution VALUES (?, 's', 'checkout', 0, ?, ?)",
            [
                ("d1", "[[0.8, [2]], [0.2, [0]]]", '{"opted_out": [1]}'),
                ("d2", "[[0.5, [0, 2]]]", '{"opted_out": [1]}'),
            ],
        )
    return path


def test_data_are_carried_forward(first_version: Path) -> None:
    """After the migration counts, distributions and the reasons of what was refused are there."""
    assert migrate_file(first_version)[0] == "0001"

    with closing(SqliteStorage(first_version)) as storage:
        reader = StorageReader(storage.readers)
        (counts,) = reader.combo_counts(Mode.LIVE, CohortName("checkout"))
        one, two = reader.distribution("d1"), reader.distribution("d2")
        sets = storage._writer.execute("SELECT eligible FROM eligible_set").fetchall()

    assert (counts.trials, counts.successes, counts.sent, counts.converted) == (5, 2, 4, 1)
    assert one is not None
    assert two is not None
    assert one.propensities == {"a": 0.2, "c": 0.8}
    assert two.propensities == {"a": 0.5, "c": 0.5}
    assert one.refused == two.refused == {"opted_out": ["b"]}
    assert [msgspec.json.decode(eligible) for (eligible,) in sets] == [[0, 2]]
