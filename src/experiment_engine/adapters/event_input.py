"""What every sender of app events has in common: a body of events, a name and a key of each.

An adapter reads its partner's words and hands them over here.
"""

from collections.abc import Callable, Mapping
from hashlib import blake2b

import msgspec

from experiment_engine.adapters.json_input import (
    MAX_EVENTS,
    UNDECODABLE,
    BadElement,
    decode,
    elements_of,
    fault_of,
    has_control,
    identifier_of,
    instant_of,
    mapping_of,
    members_of,
    not_json,
    opening,
    text_of,
)
from experiment_engine.domain.events import Anonymous, Fact, Happened, Source, Unreadable
from experiment_engine.domain.identifiers import EventName, UserId

Members = Mapping[str, object]

_MAX_NAME_LENGTH = 1_024  # where Amplitude itself cuts text
_MAX_KEY_LENGTH = 200

_decode_anything = msgspec.json.Decoder().decode


def facts_of(
    body: bytes,
    read: Callable[[Members, bytes], Fact],
    source: Source,
    *,
    wrapper: str = "",
    limit: int = MAX_EVENTS,
) -> list[Fact]:
    """Return one fact per event, in order; what `read` refuses is Unreadable, and alone in that.

    Takes an event, an array of events, or an object with one under the name `wrapper`. `read`
    gets an event's members and its bytes, and may raise BadElement. Raises NotUnderstood if the
    body is not JSON, or neither object nor array; TooManyEvents beyond `limit`.
    """
    return [fact_of(raw, read, source) for raw in _events_of(body, wrapper, limit)]


def fact_of(raw: bytes, read: Callable[[Members, bytes], Fact], source: Source) -> Fact:
    """Return what one event tells; Unreadable if it cannot be read."""
    try:
        event = decode(raw)
        if isinstance(event, dict):
            return read(event, raw)
    except BadElement as bad:
        return Unreadable(bad.reason, raw, source)
    return Unreadable("not_an_object", raw, source)


def event_of(
    source: Source,
    raw: bytes,
    *,
    name: object,
    user_id: object,
    at: object,
    key: object,
    event_properties: object = None,
    user_properties: object = None,
) -> Fact:
    """Return what one event tells, each part as its partner gave it; raises BadElement."""
    event_name, user, moment = name_of(name), identifier_of(user_id), instant_of(at)
    its_key = key_of(source, raw, text_of(key))
    if user is None:
        return Anonymous(event_name, its_key, raw, source, moment)
    return Happened(
        UserId(user),
        event_name,
        moment,
        its_key,
        raw,
        source,
        mapping_of(event_properties),
        mapping_of(user_properties),
    )


def name_of(value: object, missing: str = "no_event_type") -> EventName:
    """Return an event's name; raises BadElement, with the reason `missing` if there is none."""
    name = value.strip() if isinstance(value, str) else ""
    if not name:
        raise BadElement(missing)
    if len(name) > _MAX_NAME_LENGTH or has_control(name):
        raise BadElement("bad_event_type")
    return EventName(name)


def key_of(source: Source, raw: bytes, its_id: str | None) -> str:
    """Return what every delivery of an event has in common: the id that its sender gave it.

    Without one: a hash of the whole event, written with sorted names and no blanks.
    """
    if its_id is None:
        return _hashed(source, _canonical(raw))
    key = f"{source.value}:{its_id}"
    fits = len(key) <= _MAX_KEY_LENGTH and key.isprintable()
    return key if fits else _hashed(source, key.encode())


def _events_of(body: bytes, wrapper: str, limit: int) -> list[bytes]:
    first = opening(body)
    if first == b"[":
        return elements_of(body, limit)
    wrapped = members_of(body).get(wrapper, b"") if wrapper and first == b"{" else b""
    if opening(wrapped) == b"[":
        return elements_of(wrapped, limit)
    if first != b"{" or fault_of(body) == "not_json":
        raise not_json()
    return [body]


def _canonical(raw: bytes) -> bytes:
    try:
        return msgspec.json.encode(_decode_anything(raw), order="sorted")
    except UNDECODABLE:  # a bad value in a field that nobody reads
        return raw


def _hashed(source: Source, text: bytes) -> str:
    return f"{source.value}:#{blake2b(text, digest_size=16).hexdigest()}"
