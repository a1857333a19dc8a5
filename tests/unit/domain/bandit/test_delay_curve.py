"""A trial counts as much as it has had time to convert."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiment_engine.domain.bandit.delay_curve import (
    PRIOR_CONVERSIONS,
    DelayCurve,
    age_bucket,
    bucket_end,
    weighed_trials,
)
from experiment_engine.domain.moments import DAY, HOUR, MINUTE, Duration

WINDOW = Duration(3 * DAY)
ages = st.integers(0, 2 * WINDOW).map(Duration)
counts = st.dictionaries(st.integers(0, age_bucket(WINDOW)), st.integers(0, 1_000), max_size=20)


@given(one=ages, other=ages)
def test_older_is_never_in_an_earlier_bucket(one: Duration, other: Duration) -> None:
    """Buckets are in the order of ages, and an age lies inside of its own."""
    young, old = sorted((one, other))

    assert age_bucket(young) <= age_bucket(old)
    assert bucket_end(age_bucket(one) - 1) - 1e-3 <= one <= bucket_end(age_bucket(one)) + 1e-3


@given(told=counts, drawn=st.lists(ages, min_size=1, max_size=30))
def test_the_share_grows_with_age_to_all(told: dict[int, int], drawn: list[Duration]) -> None:
    """It starts at nothing, never falls, and is one when the window closes."""
    share = DelayCurve(WINDOW, told).arrived(np.sort(np.array([0, *drawn, WINDOW], np.float64)))

    assert share[0] == 0
    assert share[-1] == 1
    assert (np.diff(share) >= -1e-12).all()


def test_without_conversions_it_is_the_prior() -> None:
    """Before anything is known, half of what a long window brings has come after four hours."""
    curve = DelayCurve(Duration(365 * DAY), {})

    assert curve.arrived(np.array([4.0 * HOUR]))[0] == pytest.approx(0.5, abs=0.001)


@pytest.mark.parametrize(("median", "spread"), [(20 * MINUTE, 0.5), (2 * HOUR, 1.0), (DAY, 0.7)])
def test_it_becomes_what_was_seen(median: float, spread: float) -> None:
    """After 20,000 conversions (seed 41) it is within two in a hundred of their true times."""
    times = median * np.random.default_rng(41).lognormal(0, spread, 20_000)
    times = times[times < WINDOW]
    told: dict[int, int] = {}
    for time in times:
        told[age_bucket(Duration(int(time)))] = told.get(age_bucket(Duration(int(time))), 0) + 1
    looked_at = np.geomspace(MINUTE, WINDOW - MINUTE, 200)

    found = DelayCurve(WINDOW, told).arrived(looked_at)

    true = np.searchsorted(np.sort(times), looked_at) / len(times)
    assert np.abs(found - true).max() < 0.02


def test_between_two_bursts_nothing_comes() -> None:
    """Where no conversion was told of, the curve rises by no more than the prior."""
    curve = DelayCurve(
        WINDOW, {age_bucket(Duration(MINUTE)): 5_000, age_bucket(Duration(2 * DAY)): 5_000}
    )

    early, late = curve.arrived(np.array([1.0 * HOUR, 30.0 * HOUR]))

    assert late - early < 2 * PRIOR_CONVERSIONS / 10_000


def test_the_last_bucket_ends_with_the_window() -> None:
    """All that came inside the window has come just before it closes."""
    curve = DelayCurve(WINDOW, {age_bucket(Duration(WINDOW - 1)): 10_000})

    assert curve.arrived(np.array([WINDOW - 1.0]))[0] == pytest.approx(1, abs=0.001)


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500), st.floats(0, 1)), min_size=1))
def test_no_failure_counts_below_zero(drawn: list[tuple[int, int, float]]) -> None:
    """Weighed trials are never fewer than their successes, nor more than there were."""
    both = np.array([(won + lost, won, share) for won, lost, share in drawn], np.float64).T

    weighed = weighed_trials(*both)

    assert (weighed >= both[1]).all()
    assert (weighed <= both[0]).all()
