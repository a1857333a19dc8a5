"""`POST /webhook/amplitude`: what is answered for each event (CONTRACT 5)."""

import base64
import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from tests.support.configuration import COHORT, GOAL, cohort, write_configuration
from tests.support.engine import RunningEngine, running_engine
from tests.support.events import amplitude_event, somebody

PATH = "/webhook/amplitude"
PAYWALL = "paywall_viewed"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    """Return one engine for the module; every test has users of its own."""
    folder = tmp_path_factory.mktemp("amplitude")
    counting = cohort(
        trigger={"event": PAYWALL, "count": 3, "within": "7d"}, goal={"event": "subscribed"}
    )
    config = write_configuration(
        folder / "configuration", cohorts={COHORT: cohort(), "paywall_bouncers": counting}
    )
    with running_engine(folder, config=config) as running:
        yield running


def an_event(engine: RunningEngine, **members: Any) -> dict[str, Any]:
    return amplitude_event(somebody(), engine.clock.iso(), **members)


def quarantined(engine: RunningEngine) -> list[bytes]:
    entries = engine.get("/api/quarantine", limit="1000")["quarantine"]
    return [base64.b64decode(entry["base64"]) for entry in entries]


def test_scheduled_names_experiment_and_time(engine: RunningEngine) -> None:
    """A trigger is answered with its experiment's id and the time of its message."""
    (result,) = engine.events(an_event(engine))

    assert result["status"] == "scheduled"
    assert result["scheduled_for"] == engine.clock.later("2min")
    assert engine.experiment(result["experiment_id"])["status"] == "scheduled"


@pytest.mark.parametrize("wrap", [lambda e: e, lambda e: [e], lambda e: {"events": [e]}])
def test_object_array_and_wrapper(engine: RunningEngine, wrap: Any) -> None:
    """An event may come alone, in an array or under `events`."""
    (result,) = engine.results(PATH, wrap(an_event(engine)))
    assert result["status"] == "scheduled"


def test_put_is_taken_too(engine: RunningEngine) -> None:
    """Amplitude does not say which method it uses, so PUT does what POST does."""
    answer = engine.client.put(PATH, json=an_event(engine))
    assert answer.status_code == 200
    assert answer.json()["results"][0]["status"] == "scheduled"


def test_results_come_in_the_order_of_arrival(engine: RunningEngine) -> None:
    """Every event has one result in its place, and a bad one does not reject its batch."""
    batch = [
        an_event(engine),
        42,
        {"user_id": "no event type"},
        an_event(engine, name="page_viewed"),
        amplitude_event(None, engine.clock.iso()),
        an_event(engine),
    ]
    results = engine.results(PATH, batch)
    assert [(r["status"], r.get("reason")) for r in results[3:5]] == [
        ("ignored", "no_cohort"),
        ("ignored", "no_user"),
    ]
    assert [r["status"] for r in results] == [
        "scheduled",
        "quarantined",
        "quarantined",
        "ignored",
        "ignored",
        "scheduled",
    ]


def test_an_empty_batch_has_no_results(engine: RunningEngine) -> None:
    """An empty array is answered with an empty list."""
    assert engine.results(PATH, []) == []


def test_the_same_event_twice_is_a_duplicate(engine: RunningEngine) -> None:
    """An event delivered again, in the same batch or later, has the effect of one."""
    event = an_event(engine)
    first, second = engine.events(event, event)
    (third,) = engine.events(event)

    assert [first["status"], second["status"], third["status"]] == [
        "scheduled",
        "duplicate",
        "duplicate",
    ]
    timeline = engine.get(f"/api/users/{event['user_id']}")["timeline"]
    assert len([entry for entry in timeline if entry["type"] == "experiment"]) == 1


@pytest.mark.parametrize("form", ["amplitude", "iso", "zoned", "milliseconds"])
def test_forms_of_time(engine: RunningEngine, form: str) -> None:
    """Every time that Amplitude documents is read: its own form, ISO 8601 and milliseconds."""
    moment = datetime.fromisoformat(engine.clock.iso(before="1min"))
    forms = {
        "amplitude": f"{moment:%Y-%m-%d %H:%M:%S}.000",
        "iso": f"{moment:%Y-%m-%dT%H:%M:%S}Z",
        "zoned": moment.isoformat(),
        "milliseconds": round(moment.timestamp() * 1000),
    }
    (result,) = engine.events(an_event(engine) | {"event_time": forms[form]})
    assert result["scheduled_for"] == engine.clock.later("1min")


def test_counting(engine: RunningEngine) -> None:
    """Distinct events count towards the number the cohort wants; a repeated one does not."""
    user = somebody()
    first = amplitude_event(user, engine.clock.iso(), PAYWALL)
    answers = [engine.events(event)[0] for event in (first, first)]
    answers += [engine.event(user, PAYWALL), engine.event(user, PAYWALL)]

    assert [answer["status"] for answer in answers] == [
        "ignored",
        "duplicate",
        "ignored",
        "scheduled",
    ]
    assert answers[0]["reason"] == answers[2]["reason"] == "count_not_reached"


def test_counting_looks_at_its_window(engine: RunningEngine) -> None:
    """Events further apart than the cohort's window do not count together."""
    user = somebody()
    for before in ("8d", "1d", "0s"):
        result = engine.event(user, PAYWALL, at=engine.clock.iso(before=before))
    assert result["reason"] == "count_not_reached"


def test_too_old(engine: RunningEngine) -> None:
    """An event older than `max_age` on arrival starts nothing."""
    result = engine.event(somebody(), at=engine.clock.iso(before="361min"))
    assert (result["status"], result["reason"]) == ("ignored", "too_old")


def test_already_active(engine: RunningEngine) -> None:
    """While one of the cohort waits to be sent, a further trigger starts nothing."""
    user = somebody()
    engine.scheduled(user)
    result = engine.event(user)
    assert (result["status"], result["reason"]) == ("ignored", "already_active")


def test_a_goal_event_counts_as_conversion(engine: RunningEngine) -> None:
    """The cohort's goal is also accepted from Amplitude."""
    user = somebody()
    experiment_id = engine.scheduled(user)
    engine.deliver(after="2min")
    result = engine.event(user, GOAL)
    assert (result["status"], result["experiment_id"]) == ("recorded", experiment_id)


def test_quarantine_keeps_the_bytes(engine: RunningEngine) -> None:
    """What is not understood is kept byte for byte and listed."""
    odd = b'{"user_id" :  "u", "event_type": ["a","list"], "n": 1e999}'
    answer = engine.post(PATH, b"[" + json.dumps(an_event(engine)).encode() + b", " + odd + b" ]")
    assert [r["status"] for r in answer.json()["results"]] == ["scheduled", "quarantined"]
    assert odd in quarantined(engine)


@pytest.mark.parametrize("body", [b"not json", b"", b'{"event_type": "x"', b"\xff\xfe", b'"text"'])
def test_not_json(engine: RunningEngine, body: bytes) -> None:
    """A body that is not JSON at all is answered 400, and kept."""
    answer = engine.post(PATH, body)
    assert answer.status_code == 400
    assert set(answer.json()) == {"error"}
    assert set(answer.json()["error"]) == {"code", "message"}
    assert body in quarantined(engine)


def test_deep_nesting_is_quarantined(engine: RunningEngine) -> None:
    """An event nested deeper than 32 levels is kept aside; its neighbours are not."""
    deep: Any = "bottom"
    for _ in range(40):
        deep = [deep]
    results = engine.events(an_event(engine, event_properties={"a": deep}), an_event(engine))
    assert [result["status"] for result in results] == ["quarantined", "scheduled"]


def test_a_full_batch(engine: RunningEngine) -> None:
    """2,000 events are one batch; one more is too large, and nothing of it is taken."""
    events = [an_event(engine, name="page_viewed") for _ in range(2_000)]
    assert len(engine.results(PATH, [{"event_type": "x"}] * 2_000)) == 2_000

    answer = engine.post(PATH, [*events, an_event(engine)])
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "too_large"
    assert engine.get(f"/api/users/{events[0]['user_id']}")["timeline"] == []
