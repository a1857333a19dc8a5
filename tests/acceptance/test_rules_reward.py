"""R1 and R2: what is a trial, what is a success, and what teaches nothing."""

from collections.abc import Callable

import pytest
from tests.support.clevertap_double import CleverTapDouble
from tests.support.configuration import COHORT, GOAL, cohort
from tests.support.engine import RunningEngine
from tests.support.start import Start

A, B = "2min|push|helpful|none", "2min|push|urgency|none"
TWO = {COHORT: cohort(angle=["helpful", "urgency"])}
EVEN = {A: 0.5, B: 0.5}
USER = "usr_1"


def drawn(engine: RunningEngine, experiment_id: str) -> str:
    combo_key: str = engine.experiment(experiment_id)["combo_key"]
    return combo_key


def test_r1_a_send_is_a_trial(start: Start) -> None:
    """A message without conversion speaks against its combo, when it had its time to convert."""
    engine = start(cohorts=TWO)
    combo = drawn(engine, engine.sent(USER))
    engine.clock.advance("3d")
    assert engine.chances()[combo] == pytest.approx(0.1)


def test_r1_a_conversion_is_a_success(start: Start) -> None:
    """A conversion inside the window speaks for the combo, at once."""
    engine = start(cohorts=TWO)
    combo = drawn(engine, engine.sent(USER))
    engine.converted(user_id=USER)
    assert engine.chances()[combo] == pytest.approx(0.9)


def test_r1_a_conversion_that_cancels_is_a_trial_and_a_success(start: Start) -> None:
    """Who comes back before the message counts for the drawn combo, and not as a send."""
    engine = start(cohorts=TWO)
    experiment_id = engine.scheduled(USER)
    engine.converted(user_id=USER)
    combo = drawn(engine, experiment_id)

    assert engine.state(experiment_id) == ("cancelled", "converted")
    assert engine.chances()[combo] == pytest.approx(0.9)
    assert engine.get("/api/stats")["top_combinations"] == []


def test_r1_cvr_is_the_plain_count_from_sends(start: Start) -> None:
    """In the statistics a conversion that cancelled its message is in no combo's rate."""
    engine = start()
    engine.sent(USER)
    engine.scheduled("usr_2")
    engine.converted(user_id="usr_2")
    (only,) = engine.get("/api/stats")["top_combinations"]
    assert (only["sent_count"], only["converted_count"], only["cvr"]) == (1, 0, 0.0)


@pytest.mark.parametrize(("hours_after_the_trigger", "conversions"), [(71, 1), (73, 0)])
def test_r1_the_window_runs_from_the_trigger(
    start: Start, hours_after_the_trigger: int, conversions: int
) -> None:
    """A late message has no more time to convert than an early one."""
    engine = start(cohorts={COHORT: cohort(delay=["6h"])})
    engine.sent(USER)
    engine.clock.advance(f"{hours_after_the_trigger - 6}h")
    engine.event(USER, GOAL)
    assert engine.get("/api/stats")["summary"]["total_converted"] == conversions


def test_r1_a_conversion_that_arrives_late_counts(start: Start) -> None:
    """What decides is when the goal was reached, not when we hear of it."""
    engine = start()
    experiment_id = engine.sent(USER)
    engine.clock.advance("10d")
    result = engine.event(USER, GOAL, at=engine.clock.iso(before="9d"))
    assert (result["status"], result["experiment_id"]) == ("recorded", experiment_id)
    assert engine.get("/api/stats")["summary"]["total_converted"] == 1


def test_r1_order_of_feedback_does_not_matter(start: Start) -> None:
    """A conversion without an open counts, and an open after it changes no rate."""
    engine = start()
    experiment_id = engine.sent(USER)
    engine.converted(experiment_id=experiment_id)
    before = engine.get("/api/stats")["top_combinations"][0]["cvr"]
    assert engine.opened(experiment_id=experiment_id)["status"] == "recorded"
    after = engine.get("/api/stats")
    assert after["top_combinations"][0]["cvr"] == before == 100.0
    assert after["summary"]["total_opened"] == 1


def test_r1_the_holdout_is_counted_by_the_same_rule(start: Start) -> None:
    """A held-out user's conversion inside the window is the baseline's success."""
    engine = start(holdout={"share": 0.999999})
    engine.event(USER)
    engine.event("usr_2")
    engine.deliver(after="2min")
    engine.event(USER, GOAL)
    holdout = engine.get("/api/stats")["holdout"]
    assert (holdout["trials"], holdout["converted"]) == (2, 1)


def refused(engine: RunningEngine, double: CleverTapDouble) -> str:
    double.configure(script=["400"])
    engine.deliver(after="2min")
    return "failed"


def uncertain(engine: RunningEngine, double: CleverTapDouble) -> str:
    double.configure(script=["processed_then_reset"])
    engine.deliver(after="2min")
    return "unknown"


def too_late(engine: RunningEngine, double: CleverTapDouble) -> str:
    engine.deliver(after="33min")
    return "expired"


def opted_out(engine: RunningEngine, double: CleverTapDouble) -> str:
    engine.post(f"/api/users/{USER}/opt-out")
    engine.deliver(after="2min")
    return "cancelled"


def erased(engine: RunningEngine, double: CleverTapDouble) -> str:
    engine.client.delete(f"/api/users/{USER}")
    engine.deliver(after="2min")
    return "cancelled"


@pytest.mark.parametrize("happen", [refused, uncertain, too_late, opted_out, erased])
def test_r2_what_teaches_nothing(
    start: Start,
    double: CleverTapDouble,
    happen: Callable[[RunningEngine, CleverTapDouble], str],
) -> None:
    """Failed, unknown, expired, opted out or erased before the send: no choice changes."""
    engine = start(to=double, cohorts=TWO)
    experiment_id = engine.scheduled(USER)
    assert engine.state(experiment_id)[0] == "scheduled"
    state = happen(engine, double)
    assert engine.state(experiment_id)[0] == state
    assert engine.chances() == pytest.approx(EVEN)


def test_r2_feedback_about_an_unknown_is_stored_and_teaches_nothing(
    start: Start, double: CleverTapDouble
) -> None:
    """An open or a conversion of an unknown is shown; it is neither trial nor reward."""
    engine = start(to=double, cohorts=TWO)
    experiment_id = engine.scheduled(USER)
    uncertain(engine, double)
    engine.opened(experiment_id=experiment_id)
    engine.converted(user_id=USER, experiment_id=experiment_id)

    feedback = engine.experiment(experiment_id)["feedback"]
    assert feedback["opened_at"] is not None
    assert feedback["converted_at"] is not None
    assert engine.state(experiment_id)[0] == "unknown"
    stats = engine.get("/api/stats")
    assert (stats["summary"]["total_opened"], stats["summary"]["total_converted"]) == (0, 0)
    assert stats["top_combinations"] == []
    assert engine.chances() == pytest.approx(EVEN)


def test_r2_dry_run_teaches_nothing(start: Start, double: CleverTapDouble) -> None:
    """What was learned in dry run is not known once messages go out."""
    engine = start(cohorts=TWO)
    combo = drawn(engine, engine.sent(USER))
    engine.converted(user_id=USER)
    assert engine.chances()[combo] == pytest.approx(0.9)

    engine = start(to=double, cohorts=TWO)
    assert engine.chances() == pytest.approx(EVEN)
    assert engine.get("/api/stats")["top_combinations"] == []
