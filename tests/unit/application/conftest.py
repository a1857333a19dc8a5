"""The loop on an empty database, for tests of single use cases."""

from collections.abc import Iterator

import pytest
from tests.support.builders import World, a_world


@pytest.fixture
def world() -> Iterator[World]:
    """Return the loop with one plain cohort: push, two delays, two angles."""
    with a_world() as opened:
        yield opened
