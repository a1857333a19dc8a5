"""Step 6 of the walk: rebuild policy snapshots from the counters, off the webhook's path."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from experiment_engine.application.ports import Chance, Lessons
from experiment_engine.domain.bandit.policies import build_policy
from experiment_engine.domain.bandit.reward import Counts
from experiment_engine.domain.bandit.snapshot import PolicyInForce, Snapshot
from experiment_engine.domain.bandit.statistics import Statistics
from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.delivery.experiment import Mode
from experiment_engine.domain.identifiers import CohortName, ComboKey
from experiment_engine.domain.moments import MINUTE, Instant

NOTICEABLE = 0.01  # a change this large, against what is known, is learned from at once
AT_LATEST = MINUTE  # a smaller one by then


@dataclass(frozen=True, slots=True)
class Learning:
    """What stays the same from snapshot to snapshot."""

    cohorts: Mapping[CohortName, Cohort]
    mode: Mode
    chance: Chance


@dataclass(frozen=True, slots=True)
class Learned:
    """The policies on fresh statistics, and whether others moved too little to follow yet."""

    fresh: Mapping[CohortName, PolicyInForce]
    more_to_come: bool


def learn(
    in_force: Mapping[CohortName, PolicyInForce],
    learning: Learning,
    lessons: Lessons,
    now: Instant,
) -> Learned:
    """Put every cohort whose statistics moved enough on fresh ones."""
    fresh: dict[CohortName, PolicyInForce] = {}
    more_to_come = False
    for name, cohort in learning.cohorts.items():
        current = in_force.get(name)
        statistics = _statistics(cohort, lessons.counts(learning.mode, name))
        if current is None:
            fresh[name] = _first(cohort, statistics, learning, lessons, now)
        elif _worth_a_snapshot(current.snapshot, statistics, now):
            fresh[name] = _next(cohort, statistics, learning, lessons, now)
        elif not _same(current.snapshot.statistics, statistics):
            more_to_come = True
    return Learned(fresh, more_to_come)


def _first(
    cohort: Cohort,
    statistics: Statistics,
    learning: Learning,
    lessons: Lessons,
    now: Instant,
) -> PolicyInForce:
    stored = lessons.latest_snapshot(learning.mode, cohort)
    if stored is None or not _same(stored.statistics, statistics):
        return _next(cohort, statistics, learning, lessons, now)
    return PolicyInForce(cohort, build_policy(cohort), stored)


def _next(
    cohort: Cohort,
    statistics: Statistics,
    learning: Learning,
    lessons: Lessons,
    now: Instant,
) -> PolicyInForce:
    snapshot = Snapshot(learning.chance.snapshot_id(), now, statistics)
    lessons.add_snapshot(learning.mode, cohort, snapshot)
    return PolicyInForce(cohort, build_policy(cohort), snapshot)


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


def _statistics(cohort: Cohort, counts: Mapping[ComboKey, Counts]) -> Statistics:
    statistics = Statistics.none(len(cohort.space))
    for key, combo in cohort.space.by_key.items():
        if key in counts:
            statistics.trials[combo.index] = counts[key].trials
            statistics.successes[combo.index] = counts[key].successes
    return statistics
