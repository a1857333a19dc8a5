"""The runs in which the lift interval is looked at: who is counted, and what is an error."""

import numpy as np
import pytest
from benchmarks.learning.looks import (
    LOOKS,
    MOST_TRIGGERS,
    RETURNING_USERS,
    USERS,
    Counts,
    Scenario,
    judge,
    once,
    returning,
    verdicts,
)
from benchmarks.learning.world import Floats

NOTHING_WORKS = Scenario("one trigger a user", 0.1, 1.0)
ALL_DOUBLES = Scenario("one trigger a user", 0.1, 2.0)
THEY_RETURN = Scenario("1 to 20 triggers a user", 0.1, 1.0, returning=True)


def test_counts_grow_look_by_look_to_all_users() -> None:
    counts, _ = once(NOTHING_WORKS, np.random.default_rng(1))
    users = counts.messaged + counts.held_out
    assert users.shape == (LOOKS,)
    assert np.array_equal(users, (np.arange(LOOKS) + 1) * USERS / LOOKS)
    assert counts.held_out[-1] / USERS == pytest.approx(0.1, abs=0.01)
    assert counts.held_out_converted[-1] / counts.held_out[-1] == pytest.approx(0.02, abs=0.01)


def test_users_who_return_count_once_by_user_and_every_time_by_trigger() -> None:
    by_user, by_trigger = returning(THEY_RETURN, np.random.default_rng(2))
    assert by_user.messaged[-1] + by_user.held_out[-1] == RETURNING_USERS
    mean = (by_trigger.messaged[-1] + by_trigger.held_out[-1]) / RETURNING_USERS
    assert mean == pytest.approx((1 + MOST_TRIGGERS) / 2, rel=0.03)
    assert by_user.messaged_converted[-1] < by_trigger.messaged_converted[-1]


def test_a_difference_that_is_there_is_found_and_held() -> None:
    (by_user, _), *_ = verdicts(ALL_DOUBLES, [3])
    assert by_user.alarm
    assert by_user.covered
    assert by_user.relative_covered
    assert 1.2 < by_user.width_ratio < 2.0


def test_one_look_that_leaves_out_the_truth_is_an_error_of_the_run() -> None:
    """Equal rates but for the middle, where the messaged convert three times as often."""
    users: Floats = np.linspace(1_000.0, 1_000.0 * LOOKS, LOOKS)
    converted: Floats = users * 0.02
    odd: Floats = converted.copy()
    odd[LOOKS // 2] *= 3
    told = judge(Counts(users, odd, users, converted), 0.0, 0.0)
    assert told.alarm
    assert not told.covered
    assert not told.relative_covered
    assert told.z_alarm
    calm = judge(Counts(users, converted, users, converted), 0.0, 0.0)
    assert not calm.alarm
    assert calm.covered
    assert not calm.z_alarm


def test_few_runs_err() -> None:
    """At 5 % a run, 14 or more of 60 would be once in a million."""
    told = [by_user for by_user, _ in verdicts(NOTHING_WORKS, range(60))]
    assert sum(one.alarm for one in told) < 14
    assert sum(not one.covered for one in told) < 14
