"""`/api/pause` and `/api/resume`: the kill switch (CONTRACT 5)."""

from tests.support.clevertap_double import CleverTapDouble
from tests.support.configuration import COHORT, TRIGGER, cohort
from tests.support.events import somebody
from tests.support.server import eventually
from tests.support.start import Start

BOTH = {COHORT: cohort(), "payment_failed": cohort(trigger={"event": "payment_failed"})}


def test_nothing_is_claimed_after_the_answer(start: Start, double: CleverTapDouble) -> None:
    """While all is paused what is due stays where it is, and goes out when work goes on."""
    engine = start(to=double)
    waiting = engine.scheduled(somebody())
    assert engine.post("/api/pause").status_code == 200
    engine.deliver(after="3min")
    assert double.calls() == []
    assert engine.state(waiting) == ("scheduled", None)

    assert engine.post("/api/resume").status_code == 200
    engine.deliver()
    assert engine.state(waiting) == ("sent", None)


def test_a_running_worker_stops_claiming(start: Start, double: CleverTapDouble) -> None:
    """With the worker at its work, no call begins after the answer to a pause."""
    engine = start(to=double, worker_runs=True)
    for _ in range(20):
        engine.scheduled(somebody())
    first_due = engine.scheduled(somebody(), at=engine.clock.iso(before="2min"))
    eventually(lambda: engine.state(first_due)[0] == "sent")

    engine.post("/api/pause")
    before = len(double.calls())
    engine.clock.advance("3min")
    assert engine.event(somebody())["reason"] == "paused"
    engine.post("/api/resume", {"cohort": COHORT})  # not what was paused: nothing changes
    assert len(double.calls()) == before
    engine.post("/api/resume")
    eventually(lambda: len(double.calls()) == before + 20)


def test_new_triggers_are_ignored(start: Start) -> None:
    """While paused an event and a manual trigger are ignored with the reason."""
    engine = start()
    engine.post("/api/pause", {})
    assert engine.event(somebody())["reason"] == "paused"
    answer = engine.trigger(somebody())
    assert (answer.status_code, answer.json()["reason"]) == (200, "paused")


def test_one_cohort(start: Start) -> None:
    """Pausing one cohort leaves the others at work."""
    engine = start(cohorts=BOTH)
    paused, other = engine.scheduled("usr_1"), engine.scheduled("usr_2", name="payment_failed")
    assert engine.post("/api/pause", {"cohort": COHORT}).status_code == 200
    engine.deliver(after="2min")

    assert engine.state(paused)[0] == "scheduled"
    assert engine.state(other)[0] == "sent"
    assert engine.event(somebody(), TRIGGER)["reason"] == "paused"
    assert engine.event(somebody(), "payment_failed")["status"] == "scheduled"
    engine.post("/api/resume", {"cohort": COHORT})
    engine.deliver()
    assert engine.state(paused)[0] == "sent"


def test_an_unknown_cohort(start: Start) -> None:
    """404 names the cohorts that are there, and nothing is paused."""
    engine = start()
    for path in ("/api/pause", "/api/resume"):
        answer = engine.post(path, {"cohort": "nobody"})
        assert answer.status_code == 404
        assert COHORT in answer.json()["error"]["message"]
    assert engine.event(somebody())["status"] == "scheduled"


def test_a_mistyped_body_pauses_nothing_by_accident(start: Start) -> None:
    """A body that is not understood is 422: it must not silently pause everything."""
    engine = start()
    for body in ({"cohort": 5}, [COHORT], {"cohorts": [COHORT]}):
        assert engine.post("/api/pause", body).status_code == 422, body
    assert engine.event(somebody())["status"] == "scheduled"


def test_a_pause_outlives_a_restart(start: Start) -> None:
    """What was paused is still paused when the engine comes back."""
    start().post("/api/pause")
    assert start().event(somebody())["reason"] == "paused"
