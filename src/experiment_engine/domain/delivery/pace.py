"""How fast messages may go out, over all channels and workers (GCRA)."""

from dataclasses import dataclass

from experiment_engine.domain.moments import SECOND, Instant

_MICROSECONDS = 1_000_000
_AT_ONCE = _MICROSECONDS  # the messages of one second may go out at the same moment
UNLIMITED = 1_000_000


@dataclass(frozen=True, slots=True)
class Pace:
    """The send rate: each message takes its place behind the one before.

    `free_at` is when the rate allows the next message, in microseconds since 1970.
    """

    per_second: float | None
    free_at: int

    def allowance(self, now: Instant) -> int:
        """Return how many messages may be claimed now."""
        if self.per_second is None:
            return UNLIMITED
        at, each = _micro(now), _MICROSECONDS / self.per_second
        ahead = max(0, self.free_at - at)
        return max(0, int((max(_AT_ONCE, each) - ahead) / each))

    def after(self, messages: int, now: Instant) -> int | None:
        """Return the next `free_at` when messages were claimed; None if it stays."""
        if self.per_second is None or not messages:
            return None
        return max(self.free_at, _micro(now)) + round(messages * _MICROSECONDS / self.per_second)


def _micro(now: Instant) -> int:
    return now * (_MICROSECONDS // SECOND)
