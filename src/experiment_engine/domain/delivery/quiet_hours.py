"""When messages rest, in the user's own zone."""

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from experiment_engine.domain.moments import MINUTE, Instant, to_datetime, to_instant


@dataclass(frozen=True, slots=True)
class QuietHours:
    """A daily span in local time; it may go over midnight. Start is quiet, end is not."""

    start: time
    end: time

    def holds(self, instant: Instant, zone: str) -> bool:
        """Say whether the instant lies in the quiet hours of the zone."""
        return _is_quiet(self, instant // MINUTE, zone)

    def ends_after(self, instant: Instant, zone: str) -> Instant:
        """Return the first instant at or after the given one that is not quiet.

        Looks at every local end that could apply, so that a day with a clock change, a window
        over midnight and an end that a clock change skips are all right.
        """
        if not self.holds(instant, zone):
            return instant
        place = find_zone(zone)
        local = to_datetime(instant).astimezone(place)
        for days in range(-1, 3):
            day = local.date() + timedelta(days=days)
            for fold in (0, 1):
                end = datetime.combine(day, self.end, place).replace(fold=fold).astimezone(UTC)
                candidate = to_instant(end)
                if candidate > instant and not self.holds(candidate, zone):
                    is_set = end.astimezone(place).utcoffset() != local.utcoffset()
                    return self._scan(instant, zone) if is_set else candidate
        return self._scan(instant, zone)

    def _scan(self, instant: Instant, zone: str) -> Instant:
        # Only where clocks are set on the way: that may end the quiet hours before their time.
        candidate = Instant((instant // MINUTE + 1) * MINUTE)
        while self.holds(candidate, zone):
            candidate = Instant(candidate + MINUTE)
        return candidate


@lru_cache(maxsize=4096)
def _is_quiet(quiet: QuietHours, minute: int, zone: str) -> bool:
    local = to_datetime(Instant(minute * MINUTE)).astimezone(find_zone(zone)).time()
    if quiet.start <= quiet.end:
        return quiet.start <= local < quiet.end
    return local >= quiet.start or local < quiet.end


@lru_cache(maxsize=1024)
def find_zone(name: str) -> ZoneInfo:
    """Return the zone; raise ValueError if there is none of that name."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, OSError, ValueError) as error:
        raise ValueError(f'there is no time zone "{name}"') from error


@lru_cache(maxsize=4096)
def is_zone(name: str) -> bool:
    """Say whether a time zone has this name."""
    try:
        find_zone(name)
    except ValueError:
        return False
    return True
