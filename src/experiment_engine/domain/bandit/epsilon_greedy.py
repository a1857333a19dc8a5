"""Mostly the best combo so far, sometimes any."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiment_engine.domain.bandit.arms import Arms, Belief
from experiment_engine.domain.bandit.cells import Cells
from experiment_engine.domain.bandit.context import Context
from experiment_engine.domain.bandit.policy import Arrays
from experiment_engine.domain.bandit.statistics import Floats, Integers, Statistics

_TIE = 1e-12  # relative: rates closer than this are one rate


class EpsilonGreedy:
    """Share 1 - epsilon goes to the best smoothed rate, epsilon evenly to all eligible combos.

    A raw rate would call a combo best after one lucky send and never try the unseen; so every
    rate is drawn towards the cohort's own mean, as if each combo had been sent `prior.weight`
    times at that mean. Combos that tie, as all do before any data, share the best's part evenly.
    The prior's lean makes the cohort's default strategy lead until the data say otherwise.
    """

    uses_context = False

    def __init__(self, arms: Arms, belief: Belief, options: Mapping[str, float]) -> None:
        """Read `epsilon` (default 0.2) from the policy's options."""
        self._epsilon = float(options.get("epsilon", 0.2))
        self._arms, self._belief = arms, belief
        self._lean = belief.lean_of(arms)

    def fit(self, cells: Cells, seed: int) -> "GreedyModel":
        """Return the smoothed rates of all combos."""
        del seed
        rates = self.rates(cells.merged().by_arm(len(self._arms)))
        return GreedyModel(rates, self._epsilon)

    def load(self, arrays: Arrays) -> "GreedyModel":
        """Return the model of these rates."""
        return GreedyModel(arrays["rates"], self._epsilon)

    def rates(self, statistics: Statistics) -> Floats:
        """Return the smoothed rate of every combo: the mean of a Beta posterior, shape (K,).

        The prior of combo a is Beta with mean `lean_a * mean` and `weight` pseudo-trials, where
        `mean` is the cohort's pooled rate, itself drawn towards the configured one in the same
        way.
        """
        weight = self._belief.weight
        trials, successes = statistics.trials.sum(), statistics.successes.sum()
        mean = (successes + weight * self._belief.rate) / (trials + weight)
        smoothed = statistics.successes + weight * self._lean * mean
        return np.asarray(smoothed / (statistics.trials + weight), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class GreedyModel:
    """Smoothed rates, and how much is left to chance."""

    rates: Floats
    epsilon: float

    def propensities(
        self, context: Context, eligible: Sequence[int] | Integers, *, postponed: bool = False
    ) -> Floats:
        """Return epsilon / n each, and the rest evenly over the best smoothed rates."""
        del context, postponed
        rates = self.rates.take(eligible)
        best = rates >= rates.max() * (1 - _TIE)
        chances = np.full(len(eligible), self.epsilon / len(eligible))
        chances[best] += (1 - self.epsilon) / best.sum()
        return chances

    def arrays(self) -> Arrays:
        """Return the rates."""
        return {"rates": self.rates}
