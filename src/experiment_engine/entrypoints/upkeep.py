"""What goes on beside taking in and delivering: learning, measuring, and keeping house.

It runs on a thread of its own in every serving process, because fitting a model can take seconds
and nothing that delivers may wait for it. Of several processes one does each piece of work.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import structlog

from experiment_engine.domain.errors import StorageUnavailable

log = structlog.get_logger()

_TURN = 0.25  # seconds
BEAT_EVERY = 15.0  # seconds
LEARNS_EVERY = 0.5
WATCHES_EVERY = 60.0
_SOON = 0.5  # where a step said that there is more to do


class KeptEngine(Protocol):
    """What upkeep needs of the engine: small steps, each of which says if there is more to do."""

    def beat(self, kind: str) -> None:
        """Tell the others that this process lives."""

    def learn(self) -> None:
        """Refresh the policies' snapshots, or go on with those of another process."""

    def measure(self) -> bool:
        """Add up what has matured."""

    def watch(self) -> bool:
        """Listen for sources that fall silent."""

    def tidy(self) -> bool:
        """Delete what is past its retention, and fold old counters."""


@dataclass
class Duty:
    """One piece of work, and when it is next done (on a clock that is never set)."""

    name: str
    step: Callable[[], bool | None]
    every: float  # seconds
    next_at: float = field(default=0.0)

    def do(self, now: float) -> None:
        """Go one step if it is time; what fails is tried again when it is next due."""
        if now < self.next_at:
            return
        self.next_at = now + self.every
        try:
            if self.step():
                self.next_at = now + _SOON
        except StorageUnavailable:
            return  # logged where it happened
        except Exception:
            log.exception("upkeep_failed", duty=self.name)


class Upkeep:
    """Does the engine's duties one after another until it is stopped."""

    def __init__(
        self,
        engine: KeptEngine,
        kind: str = "serve",
        *,
        learns_every: float = LEARNS_EVERY,
        more: Sequence[Duty] = (),
    ) -> None:
        """Prepare for a kind of process; nothing is done before `start`."""
        self._duties = (
            *more,
            Duty("beat", partial(engine.beat, kind), BEAT_EVERY),
            Duty("learn", engine.learn, learns_every),
            Duty("measure", engine.measure, 15.0),
            Duty("watch", engine.watch, WATCHES_EVERY),
            Duty("tidy", engine.tidy, 300.0),
        )
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End before the database is closed."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(_TURN):
            for duty in self._duties:
                duty.do(time.monotonic())
