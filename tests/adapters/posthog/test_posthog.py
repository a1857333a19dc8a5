"""What we read in a body from PostHog."""

import json
from typing import Any

from experiment_engine.adapters.posthog.payload import parse
from experiment_engine.domain.events import Anonymous, Fact, Happened, Source

EVENT: dict[str, Any] = {
    "event": "checkout_abandoned",
    "distinct_id": "usr_1",
    "uuid": "0193a1c2-0000-7000-8000-000000000001",
    "timestamp": "2026-11-22T10:00:01.795Z",
    "properties": {"language": "Bhojpuri", "$is_identified": True},
}


def fact_of(**changes: object) -> Fact:
    call = {"event": {**EVENT, **changes}, "person": {"id": "p", "properties": {"plan": "free"}}}
    (fact,) = parse(json.dumps(call).encode())
    return fact


def test_the_default_body() -> None:
    """The event and the person of the default body are read."""
    fact = fact_of()

    assert isinstance(fact, Happened)
    assert (fact.user_id, fact.name, fact.source) == (
        "usr_1",
        "checkout_abandoned",
        Source.POSTHOG,
    )
    assert (fact.at, fact.key) == (1_795_341_601_795, f"posthog:{EVENT['uuid']}")
    assert fact.event_properties["language"] == "Bhojpuri"
    assert fact.user_properties == {"plan": "free"}


def test_who_has_not_logged_in() -> None:
    """A distinct id of a browser is nobody we can write to."""
    assert isinstance(fact_of(properties={"$is_identified": False}), Anonymous)
