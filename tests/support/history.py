"""Weeks of made-up users on the bundled configuration: what the pages are drawn from in tests.

The clock is the test's; everything goes through the doors that real partners use.
"""

import heapq
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import count

import numpy as np
from tests.support.engine import RunningEngine
from tests.support.events import Json, amplitude_event

from experiment_engine.application.page_records import Recent
from experiment_engine.domain.cohorts.holdout import is_held_out
from experiment_engine.domain.delivery.experiment import State
from experiment_engine.domain.identifiers import UserId
from experiment_engine.domain.moments import HOUR, Instant, iso

STARTS = datetime(2026, 10, 12, 4, 0, tzinfo=UTC)  # 09:30 in India

_SHOWS = ("Rangmahal ki Raat", "Chaupal", "Lakdi ka Pul", "Do Sakhiyan")
_LANGUAGES = ("hi", "hi", "bho", "bgc", "raj", "en")
_BASE = 0.04  # of those who come back by themselves
_FACTORS: Mapping[str, float] = {
    "whatsapp": 1.7,
    "15min": 1.3,
    "1h": 1.5,
    "6h": 0.8,
    "helpful": 1.6,
    "social_proof": 1.25,
    "discount": 0.8,
    "rupee_1_trial": 1.5,
    "discount_20": 1.2,
    "free_value": 1.4,
    "retry": 1.3,
}
_EVENTS = {  # cohort's trigger, how often, and its share of the users
    "checkout_abandoned": (1, 0.6, "trial_activated"),
    "payment_failed": (1, 0.25, "payment_succeeded"),
    "paywall_viewed": (3, 0.15, "trial_activated"),
}


def weeks_of_users(engine: RunningEngine, *, days: int, each_step: int, seed: int = 7) -> None:
    """Let users leave and come back for some days, a step every two hours of the day."""
    world = _World(engine, np.random.default_rng(seed))
    for day in range(days):
        for step in range(7):
            engine.clock.set(STARTS + timedelta(days=day, hours=2 * step))
            world.step(each_step)
        while engine.engine.duties.measure():
            pass


def written_to(engine: RunningEngine, name: str) -> str:
    """Return a user id that begins like this and is not held out."""
    share, salt = engine.engine.rules.holdout_share, engine.engine.storage.salt()
    ids = (UserId(f"{name}_{number}") for number in count())
    return next(user for user in ids if not is_held_out(user, salt, share))


class _World:
    """Users whose answer depends on what really reached them."""

    def __init__(self, engine: RunningEngine, chance: np.random.Generator) -> None:
        self._engine, self._chance = engine, chance
        self._back: list[tuple[int, str, str]] = []  # when, who, what
        self._goals: dict[str, str] = {}
        self._number = 0
        self._seen = 0

    def step(self, people: int) -> None:
        """Deliver what is due, let some come back, and others leave."""
        self._deliver()
        self._come_back()
        self._leave(people)
        for span in ("3min", "13min", "45min"):  # until just after 3, 16 and 61 minutes
            self._deliver(span)
        self._engine.learn()

    def _deliver(self, after: str = "0s") -> None:
        self._engine.deliver(after=after)
        self._read()

    def _leave(self, people: int) -> None:
        now = self._engine.clock.now()
        events: list[Json] = []
        for _ in range(people):
            self._number += 1
            user = f"usr_{self._number:05}"
            name = str(self._chance.choice(list(_EVENTS), p=[e[1] for e in _EVENTS.values()]))
            count, _, goal = _EVENTS[name]
            self._goals[user] = goal
            for time in range(count):
                at = Instant(now - (count - time) * 1_000 - int(self._chance.integers(0, 60_000)))
                said = {
                    "language": str(self._chance.choice(_LANGUAGES)),
                    "show_name": str(self._chance.choice(_SHOWS)),
                    "plan_viewed": "monthly",
                }
                events.append(amplitude_event(user, iso(at), name, event_properties=said))
        for start in range(0, len(events), 400):
            self._engine.events(*events[start : start + 400])

    def _read(self) -> None:
        newest = self._engine.engine.pages.reading.newest_experiments(3_000, None)
        for made in reversed(newest):
            ended = made.state in (State.SENT, State.HELD_OUT)
            if ended and made.placed_at is not None and made.placed_at > self._seen:
                self._think(made, made.placed_at)
        self._seen = self._engine.clock.now()

    def _think(self, made: Recent, at: Instant) -> None:
        factor, user = 1.0, made.user_id
        for level in () if made.held_out else made.combo_key.split("|"):
            factor *= _FACTORS.get(level, 1.0)
        if not made.held_out and self._chance.random() < 0.3:
            self._engine.opened(user_id=user, experiment_id=made.id)
        if self._chance.random() < _BASE * factor:
            after = int(self._chance.exponential(5 * HOUR))
            heapq.heappush(self._back, (at + 1 + after, user, self._goals[user]))

    def _come_back(self) -> None:
        now, events = self._engine.clock.now(), []
        while self._back and self._back[0][0] <= now:
            at, user, goal = heapq.heappop(self._back)
            events.append(amplitude_event(user, iso(Instant(at)), goal))
        if events:
            self._engine.events(*events)
