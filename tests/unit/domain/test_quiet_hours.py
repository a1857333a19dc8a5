"""When messages rest in the user's own zone, against an oracle that looks at every minute."""

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiment_engine.domain.delivery.quiet_hours import QuietHours, find_zone, is_zone
from experiment_engine.domain.moments import DAY, MINUTE, Instant, iso, to_instant

# Zone, and a day (UTC) around which its clocks change; the first has no changes.
CASES = [
    ("Asia/Kolkata", "2026-11-22"),
    ("Asia/Kathmandu", "2026-11-22"),  # 45 minutes off
    ("America/St_Johns", "2026-03-08"),
    ("America/St_Johns", "2026-11-01"),
    ("Australia/Lord_Howe", "2026-04-05"),  # by half an hour
    ("Australia/Lord_Howe", "2026-10-04"),
    ("Pacific/Chatham", "2026-04-05"),
    ("Pacific/Chatham", "2026-09-27"),
    ("Africa/Casablanca", "2026-02-15"),  # before Ramadan, back
    ("Africa/Casablanca", "2026-03-22"),
    ("Pacific/Apia", "2011-12-30"),  # a day that there was not
    ("Antarctica/Troll", "2026-03-29"),  # by two hours
    ("Antarctica/Troll", "2026-10-25"),
    ("America/New_York", "2026-03-08"),
    ("America/New_York", "2026-11-01"),
]
WINDOWS = [
    ("23:00", "08:00"),  # over midnight
    ("13:00", "14:30"),  # inside a day
    ("00:00", "00:00"),  # none
    ("08:00", "07:59"),  # all but a minute
    ("01:30", "02:30"),  # where clocks are set
    ("01:30", "03:00"),
    ("22:00", "02:00"),
    ("02:30", "01:30"),  # never quiet in an hour that is left out
    ("00:00", "23:59"),
]
DAYS_AROUND = 1
MINUTES = 24 * 60


def quiet_hours(start: str, end: str) -> QuietHours:
    return QuietHours(time.fromisoformat(start), time.fromisoformat(end))


@cache
def local_minutes(zone: str, day: str) -> tuple[Instant, Sequence[int]]:
    """Return the first instant, and the local minute of the day for every minute from then on."""
    first = datetime.fromisoformat(day).replace(tzinfo=UTC) - timedelta(days=DAYS_AROUND)
    place = ZoneInfo(zone)
    local = [
        (first + timedelta(minutes=minute)).astimezone(place).timetuple()
        for minute in range((2 * DAYS_AROUND + 4) * MINUTES)
    ]
    return to_instant(first), [told.tm_hour * 60 + told.tm_min for told in local]


@cache
def quiet_minutes(quiet: QuietHours) -> frozenset[int]:
    """Return every minute of a local day that is quiet, by walking from start to end."""
    start = quiet.start.hour * 60 + quiet.start.minute
    end = quiet.end.hour * 60 + quiet.end.minute
    return frozenset((start + step) % MINUTES for step in range((end - start) % MINUTES))


@pytest.mark.parametrize(("zone", "day"), CASES)
def test_every_minute(zone: str, day: str) -> None:
    """A minute is quiet exactly where the user's own clock says so, also when it is set."""
    first, local = local_minutes(zone, day)
    wrong = []
    for start, end in WINDOWS:
        quiet = quiet_hours(start, end)
        resting = quiet_minutes(quiet)
        for minute in range(0, 2 * DAYS_AROUND * MINUTES, 5):
            instant = Instant(first + minute * MINUTE)
            if quiet.holds(instant, zone) != (local[minute] in resting):
                wrong.append((start, end, iso(instant)))

    assert not wrong


def first_free(quiet: QuietHours, zone: str, day: str, minute: int) -> Instant | None:
    """Return the first minute from this one on that is not quiet, by looking at each."""
    first, local = local_minutes(zone, day)
    resting = quiet_minutes(quiet)
    for later in range(minute, len(local)):
        if local[later] not in resting:
            return Instant(first + later * MINUTE)
    return None


@pytest.mark.parametrize(("zone", "day"), CASES)
def test_the_end_of_the_quiet_hours(zone: str, day: str) -> None:
    """The end is the first moment that is not quiet, also in a night whose clocks are set."""
    first, _ = local_minutes(zone, day)
    wrong = []
    for start, end in WINDOWS:
        quiet = quiet_hours(start, end)
        for minute in range(0, 2 * DAYS_AROUND * MINUTES, 23):
            instant = Instant(first + minute * MINUTE)
            found = quiet.ends_after(instant, zone)
            if found != first_free(quiet, zone, day, minute):
                wrong.append((start, end, iso(instant), iso(found)))

    assert not wrong


TIMES = st.times().map(lambda told: told.replace(second=0, microsecond=0))


@settings(max_examples=300)
@given(
    case=st.sampled_from(CASES),
    start=TIMES,
    end=TIMES,
    minute=st.integers(0, 2 * DAYS_AROUND * MINUTES),
    within=st.integers(0, MINUTE - 1),
)
def test_any_window(
    case: tuple[str, str], start: time, end: time, minute: int, within: int
) -> None:
    """Whatever the window and the moment: quiet as the clock says, and its end is the first."""
    zone, day = case
    first, local = local_minutes(zone, day)
    quiet = QuietHours(start, end)
    instant = Instant(first + minute * MINUTE + within)

    holds = quiet.holds(instant, zone)

    assert holds == (local[minute] in quiet_minutes(quiet))
    expected = first_free(quiet, zone, day, minute) if holds else instant
    assert quiet.ends_after(instant, zone) == expected


def test_a_day_that_there_was_not() -> None:
    """Apia went from 29 to 31 December 2011: a rest from 22:00 to 08:00 ends on the 31st."""
    quiet = quiet_hours("22:00", "08:00")
    late = to_instant(datetime(2011, 12, 29, 23, 30, tzinfo=ZoneInfo("Pacific/Apia")))

    end = quiet.ends_after(late, "Pacific/Apia")

    assert iso(end) == "2011-12-30T18:00:00Z"  # 08:00 at +14
    assert end - late < DAY


def test_an_empty_window_never_rests() -> None:
    """A window that ends as it begins holds at no time."""
    empty = quiet_hours("08:00", "08:00")
    eight = to_instant(datetime(2026, 11, 22, 8, 0, tzinfo=UTC))

    assert not empty.holds(eight, "UTC")
    assert empty.ends_after(eight, "UTC") == eight


@pytest.mark.parametrize(
    "name", ["", " ", "Mars/Olympus", "../../etc/passwd", "/etc/passwd", "Asia/", "a" * 500, "\0"]
)
def test_no_zone(name: str) -> None:
    """What is no zone is known as such, whatever a user's property says, and nothing is read."""
    assert not is_zone(name)
    with pytest.raises(ValueError, match="time zone"):
        find_zone(name)


@given(name=st.text(max_size=30))
def test_any_text_is_a_zone_or_not(name: str) -> None:
    """No text from outside makes the question fail."""
    if is_zone(name):
        assert find_zone(name).key == name
