"""What a JSON body from outside holds, element by element, whatever is wrong with some.

Limits (CONTRACT 5): an event nests at most 32 levels, a body holds at most 2,000 events.
What is wrong with one event raises `BadElement`; with the whole body, `NotUnderstood`.
"""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from itertools import pairwise

import msgspec

from experiment_engine.domain.errors import NotUnderstood
from experiment_engine.domain.moments import DAY, SECOND, Instant, to_instant

MAX_DEPTH = 32
MAX_EVENTS = 2_000
MAX_ID_LENGTH = 256

UNDECODABLE = (
    msgspec.DecodeError,
    UnicodeDecodeError,
    RecursionError,
)  # what msgspec raises

# Amplitude refuses these as user ids (HTTP V2 page): they are gaps in somebody's tracking.
RESERVED_IDS = frozenset(
    {
        *("", "0", "-1", "{}", "anonymous", "n/a", "na", "nil", "none", "null"),
        *("undefined", "unknown", "lmy47d", "00000000-0000-0000-0000-000000000000"),
    }
)

_NAIVE_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - subtracted from times without a zone
_LATEST = Instant(7_258_118_400_000)  # 2200-01-01: a later time is a number read wrongly
_SECONDS_BELOW = 100_000_000_000  # 1e11 is the year 5138 in seconds, and 1973 in milliseconds
_DATE_LENGTH = len("2022-02-28")
_MAX_BITS = 512  # a longer integer is nobody's id

_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,9})?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_BOM = b"\xef\xbb\xbf"
# Possessive, and an unclosed string runs to the end: linear in whatever somebody sends.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{},]', re.DOTALL)
_MEMBER = re.compile(rb'\s*("(?:[^"\\]++|\\.)*+")\s*:\s*(.*)', re.DOTALL)
_CLOSERS = {b"[": b"]", b"{": b"}"}

_decode = msgspec.json.Decoder().decode
_decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode


class TooManyEvents(NotUnderstood):
    """A body with more events than one request may carry."""

    def __init__(self, limit: int = MAX_EVENTS) -> None:
        super().__init__(f"A request may carry at most {limit} events. Send smaller batches.")


class BadElement(Exception):
    """One event, or one value of it, cannot be read; `reason` is a code such as `too_deep`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


# Bodies, cut without being understood


def bare(raw: bytes) -> bytes:
    """Return the text without the mark that some editors and servers put before UTF-8."""
    return raw.removeprefix(_BOM)


def opening(raw: bytes) -> bytes:
    """Return the first byte that means something: `{`, `[`, or what begins another value."""
    return bare(raw).lstrip()[:1]


def elements_of(array: bytes, limit: int = MAX_EVENTS) -> list[bytes]:
    """Cut a JSON array into the exact bytes of its elements; raises TooManyEvents.

    An element that is not JSON stays among its neighbours as it came. Only if none of them is,
    or the brackets do not match, the whole is not understood.
    """
    array = bare(array)
    try:
        elements = [bytes(element) for element in _decode_array(array)]
    except UNDECODABLE:
        elements = _sloppy_elements_of(array)
    if len(elements) > limit:
        raise TooManyEvents(limit)
    return elements


def members_of(mapping: bytes) -> dict[str, bytes]:
    """Cut a JSON object into names and the exact bytes of their values, bad ones included."""
    mapping = bare(mapping)
    try:
        return {name: bytes(value) for name, value in _decode_object(mapping).items()}
    except UNDECODABLE:
        parts = _parts(mapping, b"{") or []
    return dict(member for part in parts if (member := _member(part)) is not None)


def not_json() -> NotUnderstood:
    """Return the error for a body that is not JSON at all."""
    return NotUnderstood(
        "The body is not JSON. Send an event object, an array of them, or a wrapper around one."
    )


def fault_of(raw: bytes) -> str:
    """Say why msgspec refused: `too_deep`, `not_utf8`, `not_json`, `bad_value` (NaN, 1e999, ...).

    Python's own parser takes the sloppy JSON that others write, and so tells a bad value from
    bad syntax.
    """
    try:
        json.loads(bare(raw).decode())
    except RecursionError:
        return "not_json" if _parts(bare(raw), opening(raw)) is None else "too_deep"
    except UnicodeDecodeError:
        return "not_utf8"
    except json.JSONDecodeError:
        return "not_json"
    except ValueError:  # an integer with thousands of digits
        return "bad_value"
    return "bad_value"


def decode(raw: bytes) -> object:
    """Read one event as plain values; raise BadElement if it is not JSON or nests too deep."""
    try:
        value: object = _decode(bare(raw))
    except UNDECODABLE:
        raise BadElement(fault_of(raw)) from None
    require_shallow(raw)
    return value


def require_shallow(raw: bytes) -> None:
    """Raise BadElement if the value nests deeper than MAX_DEPTH."""
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH and _depth(raw) > MAX_DEPTH:
        raise BadElement("too_deep")


def _depth(raw: bytes) -> int:
    deepest = depth = 0
    for token in _TOKEN.finditer(raw):
        if token[0] in _CLOSERS:
            depth += 1
            deepest = max(deepest, depth)
        elif token[0] in (b"]", b"}"):
            depth -= 1
    return deepest


def _sloppy_elements_of(array: bytes) -> list[bytes]:
    parts = _parts(array, b"[")
    if parts is None:
        raise not_json()
    if all(fault_of(part) == "not_json" for part in parts):
        raise not_json()
    return parts


def _parts(raw: bytes, opener: bytes) -> list[bytes] | None:
    """Cut at the outermost commas; None unless every bracket has its partner."""
    raw = raw.strip()
    cuts = _cuts(raw) if raw[:1] == opener else None
    if cuts is None or cuts[-1] != len(raw) - 1:
        return None
    return [raw[start + 1 : end].strip() for start, end in pairwise(cuts)]


def _cuts(raw: bytes) -> list[int] | None:
    """Return where the outermost brackets and commas stand, up to the closing one."""
    expected: list[bytes] = []
    cuts: list[int] = []
    for token in _TOKEN.finditer(raw):
        mark = token[0]
        if mark in _CLOSERS:
            expected.append(_CLOSERS[mark])
        elif mark in (b"]", b"}") and expected.pop() != mark:
            return None
        if len(expected) == 1 and (mark == b"," or not cuts):
            cuts.append(token.start())
        elif not expected:
            return [*cuts, token.start()]
    return None


def _member(part: bytes) -> tuple[str, bytes] | None:
    match = _MEMBER.fullmatch(part)
    try:
        return (_decode_text(match[1]), match[2]) if match is not None else None
    except UNDECODABLE:
        return None


# Single values


def text_of(value: object) -> str | None:
    """Return text without blanks around it, an integer as text, None for anything else."""
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() < _MAX_BITS:
        return str(value)
    return None


def identifier_of(value: object) -> str | None:
    """Return a usable id, or None if there is none (empty, or one of the reserved words).

    Raises BadElement for what is no id: a list, a truth value, control characters, more than
    256 characters.
    """
    if value is None:
        return None
    text = value.strip() if isinstance(value, str) else text_of(value)
    if text is None or len(text) > MAX_ID_LENGTH:
        raise BadElement("bad_id")
    if text.lower() in RESERVED_IDS:
        return None
    if has_control(text):
        raise BadElement("bad_id")
    return text


def has_control(text: str) -> bool:
    """Say whether the text holds what no name may: NUL, control characters, lone surrogates."""
    return not text.isprintable() and _CONTROL.search(text) is not None


def instant_of(value: object) -> Instant | None:
    """Read ISO 8601 (without a zone: UTC) or a Unix time in seconds or milliseconds.

    None if there is none. A date alone is refused: it may be a day wrong.
    """
    if value is None:
        return None
    try:
        found = _from_text(value) if isinstance(value, str) else _from_number(value)
    except (ValueError, OverflowError):
        raise BadElement("bad_time") from None
    if found is not None and not 0 < found < _LATEST:
        raise BadElement("bad_time")
    return found


def _from_text(text: str) -> Instant | None:
    if text[4:5] != "-":  # not the usual form: blanks, nothing, or a number
        text = text.strip()
        if not text:
            return None
        if _NUMBER.fullmatch(text):
            return _from_number(float(text))
    if len(text) <= _DATE_LENGTH:
        raise BadElement("bad_time")
    moment = datetime.fromisoformat(text.rstrip())
    if moment.tzinfo is not None:
        return to_instant(moment)
    since = moment - _NAIVE_EPOCH  # as to_instant, at a third of the cost: nearly all come here
    return Instant(since.days * DAY + since.seconds * SECOND + since.microseconds // 1_000)


def _from_number(value: object) -> Instant:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise BadElement("bad_time")
    return Instant(round(value * 1_000 if value < _SECONDS_BELOW else value))


def mapping_of(value: object) -> Mapping[str, object]:
    """Return an object's members; nothing, "" and an empty list are an empty object.

    Text that is itself a JSON object is read, since templates often put one in quotes.
    """
    if isinstance(value, str):
        value = decode(value.encode()) if value.strip() else None
    if isinstance(value, dict):
        return value
    if value is None or value == []:
        return {}
    raise BadElement("bad_properties")
