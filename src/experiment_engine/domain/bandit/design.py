"""Which features an arm in a context has: one-hot groups of levels, pairs and crosses."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from math import prod
from typing import NamedTuple

import numpy as np

from experiment_engine.domain.bandit.arms import Arms
from experiment_engine.domain.bandit.statistics import Floats, Integers

DELAY = 0  # the dimension that has a level more: sent after the quiet hours

Factors = tuple[int, ...]


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

    A factor is a feature of the context (0 to G-1) or a dimension (G and up), in this order.
    """

    factors: Factors
    shape: tuple[int, ...]
    start: int  # its first column
    scale: float

    @property
    def end(self) -> int:
        """Return the column after its last."""
        return self.start + prod(self.shape)

    @property
    def columns(self) -> slice:
        """Return its columns."""
        return slice(self.start, self.end)


class Meeting(NamedTuple):
    """Where groups of columns meet in a flat (d, d) matrix.

    Two groups meet once for each combination of levels of all their factors: a table over these,
    which is a table of arms by `features` summed over the axes `summed`, belongs at each row of
    `places`, shape (meetings, cells).
    """

    features: Factors
    summed: tuple[int, ...]
    places: Integers


@dataclass(frozen=True)
class Design:
    """The columns of the regression: intercept, levels, context, crosses, pairs of levels.

    No level is left out as a reference: the prior tells the effects apart.
    """

    arms: Arms
    sizes: tuple[int, ...]  # of the context's features
    scales: Scales
    pairs: bool

    @cached_property
    def levels(self) -> tuple[int, ...]:
        """Return how many levels each factor has; the delay has one more than the arms."""
        dimensions = list(self.arms.sizes)
        dimensions[DELAY] += 1
        return (*self.sizes, *dimensions)

    @cached_property
    def dimensions(self) -> Factors:
        """Return the factors that are dimensions."""
        return tuple(range(len(self.sizes), len(self.levels)))

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """Return the blocks of columns, in order."""
        groups: list[Group] = []
        start = 0
        for factors, scale in self._blocks():
            groups.append(Group(factors, self.shape(factors), start, scale))
            start = groups[-1].end
        return tuple(groups)

    @property
    def width(self) -> int:
        """Return the number of columns, d."""
        return self.groups[-1].end

    @cached_property
    def precision(self) -> Floats:
        """Return the prior's precision of each column; shape (d,)."""
        return np.concatenate([np.full(prod(g.shape), g.scale**-2) for g in self.groups])

    @cached_property
    def meetings(self) -> Sequence[Meeting]:
        """Return where groups meet in a (d, d) matrix, by the factors that they have together."""
        met: dict[Factors, list[Integers]] = {}
        for one in self.groups:
            for other in self.groups:
                factors = tuple(sorted({*one.factors, *other.factors}))
                shape = self.shape(factors)
                values = np.indices(shape).reshape(len(factors), prod(shape))
                row, column = (self._columns(group, factors, values) for group in (one, other))
                met.setdefault(factors, []).append(row * self.width + column)
        return [
            Meeting(self.features_of(factors), self.summed(factors), np.stack(places))
            for factors, places in met.items()
        ]

    @cached_property
    def by_features(self) -> Mapping[Factors, Sequence[Group]]:
        """Return the groups by the features that they are about: none, or one."""
        found: dict[Factors, list[Group]] = {}
        for group in self.groups:
            found.setdefault(self.features_of(group.factors), []).append(group)
        return found

    def features_of(self, factors: Factors) -> Factors:
        """Return which of the factors are features of the context."""
        return tuple(factor for factor in factors if factor < len(self.sizes))

    def summed(self, kept: Factors) -> tuple[int, ...]:
        """Return the axes over which a table of arms, by features, is summed for some factors."""
        over = (*self.features_of(kept), *self.dimensions)
        return tuple(axis for axis, factor in enumerate(over) if factor not in kept)

    def mean(self, intercept: float, leans: Sequence[Floats]) -> Floats:
        """Return the prior's mean: the intercept, and for levels the logarithm of their lean."""
        mean = np.zeros(self.width)
        mean[0] = intercept
        for group in self.groups:
            if len(group.factors) == 1 and group.factors[0] in self.dimensions and leans:
                lean = leans[group.factors[0] - len(self.sizes)]
                mean[group.start : group.start + len(lean)] = np.log(lean)
        return mean

    def shape(self, factors: Factors) -> tuple[int, ...]:
        """Return the shape of a table over these factors."""
        return tuple(self.levels[factor] for factor in factors)

    def spread(self, theta: Floats, group: Group, features: Factors) -> Floats:
        """Return a group's coefficients so that they add to a table over features and dimensions.

        `theta` may have draws in front: (..., d) to (..., one axis for each of the factors).
        """
        over = (*features, *self.dimensions)
        shape = [self.levels[factor] if factor in group.factors else 1 for factor in over]
        return theta[..., group.columns].reshape(*theta.shape[:-1], *shape)

    def _columns(self, group: Group, factors: Factors, values: Integers) -> Integers:
        code = np.zeros(values.shape[1], np.int64)
        for factor, size in zip(group.factors, group.shape, strict=True):
            code = code * size + values[factors.index(factor)]
        return code + group.start

    def _blocks(self) -> Iterator[tuple[Factors, float]]:
        features = range(len(self.sizes))
        yield (), self.scales.intercept
        for dimension in self.dimensions:
            yield (dimension,), self.scales.main
        for feature in features:
            yield (feature,), self.scales.context
        for feature in features:
            for dimension in self.dimensions:
                yield (feature, dimension), self.scales.cross
        if self.pairs:
            for pair in combinations(self.dimensions, 2):
                yield pair, self.scales.pair
