"""The learner behind the change alarm, as the benchmark plays it."""

import numpy as np
import pytest
from benchmarks.learning.days import DAYS, Watchful
from benchmarks.learning.world import ARMS, FEATURES

from experiment_engine.domain.bandit import policies
from experiment_engine.domain.bandit.change_alarm import KEPT

A_DAY = 100
NOBODY = np.zeros((A_DAY, len(FEATURES)), np.int64)


def played(rates: list[float]) -> tuple[Watchful, float]:
    """Give one arm these rates, day by day; return the learner, and how much it knows."""
    learner = policies.build("epsilon_greedy", (4, 2, 5, 4))
    watchful = Watchful(learner, DAYS * A_DAY)
    rng = np.random.default_rng(1)
    for rate in rates:
        rewards = (rng.random(A_DAY) < rate).astype(float)
        watchful.update(NOBODY, np.full(A_DAY, 7), rewards)
    return watchful, float(learner.cells().trials.sum())


def test_while_nothing_changes_everything_counts() -> None:
    """No alarm, and every trial is known in full."""
    watchful, known = played([0.2] * 40)

    assert watchful.changes == []
    assert known == 40 * A_DAY


def test_after_a_change_what_came_before_counts_little() -> None:
    """An alarm goes off, and the learner knows the days since in full, those before hardly."""
    watchful, known = played([0.2] * 20 + [0.05] * 20)

    (change,) = watchful.changes
    assert abs(change.since - 20) <= 2
    assert known == pytest.approx(A_DAY * (change.since * KEPT + 40 - change.since))


def test_a_run_that_lasts_longer_stays_in_its_last_day() -> None:
    """More triggers than were announced are no error."""
    _, known = played([0.2] * (DAYS + 2))

    assert known == (DAYS + 2) * A_DAY


def test_choices_are_the_learners_own() -> None:
    """It chooses what the policy behind it chooses, with its probability."""
    watchful, _ = played([0.2] * 5)

    arms, chances = watchful.choose(NOBODY, np.random.default_rng(2))

    assert arms.shape == chances.shape == (A_DAY,)
    assert (arms < ARMS).all()
