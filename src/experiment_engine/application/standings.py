"""How each cohort's combos stand, drawn anew only when their counts have changed noticeably."""

import numpy as np

from experiment_engine.domain.bandit.statistics import Floats
from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.identifiers import CohortName
from experiment_engine.domain.measurement.standing import Standing, standing


class Standings:
    """Keeps the last draws of each cohort; of two threads that draw at once, one is kept."""

    def __init__(self) -> None:
        """Start with nothing."""
        self._last: dict[CohortName, tuple[Floats, Floats, Standing]] = {}

    def of(self, cohort: Cohort, successes: Floats, trials: Floats) -> Standing:
        """Return how the combos stand: their counts, shape (K,), or those of a moment ago."""
        last = self._last.get(cohort.name)
        if last is None or not (
            _is_near(trials, last[0], cohort.prior.weight) and _is_near(successes, last[1], 10.0)
        ):
            drawn = standing(
                successes,
                trials,
                prior_rate=cohort.prior.rate,
                prior_weight=cohort.prior.weight,
            )
            last = self._last[cohort.name] = (trials, successes, drawn)
        return last[2]


def _is_near(now: Floats, then: Floats, base: float) -> bool:
    """Say whether every count is within a hundredth of what it was."""
    return bool((np.abs(now - then) <= (then + base) / 100).all())
