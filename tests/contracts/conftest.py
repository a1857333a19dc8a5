"""Worlds for the suites: opened once, and emptied before each example."""

from collections.abc import Iterator

import pytest
from tests.contracts.lives import RULES
from tests.support.builders import World, a_world


@pytest.fixture(scope="session")
def worlds() -> Iterator[tuple[World, World]]:
    """Return two worlds with equal secrets, in which every rule has something to do."""
    with a_world(RULES) as one, a_world(RULES) as other:
        yield one, other
