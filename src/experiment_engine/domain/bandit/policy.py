"""What every policy is: from counts to a model, and from it to a distribution over arms."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from numpy.typing import NDArray

from experiment_engine.domain.bandit.cells import Cells
from experiment_engine.domain.bandit.context import Context
from experiment_engine.domain.bandit.statistics import Floats, Integers

Arrays = Mapping[str, NDArray]  # type: ignore[type-arg]  # of several kinds


class Model(Protocol):
    """What a policy has learned; it stays as it is until the next snapshot."""

    def propensities(
        self, context: Context, eligible: Sequence[int] | Integers, *, postponed: bool = False
    ) -> Floats:
        """Return one probability for each eligible arm, in its order; they sum to one.

        `eligible` holds places in the space and is not empty. Shape: (len(eligible),).
        """

    def arrays(self) -> Arrays:
        """Return what the model consists of: `Policy.load` makes the same one of it, exactly."""


class Policy(Protocol):
    """Learns from counts; drawing happens elsewhere, once."""

    uses_context: bool

    def fit(self, cells: Cells, seed: int) -> Model:
        """Return the model of these counts: the same for the same counts and seed, in any order.

        Takes long where there is much to learn from, so it runs outside of every transaction.
        """

    def load(self, arrays: Arrays) -> Model:
        """Return the model that `arrays` came from."""
