"""WhatsApp through Meta: a template goes out once, and Meta's reports say what became of it."""

import hmac
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import select
from tests.support.clevertap_double import CleverTapDouble
from tests.support.configuration import COHORT, cohort
from tests.support.engine import RunningEngine
from tests.support.events import Json
from tests.support.partner_doubles import META, META_TOKEN, PHONE_NUMBER_ID
from tests.support.start import Start

from experiment_engine.adapters.storage import tables
from experiment_engine.domain.moments import SECOND

SECRET, VERIFY = "app-secret-of-meta", "our-verify-token"
PHONE, WA_ID = "+91 98000 00001", "919800000001"
WHATSAPP = {
    "provider": "meta",
    "address": "user_properties.phone",
    "templates": {"*|*|*": {"name": "come_back", "language": "en", "parameters": ["body"]}},
}
ON_WHATSAPP = {COHORT: cohort(channel=["whatsapp"])}


@pytest.fixture
def meta(tmp_path: Path) -> Iterator[CleverTapDouble]:
    with CleverTapDouble(tmp_path / "meta", fsync=False, dialect=META) as double:
        yield double


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    starting = Start(tmp_path)
    yield starting
    starting.stop()


@pytest.fixture
def engine(start: Start, meta: CleverTapDouble) -> RunningEngine:
    return started(start, meta)


def started(start: Start, meta: CleverTapDouble, **channel: Any) -> RunningEngine:
    environ = {
        "META_ACCESS_TOKEN": META_TOKEN,
        "META_PHONE_NUMBER_ID": PHONE_NUMBER_ID,
        "META_BASE_URL": meta.base_url,
        "META_WEBHOOK_SECRET": SECRET,
        "META_VERIFY_TOKEN": VERIFY,
    }
    channels = {"whatsapp": {**WHATSAPP, **channel}}
    return start(environ=environ, cohorts=ON_WHATSAPP, channels=channels)


def scheduled(engine: RunningEngine, user: str = "usr_1", phone: str = PHONE) -> str:
    return engine.scheduled(user, user_properties={"phone": phone})


def sent(engine: RunningEngine, user: str = "usr_1") -> str:
    made = scheduled(engine, user)
    engine.deliver(after="2min")
    return made


def post(engine: RunningEngine, body: object, secret: str = SECRET) -> httpx2.Response:
    content = json.dumps(body).encode()
    digest = hmac.new(secret.encode(), content, "sha256").hexdigest()
    headers = {"X-Hub-Signature-256": f"sha256={digest}"}
    return engine.client.post("/webhook/meta", content=content, headers=headers)


def value(name: str, *entries: Json) -> Json:
    return {"entry": [{"changes": [{"value": {name: list(entries)}}]}]}


def report(engine: RunningEngine, made: str, status: str, **more: Any) -> list[Json]:
    """Report as Meta does that a message has come this far; return the results."""
    entry = {
        "id": f"wamid.{made}",
        "status": status,
        "timestamp": str(engine.clock.now() // SECOND),
        "recipient_id": WA_ID,
        "biz_opaque_callback_data": made,
        **more,
    }
    results: list[Json] = (
        post(engine, value("statuses", entry)).raise_for_status().json()["results"]
    )
    return results


def kept_out(engine: RunningEngine, made: str) -> list[Json]:
    return report(engine, made, "failed", errors=[{"code": 131049, "title": "kept out"}])


def credit(engine: RunningEngine, made: str) -> Json:
    told: Json = engine.experiment(made)["credit"]
    return told


def summary(engine: RunningEngine) -> Json:
    stats = engine.get("/api/stats")
    return {name: stats["summary"][name] for name in ("total_sent", "total_converted")}


def test_a_message_goes_out_and_is_reported_on(
    engine: RunningEngine, meta: CleverTapDouble
) -> None:
    """The experiment's id travels with the message and comes back with each report."""
    made = sent(engine)
    assert engine.state(made) == ("sent", None)
    assert [(call.users, call.experiment_ids) for call in meta.ledger()] == [
        (("+919800000001",), (made,))
    ]

    assert report(engine, made, "delivered") == [{"status": "recorded", "experiment_id": made}]
    assert report(engine, made, "delivered")[0]["status"] == "duplicate"
    read = report(engine, made, "read")
    assert [result["status"] for result in read] == ["recorded", "recorded"]
    assert engine.experiment(made)["feedback"]["opened_at"] is not None
    assert engine.state(made) == ("sent", None)
    names = [one["name"] for one in engine.get("/api/users/usr_1")["timeline"] if "name" in one]
    assert {"delivered", "read", "opened"} <= set(names)


@pytest.mark.parametrize("proof", ["sent", "delivered", "read"])
def test_a_report_settles_what_was_not_known(
    engine: RunningEngine, meta: CleverTapDouble, proof: str
) -> None:
    """Meta's report is proof that does not depend on the user: unknown becomes sent (R2)."""
    meta.configure(behaviour="processed_then_500")
    made = sent(engine)
    assert engine.state(made)[0] == "unknown"
    assert not credit(engine, made)["trial"]
    report(engine, made, proof)

    assert engine.state(made) == ("sent", None)
    assert credit(engine, made)["trial"]
    assert summary(engine)["total_sent"] == 1
    (attempt,) = engine.experiment(made)["attempts"]
    assert attempt["outcome"] == "accepted"
    assert attempt["reason"] == proof


def test_a_failure_settles_what_was_not_known(
    engine: RunningEngine, meta: CleverTapDouble
) -> None:
    """What definitely did not arrive failed, and takes no place in the caps."""
    meta.configure(behaviour="processed_then_500")
    made = sent(engine)
    kept_out(engine, made)

    assert engine.state(made) == ("failed", "code_131049")
    assert not credit(engine, made)["trial"]
    assert summary(engine)["total_sent"] == 0
    report(engine, made, "delivered")  # contradicts itself: what has ended stays
    assert engine.state(made)[0] == "failed"


def test_not_reached_is_not_not_persuaded(engine: RunningEngine) -> None:
    """A message that Meta took and kept back stays counted as sent, and teaches nothing."""
    made = sent(engine)
    assert credit(engine, made) == {**credit(engine, made), "trial": True, "teaches": True}
    (result,) = kept_out(engine, made)

    assert (result["status"], result["reason"]) == ("recorded", "code_131049")
    assert engine.state(made) == ("sent", "not_reached")
    assert not credit(engine, made)["trial"]
    assert summary(engine)["total_sent"] == 1
    assert kept_out(engine, made)[0]["status"] == "duplicate"
    engine.converted(user_id="usr_1")
    assert not credit(engine, made)["success"]
    since = engine.get("/api/stats", since="2020-01-01T00:00:00Z")["summary"]
    always = engine.get("/api/stats")["summary"]
    assert since == always  # counted anew from the experiments, by the same rule


def test_reports_about_others(engine: RunningEngine) -> None:
    """An experiment that is not there, or has not gone out, is said so; nothing is kept."""
    assert report(engine, "nobody's", "delivered")[0]["reason"] == "unknown_experiment"
    made = scheduled(engine)
    assert report(engine, made, "delivered")[0]["reason"] == "not_sent"
    assert engine.state(made)[0] == "scheduled"


def test_a_report_about_somebody_erased(engine: RunningEngine, meta: CleverTapDouble) -> None:
    """It settles the count, and brings nothing of the person back."""
    meta.configure(behaviour="processed_then_500")
    made = sent(engine)
    engine.client.delete("/api/users/usr_1").raise_for_status()
    report(engine, made, "delivered")

    assert engine.state(made)[0] == "sent"
    with engine.engine.storage.readers.connect() as connection:
        raws = connection.execute(select(tables.event.c.raw)).scalars().all()
        recipients = connection.execute(select(tables.recipient.c.user_id)).scalars().all()
    assert not [raw for raw in raws if WA_ID.encode() in raw]
    assert recipients == []


# Users who want no more


def stop(engine: RunningEngine, choice: str = "stop") -> list[Json]:
    entry = {"wa_id": WA_ID, "category": "marketing_messages", "value": choice, "timestamp": ""}
    answer = post(engine, value("user_preferences", entry)).raise_for_status()
    results: list[Json] = answer.json()["results"]
    return results


def test_a_user_who_stops_marketing_messages(engine: RunningEngine) -> None:
    """Known by nothing but the phone, they get no more, and what waits is cancelled."""
    sent(engine)
    engine.clock.advance("2d")
    made = scheduled(engine)
    other = scheduled(engine, "usr_2", "+91 98000 00002")

    assert stop(engine) == [{"status": "recorded", "experiment_id": made}]
    assert engine.state(made) == ("cancelled", "opted_out")
    assert engine.state(other)[0] == "scheduled"
    engine.clock.advance("2d")
    told = engine.event("usr_1", user_properties={"phone": PHONE})
    assert (told["status"], told["reason"]) == ("ignored", "opted_out")
    assert stop(engine, "resume")[0]["status"] == "recorded"
    scheduled(engine)


def test_everybody_who_is_reached_there(engine: RunningEngine) -> None:
    """Two accounts on one phone are one person's no."""
    made = [scheduled(engine, user) for user in ("usr_1", "usr_2")]
    text = {"from": WA_ID, "timestamp": "", "type": "text", "text": {"body": "STOP"}}
    post(engine, value("messages", text)).raise_for_status()

    assert [engine.state(one) for one in made] == [("cancelled", "opted_out")] * 2


def test_somebody_to_whom_we_never_wrote(engine: RunningEngine) -> None:
    """A phone that nobody has here says nothing."""
    assert stop(engine) == [{"status": "ignored", "reason": "no_user"}]


# Who may come in


def test_only_meta_is_believed(engine: RunningEngine) -> None:
    """A wrong signature, or none, is turned away and leaves no trace."""
    made = sent(engine)
    body = value("statuses", {"id": "w", "status": "failed", "biz_opaque_callback_data": made})
    assert post(engine, body, "another secret").status_code == 401
    assert engine.post("/webhook/meta", body).status_code == 401
    assert engine.state(made) == ("sent", None)


def test_meta_tries_out_the_address(engine: RunningEngine) -> None:
    """Its question is answered to whoever knows the token."""
    asked = {"hub.mode": "subscribe", "hub.verify_token": VERIFY, "hub.challenge": "1158201444"}
    answer = engine.client.get("/webhook/meta", params=asked)
    assert (answer.status_code, answer.text) == (200, "1158201444")
    answer = engine.client.get("/webhook/meta", params={**asked, "hub.verify_token": "x"})
    assert answer.status_code == 403
    assert VERIFY not in engine.log.getvalue()


def test_without_a_template(start: Start, meta: CleverTapDouble) -> None:
    """Where no template fits, nothing is sent, and the reason is told."""
    engine = started(start, meta, templates={})
    told = engine.event("usr_1", user_properties={"phone": PHONE})
    assert (told["status"], told["reason"]) == ("ignored", "no_campaign")
