"""Which features an arm in a context has: one-hot groups of levels, pairs and crosses."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from math import prod

import numpy as np
from numpy.typing import NDArray

from experiment_engine.domain.bandit.arms import Arms
from experiment_engine.domain.bandit.statistics import Floats, Integers

DELAY = 0  # the dimension that has a level more: sent after the quiet hours


@dataclass(frozen=True)
class Scales:
    """How far effects are expected to differ from none: standard deviations of log odds."""

    intercept: float = 1.0
    main: float = 0.30
    pair: float = 0.15
    context: float = 0.30
    cross: float = 0.10


@dataclass(frozen=True)
class Group:
    """One block of columns: one column for each combination of the levels of its factors.

    A factor is a dimension (0 to D-1) or a feature of the context (D and up).
    """

    factors: tuple[int, ...]
    shape: tuple[int, ...]
    start: int  # its first column
    scale: float

    @property
    def size(self) -> int:
        """Return how many columns it has."""
        return prod(self.shape)

    @property
    def columns(self) -> slice:
        """Return its columns."""
        return slice(self.start, self.start + self.size)

    def code(self, values: Integers) -> Integers:
        """Return which of its columns each row has; `values` has a column a factor.

        Shapes: (n, D + G) to (n,).
        """
        code = np.zeros(len(values), np.int64)
        for factor, size in zip(self.factors, self.shape, strict=True):
            code = code * size + values[:, factor]
        return code


@dataclass(frozen=True)
class Design:
    """The columns of the regression: intercept, levels, pairs of levels, context, crosses.

    No level is left out as a reference: the prior tells the effects apart.
    """

    arms: Arms
    sizes: tuple[int, ...]  # of the context's features
    scales: Scales
    pairs: bool

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """Return the blocks of columns, in order."""
        groups: list[Group] = []
        start = 0
        for factors, scale in self._blocks():
            shape = tuple(self._levels_of[factor] for factor in factors)
            groups.append(Group(factors, shape, start, scale))
            start += groups[-1].size
        return tuple(groups)

    @property
    def width(self) -> int:
        """Return the number of columns, d."""
        last = self.groups[-1]
        return last.start + last.size

    @cached_property
    def precision(self) -> Floats:
        """Return the prior's precision of each column; shape (d,)."""
        return np.concatenate([np.full(g.size, g.scale**-2) for g in self.groups])

    def mean(self, intercept: float, leans: Sequence[Floats]) -> Floats:
        """Return the prior's mean: the intercept, and for levels the logarithm of their lean."""
        mean = np.zeros(self.width)
        mean[0] = intercept
        for group in self.groups:
            if len(group.factors) == 1 and group.factors[0] < len(leans):
                lean = leans[group.factors[0]]
                mean[group.start : group.start + len(lean)] = np.log(lean)
        return mean

    def codes(
        self, arms: Integers, postponed: NDArray[np.bool_], contexts: Integers
    ) -> list[Integers]:
        """Return for each group which of its columns each of n rows has; shapes (n,)."""
        levels = self.arms.levels[arms]
        levels[:, DELAY] = np.where(postponed, self.arms.sizes[DELAY], levels[:, DELAY])
        values = np.concatenate([levels, contexts], axis=1)
        return [group.code(values) for group in self.groups]

    @cached_property
    def _levels_of(self) -> tuple[int, ...]:
        dimensions = list(self.arms.sizes)
        dimensions[DELAY] += 1
        return (*dimensions, *self.sizes)

    def _blocks(self) -> Iterator[tuple[tuple[int, ...], float]]:
        number = len(self.arms.sizes)
        dimensions, features = range(number), range(number, number + len(self.sizes))
        yield (), self.scales.intercept
        for dimension in dimensions:
            yield (dimension,), self.scales.main
        for feature in features:
            yield (feature,), self.scales.context
        for feature in features:
            for dimension in dimensions:
                yield (feature, dimension), self.scales.cross
        if self.pairs:
            for pair in combinations(dimensions, 2):
                yield pair, self.scales.pair
