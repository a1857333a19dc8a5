"""What another policy would have made of the same messages, from logged propensities.

A row counts by its weight: how much likelier the other policy was to send what was sent. That is
right on average whatever the rates are, if every propensity is the one that was drawn from and
the other policy sends nothing that could not have been sent.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiment_engine.domain.measurement.confidence_sequence import half_width
from experiment_engine.domain.measurement.interval import Interval
from experiment_engine.domain.measurement.sums import Sums

Floats = NDArray[np.float64]

FEWEST_ROWS = 500.0  # effective ones
FEWEST_CONVERSIONS = 20.0  # effective ones


@dataclass(frozen=True, slots=True)
class WeightSums(Sums):
    """Sums over rows of a weight w and a reward y: all that the estimates need."""

    rows: float = 0
    y: float = 0
    yy: float = 0
    w: float = 0
    ww: float = 0
    wy: float = 0
    wyy: float = 0
    wwy: float = 0
    wwyy: float = 0

    @classmethod
    def of(cls, weights: Floats, rewards: Floats) -> "WeightSums":
        """Add up rows; both have shape (n,)."""
        w, y = weights, rewards
        return cls(
            float(len(y)),
            *(
                float(column.sum())
                for column in (y, y * y, w, w * w, w * y, w * y * y, w * w * y, (w * y) ** 2)
            ),
        )

    @property
    def effective_rows(self) -> float:
        """Return how many rows of equal weight tell as much (Kish 1965)."""
        return self.w**2 / self.ww if self.ww else 0.0

    @property
    def effective_conversions(self) -> float:
        """Return how many conversions of equal weight tell as much."""
        return self.wy**2 / self.wwyy if self.wwyy else 0.0


@dataclass(frozen=True, slots=True)
class Value:
    """An estimate with an interval that holds at every look."""

    value: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class NotEnoughOverlap:
    """Why there is no estimate: too little of the log resembles the other policy."""

    reason: str


def overlap(sums: WeightSums, of: str = "the other policy") -> NotEnoughOverlap | None:
    """Return why the log says too little about the other policy, or None."""
    if sums.effective_rows < FEWEST_ROWS:
        return NotEnoughOverlap(
            f"the log is worth {sums.effective_rows:.0f} messages of {of};"
            f" {FEWEST_ROWS:.0f} are needed"
        )
    if sums.effective_conversions < FEWEST_CONVERSIONS:
        return NotEnoughOverlap(
            f"the log is worth {sums.effective_conversions:.0f} conversions of {of};"
            f" {FEWEST_CONVERSIONS:.0f} are needed"
        )
    return None


def ips(sums: WeightSums) -> Value:
    """Return the mean of w y: inverse propensity scoring (Horvitz and Thompson 1952)."""
    value = sums.wy / sums.rows
    return _value(value, sums.wwyy / sums.rows - value**2, sums.rows)


def snips(sums: WeightSums) -> Value:
    """Return the mean of w y over that of w: self-normalised (Swaminathan and Joachims 2015)."""
    value = sums.wy / sums.w
    around = sums.wwyy - 2 * value * sums.wwy + value**2 * sums.ww  # sum of (w (y - value))^2
    return _value(value, around / sums.rows / (sums.w / sums.rows) ** 2, sums.rows)


def advantage(sums: WeightSums) -> Value:
    """Return what was reached less what the other policy would have: mean of y less `snips`.

    Both are estimated from the same rows, so their errors partly cancel; the variance is that of
    the difference, by its influence on each row.
    """
    mean, value, weight = sums.y / sums.rows, sums.wy / sums.w, sums.w / sums.rows
    own = sums.yy - sums.rows * mean**2
    other = (sums.wwyy - 2 * value * sums.wwy + value**2 * sums.ww) / weight**2
    both = (sums.wyy - (mean + value) * sums.wy + mean * value * sums.w) / weight
    return _value(mean - value, (own + other - 2 * both) / sums.rows, sums.rows)


def doubly_robust(weights: Floats, rewards: Floats, predicted: Floats, expected: Floats) -> Value:
    """Return the estimate of Dudik, Langford and Li (2011).

    `predicted` is a model's rate of what was sent, `expected` the model's rate of what the other
    policy would have sent, averaged over its choices; all have shape (n,).
    """
    scores = expected + weights * (rewards - predicted)
    return _value(float(scores.mean()), float(scores.var()), float(len(scores)))


def _value(value: float, variance_of_one: float, rows: float) -> Value:
    half = half_width(max(0.0, variance_of_one) / rows, rows)
    return Value(value, Interval(value - half, value + half))
