"""One regression over levels, pairs and context: a send teaches about all that shares a level."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import log

import numpy as np
from numpy.typing import NDArray

from experiment_engine.domain.bandit.arms import Arms, Belief
from experiment_engine.domain.bandit.cells import Cells
from experiment_engine.domain.bandit.context import Context
from experiment_engine.domain.bandit.design import DELAY, Design, Scales
from experiment_engine.domain.bandit.policy import Arrays
from experiment_engine.domain.bandit.posterior_draws import DRAWS, FLOOR, best_shares
from experiment_engine.domain.bandit.regression import Posterior, Rows, fit
from experiment_engine.domain.bandit.statistics import Floats

SCALE = 0.5


class FactorialThompson:
    """Thompson sampling on a Bayesian logistic regression.

    log odds = intercept + levels + context + context x levels (+ pairs of levels, once the
    evidence prefers the model that has them). Scott (2010) and Hill et al. (2017) describe the
    design, Chapelle and Li (2011) the Laplace approximation and its scaling.
    """

    uses_context = True

    def __init__(self, arms: Arms, belief: Belief, options: Mapping[str, float]) -> None:
        """Read `floor`, `posterior_scale` and the prior's scales from the policy's options."""
        self._arms, self._belief = arms, belief
        self._floor = float(options.get("floor", FLOOR))
        self._scale = float(options.get("posterior_scale", SCALE))
        usual = Scales()
        self._scales = Scales(
            main=options.get("main_scale", usual.main),
            pair=options.get("pair_scale", usual.pair),
            context=options.get("context_scale", usual.context),
            cross=options.get("cross_scale", usual.cross),
        )

    def fit(self, cells: Cells, seed: int) -> "FactorialModel":
        """Return draws of the coefficients, with pairs if the evidence is for them."""
        merged = cells.merged()
        candidates = [self._design(cells.sizes, pairs=pairs) for pairs in (False, True)]
        fitted = [(self._posterior(design, merged), design) for design in candidates]
        posterior, design = max(fitted, key=lambda pair: pair[0].log_evidence)
        return FactorialModel(design, posterior.draws(DRAWS, self._scale, seed), self._floor)

    def load(self, arrays: Arrays) -> "FactorialModel":
        """Return the model of these draws."""
        sizes = tuple(int(size) for size in arrays["sizes"])
        design = self._design(sizes, pairs=bool(arrays["pairs"]))
        return FactorialModel(design, arrays["draws"], self._floor)

    def _design(self, sizes: tuple[int, ...], *, pairs: bool) -> Design:
        return Design(self._arms, sizes, self._scales, pairs)

    def _posterior(self, design: Design, cells: Cells) -> Posterior:
        codes = design.codes(cells.arms, cells.postponed, cells.contexts)
        rate = self._belief.rate
        mean = design.mean(log(rate / (1 - rate)), self._belief.leans)
        return fit(design, Rows(codes, cells.trials, cells.successes), mean)


@dataclass(frozen=True)
class FactorialModel:
    """Draws of the coefficients; shape (draws, d)."""

    design: Design
    draws: Floats
    floor: float

    def propensities(
        self, context: Context, eligible: Sequence[int], *, postponed: bool = False
    ) -> Floats:
        """Return the share of draws under which each eligible combo is best, with the floor."""
        scores = self._late if postponed else self._in_time
        total = scores.of_arms
        for feature, level in enumerate(context):
            total = total + scores.of_context[feature][level]
        return best_shares(total, eligible, self.floor)

    def arrays(self) -> Arrays:
        """Return the draws, and what tells which column is which."""
        return {
            "draws": self.draws,
            "sizes": np.array(self.design.sizes, np.int64),
            "pairs": np.array(self.design.pairs),
        }

    @cached_property
    def _in_time(self) -> "_Scores":
        return _Scores.of(self.design, self.draws, postponed=False)

    @cached_property
    def _late(self) -> "_Scores":
        return _Scores.of(self.design, self.draws, postponed=True)


@dataclass(frozen=True, slots=True)
class _Scores:
    """What arms and contexts add to each draw's score; a decision is a sum of a few tables."""

    of_arms: NDArray[np.float32]  # (draws, K)
    of_context: Sequence[NDArray[np.float32]]  # a feature: (levels, draws, K)

    @classmethod
    def of(cls, design: Design, draws: Floats, *, postponed: bool) -> "_Scores":
        """Add up the columns of every arm; single precision tells arms apart well enough."""
        dimensions, number = len(design.arms.sizes), len(design.arms)
        values = np.zeros((number, dimensions + len(design.sizes)), np.int64)
        values[:, :dimensions] = design.arms.levels
        if postponed:
            values[:, DELAY] = design.arms.sizes[DELAY]
        of_arms = np.zeros((len(draws), number))
        of_context = [np.zeros((size, len(draws), number)) for size in design.sizes]
        for group in design.groups:
            coefficients = draws[:, group.columns]
            features = [factor for factor in group.factors if factor >= dimensions]
            if not features:
                of_arms += coefficients[:, group.code(values)]
            elif len(group.factors) > 1:  # a feature by itself adds the same to every arm
                (feature,) = features
                for level in range(design.sizes[feature - dimensions]):
                    values[:, feature] = level
                    of_context[feature - dimensions][level] += coefficients[:, group.code(values)]
        return cls(of_arms.astype(np.float32), [t.astype(np.float32) for t in of_context])
