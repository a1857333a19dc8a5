"""The simulated worlds: 160 combos of four dimensions, 216 contexts, and true rates of each.

log odds = intercept + levels + pairs of levels + a residual of each combo + context + context x
levels. Effects are drawn; the intercept is solved so that the mean rate is 1, 2 or 3 in 100.
What policies lose is counted in expected conversions, so that only choices are compared, not luck.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

DIMENSIONS = (4, 2, 5, 4)  # delay, channel, angle, offer
FEATURES = (4, 3, 6, 3)  # region, language, show, plan
ARMS, CONTEXTS = int(np.prod(DIMENSIONS)), int(np.prod(FEATURES))


@dataclass(frozen=True)
class Effects:
    """How far effects go: standard deviations of log odds."""

    main: float = 0.25
    pair: float = 0.12
    residual: float = 0.08
    context: float = 0.30
    cross: float = 0.06


KINDS = {
    "factorial": Effects(),
    "contextual": Effects(cross=0.22),
    "unstructured": Effects(main=0.0, pair=0.0, residual=0.45, context=0.0, cross=0.0),
    "null": Effects(main=0.0, pair=0.0, residual=0.0, cross=0.0),  # messages do nothing
}


@dataclass(frozen=True)
class World:
    """True rates over time, and who comes: one table of rates for each stretch of time."""

    rates: Sequence[Floats]  # (contexts, arms) each
    shares: Floats  # (contexts,)

    def contexts(self, number: int, rng: np.random.Generator) -> Integers:
        """Draw the contexts of users; shape (number, features)."""
        cells = rng.choice(CONTEXTS, size=number, p=self.shares)
        return np.stack(np.unravel_index(cells, FEATURES), axis=1)

    def rates_of(self, contexts: Integers, progress: float) -> Floats:
        """Return the rate of every arm for each user, at a moment from 0 to 1; shape (n, K)."""
        stretch = min(int(progress * len(self.rates)), len(self.rates) - 1)
        rates: Floats = self.rates[stretch][np.ravel_multi_index(tuple(contexts.T), FEATURES)]
        return rates


def make(kind: str, seed: int) -> World:
    """Draw a world: one of `KINDS`, or drift or shock."""
    rng = np.random.default_rng([seed, 1])
    shares = _context_shares(rng)
    mean_rate = rng.choice([0.01, 0.02, 0.03])
    if kind == "shock":
        tables = [_log_odds(KINDS["factorial"], rng) for _ in range(2)]
    elif kind == "drift":
        tables = _drifting(rng)
    else:
        tables = [_log_odds(KINDS[kind], rng)]
    return World([_at_mean(table, shares, mean_rate) for table in tables], shares)


def _context_shares(rng: np.random.Generator) -> Floats:
    shares = np.ones(1)
    for size in FEATURES:
        shares = np.outer(shares, rng.dirichlet(np.full(size, 2.0))).ravel()
    return shares


def _drifting(rng: np.random.Generator, stretches: int = 20, kept: float = 0.9) -> list[Floats]:
    tables = [_log_odds(KINDS["factorial"], rng)]
    for _ in range(stretches - 1):
        fresh = _log_odds(KINDS["factorial"], rng)
        tables.append(kept * tables[-1] + np.sqrt(1 - kept**2) * fresh)
    return tables


def _log_odds(effects: Effects, rng: np.random.Generator) -> Floats:
    """Draw every effect; shape (contexts, arms), without the intercept."""
    arms = np.stack(np.unravel_index(np.arange(ARMS), DIMENSIONS), axis=1)
    cells = np.stack(np.unravel_index(np.arange(CONTEXTS), FEATURES), axis=1)
    of_arms = rng.normal(0, effects.residual, ARMS)
    for dimension, size in enumerate(DIMENSIONS):
        of_arms += rng.normal(0, effects.main, size)[arms[:, dimension]]
    for one, two in combinations(range(len(DIMENSIONS)), 2):
        table = rng.normal(0, effects.pair, (DIMENSIONS[one], DIMENSIONS[two]))
        of_arms += table[arms[:, one], arms[:, two]]
    log_odds = np.tile(of_arms, (CONTEXTS, 1))
    for feature, size in enumerate(FEATURES):
        log_odds += rng.normal(0, effects.context, size)[cells[:, feature]][:, None]
        for dimension, levels in enumerate(DIMENSIONS):
            table = rng.normal(0, effects.cross, (size, levels))
            log_odds += table[cells[:, feature]][:, arms[:, dimension]]
    return log_odds


def _at_mean(log_odds: Floats, shares: Floats, mean_rate: float) -> Floats:
    """Return the rates, with the intercept at which everybody's mean over all arms is given."""
    low, high = -20.0, 5.0
    for _ in range(60):
        middle = (low + high) / 2
        mean = shares @ (1 / (1 + np.exp(-(log_odds + middle)))).mean(axis=1)
        low, high = (middle, high) if mean < mean_rate else (low, middle)
    return 1 / (1 + np.exp(-(log_odds + low)))
