"""What a policy knew at one moment, and the distributions that follow from it."""

from dataclasses import dataclass, field
from hashlib import blake2b

from experiment_engine.domain.bandit.decision import Distribution
from experiment_engine.domain.bandit.policy import Policy
from experiment_engine.domain.bandit.statistics import Statistics
from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.guardrails import Eligibility
from experiment_engine.domain.identifiers import DistributionId, SnapshotId
from experiment_engine.domain.moments import Instant


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The statistics that decisions rest on until the next one; kept with the decisions."""

    id: SnapshotId
    taken_at: Instant
    statistics: Statistics


@dataclass
class PolicyInForce:
    """A cohort's policy on its newest snapshot; each situation's distribution is made once."""

    cohort: Cohort
    policy: Policy
    snapshot: Snapshot
    _made: dict[int, tuple[Eligibility, Distribution]] = field(default_factory=dict)

    def distribution(self, eligibility: Eligibility) -> Distribution:
        """Return the probabilities over the eligible combos, which must not be empty."""
        # Known by identity, which is cheap: the guardrails hand out one object per situation.
        # It is kept beside its distribution, so its identity cannot be used again.
        made = self._made.get(id(eligibility))
        if made is not None:
            return made[1]
        shares = self.policy.propensities(self.snapshot.statistics, eligibility.eligible)
        distribution = Distribution.of(
            _distribution_id(self.snapshot.id, eligibility),
            self.snapshot.id,
            eligibility,
            [float(share) for share in shares],
        )
        self._made[id(eligibility)] = (eligibility, distribution)
        return distribution


def _distribution_id(snapshot_id: SnapshotId, eligibility: Eligibility) -> DistributionId:
    refused = sorted((str(reason), places) for reason, places in eligibility.refused.items())
    described = f"{snapshot_id}|{eligibility.eligible}|{refused}|{eligibility.postponed}"
    return DistributionId(blake2b(described.encode(), digest_size=16).hexdigest())
