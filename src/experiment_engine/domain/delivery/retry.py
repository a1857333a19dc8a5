"""When a message that was provably not taken is tried again, and when a channel rests."""

from dataclasses import dataclass

from experiment_engine.domain.moments import MINUTE, SECOND, Duration, Instant

_FIRST = Duration(2 * SECOND)
_LONGEST = Duration(5 * MINUTE)
_JITTER = 0.5

REFUSALS_UNTIL_FAILING = 20  # definite refusals in a row, after which a channel rests (R9)
FAILING_FOR = Duration(5 * MINUTE)


def next_attempt(
    now: Instant, attempts: int, jitter: float, retry_after: Duration | None = None
) -> Instant:
    """Return when to try again: 2, 4, 8 … s up to 5 min, plus up to half of it by chance.

    What the provider asks for (`Retry-After`) is a lower bound. `jitter` is in [0, 1).
    """
    wait = min(_LONGEST, _FIRST * 2 ** min(attempts - 1, 16))
    wait = Duration(int(wait * (1 + _JITTER * jitter)))
    return Instant(now + max(wait, retry_after or 0))


@dataclass
class Breaker:
    """Keeps calls from a provider that does not answer, and tries it again with single probes.

    Opens after `trouble_limit` calls in a row that were not accepted for a reason that lies with
    the provider or the way to it, or after 20 definite refusals in a row.
    """

    trouble_limit: int = 5
    _trouble: int = 0
    _refusals: int = 0
    _probe_at: Instant | None = None
    _wait: Duration = Duration(5 * SECOND)

    @property
    def is_open(self) -> bool:
        """Say whether only probes are let through."""
        return self._probe_at is not None

    def allows(self, now: Instant, free: int) -> int:
        """Return how many of the free calls may be made now."""
        if self._probe_at is None:
            return free
        return min(1, free) if now >= self._probe_at else 0

    def probing(self, now: Instant) -> None:
        """Note that a probe is on its way: the next one waits."""
        if self._probe_at is not None:
            self._probe_at = Instant(now + self._wait)

    def accepted(self) -> None:
        """Note that the provider took a call."""
        self._trouble = self._refusals = 0
        self._probe_at, self._wait = None, Duration(5 * SECOND)

    def refused(self, now: Instant) -> None:
        """Note a definite refusal of a message: the provider is there."""
        self._trouble = 0
        self._refusals += 1
        if self._refusals >= REFUSALS_UNTIL_FAILING:
            self._open(now)

    def troubled(self, now: Instant) -> None:
        """Note that the provider, or the way to it, failed."""
        self._trouble += 1
        if self._trouble >= self.trouble_limit:
            self._open(now)

    def _open(self, now: Instant) -> None:
        if self._probe_at is not None:
            self._wait = Duration(min(self._wait * 2, 30 * SECOND))
        self._probe_at = Instant(now + self._wait)
