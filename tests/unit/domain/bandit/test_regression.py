"""The regression against scipy, and against the same sums written out as a matrix."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from tests.unit.domain.bandit.histories import DIMENSIONS, FEATURES, a_history

from experiment_engine.domain.bandit.arms import Arms
from experiment_engine.domain.bandit.cells import Cells
from experiment_engine.domain.bandit.design import DELAY, Design, Scales
from experiment_engine.domain.bandit.regression import Posterior, Rows, fit
from experiment_engine.domain.bandit.statistics import Floats

SEEDS = st.integers(0, 10**6)
a_few = settings(max_examples=15)


def a_design(*, pairs: bool = True) -> Design:
    return Design(Arms(DIMENSIONS), FEATURES, Scales(), pairs)


def fitted(design: Design, cells: Cells, mean: Floats) -> Posterior:
    counts = (cells.contexts, cells.arms, cells.postponed, cells.trials, cells.successes)
    return fit(Rows(design, *counts), mean)


def written_out(design: Design, cells: Cells) -> Floats:
    """Return the one-hot matrix, column by column from the groups' meaning; shape (n, d)."""
    levels = Arms(DIMENSIONS).levels[cells.arms]
    levels[cells.postponed, DELAY] = DIMENSIONS[DELAY]
    values = np.concatenate([cells.contexts, levels], axis=1)
    matrix = np.zeros((len(cells.arms), design.width))
    for group in design.groups:
        for offset, chosen in enumerate(np.ndindex(group.shape)):
            has = (values[:, list(group.factors)] == chosen).all(axis=1)
            matrix[has, group.start + offset] = 1
    return matrix


def log_posterior(
    theta: Floats, design: Design, matrix: Floats, cells: Cells, mean: Floats
) -> float:
    eta = matrix @ theta
    likelihood = cells.successes @ eta - cells.trials @ np.logaddexp(0, eta)
    return float(likelihood - 0.5 * design.precision @ (theta - mean) ** 2)


def a_mean(design: Design) -> Floats:
    return design.mean(-3.0, [np.array([1.0, 1.3, 1.0])] + [np.ones(n) for n in DIMENSIONS[1:]])


@pytest.mark.parametrize("pairs", [False, True])
@a_few
@given(seed=SEEDS, whole=st.booleans())
def test_the_mode_is_scipys(*, pairs: bool, seed: int, whole: bool) -> None:
    """Newton's steps end where a general optimiser ends, and there the gradient is zero."""
    design, cells = a_design(pairs=pairs), a_history(60, 200, seed, whole=whole)
    matrix, mean = written_out(design, cells), a_mean(design)

    found = fitted(design, cells, mean)

    def loss(theta: Floats) -> float:
        return -log_posterior(theta, design, matrix, cells, mean)

    def slope(theta: Floats) -> Floats:
        rates = 1 / (1 + np.exp(-matrix @ theta))
        return design.precision * (theta - mean) - matrix.T @ (
            cells.successes - cells.trials * rates
        )

    best = optimize.minimize(loss, mean, jac=slope, method="L-BFGS-B", options={"ftol": 1e-15})
    assert loss(found.mean) <= best.fun + 1e-6 * abs(best.fun)
    assert np.abs(slope(found.mean)).max() < 1e-4
    assert found.mean == pytest.approx(best.x, abs=2e-2)


@pytest.mark.parametrize("pairs", [False, True])
@a_few
@given(seed=SEEDS)
def test_the_curvature_is_that_of_the_matrix(*, pairs: bool, seed: int) -> None:
    """Precision is the prior's plus X^T W X, though the matrix X is never made."""
    design, cells = a_design(pairs=pairs), a_history(60, 200, seed)
    matrix, mean = written_out(design, cells), a_mean(design)

    found = fitted(design, cells, mean)

    rates = 1 / (1 + np.exp(-matrix @ found.mean))
    weights = cells.trials * rates * (1 - rates)
    expected = np.diag(design.precision) + matrix.T @ (weights[:, None] * matrix)
    assert found.precision == pytest.approx(expected, rel=1e-9, abs=1e-9)


@a_few
@given(seed=SEEDS)
def test_the_evidence_is_laplaces(seed: int) -> None:
    """The log evidence is the log posterior at the mode with the volume around it."""
    design, cells = a_design(), a_history(60, 200, seed)
    matrix, mean = written_out(design, cells), a_mean(design)

    found = fitted(design, cells, mean)

    at_mode = log_posterior(found.mean, design, matrix, cells, mean)
    prior = 0.5 * np.log(design.precision).sum()
    volume = 0.5 * np.linalg.slogdet(found.precision)[1]
    assert found.log_evidence == pytest.approx(at_mode + prior - volume, rel=1e-9)


def test_the_evidence_is_near_the_integral() -> None:
    """Where the posterior has one dimension that matters, Laplace's evidence is near the exact."""
    design = Design(Arms((1, 1, 1, 1)), (), Scales(main=1e-4, pair=1e-4), pairs=False)
    cells = Cells(
        np.zeros((1, 0), np.int64),
        np.zeros(1, np.int64),
        np.zeros(1, np.bool_),
        np.array([400.0]),
        np.array([20.0]),
    )
    mean = design.mean(-3.0, [])

    found = fitted(design, cells, mean)

    grid = np.linspace(-8, 2, 20_001)
    log_density = 20 * grid - 400 * np.logaddexp(0, grid) - 0.5 * (grid + 3) ** 2
    integral = np.log(np.exp(log_density - log_density.max()).sum() * (grid[1] - grid[0]))
    exact = integral + log_density.max() - 0.5 * np.log(2 * np.pi)
    assert found.log_evidence == pytest.approx(exact, abs=0.02)


def test_draws_have_the_posteriors_spread() -> None:
    """Draws scatter around the mode as the inverse of the curvature says, scaled."""
    design = a_design(pairs=False)
    found = fitted(design, a_history(60, 200, 3), a_mean(design))

    drawn = found.draws(40_000, 0.5, seed=2)

    covariance = np.linalg.inv(found.precision) * 0.25
    assert drawn.mean(axis=0) == pytest.approx(found.mean, abs=0.02)
    assert np.cov(drawn.T) == pytest.approx(covariance, abs=0.02)
    assert np.diag(np.cov(drawn.T)) == pytest.approx(np.diag(covariance), rel=0.05)


@given(seed=SEEDS)
@settings(max_examples=10)
def test_what_was_never_seen_keeps_its_prior(seed: int) -> None:
    """Columns without a row stay at the prior's mean, with the prior's precision."""
    design = a_design()
    cells = a_history(10, 50, seed)
    mean = a_mean(design)

    found = fitted(design, cells, mean)

    unseen = written_out(design, cells)[cells.trials > 0].sum(axis=0) == 0
    assert found.mean[unseen] == pytest.approx(mean[unseen], abs=1e-12)
    assert np.diag(found.precision)[unseen] == pytest.approx(design.precision[unseen])


def test_separated_counts_still_have_a_mode() -> None:
    """An arm that always converted and arms that never did do not send anything to infinity."""
    design = a_design()
    arms = np.arange(12)
    cells = Cells(
        np.zeros((12, 2), np.int64),
        arms,
        np.zeros(12, np.bool_),
        np.full(12, 1e6),
        np.where(arms == 3, 1e6, 0.0),
        FEATURES,
    )

    found = fitted(design, cells, design.mean(-3.9, []))

    assert np.isfinite(found.mean).all()
    assert np.isfinite(found.log_evidence)
    assert np.linalg.eigvalsh(found.precision).min() > 0
