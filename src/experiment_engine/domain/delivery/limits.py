"""How often one user may be written to, and how often an offer may be made."""

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


@dataclass(frozen=True, slots=True)
class OfferBudget:
    """At most so many messages with an offer a day, and in all; None for no limit."""

    per_day: int | None = None
    total: int | None = None

    def is_spent(self, today: int, in_all: int) -> bool:
        """Say whether no more messages may carry the offer, given how many did."""
        return (self.per_day is not None and today >= self.per_day) or (
            self.total is not None and in_all >= self.total
        )


@dataclass(frozen=True, slots=True)
class OfferUse:
    """How many messages carried an offer."""

    today: int = 0
    in_all: int = 0
