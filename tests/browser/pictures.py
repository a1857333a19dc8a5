"""Takes the pictures of the README: `.venv/bin/python -m tests.browser.pictures [DAYS [USERS]]`.

Two engines are filled through their own doors: one new, one with some weeks of made-up users.
"""

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser
from tests.support.browsers import Look, chromium, visiting
from tests.support.clock import FakeClock
from tests.support.engine import RunningEngine, running_engine
from tests.support.history import STARTS, weeks_of_users, written_to

from experiment_engine.configuration.loading import bundled_example

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"

LIVED_IN: tuple[tuple[str, str, Look, bool], ...] = (
    ("overview", "/", "light", False),
    ("results", "/results/checkout_abandoners", "light", True),
    ("results-dark", "/results/checkout_abandoners", "dark", False),
    ("results-phone", "/results/checkout_abandoners", "phone", False),
    ("combinations", "/combinations/payment_failed", "light", False),
    ("messages", "/messages?cohort=payment_failed&language=bho&angle=retry", "light", False),
    ("guardrails", "/guardrails", "light", False),
)


def take(
    browser: Browser, engine: RunningEngine, name: str, path: str, *, look: Look, whole: bool
) -> None:
    """Write one picture."""
    with visiting(browser, engine.url, look) as visitor:
        visitor.page.goto(path)
        visitor.page.wait_for_timeout(300)
        visitor.page.screenshot(path=PICTURES / f"dashboard-{name}.png", full_page=whole)


def main(days: int = 16, users: int = 40) -> None:
    """Fill the engines and take every picture."""
    with tempfile.TemporaryDirectory() as scratch:
        new, old = Path(scratch) / "new", Path(scratch) / "old"
        new.mkdir()
        old.mkdir()
        example = bundled_example()
        with (
            running_engine(new, config=example) as fresh,
            running_engine(old, config=example, clock=FakeClock(STARTS)) as lived_in,
        ):
            weeks_of_users(lived_in, days=days, each_step=users)
            user = written_to(lived_in, "usr_story")
            story = lived_in.sent(user, event_properties={"language": "hi"})
            lived_in.opened(user_id=user, experiment_id=story)
            lived_in.clock.advance("2h")
            lived_in.converted(user_id=user, experiment_id=story)
            with chromium() as browser:
                take(browser, fresh, "first-run", "/", look="light", whole=False)
                for name, path, look, whole in LIVED_IN:
                    take(browser, lived_in, name, path, look=look, whole=whole)
                take(browser, lived_in, "user", f"/users?id={user}", look="light", whole=False)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
