"""R3 and R4: who is held out and how; what triggers by hand may do."""

from typing import Any

import pytest
from tests.support.clevertap_double import CleverTapDouble
from tests.support.configuration import COHORT, GOAL, TRIGGER, cohort
from tests.support.events import amplitude_event, somebody
from tests.support.start import Start

ALL = {"share": 0.999999}
OTHER = "payment_failed"
BOTH = {COHORT: cohort(), OTHER: cohort(trigger={"event": OTHER})}
USER = "usr_1"


def test_r3_a_shadow_experiment(start: Start, double: CleverTapDouble) -> None:
    """A held-out user's experiment is drawn and waits like any other, and calls nobody."""
    engine = start(to=double, holdout=ALL)
    result = engine.event(USER)
    assert result["status"] == "holdout"
    shown = engine.experiment(result["experiment_id"])
    assert shown["combo_key"] == "2min|push|helpful|none"
    assert shown["propensity"] == 1.0

    engine.deliver(after="1min")
    assert engine.state(result["experiment_id"]) == ("scheduled", None)
    engine.deliver(after="1min")
    assert engine.state(result["experiment_id"]) == ("held_out", None)
    assert double.calls() == []


def test_r3_it_counts_for_already_active_and_cooldown(start: Start) -> None:
    """A shadow experiment keeps further triggers away, as a message would."""
    engine = start(holdout=ALL)
    answers = [engine.event(USER), engine.event(USER)]
    engine.deliver(after="2min")
    answers.append(engine.event(USER))
    engine.clock.advance("24h")
    answers.append(engine.event(USER))
    assert [answer["status"] for answer in answers] == ["holdout", "ignored", "ignored", "holdout"]
    assert [answer.get("reason") for answer in answers[1:3]] == ["already_active", "cooldown"]


def test_r3_it_counts_for_caps(start: Start) -> None:
    """A shadow experiment takes its place under the frequency cap."""
    engine = start(holdout=ALL, cohorts=BOTH, frequency_cap={"messages": 1, "per": "7d"})
    engine.event(USER)
    engine.deliver(after="2min")
    assert engine.event(USER, OTHER)["reason"] == "frequency_cap"


@pytest.mark.parametrize("why", ["opted_out", "converted", "expired", "frequency_cap"])
def test_r3_it_is_checked_like_any_other(start: Start, why: str) -> None:
    """What would have stopped the message stops the shadow: both groups stay alike."""
    engine = start(holdout=ALL, cohorts=BOTH, frequency_cap={"messages": 1, "per": "7d"})
    if why == "frequency_cap":
        engine.event(USER, OTHER, at=engine.clock.iso(before="1min"))
    experiment_id = engine.event(USER)["experiment_id"]
    if why == "opted_out":
        engine.post(f"/api/users/{USER}/opt-out")
    if why == "converted":
        engine.converted(user_id=USER)
    engine.deliver(after="33min" if why == "expired" else "1min")
    engine.deliver(after="1min")
    assert engine.state(experiment_id) == ("expired" if why == "expired" else "cancelled", why)


def test_r3_a_pause_holds_shadows_too(start: Start) -> None:
    """While paused nothing is held out either."""
    engine = start(holdout=ALL)
    experiment_id = engine.event(USER)["experiment_id"]
    engine.post("/api/pause")
    engine.deliver(after="2min")
    assert engine.state(experiment_id)[0] == "scheduled"


def test_r3_conversions_are_found_by_user(start: Start) -> None:
    """A held-out user's conversion finds the shadow experiment."""
    engine = start(holdout=ALL)
    experiment_id = engine.event(USER)["experiment_id"]
    engine.deliver(after="2min")
    result = engine.converted(user_id=USER)
    assert (result["status"], result["experiment_id"]) == ("recorded", experiment_id)
    assert engine.get("/api/stats")["summary"]["total_converted"] == 0
    assert engine.get("/api/stats")["holdout"]["converted"] == 1


def test_r3_the_split_is_the_same_in_every_cohort(start: Start) -> None:
    """Who is held out in one cohort is held out in all."""
    engine = start(holdout={"share": 0.5}, cohorts=BOTH)
    users = [somebody() for _ in range(60)]
    held = [statuses(engine, users, name) for name in (TRIGGER, OTHER)]
    assert held[0] == held[1]
    assert set(held[0].values()) == {"holdout", "scheduled"}


def test_r3_a_larger_share_only_adds(start: Start) -> None:
    """Nobody leaves the holdout when its share grows, also over a restart."""
    users = [somebody() for _ in range(80)]
    before = statuses(start(holdout={"share": 0.3}, cohorts=BOTH), users, TRIGGER)
    after = statuses(start(holdout={"share": 0.7}, cohorts=BOTH), users, OTHER)
    small = {user for user, status in before.items() if status == "holdout"}
    large = {user for user, status in after.items() if status == "holdout"}
    assert small < large


def statuses(engine: Any, users: list[str], name: str) -> dict[str, str]:
    results = engine.events(*(amplitude_event(user, engine.clock.iso(), name) for user in users))
    return {user: result["status"] for user, result in zip(users, results, strict=True)}


# R4: triggers by hand


def test_r4_never_held_out(start: Start, double: CleverTapDouble) -> None:
    """Whoever is asked for by hand gets the message."""
    engine = start(to=double, holdout=ALL)
    answer = engine.trigger(USER)
    assert answer.status_code == 201
    engine.deliver(after="2min")
    assert [call.users for call in double.ledger()] == [(USER,)]


def test_r4_it_teaches(start: Start) -> None:
    """Its combo was drawn, so its outcome counts as any other's."""
    engine = start(cohorts={COHORT: cohort(angle=["helpful", "urgency"])})
    made = engine.trigger(USER).json()
    engine.deliver(after="2min")
    engine.event(USER, GOAL)
    assert engine.chances()[made["combo_key"]] == pytest.approx(0.9)


@pytest.mark.parametrize(
    "why",
    ["opted_out", "no_consent", "frequency_cap", "paused", "cooldown", "converted", "budget"],
)
def test_r4_every_guardrail_holds(start: Start, why: str) -> None:
    """Refused by hand is 200 `ignored` with the reason."""
    engine = start(
        cohorts=BOTH | {COHORT: cohort(offer=["gift"])},
        frequency_cap={"messages": 1 if why == "frequency_cap" else 99, "per": "7d"},
        channels={"push": {"consent": "required" if why == "no_consent" else "assumed"}},
        offers={"gift": {"per_day": 1}} if why == "budget" else {},
    )
    if why == "opted_out":
        engine.post(f"/api/users/{USER}/opt-out")
    if why == "frequency_cap":
        engine.sent(USER, name=OTHER)
    if why == "paused":
        engine.post("/api/pause")
    if why == "cooldown":
        engine.sent(USER)
    if why == "converted":
        engine.event(USER, GOAL)
    if why == "budget":
        engine.sent("usr_2")

    answer = engine.trigger(USER)
    assert answer.status_code == 200
    assert answer.json()["status"] == "ignored"
    assert why in answer.json()["reason"]


def test_r4_quiet_hours_hold(start: Start) -> None:
    """Asked for by hand at night, the message goes out in the morning."""
    engine = start(quiet_hours={"start": "09:00", "end": "12:00"})
    made = engine.trigger(USER).json()
    assert made["status"] == "scheduled"
    assert "2026-11-22T12:00:00Z" <= made["scheduled_for"] <= "2026-11-22T12:30:00Z"
