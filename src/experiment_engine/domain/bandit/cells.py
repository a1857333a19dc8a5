"""What a policy is fitted to: weighed counts of arms in contexts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiment_engine.domain.bandit.statistics import Floats, Integers, Statistics, sums_by


@dataclass(frozen=True, slots=True)
class Cells:
    """Sparse counts: n rows of a context, an arm and what came of it.

    Counts may be fractions: a trial counts as much as it has had time to convert.
    """

    contexts: Integers  # (n, G) level of each feature
    arms: Integers  # (n,) places in the space
    postponed: NDArray[np.bool_]  # (n,) sent after the quiet hours, whatever the arm's delay
    trials: Floats  # (n,)
    successes: Floats  # (n,)
    sizes: tuple[int, ...] = ()  # levels of each of the G features

    @classmethod
    def none(cls, sizes: tuple[int, ...] = ()) -> "Cells":
        """Return no counts at all."""
        nothing = np.zeros(0)
        return cls(
            np.zeros((0, len(sizes)), np.int64),
            np.zeros(0, np.int64),
            np.zeros(0, np.bool_),
            nothing,
            nothing,
            sizes,
        )

    @classmethod
    def of(cls, statistics: Statistics) -> "Cells":
        """Return sums per arm as cells without a context."""
        number = len(statistics.trials)
        return cls(
            np.zeros((number, 0), np.int64),
            np.arange(number),
            np.zeros(number, np.bool_),
            statistics.trials,
            statistics.successes,
        )

    @classmethod
    def together(cls, parts: Sequence["Cells"]) -> "Cells":
        """Return the rows of all parts, of which there is at least one."""
        return cls(
            np.concatenate([part.contexts for part in parts]),
            np.concatenate([part.arms for part in parts]),
            np.concatenate([part.postponed for part in parts]),
            np.concatenate([part.trials for part in parts]),
            np.concatenate([part.successes for part in parts]),
            parts[0].sizes,
        )

    def by_arm(self, number: int) -> Statistics:
        """Return the sums of each of `number` arms, without what was postponed."""
        kept = ~self.postponed
        arms = self.arms[kept]
        return Statistics(
            sums_by(arms, self.trials[kept], number),
            sums_by(arms, self.successes[kept], number),
        )

    def merged(self) -> "Cells":
        """Return one row for each context and arm, in the order of their keys.

        The result depends on what is counted alone, not on the order or number of the rows, to
        the last bit: rows are put in order before fractions are added.
        """
        columns = (*self.contexts.T, self.arms, self.postponed.astype(np.int64))
        key = np.zeros(len(self.arms), np.int64)
        for column in columns:
            key = key * (int(column.max(initial=0)) + 1) + column
        order = np.lexsort([self.successes, self.trials, key])
        begins = np.diff(key[order], prepend=-1) > 0
        first, place = order[begins], np.cumsum(begins) - 1
        return Cells(
            self.contexts[first],
            self.arms[first],
            self.postponed[first],
            sums_by(place, self.trials[order], len(first)),
            sums_by(place, self.successes[order], len(first)),
            self.sizes,
        )
