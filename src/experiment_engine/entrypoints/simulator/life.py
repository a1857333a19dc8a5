"""The demo's life: weeks of history in seconds, then on and on, in fast time.

History goes through the same use cases as everything: only who calls them is here. An hour of
the city is a step: people leave, what is due goes out, and later steps tell what came of it.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

import structlog

from experiment_engine.domain.delivery.message import Answer, Call
from experiment_engine.domain.errors import StorageUnavailable
from experiment_engine.domain.moments import DAY, HOUR, MINUTE, SECOND, Instant
from experiment_engine.engine.engine import Engine
from experiment_engine.entrypoints.simulator.city import City
from experiment_engine.entrypoints.simulator.distance import distance
from experiment_engine.entrypoints.simulator.fast_time import FastClock
from experiment_engine.entrypoints.simulator.provider import SimulatedProvider

log = structlog.get_logger()

_AT = (0, 2 * MINUTE + 5 * SECOND, 15 * MINUTE + 5 * SECOND)  # of an hour: messages go out
_CALLS = 100  # fewer than a claim looks at beyond its calls: what is left shows
_LESSONS = (1, 2, 3, 4, 5, 7, 9, 11, 14, 17, 21, 25, 30, 36)
_LIVE_STEP = 0.25  # seconds


class Life:
    """Moves the city and its engine through time."""

    def __init__(self, engine: Engine, city: City, clock: FastClock, speed: float) -> None:
        """Stand at the clock's time."""
        self._engine, self._city, self._clock = engine, city, clock
        self.speed = speed
        self.provider = SimulatedProvider(city, clock)
        self._due: list[Instant] = []  # of history's messages
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._live, name="city", daemon=True)

    def pass_history(self, since: Instant, until: Instant, tell: Callable[[float], None]) -> None:
        """Live through the time between, and tell the share of it that has passed."""
        lessons = {(since + day * DAY) // HOUR for day in _LESSONS}
        for hour in range(since, until, HOUR):
            now = Instant(hour)
            self._clock.set(now)
            self._city.leave(Instant(now - HOUR), now)
            self._due += self._take(now)
            for later in _AT:
                self._clock.set(Instant(now + later))
                self._deliver(self._clock.now())
            if now // HOUR in lessons:
                self._engine.duties.learn()
                tell((now - since) / (until - since))
        self._clock.set(until)
        self._engine.duties.learn()
        tell(1.0)

    def start(self) -> None:
        """Go on live; messages are the worker's now."""
        self._clock.start(self.speed)
        self._thread.start()

    def stop(self) -> None:
        """Stop before the database is closed."""
        self._stopping.set()
        self._thread.join()

    def truth(self) -> dict[str, Any]:
        """Return what is true of each cohort, and how far the engine is from it."""
        return distance(self._engine, self._city.truths, self._city.persons)

    def _live(self) -> None:
        last = self._clock.now()
        while not self._stopping.wait(_LIVE_STEP):
            now = self._clock.now()
            self._city.leave(last, now)
            last = now
            try:
                self._take(now)
            except StorageUnavailable:
                time.sleep(1)  # logged where it happened; who left in between is gone

    def _take(self, now: Instant) -> list[Instant]:
        """Tell the engine what happened; return when what it decided is due."""
        facts = self._city.facts(now)
        taken = self._engine.traffic.take(facts).decided.values() if facts else ()
        decided = [made for made, _ in taken]
        self._city.decided(decided)
        return [made.due_at for made in decided]

    def _deliver(self, now: Instant) -> None:
        """Send what is due, as a worker that looks only when something is."""
        waiting = [at for at in self._due if at > now]
        if len(waiting) == len(self._due) and now % HOUR:
            return
        self._due = waiting
        free = dict.fromkeys(self._engine.rules.channels, _CALLS)
        while True:
            claimed = self._engine.traffic.claim(free, ())
            if claimed.calls:
                self._engine.traffic.record([self._answered(call) for call in claimed.calls])
            if len(claimed.experiments) < _CALLS:
                return

    def _answered(self, call: Call) -> tuple[Call, Answer]:
        return call, self.provider.take(call)
