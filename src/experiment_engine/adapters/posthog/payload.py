"""What a body from PostHog says happened, to whom, and when.

Facts: https://posthog.com/docs/cdp/destinations/webhook, whose default body is
`{"event": {...}, "person": {...}}`. It documents no signature: a header carries the secret.
"""

from experiment_engine.adapters.event_input import Members, event_of, facts_of
from experiment_engine.adapters.json_input import mapping_of
from experiment_engine.domain.events import Fact, Source


def parse(body: bytes) -> list[Fact]:
    """Return one fact per event; who has not logged in is nobody we can write to."""
    return facts_of(body, _read, Source.POSTHOG)


def _read(call: Members, raw: bytes) -> Fact:
    event, person = mapping_of(call.get("event")), mapping_of(call.get("person"))
    properties = mapping_of(event.get("properties"))
    is_anonymous = properties.get("$is_identified") is False
    return event_of(
        Source.POSTHOG,
        raw,
        name=event.get("event"),
        user_id=None if is_anonymous else event.get("distinct_id"),
        at=event.get("timestamp"),
        key=event.get("uuid"),
        event_properties=properties,
        user_properties=person.get("properties"),
    )
