"""Quiet hours around every change of the clocks from 2024 to 2030, against every single minute.

`ZONE_CASES` and `ZONE_SEED` choose how many cases the long form has, and which.
"""

import os
import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest

from experiment_engine.domain.delivery.quiet_hours import QuietHours
from experiment_engine.domain.moments import MINUTE, Instant, iso, to_instant

SEED = int(os.environ.get("ZONE_SEED", "20261122"))
FEW, MANY = 10_000, int(os.environ.get("ZONE_CASES", "200000"))
ZONES = (
    *("UTC", "Asia/Kolkata", "Asia/Kathmandu", "Asia/Kabul", "Asia/Yangon", "Asia/Tehran"),
    *("America/St_Johns", "America/New_York", "America/Chicago", "America/Denver"),
    *("America/Los_Angeles", "America/Anchorage", "America/Adak", "America/Sao_Paulo"),
    *("America/Santiago", "America/Asuncion", "America/Havana", "America/Nuuk"),
    *("America/Scoresbysund", "America/Mexico_City", "Australia/Lord_Howe"),
    *("Australia/Adelaide", "Australia/Sydney", "Australia/Eucla", "Pacific/Chatham"),
    *("Pacific/Apia", "Pacific/Norfolk", "Pacific/Easter", "Pacific/Kiritimati"),
    *("Pacific/Auckland", "Antarctica/Troll", "Africa/Casablanca", "Africa/El_Aaiun"),
    *("Africa/Cairo", "Asia/Beirut", "Asia/Jerusalem", "Asia/Gaza", "Europe/London"),
    *("Europe/Dublin", "Europe/Paris", "Europe/Chisinau", "Atlantic/Azores"),
)
BEFORE, AROUND = 30 * 60, 5 * 24 * 60  # minutes looked at before a change, and in all


@cache
def changes_of(zone: str) -> Sequence[datetime]:
    """Return the minutes at which the zone's clocks are set; a quiet day where there are none."""
    place, found = ZoneInfo(zone), []
    hour = datetime(2024, 1, 1, tzinfo=UTC)
    while hour.year < 2031:
        following = hour + timedelta(hours=1)
        if hour.astimezone(place).utcoffset() != following.astimezone(place).utcoffset():
            minutes = (hour + timedelta(minutes=minute) for minute in range(1, 61))
            before = hour.astimezone(place).utcoffset()
            found.append(next(m for m in minutes if m.astimezone(place).utcoffset() != before))
        hour = following
    return found or [datetime(2026, 11, 22, tzinfo=UTC)]


def local_minutes(zone: str, first: datetime) -> list[int]:
    """Return the minute of the user's day for every minute from an instant on."""
    place = ZoneInfo(zone)
    told = ((first + timedelta(minutes=minute)).astimezone(place) for minute in range(AROUND))
    return [local.hour * 60 + local.minute for local in told]


def window(change: datetime, zone: str, chance: random.Random) -> tuple[int, int]:
    """Draw start and end in minutes: anywhere, none, all day, or at the edge of the change."""
    local = change.astimezone(ZoneInfo(zone))
    edges = [(local.hour * 60 + local.minute + shift) % 1440 for shift in range(-120, 121, 15)]
    kind = chance.randrange(6)
    start = chance.choice(edges) if kind < 3 else chance.randrange(1440)
    end = chance.choice(edges) if kind in (0, 3) else chance.randrange(1440)
    return (
        (start, start) if kind == 5 else (start, (start - 1) % 1440) if kind == 4 else (start, end)
    )


def cases(number: int, places: Sequence[tuple[str, datetime]]) -> Iterator[str]:
    """Go through at least so many cases; name those that are wrong."""
    chance = random.Random(SEED)
    for zone, change in places:
        first = change - timedelta(minutes=BEFORE)
        begin, local = to_instant(first), local_minutes(zone, first)
        for _ in range(-(-number // len(places))):
            start, end = window(change, zone, chance)
            quiet = QuietHours(time(*divmod(start, 60)), time(*divmod(end, 60)))
            resting = {(start + step) % 1440 for step in range((end - start) % 1440)}
            minute = chance.randrange(2 * BEFORE)
            within = chance.choice((0, MINUTE - 1, chance.randrange(MINUTE)))
            instant = Instant(begin + minute * MINUTE + within)
            later = next(m for m in range(minute, AROUND) if local[m] not in resting)
            free = instant if later == minute else Instant(begin + later * MINUTE)
            if quiet.holds(instant, zone) != (local[minute] in resting):
                yield f"{zone} {quiet} at {iso(instant)}"
            if quiet.ends_after(instant, zone) != free:
                yield f"{zone} {quiet} from {iso(instant)} ends {iso(free)}"


def test_some_changes() -> None:
    """At ten thousand moments near a change, in all zones: quiet as the user's clock says."""
    chance = random.Random(f"{SEED} changes")
    places = [(zone, chance.choice(changes_of(zone))) for zone in ZONES]
    wrong = list(cases(FEW, places))
    print(f"seed {SEED}: {FEW} cases, {len(places)} zones, {len(wrong)} wrong")
    assert not wrong


@pytest.mark.long
def test_all_changes() -> None:
    """The same at two hundred thousand moments, near every change from 2024 to 2030."""
    places = [(zone, change) for zone in ZONES for change in changes_of(zone)]
    wrong = list(cases(MANY, places))
    print(f"seed {SEED}: {MANY} cases, {len(ZONES)} zones, {len(places)} changes, {wrong[:3]}")
    assert not wrong
