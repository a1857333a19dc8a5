"""What a body from Amplitude says happened, to whom, and when.

Facts: https://amplitude.com/docs/data/destination-catalog/webhooks and .../apis/analytics/export.
This is the engine's hottest parser: one event is decoded once, straight into the fields we read.
"""

from typing import Any

import msgspec

from experiment_engine.adapters.event_input import key_of, name_of
from experiment_engine.adapters.json_input import (
    MAX_EVENTS,
    UNDECODABLE,
    BadElement,
    TooManyEvents,
    bare,
    elements_of,
    fault_of,
    identifier_of,
    instant_of,
    mapping_of,
    members_of,
    not_json,
    opening,
    require_shallow,
    text_of,
)
from experiment_engine.domain.events import (
    Anonymous,
    Fact,
    Happened,
    Source,
    Unreadable,
)
from experiment_engine.domain.identifiers import EventName, UserId

__all__ = ["MAX_EVENTS", "TooManyEvents", "parse"]


class _Event(msgspec.Struct):
    """What we read of an event; nothing is typed, so that one odd value spoils only itself."""

    event_type: Any = None
    user_id: Any = None
    device_id: Any = None
    event_time: Any = None
    time: Any = None  # HTTP V2's name
    event_properties: Any = None
    user_properties: Any = None
    export_insert_id: Any = msgspec.field(default=None, name="$insert_id")
    insert_id: Any = None
    uuid: Any = None
    events: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_decode = msgspec.json.Decoder(_Event).decode


def parse(body: bytes) -> list[Fact]:
    """Return one fact per event, in order; a bad event is Unreadable and alone in that.

    Takes an event, an array of events, or `{"events": [...]}`. Raises NotUnderstood if the body
    is not JSON, or neither object nor array; TooManyEvents beyond MAX_EVENTS.
    """
    try:
        event = _decode(body)
    except UNDECODABLE:
        return _parse_other(body)
    if event.events is msgspec.UNSET:
        return [_fact(event, body)]
    events = bytes(event.events)
    if opening(events) != b"[" or event.event_type is not None:
        return [_fact(event, body)]
    return [_parse_element(element) for element in elements_of(events)]


def _parse_other(body: bytes) -> list[Fact]:
    """Parse an array, or an object with something wrong in it."""
    first = opening(body)
    if first == b"[":
        return [_parse_element(element) for element in elements_of(body)]
    events = members_of(body).get("events", b"") if first == b"{" else b""
    if opening(events) == b"[":
        return [_parse_element(element) for element in elements_of(events)]
    if first != b"{" or fault_of(body) == "not_json":
        raise not_json()
    return [_parse_element(body)]


def _parse_element(raw: bytes) -> Fact:
    try:
        event = _decode(bare(raw))
    except UNDECODABLE:
        return Unreadable(_fault_of_element(raw), raw, Source.AMPLITUDE)
    return _fact(event, raw)


def _fault_of_element(raw: bytes) -> str:
    fault = fault_of(raw)
    return "not_an_object" if fault == "bad_value" and opening(raw) != b"{" else fault


def _fact(event: _Event, raw: bytes) -> Fact:
    try:
        require_shallow(raw)
        name = _name_of(event, raw)
        user_id = identifier_of(event.user_id)
        at = instant_of(event.event_time)
        if at is None:
            at = instant_of(event.time)
        if user_id is None:
            return Anonymous(name, _key_of(event, "", raw), raw, Source.AMPLITUDE, at)
        return Happened(
            UserId(user_id),
            name,
            at,
            _key_of(event, user_id, raw),
            raw,
            Source.AMPLITUDE,
            mapping_of(event.event_properties),
            mapping_of(event.user_properties),
        )
    except BadElement as bad:
        return Unreadable(bad.reason, raw, Source.AMPLITUDE)


def _name_of(event: _Event, raw: bytes) -> EventName:
    missing = "cohort_webhook" if b'"cohort_id"' in raw else "no_event_type"
    return name_of(event.event_type, missing)


def _key_of(event: _Event, user_id: str, raw: bytes) -> str:
    """Return what every delivery of this event has in common.

    Amplitude scopes insert ids by device (a recorded one is `Property Pre-Order Submitted:3`),
    and takes the user for the device where there is none. Without an insert id: the uuid.
    """
    if insert_id := text_of(event.export_insert_id) or text_of(event.insert_id):
        device_id = text_of(event.device_id)
        return key_of(Source.AMPLITUDE, raw, f"{device_id or '@' + user_id}:{insert_id}")
    return key_of(Source.AMPLITUDE, raw, text_of(event.uuid))
