"""What we read in a body from Segment, and whose signature we believe."""

import hmac
import json
import time
from typing import Any

import pytest

from experiment_engine.adapters.segment.payload import parse
from experiment_engine.adapters.segment.signature import SegmentSignature
from experiment_engine.domain.events import Anonymous, Happened, Source

CALL: dict[str, Any] = {
    "version": 1,
    "type": "track",
    "userId": "usr_1",
    "anonymousId": "a-1",
    "event": "checkout_abandoned",
    "properties": {"language": "Bhojpuri"},
    "context": {"timezone": "Asia/Kolkata", "traits": {"plan": "free"}},
    "messageId": "ajs-next-1",
    "timestamp": "2026-11-22T10:00:01.795Z",
    "sentAt": "2026-11-22T10:00:02.000Z",
    "receivedAt": "2026-11-22T10:00:02.100Z",
    "originalTimestamp": "2026-11-22T10:00:01.700Z",
}
SECRET = b"shared-secret"


def body(**changes: object) -> bytes:
    return json.dumps({**CALL, **changes}).encode()


def sign(text: bytes, secret: bytes = SECRET) -> dict[bytes, bytes]:
    return {b"x-signature": hmac.new(secret, text, "sha1").hexdigest().encode()}


def test_a_track_call() -> None:
    """A call is read with its properties, traits and the device's time zone."""
    raw = body()
    (fact,) = parse(raw)

    assert isinstance(fact, Happened)
    assert (fact.user_id, fact.name, fact.key) == (
        "usr_1",
        "checkout_abandoned",
        "segment:ajs-next-1",
    )
    assert (fact.at, fact.source, fact.raw) == (1_795_341_601_795, Source.SEGMENT, raw)
    assert fact.event_properties == {"language": "Bhojpuri"}
    assert fact.user_properties == {"timezone": "Asia/Kolkata", "plan": "free"}


def test_without_a_user() -> None:
    """A call of somebody who is not known is kept as nobody's."""
    (fact,) = parse(body(userId=None))
    assert isinstance(fact, Anonymous)


def test_other_calls_are_events_of_their_type() -> None:
    """A page is no event by the name of something that was tracked."""
    (fact,) = parse(body(type="page", event=None))
    assert isinstance(fact, Happened)
    assert fact.name == "page"


def test_a_signature_of_the_body() -> None:
    """A body that was signed with the secret is believed, and no other."""
    signature, raw = SegmentSignature(), body()

    assert signature.is_there(sign(raw))
    assert not signature.is_there({})
    assert signature.fits(sign(raw), raw, SECRET)
    assert not signature.fits(sign(raw), raw + b" ", SECRET)
    assert not signature.fits(sign(raw), raw, b"another")
    assert not signature.fits({b"x-signature": b""}, raw, SECRET)


def test_a_batch_is_signed_by_its_first_event() -> None:
    """Segment signs the first event of a batch, so that is what is compared."""
    first, second = body(), body(messageId="ajs-next-2")
    raw = b"[" + first + b"," + second + b"]"

    assert SegmentSignature().fits(sign(first), raw, SECRET)
    assert not SegmentSignature().fits(sign(second), raw, SECRET)


@pytest.mark.parametrize("raw", [b"", b"[", b"[]", b"{", b"\xff"])
def test_a_broken_body_has_a_signature_too(raw: bytes) -> None:
    """What is not JSON is authenticated first: it may be kept in quarantine."""
    assert SegmentSignature().fits(sign(raw), raw, SECRET)


@pytest.mark.parametrize("piece", [b"[],", b"1,", b'"a" ', b"["])
def test_a_stranger_costs_little(piece: bytes) -> None:
    """Whoever has no secret cannot keep the engine busy with a large broken batch."""
    raw = b"[" + body() + b"," + piece * (4_000_000 // len(piece)) + b"x]"
    began = time.process_time()

    assert not SegmentSignature().fits(sign(raw), raw, SECRET)
    assert SegmentSignature().fits(sign(body()), raw, SECRET)
    assert time.process_time() - began < 0.5
