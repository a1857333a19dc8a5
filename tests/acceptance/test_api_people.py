"""`/api/experiments` and `/api/users`: what is shown, and what a user may ask for (CONTRACT 5)."""

import sqlite3
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import closing
from itertools import accumulate
from pathlib import Path

import pytest
from tests.support.clevertap_double import CleverTapDouble
from tests.support.configuration import BODY, COHORT, TITLE, cohort
from tests.support.engine import RunningEngine
from tests.support.events import somebody
from tests.support.start import Start

from experiment_engine.domain.bandit.decision import PICK, stream

FOUR = {COHORT: cohort(angle=["helpful", "urgency"], offer=["none", "gift"])}


def test_an_experiment_explains_itself(start: Start, double: CleverTapDouble) -> None:
    """Eligible combos, probabilities, policy state, seed, text, attempts, feedback and credit."""
    double.configure(script=["429"])
    engine = start(to=double, cohorts=FOUR)
    experiment_id = engine.scheduled("usr_1")
    engine.deliver(after="2min")
    engine.deliver(after="1min")
    engine.opened(experiment_id=experiment_id)
    engine.converted(experiment_id=experiment_id)

    shown = engine.experiment(experiment_id)
    decision = shown["decision"]
    assert set(decision["eligible"]) == {
        f"2min|push|{angle}|{offer}"
        for angle in ("helpful", "urgency")
        for offer in ("none", "gift")
    }
    assert sum(decision["eligible"].values()) == pytest.approx(1)
    assert shown["propensity"] == decision["eligible"][shown["combo_key"]]
    assert decision["policy"] == "epsilon_greedy"
    assert decision["policy_state"]
    assert int(shown["seed"]) >= 0
    assert shown["message"] == {"title": TITLE, "body": BODY, "language": "en"}
    assert [(a["number"], a["outcome"], a["status"]) for a in shown["attempts"]] == [
        (1, "not_taken", 429),
        (2, "accepted", 200),
    ]
    assert shown["feedback"]["opened_at"] == shown["feedback"]["converted_at"] is not None
    assert shown["credit"]


def test_a_decision_can_be_drawn_again(start: Start) -> None:
    """The seed and the stored probabilities give the same combo, bit for bit."""
    engine = start(cohorts=FOUR)
    for _ in range(20):
        shown = engine.experiment(engine.scheduled(somebody()))
        eligible = shown["decision"]["eligible"]
        order = [combo for combo in CONFIGURED if combo in eligible]
        bounds = list(accumulate(eligible[combo] for combo in order))
        point = stream(int(shown["seed"]), PICK) * bounds[-1]
        assert order[bisect_right(bounds, point)] == shown["combo_key"]


CONFIGURED = [
    f"2min|push|{angle}|{offer}" for angle in ("helpful", "urgency") for offer in ("none", "gift")
]


def test_what_was_not_eligible_is_explained(start: Start) -> None:
    """Combos that could not be drawn stand there with the reason."""
    engine = start(cohorts={COHORT: cohort(delay=["2min", "6h"])})
    result = engine.event(somebody(), at=engine.clock.iso(before="1h"))
    decision = engine.experiment(result["experiment_id"])["decision"]
    assert decision["eligible"] == {"6h|push|helpful|none": 1.0}
    assert decision["not_eligible"] == {"overdue": ["2min|push|helpful|none"]}


@pytest.mark.parametrize("unknown", ["0193a8a0-0000-7000-8000-000000000000", "x", "%00"])
def test_an_unknown_experiment(shared: RunningEngine, unknown: str) -> None:
    """404 in the one shape of errors."""
    answer = shared.client.get(f"/api/experiments/{unknown}")
    assert answer.status_code == 404
    assert set(answer.json()["error"]) == {"code", "message"}


def test_the_timeline(start: Start) -> None:
    """Newest first, with what was sent, what was not, and why."""
    engine = start()
    first = engine.scheduled("usr_1")
    engine.deliver(after="2min")
    engine.clock.advance("1h")
    engine.event("usr_1")
    engine.clock.advance("1h")
    engine.opened(experiment_id=first)
    engine.clock.advance("23h")
    second = engine.scheduled("usr_1")
    engine.clock.advance("1min")
    engine.post("/api/users/usr_1/opt-out")

    timeline = engine.get("/api/users/usr_1")["timeline"]
    times = [entry["at"] for entry in timeline]
    assert times == sorted(times, reverse=True)
    experiments = [entry for entry in timeline if entry["type"] == "experiment"]
    assert [(e["experiment_id"], e["status"], e["reason"]) for e in experiments] == [
        (second, "cancelled", "opted_out"),
        (first, "sent", None),
    ]
    assert ("ignored", "cooldown") in [(entry["status"], entry["reason"]) for entry in timeline]


def test_an_unknown_user_has_an_empty_timeline(shared: RunningEngine) -> None:
    """Nobody knows the user, so nothing is shown."""
    assert shared.get("/api/users/nobody")["timeline"] == []


def test_opt_out_and_in_again(start: Start) -> None:
    """After an opt-out nothing goes out, until the user agrees again."""
    engine = start()
    waiting = engine.scheduled("usr_1")
    assert engine.post("/api/users/usr_1/opt-out").status_code == 200
    engine.deliver(after="2min")
    engine.clock.advance("25h")
    refused = engine.event("usr_1")
    engine.clock.advance("1s")
    assert engine.client.delete("/api/users/usr_1/opt-out").status_code == 200

    assert engine.state(waiting) == ("cancelled", "opted_out")
    assert (refused["status"], refused["reason"]) == ("ignored", "opted_out")
    assert engine.event("usr_1")["status"] == "scheduled"


def test_opt_out_of_one_channel(start: Start) -> None:
    """With a channel named, only that one is given up."""
    engine = start(cohorts={COHORT: cohort(channel=["push", "whatsapp"])})
    answer = engine.post("/api/users/usr_1/opt-out", {"channel": "push"})
    assert answer.status_code == 200
    shown = engine.experiment(engine.scheduled("usr_1"))
    assert shown["decision"]["eligible"] == {"2min|whatsapp|helpful|none": 1.0}
    assert engine.post("/api/users/usr_1/opt-out", {"channel": "fax"}).status_code == 404


def test_erasing(start: Start) -> None:
    """Nothing personal stays, what waits is cancelled, and the anonymous counts remain."""
    engine = start(
        copy={"push": {"helpful": {"*": {"title": "{name}, come back", "body": "Now."}}}},
        placeholders={"name": {"from": "event_properties.name", "default": "you"}},
    )
    first = engine.scheduled("usr_secret", event_properties={"name": "Zenobia"})
    engine.deliver(after="2min")
    engine.opened(experiment_id=first)
    engine.converted(user_id="usr_secret", experiment_id=first)
    engine.trigger("usr_secret", attributes={"name": "Zenobia"})
    other = engine.scheduled("usr_waits", event_properties={"name": "Zenobia"})
    before = engine.get("/api/stats")

    for user in ("usr_secret", "usr_waits"):
        assert engine.client.delete(f"/api/users/{user}").status_code == 200
    engine.deliver(after="2min")

    assert engine.state(other) == ("cancelled", "erased")
    assert engine.get("/api/users/usr_secret")["timeline"] == []
    assert engine.get("/api/stats")["summary"] == before["summary"]
    kept = list(everything(start.folder / "engine.db"))
    assert not [text for text in kept if "usr_secret" in text or "usr_waits" in text]
    assert not [text for text in kept if "Zenobia" in text]


def test_an_erased_user_stays_erased(shared: RunningEngine) -> None:
    """Events of somebody who asked to be forgotten start nothing."""
    user = somebody()
    shared.client.delete(f"/api/users/{user}")
    assert shared.event(user)["status"] == "ignored"
    assert shared.trigger(user).json()["status"] == "ignored"


def everything(database: Path) -> Iterator[str]:
    """Return every value of every table, as text."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        for (table,) in tables.fetchall():
            for row in connection.execute(f'SELECT * FROM "{table}"'):
                for value in row:
                    yield (
                        value.decode(errors="replace") if isinstance(value, bytes) else f"{value}"
                    )
