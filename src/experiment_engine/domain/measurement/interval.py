"""How sure we are of a rate."""

from dataclasses import dataclass
from math import sqrt

import numpy as np

from experiment_engine.domain.bandit.statistics import Floats

Z_95 = 1.959963984540054  # the 97.5 % point of the standard normal distribution


@dataclass(frozen=True, slots=True)
class Interval:
    """A range that holds the true value with the stated confidence."""

    low: float
    high: float


def wilson_interval(successes: int, trials: int, z: float = Z_95) -> Interval:
    """Return the score interval of a proportion (Wilson 1927); all of [0, 1] without trials."""
    if trials == 0:
        return Interval(0.0, 1.0)
    rate, spread = successes / trials, z * z / trials
    centre = (rate + spread / 2) / (1 + spread)
    half = z / (1 + spread) * sqrt(rate * (1 - rate) / trials + spread / (4 * trials))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return Interval(low, high)


def chances_to_be_best(
    successes: Floats,
    trials: Floats,
    *,
    prior_weight: float,
    prior_rate: float = 0.02,
    draws: int = 2_000,
    seed: int = 1,
) -> Floats:
    """Return for each combo the probability that its rate is the highest; shape (K,), sums to 1.

    Draws from independent Beta posteriors whose common prior is the pooled rate, itself drawn
    towards `prior_rate`, both as strong as `prior_weight` trials; the seed is fixed so that
    the same counts give the same answer.
    """
    pooled = (successes.sum() + prior_weight * prior_rate) / (trials.sum() + prior_weight)
    ahead = successes + prior_weight * pooled
    behind = np.maximum(trials - successes, 0.0) + prior_weight * (1 - pooled)
    drawn = np.random.default_rng(seed).beta(ahead, behind, size=(draws, len(successes)))
    best = np.bincount(drawn.argmax(axis=1), minlength=len(successes))
    return np.asarray(best / draws, dtype=np.float64)
