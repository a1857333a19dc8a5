"""Moments and spans of time: whole milliseconds, always UTC."""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NewType

from experiment_engine.domain.errors import InvalidDuration

Instant = NewType("Instant", int)  # milliseconds since 1970-01-01T00:00Z
Duration = NewType("Duration", int)  # milliseconds

SECOND = Duration(1_000)
MINUTE = Duration(60_000)
HOUR = Duration(3_600_000)
DAY = Duration(86_400_000)

_UNITS = {"s": SECOND, "min": MINUTE, "h": HOUR, "d": DAY}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d+)?)\s*(s|min|h|d)")  # longer is no span of time
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = Instant(253_402_300_799_999)  # the last millisecond that a datetime can say


def parse_duration(text: str) -> Duration:
    """Read `"15min"`, `"1h"`, `"1.5d"`; raise InvalidDuration for anything else."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise InvalidDuration(text)
    return Duration(round(float(match[1]) * _UNITS[match[2]]))


def to_instant(moment: datetime) -> Instant:
    """Convert an aware datetime (a naive one is taken as UTC), rounding down to milliseconds."""
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return Instant((aware - _EPOCH) // timedelta(milliseconds=1))


def to_datetime(instant: Instant) -> datetime:
    """Convert to an aware UTC datetime."""
    return _EPOCH + timedelta(milliseconds=min(instant, LATEST))


def iso(instant: Instant) -> str:
    """Write as ISO 8601 in UTC, with milliseconds only where there are any."""
    second, millisecond = divmod(instant, SECOND)
    fraction = f".{millisecond:03}" if millisecond else ""
    return f"{_second(second)}{fraction}Z"


@lru_cache(maxsize=8192)
def _second(second: int) -> str:
    # One batch writes the same few seconds over and over.
    return to_datetime(Instant(second * SECOND)).strftime("%Y-%m-%dT%H:%M:%S")


def hour_of(instant: Instant) -> int:
    """Return the hour since 1970 in which the instant lies: the bucket of a counter."""
    return instant // HOUR
