"""The guides' bodies and templates do against doubles what the page says beside them."""

import json
import re
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.support.clevertap_double import (
    ACCOUNT_ID,
    EXTERNAL_TRIGGER,
    PASSCODE,
    PUSH,
    CleverTapDouble,
)
from tests.support.configuration import COHORT, cohort
from tests.support.engine import RunningEngine
from tests.support.events import amplitude_event, somebody
from tests.support.start import Start
from tests.support.template_doubles import TemplateFails, freemarker, liquid

from experiment_engine.adapters.clevertap.payload import to_request
from experiment_engine.domain.delivery.message import Call, Content
from experiment_engine.domain.identifiers import CallId, Channel, ExperimentId, UserId

DOCS = Path(__file__).parents[2] / "docs"
AMPLITUDE = (DOCS / "connect-amplitude.md").read_text(encoding="utf-8")
CLEVERTAP = (DOCS / "connect-clevertap.md").read_text(encoding="utf-8")

_POSTED = re.compile(
    r"<!-- posted (as it is )?to (\S+): ([\w ]+) -->\s*```json\n(.*?)```", re.DOTALL
)
BODIES = _POSTED.findall(AMPLITUDE + CLEVERTAP)
TEMPLATE = re.findall(r"```text\n(.*?)```", AMPLITUDE, re.DOTALL)[0]

USER, ID = "usr_123", "01a2056c-..."


@pytest.fixture
def engine(start: Start, double: CleverTapDouble) -> RunningEngine:
    """Return an engine that sends to a double of CleverTap."""
    return start(to=double, cohorts={COHORT: cohort()}, holdout={"share": 0.0})


@pytest.mark.parametrize(
    ("as_it_is", "path", "result", "body"), BODIES, ids=[f"{b[1]} {b[2]}" for b in BODIES]
)
def test_bodies(engine: RunningEngine, as_it_is: str, path: str, result: str, body: str) -> None:
    """Each body of the guides is answered as the page says."""
    if path == "/webhook/amplitude":
        body = body.replace("2026-11-22 10:00:00.123000", engine.clock.iso())
    else:
        body = body.replace(ID, engine.sent(USER))
    if not as_it_is:
        body = liquid(body, Profile={"Identity": USER})
    (answer,) = engine.results(path, body.encode())
    status, _, reason = result.partition(" ")
    assert answer["status"] == status, answer
    assert answer.get("reason", "") == reason


def test_every_report_has_a_body() -> None:
    """None of the pages' bodies is left out."""
    assert len(BODIES) == 8
    assert {path for _, path, _, _ in BODIES} == {
        "/webhook/amplitude",
        "/webhook/opened",
        "/webhook/converted",
        "/webhook/opted-out",
    }


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"event_properties": None, "device_id": None},
        {"event_properties": {"language": "hi", "show_name": 'The "Last" \\ Show\n{x}'}},
        {"event_properties": {"language": "भोजपुरी", "plan_viewed": "</script>"}},
    ],
)
def test_the_template(engine: RunningEngine, told: dict[str, Any]) -> None:
    """The template makes JSON of any event, and the engine takes it as the event itself."""
    event = amplitude_event(somebody(), engine.clock.iso(), **told)
    rendered = freemarker(TEMPLATE, event)
    given = json.loads(rendered)
    for name, value in (told.get("event_properties") or {}).items():
        assert given["event_properties"][name] == value
    (first,) = engine.results("/webhook/amplitude", rendered.encode())
    (again,) = engine.results("/webhook/amplitude", json.dumps(event).encode())
    assert (first["status"], again["status"]) == ("scheduled", "duplicate")


def test_what_the_template_is_for(engine: RunningEngine) -> None:
    """Without its guards FreeMarker stops, and without ?json_string the body is no JSON."""
    event = amplitude_event(somebody(), engine.clock.iso(), event_properties=None)
    with pytest.raises(TemplateFails):
        freemarker(TEMPLATE.replace('!""', ""), event)
    event["event_properties"] = {"show_name": 'The "Last" Show'}
    broken = freemarker(TEMPLATE.replace("?json_string", ""), event)
    assert engine.post("/webhook/amplitude", broken.encode()).status_code == 400


def test_an_event_without_a_user(engine: RunningEngine) -> None:
    """An empty user id is none."""
    event = amplitude_event(None, engine.clock.iso())
    (answer,) = engine.results("/webhook/amplitude", freemarker(TEMPLATE, event).encode())
    assert (answer["status"], answer["reason"]) == ("ignored", "no_user")


def test_the_calls_are_the_engines(double: CleverTapDouble) -> None:
    """Both calls that the page shows are what the engine makes, and the double takes them."""
    shown = [
        json.loads(body) for body in re.findall(r"```json\n(\{\"to\".*?)```", CLEVERTAP, re.DOTALL)
    ]
    push, trigger = shown
    link = "app://resume?xp={experiment_id}"
    content = Content(Channel("push"), push["content"]["title"], push["content"]["body"], link)
    recipients = {UserId(USER): ExperimentId(ID)}
    assert (PUSH, push) == to_request(Call(CallId("1"), content, recipients), "externaltrigger")
    values = {name: trigger["ExternalTrigger"][name] for name in ("title", "body", "deeplink")}
    content = Content(
        Channel("whatsapp"),
        values["title"],
        values["body"],
        values["deeplink"],
        trigger["campaign_id"],
    )
    made = to_request(Call(CallId("2"), content, recipients), "externaltrigger")
    assert (EXTERNAL_TRIGGER, trigger) == made

    headers = {"X-CleverTap-Account-Id": ACCOUNT_ID, "X-CleverTap-Passcode": PASSCODE}
    for path, body in ((PUSH, push), (EXTERNAL_TRIGGER, trigger)):
        answer = httpx2.post(double.base_url + path, json=body, headers=headers, trust_env=False)
        assert answer.json()["status"] == "success"


def test_without_the_id(engine: RunningEngine) -> None:
    """An open without id goes to the user's last message, once; another's id to nobody."""
    opened = liquid(BODIES[1][3], Profile={"Identity": USER}).encode()
    last = engine.sent(USER)
    (first,) = engine.results("/webhook/opened", opened)
    (again,) = engine.results("/webhook/opened", opened)
    assert (first["status"], first["experiment_id"]) == ("recorded", last)
    assert again["status"] == "duplicate"
    other = engine.sent(somebody())
    assert engine.opened(user_id=USER, experiment_id=other)["reason"] == "mismatch"


def test_with_the_id(start: Start, double: CleverTapDouble) -> None:
    """With the id the open goes to exactly that message, though a later one went out."""
    again = cohort(trigger={"again_after": "1min"})
    engine = start(to=double, cohorts={COHORT: again}, holdout={"share": 0.0})
    first, later = engine.sent(USER), engine.sent(USER)
    body = liquid(BODIES[1][3], Profile={"Identity": USER}, Event={"experiment_id": first})
    (answer,) = engine.results("/webhook/opened", body.encode())
    assert (answer["status"], answer["experiment_id"]) == ("recorded", first)
    assert engine.experiment(later)["feedback"]["opened_at"] is None
