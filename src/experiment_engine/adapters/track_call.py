"""The `track` call of Segment, which RudderStack sends unchanged.

Facts: https://segment.com/docs/connections/spec/common and .../destinations/catalog/webhooks.
"""

from collections.abc import Mapping

from experiment_engine.adapters.event_input import Members, event_of, facts_of
from experiment_engine.adapters.json_input import mapping_of, text_of
from experiment_engine.domain.events import Fact, Source

MAX_CALLS = 4_000  # Segment's largest batch


def parse(body: bytes, source: Source) -> list[Fact]:
    """Return one fact per call; other calls than `track` are events named by their type."""

    def read(call: Members, raw: bytes) -> Fact:
        kind = text_of(call.get("type")) or "track"
        return event_of(
            source,
            raw,
            name=call.get("event") if kind == "track" else kind,
            user_id=call.get("userId"),
            at=call.get("timestamp"),
            key=call.get("messageId"),
            event_properties=call.get("properties"),
            user_properties=_user_properties(call),
        )

    return facts_of(body, read, source, limit=MAX_CALLS)


def _user_properties(call: Members) -> Mapping[str, object]:
    """Return the user's traits, and the time zone of the device beside them."""
    context = mapping_of(call.get("context"))
    traits = {**mapping_of(context.get("traits")), **mapping_of(call.get("traits"))}
    zone = text_of(context.get("timezone"))
    return {"timezone": zone, **traits} if zone else traits
