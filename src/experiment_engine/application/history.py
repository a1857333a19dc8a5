"""What was sent before the engine counted: trials that exports tell of. They teach, and no more.

A row is a trial if it says which combo went out and when: an event `experiment_sent`, as the
engine itself tells Amplitude, with `cohort` and `combo_key`. Its trigger lies the combo's delay
before it. It is a success if the same export has the user's goal inside the window.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from experiment_engine.application.changes import Changes
from experiment_engine.application.tell import SENT
from experiment_engine.application.triggers import features_of
from experiment_engine.domain.bandit.context import ContextLevels
from experiment_engine.domain.bandit.delay_curve import age_bucket
from experiment_engine.domain.bandit.reward import Counts, Group
from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.delivery.experiment import Mode
from experiment_engine.domain.events import Happened, Source
from experiment_engine.domain.identifiers import CohortName, ComboKey, EventName, UserId
from experiment_engine.domain.moments import DAY, Duration, Instant, hour_of

_HOURS_A_DAY = 24
_COMBO_KEY = "combo_key"

Goal = tuple[UserId, EventName]


class Past(Protocol):
    """What taking in history reads and writes: one transaction that lets nobody else count."""

    def lock_counts(self) -> None:
        """Let no other transaction change a counter until this one ends."""

    def first_hours(self, mode: Mode) -> Mapping[CohortName, int]:
        """Return the hour of the first trigger that the engine itself counted, by cohort."""

    def replace_history(self, mode: Mode, changes: Changes) -> None:
        """Put these counts in the place of all that history has told before."""


class Trial(NamedTuple):
    """One message of the past, and what came of it."""

    cohort: CohortName
    combo_key: ComboKey
    triggered_at: Instant
    features: Mapping[str, str]
    converted: tuple[Instant, Source] | None


@dataclass(frozen=True, slots=True)
class History:
    """The trials of an export, and why other rows that carry a combo are none."""

    trials: Sequence[Trial] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)


def is_of_history(fact: Happened) -> bool:
    """Say whether an event carries a combo and the time at which it was sent."""
    return fact.name == SENT and fact.at is not None and _COMBO_KEY in fact.event_properties


def read_history(
    facts: Iterable[Happened], cohorts: Mapping[CohortName, Cohort], until: Instant
) -> History:
    """Return the trials among these facts; `until` is the newest moment that they tell of.

    What is told twice counts once. Where the window was still open then, the outcome is not
    known, and the row is left out.
    """
    once = list({(fact.user_id, fact.key): fact for fact in facts}.values())
    left_out: Counter[str] = Counter()
    sent: dict[tuple[UserId, CohortName], list[Trial]] = defaultdict(list)
    for fact in once:
        if is_of_history(fact):
            read = _read(fact, cohorts, until)
            if isinstance(read, str):
                left_out[read] += 1
            else:
                sent[fact.user_id, read.cohort].append(read)
    goals = _goals(once, {cohort.goal.event for cohort in cohorts.values()})
    trials = [
        trial
        for (user_id, name), mine in sent.items()
        for trial in _credited(mine, cohorts[name], goals[user_id, cohorts[name].goal.event])
    ]
    return History(trials, left_out)


def take_in_history(history: History, mode: Mode, past: Past) -> History:
    """Put these trials in the place of all earlier history; return what is taken and left out.

    From the first trigger on that the engine itself counted in a cohort, its own counts hold:
    the same message would count twice otherwise.
    """
    past.lock_counts()
    own = past.first_hours(mode)
    taken = [
        trial
        for trial in history.trials
        if trial.cohort not in own
        or _first_hour_of_day(trial.triggered_at) + _HOURS_A_DAY <= own[trial.cohort]
    ]
    past.replace_history(mode, _counted(taken, mode))
    counted_by_itself = len(history.trials) - len(taken)
    left_out = {**history.left_out, **({"own": counted_by_itself} if counted_by_itself else {})}
    return History(taken, left_out)


def _read(fact: Happened, cohorts: Mapping[CohortName, Cohort], until: Instant) -> Trial | str:
    """Return the trial, without its outcome, or why there is none."""
    told = fact.event_properties
    cohort = cohorts.get(CohortName(str(told.get("cohort"))))
    if cohort is None:
        return "cohort_unknown"
    combo = cohort.space.by_key.get(ComboKey(str(told[_COMBO_KEY])))
    if combo is None:
        return "combo_unknown"
    if told.get("sent_as"):
        return "replaced"
    if told.get("postponed"):
        return "postponed"
    triggered_at = Instant((fact.at or 0) - combo.delay)
    if triggered_at + cohort.goal.window > until:
        return "window_open"
    return Trial(cohort.name, combo.key, triggered_at, features_of(told), None)


def _goals(
    facts: Sequence[Happened], names: set[EventName]
) -> Mapping[Goal, Sequence[tuple[Instant, Source]]]:
    goals: dict[Goal, list[tuple[Instant, Source]]] = defaultdict(list)
    for fact in facts:
        if fact.name in names and fact.at is not None:
            goals[fact.user_id, fact.name].append((fact.at, fact.source))
    return goals


def _credited(
    trials: list[Trial], cohort: Cohort, goals: Sequence[tuple[Instant, Source]]
) -> list[Trial]:
    """Let each goal count for the newest trial whose window holds it; a second one is none."""
    trials.sort(key=lambda trial: trial.triggered_at)
    for at, source in sorted(goals):
        held = (
            place
            for place in reversed(range(len(trials)))
            if trials[place].triggered_at <= at <= trials[place].triggered_at + cohort.goal.window
        )
        place = next(held, None)
        if place is not None and trials[place].converted is None:
            trials[place] = trials[place]._replace(converted=(at, source))
    return trials


def _counted(trials: Sequence[Trial], mode: Mode) -> Changes:
    changes = Changes()
    levels = ContextLevels().refreshed([trial.features for trial in trials])
    for cohort, combo_key, triggered_at, features, converted in trials:
        hour = _first_hour_of_day(triggered_at)
        context = levels.key(levels.bucket(features))
        key = (mode, cohort, hour, context, combo_key, Group.HISTORY)
        changes.counts[key] += Counts(trials=1, successes=int(converted is not None))
        if converted is not None:
            at, source = converted
            age = age_bucket(Duration(at - triggered_at))
            told = (mode, cohort, hour, combo_key, Group.HISTORY, source.value, age)
            changes.conversions[told] += 1
    return changes


def _first_hour_of_day(triggered_at: Instant) -> int:
    """Return the first hour of the trigger's day: all of it is over, so a day is fine enough."""
    return hour_of(Instant(triggered_at - triggered_at % DAY))
