"""R8: what quiet hours change, at the decision and at the claim."""

from datetime import UTC, datetime

from tests.support.clevertap_double import CleverTapDouble
from tests.support.configuration import COHORT, cohort
from tests.support.events import somebody
from tests.support.start import Start

USER = "usr_1"
EVENING = datetime(2026, 11, 22, 22, 30, tzinfo=UTC)
LATE = datetime(2026, 11, 22, 22, 59, tzinfo=UTC)
NIGHT = {"start": "23:00", "end": "08:00"}
FIRST, LAST = "2026-11-23T08:00:00Z", "2026-11-23T08:30:00Z"


def test_r8_a_combo_inside_quiet_hours_gives_way(start: Start) -> None:
    """While another combo is possible, one whose time is quiet is not eligible."""
    start.clock.set(EVENING)
    engine = start(quiet_hours=NIGHT, cohorts={COHORT: cohort(delay=["2min", "1h"])})
    for _ in range(5):
        shown = engine.experiment(engine.scheduled(somebody()))
        assert shown["combo_key"] == "2min|push|helpful|none"
        assert shown["propensity"] == 1.0
        assert shown["postponed"] is False


def test_r8_postponed(start: Start, double: CleverTapDouble) -> None:
    """With none left the shortest delay is kept in the key, and it goes out in the morning."""
    start.clock.set(LATE)
    cohorts = {COHORT: cohort(delay=["15min", "2min", "1h"], angle=["helpful", "urgency"])}
    engine = start(to=double, quiet_hours=NIGHT, cohorts=cohorts)
    experiment_id = engine.scheduled(USER)
    shown = engine.experiment(experiment_id)

    assert shown["postponed"] is True
    assert shown["combo_key"].startswith("2min|push|")
    assert set(shown["decision"]["eligible"]) == {
        "2min|push|helpful|none",
        "2min|push|urgency|none",
    }
    assert FIRST <= shown["scheduled_for"] <= LAST
    engine.deliver(after="9h")
    assert double.calls() == []
    engine.deliver(after="32min")
    assert engine.state(experiment_id)[0] == "sent"


def test_r8_postponed_messages_are_spread(start: Start) -> None:
    """Not everybody's phone rings at the first allowed minute."""
    start.clock.set(LATE)
    engine = start(quiet_hours=NIGHT)
    times = {engine.event(somebody())["scheduled_for"] for _ in range(20)}
    assert len(times) > 10
    assert min(times) >= FIRST
    assert max(times) <= LAST


def test_r8_postponed_counts_in_no_rate(start: Start) -> None:
    """It counts as an experiment, in no per-combo rate, and teaches no combo."""
    start.clock.set(LATE)
    engine = start(quiet_hours=NIGHT, cohorts={COHORT: cohort(angle=["helpful", "urgency"])})
    engine.sent(USER)
    engine.converted(user_id=USER)
    stats = engine.get("/api/stats")
    assert stats["summary"]["total_experiments"] == 1
    assert (stats["top_combinations"], stats["worst_combinations"]) == ([], [])
    assert set(engine.chances().values()) == {0.5}


def test_r8_the_users_own_zone(start: Start) -> None:
    """Quiet hours are those of the user's own clock, else of the configured zone."""
    start.clock.set(datetime(2026, 11, 22, 18, 0, tzinfo=UTC))
    engine = start(quiet_hours=NIGHT)
    for zone, quiet in (("Asia/Kolkata", True), ("Europe/Paris", False), ("Mars/Crater", False)):
        for folder in ("event_properties", "user_properties"):
            experiment_id = engine.scheduled(somebody(), **{folder: {"timezone": zone}})
            assert engine.experiment(experiment_id)["postponed"] is quiet, (zone, folder)


def test_r8_a_channels_own_quiet_hours(start: Start) -> None:
    """A channel may rest at hours of its own."""
    engine = start(
        channels={"push": {"quiet_hours": {"start": "09:00", "end": "12:00"}}},
        cohorts={COHORT: cohort(channel=["push", "whatsapp"])},
    )
    assert set(engine.chances()) == {"2min|whatsapp|helpful|none"}


def test_r8_quiet_at_the_claim(start: Start, double: CleverTapDouble) -> None:
    """What was late into the night waits for the morning, and keeps its time to expire."""
    start.clock.set(datetime(2026, 11, 22, 22, 50, tzinfo=UTC))
    engine = start(to=double, quiet_hours=NIGHT)
    experiment_id = engine.scheduled(USER)
    engine.deliver(after="15min")
    shown = engine.experiment(experiment_id)
    assert shown["status"] == "scheduled"
    assert FIRST <= shown["scheduled_for"] <= LAST
    engine.clock.set(datetime(2026, 11, 23, 8, 31, tzinfo=UTC))
    engine.deliver()
    assert engine.state(experiment_id)[0] == "sent"


def test_r8_postponed_expires_after_the_first_allowed_minute(start: Start) -> None:
    """Half an hour after its time in the morning it is too late."""
    start.clock.set(LATE)
    engine = start(quiet_hours=NIGHT)
    experiment_id = engine.scheduled(USER)
    engine.clock.set(datetime(2026, 11, 23, 9, 1, tzinfo=UTC))
    engine.deliver()
    assert engine.state(experiment_id)[0] == "expired"


def test_r8_postponed_is_told_on_the_page_of_guardrails(start: Start) -> None:
    """Whoever asks what quiet hours did sees what they moved already when it was decided."""
    start.clock.set(LATE)
    engine = start(quiet_hours=NIGHT)
    for _ in range(3):
        engine.scheduled(somebody())
    (found,) = (
        one for one in engine.get("/guardrails.json")["guardrails"] if one["name"] == "Quiet hours"
    )
    assert (found["stopped"], found["moved"]) == (3, True)
