"""What has matured is added up once: lift by user, value against an even split, sample ratios."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from tests.support.builders import (
    CHECKOUT,
    World,
    a_cohort,
    a_world,
    converted,
    happened,
    some_rules,
)

from experiment_engine.adapters.storage import tables
from experiment_engine.application.manage import erase_user
from experiment_engine.application.measure import Step, keep, measure
from experiment_engine.domain.cohorts.cohort import Goal
from experiment_engine.domain.identifiers import UserId
from experiment_engine.domain.measurement.lift import UserSums
from experiment_engine.domain.measurement.off_policy import WeightSums, snips
from experiment_engine.domain.measurement.sample_ratio import RatioSums
from experiment_engine.domain.moments import DAY

COHORT = a_cohort(delays=("2min",), angles=("a", "b", "c", "d"), again_after=0)
VALUED = replace(COHORT, goal=Goal(event=COHORT.goal.event, window=3 * DAY, value="revenue"))  # type: ignore[arg-type]


@pytest.fixture
def world() -> Iterator[World]:
    """Return one cohort of four combos, and a third of the users held out."""
    with a_world(some_rules(VALUED, holdout_share=0.3)) as opened:
        yield opened


def send(world: World, users: range) -> list[str]:
    world.take(*(happened(user=f"u{number}") for number in users))
    world.clock.advance("2min")
    world.deliver()
    return [f"u{number}" for number in users]


def step(world: World) -> Step | None:
    with world.storage.evidence() as evidence:
        return measure(world.rules.cohorts[CHECKOUT], world.mode, world.rules, evidence, world.now)


def measured(world: World) -> dict[str, float]:
    """Go every step there is; return the sums over all days."""
    while (found := step(world)) is not None:
        world.storage.run(partial(keep, found))
    rows = world.rows(tables.measurement_sum)
    every = {row["name"]: row["value"] for row in rows if row["day"] == tables.ALL_DAYS}
    by_day: dict[str, float] = {}
    for row in rows:
        if row["day"] != tables.ALL_DAYS:
            by_day[row["name"]] = by_day.get(row["name"], 0.0) + row["value"]
    assert by_day == pytest.approx(every)
    return every


def groups(world: World) -> tuple[UserSums, UserSums]:
    sums = measured(world)
    return UserSums.read("lift.messaged", sums), UserSums.read("lift.held_out", sums)


def test_nothing_counts_before_its_window_has_closed(world: World) -> None:
    """An outcome is counted when the window of its trigger is over, not before."""
    send(world, range(10))
    world.clock.advance("3d")
    assert measured(world) == {}

    world.clock.advance("1h")
    messaged, held_out = groups(world)
    assert messaged.users + held_out.users == 10
    assert held_out.users > 0


def test_each_user_counts_once(world: World) -> None:
    """Later triggers of a user add nothing to the lift, whatever comes of them."""
    users = send(world, range(20))
    send(world, range(10))
    world.clock.advance("4d")
    send(world, range(5))
    world.take(*(happened("purchase", user=user) for user in users[:5]))
    world.clock.advance("4d")

    messaged, held_out = groups(world)
    assert messaged.users + held_out.users == 20
    assert messaged.converted + held_out.converted == 0  # outside of the first triggers' windows


def test_conversions_are_found_by_user_in_both_groups(world: World) -> None:
    """A conversion counts for its user's group, whatever experiment it names."""
    send(world, range(30))
    made = world.experiments()
    held = {row["user_id"] for row in made if row["held_out"]}
    for row in made[::2]:
        world.one(converted(None if row["held_out"] else row["id"], user=row["user_id"]))
    goers = {row["user_id"] for row in made[::2]}
    world.clock.advance("4d")

    messaged, held_out = groups(world)
    assert (messaged.converted, held_out.converted) == (len(goers - held), len(goers & held))


def test_values_are_added_up(world: World) -> None:
    """What a conversion was worth is summed with its squares, for each group."""
    send(world, range(10))
    messaged_user = next(r["user_id"] for r in world.experiments() if not r["held_out"])
    world.one(happened("purchase", user=messaged_user, properties={"revenue": 12.5}))
    world.clock.advance("4d")

    messaged, _ = groups(world)
    assert (messaged.value, messaged.value_squares) == (12.5, 12.5**2)


def test_manual_triggers_and_the_erased_are_left_out(world: World) -> None:
    """A user who was asked for by hand, or who is forgotten, is in no group."""
    send(world, range(10))
    with world.storage.transaction() as tx:
        erase_user(UserId("u3"), tx, world.now)
    world.clock.advance("4d")

    messaged, held_out = groups(world)
    assert messaged.users + held_out.users == 9


def test_a_step_that_is_gone_twice_counts_once(world: World) -> None:
    """Two processes that found the same step add it once."""
    send(world, range(10))
    world.clock.advance("4d")
    found = step(world)
    assert found is not None
    for _ in range(2):
        world.storage.run(partial(keep, found))
    once = measured(world)

    assert once["lift.messaged.users"] + once["lift.held_out.users"] == 10
    assert step(world) is None


def test_the_even_split_is_valued_by_the_logged_propensities(world: World) -> None:
    """The sums are those of the rows: each weighs what an even split would have made of it."""
    for start in range(0, 60, 20):
        send(world, range(start, start + 20))
        for row in world.experiments():
            if not row["held_out"] and row["combo_key"].split("|")[2] == "c":
                world.one(converted(row["id"]))
        world.learn()
    world.clock.advance("4d")
    made = [row for row in world.experiments() if not row["held_out"]]
    weights = np.array([1 / 4 / row["propensity"] for row in made])
    rewards = np.array([float(row["converted_at"] is not None) for row in made])
    assert len(set(weights)) > 1

    found = WeightSums.read("even", measured(world))

    assert found.named("x") == pytest.approx(WeightSums.of(weights, rewards).named("x"))
    assert snips(found).value == pytest.approx((weights * rewards).sum() / weights.sum())


def test_sample_ratios_are_those_of_the_draws(world: World) -> None:
    """For every level: how often it was drawn, and the sum of the chances it had."""
    send(world, range(40))
    world.clock.advance("4d")
    sums = measured(world)

    drawn = [row["combo_key"].split("|")[2] for row in world.experiments()]
    for angle in "abcd":
        found = RatioSums.read(f"ratio.decided.angle={angle}", sums)
        assert found.assigned == drawn.count(angle)
        assert found.expected == pytest.approx(10)
    assert RatioSums.read("ratio.users.held_out", sums).expected == pytest.approx(12)
