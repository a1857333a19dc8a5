"""Step 6 of the walk: rebuild policy snapshots from the counters, off the webhook's path.

Reading, fitting and keeping are apart, because fitting takes long: `gather` reads one consistent
view, `fit` works outside of every transaction, and only keeping its result is a small one.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

import msgspec
import numpy as np

from experiment_engine.application.evidence import (
    AgeCount,
    BucketCount,
    Frozen,
    StoredSnapshot,
)
from experiment_engine.application.ports import Chance, Evidence
from experiment_engine.domain.bandit.anomaly import Record, largest_leap
from experiment_engine.domain.bandit.cells import Cells
from experiment_engine.domain.bandit.context import Context, ContextLevels
from experiment_engine.domain.bandit.delay_curve import DelayCurve, weighed_trials
from experiment_engine.domain.bandit.policies import build_policy, most_shift
from experiment_engine.domain.bandit.policy import Model
from experiment_engine.domain.bandit.shift_limit import shift_limit
from experiment_engine.domain.bandit.snapshot import PolicyInForce, Snapshot
from experiment_engine.domain.bandit.statistics import Floats, Statistics
from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.delivery.experiment import Mode
from experiment_engine.domain.identifiers import CohortName, ComboKey
from experiment_engine.domain.moments import HOUR, MINUTE, Instant, hour_of

NOTICEABLE = 0.01  # a change this large, against what is known, is learned from at once
AT_LATEST = MINUTE  # a smaller one by then
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
    at: Instant


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
            levels = current.snapshot.levels if current else ContextLevels()
            materials.append(_material(cohort, statistics, levels, learning, evidence, now))
        elif not _same(current.snapshot.statistics, statistics):
            more_to_come = True
    return Gathered(materials, suspects, more_to_come)


def fit(material: Material, learning: Learning) -> PolicyInForce:
    """Return the cohort's policy on a new snapshot; takes long where there is much to learn."""
    policy = build_policy(material.cohort)
    model = policy.fit(cells_of(material), _seed(material))
    shares, floor = _traffic(model, material, uses_context=policy.uses_context)
    most = most_shift(material.cohort)
    limit = None
    if material.before is not None and len(material.before) == len(shares):
        limit = shift_limit(material.before, shares, floor, most)
    if limit is not None:
        shares = limit.applied(shares, range(len(shares)))
    snapshot = Snapshot(
        learning.chance.snapshot_id(),
        material.at,
        material.statistics,
        model,
        material.levels,
        shares,
        limit,
    )
    return PolicyInForce(material.cohort, snapshot, policy.uses_context)


def _traffic(model: Model, material: Material, *, uses_context: bool) -> tuple[Floats, float]:
    """Return each combo's share of the recent traffic under a model, and the mean floor."""
    every = range(len(material.cohort.space))
    contexts: Counter[Context] = Counter(
        material.levels.bucket(context) if uses_context else () for context in material.recent
    )
    if not contexts:
        contexts[material.levels.bucket({}) if uses_context else ()] = 1
    shares, floor = np.zeros(len(every)), 0.0
    for context, times in contexts.items():
        chances = model.propensities(context, every)
        shares += chances * (times / contexts.total())
        floor += float(chances.min()) * times / contexts.total()
    return shares, floor


def restored(stored: StoredSnapshot, cohort: Cohort) -> PolicyInForce:
    """Return the policy on a snapshot that this or another process kept."""
    policy = build_policy(cohort)
    snapshot = Snapshot(
        stored.id,
        stored.taken_at,
        stored.statistics,
        policy.load(stored.arrays),
        stored.levels,
        stored.shares,
        stored.limit,
    )
    return PolicyInForce(cohort, snapshot, policy.uses_context)


def cells_of(material: Material) -> Cells:
    """Return the counts by context and combo, each trial weighed by its time to convert."""
    places = material.cohort.space.by_key
    buckets = [row for row in material.buckets if row.combo_key in places]
    hours = np.array([row.hour for row in buckets], dtype=np.float64)
    ages = material.at - (hours + 0.5) * HOUR
    moments, which = np.unique(ages, return_inverse=True)
    share = material.curve.arrived(moments)[which] if len(moments) else ages
    successes = np.array([row.successes for row in buckets], dtype=np.float64)
    trials = np.array([row.trials for row in buckets], dtype=np.float64)
    sizes = material.levels.sizes
    contexts = [material.levels.parse(row.context) for row in buckets]
    return Cells(
        np.array(contexts, np.int64).reshape(len(buckets), len(sizes)),
        np.array([places[row.combo_key].index for row in buckets], np.int64),
        np.array([row.postponed for row in buckets], np.bool_),
        weighed_trials(trials, successes, share),
        successes,
        sizes,
    )


def _material(
    cohort: Cohort,
    statistics: Statistics,
    levels: ContextLevels,
    learning: Learning,
    evidence: Evidence,
    now: Instant,
) -> Material:
    mode, name = learning.mode, cohort.name
    by_context = build_policy(cohort).uses_context
    recent_from = hour_of(Instant(now - cohort.goal.window))
    told = evidence.ages(mode, name, (0, recent_from))
    conversions: dict[int, int] = {}
    for row in told:
        conversions[row.age_bucket] = conversions.get(row.age_bucket, 0) + row.conversions
    contexts = evidence.recent_contexts(name, CONTEXTS_LOOKED_AT)
    recent = [msgspec.json.decode(context) for context in contexts]
    hour_ago = evidence.snapshot_at(mode, name, Instant(now - HOUR))
    stored = evidence.snapshot(hour_ago, cohort) if hour_ago else None
    return Material(
        cohort,
        statistics,
        evidence.buckets(mode, name, recent_from, by_context=by_context, by_day=False),
        DelayCurve(cohort.goal.window, conversions),
        levels.refreshed(recent),
        recent,
        stored.shares if stored else None,
        now,
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
    told_before, told = (_told(evidence.ages(mode, name, span)) for span in spans)
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


def _seed(material: Material) -> int:
    described = f"{material.cohort.name}|{material.at}"
    return int.from_bytes(blake2b(described.encode(), digest_size=8).digest())


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
