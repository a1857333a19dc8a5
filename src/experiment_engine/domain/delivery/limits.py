"""How often one user may be written to."""

from collections.abc import Iterable
from dataclasses import dataclass

from experiment_engine.domain.moments import Duration, Instant


@dataclass(frozen=True, slots=True)
class FrequencyCap:
    """At most `messages` in any window of `per`, and `min_gap` between any two."""

    messages: int
    per: Duration
    min_gap: Duration = Duration(0)

    def allows(self, at: Instant, taken: Iterable[Instant]) -> bool:
        """Say whether one more message may go out at `at`, given when others took their place."""
        recent = 0
        for moment in taken:
            if abs(at - moment) < self.min_gap:
                return False
            if moment > at - self.per:
                recent += 1
        return recent < self.messages
