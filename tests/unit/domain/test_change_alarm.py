"""The change alarm: silent while nothing changes, soon where something does."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiment_engine.domain.bandit.change_alarm import KEPT, LEARN_FIRST, Change, changes, kept
from experiment_engine.domain.bandit.statistics import Floats

ARMS = 40
A_DAY = 600


def a_greedy_history(
    days: int, seed: int, *, changed_on: int | None = None, factor: float = 1.0
) -> tuple[Floats, Floats]:
    """Draw days on which most go to what looked best so far, which flatters it."""
    rng = np.random.default_rng(seed)
    rates = np.clip(0.02 * np.exp(rng.normal(0, 0.5, ARMS)), 0, 0.2)
    trials, successes = np.zeros((days, ARMS)), np.zeros((days, ARMS))
    for day in range(days):
        if day == changed_on:
            rates = rates * factor
        won, tried = successes.sum(axis=0), trials.sum(axis=0)
        leader = int(((won + 1) / (tried + 50)).argmax())
        trials[day] = rng.multinomial(A_DAY // 4, np.full(ARMS, 1 / ARMS))
        trials[day, leader] += A_DAY - A_DAY // 4
        successes[day] = rng.binomial(trials[day].astype(int), rates)
    return trials, successes


def test_nothing_changes_and_nothing_is_said() -> None:
    """Over 200 calm histories of 60 days, at most one in twenty has an alarm."""
    alarms = sum(bool(changes(*a_greedy_history(60, seed))) for seed in range(200))

    assert alarms <= 10


@pytest.mark.parametrize("factor", [0.4, 2.5])
def test_a_change_is_noticed_within_days(factor: float) -> None:
    """A fall or a rise of all rates is noticed soon after the day on which it began."""
    late = []
    for seed in range(40):
        found = changes(*a_greedy_history(60, seed, changed_on=40, factor=factor))
        after = [change for change in found if change.noticed >= 40]
        assert after, f"seed {seed} noticed nothing"
        late.append(after[0].noticed - 40)
        assert abs(after[0].since - 40) <= 10

    assert np.median(late) <= 3


def test_it_says_what_was_foretold_and_what_came() -> None:
    """The alarm brings the numbers that it rests on: half came where rates fell to half."""
    trials = np.full((12, 4), 500.0)
    successes = np.full((12, 4), 10.0)
    successes[10:] = 5.0

    (change,) = changes(trials, successes)

    assert change.since == 10
    assert change.foretold == pytest.approx(40 * (change.noticed - 9), rel=0.05)
    assert change.observed == 20 * (change.noticed - 9)


def test_too_little_is_known_to_foretell() -> None:
    """Before some conversions are known there is no alarm, whatever comes."""
    trials = np.full((30, 4), 100.0)
    successes = np.zeros((30, 4))
    successes[0] = LEARN_FIRST / 4 - 1

    assert changes(trials, successes) == []


@given(
    days=st.integers(1, 30),
    since=st.lists(st.integers(0, 29), max_size=3),
)
def test_days_after_the_last_change_count_in_full(days: int, since: list[int]) -> None:
    """Every change takes from the days before it, and from none after it."""
    found = [Change(day, day + 1, 1.0, 1.0) for day in since]

    weights = kept(found, days)

    for day in range(days):
        assert weights[day] == pytest.approx(KEPT ** sum(day < start for start in since))


@given(seed=st.integers(0, 1_000), days=st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_what_was_said_stays_said(seed: int, days: int) -> None:
    """A day more changes no alarm of the days before: the past is not told anew."""
    trials, successes = a_greedy_history(days + 1, seed, changed_on=days // 2, factor=0.3)

    assert changes(trials, successes)[: len(changes(trials[:-1], successes[:-1]))] == changes(
        trials[:-1], successes[:-1]
    )
