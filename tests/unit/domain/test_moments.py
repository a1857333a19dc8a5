"""Moments and spans of time: read, written, and read again."""

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiment_engine.domain.errors import InvalidDuration
from experiment_engine.domain.moments import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    Instant,
    hour_of,
    iso,
    parse_duration,
    to_datetime,
    to_instant,
)

LATEST = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z
INSTANTS = st.integers(0, LATEST).map(Instant)  # nothing earlier is let in from outside
UNITS = {"s": SECOND, "min": MINUTE, "h": HOUR, "d": DAY}


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("15min", 900_000),
        ("1h", 3_600_000),
        ("1.5d", 129_600_000),
        ("30s", 30_000),
        ("0s", 0),
        ("0.001s", 1),
        (" 2 min ", 120_000),
        ("400d", 34_560_000_000),
    ],
)
def test_durations_as_people_write_them(text: str, milliseconds: int) -> None:
    """A number and a unit is read to the millisecond."""
    assert parse_duration(text) == milliseconds


@given(number=st.integers(0, 100_000), unit=st.sampled_from(sorted(UNITS)))
def test_every_whole_duration(number: int, unit: str) -> None:
    """Every whole number of a unit is exactly that many of it."""
    assert parse_duration(f"{number}{unit}") == number * UNITS[unit]


@pytest.mark.parametrize(
    "text",
    ["", "15", "min", "-1h", "1m", "1 hour", "1h30min", "1e3s", "٣x", "1..5h", "h1", "1,5h"],
)
def test_no_duration(text: str) -> None:
    """Anything else is refused, and the error tells what a duration looks like."""
    with pytest.raises(InvalidDuration, match=re.escape("s, min, h, d")):
        parse_duration(text)


@given(text=st.text(max_size=12) | st.integers(1, 500).map(lambda digits: "9" * digits + ".5d"))
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    """No text makes anything but a duration or InvalidDuration."""
    try:
        assert parse_duration(text) >= 0
    except InvalidDuration as error:
        assert text in str(error)  # noqa: PT017 - either is right


@given(instant=INSTANTS)
def test_iso_round_trip(instant: Instant) -> None:
    """What is written as ISO 8601 is read back as the same moment, by Python and by people."""
    text = iso(instant)

    assert to_instant(datetime.fromisoformat(text)) == instant
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z", text)


@given(instant=st.integers(LATEST + 1, 10**20).map(Instant))
def test_beyond_the_calendar(instant: Instant) -> None:
    """A moment that no calendar holds is written as the last one, and raises nothing."""
    assert to_datetime(instant).year == 9999
    assert iso(instant).startswith("9999-12-31T")


@given(instant=INSTANTS)
def test_datetime_round_trip(instant: Instant) -> None:
    """An instant survives the way through a datetime, which is aware and in UTC."""
    moment = to_datetime(instant)

    assert moment.utcoffset() == timedelta(0)
    assert to_instant(moment) == instant


EARLY, LATE = datetime(1970, 1, 2), datetime(9999, 12, 30)  # noqa: DTZ001 - bounds have no zone


@given(
    moment=st.datetimes(EARLY, LATE, timezones=st.just(UTC)),
    offset=st.integers(-14 * 60, 14 * 60),
)
def test_an_instant_has_no_zone(moment: datetime, offset: int) -> None:
    """The same moment told in another zone is the same instant; parts of a millisecond go."""
    elsewhere = moment.astimezone(timezone(timedelta(minutes=offset)))

    assert to_instant(elsewhere) == to_instant(moment)
    assert timedelta(0) <= moment - to_datetime(to_instant(moment)) < timedelta(milliseconds=1)


def test_naive_is_utc() -> None:
    """A datetime that tells no zone is taken as UTC."""
    assert iso(to_instant(datetime.fromisoformat("2026-11-22T10:02"))) == "2026-11-22T10:02:00Z"


@given(one=INSTANTS, other=INSTANTS)
def test_text_sorts_as_time(one: Instant, other: Instant) -> None:
    """Of two whole seconds, the earlier one is the smaller text."""
    earlier, later = sorted(Instant(moment // 1000 * 1000) for moment in (one, other))

    assert iso(earlier) <= iso(later)


@given(hour=st.integers(0, 10**6), within=st.integers(0, HOUR - 1))
def test_hours_are_buckets(hour: int, within: int) -> None:
    """Every moment of an hour falls into that hour."""
    assert hour_of(Instant(hour * HOUR + within)) == hour
