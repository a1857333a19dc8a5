"""A policy with its own counts, for simulations and for those who want to measure it."""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import ArrayLike

from experiment_engine.domain.bandit.cells import Cells
from experiment_engine.domain.bandit.policy import Model, Policy
from experiment_engine.domain.bandit.statistics import Floats, Integers

GROWTH = 0.01  # it is fitted anew when its counts have grown by this share


def seed_of(cells: Cells, seed: int) -> int:
    """Return the seed of a fit: the same for the same counts, another one for every other.

    Every snapshot of the engine draws anew; one seed for all would keep the same mistakes.
    """
    described = f"{seed}|{cells.trials.sum()}|{cells.successes.sum()}"
    return int.from_bytes(blake2b(described.encode(), digest_size=8).digest())


class Learner:
    """Learns from batches of contexts, arms and rewards; see `policies.build`.

    Everything is refused with a ValueError, before anything changes, if a level or an arm does
    not exist or columns differ in length. Policies without a context take any.
    """

    def __init__(
        self,
        policy: Policy,
        arms: int,
        context_levels: Sequence[int],
        *,
        seed: int = 0,
        growth: float = GROWTH,
    ) -> None:
        """Start without any counts; `arms` is K, `context_levels` the size of each feature."""
        self._policy, self._number = policy, arms
        self._sizes = tuple(context_levels) if policy.uses_context else ()
        self._cells = Cells.none(self._sizes)
        self._waiting: list[Cells] = []  # added since the cells were merged
        self._seed, self._growth = seed, growth
        self._known, self._fitted_on = 0.0, -1.0
        self._model: Model | None = None

    def propensities(self, contexts: ArrayLike) -> Floats:
        """Return each arm's probability in each context; shapes (n, G) to (n, K)."""
        rows = self._contexts(contexts)
        if not len(rows):
            return np.zeros((0, self._number))
        different, places = np.unique(rows, axis=0, return_inverse=True)
        model, every = self._fitted(), np.arange(self._number)
        table = [model.propensities(tuple(levels), every) for levels in different.tolist()]
        return np.stack(table)[places.reshape(-1)]

    def choose(self, contexts: ArrayLike, rng: np.random.Generator) -> tuple[Integers, Floats]:
        """Draw an arm for each context; return the arms and the probability each had, (n,)."""
        shares = self.propensities(contexts)
        bounds = shares.cumsum(axis=1)
        points = rng.random(len(shares)) * bounds[:, -1]
        arms = np.minimum((bounds <= points[:, None]).sum(axis=1), self._number - 1)
        return arms, shares[np.arange(len(arms)), arms]

    def update(
        self,
        contexts: ArrayLike,
        arms: ArrayLike,
        rewards: ArrayLike,
        weights: ArrayLike | None = None,
    ) -> None:
        """Add trials: rewards are 0 or 1 (or shares of it), weights count each trial (n,).

        A negative weight takes back what was added.
        """
        levels, places = self._contexts(contexts), np.asarray(arms, np.int64)
        rewards = np.asarray(rewards, np.float64)
        counted = np.ones_like(rewards) if weights is None else np.asarray(weights, np.float64)
        if not len(levels) == len(places) == len(rewards) == len(counted):
            raise ValueError("contexts, arms, rewards and weights differ in length")
        if len(places) and not 0 <= places.min() <= places.max() < self._number:
            raise ValueError(f"arms are places from 0 to {self._number - 1}")
        in_time = np.zeros(len(places), np.bool_)
        self._waiting.append(
            Cells(levels, places, in_time, counted, rewards * counted, self._sizes)
        )
        self._known += float(counted.sum())

    def discount(self, factor: float) -> None:
        """Let everything known so far count only this much."""
        known = self._merged()
        self._cells = Cells(
            known.contexts,
            known.arms,
            known.postponed,
            known.trials * factor,
            known.successes * factor,
            self._sizes,
        )
        self._known, self._fitted_on = self._known * factor, -1.0

    def cells(self) -> Cells:
        """Return the counts that there are."""
        known = self._merged()
        there = (known.trials > 0) | (known.successes > 0)
        return Cells(
            known.contexts[there],
            known.arms[there],
            known.postponed[there],
            np.maximum(known.trials, known.successes)[there],
            known.successes[there],
            self._sizes,
        )

    def _merged(self) -> Cells:
        if self._waiting:
            self._cells = Cells.together([self._cells, *self._waiting]).merged()
            self._waiting.clear()
        return self._cells

    def _contexts(self, contexts: ArrayLike) -> Integers:
        """Return the levels that the policy looks at, which must be there."""
        rows = np.asarray(contexts, np.int64)
        if not self._policy.uses_context:
            return np.zeros((len(rows), 0), np.int64)
        if rows.ndim != 2 or rows.shape[1] != len(self._sizes):  # noqa: PLR2004 - (n, G)
            raise ValueError(f"contexts have a row each and {len(self._sizes)} columns")
        if ((rows < 0) | (rows >= self._sizes)).any():
            raise ValueError(f"levels of a context are below {self._sizes}, and not below 0")
        return rows

    def _fitted(self) -> Model:
        grown = abs(self._known - self._fitted_on) > self._growth * self._fitted_on
        if self._model is None or grown:
            cells = self.cells()
            self._model = self._policy.fit(cells, seed_of(cells, self._seed))
            self._fitted_on = self._known
        return self._model
