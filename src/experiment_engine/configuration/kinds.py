"""What a value in a configuration file may be, and the words that say so to a person."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import time
from math import isfinite
from typing import Any, Generic, TypeVar

from experiment_engine.domain.delivery.copy import clean
from experiment_engine.domain.delivery.quiet_hours import is_zone
from experiment_engine.domain.errors import InvalidDuration
from experiment_engine.domain.moments import DAY, HOUR, MINUTE, SECOND, Duration, parse_duration

T = TypeVar("T")

_LONGEST = Duration(3650 * DAY)  # ten years: anything beyond is a slip of the hand
_LONGEST_NAME = 200
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*", re.ASCII)
_COMMANDS = {
    "javascript",
    "data",
    "vbscript",
    "file",
    "blob",
    "about",
    "intent",
    "content",
    "view-source",
}  # what they do is not to lead somewhere
_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """How a value is read, and what to say if it is something else."""

    expected: str  # completes "write ..."
    read: Callable[[object], T | None]  # None: not of this kind
    schema: Mapping[str, Any]  # JSON Schema that takes all that `read` takes, and names examples

    @property
    def stand_in(self) -> object:
        """Return a value of this kind."""
        return self.schema.get("enum", self.schema.get("examples"))[0]


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value.strip() else None


def _name(value: object) -> str | None:
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_NAME:
        return None
    return value if value.isprintable() and value == value.strip() else None


def _part(value: object) -> str | None:
    name = _name(value)
    return name if name is not None and not set(name) & set("|*") else None


def _any_text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _stand_in(value: object) -> str | None:
    return value if isinstance(value, str) and clean(value) == value else None


def _zone(value: object) -> str | None:
    return value if isinstance(value, str) and is_zone(value) else None


def _time(value: object) -> time | None:
    if isinstance(value, time):  # TOML has times of its own: start = 23:00:00
        return value
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    return time(int(match[1]), int(match[2])) if match else None


def _duration(value: object) -> Duration | None:
    try:
        duration = parse_duration(value) if isinstance(value, str) else None
    except (InvalidDuration, OverflowError):
        return None
    return duration if duration is not None and duration <= _LONGEST else None


def _span(value: object) -> Duration | None:
    return _duration(value) or None


def _deep_link(value: object) -> str | None:
    if not isinstance(value, str) or not value.isprintable():
        return None
    return None if set("{} ") & set(value.replace("{experiment_id}", "")) else value


def _scheme(value: object) -> str | None:
    if not isinstance(value, str) or not _SCHEME.fullmatch(value):
        return None
    return None if value in _COMMANDS else value


def _campaign(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**18:
        return str(value)
    return _name(value)


_PROPERTIES = ("event_properties", "user_properties")


def _property(value: object) -> tuple[str, str] | None:
    if not isinstance(value, str):
        return None
    folder, _, key = value.partition(".")
    return (folder, key) if folder in _PROPERTIES and _name(key) else None


_FILLED = r"([^{}]|\{[^{}.!:\[\]\s]+\})*$"  # placeholders are plain names
_NOT_BLANK = {"type": "string", "pattern": rf"^(?=[\s\S]*\S){_FILLED}"}
_ON_ONE_LINE = {"type": "string", "minLength": 1, "pattern": r"^[^\x00-\x1f\x7f]+$"}
_NAME = {**_ON_ONE_LINE, "maxLength": _LONGEST_NAME}
_NUMBER = r"[0-9]{1,9}(\.[0-9]+)?"
_AMOUNT = rf"^\s*{_NUMBER}\s*(s|min|h|d)\s*$"
_AMOUNT_ABOVE_0 = rf"^\s*(?=[0-9.]*[1-9]){_NUMBER}\s*(s|min|h|d)\s*$"
SPAN_TEXT = rf"^(?=[0-9.]*[1-9]){_NUMBER}(s|min|h|d)$"  # without blanks

TEXT = Kind("a text in quotes, not empty", _text, {**_NOT_BLANK, "examples": ["Come back."]})
ANY_TEXT = Kind(
    "a text in quotes", _any_text, {"type": "string", "pattern": f"^{_FILLED}", "examples": [""]}
)
NAME = Kind("a name in quotes, on one line", _name, {**_NAME, "examples": ["a_name"]})
PROPERTY = Kind(
    '"event_properties.<name>" or "user_properties.<name>"',
    _property,
    {
        "type": "string",
        "pattern": rf"^({'|'.join(_PROPERTIES)})\..+",
        "examples": ["event_properties.show_name"],
    },
)
PART = Kind(
    "a name in quotes, without | and *",
    _part,
    {**_NAME, "pattern": r"^[^|*\x00-\x1f\x7f]+$", "examples": ["a_name"]},
)
STAND_IN = Kind(
    "a text in quotes, on one line, without braces and outer blanks, of at most 200 characters",
    _stand_in,
    {**_NAME, "pattern": r"^[^{}\x00-\x1f\x7f]+$", "examples": ["your show"]},
)
ZONE = Kind(
    'a time zone by its IANA name, such as "Asia/Kolkata"',
    _zone,
    {"type": "string", "pattern": "^[A-Za-z]", "examples": ["Asia/Kolkata"]},
)
TIME = Kind(
    'a time of day from "00:00" to "23:59", such as "23:00"',
    _time,
    {"type": "string", "pattern": "^([01]?[0-9]|2[0-3]):[0-5][0-9]", "examples": ["23:00"]},
)
DURATION = Kind(
    'a number and a unit (s, min, h, d) in quotes, such as "15min", of at most 3650d',
    _duration,
    {"type": "string", "pattern": _AMOUNT, "examples": ["15min"]},
)
SPAN = Kind(
    'a number above 0 and a unit (s, min, h, d) in quotes, such as "15min", of at most 3650d',
    _span,
    {"type": "string", "pattern": _AMOUNT_ABOVE_0, "examples": ["15min"]},
)
SPAN_OR_OFF = Kind(
    'a number above 0 and a unit (s, min, h, d) in quotes, such as "30min", or "off"',
    lambda value: Duration(0) if value == "off" else _span(value),
    {"type": "string", "pattern": f"({_AMOUNT_ABOVE_0})|^off$", "examples": ["30min", "off"]},
)
DEEP_LINK = Kind(
    'a link in quotes whose only braces are {experiment_id}, such as "app://open?x={experiment_id}"',
    _deep_link,
    {
        "type": "string",
        "pattern": r"^([^{} ]|\{experiment_id\})*$",
        "examples": ["app://open?x={experiment_id}"],
    },
)
CAMPAIGN = Kind(
    'a campaign id in quotes, such as "1700000000"',
    _campaign,
    {"type": ["string", "integer"], "minLength": 1, "minimum": 1, "examples": ["1700000000"]},
)
SCHEME = Kind(
    'a scheme in quotes without "://", such as "myapp", that no browser takes for a command',
    _scheme,
    {"type": "string", "pattern": "^[a-z][a-z0-9+.-]*$", "examples": ["myapp"]},
)


def whole(least: int, most: int) -> Kind[int]:
    """Take whole numbers in a range, both ends included."""

    def read(value: object) -> int | None:
        if isinstance(value, bool) or not isinstance(value, int):
            return None
        return value if least <= value <= most else None

    schema = {
        "type": "integer",
        "minimum": least,
        "maximum": most,
        "examples": [(least + most) // 2],
    }
    return Kind(f"a whole number from {least} to {most}", read, schema)


def number(least: float, most: float, *, above: bool = False, below: bool = False) -> Kind[float]:
    """Take numbers in a range; `above` and `below` leave its ends out."""

    def read(value: object) -> float | None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        inside = least <= value <= most  # false for nan; compares whole numbers of any size
        at_end = (above and value == least) or (below and value == most)
        return float(value) if inside and not at_end and isfinite(value) else None

    low = f"above {least:g}" if above else f"of at least {least:g}"
    high = f"below {most:g}" if below else f"at most {most:g}"
    schema = {
        "type": "number",
        "exclusiveMinimum" if above else "minimum": least,
        "exclusiveMaximum" if below else "maximum": most,
        "examples": [(least + most) / 2],
    }
    return Kind(f"a number {low} and {high}", read, schema)


def choice(allowed: Sequence[T]) -> Kind[T]:
    """Take one of a few texts."""

    def read(value: object) -> T | None:
        return next((option for option in allowed if option == value), None)

    return Kind(" or ".join(f'"{option}"' for option in allowed), read, {"enum": list(allowed)})


def list_of(kind: Kind[T], *, may_be_empty: bool = False) -> Kind[tuple[T, ...]]:
    """Take a list of different values of one kind."""

    def read(value: object) -> tuple[T, ...] | None:
        if not isinstance(value, list) or not (value or may_be_empty):
            return None
        items = [item for item in map(kind.read, value) if item is not None]
        return tuple(items) if len(set(items)) == len(value) else None

    schema = {
        "type": "array",
        "items": dict(kind.schema),
        "minItems": 0 if may_be_empty else 1,
        "uniqueItems": True,
        "examples": [[kind.stand_in]],
    }
    return Kind(f"a list, each entry once: {kind.expected}", read, schema)


def _one_or_more(kind: Kind[T]) -> Kind[tuple[T, ...]]:
    """Take one value, or a list of different ones."""
    several = list_of(kind)

    def read(value: object) -> tuple[T, ...] | None:
        one = kind.read(value)
        return several.read(value) if one is None else (one,)

    schema = {"anyOf": [dict(kind.schema), dict(several.schema)], "examples": [kind.stand_in]}
    return Kind(f"{kind.expected}, or {several.expected}", read, schema)


NAMES = _one_or_more(NAME)


def spell(duration: Duration) -> str:
    """Write a duration as the configuration does."""
    for unit, size in (("d", DAY), ("h", HOUR), ("min", MINUTE), ("s", SECOND)):
        if duration % size == 0:
            return f"{duration // size}{unit}"
    return f"{duration / SECOND:g}s"
