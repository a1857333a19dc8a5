"""Every eligible combo alike."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiment_engine.domain.bandit.arms import Arms, Belief
from experiment_engine.domain.bandit.cells import Cells
from experiment_engine.domain.bandit.context import Context
from experiment_engine.domain.bandit.policy import Arrays
from experiment_engine.domain.bandit.statistics import Floats, Integers


class Uniform:
    """The even split: no learning, and the baseline of every comparison; its own model."""

    uses_context = False

    def __init__(self, arms: Arms, belief: Belief, options: Mapping[str, float]) -> None:
        """Take no options; neither arms nor belief are needed."""
        del arms, belief, options

    def fit(self, cells: Cells, seed: int) -> "Uniform":
        """Return itself: there is nothing to learn."""
        del cells, seed
        return self

    def load(self, arrays: Arrays) -> "Uniform":
        """Return itself."""
        del arrays
        return self

    def arrays(self) -> Arrays:
        """Return nothing."""
        return {}

    def propensities(
        self, context: Context, eligible: Sequence[int] | Integers, *, postponed: bool = False
    ) -> Floats:
        """Return 1 / n for each of n eligible combos."""
        del context, postponed
        return np.full(len(eligible), 1.0 / len(eligible))
