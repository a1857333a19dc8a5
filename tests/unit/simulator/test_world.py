"""The synthetic world of `simulate`: its rates, its luck, and how policies are played in it."""

from xml.etree import ElementTree as ET

import numpy as np
import pytest

from experiment_engine.domain.bandit.arms import Arms
from experiment_engine.domain.bandit.policies import build
from experiment_engine.domain.moments import DAY, HOUR, Duration
from experiment_engine.entrypoints.simulator.plot import draw
from experiment_engine.entrypoints.simulator.runs import play, steps
from experiment_engine.entrypoints.simulator.world import Drift, Plan, World

ARMS = Arms((2, 2, 2, 1))
WINDOW = Duration(3 * DAY)


def a_plan(rate: float = 0.1, drift: Drift = "none") -> Plan:
    sends = np.array([0.0, 0, 0, 0, 6, 6, 6, 6])
    return Plan(ARMS, (2, 2, 1, 1), rate, sends, WINDOW, drift=drift)


@pytest.mark.parametrize("drift", ["none", "slow", "sudden"])
@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5])
def test_the_mean_rate_is_the_configurations(rate: float, drift: Drift) -> None:
    """Over everybody and all combos, at every time."""
    world = World(a_plan(rate, drift), seed=3)
    assert len(world.tables) == {"none": 1, "slow": 20, "sudden": 2}[drift]
    for table in world.tables:
        assert float(world.shares @ table.mean(axis=1)) == pytest.approx(rate)


def test_a_seed_is_a_world() -> None:
    """The same seed gives the same users, contexts and luck; another one gives others."""
    one, same, other = (World(a_plan(), seed).users(500, 100) for seed in (1, 1, 2))
    assert (one.luck == same.luck).all()
    assert (one.rates == same.rates).all()
    assert not (one.luck == other.luck).all()


def test_conversions_come_after_the_message_and_inside_the_window() -> None:
    """As many as the rates say, within 4 standard errors."""
    world = World(a_plan(0.3), seed=1)
    users = world.users(20_000, 1_000)
    arms = np.arange(20_000) % len(ARMS)
    at = world.converted_at(users, slice(0, 20_000), arms)
    came = np.isfinite(at)
    late = (at - users.at)[came]
    assert (late >= world.plan.sends[arms[came]]).all()
    assert late.max() <= WINDOW / HOUR
    expected = users.rates[np.arange(20_000), arms]
    error = np.sqrt((expected * (1 - expected)).sum())
    assert abs(came.sum() - expected.sum()) < 4 * error


def test_a_policy_learns_every_trial_and_conversion_once() -> None:
    """When everything is old, its counts are the plain sums of what was decided and came."""
    world = World(a_plan(0.3), seed=1)
    users = world.users(600, 20)
    learner = build("thompson", ARMS.sizes, (2, 2, 1, 1))
    run = play(world, users, learner, lambda: None)
    cells = learner.cells()
    old = 600 - 20 * 4 - 3  # decided four days before the end, so their windows have closed
    assert old < cells.trials.sum() <= 600
    share = cells.successes.sum() / cells.trials.sum()
    assert share == pytest.approx(run.chosen / 600, abs=0.08)


def test_all_users_are_decided_about_once() -> None:
    """The steps of a run are whole, also where users are few."""
    for number in (20, 199, 200, 12_345):
        rows = [row for step in steps(number) for row in range(step.start, step.stop)]
        assert rows == list(range(number))


def test_a_policy_is_between_an_even_split_and_the_oracle() -> None:
    """And without one, exactly the even split is played."""
    world = World(a_plan(0.3), seed=1)
    users = world.users(4_000, 400)
    run = play(world, users, build("thompson", ARMS.sizes, (2, 2, 1, 1)), lambda: None)
    assert run.even < run.chosen < run.oracle
    assert play(world, users, None, lambda: None).chosen == pytest.approx(run.even)


def test_the_plot_is_a_picture() -> None:
    """Well-formed SVG with a line, a band and a name for each curve; names are escaped."""
    curve = ([1.0, 1.2, 1.5], [0.1, 0.1, 0.2])
    root = ET.fromstring(draw("a <b> & c", {"one": curve, "<two>": curve}, 3_000))
    tags = [element.tag.rpartition("}")[2] for element in root.iter()]
    assert tags.count("polyline") == tags.count("polygon") == 2
    assert "a <b> & c" in {element.text for element in root.iter()}
