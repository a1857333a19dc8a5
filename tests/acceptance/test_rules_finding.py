"""R6: which experiment a conversion belongs to, and what else it does."""

import pytest
from tests.support.clevertap_double import CleverTapDouble
from tests.support.configuration import COHORT, GOAL, cohort
from tests.support.engine import RunningEngine
from tests.support.start import Start

OTHER, APART = "payment_failed", "paywall_viewed"
SOON = {"again_after": "1h"}
SAME_GOAL = {
    COHORT: cohort(trigger=SOON),
    OTHER: cohort(trigger={**SOON, "event": OTHER}),
    APART: cohort(trigger={**SOON, "event": APART}, goal={"event": "subscribed"}),
}
USER = "usr_1"


def converted_at(engine: RunningEngine, experiment_id: str) -> str | None:
    at: str | None = engine.experiment(experiment_id)["feedback"]["converted_at"]
    return at


def two_sent(engine: RunningEngine) -> tuple[str, str]:
    first = engine.sent(USER)
    engine.clock.advance("2h")
    return first, engine.sent(USER)


def test_r6_the_most_recent_is_found(start: Start) -> None:
    """Of several sent experiments of a cohort the latest has the conversion, and only it."""
    engine = start(cohorts=SAME_GOAL)
    first, second = two_sent(engine)
    result = engine.converted(user_id=USER)
    assert (result["status"], result["experiment_id"]) == ("recorded", second)
    assert converted_at(engine, first) is None


def test_r6_a_duplicate_is_not_moved_to_an_earlier_one(start: Start) -> None:
    """Once the latest has converted, a further conversion is a duplicate of it."""
    engine = start(cohorts=SAME_GOAL)
    first, second = two_sent(engine)
    engine.converted(user_id=USER)
    result = engine.converted(user_id=USER)
    assert (result["status"], result["experiment_id"]) == ("duplicate", second)
    assert converted_at(engine, first) is None


def test_r6_the_window_must_hold_the_events_time(start: Start) -> None:
    """A goal reached before the latest trigger belongs to the experiment before it."""
    engine = start(cohorts=SAME_GOAL)
    first, second = two_sent(engine)
    result = engine.event(USER, GOAL, at=engine.clock.iso(before="1h"))
    assert (result["status"], result["experiment_id"]) == ("recorded", first)
    assert converted_at(engine, second) is None


def test_r6_outside_every_window(start: Start) -> None:
    """A goal reached after all windows belongs to none."""
    engine = start()
    engine.sent(USER)
    engine.clock.advance("4d")
    assert engine.converted(user_id=USER)["status"] == "ignored"


def test_r6_one_for_each_cohort_with_the_goal(start: Start) -> None:
    """Cohorts with the same goal each find their experiment, and all ids are listed."""
    engine = start(cohorts=SAME_GOAL)
    ids = {engine.sent(USER), engine.sent(USER, name=OTHER)}
    apart = engine.sent(USER, name=APART)
    result = engine.event(USER, GOAL)
    assert result["status"] == "recorded"
    assert set(result["experiment_ids"]) == ids
    assert converted_at(engine, apart) is None


def test_r6_only_sent_and_held_out_are_found(start: Start, double: CleverTapDouble) -> None:
    """A message that was refused, or is unknown, does not take an earlier one's conversion."""
    engine = start(to=double, cohorts={COHORT: cohort(trigger=SOON)})
    first = engine.sent(USER)
    for fault in ("400", "processed_then_reset"):
        engine.clock.advance("2h")
        engine.scheduled(USER)
        double.configure(script=[fault])
        engine.deliver(after="2min")
    result = engine.converted(user_id=USER)
    assert (result["status"], result["experiment_id"]) == ("recorded", first)


def test_r6_recorded_goes_before_cancelled(start: Start) -> None:
    """One conversion may record one cohort's and cancel another's; both ids are listed."""
    engine = start(cohorts=SAME_GOAL)
    sent = engine.sent(USER)
    waiting = engine.scheduled(USER, name=OTHER)
    result = engine.converted(user_id=USER)
    assert result["status"] == "recorded"
    assert set(result["experiment_ids"]) == {sent, waiting}
    assert engine.state(waiting) == ("cancelled", "converted")


def test_r6_cancelled_goes_before_duplicate(start: Start) -> None:
    """What was still waiting matters more than what had converted already; both are listed."""
    other = cohort(trigger={"event": OTHER, "converted_quiet": "0s"})
    engine = start(cohorts={COHORT: cohort(), OTHER: other})
    converted = engine.sent(USER)
    engine.converted(user_id=USER)
    engine.clock.advance("1min")
    waiting = engine.scheduled(USER, name=OTHER)
    result = engine.converted(user_id=USER)
    assert result["status"] == "cancelled"
    assert set(result["experiment_ids"]) == {converted, waiting}


def test_r6_within_one_cohort(start: Start) -> None:
    """A conversion finds the sent experiment of a cohort and cancels its waiting one."""
    engine = start(cohorts=SAME_GOAL)
    sent = engine.sent(USER)
    engine.clock.advance("2h")
    waiting = engine.scheduled(USER)
    result = engine.event(USER, GOAL)
    assert engine.state(waiting) == ("cancelled", "converted")
    assert converted_at(engine, sent) is not None
    assert result["status"] == "recorded"
    assert set(result["experiment_ids"]) == {sent, waiting}


def test_r6_within_one_cohort_by_id(start: Start) -> None:
    """The same with the sent experiment's id."""
    engine = start(cohorts=SAME_GOAL)
    sent = engine.sent(USER)
    engine.clock.advance("2h")
    waiting = engine.scheduled(USER)
    result = engine.converted(user_id=USER, experiment_id=sent)
    assert engine.state(waiting) == ("cancelled", "converted")
    assert result["status"] == "recorded"
    assert set(result["experiment_ids"]) == {sent, waiting}


@pytest.mark.parametrize("named", ["unknown", "another user's", "an earlier one's"])
def test_r6_whatever_id_it_carries_it_cancels(start: Start, named: str) -> None:
    """A conversion stops every waiting message of its user in cohorts with the goal."""
    engine = start(cohorts=SAME_GOAL)
    earlier, others = engine.sent(USER), engine.sent("usr_2")
    engine.clock.advance("2h")
    waiting = [engine.scheduled(USER), engine.scheduled(USER, name=OTHER)]
    ids = {"unknown": "no-such-id", "another user's": others, "an earlier one's": earlier}
    engine.converted(user_id=USER, experiment_id=ids[named])
    assert [engine.state(experiment_id) for experiment_id in waiting] == [
        ("cancelled", "converted")
    ] * 2
    assert converted_at(engine, others) is None


def test_r6_cohorts_with_another_goal_go_on(start: Start) -> None:
    """A conversion of one goal does not stop messages towards another."""
    engine = start(cohorts=SAME_GOAL)
    engine.scheduled(USER)
    apart = engine.scheduled(USER, name=APART)
    engine.event(USER, GOAL)
    engine.deliver(after="2min")
    assert engine.state(apart) == ("sent", None)


def test_r6_mismatch(start: Start) -> None:
    """An experiment of another user is ignored, and gets no credit."""
    engine = start(cohorts=SAME_GOAL)
    others = engine.sent("usr_2")
    result = engine.converted(user_id=USER, experiment_id=others)
    assert (result["status"], result["reason"]) == ("ignored", "mismatch")
    assert converted_at(engine, others) is None
