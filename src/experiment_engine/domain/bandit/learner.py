"""A policy with its own counts, for simulations and for those who want to measure it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from experiment_engine.domain.bandit.cells import Cells
from experiment_engine.domain.bandit.policy import Model, Policy
from experiment_engine.domain.bandit.statistics import Floats, Integers, sums_by

GROWTH = 0.01  # it is fitted anew when its counts have grown by this share


class Learner:
    """Learns from batches of contexts, arms and rewards; see `policies.build`."""

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
        self._trials = np.zeros((int(np.prod(self._sizes, dtype=np.int64)), arms))
        self._successes = np.zeros_like(self._trials)
        self._seed, self._growth = seed, growth
        self._fitted_on = -1.0
        self._model: Model | None = None

    def propensities(self, contexts: ArrayLike) -> Floats:
        """Return each arm's probability in each context; shapes (n, G) to (n, K)."""
        cells, places = np.unique(self._cells(contexts), return_inverse=True)
        levels = np.stack(np.unravel_index(cells, self._sizes), axis=1) if self._sizes else None
        model, every = self._fitted(), range(self._number)
        table = [
            model.propensities(() if levels is None else tuple(levels[place].tolist()), every)
            for place in range(len(cells))
        ]
        return np.stack(table)[places.reshape(-1)]

    def choose(self, contexts: ArrayLike, rng: np.random.Generator) -> tuple[Integers, Floats]:
        """Draw an arm for each context; return the arms and the probability each had, (n,)."""
        shares = self.propensities(contexts)
        bounds = shares.cumsum(axis=1)
        points = rng.random(len(shares)) * bounds[:, -1]
        arms = np.minimum((bounds < points[:, None]).sum(axis=1), self._number - 1)
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
        rewards = np.asarray(rewards, np.float64)
        counted = np.ones_like(rewards) if weights is None else np.asarray(weights, np.float64)
        codes = self._cells(contexts) * self._number + np.asarray(arms, np.int64)
        shape, size = self._trials.shape, self._trials.size
        self._trials += sums_by(codes, counted, size).reshape(shape)
        self._successes += sums_by(codes, rewards * counted, size).reshape(shape)

    def discount(self, factor: float) -> None:
        """Let everything known so far count only this much."""
        self._trials *= factor
        self._successes *= factor
        self._fitted_on = -1.0

    def cells(self) -> Cells:
        """Return the counts that there are."""
        cells, arms = np.nonzero((self._trials > 0) | (self._successes > 0))
        contexts = (
            np.stack(np.unravel_index(cells, self._sizes), axis=1)
            if self._sizes
            else np.zeros((len(cells), 0), np.int64)
        )
        return Cells(
            contexts,
            arms,
            np.zeros(len(arms), np.bool_),
            np.maximum(self._trials[cells, arms], self._successes[cells, arms]),
            self._successes[cells, arms],
            self._sizes,
        )

    def _cells(self, contexts: ArrayLike) -> Integers:
        rows = np.asarray(contexts, np.int64)
        if not self._sizes:
            return np.zeros(len(rows), np.int64)
        codes: Integers = np.ravel_multi_index(tuple(rows.T), self._sizes)
        return codes

    def _fitted(self) -> Model:
        known = float(self._trials.sum())
        if self._model is None or abs(known - self._fitted_on) > self._growth * self._fitted_on:
            # New draws with every fit, as in the engine; the same ones for the same counts.
            self._model = self._policy.fit(self.cells(), self._seed + round(known))
            self._fitted_on = known
        return self._model
