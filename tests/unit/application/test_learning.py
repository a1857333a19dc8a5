"""From counters to snapshots to the next choices (CONTRACT 4, R8, R11; DESIGN 5)."""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

import pytest
from tests.support.builders import (
    CHECKOUT,
    PAYMENT,
    SALT,
    World,
    a_cohort,
    a_world,
    converted,
    happened,
    some_rules,
)
from tests.support.clock import MORNING
from tests.support.fakes import an_answer

from experiment_engine.adapters.storage import tables
from experiment_engine.domain.cohorts.holdout import is_held_out
from experiment_engine.domain.delivery.experiment import Mode
from experiment_engine.domain.delivery.message import Verdict
from experiment_engine.domain.identifiers import UserId
from experiment_engine.domain.rules import Rules

COHORT = a_cohort(delays=("2min",), angles=("a", "b", "c", "d"))


@pytest.fixture
def world() -> Iterator[World]:
    """Return one cohort with four combos that differ by their angle."""
    with a_world(some_rules(COHORT)) as opened:
        yield opened


def send(world: World, number: int, *, winner: str | None = None, prefix: str = "u") -> None:
    """Send messages to new users; who got the winning angle converts."""
    users = [f"{prefix}{place}" for place in range(number)]
    world.take(*(happened(user=user) for user in users))
    world.clock.advance("2min")
    world.deliver()
    won = [row for row in world.experiments() if row["user_id"] in users]
    world.take(*(converted(row["id"]) for row in won if row["combo_key"].split("|")[2] == winner))


def angles(world: World, prefix: str) -> Counter[str]:
    return Counter(
        row["combo_key"].split("|")[2]
        for row in world.experiments()
        if row["user_id"].startswith(prefix)
    )


def test_the_next_choices_change(world: World) -> None:
    """After results are learned, the best combo gets the exploiting share and the rest explore."""
    send(world, 60, winner="c")
    world.learn()
    world.take(*(happened(user=f"later{place}") for place in range(300)))

    later = angles(world, "later")
    assert later["c"] / 300 == pytest.approx(0.85, abs=0.08)
    assert all(later[angle] > 0 for angle in "abd")
    shares = {row["propensity"] for row in world.experiments() if "later" in row["user_id"]}
    assert sorted(shares) == pytest.approx([0.05, 0.85])


def test_decisions_name_their_snapshot(world: World) -> None:
    """A decision refers to the snapshot it rests on; a later snapshot does not change that."""
    send(world, 20, winner="a")
    before = {row["id"]: row["snapshot_id"] for row in world.experiments()}
    world.learn()
    world.one(happened(user="later"))

    after = {row["id"]: row["snapshot_id"] for row in world.experiments()}
    assert before.items() <= after.items()
    assert len(set(before.values())) == 1
    assert after[world.experiment()["id"]] not in before.values()
    assert {row["id"] for row in world.rows(tables.snapshot)} >= set(after.values())


def test_nothing_new_nothing_learned(world: World) -> None:
    """Without a change of the counters there is no new snapshot, however much time goes by."""
    before = world.rows(tables.snapshot)
    world.clock.advance("1d")

    learned = world.learn()

    assert not learned.fresh
    assert not learned.more_to_come
    assert world.rows(tables.snapshot) == before


def test_a_small_change_waits_at_most_a_minute(world: World) -> None:
    """A change of less than a hundredth is learned within a minute, a large one at once."""
    send(world, 250, winner="a")
    assert world.learn().fresh

    world.one(happened(user="one more"))
    soon = world.learn()
    world.clock.advance("59.999s")
    still = world.learn()
    world.clock.advance("0.001s")
    later = world.learn()

    assert [len(learned.fresh) for learned in (soon, still, later)] == [0, 0, 1]
    assert [learned.more_to_come for learned in (soon, still, later)] == [True, True, False]


def test_a_restart_goes_on_where_it_was(world: World) -> None:
    """A start loads the stored snapshot, or makes a new one if the counters moved since."""
    send(world, 30, winner="b")
    world.learn()
    kept = world.rows(tables.snapshot)

    world.restart(world.rules)
    assert world.rows(tables.snapshot) == kept
    (snapshot,) = [policy.snapshot for policy in world.policies.values()]
    assert snapshot.statistics.trials.sum() == 30
    send(world, 5, winner="b", prefix="v")
    world.restart(world.rules)
    assert len(world.rows(tables.snapshot)) == len(kept) + 1


def test_what_does_not_teach(world: World) -> None:
    """Failed, unknown and expired messages leave the policies as they are (R2)."""
    for number, verdict in enumerate((Verdict.REFUSED, Verdict.UNCERTAIN)):
        world.one(happened(user=f"u{number}"))
        world.clock.advance("2min")
        world.deliver(an_answer(verdict))
    world.one(happened(user="expired"))
    world.clock.advance("1h")
    world.claim()

    assert not world.learn().fresh


def test_held_out_users_do_not_teach() -> None:
    """The holdout's conversions are the baseline, and no combo's success (R3)."""
    user = next(u for u in (UserId(f"u{n}") for n in range(999)) if is_held_out(u, SALT, 0.05))
    with a_world(some_rules(COHORT, holdout_share=0.05)) as world:
        world.one(happened(user=user))
        world.clock.advance("2min")
        world.deliver()
        world.one(converted(user=user))

        assert world.counts() == {"holdout": (1, 1, 0, 0, 1)}
        assert not world.learn().fresh


def test_modes_learn_apart() -> None:
    """What was counted in dry run is not known when sending is live (R11)."""
    rules = some_rules(COHORT)
    with a_world(rules, Mode.DRY_RUN) as world:
        send(world, 30, winner="a")
        assert world.learn().fresh

        world.restart(rules, Mode.LIVE)

        (policy,) = world.policies.values()
        assert policy.snapshot.statistics.trials.sum() == 0


def test_cohorts_learn_apart() -> None:
    """One cohort's results never move another's policy, though the combos are the same."""
    rules: Rules = some_rules(
        COHORT, a_cohort(PAYMENT, event="failed", angles=("a", "b", "c", "d"))
    )
    with a_world(rules) as world:
        send(world, 30, winner="a")

        assert set(world.learn().fresh) == {CHECKOUT}


def test_unchanged_combos_keep_what_was_learned(world: World) -> None:
    """After a change of the configuration, combos that stayed keep their statistics."""
    send(world, 40, winner="a")
    before = world.learn().fresh[CHECKOUT].snapshot.statistics
    changed = a_cohort(delays=("2min",), angles=("new", "d", "a"))

    world.restart(some_rules(changed))

    known = world.policies[CHECKOUT].snapshot.statistics
    old, new = COHORT.space.by_key, changed.space.by_key
    for key, combo in new.items():
        trials = before.trials[old[key].index] if key in old else 0
        assert known.trials[combo.index] == trials
    assert known.successes[new[COHORT.space[0].key].index] > 0


def test_a_stored_snapshot_keeps_its_numbers(world: World) -> None:
    """A snapshot that is read back says what it said when it was taken."""
    send(world, 40, winner="a")
    taken = world.learn().fresh[CHECKOUT].snapshot

    with world.storage.evidence() as evidence:
        read = evidence.snapshot(taken.id, COHORT)

    assert read is not None
    assert (read.id, read.taken_at) == (taken.id, taken.taken_at)
    assert list(read.statistics.trials) == list(taken.statistics.trials)
    assert list(read.statistics.successes) == list(taken.statistics.successes)


def test_a_clock_that_is_set_back(world: World) -> None:
    """Trials of what is now a later day are learned from, as are those of today."""
    send(world, 60, winner="c")
    world.clock.set(MORNING - timedelta(days=3))

    world.restart(world.rules)

    world.take(*(happened(user=f"later{place}") for place in range(300)))
    assert angles(world, "later").most_common(1)[0][0] == "c"
