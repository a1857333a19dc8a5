"""Opens and conversions: which experiment they find, and what they change (R1, R2, R6)."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from tests.support.builders import (
    CHECKOUT,
    NOW,
    PAYMENT,
    PAYWALL,
    SALT,
    USER,
    World,
    a_cohort,
    a_world,
    converted,
    happened,
    opened,
    requested,
    some_rules,
)
from tests.support.fakes import an_answer

from experiment_engine.adapters.storage import tables
from experiment_engine.application.results import Result
from experiment_engine.domain.cohorts.cohort import Goal
from experiment_engine.domain.cohorts.holdout import is_held_out
from experiment_engine.domain.delivery.message import Answer, Verdict
from experiment_engine.domain.identifiers import ExperimentId, UserId
from experiment_engine.domain.moments import DAY, HOUR, MINUTE
from experiment_engine.domain.reasons import Reason

NOTHING = (0, 0, 0, 0, 0)  # trials, successes, sent, opened, converted
WAITING = (1, 0, 0, 0, 0)
HELD_OUT = next(u for u in (UserId(f"usr_{n}") for n in range(999)) if is_held_out(u, SALT, 0.05))
ONE_COMBO = a_cohort(delays=("2min",), angles=("urgency",))


@pytest.fixture
def world() -> Iterator[World]:
    """Return two cohorts with one goal and a third with another; messages wait 2 min."""
    rules = some_rules(
        ONE_COMBO,
        a_cohort(PAYMENT, event="payment_failed", delays=("2min",), angles=("urgency",)),
        a_cohort(PAYWALL, event="paywall_viewed", goal="trial", delays=("2min",)),
    )
    with a_world(rules) as opened_world:
        yield opened_world


def sent(
    world: World, event: str = "checkout_abandoned", answer: Answer | None = None, user: str = USER
) -> ExperimentId:
    """Trigger, wait, deliver; return the experiment."""
    result = world.one(happened(event, user=user))
    assert result.experiment_id is not None
    world.clock.advance("2min")
    world.deliver(answer)
    return result.experiment_id


def waiting(world: World, event: str = "checkout_abandoned", user: str = USER) -> ExperimentId:
    result = world.one(happened(event, user=user))
    assert result.status == "scheduled"
    assert result.experiment_id is not None
    return result.experiment_id


def counts(world: World) -> Sequence[int]:
    return world.counts().get("combo", NOTHING)


# Opens


def test_an_open_by_experiment(world: World) -> None:
    """An open is recorded once, at its own time; again it is a duplicate."""
    made = sent(world)

    first = world.one(opened(made, user=USER, at=world.now - MINUTE))
    again = world.one(opened(made, user=USER, at=world.now))

    assert first == Result("recorded", experiment_id=made)
    assert again == Result("duplicate", experiment_id=made)
    assert world.experiment()["opened_at"] == world.now - MINUTE
    assert counts(world) == (1, 0, 1, 1, 0)


@pytest.mark.parametrize("named", [True, False])
def test_an_open_needs_user_or_experiment_only(*, world: World, named: bool) -> None:
    """An open finds its experiment by id alone, or by user alone."""
    made = sent(world)

    result = world.one(opened(made) if named else opened(user=USER))

    assert result == Result("recorded", experiment_id=made)


def test_an_open_by_user_is_the_last_message_s(world: World) -> None:
    """Of several messages the one that went out last was opened."""
    sent(world)
    last = sent(world, "payment_failed")

    assert world.one(opened(user=USER)).experiment_id == last


def test_an_open_outside_every_window(world: World) -> None:
    """An open by user finds only messages whose window holds its time."""
    sent(world)
    world.clock.advance("3d")

    assert world.one(opened(user=USER)).reason == Reason.UNKNOWN_EXPERIMENT


def test_an_open_of_what_was_not_sent(world: World) -> None:
    """A message that has not gone out cannot be opened, and the answer says so."""
    made = waiting(world)

    result = world.one(opened(made))

    assert result == Result("ignored", reason=Reason.NOT_SENT, experiment_id=made)
    assert world.experiment()["opened_at"] is None


def test_an_open_before_our_own_answer_is_recorded(world: World) -> None:
    """An open may overtake the provider's answer: it counts once the message counts as sent."""
    made = waiting(world)
    world.clock.advance("2min")
    (call,) = world.claim().calls

    assert world.one(opened(made)).status == "recorded"
    assert counts(world) == WAITING
    world.record((call, an_answer()))
    assert counts(world) == (1, 0, 1, 1, 0)


# Whose experiment


def test_nobody_s_experiment(world: World) -> None:
    """An id that no experiment has is unknown, with and without a user; the event is kept."""
    results = world.take(opened("nobody's"), converted("nobody's"), opened("nobody's", user=USER))

    assert {(r.status, r.reason) for r in results} == {("ignored", Reason.UNKNOWN_EXPERIMENT)}
    assert len(world.rows(tables.event)) == 3


def test_an_open_of_somebody_else_s_experiment(world: World) -> None:
    """An open that names another user's experiment is a mismatch, and opens nothing (R6)."""
    theirs = sent(world, user="other")
    sent(world)

    result = world.one(opened(theirs, user=USER))

    assert result == Result("ignored", reason=Reason.MISMATCH)
    assert all(row["opened_at"] is None for row in world.experiments())


def test_a_conversion_of_somebody_else_s_experiment(world: World) -> None:
    """One that names another user's experiment credits nobody; its own user has converted (R6)."""
    theirs = sent(world, user="other")
    mine = sent(world)

    result = world.one(converted(theirs, user=USER))

    assert result == Result("ignored", reason=Reason.MISMATCH)
    assert {world.experiment(id_)["converted_at"] for id_ in (theirs, mine)} == {None}
    world.clock.advance("1d")
    assert world.one(happened()).reason == Reason.CONVERTED


# Conversions by user


def test_a_conversion_by_user(world: World) -> None:
    """The goal's event finds the message by its user, once."""
    made = sent(world)

    first, again = world.one(happened("purchase")), world.one(happened("purchase"))

    assert first == Result("recorded", experiment_id=made)
    assert again == Result("duplicate", experiment_id=made)
    assert counts(world) == (1, 1, 1, 0, 1)


def test_the_most_recent_one(world: World) -> None:
    """Of several in one cohort the most recent is credited; again it is a duplicate (R6)."""
    older = sent(world)
    world.clock.advance("25h")
    newer = sent(world)

    assert world.one(happened("purchase")) == Result("recorded", experiment_id=newer)
    assert world.one(converted(user=USER)).status == "duplicate"
    assert world.experiment(older)["converted_at"] is None


def test_the_most_recent_one_whose_window_holds_it(world: World) -> None:
    """A conversion told late finds the message that was the most recent at its own time (R6)."""
    older = sent(world)
    between = world.now + HOUR
    world.clock.advance("25h")
    newer = sent(world)

    assert world.one(converted(user=USER, at=between)) == Result("recorded", experiment_id=older)
    assert world.experiment(newer)["converted_at"] is None


def test_one_in_every_cohort_with_that_goal(world: World) -> None:
    """Each cohort with the goal has its own conversion, one with another goal has none (R6)."""
    one, two, other = (
        sent(world),
        sent(world, "payment_failed"),
        sent(world, "paywall_viewed"),
    )

    result = world.one(happened("purchase"))

    assert result.status == "recorded"
    assert set(result.experiment_ids) == {one, two}
    assert world.experiment(other)["converted_at"] is None


def test_a_report_without_goal_is_one_of_every_goal(world: World) -> None:
    """CleverTap's report names no goal: without an id it is looked for in every cohort."""
    made = {sent(world), sent(world, "payment_failed"), sent(world, "paywall_viewed")}

    result = world.one(converted(user=USER))

    assert set(result.experiment_ids) == made


@pytest.mark.parametrize(
    ("after", "found"), [(-1, False), (0, True), (3 * DAY, True), (3 * DAY + 1, False)]
)
def test_the_window(*, world: World, after: int, found: bool) -> None:
    """A conversion counts from the trigger's own time to the end of the window, and not beyond."""
    sent(world)
    world.clock.advance("4d")

    result = world.one(converted(user=USER, at=NOW + after))

    assert (result.status == "recorded") is found
    assert (counts(world)[1] == 1) is found


def test_told_long_after(world: World) -> None:
    """A conversion inside the window is found however late it is told (R6)."""
    made = sent(world)
    world.clock.advance("20d")

    result = world.one(converted(user=USER, at=NOW + DAY))

    assert result == Result("recorded", experiment_id=made)


def test_a_stranger_s_conversion(world: World) -> None:
    """A conversion of somebody who was never written to finds nothing, and is remembered (R5)."""
    assert world.one(converted(user=USER)).reason == Reason.UNKNOWN_EXPERIMENT
    assert world.one(happened()).reason == Reason.CONVERTED


def test_the_holdout_s_conversion() -> None:
    """A held-out user's conversion is found by user and counts for the holdout (R3)."""
    with a_world(some_rules(ONE_COMBO, holdout_share=0.05)) as world:
        made = world.one(happened(user=HELD_OUT)).experiment_id
        world.clock.advance("2min")
        assert not world.deliver()

        result = world.one(happened("purchase", user=HELD_OUT))

        assert result == Result("recorded", experiment_id=made)
        assert world.counts() == {"holdout": (1, 1, 0, 0, 1)}


# Conversions by experiment


def test_a_conversion_by_experiment(world: World) -> None:
    """A conversion that names its experiment is that one's, though a newer one was sent (R6)."""
    older = sent(world)
    world.clock.advance("25h")
    newer = sent(world)

    assert world.one(converted(older)) == Result("recorded", experiment_id=older)
    assert world.one(converted(older, user=USER)).status == "duplicate"
    assert world.experiment(newer)["converted_at"] is None


def test_by_experiment_outside_its_window(world: World) -> None:
    """Outside the window of the experiment it names, a conversion is no reward."""
    made = sent(world)
    world.clock.advance("4d")

    result = world.one(converted(made))

    assert result == Result("ignored", reason=Reason.OUTSIDE_WINDOW, experiment_id=made)
    assert counts(world) == (1, 0, 1, 0, 0)


@pytest.mark.parametrize("verdict", [Verdict.REFUSED, Verdict.UNCERTAIN])
def test_what_teaches_nothing(*, world: World, verdict: Verdict) -> None:
    """A conversion of a failed or unknown message is neither trial nor reward (R2)."""
    made = sent(world, answer=an_answer(verdict))

    world.one(converted(made))
    world.one(opened(made))

    assert counts(world) == NOTHING


def test_the_feedback_of_an_unknown_is_shown(world: World) -> None:
    """An open and a conversion of an unknown are stored, and leave it unknown (R2)."""
    made = sent(world, answer=an_answer(Verdict.UNCERTAIN))

    results = world.take(opened(made), converted(made))

    row = world.experiment(made)
    assert [result.status for result in results] == ["recorded", "recorded"]
    assert row["state"] == "unknown"
    assert row["opened_at"] is not None
    assert row["converted_at"] is not None


def test_converted_without_opened(world: World) -> None:
    """A conversion needs no open; an open after it changes no reward."""
    made = sent(world)

    world.take(converted(made), opened(made))

    assert counts(world) == (1, 1, 1, 1, 1)


# What waits


def test_a_conversion_cancels_what_waits(world: World) -> None:
    """A conversion before the send stops it, and counts as its success (R1)."""
    made = waiting(world)

    result = world.one(happened("purchase"))

    assert result == Result("cancelled", experiment_id=made)
    assert world.states() == [("cancelled", "converted")]
    assert counts(world) == (1, 1, 0, 0, 0)
    world.clock.advance("2min")
    assert not world.claim().calls


def test_every_cohort_with_that_goal_is_stopped(world: World) -> None:
    """What waits in all cohorts with the goal is cancelled, in others it is not (R6)."""
    one, two, other = (
        waiting(world),
        waiting(world, "payment_failed"),
        waiting(world, "paywall_viewed"),
    )

    result = world.one(happened("purchase"))

    assert result.status == "cancelled"
    assert set(result.experiment_ids) == {one, two}
    assert world.experiment(other)["state"] == "scheduled"


@pytest.mark.parametrize("named", ["other", "waiting", "theirs", "nobody's", None])
def test_whatever_id_it_carries(*, world: World, named: str | None) -> None:
    """A conversion stops what waits, whatever experiment it names (R6)."""
    theirs = sent(world, user="somebody else")
    made = sent(world, "payment_failed")
    stopped = waiting(world)
    ids = {
        "other": made,
        "waiting": stopped,
        "theirs": theirs,
        "nobody's": "nobody's",
        None: None,
    }

    result = world.one(converted(ids[named], user=USER))

    assert world.experiment(stopped)["state"] == "cancelled"
    assert stopped in (*result.experiment_ids, result.experiment_id)


def test_recorded_leads_before_cancelled(world: World) -> None:
    """One that is recorded and one that is cancelled: both are listed, recorded leads (R6)."""
    made, stopped = sent(world, "payment_failed"), waiting(world)

    result = world.one(happened("purchase"))

    assert result.status == "recorded"
    assert set(result.experiment_ids) == {made, stopped}


def test_a_conversion_before_the_trigger_stops_it_without_reward(world: World) -> None:
    """One that lies before the trigger, told after it, stops the message and is no success."""
    waiting(world)

    world.one(happened("purchase", at=NOW - HOUR))

    assert world.states() == [("cancelled", "converted")]
    assert counts(world) == NOTHING


def test_a_conversion_of_long_ago_stops_nothing(world: World) -> None:
    """One longer ago than `converted_quiet` before the trigger does not stop the message."""
    waiting(world)

    world.one(happened("purchase", at=NOW - 31 * DAY))

    assert world.states() == [("scheduled", None)]


def test_a_conversion_twice_before_the_send(world: World) -> None:
    """The same conversion told again after it stopped a message is a duplicate, one success."""
    made = waiting(world)

    results = world.take(happened("purchase"), converted(user=USER), converted(made))

    assert [result.status for result in results] == ["cancelled", "duplicate", "duplicate"]
    assert counts(world) == (1, 1, 0, 0, 0)


def test_what_was_sent_is_credited_though_another_is_stopped(world: World) -> None:
    """A conversion stops what waits, and is still the conversion of what was sent before (R6)."""
    made = sent(world)
    world.clock.advance("25h")
    stopped = waiting(world)

    result = world.one(happened("purchase"))

    assert result.status == "recorded"
    assert set(result.experiment_ids) == {made, stopped}


def test_an_unknown_does_not_stand_before_what_was_sent(world: World) -> None:
    """A conversion by user is the sent message's, also after an unknown one had its own (R6)."""
    made = sent(world)
    world.clock.advance("25h")
    uncertain = sent(world, answer=an_answer(Verdict.UNCERTAIN))
    world.one(converted(uncertain))

    assert world.one(converted(user=USER)) == Result("recorded", experiment_id=made)


# While the call is under way


def test_a_conversion_between_claim_and_answer(world: World) -> None:
    """A conversion while the call is under way is the message's own once it was sent (R1)."""
    made = waiting(world)
    world.clock.advance("2min")
    (call,) = world.claim().calls

    assert world.one(happened("purchase")) == Result("recorded", experiment_id=made)
    assert counts(world) == WAITING
    world.record((call, an_answer()))
    assert counts(world) == (1, 1, 1, 0, 1)


def test_a_conversion_between_claim_and_a_message_not_taken(world: World) -> None:
    """If the provider then did not take it, it is not tried again, and counts as its success."""
    waiting(world)
    world.clock.advance("2min")
    (call,) = world.claim().calls
    world.one(happened("purchase"))
    world.record((call, an_answer(Verdict.NOT_TAKEN)))
    world.clock.advance("5min")

    assert not world.claim().calls
    assert world.states() == [("cancelled", "converted")]
    assert counts(world) == (1, 1, 0, 0, 0)


# Counted once, whatever comes


def test_manual_triggers_teach(world: World) -> None:
    """A message sent by hand counts like any other: its combo was drawn (R4)."""
    world.one(requested(cohort=CHECKOUT))
    world.clock.advance("2min")
    world.deliver()
    world.one(converted(user=USER))

    assert counts(world) == (1, 1, 1, 0, 1)


def test_counts_by_the_hour_of_the_trigger(world: World) -> None:
    """Counters are kept by the hour in which the trigger lies, and over all hours."""
    sent(world)
    world.clock.advance("2h")
    world.one(happened("purchase"))

    assert world.counts(NOW // HOUR) == world.counts() == {"combo": (1, 1, 1, 0, 1)}


# What a conversion was worth, and who told of it


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        (499, 499_000),
        (0.1, 100),
        (-3, 0),
        (10**30, 1_000_000),
        (float("nan"), 0),
        ("499", None),
        (True, None),
        (None, None),
    ],
)
def test_what_a_conversion_was_worth(told: object, kept: int | None) -> None:
    """The goal's value is kept in thousandths, from nothing to its limit; no number, no value."""
    goal = Goal(event=ONE_COMBO.goal.event, window=DAY, value="revenue", value_max=1_000)
    with a_world(some_rules(replace(ONE_COMBO, goal=goal))) as world:
        sent(world)
        world.one(happened("purchase", properties={"revenue": told}))

        made = world.experiment()
        assert (made["value"], made["converted_by"]) == (kept, "amplitude")
        assert [row["value"] for row in world.rows(tables.goal_reached)] == [kept]
        values = [row["value"] for row in world.rows(tables.combo_count)]
        assert values == [kept or 0] * 2


def test_who_told_of_a_conversion(world: World) -> None:
    """A conversion keeps the source that told of it first, also where it stopped a message."""
    made = waiting(world)
    world.one(converted(user=USER))
    world.one(happened("purchase"))

    assert world.experiment(made)["converted_by"] == "clevertap"
