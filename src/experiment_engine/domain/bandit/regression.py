"""Bayesian logistic regression on one-hot groups, by Newton's method and Laplace's approximation.

The rows are never written out as a matrix: with one column a group, the information is made of
tables of weights by two groups' columns, which counting fills.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiment_engine.domain.bandit.design import Design
from experiment_engine.domain.bandit.statistics import Floats, Integers, sums_by

_MOST_STEPS = 50
_MOST_HALVINGS = 20
_CLOSE = 1e-9  # the largest step of a coefficient at which the fit has arrived


@dataclass(frozen=True, slots=True)
class Rows:
    """Counts by the column that each row has in each group."""

    codes: Sequence[Integers]  # one array (n,) a group
    trials: Floats
    successes: Floats


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


def fit(design: Design, rows: Rows, prior_mean: Floats) -> Posterior:
    """Return the posterior's mode and curvature (Laplace), and the model's log evidence.

    The evidence is that of MacKay (1992): the likelihood at the mode times the Occam factor.
    """
    theta = prior_mean.copy()
    value, gradient, weights = _at(design, rows, prior_mean, theta)
    for _ in range(_MOST_STEPS):
        information = _information(design, rows, weights)
        step: Floats = np.linalg.solve(information, gradient).astype(np.float64, copy=False)
        theta, value, gradient, weights = _walk(design, rows, prior_mean, theta, step, value)
        if np.abs(step).max() < _CLOSE:
            break
    precision = _information(design, rows, weights)
    half_log_det = np.log(np.diag(np.linalg.cholesky(precision))).sum()
    evidence = value + 0.5 * np.log(design.precision).sum() - half_log_det
    return Posterior(theta, precision, float(evidence))


def _walk(
    design: Design, rows: Rows, prior_mean: Floats, theta: Floats, step: Floats, value: float
) -> tuple[Floats, float, Floats, Floats]:
    """Go one step, or as much of it as does not lead down."""
    share = 1.0
    for _ in range(_MOST_HALVINGS):
        there = theta + share * step
        found = _at(design, rows, prior_mean, there)
        if found[0] >= value - 1e-9 * abs(value):
            break
        share /= 2
    return (there, *found)


def _at(
    design: Design, rows: Rows, prior_mean: Floats, theta: Floats
) -> tuple[float, Floats, Floats]:
    """Return the log posterior up to a constant, its gradient, and the rows' weights."""
    eta = np.zeros(len(rows.trials))
    for group, codes in zip(design.groups, rows.codes, strict=True):
        eta += theta[group.columns][codes]
    rates = np.exp(-np.logaddexp(0, -eta))  # without an overflow, wherever a long step leads
    off = theta - prior_mean
    likelihood = (rows.successes * eta - rows.trials * np.logaddexp(0, eta)).sum()
    value = float(likelihood - 0.5 * (design.precision * off**2).sum())
    residual = rows.successes - rows.trials * rates
    gradient = -design.precision * off
    for group, codes in zip(design.groups, rows.codes, strict=True):
        gradient[group.columns] += sums_by(codes, residual, group.size)
    return value, gradient, rows.trials * rates * (1 - rates)


def _information(design: Design, rows: Rows, weights: Floats) -> Floats:
    """Return the curvature of the log posterior: prior precision plus X^T W X; shape (d, d)."""
    information = np.zeros((design.width, design.width))
    blocks = list(zip(design.groups, rows.codes, strict=True))
    for place, (one, codes) in enumerate(blocks):
        information[one.columns, one.columns] = np.diag(sums_by(codes, weights, one.size))
        for other, others in blocks[place + 1 :]:
            both = codes * other.size + others
            table = sums_by(both, weights, one.size * other.size).reshape(one.size, other.size)
            information[one.columns, other.columns] = table
            information[other.columns, one.columns] = table.T
    information[np.diag_indices_from(information)] += design.precision
    return information
