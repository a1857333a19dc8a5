"""What every suite of this folder runs on: each database that the engine knows, by one fixture."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from tests.contracts.lives import RULES
from tests.support.builders import Storage, World, a_world, empty_database
from tests.support.postgres import a_database

from experiment_engine.adapters.storage.postgres import PostgresStorage
from experiment_engine.adapters.storage.sqlite import SqliteStorage

Open = Callable[[], Storage]


@pytest.fixture(params=["sqlite", "postgresql"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Return what opens the same database again, after closing it."""
    with ExitStack() as lasting:
        opened = lasting.enter_context(ExitStack())
        if request.param == "sqlite":
            path = empty_database(tmp_path)

            def storage() -> Storage:
                return SqliteStorage(path)
        else:
            url = lasting.enter_context(a_database())
            lasting.callback(opened.close)  # before the database goes

            def storage() -> Storage:
                return PostgresStorage(url)

        def again() -> Storage:
            opened.close()
            return opened.enter_context(closing(storage()))

        yield again


@pytest.fixture
def storage(reopen: Open) -> Storage:
    """Return an empty database."""
    return reopen()


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def worlds(request: pytest.FixtureRequest) -> Iterator[tuple[World, World]]:
    """Return two worlds with equal secrets, in which every rule has something to do."""
    kind: str = request.param
    with a_world(RULES, database=kind) as one, a_world(RULES, database=kind) as other:
        yield one, other
