"""Lift of messaged over held-out users: against scipy's intervals, and at every look."""

from math import log, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from experiment_engine.domain.measurement.confidence_sequence import ALPHA, half_width
from experiment_engine.domain.measurement.interval import Z_95
from experiment_engine.domain.measurement.lift import (
    FEWEST,
    Lift,
    TooFew,
    UserSums,
    lift,
    value_lift,
)

RUNS = 400


def of(users: int, converted: int) -> UserSums:
    return UserSums(users, converted)


@given(
    rate=st.floats(0.001, 0.999),
    share=st.floats(0.02, 0.5),
    users=st.integers(100, 1_000_000),
)
def test_the_half_width_is_the_published_one(rate: float, share: float, users: int) -> None:
    """The formula as Waudby-Smith et al. (2024) write it, for one observation's variance."""
    one = rate * (1 - rate) / share
    squared = (-2 * log(ALPHA) + log(-2 * log(ALPHA) + 1)) / 10_000
    grown = users * squared + 1
    written = sqrt(one * 2 * grown / (users**2 * squared) * log(sqrt(grown) / ALPHA))

    assert half_width(one / users, users) == pytest.approx(written)


def test_looking_always_costs_width() -> None:
    """It is wider than an interval for one planned look, by less than six tenths at its best."""
    ratios = [half_width(1.0, users) / Z_95 for users in (100, 1_000, 10_000, 100_000, 10_000_000)]

    assert min(ratios) > 1
    assert 1.5 < half_width(1.0, 10_000) / Z_95 < 1.6
    assert half_width(1.0, 0) == float("inf")


@given(st.data())
def test_the_relative_lift_is_scipys(data: st.DataObject) -> None:
    """The ratio and its interval are those of Katz, as much wider as looking always costs."""
    ours, theirs = (data.draw(st.integers(50, 100_000), label=name) for name in ("sent", "held"))
    won = data.draw(st.integers(FEWEST, ours - 1), label="converted")
    lost = data.draw(st.integers(FEWEST, theirs - 1), label="converted of held")
    reference = stats.contingency.relative_risk(won, ours, lost, theirs)
    low, high = reference.confidence_interval(0.95)

    found = lift(of(ours, won), of(theirs, lost))

    assert isinstance(found, Lift)
    assert found.relative == pytest.approx(reference.relative_risk - 1)
    wider = half_width(1.0, ours + theirs) / Z_95
    ratio = log(reference.relative_risk)
    assert log(found.relative_interval.low + 1) == pytest.approx(
        ratio - wider * (ratio - log(low)), abs=1e-6
    )
    assert log(found.relative_interval.high + 1) == pytest.approx(
        ratio + wider * (log(high) - ratio), abs=1e-6
    )


def test_the_value_is_welchs() -> None:
    """A user's worth is compared as Welch does, as much wider as looking always costs."""
    rng = np.random.default_rng(21)
    groups = [np.where(rng.random(n) < 0.1, rng.gamma(2, 5_000, n), 0) for n in (9_000, 3_000)]
    sums = [UserSums(len(g), (g > 0).sum(), g.sum(), (g * g).sum()) for g in groups]
    reference = stats.ttest_ind(*groups, equal_var=False).confidence_interval(0.95)

    found = value_lift(sums[0], sums[1])

    assert not isinstance(found, TooFew)
    assert found[0] == pytest.approx((reference.low + reference.high) / 2)
    wider = half_width(1.0, 12_000) / Z_95
    assert (found[1].high - found[1].low) / (reference.high - reference.low) == pytest.approx(
        wider, rel=1e-3
    )


@pytest.mark.parametrize(("sent", "held"), [(4, 100), (100, 4), (0, 0)])
def test_few_conversions_are_said_to_be_few(sent: int, held: int) -> None:
    """With fewer than five in a group there is a reason and no figure."""
    found = lift(of(1_000, sent), of(1_000, held))

    assert isinstance(found, TooFew)
    assert f"{sent} of messaged" in found.reason
    assert isinstance(value_lift(of(1_000, sent), of(1_000, held)), TooFew)


@pytest.mark.parametrize(("sent", "alarms"), [(0.02, (0.0, 0.05)), (0.04, (0.9, 1.0))])
def test_messages_that_do_nothing_rarely_look_useful(
    sent: float, alarms: tuple[float, float]
) -> None:
    """In 400 runs of 40,000 users and 200 looks (seed 22): alarms where nothing is, and is."""
    rng, looks = np.random.default_rng(22), 200
    held = rng.binomial(200, 0.1, (RUNS, looks)).cumsum(axis=1)  # a tenth is held out
    users = np.arange(1, looks + 1) * 200 - held
    steps = np.diff(users, prepend=0, axis=1), np.diff(held, prepend=0, axis=1)
    converted = rng.binomial(steps[0], sent).cumsum(axis=1)
    of_held = rng.binomial(steps[1], 0.02).cumsum(axis=1)

    settled = 0
    for run in range(RUNS):
        for look in range(looks):
            found = lift(
                of(users[run, look], converted[run, look]), of(held[run, look], of_held[run, look])
            )
            if isinstance(found, Lift) and found.is_settled:
                settled += 1
                break

    assert alarms[0] <= settled / RUNS <= alarms[1]
