"""How sure we are of a rate."""

from dataclasses import dataclass
from math import sqrt

Z_95 = 1.959963984540054  # the 97.5 % point of the standard normal distribution


@dataclass(frozen=True, slots=True)
class Interval:
    """A range that holds the true value with the stated confidence."""

    low: float
    high: float


def wilson_interval(successes: int, trials: int) -> Interval:
    """Return the score interval of a proportion (Wilson 1927); all of [0, 1] without trials."""
    if trials == 0:
        return Interval(0.0, 1.0)
    rate, spread = successes / trials, Z_95 * Z_95 / trials
    centre = (rate + spread / 2) / (1 + spread)
    half = Z_95 / (1 + spread) * sqrt(rate * (1 - rate) / trials + spread / (4 * trials))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return Interval(low, high)
