"""One browser and one engine with some days of users, for every test of the pages."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser
from tests.support.browsers import Visitor, chromium, visiting
from tests.support.clock import FakeClock
from tests.support.engine import RunningEngine, running_engine
from tests.support.history import STARTS, weeks_of_users

from experiment_engine.configuration.loading import bundled_example


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Return one Chromium for the tests of a file.

    Not for all: while it is there, its event loop occupies the thread of every test.
    """
    with chromium() as started:
        yield started


@pytest.fixture(scope="session")
def lived_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    """Return an engine on the bundled example that has seen five days of users."""
    folder = tmp_path_factory.mktemp("lived-in")
    with running_engine(folder, config=bundled_example(), clock=FakeClock(STARTS)) as engine:
        weeks_of_users(engine, days=5, each_step=12)
        engine.post("/webhook/amplitude", b"this is not JSON")
        engine.event("usr_waiting", "checkout_abandoned", event_properties={"language": "bho"})
        yield engine


@pytest.fixture
def window(browser: Browser, lived_in: RunningEngine) -> Iterator[Visitor]:
    """Return a window on the engine that is lived in."""
    with visiting(browser, lived_in.url) as visitor:
        yield visitor
