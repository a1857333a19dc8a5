"""How sure we are: the interval against scipy's, and the chances to be best."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import beta, binomtest

from experiment_engine.domain.measurement.interval import chances_to_be_best, wilson_interval


@given(trials=st.integers(1, 10**7), data=st.data())
def test_wilson_agrees_with_scipy(trials: int, data: st.DataObject) -> None:
    """For any counts both ends are those of an independent implementation."""
    successes = data.draw(st.integers(0, trials))

    ours = wilson_interval(successes, trials)

    theirs = binomtest(successes, trials).proportion_ci(method="wilson")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize("trials", range(1, 26))
def test_wilson_small(trials: int) -> None:
    """The same for every count of a few trials, the ends 0 and 1 exactly."""
    for successes in range(trials + 1):
        ours = wilson_interval(successes, trials)
        theirs = binomtest(successes, trials).proportion_ci(method="wilson")
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert wilson_interval(0, trials).low == 0.0
    assert wilson_interval(trials, trials).high == 1.0


@given(trials=st.integers(0, 10**9), data=st.data())
def test_an_interval_holds_its_rate(trials: int, data: st.DataObject) -> None:
    """It lies in [0, 1] and holds the observed rate; without trials it is everything."""
    successes = data.draw(st.integers(0, trials))

    interval = wilson_interval(successes, trials)

    assert 0 <= interval.low <= interval.high <= 1
    if trials:
        assert interval.low - 1e-12 <= successes / trials <= interval.high + 1e-12
    else:
        assert (interval.low, interval.high) == (0, 1)


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

    chances = chances_to_be_best(successes, trials, prior_weight=weight)

    assert chances.shape == (len(counts),)
    assert chances.sum() == pytest.approx(1)
    assert (chances >= 0).all()
    assert np.array_equal(chances, chances_to_be_best(successes, trials, prior_weight=weight))


def test_a_clear_winner_is_nearly_sure() -> None:
    """Ten per cent against two, over thousands of sends, leaves no doubt."""
    chances = chances_to_be_best(
        np.array([500.0, 100.0]), np.array([5_000.0, 5_000.0]), prior_weight=60
    )

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

    chances = chances_to_be_best(successes, trials, prior_weight=weight, draws=200_000)

    assert chances[0] == pytest.approx(exact, abs=0.005)
