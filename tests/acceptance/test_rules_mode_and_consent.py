"""R11 and R12: dry run and live are apart; nobody is written to who does not want it."""

import pytest
from tests.support.clevertap_double import CleverTapDouble
from tests.support.configuration import COHORT, cohort
from tests.support.events import somebody
from tests.support.start import Start

OTHER = "payment_failed"
BOTH_COHORTS = {COHORT: cohort(), OTHER: cohort(trigger={"event": OTHER})}
BOTH_CHANNELS = {COHORT: cohort(channel=["push", "whatsapp"])}
REQUIRED = {"push": {"consent": "required"}}
USER = "usr_1"


def test_r11_dry_runs_schedule_is_never_sent_live(start: Start, double: CleverTapDouble) -> None:
    """What was scheduled in dry run is cancelled once sending is live."""
    experiment_id = start().scheduled(USER)
    engine = start(to=double)
    engine.deliver(after="2min")
    assert engine.state(experiment_id) == ("cancelled", "mode_changed")
    assert double.calls() == []
    assert engine.event(somebody())["status"] == "scheduled"


def test_r11_every_experiment_carries_its_mode(start: Start, double: CleverTapDouble) -> None:
    """Both modes stand in one database, each with its name."""
    dry = start().scheduled(USER)
    engine = start(to=double)
    assert engine.experiment(dry)["mode"] == "dry_run"
    assert engine.experiment(engine.scheduled("usr_2"))["mode"] == "live"


def test_r11_statistics_read_the_current_mode(start: Start, double: CleverTapDouble) -> None:
    """Dry run's counts are not live's, and are still there in dry run."""
    engine = start()
    engine.sent(USER)
    engine = start(to=double)
    assert engine.get("/api/stats")["summary"]["total_experiments"] == 0
    engine.sent("usr_2")
    assert engine.get("/api/stats")["top_combinations"][0]["sent_count"] == 1
    engine = start()
    engine.sent("usr_3")
    assert engine.get("/api/stats")["top_combinations"][0]["sent_count"] == 2


def test_r11_caps_read_the_current_mode(start: Start, double: CleverTapDouble) -> None:
    """A message that dry run only logged does not use up the user's cap."""
    cap = {"messages": 1, "per": "7d"}
    start(cohorts=BOTH_COHORTS, frequency_cap=cap).sent(USER)
    engine = start(to=double, cohorts=BOTH_COHORTS, frequency_cap=cap)
    engine.sent(USER, name=OTHER)


def test_r11_a_conversion_finds_the_current_mode_only(
    start: Start, double: CleverTapDouble
) -> None:
    """A live conversion gives no credit to dry run's experiments."""
    dry = start().sent(USER)
    engine = start(to=double)
    assert engine.converted(user_id=USER)["status"] == "ignored"
    assert engine.experiment(dry)["feedback"]["converted_at"] is None


# R12


def test_r12_required_without_consent(start: Start) -> None:
    """A channel that requires consent is not eligible without a recorded one."""
    engine = start(channels=REQUIRED, cohorts=BOTH_CHANNELS)
    shown = engine.experiment(engine.scheduled(USER))
    assert set(shown["decision"]["eligible"]) == {"2min|whatsapp|helpful|none"}


def test_r12_required_with_consent(start: Start) -> None:
    """A recorded consent makes the channel eligible."""
    engine = start(channels=REQUIRED)
    assert engine.event(USER)["status"] == "ignored"
    engine.client.delete(f"/api/users/{USER}/opt-out")
    assert engine.event(USER)["status"] == "scheduled"


def test_r12_assumed(start: Start) -> None:
    """Where consent is assumed, nothing has to be recorded."""
    assert start(channels={"push": {"consent": "assumed"}}).event(USER)["status"] == "scheduled"


def test_r12_consent_withdrawn_before_the_send(start: Start, double: CleverTapDouble) -> None:
    """An opt-out wins also over a message that was decided already."""
    engine = start(to=double, channels=REQUIRED)
    engine.client.delete(f"/api/users/{USER}/opt-out")
    experiment_id = engine.scheduled(USER)
    engine.clock.advance("1min")
    engine.post(f"/api/users/{USER}/opt-out")
    engine.deliver(after="1min")
    assert engine.state(experiment_id) == ("cancelled", "opted_out")
    assert double.calls() == []


@pytest.mark.parametrize("way", ["webhook", "api", "event"])
def test_r12_every_way_of_opting_out(start: Start, way: str) -> None:
    """Webhook, API and an event listed in `[opt_out] events` all count."""
    engine = start(opt_out={"events": ["notifications_turned_off"]})
    experiment_id = engine.scheduled(USER)
    if way == "webhook":
        engine.results("/webhook/opted-out", {"user_id": USER})
    elif way == "api":
        engine.post(f"/api/users/{USER}/opt-out")
    else:
        engine.event(USER, "notifications_turned_off")
    engine.deliver(after="2min")
    assert engine.state(experiment_id) == ("cancelled", "opted_out")
    (choice,) = engine.get(f"/api/users/{USER}")["choices"]
    assert choice["allowed"] is False
    assert choice["source"] == {"webhook": "clevertap", "api": "api", "event": "amplitude"}[way]


@pytest.mark.parametrize(
    ("opted_in_ago", "expected"), [("2h", "ignored"), ("1h", "ignored"), ("59min", "scheduled")]
)
@pytest.mark.parametrize("first", ["in", "out"])
def test_r12_only_a_newer_opt_in_lifts_it(
    start: Start, opted_in_ago: str, expected: str, first: str
) -> None:
    """The opt-out stands until an explicit opt-in newer than it, in any order of arrival."""
    engine = start(opt_out={"events": ["said_no"]}, opt_in={"events": ["said_yes"]})
    said = {"out": ("said_no", "1h"), "in": ("said_yes", opted_in_ago)}
    for which in (first, "out" if first == "in" else "in"):
        name, ago = said[which]
        engine.event(USER, name, at=engine.clock.iso(before=ago))
    assert engine.event(USER)["status"] == expected


def test_r12_an_opt_in_is_kept_with_its_source(start: Start) -> None:
    """Who said yes, when and where from is shown."""
    engine = start()
    engine.client.delete(f"/api/users/{USER}/opt-out")
    (choice,) = engine.get(f"/api/users/{USER}")["choices"]
    assert (choice["allowed"], choice["source"]) == (True, "api")
    assert choice["at"] == engine.clock.iso()
