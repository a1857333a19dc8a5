"""What every policy is: a function from statistics to a distribution over eligible combos."""

from collections.abc import Sequence
from typing import Protocol

from experiment_engine.domain.bandit.statistics import Floats, Statistics


class Policy(Protocol):
    """Gives each eligible combo a probability; drawing happens elsewhere, once."""

    def propensities(self, statistics: Statistics, eligible: Sequence[int]) -> Floats:
        """Return one probability for each eligible combo, in its order; they sum to one.

        `eligible` holds places in the cohort's space and is not empty. Shape: (len(eligible),).
        """
