"""What acceptance tests start from."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.clevertap_double import CleverTapDouble
from tests.support.engine import RunningEngine, running_engine
from tests.support.start import Start


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start an engine by calling this with a configuration; it ends with the test."""
    starting = Start(tmp_path)
    yield starting
    starting.stop()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    """Return one engine, dry and with one combo, for tests whose users are all their own."""
    with running_engine(tmp_path_factory.mktemp("shared")) as engine:
        yield engine


@pytest.fixture
def double(tmp_path: Path) -> Iterator[CleverTapDouble]:
    """Return a CleverTap that takes everything until it is told otherwise."""
    with CleverTapDouble(tmp_path / "ledger.jsonl", fsync=False) as clevertap:
        yield clevertap
