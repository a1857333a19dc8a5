"""Sources that fall silent: against which rhythm that is told, and what it means for trials.

Conversions that a silent source would have told are not failures. While it is silent, a trial's
time to convert stands still; what was never told afterwards stays out for good, so that a trial
counts as much as could be seen of it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from experiment_engine.domain.bandit.delay_curve import DelayCurve
from experiment_engine.domain.bandit.statistics import Floats
from experiment_engine.domain.moments import DAY, HOUR, Duration, Instant

# How a rhythm is learned.
DAYS_LOOKED_AT = 14
FEWEST_DAYS = 3  # whole ones: with less nothing is usual
QUIET_DAYS = 0.25  # the quarter of the days that bring least: two in seven are at a weekend

# What counts as silence, besides its least length, which is configured.
EXPECTED_AT_LEAST = 30.0  # minutes with an event, at the pace of a quiet day

# What it means for trials.
HOLDS_AT_MOST = Duration(7 * DAY)  # a source that never comes back holds nothing longer
WAITS_FOR_LATE = Duration(DAY)  # after it came back
FILLED = 0.5  # of what was expected: with so many late events the gap counts as filled

MATTERS = 0.1  # the share of a cohort's conversions from which on their source holds its trials
KNOWN_FROM = 20  # conversions: with fewer, every source that tells of goals holds them

ENGINE = "engine"  # whose silence is our own: nobody took in
EVENTS, GOALS = "events", "goals"  # what a source tells: anything, or conversions


class Stream(NamedTuple):
    """What one source tells: everything, or conversions alone."""

    source: str
    told: str


class Silence(NamedTuple):
    """A span in which a stream, or the engine itself, was silent."""

    source: str
    told: str
    since: Instant
    until: Instant | None  # None: it still is
    expected: float  # minutes with an event, by the rhythm; of a span that has ended
    late: int  # such minutes of which events have come since
    filled_at: Instant | None  # from when on the span holds nothing any more

    @property
    def stream(self) -> Stream:
        """Return whose silence it is."""
        return Stream(self.source, self.told)

    def end(self, now: Instant) -> Instant:
        """Return up to when it holds trials, as it stands now."""
        return min(self.until or now, Instant(self.since + HOLDS_AT_MOST), now)

    def may_be_filled(self, now: Instant) -> bool:
        """Say whether late events are still waited for."""
        return self.filled_at is None and now < self.end(now) + WAITS_FOR_LATE

    @property
    def is_filled(self) -> bool:
        """Say whether enough has come late."""
        return self.until is not None and 0 < FILLED * self.expected <= self.late


@dataclass(frozen=True)
class Rhythm:
    """In how many minutes of each hour of a quiet day a source is heard, by hour (UTC).

    Minutes and not events: what comes in bursts, such as once an hour, says little about the time
    in between.
    """

    usual: Floats  # shape (24,)

    @classmethod
    def of(cls, counts: Mapping[int, int], this_hour: int) -> "Rhythm | None":
        """Learn from counts by hour (since 1970) of the whole days before; None: too few days.

        The shape of the day is the mean one; its height that of the quieter days.
        """
        first = max(min(counts, default=this_hour), this_hour - DAYS_LOOKED_AT * 24)
        days = (this_hour - first) // 24
        if days < FEWEST_DAYS:
            return None
        hours = range(this_hour - days * 24, this_hour)
        table = np.array([counts.get(hour, 0) for hour in hours], np.float64).reshape(days, 24)
        totals = table.sum(axis=1)
        if not totals.any():
            return None
        height = float(np.quantile(totals, QUIET_DAYS, method="lower"))
        usual = np.roll(table.mean(axis=0) * height / totals.mean(), this_hour % 24)
        return cls(usual)

    def expected(self, since: Instant, until: Instant) -> float:
        """Return in how many minutes between two moments a quiet day would bring an event."""
        if until <= since:
            return 0.0
        days, rest = divmod(until - since, DAY)
        total, at = days * float(self.usual.sum()), Instant(until - rest)
        while at < until:
            end = min(Instant((at // HOUR + 1) * HOUR), until)
            total += float(self.usual[at // HOUR % 24]) * (end - at) / HOUR
            at = end
        return total


def is_silent(rhythm: Rhythm | None, heard_at: Instant, now: Instant, after: Duration) -> bool:
    """Say whether so long a silence is unusual: long enough, and much was to come."""
    if rhythm is None or now - heard_at < after:
        return False
    return rhythm.expected(heard_at, now) >= EXPECTED_AT_LEAST


@dataclass(frozen=True)
class Held:
    """The spans of which a cohort's conversions were not told, apart from one another."""

    spans: tuple[tuple[Instant, Instant], ...] = ()
    waits_from: Instant | None = None  # late conversions may still come from then on

    @classmethod
    def by(cls, silences: Iterable[Silence], told_by: Mapping[str, int], now: Instant) -> "Held":
        """Return what silences hold of a cohort whose conversions these sources tell."""
        mine = [s for s in silences if s.filled_at is None and _matters(s, told_by)]
        spans: list[tuple[Instant, Instant]] = []
        for since, until in sorted((s.since, s.end(now)) for s in mine):
            if spans and since <= spans[-1][1]:
                spans[-1] = (spans[-1][0], max(spans[-1][1], until))
            elif since < until:
                spans.append((since, until))
        waiting = [s.since for s in mine if s.may_be_filled(now)]
        return cls(tuple(spans), min(waiting, default=None))

    def seen(self, curve: DelayCurve, triggered: Floats, now: Instant) -> Floats:
        """Return the share of conversions that could be seen by now, by time of the trigger."""
        share = curve.arrived(now - triggered)
        for since, until in self.spans:
            share = share - (curve.arrived(until - triggered) - curve.arrived(since - triggered))
        return np.clip(share, 0.0, 1.0)

    def overlaps(self, since: Instant, until: Instant) -> bool:
        """Say whether anything of a span was not told."""
        return any(start < until and since < end for start, end in self.spans)


NOTHING_HELD = Held()


def _matters(silence: Silence, told_by: Mapping[str, int]) -> bool:
    known = sum(told_by.values())
    if silence.source == ENGINE or known < KNOWN_FROM:
        return True
    return told_by.get(silence.source, 0) >= MATTERS * known
