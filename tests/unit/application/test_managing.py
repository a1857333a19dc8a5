"""What an operator does by hand, and what a start puts in order (CONTRACT 5, R11, R15)."""

import pytest
from tests.support.builders import (
    CHECKOUT,
    PAYMENT,
    USER,
    World,
    a_cohort,
    a_world,
    happened,
    some_rules,
)

from experiment_engine.adapters.storage import tables
from experiment_engine.application.manage import erase_user, prune, set_paused
from experiment_engine.domain.delivery.experiment import Mode
from experiment_engine.domain.errors import UnknownCohort
from experiment_engine.domain.moments import DAY, Duration
from experiment_engine.domain.reasons import Reason
from experiment_engine.domain.rules import Retention


def test_pausing_an_unknown_cohort(world: World) -> None:
    """A cohort that there is not cannot be paused; the error names those that there are."""
    with (
        world.storage.transaction() as tx,
        pytest.raises(UnknownCohort, match="Known: checkout_abandoners"),
    ):
        set_paused("typo", world.rules, tx, world.now, paused=True)

    assert not world.rows(tables.pause)


def test_pausing_twice_and_resuming_twice(world: World) -> None:
    """A pause holds since its first time; resuming what is not paused is no mistake."""
    since = world.now
    world.pause()
    world.clock.advance("1h")
    world.pause()
    world.pause(CHECKOUT)

    assert {(row["scope"], row["since"]) for row in world.rows(tables.pause)} == {
        ("*", since),
        (CHECKOUT, world.now),
    }
    for _ in range(2):
        world.pause(paused=False)
        world.pause(CHECKOUT, paused=False)
    assert not world.rows(tables.pause)


def test_resuming_all_leaves_a_paused_cohort_paused(world: World) -> None:
    """Resuming everything does not resume a cohort that was paused by itself."""
    world.pause(CHECKOUT)
    world.pause(paused=False)

    assert world.one(happened()).reason == Reason.PAUSED


def test_what_waits_for_removed_combos_is_cancelled_at_a_start() -> None:
    """A start cancels what waits for combos and cohorts that are gone, and counts it (R15)."""
    both = some_rules(a_cohort(), a_cohort(PAYMENT, event="failed"))
    with a_world(both) as world:
        for number in range(20):
            world.take(happened(user=f"u{number}"), happened("failed", user=f"u{number}"))
        world.restart(some_rules(a_cohort(angles=("urgency",))))
        kept = [row for row in world.experiments() if row["combo_key"].endswith("urgency|none")]
        kept = [row for row in kept if row["cohort"] == CHECKOUT]

        cancelled = world.cancel_what_cannot_be_sent()

        assert cancelled == {Reason.COMBO_REMOVED: 40 - len(kept)}
        assert world.states().count(("scheduled", None)) == len(kept)
        assert world.states().count(("cancelled", "combo_removed")) == 40 - len(kept)


@pytest.mark.parametrize("what", ["erase", "restart"])
def test_what_is_cancelled_by_hand_is_no_trial(*, world: World, what: str) -> None:
    """A message that an erasure or a start cancels takes back its trial (R2)."""
    world.one(happened())
    if what == "erase":
        with world.storage.transaction() as tx:
            erase_user(USER, tx, world.now)
    else:
        world.restart(some_rules(a_cohort(angles=("other",))))
        world.cancel_what_cannot_be_sent()

    assert [state for state, _ in world.states()] == ["cancelled"]
    assert world.counts() == {}


def test_what_waits_from_the_other_mode_is_cancelled_at_a_start() -> None:
    """A start in another mode cancels all that waits (R11), and leaves room for new ones."""
    rules = some_rules()
    with a_world(rules, Mode.DRY_RUN) as world:
        world.one(happened())
        world.restart(rules, Mode.LIVE)

        assert world.cancel_what_cannot_be_sent() == {Reason.MODE_CHANGED: 1}
        assert world.states() == [("cancelled", "mode_changed")]
        assert world.one(happened()).status == "scheduled"


def test_nothing_to_put_in_order(world: World) -> None:
    """A start with the same configuration cancels nothing."""
    world.one(happened())

    assert world.cancel_what_cannot_be_sent() == {}
    assert world.states() == [("scheduled", None)]


def test_what_is_past_its_retention_goes() -> None:
    """Old events and experiments are deleted in their time; what is young or waits stays."""
    rules = some_rules(
        a_cohort(delays=("2min",)),
        retention=Retention(raw_events=Duration(10 * DAY), experiments=Duration(30 * DAY)),
    )
    with a_world(rules) as world:
        world.one(happened())
        world.clock.advance("2min")
        world.deliver()
        for days, events, experiments in ((9, 1, 1), (2, 1, 1), (22, 0, 0)):
            world.clock.advance(f"{days}d")
            with world.storage.transaction() as tx:
                assert prune(rules, tx, world.now) is False
            assert len(world.rows(tables.event)) == events
            bare = days != 9  # the bytes go first: the event is known for as long as it may come
            assert [row["raw"] == b"" for row in world.rows(tables.event)] == [bare] * events
            assert len(world.rows(tables.experiment)) == experiments
            assert len(world.rows(tables.attempt)) == experiments
        assert world.counts() != {}  # what was counted stays counted


def test_what_still_waits_is_not_deleted() -> None:
    """However old, a message that has not ended is not deleted."""
    rules = some_rules(retention=Retention(experiments=Duration(DAY)))
    with a_world(rules) as world:
        world.one(happened(user=USER))
        world.clock.advance("60d")
        with world.storage.transaction() as tx:
            prune(rules, tx, world.now)

        assert len(world.experiments()) == 1
