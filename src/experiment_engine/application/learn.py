"""Step 6 of the walk: rebuild policy snapshots from the counters, off the webhook's path.

Reading, fitting and keeping are apart, because fitting takes long: gather.py reads one consistent
view, `fit` works outside of every transaction, and only keeping its result is a small one.
"""

from collections import Counter
from hashlib import blake2b

import numpy as np

from experiment_engine.application.evidence import (
    StoredSnapshot,
)
from experiment_engine.application.gather import Learning, Material, day_of
from experiment_engine.domain.bandit.cells import Cells
from experiment_engine.domain.bandit.change_alarm import kept
from experiment_engine.domain.bandit.context import Context
from experiment_engine.domain.bandit.delay_curve import weighed_trials
from experiment_engine.domain.bandit.policies import build_policy, most_shift
from experiment_engine.domain.bandit.policy import Model
from experiment_engine.domain.bandit.shift_limit import shift_limit
from experiment_engine.domain.bandit.snapshot import PolicyInForce, Snapshot
from experiment_engine.domain.bandit.statistics import Floats
from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.moments import HOUR


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
        material.changes,
        day_of(material.at),
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
        stored.changes,
        stored.looked_on,
    )
    return PolicyInForce(cohort, snapshot, policy.uses_context)


def cells_of(material: Material) -> Cells:
    """Return the counts by context and combo, as far as they count.

    Each trial is weighed by its time to convert, less what a silent source did not tell of it,
    and what was before a change of the world counts little.
    """
    places = material.cohort.space.by_key
    buckets = [row for row in material.buckets if row.combo_key in places]
    hours = np.array([row.hour for row in buckets], dtype=np.float64)
    different, which = np.unique(hours, return_inverse=True)
    share = _seen(material, different)[which] if len(different) else hours
    today = day_of(material.at)
    # After a clock was set back there are trials of later days: they are as good as today's.
    days = np.minimum(hours // 24, today).astype(np.int64)
    known = kept(list(material.changes), today + 1)[days]
    successes = np.array([row.successes for row in buckets], dtype=np.float64)
    trials = np.array([row.trials for row in buckets], dtype=np.float64)
    sizes = material.levels.sizes
    contexts = [material.levels.parse(row.context) for row in buckets]
    return Cells(
        np.array(contexts, np.int64).reshape(len(buckets), len(sizes)),
        np.array([places[row.combo_key].index for row in buckets], np.int64),
        np.array([row.postponed for row in buckets], np.bool_),
        weighed_trials(trials, successes, share) * known,
        successes * known,
        sizes,
    )


def _seen(material: Material, hours: Floats) -> Floats:
    """Return the share of conversions that could be seen of the triggers of each bucket.

    Where a source was silent, a bucket that was folded into a day or a month has the mean of its
    hours: the trigger's own hour is not known any more.
    """
    curve, held, now = material.curve, material.held, material.at
    if not held.spans:
        return curve.arrived(now - (hours + 0.5) * HOUR)
    old = now - hours * HOUR > material.cohort.goal.window
    lengths = np.where(old & (hours % 24 == 0), np.where(hours % 720 == 0, 720, 24), 1)
    lengths = np.minimum(lengths, np.diff(hours, append=np.inf)).astype(np.int64)
    starts = np.cumsum(lengths) - lengths
    each = np.repeat(hours - starts, lengths) + np.arange(lengths.sum())
    return np.add.reduceat(held.seen(curve, (each + 0.5) * HOUR, now), starts) / lengths


def _seed(material: Material) -> int:
    described = f"{material.cohort.name}|{material.at}"
    return int.from_bytes(blake2b(described.encode(), digest_size=8).digest())
