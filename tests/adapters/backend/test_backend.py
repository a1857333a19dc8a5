"""What we read from a server of the app's own, and whose signature we believe."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook
from tests.support.clock import MORNING, FakeClock

from experiment_engine.adapters.backend.payload import parse
from experiment_engine.adapters.backend.signature import StandardWebhooks
from experiment_engine.domain.events import Happened, Source

EVENT: dict[str, Any] = {
    "type": "checkout_abandoned",
    "timestamp": "2026-11-22T10:00:01.795Z",
    "data": {"user_id": "usr_1", "language": "Bhojpuri"},
}
BODY = json.dumps(EVENT)
SECRET = "whsec_" + base64.b64encode(b"twenty-four bytes or so.").decode()


def sign(
    body: str = BODY, secret: str = SECRET, at: datetime = MORNING, **changed: str
) -> dict[bytes, bytes]:
    """Sign with the library that others use."""
    signature = Webhook(secret).sign("msg_1", at, body)
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": signature,
        **{name.replace("_", "-"): value for name, value in changed.items()},
    }
    return {name.encode(): value.encode() for name, value in headers.items()}


def fits(headers: dict[bytes, bytes], body: str = BODY, secret: str = SECRET) -> bool:
    return StandardWebhooks(FakeClock().now).fits(headers, body.encode(), secret.encode())


def test_an_event() -> None:
    """All of `data` besides the user is the event's, where it says nothing else."""
    (fact,) = parse(BODY.encode(), {})

    assert isinstance(fact, Happened)
    assert (fact.user_id, fact.name, fact.source) == (
        "usr_1",
        "checkout_abandoned",
        Source.BACKEND,
    )
    assert fact.at == 1_795_341_601_795
    assert (fact.event_properties, fact.user_properties) == ({"language": "Bhojpuri"}, {})


def test_properties_of_event_and_user() -> None:
    """`properties` and `user_properties` are told apart where they are there."""
    data = {"user_id": 7, "properties": {"a": 1}, "user_properties": {"b": 2}, "c": 3}
    (fact,) = parse(json.dumps({**EVENT, "data": data}).encode(), {})

    assert isinstance(fact, Happened)
    assert (fact.user_id, fact.event_properties, fact.user_properties) == (
        "7",
        {"a": 1},
        {"b": 2},
    )


def test_what_it_is_known_by() -> None:
    """An id of the event's own goes first, then the message's, with the place in it."""
    two = json.dumps({"events": [EVENT, {**EVENT, "id": "ev-9"}]}).encode()
    keys = [fact.key for fact in parse(two, {b"webhook-id": b"msg_1"}) if hasattr(fact, "key")]

    assert keys == ["backend:msg_1:1", "backend:ev-9"]


def test_what_the_reference_library_signs() -> None:
    """A body that the reference library signed is believed, also among several signatures."""
    assert fits(sign())
    twice = sign()[b"webhook-signature"].decode()
    assert fits(sign(webhook_signature=f"v1,AAAA v1a,BBBB {twice}"))


@pytest.mark.parametrize("minutes", [-5, 5])
def test_five_minutes(minutes: int) -> None:
    """A signature is good for five minutes on both sides, and no second more."""
    at = MORNING + timedelta(minutes=minutes)
    beyond = at + timedelta(seconds=1 if minutes > 0 else -1)

    assert fits(sign(at=at))
    assert not fits(sign(at=beyond))


UNBELIEVABLE = {
    "another body": (sign(), BODY + " ", SECRET),
    "the body written anew": (sign(), json.dumps(EVENT, indent=1), SECRET),
    "another secret": (sign(), BODY, "whsec_" + base64.b64encode(b"another").decode()),
    "another id": (sign(webhook_id="msg_2"), BODY, SECRET),
    "another time": (sign(webhook_timestamp=str(int(MORNING.timestamp()) + 1)), BODY, SECRET),
    "no id": (sign(webhook_id=""), BODY, SECRET),
    "no time": (sign(webhook_timestamp=""), BODY, SECRET),
    "a time that is none": (sign(webhook_timestamp="-1e9"), BODY, SECRET),
    "a time without an end": (sign(webhook_timestamp="9" * 400), BODY, SECRET),
    "no signature": (sign(webhook_signature=""), BODY, SECRET),
    "junk": (sign(webhook_signature="v1,%%% v2,AAAA v1"), BODY, SECRET),
    "another version": (sign(webhook_signature="v2,AAAA"), BODY, SECRET),
    "a plain token for a secret": (sign(), BODY, "token"),
    "a secret that is no base64": (sign(), BODY, "whsec_%%%"),
}


@pytest.mark.parametrize(
    ("headers", "body", "secret"), UNBELIEVABLE.values(), ids=UNBELIEVABLE.keys()
)
def test_what_is_not_believed(headers: dict[bytes, bytes], body: str, secret: str) -> None:
    """Anything else than this body, signed with this secret a short while ago, is refused."""
    assert not fits(headers, body, secret)


def test_what_claims_to_be_signed() -> None:
    """The header of the signature tells, so that a token is looked for only without it."""
    signature = StandardWebhooks(lambda: FakeClock(datetime(2026, 1, 1, tzinfo=UTC)).now())
    assert signature.is_there(sign())
    assert not signature.is_there({b"authorization": b"Bearer token"})
