"""Draw a combo, with the exact probability it had, so that it can be drawn again."""

from bisect import bisect_right
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import ArrayLike

from experiment_engine.domain.bandit.statistics import Floats
from experiment_engine.domain.guardrails import Eligibility
from experiment_engine.domain.identifiers import DistributionId, SnapshotId

PICK, SPREAD = 0, 1  # which number of an experiment's stream is used for what

_BITS = 53  # the mantissa of a float: every value of the stream is exact


def stream(seed: int, place: int) -> float:
    """Return the number at `place` of the experiment's own random stream, in [0, 1)."""
    digest = blake2b(seed.to_bytes(8) + place.to_bytes(2), digest_size=8).digest()
    return (int.from_bytes(digest) >> (64 - _BITS)) / (1 << _BITS)


@dataclass(frozen=True, slots=True, eq=False)
class Distribution:
    """The probabilities over the eligible combos of one situation under one snapshot.

    Thousands are remembered at a time, so the numbers are kept in arrays.
    """

    id: DistributionId
    snapshot_id: SnapshotId
    eligibility: Eligibility
    propensities: Floats  # in the order of `eligibility.eligible`
    bounds: Floats  # running sums
    context: str = ""  # the key of the levels that the probabilities are for

    @classmethod
    def of(
        cls,
        id: DistributionId,  # noqa: A002 - the field's own name
        snapshot_id: SnapshotId,
        eligibility: Eligibility,
        propensities: ArrayLike,
        *,
        context: str = "",
    ) -> "Distribution":
        """Keep the propensities with their running sums."""
        shares = np.array(propensities, np.float64)
        return cls(id, snapshot_id, eligibility, shares, shares.cumsum(), context)

    def draw(self, seed: int) -> tuple[int, float]:
        """Return the place of the drawn combo in the cohort's space, and its propensity."""
        point = stream(seed, PICK) * self.bounds[-1]
        pick = min(bisect_right(self.bounds, point), len(self.bounds) - 1)
        return self.eligibility.eligible[pick], float(self.propensities[pick])
