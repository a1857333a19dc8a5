"""How often a source that is not silent is called so: simulated years of events.

    python benchmarks/silence.py [--years 200] [--seed 1]

Each pattern is a source-year of minutes: a day's course (a sine to a power, from nothing at night
to the peak), weekends, days and hours that differ by chance, and single events by Poisson. The
rule is the engine's own (`domain/measurement/silence.py`). Prints false alarms a year, and how
long an outage at the busiest and at the quietest hour lasts before it is noticed.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from experiment_engine.domain.bandit.statistics import Floats, Integers
from experiment_engine.domain.measurement.silence import DAYS_LOOKED_AT, Rhythm, is_silent
from experiment_engine.domain.moments import DAY, HOUR, MINUTE, Duration, Instant

AFTER = Duration(30 * MINUTE)
_MINUTES = 1_440


@dataclass(frozen=True)
class Pattern:
    """What a source brings."""

    name: str
    a_day: float  # events, on an ordinary weekday
    sharpness: float = 2.0  # 0: the same at every hour; the night is quieter with more
    weekend: float = 1.0
    days_differ: float = 0.0  # standard deviation of the logarithm
    hours_differ: float = 0.0  # coefficient of variation
    every: int = 1  # minutes: what came is told together


PATTERNS = (
    Pattern("steady, 200 a day", 200, 0),
    Pattern("day and night, 200 a day", 200),
    Pattern("day and night, 5,000 a day", 5_000),
    Pattern("day and night, 100,000 a day", 100_000),
    Pattern("weekends at half", 5_000, 2, weekend=0.5),
    Pattern("days differ by 30 %", 5_000, 2, weekend=0.7, days_differ=0.3),
    Pattern("days by 30 %, hours by 30 %", 5_000, 2, 0.7, 0.3, hours_differ=0.3),
    Pattern("the same, 300 a day", 300, 2, 0.7, 0.3, hours_differ=0.3),
    Pattern("told every hour", 5_000, 2, 0.7, 0.3, 0.3, every=60),
    Pattern("nights of nothing", 20_000, 6, 0.7, 0.3, hours_differ=0.3),
)


def minutes_of(pattern: Pattern, days: int, rng: np.random.Generator) -> Integers:
    """Draw events by minute; shape (days, 1440)."""
    hour = np.arange(_MINUTES) / 60
    course = ((1 - np.cos(2 * np.pi * (hour - 3) / 24)) / 2) ** pattern.sharpness
    height = np.exp(rng.normal(0, pattern.days_differ, days) - pattern.days_differ**2 / 2)
    height *= np.where(np.arange(days) % 7 >= 5, pattern.weekend, 1.0)
    rates = pattern.a_day * course / course.sum() * height[:, None]
    if pattern.hours_differ:
        shape = pattern.hours_differ**-2
        rates = rates * np.repeat(rng.gamma(shape, 1 / shape, (days, 24)), 60, axis=1)
    drawn: Integers = rng.poisson(rates)
    if pattern.every > 1:
        together = drawn.reshape(days, -1, pattern.every).sum(axis=2, keepdims=True)
        others = np.zeros((days, together.shape[1], pattern.every - 1), drawn.dtype)
        drawn = np.concatenate([others, together], axis=2).reshape(days, _MINUTES)
    return drawn


def hours_of(minutes: Integers) -> Integers:
    """Return in how many minutes of each hour something came."""
    heard: Integers = (minutes.reshape(-1, 60) > 0).sum(axis=1)
    return heard


def false_alarms(minutes: Integers, after: Duration = AFTER) -> Iterator[Instant]:
    """Return when the rule would have called the source silent; the first days only teach."""
    by_hour = hours_of(minutes)
    heard = np.flatnonzero(minutes.ravel()).tolist()
    for before, again in pairwise(heard):
        if (again - before) * MINUTE < after or before < DAYS_LOOKED_AT * _MINUTES:
            continue
        rhythm = rhythm_at(by_hour, before // 60)
        if is_silent(rhythm, Instant(before * MINUTE), Instant(again * MINUTE), after):
            yield Instant(before * MINUTE)


def rhythm_at(by_hour: Integers | Floats, hour: int) -> Rhythm | None:
    """Return the rhythm that the hours before have taught."""
    first = hour - DAYS_LOOKED_AT * 24
    return Rhythm.of({h: int(by_hour[h]) for h in range(first, hour)}, hour)


def noticed_after(rhythm: Rhythm, began: Instant, after: Duration = AFTER) -> Duration:
    """Return how long an outage that begins then lasts before it is noticed."""
    lasted = after
    while not is_silent(rhythm, began, Instant(began + lasted), after) and lasted < 7 * DAY:
        lasted = Duration(lasted + MINUTE)
    return lasted


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--years", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    print(f"{given.years} years a pattern, seed {given.seed}")
    for number, pattern in enumerate(PATTERNS):
        rng, alarms = np.random.default_rng([given.seed, number]), 0
        for _ in range(given.years):
            minutes = minutes_of(pattern, 365 + DAYS_LOOKED_AT, rng)
            alarms += len(list(false_alarms(minutes)))
        hours = hours_of(minutes)
        whole = 300 * 24
        rhythm = rhythm_at(hours, whole)
        assert rhythm is not None
        soon, late = (
            noticed_after(rhythm, Instant((whole + int(at)) * HOUR)) / MINUTE
            for at in (rhythm.usual.argmax(), rhythm.usual.argmin())
        )
        print(
            f"{pattern.name:32} {alarms / given.years:8.3f} a year;"
            f" noticed after {soon:.0f} to {late:.0f} min"
        )


if __name__ == "__main__":
    main()
