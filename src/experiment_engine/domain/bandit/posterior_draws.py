"""Thompson sampling with exact probabilities: a fixed set of draws from the posterior.

A plain Thompson draw has no probability that could be logged. With M draws kept in a snapshot,
an arm's probability is the share of draws under which it is the best of the eligible ones; a
floor is added so that every eligible arm keeps being tried and off-policy weights stay bounded.
"""

from collections.abc import Sequence

import numpy as np

from experiment_engine.domain.bandit.statistics import Floats, Integers

DRAWS = 64
FLOOR = 0.05  # in all, shared evenly over the eligible arms


def best_shares(scores: Floats, eligible: Sequence[int] | Integers, floor: float) -> Floats:
    """Return how often each eligible arm is the best of them, with a floor under every one.

    `scores` has shape (draws, K); arms that are not eligible are taken out before the best is
    looked for. The floor is added, not clipped: clipping and dividing again would take from
    every arm above it. Shape: (len(eligible),).
    """
    places = np.asarray(eligible)
    out = np.full(scores.shape[1], -np.inf)
    out[places] = 0.0
    best = np.bincount((scores + out).argmax(axis=1), minlength=len(out))[places]
    return np.asarray(best * ((1 - floor) / len(scores)) + floor / len(best))
