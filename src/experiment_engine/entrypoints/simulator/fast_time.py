"""The demo's time and chance: a clock that is set, or runs fast, and ids that follow it."""

import random
import time
from hashlib import blake2b

from experiment_engine.adapters.system.chance import SystemChance
from experiment_engine.domain.identifiers import ExperimentId
from experiment_engine.domain.moments import Instant

_COUNTED = 1 << 74


class FastClock:
    """Stands where it was set, until it is started; then it runs so many times as fast."""

    def __init__(self, at: Instant) -> None:
        """Stand still at a moment."""
        self._at, self._since, self._speed = at, 0.0, 0.0

    def now(self) -> Instant:
        """Return the city's present, UTC."""
        passed = (time.monotonic() - self._since) * 1_000 * self._speed if self._speed else 0
        return Instant(self._at + int(passed))

    def set(self, at: Instant) -> None:
        """Stand still at another moment."""
        self._at, self._speed = at, 0.0

    def start(self, speed: float) -> None:
        """Run on from where it stands."""
        self._since, self._speed = time.monotonic(), speed


class SeededChance(SystemChance):
    """Seeds that are the same every time, and ids of the city's time instead of the machine's."""

    def __init__(self, seed: int) -> None:
        """Start at the beginning."""
        super().__init__()
        self._generator = random.Random(seed)  # noqa: S311 - not for secrets
        self._counted = 0

    def experiment_id(self, at: Instant) -> ExperimentId:
        """Return a UUIDv7 of the moment; within one they sort by when they were made."""
        self._counted += 1
        tail = int.from_bytes(blake2b(b"%d" % self._counted, digest_size=5).digest())
        number = (self._counted << 40 | tail) % _COUNTED
        high, low = number >> 62, number & ((1 << 62) - 1)
        value = at << 80 | 7 << 76 | (high & 0xFFF) << 64 | 2 << 62 | low
        text = f"{value:032x}"
        parts = (text[:8], text[8:12], text[12:16], text[16:20], text[20:])
        return ExperimentId("-".join(parts))
