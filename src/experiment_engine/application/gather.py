"""What the next snapshots are made of, read in one view, and what must not be learned."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import msgspec
import numpy as np

from experiment_engine.application.evidence import AgeCount, BucketCount, Frozen
from experiment_engine.application.held import held_of
from experiment_engine.application.ports import Chance, Evidence
from experiment_engine.domain.bandit.anomaly import Record, largest_leap
from experiment_engine.domain.bandit.change_alarm import Change, changes
from experiment_engine.domain.bandit.context import ContextLevels
from experiment_engine.domain.bandit.delay_curve import DelayCurve, weighed_trials
from experiment_engine.domain.bandit.policies import build_policy
from experiment_engine.domain.bandit.reward import OWN
from experiment_engine.domain.bandit.snapshot import PolicyInForce, Snapshot
from experiment_engine.domain.bandit.statistics import Floats, Statistics
from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.delivery.experiment import Mode
from experiment_engine.domain.identifiers import CohortName, ComboKey
from experiment_engine.domain.measurement.silence import NOTHING_HELD, Held
from experiment_engine.domain.moments import DAY, HOUR, MINUTE, Instant, hour_of

NOTICEABLE = 0.01  # a change this large, against what is known, is learned from at once
AT_LATEST = MINUTE  # a smaller one by then
_DAYS_LOOKED_AT = 120  # for changes of the world
_RECENT_HOURS = 24  # whose conversions must fit with those before
CONTEXTS_LOOKED_AT = 5_000  # the newest experiments, for the levels of their contexts


@dataclass(frozen=True, slots=True)
class Learning:
    """What stays the same from snapshot to snapshot."""

    cohorts: Mapping[CohortName, Cohort]
    mode: Mode
    chance: Chance


class Material(NamedTuple):
    """What a cohort's next snapshot is made of, read at one moment."""

    cohort: Cohort
    statistics: Statistics
    buckets: Sequence[BucketCount]
    curve: DelayCurve
    levels: ContextLevels
    recent: Sequence[Mapping[str, str]]  # contexts of the newest decisions: the traffic
    before: Floats | None  # the combos' shares of the traffic an hour ago
    changes: tuple[Change, ...]  # of the world, before which little counts
    at: Instant
    held: Held = NOTHING_HELD  # what sources that were silent did not tell


class Suspect(NamedTuple):
    """A cohort whose feedback looks forged or broken, and what its policy goes back to."""

    cohort: Cohort
    frozen: Frozen


@dataclass(frozen=True, slots=True)
class Gathered:
    """The cohorts whose counters moved enough, and whether others moved too little to follow."""

    materials: Sequence[Material]
    suspects: Sequence[Suspect]
    more_to_come: bool


def gather(
    in_force: Mapping[CohortName, PolicyInForce],
    learning: Learning,
    evidence: Evidence,
    now: Instant,
) -> Gathered:
    """Read what the next snapshots are made of, for every cohort that is worth one."""
    materials: list[Material] = []
    suspects: list[Suspect] = []
    more_to_come = False
    frozen = evidence.frozen(learning.mode)
    for name, cohort in learning.cohorts.items():
        current = in_force.get(name)
        if name in frozen and current is not None:
            continue
        statistics = _statistics(cohort, evidence.totals(learning.mode, name))
        if current is None or _worth_a_snapshot(current.snapshot, statistics, now):
            suspect = _suspect(cohort, learning, evidence, now) if current else None
            if suspect is not None:
                suspects.append(suspect)
                continue
            last = current.snapshot if current else None
            materials.append(_material(cohort, statistics, last, learning, evidence, now))
        elif not _same(current.snapshot.statistics, statistics):
            more_to_come = True
    return Gathered(materials, suspects, more_to_come)


def day_of(now: Instant) -> int:
    """Return the day since 1970, UTC."""
    return now // DAY


def _material(
    cohort: Cohort,
    statistics: Statistics,
    last: Snapshot | None,
    learning: Learning,
    evidence: Evidence,
    now: Instant,
) -> Material:
    mode, name = learning.mode, cohort.name
    by_context = build_policy(cohort).uses_context
    held = held_of(cohort, mode, evidence, now)
    closed_before = hour_of(Instant((held.waits_from or now) - cohort.goal.window))
    conversions: Counter[int] = Counter()
    for row in evidence.ages(mode, name, (0, closed_before)):
        conversions[row.age_bucket] += row.conversions
    curve = DelayCurve(cohort.goal.window, conversions)
    changed = last.changes if last else ()
    if last is not None and last.looked_on < day_of(now):
        changed += _changes(cohort, curve, changed, learning, evidence, now, held=held)
    contexts = evidence.recent_contexts(name, CONTEXTS_LOOKED_AT)
    recent = [msgspec.json.decode(context) for context in contexts]
    hour_ago = evidence.snapshot_at(mode, name, Instant(now - HOUR))
    stored = evidence.snapshot(hour_ago, cohort) if hour_ago else None
    return Material(
        cohort,
        statistics,
        evidence.buckets(
            mode,
            name,
            _recent_from(cohort, held, now),
            by_context=by_context,
            by_day=bool(changed or held.spans),
        ),
        curve,
        (last.levels if last else ContextLevels()).refreshed(recent),
        recent,
        stored.shares if stored else None,
        changed,
        now,
        held,
    )


def _recent_from(cohort: Cohort, held: Held, now: Instant) -> int:
    """Return from when on triggers count by the hour: those that a recent silence touches, too."""
    window = cohort.goal.window
    since = [now, *(since for since, until in held.spans if now - until < 2 * window)]
    return hour_of(Instant(min(since) - window))


def _changes(
    cohort: Cohort,
    curve: DelayCurve,
    known: Sequence[Change],
    learning: Learning,
    evidence: Evidence,
    now: Instant,
    *,
    held: Held = NOTHING_HELD,
) -> tuple[Change, ...]:
    """Look through the whole days of the last months for changes that are not known yet.

    Only the days since the last known change: what was noticed once stays noticed when its days
    are no longer looked at, or what counts little would count again.
    """
    today = day_of(now)
    first = max([today - _DAYS_LOOKED_AT, *(change.since for change in known)])
    places = cohort.space.by_key
    trials, successes = np.zeros((2, today - first, len(cohort.space)))
    span = (first * 24, today * 24)
    for day, key, tried, won in evidence.days(learning.mode, cohort.name, span):
        if key in places and day >= first:
            trials[day - first, places[key].index] += tried
            successes[day - first, places[key].index] += won
    days: Floats = (np.arange(first, today, dtype=np.float64) + 0.5) * DAY
    weighed = weighed_trials(trials, successes, held.seen(curve, days, now)[:, None])
    return tuple(
        replace(change, since=change.since + first, noticed=change.noticed + first)
        for change in changes(weighed, successes)
    )


def _suspect(
    cohort: Cohort, learning: Learning, evidence: Evidence, now: Instant
) -> Suspect | None:
    """Return what makes the last day's feedback look forged or broken, if anything does.

    Of conversions that somebody has looked at and trusts again, nothing is suspected.
    """
    mode, name = learning.mode, cohort.name
    trusted = int(evidence.progress(trusted_name(mode, name)) or 0)
    since, until = max(hour_of(now) - _RECENT_HOURS, trusted), hour_of(now) + 1
    spans = ((0, since), (since, until))
    before, recent = (evidence.trials(mode, name, span) for span in spans)
    told_before, told = (_told(evidence.ages(mode, name, span, OWN)) for span in spans)
    records = {
        key: Record(before.get(key[0], 0), told_before.get(key, 0), recent.get(key[0], 0), number)
        for key, number in told.items()
    }
    leap = largest_leap(records, rate=cohort.prior.rate, weight=cohort.prior.weight)
    good = evidence.snapshot_at(mode, name, Instant(now - HOUR))
    if leap is None or good is None:
        return None
    return Suspect(cohort, Frozen(now, good, leap.reason))


def trusted_name(mode: Mode, cohort: CohortName) -> str:
    """Return under what name it is kept from which hour on feedback is looked at again."""
    return f"trusted:{mode.value}:{cohort}"


def _told(ages: Sequence[AgeCount]) -> Counter[tuple[ComboKey, str]]:
    told: Counter[tuple[ComboKey, str]] = Counter()
    for row in ages:
        told[row.combo_key, row.source] += row.conversions
    return told


def _worth_a_snapshot(current: Snapshot, fresh: Statistics, now: Instant) -> bool:
    if _same(current.statistics, fresh):
        return False
    if now - current.taken_at >= AT_LATEST:
        return True
    known = current.statistics
    for before, after in (
        (known.trials, fresh.trials),
        (known.successes, fresh.successes),
    ):
        if np.abs(after - before).sum() > NOTICEABLE * before.sum():
            return True
    return False


def _same(one: Statistics, other: Statistics) -> bool:
    return bool(
        np.array_equal(one.trials, other.trials) and np.array_equal(one.successes, other.successes)
    )


def _statistics(cohort: Cohort, totals: Mapping[ComboKey, tuple[int, int]]) -> Statistics:
    statistics = Statistics.none(len(cohort.space))
    for key, combo in cohort.space.by_key.items():
        if key in totals:
            statistics.trials[combo.index], statistics.successes[combo.index] = totals[key]
    return statistics
