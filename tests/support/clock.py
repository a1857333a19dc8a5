"""A clock that stands still until a test moves it."""

from datetime import UTC, datetime

from experiment_engine.domain.moments import Instant, iso, parse_duration, to_instant

MORNING = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)


class FakeClock:
    """Tells the time it was set to."""

    def __init__(self, start: datetime = MORNING) -> None:
        """Begin at `start`; a naive moment is UTC."""
        self._now = to_instant(start)

    def now(self) -> Instant:
        """Return the moment it was set to."""
        return self._now

    def set(self, moment: datetime) -> None:
        """Go to a moment, also back."""
        self._now = to_instant(moment)

    def advance(self, span: str) -> None:
        """Go forward by `"90s"`, `"2min"`, `"3d"`."""
        self._now = Instant(self._now + parse_duration(span))

    def iso(self, before: str = "0s") -> str:
        """Write the present, or a moment this long before it, as ISO 8601."""
        return iso(Instant(self._now - parse_duration(before)))

    def later(self, span: str) -> str:
        """Write the moment this long after the present as ISO 8601."""
        return iso(Instant(self._now + parse_duration(span)))
