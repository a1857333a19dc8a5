"""Assignments against logged propensities: silent while the policy learns, loud on a loss."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiment_engine.domain.measurement.sample_ratio import (
    ALARM,
    RatioSums,
    p_value,
    worst_mismatch,
)

STEP = 100  # decisions between looks


@given(
    expected=st.floats(0, 1e6),
    spread=st.floats(0, 1e6),
    off=st.floats(0, 1e4),
    more=st.floats(0, 1e4),
)
def test_the_further_off_the_less_likely(
    expected: float, spread: float, off: float, more: float
) -> None:
    """A larger difference is never more plausible, and no difference is no evidence."""
    near = p_value(RatioSums(expected + off, expected, spread))
    far = p_value(RatioSums(expected + off + more, expected, spread))

    assert 0 <= far <= near + 1e-12 <= 1 + 1e-12
    assert p_value(RatioSums(expected, expected, spread)) == 1


def moving_shares(runs: int, looks: int, rng: np.random.Generator) -> np.ndarray:
    """Return the probability of one choice in each step, as a learning policy moves it."""
    walk = rng.normal(0, 0.3, (runs, looks)).cumsum(axis=1)
    shares: np.ndarray = 0.02 + 0.9 / (1 + np.exp(2 - walk))
    return shares


def alarms(assigned: np.ndarray, shares: np.ndarray, decisions: np.ndarray) -> np.ndarray:
    """Say for each run whether any look raises an alarm."""
    expected = (shares * decisions).cumsum(axis=1)
    variance = (shares * (1 - shares) * decisions).cumsum(axis=1)
    sums = zip(assigned.cumsum(axis=1).ravel(), expected.ravel(), variance.ravel(), strict=True)
    found = [p_value(RatioSums(*of_one)) < ALARM for of_one in sums]
    return np.array([any(looks) for looks in np.array(found).reshape(shares.shape)])


def test_a_policy_that_learns_is_no_mismatch() -> None:
    """At most 1 in 1,000 runs (2,000 of 20,000 decisions, 200 looks, seed 31) has an alarm."""
    rng = np.random.default_rng(31)
    shares = moving_shares(2_000, 200, rng)

    found = alarms(rng.binomial(STEP, shares), shares, np.full(shares.shape, STEP))

    assert found.mean() <= ALARM


def test_a_tenth_that_is_lost_is_found() -> None:
    """A choice with a third of the traffic loses a tenth: found in 95 % of 300 runs (seed 32)."""
    rng = np.random.default_rng(32)
    shares = np.full((300, 200), 1 / 3)
    chosen = rng.binomial(STEP, shares)
    kept = rng.binomial(chosen, 0.9)

    found = alarms(kept, shares, STEP - (chosen - kept))

    assert found.mean() >= 0.95


def test_the_worst_is_named_and_corrected_for_all_that_were_looked_at() -> None:
    """Of several choices the least plausible is named, its chance times their number."""
    off = RatioSums(900, 1_000, 700)
    by_name = {"push": RatioSums(1_010, 1_000, 700), "sms": off, "email": RatioSums()}

    found = worst_mismatch(by_name)

    assert found is not None
    assert (found.name, found.assigned, found.expected) == ("sms", 900, 1_000)
    assert found.p_value == pytest.approx(3 * p_value(off))
    assert not found.is_alarm
    assert worst_mismatch({"sms": RatioSums(700, 1_000, 700)}).is_alarm  # type: ignore[union-attr]
    assert worst_mismatch({}) is None
