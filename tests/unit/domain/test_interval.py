"""How sure we are of a rate: the interval against scipy's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from experiment_engine.domain.measurement.interval import wilson_interval


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
