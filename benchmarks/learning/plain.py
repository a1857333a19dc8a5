"""What a team would build first, as the baseline of every comparison, and the even split."""

import numpy as np

from benchmarks.learning.world import ARMS, Floats, Integers


class Plain:
    """80 % to the best raw rate so far (unseen: 0, ties at random), 20 % to any combo."""

    def __init__(self, seed: int = 0, epsilon: float = 0.2, arms: int = ARMS) -> None:
        self._trials, self._successes = np.zeros(arms), np.zeros(arms)
        self._epsilon, self._ties = epsilon, np.random.default_rng([seed, 3])

    def choose(self, contexts: Integers, rng: np.random.Generator) -> tuple[Integers, Floats]:
        number = len(contexts)
        rates = np.divide(
            self._successes, self._trials, out=np.zeros_like(self._trials), where=self._trials > 0
        )
        best = np.flatnonzero(rates == rates.max())
        arms = self._ties.choice(best, size=number)
        explore = rng.random(number) < self._epsilon
        arms[explore] = rng.integers(0, len(rates), explore.sum())
        leads = np.isin(arms, best) * (1 - self._epsilon) / len(best)
        return arms, leads + self._epsilon / len(rates)

    def update(
        self, contexts: Integers, arms: Integers, rewards: Floats, weights: Floats | None = None
    ) -> None:
        del contexts
        counted = np.ones(len(arms)) if weights is None else weights
        self._trials += np.bincount(arms, counted, minlength=len(self._trials))
        self._successes += np.bincount(arms, counted * rewards, minlength=len(self._trials))
