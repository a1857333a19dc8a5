"""R7: when a message goes out, and when no more."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from tests.support.clevertap_double import CleverTapDouble
from tests.support.configuration import COHORT, cohort
from tests.support.engine import RunningEngine
from tests.support.start import Start

USER = "usr_1"
EVENING = datetime(2026, 11, 22, 22, 30, tzinfo=UTC)
LATE = datetime(2026, 11, 22, 22, 59, tzinfo=UTC)
NIGHT = {"start": "23:00", "end": "08:00"}


def test_r7_the_delay_counts_from_the_events_time(start: Start) -> None:
    """An event that took a minute to reach us has its message a minute sooner."""
    engine = start()
    result = engine.event(USER, at=engine.clock.iso(before="1min"))
    assert result["scheduled_for"] == engine.clock.later("1min")


def test_r7_an_event_from_the_future_counts_from_receipt(start: Start) -> None:
    """A sender's clock that runs ahead moves nothing into the future."""
    engine = start()
    result = engine.event(USER, at=engine.clock.later("3h"))
    assert result["scheduled_for"] == engine.clock.later("2min")


@pytest.mark.parametrize("ago", ["150s", "180s"])
def test_r7_a_little_late_goes_out_at_once(start: Start, ago: str) -> None:
    """A combo whose time passed by at most a minute is still what it says."""
    engine = start()
    experiment_id = engine.scheduled(USER, at=engine.clock.iso(before=ago))
    engine.deliver()
    assert engine.state(experiment_id) == ("sent", None)


def test_r7_overdue_combos_are_not_eligible(start: Start) -> None:
    """A combo already more than a minute overdue is not drawn."""
    engine = start(cohorts={COHORT: cohort(delay=["2min", "1h"])})
    assert set(engine.chances()) == {"2min|push|helpful|none", "1h|push|helpful|none"}
    late = engine.scheduled(USER, at=engine.clock.iso(before="181s"))
    assert engine.experiment(late)["decision"]["eligible"] == {"1h|push|helpful|none": 1.0}


def test_r7_with_all_overdue_nothing_starts(start: Start) -> None:
    """When every combo's time has passed the event is ignored."""
    engine = start()
    assert engine.event(USER, at=engine.clock.iso(before="1h"))["status"] == "ignored"


@pytest.mark.parametrize(("late", "state"), [("29min", "sent"), ("31min", "expired")])
def test_r7_expiry(start: Start, double: CleverTapDouble, late: str, state: str) -> None:
    """Due and not sent within `expires_after`, a message is dropped."""
    engine = start(to=double)
    experiment_id = engine.scheduled(USER)
    engine.clock.advance("2min")
    engine.deliver(after=late)
    assert engine.state(experiment_id)[0] == state
    assert len(double.ledger()) == (state == "sent")


def test_r7_what_waits_expires_while_paused(start: Start) -> None:
    """A pause holds messages back; it does not make them keep longer."""
    engine = start()
    experiment_id = engine.scheduled(USER)
    engine.post("/api/pause")
    engine.deliver(after="10min")
    assert engine.state(experiment_id)[0] == "scheduled"
    engine.deliver(after="23min")
    assert engine.state(experiment_id)[0] == "expired"


def opt_out(engine: RunningEngine) -> None:
    engine.post(f"/api/users/{USER}/opt-out")


def convert(engine: RunningEngine) -> None:
    engine.converted(user_id=USER)


def pause(engine: RunningEngine) -> None:
    engine.post("/api/pause")


def forget(engine: RunningEngine) -> None:
    engine.client.delete(f"/api/users/{USER}")


def nightfall(engine: RunningEngine) -> None:
    engine.clock.set(LATE)
    engine.clock.advance("2min")


@pytest.mark.parametrize("happen", [opt_out, convert, pause, forget, nightfall])
def test_r7_a_retry_passes_the_whole_claim_again(
    start: Start, double: CleverTapDouble, happen: Callable[[RunningEngine], None]
) -> None:
    """What forbids a message before its second try stops the second try."""
    start.clock.set(LATE if happen is nightfall else EVENING)
    double.configure(script=["429"])
    engine = start(to=double, quiet_hours=NIGHT)
    experiment_id = engine.scheduled(USER, at=engine.clock.iso(before="2min"))
    engine.deliver()
    assert engine.state(experiment_id)[0] == "scheduled"
    happen(engine)
    engine.deliver(after="1min")
    assert engine.state(experiment_id)[0] in ("cancelled", "scheduled")
    assert double.ledger() == []


def test_r7_a_retry_does_not_outlive_expiry(start: Start, double: CleverTapDouble) -> None:
    """A message that is refused for now again and again ends as expired."""
    double.behaviour = "429"
    engine = start(to=double)
    experiment_id = engine.scheduled(USER)
    engine.deliver(after="2min")
    for _ in range(10):
        engine.deliver(after="5min")
    assert engine.state(experiment_id)[0] == "expired"
