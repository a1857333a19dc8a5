"""What a batch writes: collected while it is worked through, stored at its end."""

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from experiment_engine.domain.bandit.decision import Distribution
from experiment_engine.domain.bandit.reward import (
    NOTHING,
    Counts,
    Group,
    Told,
    contribution,
    group_of,
    told_of,
)
from experiment_engine.domain.bandit.stand_in import StandIn
from experiment_engine.domain.cohorts.counting import Counted
from experiment_engine.domain.delivery.experiment import Decided, Due, Experiment, Mode
from experiment_engine.domain.delivery.message import Verdict
from experiment_engine.domain.events import Source, Terms
from experiment_engine.domain.identifiers import (
    CallId,
    Channel,
    CohortName,
    ComboKey,
    DistributionId,
    EventName,
    ExperimentId,
    UserId,
)
from experiment_engine.domain.moments import Instant, hour_of

ALL_DAYS = -1  # the day under which an offer's use is counted in all

# mode, cohort, hour of the trigger, key of the context's levels, combo, group
CounterKey = tuple[Mode, CohortName, int, str, ComboKey, Group]
# mode, cohort, hour of the trigger, combo, group, source, bucket of the age
ToldKey = tuple[Mode, CohortName, int, ComboKey, Group, str, int]


@dataclass(slots=True)
class StoredEvent:
    """One event as it is kept: what came, and what followed."""

    user_id: UserId
    key: str
    source: Source
    name: str
    happened_at: Instant
    received_at: Instant
    raw: bytes
    status: str = "ignored"
    reason: str | None = None
    experiment_id: ExperimentId | None = None


class StoredChoice(NamedTuple):
    """A user's yes or no as it is kept."""

    user_id: UserId
    channel: Channel
    allowed: bool
    at: Instant
    source: Source
    terms: Terms = Terms()


@dataclass(slots=True)
class Quarantined:
    """A body, or one event of it, that was not understood."""

    source: Source
    received_at: Instant
    reason: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class EndedAttempt:
    """What one try at the provider came to, for one message."""

    experiment: Experiment
    call_id: CallId
    ended_at: Instant
    verdict: Verdict
    reason: str
    status: int | None
    answer: str


@dataclass(frozen=True, slots=True)
class Replaced:
    """A text that goes out in the place of the one that was drawn, and the one it takes."""

    experiment: Experiment
    stand_in: StandIn
    drawn: Due


@dataclass(slots=True)
class Changes:
    """Everything one batch changes; stored in one transaction."""

    events: list[StoredEvent] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    decided: dict[ExperimentId, tuple[Experiment, Decided]] = field(default_factory=dict)
    changed: dict[ExperimentId, Experiment] = field(default_factory=dict)
    distributions: dict[DistributionId, tuple[CohortName, Distribution]] = field(
        default_factory=dict
    )
    # what each was worth, in thousandths, where that was told
    goals: dict[tuple[UserId, EventName, Instant], int | None] = field(default_factory=dict)
    choices: list[StoredChoice] = field(default_factory=list)
    pardoned: set[UserId] = field(default_factory=set)  # erased once, and asked to hear again
    recipients: list[tuple[str, UserId]] = field(default_factory=list)  # by hash of the address
    counted: list[tuple[UserId, CohortName, Counted]] = field(default_factory=list)
    used_up: list[tuple[UserId, CohortName, str]] = field(default_factory=list)  # by event key
    counts: dict[CounterKey, Counts] = field(default_factory=lambda: defaultdict(Counts))
    conversions: Counter[ToldKey] = field(default_factory=Counter)
    experiments: Counter[tuple[Mode, CohortName, bool]] = field(default_factory=Counter)
    offers_used: Counter[tuple[Mode, str, int]] = field(default_factory=Counter)  # by day, and all
    # mode, cohort or '', status, reason or ''
    answers: Counter[tuple[Mode, str, str, str]] = field(default_factory=Counter)
    replaced: list[Replaced] = field(default_factory=list)
    unreached: list[Experiment] = field(default_factory=list)  # sent, and never came
    probed: dict[Channel, Instant] = field(default_factory=dict)  # until when no other probe
    rate_free_at: int | None = None  # microseconds: when the send rate allows the next message
    attempts_begun: list[Experiment] = field(default_factory=list)
    attempts_ended: list[EndedAttempt] = field(default_factory=list)

    def decide(self, experiment: Experiment, decided: Decided, distribution: Distribution) -> None:
        """Add a new experiment."""
        self.decided[experiment.id] = (experiment, decided)
        self.distributions[distribution.id] = (experiment.cohort, distribution)
        self.count(experiment)

    def count(self, experiment: Experiment) -> None:
        """Count an experiment as it stands."""
        self.experiments[experiment.mode, experiment.cohort, experiment.held_out] += 1
        self._add_up(experiment)

    def change(self, experiment: Experiment, edit: Callable[[Experiment], None]) -> None:
        """Edit an experiment and let the counters follow."""
        self._take_back(experiment)
        edit(experiment)
        self._add_up(experiment)
        if experiment.id not in self.decided:
            self.changed[experiment.id] = experiment

    def use_offer(self, mode: Mode, offer: str, day: int, messages: int) -> None:
        """Count messages that carry an offer on a day; fewer than none are given back."""
        for which in (day, ALL_DAYS):
            self.offers_used[mode, offer, which] += messages

    def _add_up(self, experiment: Experiment) -> None:
        group = group_of(experiment)
        self._count(experiment, group, contribution(experiment))
        self._tell(experiment, group, told_of(experiment), 1)

    def _take_back(self, experiment: Experiment) -> None:
        group = group_of(experiment)
        self._count(experiment, group, NOTHING - contribution(experiment))
        self._tell(experiment, group, told_of(experiment), -1)

    def _tell(self, experiment: Experiment, group: Group, told: Told | None, sign: int) -> None:
        if told is not None:
            hour = hour_of(experiment.triggered_at)
            combo = experiment.goes_out_as
            key = (experiment.mode, experiment.cohort, hour, combo, group, *told)
            self.conversions[key] += sign

    def _count(self, experiment: Experiment, group: Group, counts: Counts) -> None:
        if counts != NOTHING:
            hour = hour_of(experiment.triggered_at)
            key = (
                experiment.mode,
                experiment.cohort,
                hour,
                experiment.levels,
                experiment.goes_out_as,
                group,
            )
            self.counts[key] += counts
