"""Moving from SQLite to PostgreSQL: everything arrives once, whatever interrupts it."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.contracts.test_any_life import check_counters, experiments_of
from tests.support.builders import (
    NOW,
    World,
    a_cohort,
    converted,
    empty_database,
    happened,
    rows_of,
    said_no,
    some_rules,
)
from tests.support.postgres import a_database

from experiment_engine.adapters.storage import tables
from experiment_engine.adapters.storage.copying import copy_to_postgresql
from experiment_engine.adapters.storage.postgres import PostgresStorage
from experiment_engine.adapters.storage.sqlite import SqliteStorage
from experiment_engine.adapters.system.chance import SystemChance
from experiment_engine.application.changes import Changes, Quarantined, StoredEvent
from experiment_engine.domain.errors import ConfigurationError, StorageInUse
from experiment_engine.domain.events import Source
from experiment_engine.domain.identifiers import UserId

RULES = some_rules(a_cohort(delays=("2min",), count=2, within=3_600_000))
COPIED = [table for table in tables.metadata.sorted_tables if table is not tables.batch]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a database in which something has happened to everybody."""
    path = empty_database(tmp_path)
    with closing(SqliteStorage(path)) as storage:
        world = World(storage, RULES)
        world.take(*(happened(user=f"u{n % 60}") for n in range(150)), said_no("u1"))
        world.clock.advance("2min")
        world.deliver()
        world.take(*(converted(user=f"u{n}") for n in range(5)))
        changes = Changes()
        changes.quarantined += [
            Quarantined(Source.AMPLITUDE, NOW, "not_json", b"\xff{") for _ in "ab"
        ]
        changes.events.append(
            StoredEvent(UserId("odd\x00one"), "k\u2028", Source.API, "n", NOW, NOW, b"\x00\xff")
        )
        storage.run(lambda tx: tx.store(changes))
    return path


@pytest.fixture
def target() -> Iterator[str]:
    """Return the address of a database without tables."""
    with a_database(empty=True) as url:
        yield url


def silent(_table: str, _done: int, _rows: int) -> None:
    """Show nothing."""


def contents(storage: SqliteStorage | PostgresStorage) -> dict[str, list[dict[str, object]]]:
    """Return every row of every table, but the pause that a copy begins with."""
    return {
        table.name: [row for row in rows_of(storage, table) if row.get("scope") != "*"]
        for table in COPIED
    }


def test_everything_arrives(source: Path, target: str) -> None:
    """Each row of each table is in the copy as it was, secrets too, and the copy goes on."""
    counts = copy_to_postgresql(source, target, NOW, silent)

    with closing(SqliteStorage(source)) as old, closing(PostgresStorage(target)) as new:
        before, after = contents(old), contents(new)
        for row in before["event"]:
            row["user_id"] = str(row["user_id"]).replace("\x00", "\ufffd")
        for name, rows in before.items():
            assert sorted(after[name], key=repr) == sorted(rows, key=repr), name
        assert new.salt() == old.salt()
        assert counts["experiment"] == len(after["experiment"]) > 50
        assert new.run(lambda tx: tx.switches(NOW)).paused == {"*"}
        world = World(new, RULES, chance=SystemChance())
        check_counters(world, experiments_of(world.experiments()))
        assert new.run(lambda tx: tx.store(_quarantined())) is None
        assert len(rows_of(new, tables.quarantine)) == 2


def _quarantined() -> Changes:
    changes = Changes()
    changes.quarantined.append(Quarantined(Source.AMPLITUDE, NOW, "not_json", b"new"))
    return changes


class Interrupted(Exception):
    """Somebody pulled the plug."""


def test_what_was_interrupted_goes_on(source: Path, target: str) -> None:
    """However often it is interrupted, no row is copied twice and none is left out."""
    told = interruptions = 0

    def tell(_table: str, _done: int, _rows: int) -> None:
        nonlocal told
        told += 1
        if told % 41 == 0:
            raise Interrupted

    while True:
        try:
            copy_to_postgresql(source, target, NOW, tell, step=7)
            break
        except Interrupted:
            interruptions += 1

    with closing(SqliteStorage(source)) as old, closing(PostgresStorage(target)) as new:
        assert {name: len(rows) for name, rows in contents(new).items()} == {
            name: len(rows) for name, rows in contents(old).items()
        }
    print(f"{interruptions} interruptions")
    assert interruptions > 1


def test_only_into_an_empty_one(source: Path, target: str) -> None:
    """A database that holds anything else is left as it is; so is a finished copy."""
    copy_to_postgresql(source, target, NOW, silent)
    with pytest.raises(ConfigurationError, match="not empty"):
        copy_to_postgresql(source, target, NOW, silent)


def test_not_while_the_old_engine_runs(source: Path, target: str) -> None:
    """What is still written to is not copied."""
    with closing(SqliteStorage(source)), pytest.raises(StorageInUse):
        copy_to_postgresql(source, target, NOW, silent)


def test_from_nothing(tmp_path: Path, target: str) -> None:
    """A source that is not there is said, and not made."""
    with pytest.raises(ConfigurationError, match="--from"):
        copy_to_postgresql(tmp_path / "nothing.db", target, NOW, silent)
    assert not (tmp_path / "nothing.db").exists()
