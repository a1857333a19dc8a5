"""How combos stand: the chances to be best, against integration too."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import beta

from experiment_engine.domain.measurement.standing import standing

COUNTS = st.lists(
    st.integers(0, 5_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
    min_size=1,
    max_size=60,
)


@given(counts=COUNTS, weight=st.floats(0.01, 1e6))
@example(counts=[(0, 0)] * 48, weight=60.0)
@example(counts=[(1, 1), (0, 1)], weight=0.01)
def test_chances_to_be_best_sum_to_one(counts: list[tuple[int, int]], weight: float) -> None:
    """Whatever was counted, somebody is the best: the chances are a distribution, and repeat."""
    successes, trials = (np.array(column, dtype=float) for column in zip(*counts, strict=True))

    chances = standing(successes, trials, prior_weight=weight).best

    assert chances.shape == (len(counts),)
    assert chances.sum() == pytest.approx(1)
    assert (chances >= 0).all()
    assert np.array_equal(chances, standing(successes, trials, prior_weight=weight).best)


def test_a_clear_winner_is_nearly_sure() -> None:
    """Ten per cent against two, over thousands of sends, leaves no doubt."""
    chances = standing(
        np.array([500.0, 100.0]), np.array([5_000.0, 5_000.0]), prior_weight=60
    ).best

    assert chances[0] > 0.999


def test_two_arms_against_integration() -> None:
    """For two combos the chance is the one that integrating their posteriors gives."""
    successes, trials, weight = np.array([12.0, 9.0]), np.array([300.0, 290.0]), 60.0
    pooled = (successes.sum() + 0.5) / (trials.sum() + 1)
    one, two = (
        beta(won + weight * pooled, tried - won + weight * (1 - pooled))
        for won, tried in zip(successes, trials, strict=True)
    )
    grid = np.linspace(0, 1, 20_001)
    exact = np.trapezoid(one.pdf(grid) * two.cdf(grid), grid)

    chances = standing(successes, trials, prior_weight=weight, draws=200_000).best

    assert chances[0] == pytest.approx(exact, abs=0.005)
