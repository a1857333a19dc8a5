"""What is not sent has a reason, and each reason is counted in the API and the metrics."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from tests.support.clevertap_double import CleverTapDouble
from tests.support.configuration import COHORT, COMBO, GOAL, cohort
from tests.support.engine import RunningEngine
from tests.support.start import Start

from experiment_engine.domain.events import Reported, Source
from experiment_engine.domain.identifiers import Channel, ExperimentId
from experiment_engine.domain.moments import HOUR, MINUTE, Instant, iso
from experiment_engine.domain.reasons import Reason

USER, OTHER = "usr_1", "usr_2"
PUSH = Channel("push")
BOTH = {COHORT: cohort(channel=["push", "whatsapp"])}
ON_WHATSAPP = {COHORT: cohort(channel=["whatsapp"])}
SECOND_COHORT = {COHORT: cohort(), "failed": cohort(trigger={"event": "failed"})}
LEFT = cohort()["trigger"]["event"]

# The text of one channel rests on a fact, so that each angle has one that rests on none.
TEXT = {"title": "Come back", "body": "It ends soon."}
RESTING = {
    "push": {"helpful": {"*": {**TEXT, "requires": "left"}}},
    "whatsapp": {"helpful": {"*": TEXT}},
}
NEEDY = '[push.helpful."*"]\ntitle = "{city}"\nbody = "नमस्ते"\n'

Scenario = Callable[[Start, CleverTapDouble], RunningEngine]


def simply(act: Callable[[RunningEngine], object], **configuration: Any) -> Scenario:
    """Start with a configuration, and do something."""

    def scenario(start: Start, _double: CleverTapDouble) -> RunningEngine:
        engine = start(**configuration)
        act(engine)
        return engine

    return scenario


def missing_value(start: Start, _double: CleverTapDouble) -> RunningEngine:
    """Let a user leave whose text, in a language of its own, needs more than the default's."""
    path = start.folder / "configuration" / "copy" / "hi.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(NEEDY, encoding="utf-8")
    engine = start(placeholders={"city": {"from": "event_properties.city"}})
    engine.event(USER, event_properties={"language": "hi"})
    return engine


def resting(start: Start, kind: str, **fact: object) -> RunningEngine:
    rule = {"from": "event_properties.left", "kind": kind, **fact}
    return start(cohorts=BOTH, copy=RESTING, facts={"left": rule})


def scheduled_with(engine: RunningEngine, left: object) -> None:
    """Schedule a message whose text rests on what is left."""
    engine.post(f"/api/users/{USER}/opt-out", {"channel": "whatsapp"}).raise_for_status()
    engine.scheduled(USER, event_properties={"left": left})


def fact_missing(start: Start, _double: CleverTapDouble) -> RunningEngine:
    scheduled_with(resting(start, "number", at_least=2), 3)
    engine = resting(start, "number", at_least=4)
    engine.deliver(after="2min")
    return engine


def fact_expired(start: Start, _double: CleverTapDouble) -> RunningEngine:
    engine = resting(start, "moment")
    scheduled_with(engine, iso(Instant(engine.clock.now() + 5 * MINUTE)))
    engine.deliver(after="10min")
    return engine


def postponed(engine: RunningEngine) -> None:
    engine.scheduled(USER)
    engine.deliver(after="4min")


def expired(engine: RunningEngine) -> None:
    engine.scheduled(USER)
    engine.deliver(after="40min")


def twice(engine: RunningEngine, then: str = "0s") -> None:
    engine.event(USER)
    engine.deliver(after=then)
    engine.event(USER)


def stopped(start: Start, double: CleverTapDouble) -> RunningEngine:
    engine = start(to=double)
    engine.scheduled(USER)
    engine.clock.advance("2min")
    engine.engine.traffic.claim({PUSH: 1}, [])
    engine.engine.traffic.recover(all_claims=True)
    return engine


def no_campaign(start: Start, double: CleverTapDouble) -> RunningEngine:
    engine = start(to=double, cohorts=ON_WHATSAPP)
    engine.event(USER)
    return engine


def mode_changed(start: Start, double: CleverTapDouble) -> RunningEngine:
    start().scheduled(USER)
    return start(to=double)


def failing(engine: RunningEngine) -> None:
    later = Instant(engine.clock.now() + HOUR)
    engine.embedded.run(lambda tx: tx.set_failures_in_a_row(PUSH, 20, later))
    engine.event(USER)


def erased(engine: RunningEngine) -> None:
    engine.client.delete(f"/api/users/{USER}").raise_for_status()
    engine.event(USER)


def different_reasons(engine: RunningEngine) -> None:
    engine.post(f"/api/users/{USER}/opt-out", {"channel": "whatsapp"}).raise_for_status()
    engine.event(USER)


def opted_out(engine: RunningEngine) -> None:
    engine.post(f"/api/users/{USER}/opt-out").raise_for_status()
    engine.event(USER)


def capped(engine: RunningEngine) -> None:
    engine.sent(USER)
    engine.event(USER, "failed")


def spent(engine: RunningEngine) -> None:
    engine.sent(USER)
    engine.event(OTHER)


def paused(engine: RunningEngine) -> None:
    engine.post("/api/pause").raise_for_status()
    engine.event(USER)


def removed(engine: RunningEngine) -> None:
    engine.scheduled(USER)
    engine.post("/api/pause", {"cohort": COHORT, "level": "angle=helpful"}).raise_for_status()


def by_hand(engine: RunningEngine) -> None:
    engine.scheduled(USER)
    path = f"/api/cohorts/{COHORT}/cancel"
    engine.post(path, {"combo_key": COMBO}).raise_for_status()


def outside(engine: RunningEngine) -> None:
    experiment_id = engine.sent(USER)
    engine.clock.advance("4d")
    engine.converted(experiment_id=experiment_id)


def converted(engine: RunningEngine) -> None:
    engine.scheduled(USER)
    engine.event(USER, GOAL)


def late(engine: RunningEngine, by: int) -> None:
    engine.event(USER, at=iso(Instant(engine.clock.now() - by)))


def not_connected(start: Start, double: CleverTapDouble) -> RunningEngine:
    channels = {"whatsapp": {"provider": "webhook"}}
    engine = start(to=double, cohorts=ON_WHATSAPP, channels=channels)
    engine.event(USER)
    return engine


def not_reached(engine: RunningEngine) -> None:
    made = ExperimentId(engine.sent(USER))
    engine.engine.traffic.take([Reported(made, "failed", False, None, "1", b"{}", Source.META)])


SCENARIOS: Mapping[Reason, Scenario] = {
    Reason.NO_COHORT: simply(lambda e: e.event(USER, "unheard of")),
    Reason.NO_USER: simply(lambda e: e.event(None)),
    Reason.COUNT_NOT_REACHED: simply(
        lambda e: e.event(USER), cohorts={COHORT: cohort(trigger={"count": 2, "within": "7d"})}
    ),
    Reason.TOO_OLD: simply(lambda e: late(e, 7 * HOUR)),
    Reason.ALREADY_ACTIVE: simply(twice),
    Reason.COOLDOWN: simply(lambda e: twice(e, "3min")),
    Reason.CONVERTED: simply(converted),
    Reason.ERASED: simply(erased),
    Reason.PAUSED: simply(paused),
    Reason.TEST_PING: simply(
        lambda e: e.post("/webhook/opened", {"is_test": True, "profiles": [{"identity": "x"}]})
    ),
    Reason.NO_ELIGIBLE_COMBO: simply(
        different_reasons, cohorts=BOTH, channels={"push": {"consent": "required"}}
    ),
    Reason.OPTED_OUT: simply(opted_out),
    Reason.NO_CONSENT: simply(lambda e: e.event(USER), channels={"push": {"consent": "required"}}),
    Reason.CHANNEL_FAILING: simply(failing),
    Reason.NO_CAMPAIGN: no_campaign,
    Reason.NOT_CONNECTED: not_connected,
    Reason.NO_ADDRESS: simply(
        lambda e: e.event(USER),
        cohorts=ON_WHATSAPP,
        channels={"whatsapp": {"provider": "webhook", "address": "user_properties.phone"}},
    ),
    Reason.NOT_REACHED: simply(not_reached),
    Reason.MISSING_VALUE: missing_value,
    Reason.OVERDUE: simply(lambda e: late(e, HOUR)),
    Reason.QUIET_HOURS: simply(
        postponed,
        quiet_hours={"start": "10:03", "end": "11:00"},
    ),
    Reason.FREQUENCY_CAP: simply(
        capped, cohorts=SECOND_COHORT, frequency_cap={"messages": 1, "per": "7d"}
    ),
    Reason.OFFER_BUDGET: simply(
        spent, cohorts={COHORT: cohort(offer=["gift"])}, offers={"gift": {"total": 1}}
    ),
    Reason.FACT_MISSING: fact_missing,
    Reason.FACT_EXPIRED: fact_expired,
    Reason.MISMATCH: simply(lambda e: e.opened(user_id=OTHER, experiment_id=e.scheduled(USER))),
    Reason.UNKNOWN_EXPERIMENT: simply(lambda e: e.opened(experiment_id="nobody's")),
    Reason.NOT_SENT: simply(lambda e: e.opened(experiment_id=e.scheduled(USER))),
    Reason.OUTSIDE_WINDOW: simply(outside),
    Reason.COMBO_REMOVED: simply(removed),
    Reason.BY_HAND: simply(by_hand),
    Reason.MODE_CHANGED: mode_changed,
    Reason.EXPIRED: simply(expired),
    Reason.STOPPED: stopped,
}


def test_every_reason_has_its_scenario() -> None:
    """Whoever adds a reason says how it comes about."""
    assert set(SCENARIOS) == set(Reason)


def counted_in_api(engine: RunningEngine) -> set[str]:
    told = engine.get("/api/outcomes")
    return {one["reason"] for one in (*told["outcomes"], *told["answers"], *told["replaced"])}


def counted_in_metrics(engine: RunningEngine) -> set[str]:
    text = engine.client.get("/metrics").raise_for_status().text
    found = re.findall(
        r'^experiment_engine_\w+_total\{.*reason="(\w+)".*\} (\S+)$', text, re.MULTILINE
    )
    return {reason for reason, number in found if float(number) > 0}


@pytest.mark.parametrize("reason", SCENARIOS)
def test_a_reason_is_counted(start: Start, double: CleverTapDouble, reason: Reason) -> None:
    """What was not done for this reason is counted under it, in both places."""
    engine = SCENARIOS[reason](start, double)
    assert reason in counted_in_api(engine)
    assert reason in counted_in_metrics(engine)


def test_what_was_replaced_is_counted(start: Start) -> None:
    """What went out without its offer is counted with the reason, beside what was sent."""
    two_offers = {COHORT: cohort(offer=["none", "gift"], policy={"name": "uniform"})}
    engine = start(cohorts=two_offers, offers={"gift": {"total": 1}})
    for number in range(12):
        engine.scheduled(f"user {number}")
    engine.deliver(after="2min")

    told = engine.get("/api/outcomes")
    (replaced,) = told["replaced"]
    assert replaced["reason"] == "offer_budget"
    assert replaced["experiments"] >= 1
    assert told["outcomes"] == [{"state": "sent", "reason": None, "experiments": 12}]
    users = [engine.client.get("/users", params={"id": f"user {n}"}).text for n in range(12)]
    assert sum("It teaches nothing." in page for page in users) == replaced["experiments"]
    assert "1 in all" in engine.client.get("/guardrails").text
    line = f'experiment_engine_replaced_total{{reason="offer_budget"}} {replaced["experiments"]}.0'
    assert line in engine.client.get("/metrics").text


def test_answers_are_counted_once_each(start: Start) -> None:
    """An event about two cohorts counts for each; the sums survive a restart."""
    two = {name: cohort(trigger={"event": LEFT}) for name in ("one", "two")}
    engine = start(cohorts=two)
    for _ in range(2):
        engine.event(USER)
    engine = start(cohorts=two)
    assert engine.get("/api/outcomes")["answers"] == [
        {"status": "ignored", "reason": "already_active", "answers": 2},
        {"status": "scheduled", "reason": None, "answers": 2},
    ]
    narrowed = engine.get("/api/outcomes", cohort="one")["answers"]
    assert [one["answers"] for one in narrowed] == [1, 1]
