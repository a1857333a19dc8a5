"""A learner that looks for changes, day by day, as the engine does when it reads its counters."""

import numpy as np

from benchmarks.learning.world import ARMS, Floats, Integers
from experiment_engine.domain.bandit.change_alarm import Change, changes, kept
from experiment_engine.domain.bandit.learner import Learner

DAYS = 90  # a run lasts this long, whatever its number of triggers


class Watchful:
    """Learns anew, from what still counts, whenever the change alarm goes off."""

    def __init__(self, learner: Learner, triggers: int) -> None:
        self._learner, self._a_day = learner, triggers / DAYS
        self._seen = 0
        self._parts: list[tuple[int, Integers, Integers, Floats]] = []
        self._trials, self._successes = np.zeros((DAYS, ARMS)), np.zeros((DAYS, ARMS))
        self.changes: list[Change] = []

    def choose(self, contexts: Integers, rng: np.random.Generator) -> tuple[Integers, Floats]:
        return self._learner.choose(contexts, rng)

    def update(
        self, contexts: Integers, arms: Integers, rewards: Floats, weights: Floats | None = None
    ) -> None:
        del weights
        day = min(int(self._seen / self._a_day), DAYS - 1)
        self._seen += len(arms)
        self._parts.append((day, contexts, arms, rewards))
        self._trials[day] += np.bincount(arms, minlength=ARMS)
        self._successes[day] += np.bincount(arms, rewards, minlength=ARMS)
        self._learner.update(contexts, arms, rewards)
        if int(self._seen / self._a_day) > day:
            self._look(day + 1)

    def _look(self, days: int) -> None:
        found = changes(self._trials[:days], self._successes[:days])
        if found == self.changes:
            return
        self.changes = found
        weights = kept(found, days)
        self._learner.discount(0.0)
        for day, contexts, arms, rewards in self._parts:
            self._learner.update(contexts, arms, rewards, np.full(len(arms), weights[day]))
