"""Has the world changed? Then what was counted before says little about it.

Discounting always costs regret where nothing changes; so everything counts fully until the
conversions of whole days no longer agree with what the days before them foretold.
"""

from dataclasses import dataclass
from math import log

import numpy as np

from experiment_engine.domain.bandit.statistics import Floats

FALL, RISE = 0.6, 1.6  # the changes looked for: conversions against what was foretold
THRESHOLD = 7.0  # of Page's sums, in nats
FAITH = 3.0  # conversions that each arm's rate is drawn to the mean with
LEARN_FIRST = 50.0  # conversions to know before anything is foretold
KEPT = 0.02  # what counts from before the change, once the alarm has gone off

_EM_STEPS = 30


@dataclass(frozen=True, slots=True)
class Change:
    """An alarm: the first day that was different, and the day on which it showed."""

    since: int
    noticed: int
    foretold: float  # conversions in these days, by what was known before
    observed: float


@dataclass
class _Page:
    """Page's cumulative sum (1954) of the log likelihood ratio of Poisson counts."""

    factor: float
    total: float = 0.0
    since: int = 0
    foretold: float = 0.0
    observed: float = 0.0

    def goes_off(self, day: int, foretold: float, doubt: float, observed: float) -> bool:
        """Add a day; it may have begun anew with it.

        `doubt` is the variance of the day's conversions against that of a Poisson count: what is
        foretold from little is no evidence.
        """
        if self.total <= 0:
            self.total, self.since, self.foretold, self.observed = 0.0, day, 0.0, 0.0
        self.total += (observed * log(self.factor) - foretold * (self.factor - 1)) / doubt
        self.foretold += foretold
        self.observed += observed
        return self.total > THRESHOLD


def changes(trials: Floats, successes: Floats) -> list[Change]:
    """Return the alarms of a history: sums by day and arm, both of shape (days, K).

    Each day is foretold from the days before it: an arm's rate is its own record, drawn to the
    mean of all. After an alarm, only the days since the change are known in full.
    """
    found: list[Change] = []
    pages = _Page(FALL), _Page(RISE)
    known_trials, known_successes = np.zeros(trials.shape[1]), np.zeros(trials.shape[1])
    for day, (tried, won) in enumerate(zip(trials, successes, strict=True)):
        if known_successes.sum() >= LEARN_FIRST:
            by_arm = tried * _rates(known_trials, known_successes)
            foretold, observed = float(by_arm.sum()), float(won.sum())
            variance = (by_arm**2 / (known_successes + FAITH)).sum()
            doubt = 1 + float(variance / max(foretold, 1e-9))
            off = [page for page in pages if page.goes_off(day, foretold, doubt, observed)]
            if off:
                since = off[0].since
                found.append(Change(since, day, off[0].foretold, off[0].observed))
                weights = kept(found, day)[:, None]
                known_trials = (weights * trials[:day]).sum(axis=0)
                known_successes = (weights * successes[:day]).sum(axis=0)
                pages = _Page(FALL), _Page(RISE)
        known_trials = known_trials + tried
        known_successes = known_successes + won
    return found


def _rates(trials: Floats, successes: Floats) -> Floats:
    """Return each arm's rate, drawn to the mean over arms, which EM finds; shape (K,).

    The mean over arms and not over trials: most trials go to what did well so far, and a mean
    that they decide foretells too much of every arm that is new to the lead.
    """
    mean = successes.sum() / trials.sum()
    for _ in range(_EM_STEPS):
        mean = ((successes + FAITH) / (trials + FAITH / mean)).mean()
    return np.asarray((successes + FAITH) / (trials + FAITH / mean))


def kept(found: list[Change], days: int) -> Floats:
    """Return the weight of each of the first `days` days, given the alarms; shape (days,)."""
    weights = np.ones(days)
    for change in found:
        weights[: change.since] *= KEPT
    return weights
