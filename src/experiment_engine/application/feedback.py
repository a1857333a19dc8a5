"""Opens and conversions: which experiment they belong to, and what they change (R6)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from experiment_engine.application.changes import Changes, EndedAttempt
from experiment_engine.application.results import Result, Status, ignored
from experiment_engine.application.switches import give_back_offer
from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.cohorts.user import NEVER, User
from experiment_engine.domain.delivery.experiment import Experiment, State
from experiment_engine.domain.delivery.message import Verdict
from experiment_engine.domain.events import (
    Feedback,
    FeedbackKind,
    Properties,
    Reported,
    Source,
)
from experiment_engine.domain.guardrails import Guardrails
from experiment_engine.domain.identifiers import ExperimentId, UserId
from experiment_engine.domain.moments import Instant
from experiment_engine.domain.reasons import Reason

# States in which a message may be on the user's phone: feedback about it can be real.
_OUT = frozenset({State.CLAIMED, State.SENT, State.UNKNOWN})


@dataclass(frozen=True, slots=True)
class Conversion:
    """That a user reached a goal: when, who told of it, and what was told beside it."""

    at: Instant
    source: Source
    properties: Properties = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FeedbackTaker:
    """Finds the experiments of feedback, one piece after another."""

    guardrails: Guardrails
    changes: Changes
    settled: list[Experiment] = field(default_factory=list)  # by a provider's report

    def take(self, fact: Feedback, user: User, owner: UserId | None, at: Instant) -> Result:
        """Answer feedback of a user; `owner` is whose the named experiment is, if it exists."""
        named = _named(user, fact.experiment_id) if owner == user.id else None
        stray = None
        if fact.experiment_id is not None and named is None:
            stray = Reason.UNKNOWN_EXPERIMENT if owner is None else Reason.MISMATCH
        if fact.kind is FeedbackKind.OPENED:
            return self._opened(user, named, at, stray)
        return self._converted(user, named, Conversion(at, fact.source), stray)

    def reported(self, fact: Reported, user: User, now: Instant) -> Result:
        """Answer a provider's report: it settles what is not known, and tells what never came."""
        experiment = _named(user, fact.experiment_id)
        if experiment is None:
            return ignored(Reason.UNKNOWN_EXPERIMENT)
        if experiment.state in (State.CLAIMED, State.UNKNOWN):
            self._settle(experiment, fact, now)
        elif experiment.state is not State.SENT:
            return ignored(Reason.NOT_SENT, experiment_id=experiment.id)
        elif not fact.reached:
            if experiment.reason is not None:
                return Result("duplicate", experiment_id=experiment.id)
            self.changes.change(experiment, _set_not_reached)
            self.changes.unreached.append(experiment)
        return Result("recorded", reason=fact.reason, experiment_id=experiment.id)

    def _settle(self, experiment: Experiment, fact: Reported, now: Instant) -> None:
        """End the try that is under way, or whose outcome nobody knew, as it turns out to be."""
        verdict = Verdict.ACCEPTED if fact.reached else Verdict.REFUSED
        reason = fact.reason or fact.name
        if experiment.call_id is not None:
            ended = EndedAttempt(experiment, experiment.call_id, now, verdict, reason, None, "")
            self.changes.attempts_ended.append(ended)
        if not fact.reached and experiment.placed_at is not None:
            rules = self.guardrails.rules
            give_back_offer(experiment, experiment.placed_at, rules, self.changes)

        def edit(e: Experiment) -> None:
            e.lease_until = None
            e.move(State.SENT if fact.reached else State.FAILED, fact.reason)
            if not fact.reached:
                e.placed_at = None

        self.changes.change(experiment, edit)
        self.settled.append(experiment)

    def reached(self, user: User, cohorts: Sequence[Cohort], told: Conversion) -> Result:
        """Answer that a user reached the goal of these cohorts: find what led there by user."""
        cancelled = self._cancel_waiting(user, cohorts, told)
        self._remember(user, cohorts, told)
        recorded: list[ExperimentId] = []
        duplicates: list[ExperimentId] = []
        for cohort in cohorts:
            experiment = user.credited(cohort.name, told.at, self.guardrails.mode)
            if experiment is None or experiment.id in cancelled:
                continue
            (duplicates if experiment.converted_at is not None else recorded).append(experiment.id)
            if experiment.converted_at is None:
                self.changes.change(experiment, _set_converted(cohort, told))
        return _answer(recorded, cancelled, duplicates, Reason.UNKNOWN_EXPERIMENT)

    def _opened(
        self, user: User, named: Experiment | None, at: Instant, stray: Reason | None
    ) -> Result:
        if stray is not None:
            return ignored(stray)
        experiment = named or self._last_out(user, at)
        if experiment is None:
            return ignored(Reason.UNKNOWN_EXPERIMENT)
        if experiment.state not in _OUT:
            return ignored(Reason.NOT_SENT, experiment_id=experiment.id)
        if experiment.opened_at is not None:
            return Result("duplicate", experiment_id=experiment.id)
        self.changes.change(experiment, _set_opened(at))
        return Result("recorded", experiment_id=experiment.id)

    def _converted(
        self, user: User, named: Experiment | None, told: Conversion, stray: Reason | None
    ) -> Result:
        every = list(self.guardrails.rules.cohorts.values())
        if named is None and stray is None:
            return self.reached(user, every, told)
        cohorts = every if named is None else self._same_goal(named)
        cancelled = self._cancel_waiting(user, cohorts, told)
        self._remember(user, cohorts, told)
        if named is None:  # no credit; and yet the user has converted
            return _answer([], cancelled, [], stray or Reason.UNKNOWN_EXPERIMENT)
        return self._credit(named, cancelled, told)

    def _credit(
        self, named: Experiment, cancelled: Sequence[ExperimentId], told: Conversion
    ) -> Result:
        if named.id in cancelled:
            return _answer([], cancelled, [], Reason.NOT_SENT)
        if named.converted_at is not None:
            return _answer([], cancelled, [named.id], Reason.NOT_SENT)
        if named.state not in _OUT and named.state is not State.HELD_OUT:
            return _answer([], cancelled, [], Reason.NOT_SENT, named.id)
        if not named.window_holds(told.at):
            return _answer([], cancelled, [], Reason.OUTSIDE_WINDOW, named.id)
        cohort = self.guardrails.rules.cohorts.get(named.cohort)
        self.changes.change(named, _set_converted(cohort, told))
        return _answer([named.id], cancelled, [], Reason.NOT_SENT)

    def _same_goal(self, experiment: Experiment) -> list[Cohort]:
        cohorts = self.guardrails.rules.cohorts
        own = cohorts.get(experiment.cohort)
        if own is None:  # its cohort has left the configuration
            return []
        return [cohort for cohort in cohorts.values() if cohort.goal.event == own.goal.event]

    def _cancel_waiting(
        self, user: User, cohorts: Sequence[Cohort], told: Conversion
    ) -> list[ExperimentId]:
        cancelled = []
        for cohort in cohorts:
            for experiment in list(user.waiting(cohort.name)):
                too_old = told.at < experiment.triggered_at - cohort.trigger.converted_quiet
                if experiment.state is State.SCHEDULED and not too_old:
                    self.changes.change(experiment, _cancel_converted_by(cohort, told))
                    cancelled.append(experiment.id)
        return cancelled

    def _remember(self, user: User, cohorts: Sequence[Cohort], told: Conversion) -> None:
        for cohort in cohorts:
            goal, at = cohort.goal, told.at
            user.goals[goal.event] = max(at, user.goals.get(goal.event, NEVER))
            worth = goal.value_of(told.properties)
            known = self.changes.goals.get((user.id, goal.event, at))
            self.changes.goals[user.id, goal.event, at] = known if worth is None else worth

    def _last_out(self, user: User, at: Instant) -> Experiment | None:
        out = [
            experiment
            for experiment in user.experiments
            if experiment.state in _OUT
            and experiment.mode is self.guardrails.mode
            and experiment.window_holds(at)
        ]
        return max(out, key=lambda experiment: experiment.placed_at or NEVER, default=None)


def cancel_converted(at: Instant) -> Callable[[Experiment], None]:
    """Return the edit for a waiting experiment whose user reached the goal at `at`."""

    def edit(experiment: Experiment) -> None:
        experiment.move(State.CANCELLED, Reason.CONVERTED)
        if experiment.window_holds(at) and experiment.converted_at is None:
            experiment.converted_at = at

    return edit


def _cancel_converted_by(cohort: Cohort, told: Conversion) -> Callable[[Experiment], None]:
    cancel, set_converted = cancel_converted(told.at), _set_converted(cohort, told)

    def edit(experiment: Experiment) -> None:
        before = experiment.converted_at
        cancel(experiment)
        if before is None and experiment.converted_at is not None:
            set_converted(experiment)

    return edit


def _set_converted(cohort: Cohort | None, told: Conversion) -> Callable[[Experiment], None]:
    def edit(experiment: Experiment) -> None:
        experiment.converted_at, experiment.converted_by = told.at, told.source.value
        experiment.value = cohort.goal.value_of(told.properties) if cohort else None

    return edit


def _set_not_reached(experiment: Experiment) -> None:
    experiment.reason = Reason.NOT_REACHED


def _set_opened(at: Instant) -> Callable[[Experiment], None]:
    def edit(experiment: Experiment) -> None:
        experiment.opened_at = at

    return edit


def _named(user: User, experiment_id: ExperimentId | None) -> Experiment | None:
    return next((e for e in user.experiments if e.id == experiment_id), None)


def _answer(
    recorded: Sequence[ExperimentId],
    cancelled: Sequence[ExperimentId],
    duplicates: Sequence[ExperimentId],
    reason: Reason,
    experiment_id: ExperimentId | None = None,
) -> Result:
    touched = (*recorded, *cancelled, *duplicates)
    if not touched:
        return ignored(reason, experiment_id=experiment_id)
    status: Status = "recorded" if recorded else "cancelled" if cancelled else "duplicate"
    return Result(
        status,
        experiment_id=touched[0],
        experiment_ids=touched if len(touched) > 1 else (),
    )
