"""What we read in Meta's reports, and whose signature and question we answer."""

import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from experiment_engine.adapters.meta.callbacks import parse
from experiment_engine.adapters.meta.signature import Greeting, MetaSignature
from experiment_engine.domain.errors import NotUnderstood
from experiment_engine.domain.events import (
    Chosen,
    Fact,
    Feedback,
    FeedbackKind,
    Reported,
    Source,
    Unreadable,
)

FIXTURES = Path(__file__).parent / "fixtures"
SECRET = b"app-secret"


def fixture(name: str) -> bytes:
    return (FIXTURES / f"{name}.json").read_bytes()


def told(name: str, *entries: Any) -> bytes:
    value = {"messaging_product": "whatsapp", name: list(entries)}
    return json.dumps({"entry": [{"changes": [{"value": value}]}]}).encode()


def status(**changes: Any) -> bytes:
    usual = {
        "id": "wamid.1",
        "status": "delivered",
        "timestamp": "1795341721",
        "recipient_id": "919800000001",
        "biz_opaque_callback_data": "exp-1",
    }
    return told("statuses", {**usual, **changes})


def one(body: bytes) -> Fact:
    (fact,) = parse(body)
    return fact


def test_reports() -> None:
    """Delivered is proof, failed has its code, and what another tool sent is not ours."""
    delivered, failed = parse(fixture("statuses"))

    assert isinstance(delivered, Reported)
    assert isinstance(failed, Reported)
    assert (delivered.experiment_id, delivered.name, delivered.reached) == (
        "exp-1",
        "delivered",
        True,
    )
    assert (delivered.at, delivered.reason) == (1_795_341_721_000, None)
    assert json.loads(delivered.raw)["recipient_id"] == "919800000001"
    assert (failed.experiment_id, failed.reached, failed.reason) == ("exp-2", False, "code_131049")
    assert delivered.key != failed.key
    assert delivered.source is failed.source is Source.META


def test_the_same_report_has_the_same_key() -> None:
    """Meta repeats itself; another status of the same message is another report."""
    assert one(status()) == one(status())
    keys = {parse(status(status=name))[0].key for name in ("sent", "delivered", "read")}  # type: ignore[union-attr]
    assert len(keys) == 3


def test_read() -> None:
    """Who has read a message has got it, and opened it."""
    proof, opened = parse(status(status="read"))
    assert isinstance(proof, Reported)
    assert proof.reached
    assert isinstance(opened, Feedback)
    assert (opened.kind, opened.experiment_id, opened.user_id) == (
        FeedbackKind.OPENED,
        "exp-1",
        None,
    )


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"entry":[]}',
        b'{"entry":7}',
        b'{"entry":[7,{"changes":[{"value":7}]}]}',
        status(status="warning"),
        status(status=None),
        status(biz_opaque_callback_data=None),
        told("messages", {"from": "919800000001", "type": "text", "text": {"body": "Hi there"}}),
        told("user_preferences", {"wa_id": "919800000001", "category": "other", "value": "stop"}),
        told("message_template_status_update", {"event": "APPROVED"}),
    ],
)
def test_what_is_not_for_us(body: bytes) -> None:
    """Other statuses, other tools' messages, and what people write are not kept."""
    assert parse(body) == []


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (status(timestamp="soon"), "bad_time"),
        (status(biz_opaque_callback_data=["x"]), "bad_id"),
        (told("statuses", "delivered"), "not_an_object"),
        (told("user_preferences", {"category": "marketing_messages", "value": "stop"}), "bad_id"),
        (b'{"entry":' + b"[" * 40 + b"]" * 40 + b"}", "too_deep"),
        (b'{"entry":NaN}', "bad_value"),
    ],
)
def test_what_is_not_understood(body: bytes, reason: str) -> None:
    """It is kept with its reason."""
    fact = one(body)
    assert isinstance(fact, Unreadable)
    assert (fact.reason, fact.source) == (reason, Source.META)


def test_one_bad_report_spoils_no_other() -> None:
    """Each is read by itself."""
    good = {"id": "w", "status": "sent", "timestamp": "1", "biz_opaque_callback_data": "exp-1"}
    facts = parse(told("statuses", {**good, "timestamp": []}, good))
    assert [type(fact) for fact in facts] == [Unreadable, Reported]


@pytest.mark.parametrize("body", [b"", b"x", b"7", b'"x"', b"{"])
def test_not_json(body: bytes) -> None:
    """What is no JSON object at all is not understood as a whole."""
    with pytest.raises(NotUnderstood):
        parse(body)


def test_a_list() -> None:
    """A list is none of Meta's bodies, and is kept."""
    (kept,) = parse(b"[]")
    assert isinstance(kept, Unreadable)


def test_stop_and_resume() -> None:
    """Meta's own switch for marketing messages is a no, and later a yes, on WhatsApp."""
    stopped = one(fixture("stopped"))
    resumed = one(fixture("stopped").replace(b'"stop"', b'"resume"'))

    assert isinstance(stopped, Chosen)
    assert isinstance(resumed, Chosen)
    assert (stopped.allowed, resumed.allowed) == (False, True)
    assert (stopped.address, stopped.channel, stopped.user_id) == (
        "+919800000001",
        "whatsapp",
        None,
    )
    assert "9800000001" not in repr(stopped).replace(repr(stopped.raw), "")


@pytest.mark.parametrize(
    ("message", "no"),
    [
        ({"type": "text", "text": {"body": "STOP"}}, True),
        ({"type": "text", "text": {"body": " Stop. "}}, True),
        ({"type": "text", "text": {"body": "unsubscribe"}}, True),
        ({"type": "button", "button": {"text": "Stop promotions", "payload": "x"}}, True),
        ({"type": "text", "text": {"body": "please don't stop"}}, False),
        ({"type": "text", "text": {"body": 7}}, False),
        ({"type": "image"}, False),
    ],
)
def test_a_no_in_words(message: dict[str, Any], no: bool) -> None:  # noqa: FBT001 - a table
    """A message that is nothing but STOP is a no; anything else is a conversation, not ours."""
    facts = parse(told("messages", {"from": "919800000001", "timestamp": "1795341721", **message}))
    assert [isinstance(fact, Chosen) and not fact.allowed for fact in facts] == [True] * no


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.just("delivered"),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["entry", "changes", "value", "statuses", "status", "id", "from"]),
                inner,
                max_size=4,
            )
        ),
    )
)
def test_any_body(value: object) -> None:
    """Whatever object or list comes, it is read or kept, and nothing raises."""
    assume(isinstance(value, dict | list))
    for fact in parse(json.dumps(value).encode()):
        assert isinstance(fact, Reported | Feedback | Chosen | Unreadable)


# Who may say so


def signed(body: bytes, secret: bytes = SECRET) -> dict[bytes, bytes]:
    digest = hmac.new(secret, body, "sha256").hexdigest()
    return {b"x-hub-signature-256": f"sha256={digest}".encode()}


@pytest.mark.parametrize(
    ("headers", "fits"),
    [
        (signed(b"body"), True),
        (signed(b"body "), False),
        (signed(b"body", b"other"), False),
        ({b"x-hub-signature-256": b""}, False),
        ({b"x-hub-signature-256": signed(b"body")[b"x-hub-signature-256"][7:]}, False),
        ({b"x-hub-signature-256": b"sha1=" + b"0" * 40}, False),
    ],
)
def test_signature(headers: dict[bytes, bytes], fits: bool) -> None:  # noqa: FBT001 - a table
    """Only the app's secret over exactly these bytes is believed."""
    assert MetaSignature().is_there(headers)
    assert MetaSignature().fits(headers, b"body", SECRET) is fits


def test_no_signature() -> None:
    """Without the header the request does not claim to be signed."""
    assert not MetaSignature().is_there({b"x-hub-signature": b"sha1=0"})


ASKED = b"hub.mode=subscribe&hub.verify_token=our+token&hub.challenge=1158201444"


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (ASKED, b"1158201444"),
        (ASKED.replace(b"our+token", b"another"), None),
        (ASKED.replace(b"subscribe", b"unsubscribe"), None),
        (ASKED.replace(b"1158201444", b"<script>"), None),
        (ASKED.replace(b"1158201444", b""), None),
        (b"", None),
        (b"\xff", None),
        (b"&".join([b"a=b"] * 30), None),
        (b"hub.verify_token=%F0%28&hub.mode=subscribe&hub.challenge=1", None),
    ],
)
def test_greeting(query: bytes, said: bytes | None) -> None:
    """Whoever knows the token hears the challenge back, and nobody else."""
    assert Greeting("our token").answer(query) == said
    assert "our token" not in repr(Greeting("our token"))
