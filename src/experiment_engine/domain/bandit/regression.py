"""Bayesian logistic regression on one-hot groups, by Newton's method and Laplace's approximation.

The rows are never written out as a matrix. Every group is about at most one feature of the
context, so all sums over rows that a step needs are margins of a few tables: of the arms, of the
arms by one feature, and of the arms by two. Counting fills those in eleven passes over the rows
(with four features); the rest is as large as the design, however many rows there are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from experiment_engine.domain.bandit.design import DELAY, Design, Factors
from experiment_engine.domain.bandit.statistics import Floats, Integers, sums_by

_MOST_STEPS = 50
_MOST_HALVINGS = 20
_CLOSE = 1e-5  # the largest step after which the fit has arrived: the next would be its square


@dataclass(frozen=True)
class Rows:
    """Counts of arms in contexts, with their places in the tables that the fit needs."""

    design: Design
    contexts: Integers  # (n, G)
    arms: Integers  # (n,)
    postponed: NDArray[np.bool_]  # (n,)
    trials: Floats  # (n,)
    successes: Floats  # (n,)

    @cached_property
    def tables(self) -> Mapping[Factors, Integers]:
        """Return by features of the context the place of each row in a table by them and arms."""
        levels = self.design.arms.levels[self.arms].T
        levels[DELAY, self.postponed] = self.design.arms.sizes[DELAY]
        features = range(len(self.design.sizes))
        return {
            chosen: self._places([*self.contexts.T[list(chosen)], *levels], chosen)
            for number in range(3)
            for chosen in combinations(features, number)
        }

    def counted(self, values: Floats, features: Factors) -> Floats:
        """Return the sums of the rows' values by some features and all dimensions."""
        shape = self.design.shape((*features, *self.design.dimensions))
        return sums_by(self.tables[features], values, int(np.prod(shape))).reshape(shape)

    def _places(self, values: Sequence[Integers], features: Factors) -> Integers:
        shape = self.design.shape((*features, *self.design.dimensions))
        places: Integers = np.ravel_multi_index(tuple(values), shape)
        return places


@dataclass(frozen=True, slots=True)
class Posterior:
    """The normal that stands for the posterior: its mean and precision, and its evidence."""

    mean: Floats  # (d,)
    precision: Floats  # (d, d)
    log_evidence: float

    def draws(self, number: int, scale: float, seed: int) -> Floats:
        """Return draws whose deviations from the mean are scaled; shape (number, d)."""
        lower = np.linalg.cholesky(self.precision)
        noise = np.random.default_rng(seed).standard_normal((number, len(self.mean)))
        # precision = L L^T, so L^-T z has the covariance
        return np.asarray(self.mean + scale * np.linalg.solve(lower.T, noise.T).T)


def fit(rows: Rows, prior_mean: Floats, start: Floats | None = None) -> Posterior:
    """Return the posterior's mode and curvature (Laplace), and the model's log evidence.

    The evidence is that of MacKay (1992): the likelihood at the mode times the Occam factor.
    A start near the mode saves steps; without one it is the prior's mean.
    """
    theta = (prior_mean if start is None else start).copy()
    value, gradient, weights = _at(rows, prior_mean, theta)
    for _ in range(_MOST_STEPS):
        step = np.asarray(np.linalg.solve(_information(rows, weights), gradient), np.float64)
        theta, value, gradient, weights = _walk(rows, prior_mean, theta, step, value)
        if np.abs(step).max() < _CLOSE:
            break
    precision = _information(rows, weights)
    half_log_det = np.log(np.diag(np.linalg.cholesky(precision))).sum()
    evidence = value + 0.5 * np.log(rows.design.precision).sum() - half_log_det
    return Posterior(theta, precision, float(evidence))


def _walk(
    rows: Rows, prior_mean: Floats, theta: Floats, step: Floats, value: float
) -> tuple[Floats, float, Floats, Floats]:
    """Go one step, or as much of it as does not lead down."""
    share = 1.0
    for _ in range(_MOST_HALVINGS):
        there = theta + share * step
        found = _at(rows, prior_mean, there)
        if found[0] >= value - 1e-9 * abs(value):
            break
        share /= 2
    return (there, *found)


def _at(rows: Rows, prior_mean: Floats, theta: Floats) -> tuple[float, Floats, Floats]:
    """Return the log posterior up to a constant, its gradient, and the rows' weights."""
    design = rows.design
    eta = np.zeros(len(rows.trials))
    for features, groups in design.by_features.items():
        table = np.zeros(design.shape((*features, *design.dimensions)))
        for group in groups:
            table += design.spread(theta, group, features)
        eta += table.reshape(-1)[rows.tables[features]]
    softplus = np.logaddexp(0, eta)
    rates = np.exp(eta - softplus)  # without an overflow, wherever a long step leads
    off = theta - prior_mean
    likelihood = (rows.successes * eta - rows.trials * softplus).sum()
    value = float(likelihood - 0.5 * (design.precision * off**2).sum())
    expected = rows.trials * rates
    gradient = -design.precision * off
    for features, groups in design.by_features.items():
        residual = rows.counted(rows.successes - expected, features)
        for group in groups:
            margin = np.add.reduce(residual, axis=design.summed(group.factors))
            gradient[group.columns] += margin.reshape(-1)
    return value, gradient, expected * (1 - rates)


def _information(rows: Rows, weights: Floats) -> Floats:
    """Return the curvature of the log posterior: prior precision plus X^T W X; shape (d, d)."""
    design = rows.design
    tables = {features: rows.counted(weights, features) for features in rows.tables}
    flat = np.zeros(design.width**2)
    for features, summed, places in design.meetings:
        flat[places] = np.add.reduce(tables[features], axis=summed).reshape(-1)
    information = flat.reshape(design.width, design.width)
    information[np.diag_indices_from(information)] += design.precision
    return information
