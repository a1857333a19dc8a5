"""Every eligible combo alike."""

from collections.abc import Sequence

import numpy as np

from experiment_engine.domain.bandit.statistics import Floats, Statistics
from experiment_engine.domain.cohorts.cohort import Cohort


class Uniform:
    """The even split: no learning, and the baseline of every comparison."""

    def __init__(self, cohort: Cohort) -> None:
        """Take no options; the cohort is not needed."""
        del cohort

    def propensities(self, statistics: Statistics, eligible: Sequence[int]) -> Floats:
        """Return 1 / n for each of n eligible combos."""
        del statistics
        return np.full(len(eligible), 1.0 / len(eligible))
