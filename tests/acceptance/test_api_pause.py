"""`/api/pause` and `/api/resume`: the kill switch (CONTRACT 5)."""

from tests.support.clevertap_double import CleverTapDouble
from tests.support.configuration import COHORT, TRIGGER, cohort
from tests.support.engine import RunningEngine
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


TWO = {COHORT: cohort(channel=["push", "whatsapp"], angle=["helpful", "urgency"])}


def test_a_paused_channel_is_not_drawn_and_its_messages_wait(start: Start) -> None:
    """What waits keeps waiting, and goes out when the channel goes on; others go on as before."""
    engine = start(cohorts=TWO)
    waiting = {engine.scheduled(f"usr_{n}"): n for n in range(12)}
    of_push = [i for i in waiting if "|push|" in engine.experiment(i)["combo_key"]]
    assert 0 < len(of_push) < len(waiting)
    assert engine.post("/api/pause", {"channel": "push"}).json()["paused"].keys() == {
        "channel:push"
    }
    engine.deliver(after="2min")
    assert {engine.state(i)[0] for i in of_push} == {"scheduled"}
    assert {engine.state(i)[0] for i in waiting if i not in of_push} == {"sent"}
    decision = engine.experiment(engine.scheduled(somebody()))["decision"]
    assert all("|whatsapp|" in key for key in decision["eligible"])
    assert all("|push|" in key for key in decision["not_eligible"]["paused"])

    engine.post("/api/resume", {"channel": "push"})
    engine.deliver(after="1min")
    assert {engine.state(i)[0] for i in of_push} == {"sent"}


def test_what_waits_for_a_paused_channel_expires_as_usual(start: Start) -> None:
    engine = start()
    waiting = engine.scheduled(somebody())
    engine.post("/api/pause", {"channel": "push"})
    assert engine.event(somebody())["reason"] == "paused"
    engine.deliver(after="33min")
    assert engine.state(waiting) == ("expired", "expired")


def test_what_waits_for_a_paused_combo_or_level_is_cancelled(start: Start) -> None:
    """R15: taken out, as if the configuration had it no more; the others stay."""
    engine = start(cohorts=TWO)
    made = {i: engine.experiment(i)["combo_key"] for i in _many(engine, 16)}
    combo = "2min|push|helpful|none"
    engine.post("/api/pause", {"cohort": COHORT, "combo_key": combo})
    engine.post("/api/pause", {"cohort": COHORT, "level": "channel=whatsapp"})
    gone = [i for i, key in made.items() if key == combo or "|whatsapp|" in key]
    assert gone
    assert {engine.state(i) for i in gone} == {("cancelled", "combo_removed")}
    assert {engine.state(i)[0] for i in made if i not in gone} == {"scheduled"}
    engine.clock.advance("2d")
    decision = engine.experiment(engine.scheduled(somebody()))["decision"]
    assert list(decision["eligible"]) == ["2min|push|urgency|none"]


def test_only_what_is_there_can_be_paused(start: Start) -> None:
    engine = start(cohorts=TWO)
    for body, status in (
        ({"channel": "pigeon"}, 404),
        ({"cohort": COHORT, "combo_key": "2min|push|nothing|none"}, 404),
        ({"cohort": COHORT, "level": "angle=nothing"}, 404),
        ({"cohort": "nobody", "level": "angle=helpful"}, 404),
        ({"combo_key": "2min|push|helpful|none"}, 422),
        ({"level": "angle=helpful"}, 422),
        ({"cohort": COHORT, "channel": "push"}, 422),
    ):
        assert engine.post("/api/pause", body).status_code == status, body
    assert engine.get("/ready")["paused"] == []


def _many(engine: RunningEngine, number: int) -> list[str]:
    return [engine.scheduled(somebody()) for _ in range(number)]
