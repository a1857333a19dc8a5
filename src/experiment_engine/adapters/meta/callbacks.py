"""What Meta reports: how a message fares, and who wants no more of them.

Facts: https://developers.facebook.com/docs/whatsapp/cloud-api/webhooks, and its page on
`user_preferences`. A report is ours if it brings back `biz_opaque_callback_data`; what other tools
send over the same number, and what people write, is none of our business and not kept.
"""

from collections.abc import Iterator, Mapping

import msgspec

from experiment_engine.adapters.json_input import (
    MAX_EVENTS,
    UNDECODABLE,
    BadElement,
    TooManyEvents,
    fault_of,
    identifier_of,
    instant_of,
    not_json,
    opening,
    require_shallow,
    text_of,
)
from experiment_engine.domain.delivery.address import AddressKind, address_of
from experiment_engine.domain.events import (
    Chosen,
    Fact,
    Feedback,
    FeedbackKind,
    Reported,
    Source,
    Unreadable,
)
from experiment_engine.domain.identifiers import Channel, ExperimentId
from experiment_engine.domain.moments import Instant
from experiment_engine.domain.rules import WHATSAPP

Raw = Mapping[str, msgspec.Raw]

# Of each status: whether it proves that Meta has the message, or that it never will arrive.
_PROVES = {"sent": True, "delivered": True, "read": True, "played": True, "failed": False}
_NO = frozenset({"stop", "unsubscribe", "stop promotions"})  # the last is Meta's own button

_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_anything = msgspec.json.Decoder().decode


def parse(body: bytes) -> list[Fact]:
    """Return one fact per report or choice that concerns us, and two of a message that was read.

    Raises NotUnderstood if the body is not JSON, TooManyEvents beyond MAX_EVENTS.
    """
    if opening(body) not in (b"{", b"["):
        raise not_json()
    try:
        require_shallow(body)
        root = _object(body)
    except BadElement as error:
        return [Unreadable(error.reason, body, Source.META)]
    except UNDECODABLE:
        if fault_of(body) == "not_json":
            raise not_json() from None
        return [Unreadable(fault_of(body), body, Source.META)]
    facts: list[Fact] = []
    for entry in _elements(root, "entry"):
        for change in _elements(entry, "changes"):
            facts += _facts_of(_inner(change, "value"))
    if len(facts) > MAX_EVENTS:
        raise TooManyEvents
    return facts


def _facts_of(value: Raw) -> Iterator[Fact]:
    for name, read in (
        ("statuses", _report),
        ("messages", _message),
        ("user_preferences", _preference),
    ):
        for raw in _raw_elements(value, name):
            try:
                yield from read(_members(raw), bytes(raw))
            except BadElement as error:
                yield Unreadable(error.reason, bytes(raw), Source.META)


def _report(said: Mapping[str, object], raw: bytes) -> Iterator[Fact]:
    status = said.get("status")
    proves = _PROVES.get(status) if isinstance(status, str) else None
    told = identifier_of(said.get("biz_opaque_callback_data"))
    if proves is None or told is None:
        return
    experiment_id, at = ExperimentId(told), _time(said)
    wamid = text_of(said.get("id")) or told
    yield Reported(
        experiment_id=experiment_id,
        name=str(status),
        reached=proves,
        at=at,
        key=f"meta:{wamid[:200]}:{status}",
        raw=raw,
        source=Source.META,
        reason=_why(said) if not proves else None,
    )
    if status == "read":
        yield Feedback(FeedbackKind.OPENED, None, experiment_id, at, raw, Source.META)


def _message(said: Mapping[str, object], raw: bytes) -> Iterator[Fact]:
    """Read what somebody wrote, if it is nothing but a no."""
    text, button = said.get("text"), said.get("button")
    words = [text.get("body")] if isinstance(text, dict) else []
    words += [button.get("text")] if isinstance(button, dict) else []
    if any(isinstance(word, str) and word.strip(" .!").lower() in _NO for word in words):
        yield from _choice(said.get("from"), said, raw, allowed=False)


def _preference(said: Mapping[str, object], raw: bytes) -> Iterator[Fact]:
    value = said.get("value")
    if said.get("category") == "marketing_messages" and value in ("stop", "resume"):
        yield from _choice(said.get("wa_id"), said, raw, allowed=value == "resume")


def _choice(
    who: object, said: Mapping[str, object], raw: bytes, *, allowed: bool
) -> Iterator[Fact]:
    phone = address_of(AddressKind.PHONE, f"+{text_of(who)}")
    if phone is None:
        raise BadElement("bad_id")
    yield Chosen(
        user_id=None,
        allowed=allowed,
        at=_time(said),
        raw=raw,
        source=Source.META,
        channel=Channel(WHATSAPP),
        address=phone,
    )


def _why(said: Mapping[str, object]) -> str:
    errors = said.get("errors")
    first = errors[0] if isinstance(errors, list) and errors else None
    code = first.get("code") if isinstance(first, dict) else None
    return f"code_{code}" if isinstance(code, int) and not isinstance(code, bool) else "failed"


def _time(said: Mapping[str, object]) -> Instant | None:
    return instant_of(said.get("timestamp"))


# Bodies, cut without losing the bytes of what is kept


def _members(raw: msgspec.Raw) -> Mapping[str, object]:
    value = _anything(raw)
    if not isinstance(value, dict):
        raise BadElement("not_an_object")
    return value


def _raw_elements(around: Raw, name: str) -> list[msgspec.Raw]:
    try:
        return _list(around[name]) if name in around else []
    except msgspec.DecodeError:  # something else than a list
        return []


def _elements(around: Raw, name: str) -> Iterator[Raw]:
    for raw in _raw_elements(around, name):
        try:
            yield _object(raw)
        except msgspec.DecodeError:
            continue


def _inner(around: Raw, name: str) -> Raw:
    try:
        return _object(around.get(name, b"{}"))
    except msgspec.DecodeError:
        return {}
