"""The factorial policy in the loop: from contexts in events to models, and through changes."""

from collections.abc import Iterator

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
from experiment_engine.domain.bandit.factorial_thompson import FactorialModel
from experiment_engine.domain.bandit.snapshot import PolicyInForce

OPTIONS = {"cross_scale": 0.6, "main_scale": 0.6}
COHORT = a_cohort(
    delays=("2min",), angles=("a", "b", "c"), policy="factorial_thompson", options=OPTIONS
)
WINNER = {"bihar": "a", "goa": "c"}  # by region


@pytest.fixture
def world() -> Iterator[World]:
    """Return a cohort whose best angle depends on the region, with what four waves taught."""
    with a_world(some_rules(COHORT)) as opened:
        for wave in range(4):
            send(opened, 150, prefix=f"wave{wave}-")
            opened.clock.advance("4d")
            opened.learn()
        yield opened


def send(world: World, number: int, *, prefix: str) -> None:
    """Send to new users of both regions; whoever gets the region's angle converts."""
    regions = {f"{prefix}{place}": ("bihar", "goa")[place % 2] for place in range(number)}
    world.take(*(happened(user=user, properties={"region": regions[user]}) for user in regions))
    world.clock.advance("2min")
    world.deliver()
    rows = [row for row in world.experiments() if row["user_id"] in regions]
    wins = [r["id"] for r in rows if r["combo_key"].split("|")[2] == WINNER[regions[r["user_id"]]]]
    world.take(*(converted(win) for win in wins))


def share_of(policy: PolicyInForce, angle: str, region: str) -> float:
    context, _ = policy.levels_of({"region": region})
    shares = policy.snapshot.model.propensities(context, range(len(policy.cohort.space)))
    places = [combo.index for combo in policy.cohort.space.combos if combo.angle == angle]
    return float(shares[places].sum())


def test_each_region_gets_what_works_there(world: World) -> None:
    """Two regions with different winners end with different choices, stored by context."""
    policy = world.policies[CHECKOUT]

    assert policy.snapshot.levels.names[0] == ("bihar", "goa")
    for region, angle in WINNER.items():
        assert share_of(policy, angle, region) > 0.7
    world.one(happened(user="later", properties={"region": "goa"}))
    newest = world.experiment()
    assert newest["levels"] == '{"region":"goa"}'
    (stored,) = [
        r for r in world.rows(tables.distribution) if r["id"] == newest["distribution_id"]
    ]
    assert stored["context"] == newest["levels"]


def test_a_region_never_seen_gets_a_distribution(world: World) -> None:
    """A new region counts as `other`, and is decided about like everybody."""
    world.one(happened(user="later", properties={"region": "mars"}))

    newest = world.experiment()
    assert newest["levels"] == ""
    assert 0.05 / 3 <= newest["propensity"] <= 1


def test_a_restart_has_the_same_model_to_the_last_bit(world: World) -> None:
    """What was stored decides as what was fitted, for every context."""
    before = world.policies[CHECKOUT]

    world.restart(world.rules)

    after = world.policies[CHECKOUT]
    assert after.snapshot.id == before.snapshot.id
    assert after is not before
    kept, loaded = before.snapshot.model, after.snapshot.model
    assert isinstance(kept, FactorialModel)
    assert isinstance(loaded, FactorialModel)
    assert np.array_equal(kept.draws, loaded.draws)
    for region in ("bihar", "goa", "mars"):
        assert share_of(before, "b", region) == share_of(after, "b", region)


def test_a_new_level_enters_without_a_reset(world: World) -> None:
    """A new angle is tried at once, and what the others had shown still holds."""
    wider = a_cohort(
        delays=("2min",),
        angles=("new", "a", "b", "c"),
        policy="factorial_thompson",
        options=OPTIONS,
    )

    world.restart(some_rules(wider))

    policy = world.policies[CHECKOUT]
    assert share_of(policy, "a", "bihar") > 0.5
    assert share_of(policy, "c", "goa") > 0.5
    assert share_of(policy, "new", "goa") >= 0.05 / 4


def test_a_removed_level_leaves(world: World) -> None:
    """Without the angle that won, the rest share its part, and the other region loses nothing."""
    narrower = a_cohort(
        delays=("2min",), angles=("a", "b"), policy="factorial_thompson", options=OPTIONS
    )

    world.restart(some_rules(narrower))

    policy = world.policies[CHECKOUT]
    assert share_of(policy, "a", "bihar") > 0.5
    assert share_of(policy, "a", "goa") + share_of(policy, "b", "goa") == pytest.approx(1)


def test_another_policy_starts_from_the_same_counts(world: World) -> None:
    """A change of the policy alone keeps everything that was learned."""
    for name in ("thompson", "epsilon_greedy"):
        changed = a_cohort(delays=("2min",), angles=("a", "b", "c"), policy=name)

        world.restart(some_rules(changed))

        policy = world.policies[CHECKOUT]
        assert share_of(policy, "b", "goa") < 0.1
