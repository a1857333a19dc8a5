"""How long conversions take: a trial counts as much as it has had time to convert."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import erf, floor, log, log2, sqrt

import numpy as np

from experiment_engine.domain.bandit.statistics import Floats
from experiment_engine.domain.moments import HOUR, MINUTE, Duration

BUCKETS_AN_OCTAVE = 4
PRIOR_CONVERSIONS = 30.0  # the prior curve counts as much as this many
_MEDIAN_HOURS, _SPREAD = 4.0, 1.4  # of the prior: log-normal, spread in log units


def age_bucket(age: Duration) -> int:
    """Return the bucket of an age, 0 and up; buckets widen with age, four to a doubling."""
    return floor(BUCKETS_AN_OCTAVE * log2(1 + max(0, age) / MINUTE))


def bucket_end(bucket: int) -> float:
    """Return the age, in milliseconds, at which a bucket ends."""
    return float((2 ** ((bucket + 1) / BUCKETS_AN_OCTAVE) - 1) * MINUTE)


@dataclass(frozen=True)
class DelayCurve:
    """The share of a window's conversions that have come by an age.

    Learned from conversions whose window had closed, mixed with a prior curve that counts as
    `PRIOR_CONVERSIONS` of them.
    """

    window: Duration
    conversions: Mapping[int, int]  # by age bucket

    def arrived(self, ages: Floats) -> Floats:
        """Return the share that has come by each age (milliseconds since the trigger)."""
        inside = np.clip(ages, 0, self.window)
        known = sum(self.conversions.values())
        buckets = range(max(self.conversions, default=-1) + 1)  # empty ones too: nothing came then
        ends = [0.0, *(min(bucket_end(bucket), self.window) for bucket in buckets)]
        sums = np.cumsum([0, *(self.conversions.get(bucket, 0) for bucket in buckets)])
        seen = np.interp(inside, ends, sums) if known else np.zeros_like(inside)
        share = (seen + PRIOR_CONVERSIONS * self._prior(inside)) / (known + PRIOR_CONVERSIONS)
        return np.where(ages >= self.window, 1.0, share)

    def _prior(self, ages: Floats) -> Floats:
        whole = _log_normal(self.window)
        return np.array([_log_normal(age) for age in ages.ravel()]).reshape(ages.shape) / whole


def _log_normal(age: float) -> float:
    if age <= 0:
        return 0.0
    return 0.5 * (1 + erf(log(age / HOUR / _MEDIAN_HOURS) / (_SPREAD * sqrt(2))))


def weighed_trials(trials: Floats, successes: Floats, share: Floats) -> Floats:
    """Return what trials count as when this share of their conversions has come.

    Never less than their successes: a failure does not count below zero.
    """
    return np.maximum(trials * share, successes)
