"""One arm for each combo: Beta posteriors around the cohort's pooled rate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiment_engine.domain.bandit.arms import Arms, Belief
from experiment_engine.domain.bandit.cells import Cells
from experiment_engine.domain.bandit.context import Context
from experiment_engine.domain.bandit.policy import Arrays
from experiment_engine.domain.bandit.posterior_draws import DRAWS, FLOOR, best_shares
from experiment_engine.domain.bandit.statistics import Floats, Integers

SCALE = 0.25


class Thompson:
    """Thompson sampling on independent Beta posteriors with an empirical prior.

    The prior of each combo has the cohort's pooled rate as its mean and `prior.weight` trials
    as its strength. `posterior_scale` below one narrows every posterior (by that factor in
    standard deviations): at rates of a few in a hundred full posteriors explore for too long
    (Chapelle and Li 2011).
    """

    uses_context = False

    def __init__(self, arms: Arms, belief: Belief, options: Mapping[str, float]) -> None:
        """Read `floor`, `posterior_scale` and `draws` from the policy's options."""
        self._arms, self._belief = arms, belief
        self._floor = float(options.get("floor", FLOOR))
        self._scale = float(options.get("posterior_scale", SCALE))
        self._draws = int(options.get("draws", DRAWS))
        self._lean = belief.lean_of(arms)

    def fit(self, cells: Cells, seed: int) -> "DrawnModel":
        """Return draws of every combo's rate."""
        statistics = cells.merged().by_arm(len(self._arms))
        weight = self._belief.weight
        trials, successes = statistics.trials.sum(), statistics.successes.sum()
        mean = (successes + weight * self._belief.rate) / (trials + weight)
        expected = np.clip(self._lean * mean, 1e-9, 1 - 1e-9)
        ahead = statistics.successes + weight * expected
        behind = np.maximum(statistics.trials - statistics.successes, 0) + weight * (1 - expected)
        narrower = self._scale**-2
        generator = np.random.default_rng(seed)
        scores = generator.beta(
            ahead * narrower, behind * narrower, (self._draws, len(self._arms))
        )
        return DrawnModel(scores, self._floor)

    def load(self, arrays: Arrays) -> "DrawnModel":
        """Return the model of these draws."""
        return DrawnModel(arrays["scores"], self._floor)


@dataclass(frozen=True, slots=True)
class DrawnModel:
    """Draws of every combo's score; shape (draws, K)."""

    scores: Floats
    floor: float

    def propensities(
        self, context: Context, eligible: Sequence[int] | Integers, *, postponed: bool = False
    ) -> Floats:
        """Return the share of draws under which each eligible combo is best, with the floor."""
        del context, postponed
        return best_shares(self.scores, eligible, self.floor)

    def arrays(self) -> Arrays:
        """Return the draws."""
        return {"scores": self.scores}
