"""One regression over levels, pairs and context: a send teaches about all that shares a level."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import log

import numpy as np

from experiment_engine.domain.bandit.arms import Arms, Belief
from experiment_engine.domain.bandit.cells import Cells
from experiment_engine.domain.bandit.context import Context
from experiment_engine.domain.bandit.design import DELAY, Design, Scales
from experiment_engine.domain.bandit.policy import Arrays
from experiment_engine.domain.bandit.posterior_draws import DRAWS, FLOOR, best_shares
from experiment_engine.domain.bandit.regression import Posterior, Rows, fit
from experiment_engine.domain.bandit.statistics import Floats, Integers

SCALE = 0.35

_REMEMBERED = 64_000_000  # bytes


class FactorialThompson:
    """Thompson sampling on a Bayesian logistic regression.

    log odds = intercept + levels + context + context x levels (+ pairs of levels, once the
    evidence prefers the model that has them). Scott (2010) and Hill et al. (2017) describe the
    design, Chapelle and Li (2011) the Laplace approximation and its scaling.
    """

    uses_context = True

    def __init__(self, arms: Arms, belief: Belief, options: Mapping[str, float]) -> None:
        """Read `floor`, `posterior_scale`, `draws` and the prior's scales from the options."""
        self._arms, self._belief = arms, belief
        self._floor = float(options.get("floor", FLOOR))
        self._scale = float(options.get("posterior_scale", SCALE))
        self._draws = int(options.get("draws", DRAWS))
        usual = Scales()
        self._scales = Scales(
            main=options.get("main_scale", usual.main),
            pair=options.get("pair_scale", usual.pair),
            context=options.get("context_scale", usual.context),
            cross=options.get("cross_scale", usual.cross),
        )
        self._designs: dict[tuple[tuple[int, ...], bool], Design] = {}

    def fit(self, cells: Cells, seed: int) -> "FactorialModel":
        """Return draws of the coefficients, with pairs if the evidence is for them."""
        merged = cells.merged()
        plain = self._posterior(merged, pairs=False)
        # The columns of pairs are the last ones, and start from nothing.
        paired = self._posterior(merged, pairs=True, start=plain.mean)
        pairs = paired.log_evidence > plain.log_evidence
        draws = (paired if pairs else plain).draws(self._draws, self._scale, seed)
        return FactorialModel(self._design(cells.sizes, pairs=pairs), draws, self._floor)

    def load(self, arrays: Arrays) -> "FactorialModel":
        """Return the model of these draws."""
        sizes = tuple(int(size) for size in arrays["sizes"])
        design = self._design(sizes, pairs=bool(arrays["pairs"]))
        return FactorialModel(design, arrays["draws"], self._floor)

    def _design(self, sizes: tuple[int, ...], *, pairs: bool) -> Design:
        if (sizes, pairs) not in self._designs:
            self._designs[sizes, pairs] = Design(self._arms, sizes, self._scales, pairs)
        return self._designs[sizes, pairs]

    def _posterior(self, cells: Cells, *, pairs: bool, start: Floats | None = None) -> Posterior:
        design = self._design(cells.sizes, pairs=pairs)
        rate = self._belief.rate
        counts = (cells.contexts, cells.arms, cells.postponed, cells.trials, cells.successes)
        mean = design.mean(log(rate / (1 - rate)), self._belief.leans)
        if start is not None:
            start = np.concatenate([start, mean[len(start) :]])
        return fit(Rows(design, *counts), mean, start)


@dataclass(frozen=True)
class FactorialModel:
    """Draws of the coefficients; shape (draws, d)."""

    design: Design
    draws: Floats
    floor: float

    def propensities(
        self, context: Context, eligible: Sequence[int] | Integers, *, postponed: bool = False
    ) -> Floats:
        """Return the share of draws under which each eligible combo is best, with the floor."""
        scores = self._added(None, 0, postponed).copy()
        for feature, level in enumerate(context):
            scores += self._added(feature, level, postponed)
        return best_shares(scores, eligible, self.floor)

    def arrays(self) -> Arrays:
        """Return the draws, and what tells which column is which."""
        return {
            "draws": self.draws,
            "sizes": np.array(self.design.sizes, np.int64),
            "pairs": np.array(self.design.pairs),
        }

    @cached_property
    def _added(self) -> Callable[[int | None, int, bool], Floats]:
        """Return `_scores`, remembered for as many levels as take up 64 MB."""
        size = self.draws.itemsize * len(self.draws) * len(self.design.arms)
        return lru_cache(maxsize=max(8, _REMEMBERED // size))(self._scores)

    def _scores(self, feature: int | None, level: int, postponed: bool) -> Floats:  # noqa: FBT001
        """Return what a level of a feature (None: arms alone) adds to each score, (draws, K).

        A decision adds up a few of these tables. What a feature adds by itself is left out: it
        is the same for every arm.
        """
        design, features = self.design, () if feature is None else (feature,)
        table = np.zeros((len(self.draws), *design.shape(design.dimensions)))
        for group in design.by_features[features]:
            if group.factors != features:
                spread = design.spread(self.draws, group, features)
                table += spread if feature is None else spread[:, level]
        late = design.arms.sizes[DELAY]
        kept = table.take([late] * late if postponed else range(late), axis=1 + DELAY)
        return kept.reshape(len(self.draws), len(design.arms))
