"""What a policy knew at one moment, and the distributions that follow from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

from experiment_engine.domain.bandit.change_alarm import Change
from experiment_engine.domain.bandit.context import Context, ContextLevels
from experiment_engine.domain.bandit.decision import Distribution
from experiment_engine.domain.bandit.policy import Model
from experiment_engine.domain.bandit.shift_limit import ShiftLimit
from experiment_engine.domain.bandit.statistics import Floats, Statistics
from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.guardrails import Eligibility
from experiment_engine.domain.identifiers import DistributionId, SnapshotId
from experiment_engine.domain.moments import Instant

_MEMO_LIMIT = 20_000  # distributions remembered: about 60 MB at 160 combos


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What decisions rest on until the next one; kept with the decisions."""

    id: SnapshotId
    taken_at: Instant
    statistics: Statistics  # the plain sums of that moment, by combo
    model: Model
    levels: ContextLevels = field(default_factory=ContextLevels)
    shares: Floats | None = None  # of the recent traffic, by combo; shape (K,)
    limit: ShiftLimit | None = None  # where shares would move too fast
    changes: tuple[Change, ...] = ()  # of the world, before which little counts
    looked_on: int = -1  # the day on which changes were last looked for


@dataclass
class PolicyInForce:
    """A cohort's policy on its newest snapshot; each situation's distribution is made once."""

    cohort: Cohort
    snapshot: Snapshot
    uses_context: bool
    _made: dict[tuple[int, Context], tuple[Eligibility, Distribution]] = field(
        default_factory=dict
    )

    def levels_of(self, features: Mapping[str, str]) -> tuple[Context, str]:
        """Return the bucketed context, and the key under which it counts."""
        levels = self.snapshot.levels
        context = levels.bucket(features)
        return context, levels.key(context)

    def distribution(self, eligibility: Eligibility, context: Context) -> Distribution:
        """Return the probabilities over the eligible combos, which must not be empty."""
        # Known by identity, which is cheap: the guardrails hand out one object per situation.
        # It is kept beside its distribution, so its identity cannot be used again.
        given = context if self.uses_context else ()
        made = self._made.get((id(eligibility), given))
        if made is not None:
            return made[1]
        shares = self.snapshot.model.propensities(
            given, eligibility.places, postponed=eligibility.postponed
        )
        if self.snapshot.limit is not None:
            shares = self.snapshot.limit.applied(shares, eligibility.eligible)
        key = self.snapshot.levels.key(given) if given else ""
        distribution = Distribution.of(
            distribution_id(self.snapshot.id, eligibility.digest, key),
            self.snapshot.id,
            eligibility,
            shares,
            context=key,
        )
        if len(self._made) >= _MEMO_LIMIT:
            self._made.clear()
        self._made[id(eligibility), given] = (eligibility, distribution)
        return distribution


def distribution_id(snapshot_id: str, eligible_id: str, context: str) -> DistributionId:
    """Return the id of a situation's distribution: the digest of what it follows from."""
    described = f"{snapshot_id}|{eligible_id}|{context}"
    return DistributionId(blake2b(described.encode(), digest_size=16).hexdigest())
