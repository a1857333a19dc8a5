"""What learning and measurement are told by the database: plain values."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from experiment_engine.domain.bandit.change_alarm import Change
from experiment_engine.domain.bandit.context import ContextLevels
from experiment_engine.domain.bandit.shift_limit import ShiftLimit
from experiment_engine.domain.bandit.statistics import Floats, Statistics
from experiment_engine.domain.delivery.experiment import Experiment, Mode
from experiment_engine.domain.identifiers import (
    CohortName,
    ComboKey,
    DistributionId,
    ExperimentId,
    SnapshotId,
    UserId,
)
from experiment_engine.domain.moments import Instant


class BucketCount(NamedTuple):
    """Trials and successes of one combo in one context, triggered in one span of time."""

    hour: int  # the first of the span, since 1970; 0 for all that is older than asked for
    context: str  # the key of its levels; '' where contexts were not asked for
    combo_key: ComboKey
    postponed: bool
    trials: int
    successes: int


class AgeCount(NamedTuple):
    """Successes of one combo, told by one source, that came at one age."""

    combo_key: ComboKey
    source: str
    age_bucket: int
    conversions: int


class StoredSnapshot(NamedTuple):
    """A snapshot as it is kept: its model as arrays, from which the policy makes it again."""

    id: SnapshotId
    taken_at: Instant
    statistics: Statistics
    levels: ContextLevels
    arrays: Mapping[str, Any]
    shares: Floats | None
    limit: ShiftLimit | None
    changes: tuple[Change, ...]
    looked_on: int


class Frozen(NamedTuple):
    """Why a policy stays at a snapshot, and since when."""

    since: Instant
    snapshot_id: SnapshotId
    reason: str  # for a person


class Outcome(NamedTuple):
    """What came of a user's first trigger in a cohort, when its window had closed."""

    user_id: UserId
    entered_at: Instant
    held_out: bool
    converted: bool
    value: int  # in thousandths


class Drawn(NamedTuple):
    """What an experiment was drawn from: how many combos, and what chance each level had."""

    number: int
    shares: Mapping[str, Mapping[str, float]]  # dimension -> level -> probability


class Matured(NamedTuple):
    """An experiment whose window has closed, and what it was drawn from."""

    experiment: Experiment
    propensity: float
    distribution_id: DistributionId


class Learned(NamedTuple):
    """What people want to know of a cohort's newest snapshot."""

    snapshot_id: SnapshotId
    taken_at: Instant
    changes: tuple[Change, ...]
    limited: bool  # a combo's share would move too fast


class Logged(NamedTuple):
    """One experiment as the log tells it: what could be drawn, what was, and what came of it."""

    id: ExperimentId
    triggered_at: Instant
    combo_key: ComboKey
    propensity: float
    eligible: Sequence[ComboKey]
    named: Mapping[str, str]  # the context's features
    converted_at: Instant | None  # of what counts as a success
    is_trial: bool  # messaged, its combo means what it says, and it teaches

    @property
    def successes(self) -> int:
        """Return 1 for a conversion inside of the window, at last."""
        return int(self.converted_at is not None)


def reset_name(mode: Mode, cohort: CohortName, combo_key: str) -> str:
    """Return under what name it is kept from which hour on a combo's past counts for learning."""
    return f"reset:{mode.value}:{cohort}:{combo_key}"


class Noticed(NamedTuple):
    """An experiment as analytics is told of it, and when that happened which is told."""

    experiment: Experiment
    propensity: float
    language: str
    at: Instant
