"""Everything known about one user that a decision can depend on."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from experiment_engine.domain.cohorts.counting import Counted
from experiment_engine.domain.delivery.experiment import (
    REACHED,
    TAKES_A_PLACE,
    WAITING,
    Experiment,
    Mode,
    State,
)
from experiment_engine.domain.identifiers import (
    EVERY_CHANNEL,
    Channel,
    CohortName,
    EventName,
    UserId,
)
from experiment_engine.domain.moments import Instant

NEVER = Instant(-1)


@dataclass(slots=True)
class Choice:
    """The user's last no and last yes to messages on one channel, or on all."""

    no_at: Instant = NEVER
    yes_at: Instant = NEVER


@dataclass(slots=True)
class User:
    """One user's experiments (recent enough to matter, oldest decision first) and choices."""

    id: UserId
    experiments: list[Experiment] = field(default_factory=list)
    goals: dict[EventName, Instant] = field(default_factory=dict)  # when last reached
    choices: dict[Channel, Choice] = field(default_factory=dict)
    counted: dict[CohortName, list[Counted]] = field(default_factory=dict)
    erased_at: Instant | None = None  # when the user asked to be forgotten

    @property
    def erased(self) -> bool:
        """Say whether the user asked to be forgotten."""
        return self.erased_at is not None

    def waiting(self, cohort: CohortName | None = None) -> Iterator[Experiment]:
        """Return what still waits to be sent, in one cohort or in all."""
        for experiment in self.experiments:
            if experiment.state in WAITING and cohort in (None, experiment.cohort):
                yield experiment

    def last_decided(self, cohort: CohortName, mode: Mode) -> Instant | None:
        """Return when the cohort last decided about this user."""
        decided = [
            experiment.decided_at
            for experiment in self.experiments
            if experiment.cohort == cohort and experiment.mode is mode
        ]
        return max(decided, default=None)

    def places_taken(self, mode: Mode, channel: Channel | None = None) -> list[Instant]:
        """Return when messages took their place in the caps; what is not known counts as sent."""
        return [
            experiment.placed_at
            for experiment in self.experiments
            if experiment.placed_at is not None
            and experiment.state in TAKES_A_PLACE
            and experiment.mode is mode
            and channel in (None, experiment.channel)
        ]

    def opted_out(self, channel: Channel) -> bool:
        """Say whether a no stands: the last one is not older than the last yes (R12)."""
        no, yes = self._last(channel)
        return no != NEVER and no >= yes

    def consented(self, channel: Channel) -> bool:
        """Say whether a yes is recorded and no newer no."""
        no, yes = self._last(channel)
        return yes != NEVER and yes > no

    def reached(self, goal: EventName, since: Instant) -> bool:
        """Say whether the user reached the goal at or after an instant."""
        return self.goals.get(goal, NEVER) >= max(since, Instant(0))

    def credited(self, cohort: CohortName, at: Instant, mode: Mode) -> Experiment | None:
        """Return the experiment whose conversion this is (R6): the most recent that was reached.

        One that is being handed over counts as sent: its conversion would find nobody later. If
        there is none, one that a conversion cancelled: what finds it is that conversion again.
        """
        inside = [
            experiment
            for experiment in self.experiments
            if experiment.cohort == cohort
            and experiment.mode is mode
            and experiment.window_holds(at)
        ]
        reached = [e for e in inside if e.state in REACHED or e.state is State.CLAIMED]
        found = reached or [e for e in inside if e.converted_at is not None]
        return max(found, key=lambda experiment: experiment.triggered_at, default=None)

    def _last(self, channel: Channel) -> tuple[Instant, Instant]:
        own = self.choices.get(channel, _NO_CHOICE)
        every = self.choices.get(EVERY_CHANNEL, _NO_CHOICE)
        return max(own.no_at, every.no_at), max(own.yes_at, every.yes_at)


_NO_CHOICE = Choice()
