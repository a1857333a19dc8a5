"""The arms as a policy sees them: a full product of dimensions, and what is believed of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from experiment_engine.domain.bandit.statistics import Floats, Integers
from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.cohorts.combo import DIMENSIONS, ComboSpace


@dataclass(frozen=True)
class Arms:
    """K arms, one for each combination of levels; an arm's place is the row-major product."""

    sizes: tuple[int, ...]  # levels of each dimension

    def __len__(self) -> int:
        return int(np.prod(self.sizes))

    @cached_property
    def levels(self) -> Integers:
        """Return the level of each arm in each dimension; shape (K, D)."""
        return np.stack(np.unravel_index(np.arange(len(self)), self.sizes), axis=1)

    @classmethod
    def of(cls, space: ComboSpace) -> "Arms":
        """Return the arms of a cohort's combos."""
        return cls(tuple(len(labels) for labels in _labels(space)))


@dataclass(frozen=True)
class Belief:
    """What is believed before any data: a rate, how firmly, and which levels lead by how much."""

    rate: float = 0.02
    weight: float = 60.0  # as strong as this many trials of each arm
    leans: Sequence[Floats] = field(default=())  # of each dimension: a factor for each level

    def lean_of(self, arms: Arms) -> Floats:
        """Return the factor of each arm: the product of its levels' factors; shape (K,)."""
        lean = np.ones(len(arms))
        for dimension, factors in enumerate(self.leans):
            lean *= factors[arms.levels[:, dimension]]
        return lean

    @classmethod
    def of(cls, cohort: Cohort) -> "Belief":
        """Return what the cohort's configuration says."""
        prior = cohort.prior
        leans = [
            np.array([prior.lean.get(dimension, {}).get(label, 1.0) for label in labels])
            for dimension, labels in zip(DIMENSIONS, _labels(cohort.space), strict=True)
        ]
        return cls(prior.rate, prior.weight, leans)


def _labels(space: ComboSpace) -> list[list[str]]:
    keys = [combo.levels() for combo in space.combos]
    return [list(dict.fromkeys(key[dimension] for key in keys)) for dimension in DIMENSIONS]
