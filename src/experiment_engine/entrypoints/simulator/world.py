"""A synthetic world of one cohort of the user's configuration: true rates by context and combo.

log odds = intercept + levels + pairs of levels + a residual of each combo + context + context x
levels. Effects are drawn from normal distributions; the intercept is solved so that the mean rate
over everybody and all combos is the configuration's prior rate.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal

import numpy as np

from experiment_engine.domain.bandit.arms import Arms
from experiment_engine.domain.bandit.statistics import Floats, Integers
from experiment_engine.domain.moments import HOUR, Duration

Drift = Literal["none", "slow", "sudden"]

MAIN, PAIR, RESIDUAL, CONTEXT = 0.25, 0.12, 0.08, 0.30  # standard deviations of log odds
SPREAD = 1.4  # of the time until a conversion, log-normal, in log units

_STRETCHES, _KEPT = 20, 0.9  # of a slow drift: how many, and the correlation of two neighbours
_TRIES = 12  # at a time to convert inside the window


@dataclass(frozen=True)
class Plan:
    """What a world is made of."""

    arms: Arms
    features: tuple[int, ...]  # levels of each feature of the context
    rate: float  # mean over everybody and all combos
    sends: Floats  # hours from the trigger to the message of each combo, (K,)
    window: Duration  # of the goal
    cross: float = 0.06  # how far context and levels work together: of log odds
    drift: Drift = "none"
    median_hours: float = 4.0  # from the message to the conversion


@dataclass(frozen=True)
class Users:
    """Everybody who comes, in order, with their luck: the same for every policy."""

    at: Floats  # hours, (n,)
    contexts: Integers  # (n, G)
    rates: Floats  # true rate of every combo, (n, K)
    luck: Floats  # (n,)
    waits: Floats  # hours from the message to the conversion, tries, (n, tries)


@dataclass(frozen=True)
class World:
    """True rates over time: one table of rates for each stretch of time."""

    plan: Plan
    seed: int
    tables: Sequence[Floats] = field(init=False)  # (contexts, K) each
    shares: Floats = field(init=False)  # of each context, (contexts,)

    def __post_init__(self) -> None:
        """Draw everything from the seed."""
        rng = np.random.default_rng([self.seed, 1])
        shares = np.ones(1)
        for size in self.plan.features:
            shares = np.outer(shares, rng.dirichlet(np.full(size, 2.0))).ravel()
        tables = [_at_mean(table, shares, self.plan.rate) for table in _drawn(self.plan, rng)]
        object.__setattr__(self, "tables", tables)
        object.__setattr__(self, "shares", shares)

    def users(self, number: int, a_day: float) -> Users:
        """Draw who comes, evenly over time."""
        rng = np.random.default_rng([self.seed, 2])
        cells = rng.choice(len(self.shares), size=number, p=self.shares)
        stretch = np.arange(number) * len(self.tables) // number
        rates = np.stack(self.tables)[stretch, cells]
        contexts = np.stack(np.unravel_index(cells, self.plan.features), axis=1)
        at = np.arange(number, dtype=np.float64) * (24 / a_day)
        waits = rng.lognormal(np.log(self.plan.median_hours), SPREAD, (number, _TRIES))
        return Users(at, contexts, rates, rng.random(number), waits)

    def converted_at(self, users: Users, rows: slice, arms: Integers) -> Floats:
        """Return when each user of the rows converts, in hours; infinity: never."""
        sends = self.plan.sends[arms]
        room = self.plan.window / HOUR - sends
        fits = users.waits[rows] <= room[:, None]
        wait = users.waits[rows][np.arange(len(arms)), fits.argmax(axis=1)]
        wait = np.where(fits.any(axis=1), wait, room)
        converts = users.luck[rows] < users.rates[rows][np.arange(len(arms)), arms]
        return np.where(converts, users.at[rows] + sends + wait, np.inf)


def _drawn(plan: Plan, rng: np.random.Generator) -> list[Floats]:
    tables = [_log_odds(plan, rng)]
    if plan.drift == "sudden":
        tables.append(_log_odds(plan, rng))
    elif plan.drift == "slow":
        for _ in range(_STRETCHES - 1):
            fresh = _log_odds(plan, rng)
            tables.append(_KEPT * tables[-1] + np.sqrt(1 - _KEPT**2) * fresh)
    return tables


def _log_odds(plan: Plan, rng: np.random.Generator) -> Floats:
    """Draw every effect; shape (contexts, K), without the intercept."""
    levels, sizes = plan.arms.levels, plan.arms.sizes
    cells = np.stack(
        np.unravel_index(np.arange(int(np.prod(plan.features))), plan.features), axis=1
    )
    of_arms = rng.normal(0, RESIDUAL, len(plan.arms))
    for dimension, size in enumerate(sizes):
        of_arms += rng.normal(0, MAIN, size)[levels[:, dimension]]
    for one, two in combinations(range(len(sizes)), 2):
        table = rng.normal(0, PAIR, (sizes[one], sizes[two]))
        of_arms += table[levels[:, one], levels[:, two]]
    log_odds = np.tile(of_arms, (len(cells), 1))
    for feature, size in enumerate(plan.features):
        log_odds += rng.normal(0, CONTEXT, size)[cells[:, feature]][:, None]
        for dimension, number in enumerate(sizes):
            table = rng.normal(0, plan.cross, (size, number))
            log_odds += table[cells[:, feature]][:, levels[:, dimension]]
    return log_odds


def _at_mean(log_odds: Floats, shares: Floats, rate: float) -> Floats:
    """Return the rates, with the intercept at which everybody's mean over all combos is given."""
    low, high = -30.0, 30.0
    for _ in range(60):
        middle = (low + high) / 2
        mean = float(shares @ (1 / (1 + np.exp(-(log_odds + middle)))).mean(axis=1))
        low, high = (middle, high) if mean < rate else (low, middle)
    return np.asarray(1 / (1 + np.exp(-(log_odds + low))))
