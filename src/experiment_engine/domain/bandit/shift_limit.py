"""How far a combo's share of the traffic may move in an hour, whatever the feedback says.

Forged or broken feedback can then move money and messages only slowly, while people look.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiment_engine.domain.bandit.statistics import Floats


@dataclass(frozen=True, slots=True)
class ShiftLimit:
    """What is taken from combos that rise too fast, and who gets it; shapes (K,)."""

    factors: Floats  # on what a combo gets above the floor
    base: Floats  # of those who fall too fast; sums to one, or is all zero
    floor: float  # what nobody's share goes below

    def applied(self, chances: Floats, eligible: Sequence[int]) -> Floats:
        """Return the limited probabilities of the eligible combos; none falls below the least."""
        places = np.asarray(eligible)
        floor = min(self.floor, chances.min())
        kept = floor + (chances - floor) * self.factors[places]
        receivers = self.base[places]
        if receivers.sum() <= 0:
            receivers = np.ones(len(places))
        limited = kept + (chances.sum() - kept.sum()) * receivers / receivers.sum()
        return np.asarray(limited, dtype=np.float64)


def shift_limit(before: Floats, now: Floats, floor: float, most: float) -> ShiftLimit | None:
    """Return how to keep every share within `most` of what it was; None if all are.

    `before` and `now` are shares of the traffic, each summing to one, and `floor` the least
    probability that a combo has now. Rises and falls are cut at `most`, and the larger sum of
    both is scaled down to the other.
    """
    change = now - before
    if np.abs(change).max() <= most:
        return None
    rises, falls = np.clip(change, 0, most), np.clip(-change, 0, most)
    moved = min(rises.sum(), falls.sum())
    target = before + _scaled(rises, moved) - _scaled(falls, moved)
    floor = min(floor, before.min())
    above = np.maximum(now - floor, 1e-300)
    factors = np.where(target < now, np.clip((target - floor) / above, 0, 1), 1.0)
    receivers = np.maximum(target - now, 0)
    return ShiftLimit(factors, _scaled(receivers, 1.0), float(floor))


def _scaled(parts: Floats, total: float) -> Floats:
    whole = parts.sum()
    return parts * (total / whole) if whole > 0 else parts
