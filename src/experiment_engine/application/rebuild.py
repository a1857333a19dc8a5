"""Counting anew from the ledger: the experiments themselves say what every counter must be."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from experiment_engine.application.changes import Changes, CounterKey, ToldKey
from experiment_engine.domain.bandit.reward import Counts
from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.delivery.experiment import Experiment
from experiment_engine.domain.events import Source
from experiment_engine.domain.identifiers import CohortName, EventName, ExperimentId, UserId
from experiment_engine.domain.moments import Instant, hour_of

AT_ONCE = 2_000  # experiments read at a time
MONTH = 720  # hours: what counters are folded into at last

_BEFORE_ALL = ExperimentId("")


class ToldConversion(NamedTuple):
    """An event that told of a conversion, whatever it was answered."""

    user_id: UserId
    name: str
    at: Instant
    source: str


class Ledger(Protocol):
    """What counting anew reads and writes: one transaction that lets nobody else count."""

    def lock_counts(self) -> None:
        """Let no other transaction change a counter until this one ends."""

    def experiments_after(
        self, experiment_id: ExperimentId, limit: int, *, converted_by: str | None = None
    ) -> Sequence[Experiment]:
        """Return the next experiments in the order of their ids; those of one source only."""

    def decided_ever(self) -> int:
        """Return how many experiments were decided, those that are not kept any more too."""

    def count_sums(self) -> Mapping[CounterKey, Counts]:
        """Return every counter of every hour."""

    def conversion_sums(self) -> Mapping[ToldKey, int]:
        """Return how many conversions were told, by hour, combo, source and age."""

    def replace_counts(self, changes: Changes, from_hour: int) -> None:
        """Put these counters in place of all from an hour on, and add up those of all hours."""

    def told_conversions(
        self, user_ids: Sequence[UserId], names: Sequence[str]
    ) -> Sequence[ToldConversion]:
        """Return the events of these users and names that are still kept, oldest first."""

    def forget_goals(self, goals: Sequence[tuple[UserId, EventName, Instant]]) -> None:
        """Take back that these users reached these goals at these times."""

    def store(self, changes: Changes) -> None:
        """Write everything that was changed."""


@dataclass(frozen=True, slots=True)
class Recount:
    """What the ledger says, from which hour on it is whole, and where the counters differ."""

    changes: Changes
    from_hour: int
    experiments: int
    differences: Sequence[str]


def recount(ledger: Ledger) -> Recount:
    """Count every experiment that is kept and compare with the counters.

    Of hours before which experiments are not kept any more, the counters stay as they are.
    """
    ledger.lock_counts()
    changes, number, oldest = Changes(), 0, None
    for experiment in _every(ledger):
        changes.count(experiment)
        number += 1
        oldest = min(oldest or experiment.triggered_at, experiment.triggered_at)
    whole = oldest is None or number >= ledger.decided_ever()
    from_hour = 0 if whole or oldest is None else -(-hour_of(oldest) // MONTH) * MONTH
    return Recount(changes, from_hour, number, _differences(ledger, changes, from_hour))


def rebuild(ledger: Ledger) -> Recount:
    """Put what the ledger says in the place of the counters."""
    counted = recount(ledger)
    ledger.replace_counts(counted.changes, counted.from_hour)
    return counted


def exclude(
    source: Source,
    span: tuple[Instant, Instant],
    cohorts: Mapping[CohortName, Cohort],
    ledger: Ledger,
) -> int:
    """Take back the conversions that a source told of in a span of time; return how many.

    Where another source told of one inside the window, the experiment keeps that one.
    """
    taken_back = 0
    last = _BEFORE_ALL
    while found := ledger.experiments_after(last, AT_ONCE, converted_by=source.value):
        last = found[-1].id
        broken = [e for e in found if e.converted_at and span[0] <= e.converted_at <= span[1]]
        if broken:
            _take_back(broken, source, cohorts, ledger)
            taken_back += len(broken)
    return taken_back


def _take_back(
    broken: Sequence[Experiment],
    source: Source,
    cohorts: Mapping[CohortName, Cohort],
    ledger: Ledger,
) -> None:
    goals = {name: cohort.goal.event for name, cohort in cohorts.items()}
    users = list(dict.fromkeys(experiment.user_id for experiment in broken))
    told = ledger.told_conversions(users, [*dict.fromkeys(goals.values()), "converted"])
    others = [conversion for conversion in told if conversion.source != source.value]
    ledger.forget_goals(
        [
            (e.user_id, goals[e.cohort], e.converted_at)
            for e in broken
            if e.converted_at is not None and e.cohort in goals
        ]
    )
    changes = Changes()
    for experiment in broken:
        kept = next((c for c in others if _fits(c, experiment, goals)), None)
        changes.change(experiment, lambda e, kept=kept: _set(e, kept))  # type: ignore[misc]
    ledger.store(changes)


def _fits(
    told: ToldConversion, experiment: Experiment, goals: Mapping[CohortName, EventName]
) -> bool:
    same = told.name in ("converted", goals.get(experiment.cohort))
    return same and told.user_id == experiment.user_id and experiment.window_holds(told.at)


def _set(experiment: Experiment, kept: ToldConversion | None) -> None:
    experiment.converted_at = kept.at if kept else None
    experiment.converted_by = kept.source if kept else None
    experiment.value = None


def _every(ledger: Ledger) -> Iterator[Experiment]:
    last = _BEFORE_ALL
    while found := ledger.experiments_after(last, AT_ONCE):
        yield from found
        last = found[-1].id


def _differences(ledger: Ledger, changes: Changes, from_hour: int) -> list[str]:
    """Compare by month: folding moves counts inside of one, and nowhere else."""
    expected, found = _by_month(changes.counts), _by_month(ledger.count_sums())
    different = [
        f"{key}: counted {found.get(key, Counts())}, the ledger has {expected.get(key, Counts())}"
        for key in sorted({*expected, *found})
        if key[2] >= from_hour and expected.get(key, Counts()) != found.get(key, Counts())
    ]
    told, kept = changes.conversions, ledger.conversion_sums()
    different += [
        f"{key}: told {kept.get(key, 0)}, the ledger has {told.get(key, 0)}"
        for key in sorted({*told, *kept})
        if key[2] >= from_hour and told.get(key, 0) != kept.get(key, 0)
    ]
    return different


def _by_month(counts: Mapping[CounterKey, Counts]) -> dict[CounterKey, Counts]:
    sums: dict[CounterKey, Counts] = {}
    for (mode, cohort, hour, *rest), counted in counts.items():
        key: CounterKey = (mode, cohort, hour - hour % MONTH, *rest)  # type: ignore[assignment]
        sums[key] = sums.get(key, Counts()) + counted
    return sums
