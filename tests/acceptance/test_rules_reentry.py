"""R5: how soon again, and never after the goal."""

import pytest
from tests.support.clevertap_double import CleverTapDouble
from tests.support.configuration import COHORT, GOAL, cohort
from tests.support.events import amplitude_event
from tests.support.start import Start

OTHER = "payment_failed"
BOTH = {COHORT: cohort(), OTHER: cohort(trigger={"event": OTHER})}
USER = "usr_1"


def test_r5_again_after_counts_from_the_decision(start: Start) -> None:
    """From one decision of a cohort to its next for the same user `again_after` passes."""
    engine = start()
    engine.sent(USER)
    engine.clock.advance("1437min")  # 23 h 59 min after the decision
    assert engine.event(USER)["reason"] == "cooldown"
    engine.clock.advance("1min")
    assert engine.event(USER)["status"] == "scheduled"


def test_r5_again_after_is_of_one_cohort(start: Start) -> None:
    """Another cohort may write to the user meanwhile."""
    engine = start(cohorts=BOTH)
    engine.sent(USER)
    assert engine.event(USER, OTHER)["status"] == "scheduled"


def test_r5_min_gap_holds_over_all_cohorts(start: Start) -> None:
    """Between any two messages to one user `min_gap` passes."""
    cap = {"messages": 100, "per": "7d", "min_gap": "1h"}
    engine = start(cohorts=BOTH, frequency_cap=cap)
    engine.sent(USER)
    assert engine.event(USER, OTHER)["reason"] == "frequency_cap"
    engine.clock.advance("1h")
    assert engine.event(USER, OTHER)["status"] == "scheduled"


def test_r5_two_that_wait_do_not_both_go_out(start: Start, double: CleverTapDouble) -> None:
    """The gap is kept at the send too, when both were decided before either went out."""
    cap = {"messages": 100, "per": "7d", "min_gap": "1h"}
    engine = start(to=double, cohorts=BOTH, frequency_cap=cap)
    ids = [engine.scheduled(USER), engine.scheduled(USER, name=OTHER)]
    engine.deliver(after="2min")
    engine.deliver(after="10min")
    assert len(double.ledger()) == 1
    assert "sent" in [engine.state(experiment_id)[0] for experiment_id in ids]


def test_r5_the_cap_rolls(start: Start) -> None:
    """At most so many messages in any stretch of the cap's length, over all cohorts."""
    cohorts = {
        name: cohort(trigger={"event": name, "again_after": "1h"}) for name in ("one", "two")
    }
    engine = start(cohorts=cohorts, frequency_cap={"messages": 2, "per": "24h"})
    engine.sent(USER, name="one")
    engine.clock.advance("10h")
    engine.sent(USER, name="two")
    engine.clock.advance("2h")
    assert engine.event(USER, "one")["reason"] == "frequency_cap"
    engine.clock.advance("11h")
    assert engine.event(USER, "one")["reason"] == "frequency_cap"
    engine.clock.advance("1h")
    assert engine.event(USER, "one")["status"] == "scheduled"


def test_r5_counted_events_never_count_again(start: Start) -> None:
    """What led to one experiment does not help to start the next."""
    engine = start(cohorts={COHORT: cohort(trigger={"count": 2, "within": "7d"})})
    engine.event(USER)
    engine.sent(USER)
    engine.clock.advance("25h")
    assert engine.event(USER)["reason"] == "count_not_reached"
    assert engine.event(USER)["status"] == "scheduled"


@pytest.mark.parametrize("ago", ["0s", "1min", "5h"])
@pytest.mark.parametrize("before_the_trigger", ["0s", "29d"])
@pytest.mark.parametrize("first", ["goal", "trigger"])
def test_r5_converted_in_any_order(
    start: Start, double: CleverTapDouble, ago: str, before_the_trigger: str, first: str
) -> None:
    """Who reached the goal gets no message, whichever of the two we hear of first."""
    engine = start(
        to=double, cohorts={COHORT: cohort(delay=["2min", "6h"], goal={"window": "3d"})}
    )
    at = engine.clock.iso(before=ago)
    goal_at = at if before_the_trigger == "0s" else engine.clock.iso(before="29d")

    if first == "trigger":
        experiment_id = engine.scheduled(USER, at=at)
        assert engine.event(USER, GOAL, at=goal_at)["status"] == "cancelled"
        assert engine.state(experiment_id) == ("cancelled", "converted")
    else:
        engine.event(USER, GOAL, at=goal_at)
        result = engine.event(USER, at=at)
        assert (result["status"], result["reason"]) == ("ignored", "converted")
    engine.deliver(after="7h")
    assert double.calls() == []


def test_r5_a_trigger_that_arrives_after_a_later_goal(start: Start) -> None:
    """A trigger from before the goal is ignored when it arrives after it."""
    engine = start()
    engine.event(USER, GOAL)
    result = engine.event(USER, at=engine.clock.iso(before="1h"))
    assert (result["status"], result["reason"]) == ("ignored", "converted")


def test_r5_converted_quiet_ends(start: Start) -> None:
    """After `converted_quiet` the user may be written to again."""
    engine = start()
    engine.event(USER, GOAL)
    engine.clock.advance("29d")
    assert engine.event(USER)["reason"] == "converted"
    engine.clock.advance("25h")
    assert engine.event(USER)["status"] == "scheduled"


@pytest.mark.parametrize("raw_events", ["90d", "1d"])
def test_r5_a_repeated_event_is_known_for_thirty_days(start: Start, raw_events: str) -> None:
    """However soon raw events are deleted, an event that comes again is known as the same."""
    engine = start(retention={"raw_events": raw_events})
    event = amplitude_event(USER, engine.clock.iso())
    engine.events(event)
    for _ in range(29):
        engine.deliver(after="24h")
    assert engine.events(event)[0]["status"] == "duplicate"


def test_r5_counting_outlives_raw_events(start: Start) -> None:
    """Events count for as long as the cohort's window says, also when raw events go sooner."""
    counting = cohort(trigger={"count": 3, "within": "7d"})
    engine = start(cohorts={COHORT: counting}, retention={"raw_events": "1d"})
    for _ in range(2):
        engine.event(USER)
        engine.deliver(after="72h")
    assert engine.event(USER)["status"] == "scheduled"


def test_r5_a_reached_goal_outlives_experiments(start: Start) -> None:
    """`converted_quiet` holds, also when experiments are kept for a shorter time."""
    engine = start(retention={"experiments": "10d"})
    engine.event(USER, GOAL)
    for _ in range(15):
        engine.deliver(after="24h")
    assert engine.event(USER)["reason"] == "converted"
