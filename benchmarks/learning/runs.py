"""One policy in one world: batches of decisions, and what was lost against the oracle."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from benchmarks.learning.world import Floats, Integers, World

BATCHES = {2_000: 20, 10_000: 50, 50_000: 100, 200_000: 200}  # triggers between two updates


class Chooser(Protocol):
    """The public interface of the policies, as far as a run needs it."""

    def choose(self, contexts: Integers, rng: np.random.Generator) -> tuple[Integers, Floats]: ...

    def update(
        self, contexts: Integers, arms: Integers, rewards: Floats, weights: Floats | None = None
    ) -> None: ...


@dataclass(frozen=True)
class Run:
    """Expected conversions of one run."""

    chosen: float
    oracle: float
    even: float
    late_chosen: float  # in the last fifth
    late_oracle: float
    late_even: float

    @property
    def regret(self) -> float:
        """Return the expected conversions lost against the contextual oracle."""
        return self.oracle - self.chosen

    @property
    def capture(self) -> float:
        """Return the share of what the oracle wins over an even split."""
        return (self.chosen - self.even) / (self.oracle - self.even)


def play(world: World, chooser: Chooser, triggers: int, seed: int) -> Run:
    """Let the policy decide about `triggers` users; it learns after every batch."""
    batch = BATCHES.get(triggers, 50)
    rng = np.random.default_rng([seed, 2])  # the same users and luck for every policy
    choosing = np.random.default_rng([seed, 4])
    sums = np.zeros(3)
    late = np.zeros(3)
    for start in range(0, triggers, batch):
        contexts = world.contexts(batch, rng)
        luck = rng.random(batch)
        rates = world.rates_of(contexts, start / triggers)
        arms, _ = chooser.choose(contexts, choosing)
        got = rates[np.arange(batch), arms]
        expected = np.array([got.sum(), rates.max(axis=1).sum(), rates.mean(axis=1).sum()])
        sums += expected
        late += expected * (start >= 0.8 * triggers)
        chooser.update(contexts, arms, (luck < got).astype(float))
    return Run(*sums, *late)
