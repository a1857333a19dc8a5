"""Late conversions of the learning benchmark: when they come, and how each way counts them."""

import numpy as np
import pytest
from benchmarks.learning.delays import chance
from benchmarks.learning.late import (
    SEND_HOURS,
    WINDOW,
    EvenSplit,
    Log,
    Ours,
    Pace,
    PlainDesign,
    conversion_hours,
    counted,
    play,
)
from benchmarks.learning.world import ARMS, make

FIRST_OF_DELAY = np.arange(4) * (ARMS // 4)
NEVER = np.inf


def test_conversions_come_after_their_message_and_inside_the_window() -> None:
    places = np.linspace(0.0005, 0.9995, 1000)
    for arm, sent in zip(FIRST_OF_DELAY, SEND_HOURS, strict=True):
        hours = conversion_hours(np.full(1000, arm), places)
        assert sent < hours.min() < hours.max() < WINDOW
    fast = conversion_hours(np.full(1000, FIRST_OF_DELAY[0]), places) - SEND_HOURS[0]
    assert np.median(fast) == pytest.approx(4.0, abs=0.2)


def test_where_messages_do_nothing_the_arm_does_not_move_conversions() -> None:
    places = np.linspace(0.01, 0.99, 4)
    hours = conversion_hours(FIRST_OF_DELAY, places, null=True)
    assert np.array_equal(hours, conversion_hours(np.zeros(4, np.int64), places, null=True))


def test_each_way_counts_what_it_says() -> None:
    """Three triggers: long closed and converted, converted before its message, still open."""
    slow = FIRST_OF_DELAY[3]  # its message goes out after 24 hours
    log = Log(
        at=np.array([0.0, 90.0, 99.0]),
        contexts=np.zeros((3, 4), np.int64),
        arms=np.array([slow, slow, slow]),
        converted_at=np.array([30.0, 95.0, NEVER]),
    )
    told = {way: counted(way, log, 100.0) for way in ("age", "mature", "flip", "sent")}
    assert [list(part) for part in told["flip"]] == [[1, 1, 1], [1, 1, 0]]
    assert [list(part) for part in told["mature"]] == [[1, 0, 0], [1, 0, 0]]
    assert [list(part) for part in told["sent"]] == [[1, 0, 1], [1, 0, 0]]
    trials, successes = told["age"]
    assert list(successes) == [1, 1, 0]
    assert list(trials[:2]) == [1, 1]
    assert 0 < trials[2] < 0.3  # an hour old: hardly a conversion has come by then


def test_a_conversion_of_the_future_is_not_known() -> None:
    log = Log(np.zeros(1), np.zeros((1, 4), np.int64), np.zeros(1, np.int64), np.array([5.0]))
    assert [float(counted("flip", log, now)[1][0]) for now in (4.9, 5.0)] == [0.0, 1.0]


def test_the_plain_design_learns_nothing_before_a_window_has_closed() -> None:
    """Until then it is as good as an even split; after a long time it is better."""
    world = make("factorial", 4)
    short, long = Pace("short", 2_000, 2, batch=100), Pace("long", 60_000, 180, batch=500)
    even = play(world, EvenSplit(1), short, 4)
    plain = play(world, PlainDesign(1), short, 4)
    assert plain.gain() == pytest.approx(even.gain(), abs=0.05)
    assert np.array_equal(plain.oracle, even.oracle)
    assert play(world, PlainDesign(1), long, 4).gain() > 1.2


def test_our_policies_learn_from_conversions_that_come_late() -> None:
    world, pace = make("factorial", 5), Pace("a week", 4_000, 7, batch=200)
    ours = [play(world, Ours("thompson", way, 1), pace, 5) for way in ("age", "mature", "flip")]
    assert all(0 < run.regret(pace.first_day) < run.regret() for run in ours)
    assert all(run.shares_of_delays().sum() == pytest.approx(1.0) for run in ours)


def test_chance_finds_a_favoured_delay_and_leaves_an_even_one_alone() -> None:
    rng = np.random.default_rng(6)
    alike = [chance(rng.dirichlet(np.ones(4), 20), draws=400) for _ in range(100)]
    assert 0 <= sum(p < 0.05 for p in alike) <= 14  # 5 expected; 15 or more is once in 10,000
    favoured = rng.dirichlet(np.array([4.0, 1, 1, 1]), 20)
    assert chance(favoured, draws=400) < 0.01
