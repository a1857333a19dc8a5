"""Mostly the best combo so far, sometimes any."""

from collections.abc import Sequence

import numpy as np

from experiment_engine.domain.bandit.statistics import Floats, Statistics
from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.cohorts.combo import DIMENSIONS

_TIE = 1e-12  # relative: rates closer than this are one rate


class EpsilonGreedy:
    """Share 1 - epsilon goes to the best smoothed rate, epsilon evenly to all eligible combos.

    A raw rate would call a combo best after one lucky send and never try the unseen; so every
    rate is drawn towards the cohort's own mean, as if each combo had been sent `prior.weight`
    times at that mean. Combos that tie, as all do before any data, share the best's part evenly.
    The prior's lean makes the cohort's default strategy lead until the data say otherwise.
    """

    def __init__(self, cohort: Cohort) -> None:
        """Read `epsilon` (default 0.2) from the policy's options."""
        self._epsilon = float(cohort.policy.options.get("epsilon", 0.2))
        self._prior = cohort.prior
        self._lean = np.ones(len(cohort.space))
        for combo in cohort.space.combos:
            levels = combo.levels()
            for dimension in DIMENSIONS:
                lean = self._prior.lean.get(dimension, {})
                self._lean[combo.index] *= lean.get(levels[dimension], 1.0)

    def propensities(self, statistics: Statistics, eligible: Sequence[int]) -> Floats:
        """Return epsilon / n each, and the rest evenly over the best smoothed rates."""
        rates = self.rates(statistics)[list(eligible)]
        best = rates >= rates.max() * (1 - _TIE)
        chances = np.full(len(eligible), self._epsilon / len(eligible))
        chances[best] += (1 - self._epsilon) / best.sum()
        return chances

    def rates(self, statistics: Statistics) -> Floats:
        """Return the smoothed rate of every combo: the mean of a Beta posterior, shape (K,).

        The prior of combo a is Beta with mean `lean_a * mean` and `weight` pseudo-trials, where
        `mean` is the cohort's pooled rate, itself drawn towards the configured one in the same
        way.
        """
        weight = self._prior.weight
        trials, successes = statistics.trials.sum(), statistics.successes.sum()
        mean = (successes + weight * self._prior.rate) / (trials + weight)
        smoothed = statistics.successes + weight * self._lean * mean
        return np.asarray(smoothed / (statistics.trials + weight), dtype=np.float64)
