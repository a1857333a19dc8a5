"""What a policy learns from: sums per combo that add."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Statistics:
    """Trials and successes of a cohort's combos, in the order of its space; shape (K,)."""

    trials: Floats
    successes: Floats

    @classmethod
    def none(cls, size: int) -> "Statistics":
        """Return the statistics of a cohort that has sent nothing."""
        return cls(np.zeros(size), np.zeros(size))

    def __add__(self, other: "Statistics") -> "Statistics":
        return Statistics(self.trials + other.trials, self.successes + other.successes)


def sums_by(places: Integers, values: Floats, number: int) -> Floats:
    """Return the sum of the values at each of `number` places; shape (number,)."""
    return np.bincount(places, values, minlength=number).astype(np.float64, copy=False)
