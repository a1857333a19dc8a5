"""What we read in a body from RudderStack."""

import json

from experiment_engine.adapters.rudderstack.payload import parse
from experiment_engine.domain.events import Happened, Source


def test_a_track_call() -> None:
    """RudderStack's call is read as Segment's, and is its own source."""
    call = {
        "type": "track",
        "event": "paywall_viewed",
        "userId": "usr_1",
        "messageId": "m-1",
        "timestamp": "2026-11-22T15:30:01.795+05:30",
        "context": {"traits": {"plan": "free"}, "timezone": "Asia/Kolkata"},
        "properties": {"language": "hi"},
    }
    (fact,) = parse(json.dumps(call).encode())

    assert isinstance(fact, Happened)
    assert (fact.source, fact.key) == (Source.RUDDERSTACK, "rudderstack:m-1")
    assert fact.at == 1_795_341_601_795
    assert fact.user_properties == {"plan": "free", "timezone": "Asia/Kolkata"}
