"""What Meta is sent, and what its answers mean: recorded shapes, and the double over real HTTP."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.support.clevertap_double import CleverTapDouble
from tests.support.partner_doubles import META, META_TOKEN, PHONE_NUMBER_ID

from experiment_engine.adapters.calling.client import open_client
from experiment_engine.adapters.calling.posting import Unsendable
from experiment_engine.adapters.meta.payload import to_body
from experiment_engine.adapters.meta.sender import MetaSender
from experiment_engine.domain.delivery.message import (
    Answer,
    Call,
    Content,
    MessageTemplate,
    Verdict,
)
from experiment_engine.domain.identifiers import CallId, Channel, ExperimentId, UserId

ACCEPTED, REFUSED = Verdict.ACCEPTED, Verdict.REFUSED
NOT_TAKEN, UNCERTAIN = Verdict.NOT_TAKEN, Verdict.UNCERTAIN
PHONE = "+919800000001"
TEMPLATE = MessageTemplate("come_back", "hi", ("title",), ("body", "deep_link"), "experiment_id")
CONTENT = Content(
    Channel("whatsapp"), "शुभ", "two\nlines", "app://x?xp={experiment_id}", template=TEMPLATE
)
PATH = f"/v23.0/{PHONE_NUMBER_ID}/messages"


def call(content: Content = CONTENT, phone: str | None = PHONE) -> Call:
    user = UserId("usr_1")
    addresses = {} if phone is None else {user: phone}
    return Call(CallId("call-1"), content, {user: ExperimentId("exp-1")}, addresses)


def send(client: httpx2.AsyncClient, message: Call | None = None, limit: float = 5) -> Answer:
    async def run() -> Answer:
        sender = MetaSender(client, PATH, META_TOKEN, time_limit=limit)
        try:
            return await sender.send(message or call())
        finally:
            await sender.close()

    return asyncio.run(run())


def answered(status: int, body: object, **headers: str) -> Answer:
    """Return what an answer of Meta's comes to."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    reply = httpx2.Response(status, content=content, headers=headers)
    transport = httpx2.MockTransport(lambda _request: reply)
    return send(httpx2.AsyncClient(base_url="https://meta.test", transport=transport))


def test_what_is_sent() -> None:
    """A template message with its gaps filled on one line, and the id that comes back."""
    assert to_body(call()) == {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": PHONE,
        "type": "template",
        "template": {
            "name": "come_back",
            "language": {"code": "hi"},
            "components": [
                {"type": "header", "parameters": [{"type": "text", "text": "शुभ"}]},
                {
                    "type": "body",
                    "parameters": [
                        {"type": "text", "text": "two lines"},
                        {"type": "text", "text": "app://x?xp=exp-1"},
                    ],
                },
                {
                    "type": "button",
                    "sub_type": "url",
                    "index": "0",
                    "parameters": [{"type": "text", "text": "exp-1"}],
                },
            ],
        },
        "biz_opaque_callback_data": "exp-1",
    }


def test_a_template_without_gaps() -> None:
    """A template may need nothing."""
    plain = replace(CONTENT, template=MessageTemplate("hello", "en"))
    body: Any = to_body(call(plain))
    assert body["template"]["components"] == []


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (call(replace(CONTENT, template=None)), "no_campaign"),
        (call(phone=None), "no_address"),
        (call(replace(CONTENT, title=" \n ")), "not_writable"),
    ],
)
def test_what_cannot_be_sent(message: Call, reason: str) -> None:
    """Without template, address or text nobody is called."""
    with pytest.raises(Unsendable, match=reason):
        to_body(message)
    answer = send(open_client("http://127.0.0.1:1"), message)
    assert (answer.verdict, answer.reason) == (REFUSED, reason)


def error(code: object, **more: object) -> dict[str, object]:
    return {"error": {"message": "(#x) no", "type": "OAuthException", "code": code, **more}}


@pytest.mark.parametrize(
    ("status", "code", "verdict"),
    [
        *((400, code, NOT_TAKEN) for code in (130429, 131048, 131056, 80007)),
        (429, 4, NOT_TAKEN),
        (500, 130429, NOT_TAKEN),
        *((400, code, REFUSED) for code in (131049, 130472, 131026, 131047, 131050, 131021)),
        *((400, code, REFUSED) for code in (100, 131008, 131009, 132000, 132001, 132015)),
        *((401, 190, NOT_TAKEN), (401, 0, NOT_TAKEN), (403, 10, NOT_TAKEN), (403, 368, NOT_TAKEN)),
        *((500, 131000, UNCERTAIN), (400, 131000, UNCERTAIN), (503, 2, UNCERTAIN)),
        *((503, 131016, UNCERTAIN), (500, 3, UNCERTAIN), (400, 1, UNCERTAIN)),
        *((500, None, UNCERTAIN), (400, "131049", REFUSED), (404, True, REFUSED)),
    ],
)
def test_errors(status: int, code: object, verdict: Verdict) -> None:
    """Limits are waited for, what is definite is final, and "something went wrong" is unknown."""
    answer = answered(status, error(code))
    known = isinstance(code, int) and not isinstance(code, bool) and code > 0
    assert answer.verdict is verdict
    assert answer.reason == (f"code_{code}" if known else f"http_{status}")
    assert not answer.whole_call


@pytest.mark.parametrize(
    ("body", "verdict", "reason"),
    [
        ({"messages": [{"id": "wamid.1"}]}, ACCEPTED, "accepted"),
        (
            {"messages": [{"id": "wamid.1", "message_status": "held_for_quality_assessment"}]},
            ACCEPTED,
            "accepted",
        ),
        ({}, UNCERTAIN, "status_unclear"),
        (error(131049), UNCERTAIN, "status_unclear"),
        ({"messages": []}, UNCERTAIN, "status_unclear"),
        ({"messages": [7]}, UNCERTAIN, "status_unclear"),
        ({"messages": {}}, UNCERTAIN, "status_unclear"),
        ({"messages": [{"id": ""}]}, UNCERTAIN, "status_unclear"),
        *((body, UNCERTAIN, "not_json") for body in (b"<html>", b"", b"[]")),
    ],
)
def test_successes(body: object, verdict: Verdict, reason: str) -> None:
    """A 200 is believed only with the message's id."""
    answer = answered(200, body)
    assert (answer.verdict, answer.reason) == (verdict, reason)


def test_what_people_get_to_read() -> None:
    """The excerpt tells of the fault, and has neither the phone nor our token."""
    echoed = {"contacts": [{"input": PHONE, "wa_id": PHONE[1:]}], "messages": [{"id": "wamid.1"}]}
    assert json.loads(answered(200, echoed).answer) == {"id": "wamid.1"}
    details = {"details": f"{PHONE} is no number, says {META_TOKEN}"}
    answer = answered(400, error(131026, error_data=details), **{"Retry-After": "3"})
    assert "131026" in answer.answer
    assert PHONE not in answer.answer
    assert META_TOKEN not in answer.answer
    assert answer.retry_after == 3_000


@pytest.fixture
def double(tmp_path: Path) -> Iterator[CleverTapDouble]:
    with CleverTapDouble(tmp_path / "ledger", fsync=False, dialect=META, hang_s=4) as double:
        yield double


@pytest.mark.parametrize(
    ("behaviour", "verdict", "reason"),
    [
        *(
            ("ok", ACCEPTED, "accepted"),
            ("400", REFUSED, "http_400"),
            ("404", REFUSED, "http_404"),
        ),
        *((status, NOT_TAKEN, f"http_{status}") for status in ("401", "403", "429")),
        *((status, UNCERTAIN, f"http_{status}") for status in ("500", "503")),
        *(("redirect_302", UNCERTAIN, "http_302"), ("redirect_307", REFUSED, "http_307")),
        *(("html_200", UNCERTAIN, "not_json"), ("fail_200", UNCERTAIN, "status_unclear")),
        *(("processed_then_cut", UNCERTAIN, "disconnected"),),
        *(("processed_then_reset", UNCERTAIN, "disconnected"),),
        *(("processed_then_timeout", UNCERTAIN, "timed_out"),),
        *(("gzip_bomb", UNCERTAIN, "answer_too_large"),),
    ],
)
def test_fault(double: CleverTapDouble, behaviour: str, verdict: Verdict, reason: str) -> None:
    """Over real sockets: what may have been taken is never called a refusal."""
    double.configure(script=[behaviour])
    limit = 2 if "timeout" in behaviour else 20
    answer = send(open_client(double.base_url), limit=limit)
    assert (answer.verdict, answer.reason) == (verdict, reason)
    assert double.stats().redirect_hits == 0
    if verdict is ACCEPTED:
        (taken,) = double.ledger()
        assert (taken.users, taken.experiment_ids) == ((PHONE,), ("exp-1",))
