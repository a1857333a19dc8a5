"""Draws of each combo's rate, around the cohort's own rate."""

import numpy as np
import pytest
from scipy import stats

from experiment_engine.domain.bandit.arms import Arms, Belief
from experiment_engine.domain.bandit.cells import Cells
from experiment_engine.domain.bandit.statistics import Floats, Statistics
from experiment_engine.domain.bandit.thompson import Thompson

ARMS = Arms((1, 1, 3, 1))
TRIALS, SUCCESSES = np.array([0.0, 400.0, 2_000.0]), np.array([0.0, 4.0, 100.0])


def drawn(scale: float, belief: Belief | None = None) -> Floats:
    """Return many draws of three combos' rates; shape (draws, 3)."""
    options = {"posterior_scale": scale, "draws": 4_000.0}
    counts = Cells.of(Statistics(TRIALS, SUCCESSES))
    return Thompson(ARMS, belief or Belief(), options).fit(counts, 1).scores


def expected(arm: int, weight: float = 60.0) -> tuple[float, float]:
    """Return the Beta posterior whose prior has the pooled rate as its mean."""
    mean = (SUCCESSES.sum() + weight * 0.02) / (TRIALS.sum() + weight)
    ahead = SUCCESSES[arm] + weight * mean
    return ahead, TRIALS[arm] - SUCCESSES[arm] + weight * (1 - mean)


@pytest.mark.parametrize("arm", range(3))
def test_unscaled_draws_are_beta(arm: int) -> None:
    """With scale one, draws follow the Beta posterior around the cohort's rate."""
    assert stats.kstest(drawn(1.0)[:, arm], stats.beta(*expected(arm)).cdf).pvalue > 1e-6


@pytest.mark.parametrize("arm", range(3))
@pytest.mark.parametrize("scale", [0.25, 0.5, 2.0])
def test_the_scale_is_one_of_standard_deviations(arm: int, scale: float) -> None:
    """Scaled draws keep the posterior's mean and have that part of its spread."""
    posterior, scores = stats.beta(*expected(arm)), drawn(scale)[:, arm]

    assert scores.mean() == pytest.approx(posterior.mean(), abs=posterior.std() * scale / 10)
    assert scores.std() == pytest.approx(posterior.std() * scale, rel=0.1)


def test_a_lean_moves_the_prior_alone() -> None:
    """A leaning level starts higher, and counts outweigh it."""
    leaning = Belief(leans=(np.ones(1), np.ones(1), np.array([2.0, 1.0, 2.0]), np.ones(1)))

    plain, leaned = drawn(0.5).mean(axis=0), drawn(0.5, leaning).mean(axis=0)

    assert leaned[0] == pytest.approx(2 * plain[0], rel=0.05)
    assert leaned[2] == pytest.approx(plain[2], rel=0.1)
