"""What every suite of this folder runs on: each database that the engine knows, by one fixture."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from tests.contracts.lives import RULES
from tests.support.builders import World, a_world, empty_database

from experiment_engine.adapters.storage.sqlite import SqliteStorage

Storage = SqliteStorage  # a second database joins by a union here and a parameter below
Open = Callable[[], Storage]


@pytest.fixture(params=["sqlite"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Return what opens the same database again, after closing it."""
    assert request.param == "sqlite"
    path = empty_database(tmp_path)
    with ExitStack() as opened:

        def again() -> Storage:
            opened.close()
            return opened.enter_context(closing(SqliteStorage(path)))

        yield again


@pytest.fixture
def storage(reopen: Open) -> Storage:
    """Return an empty database."""
    return reopen()


@pytest.fixture(scope="session")
def worlds() -> Iterator[tuple[World, World]]:
    """Return two worlds with equal secrets, in which every rule has something to do."""
    with a_world(RULES) as one, a_world(RULES) as other:
        yield one, other
