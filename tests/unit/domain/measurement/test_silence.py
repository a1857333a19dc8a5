"""When a source counts as silent, and how much of a trial could be seen then."""

import numpy as np
import pytest
from benchmarks.silence import (
    PATTERNS,
    false_alarms,
    hours_of,
    minutes_of,
    noticed_after,
    rhythm_at,
)

from experiment_engine.domain.bandit.delay_curve import DelayCurve
from experiment_engine.domain.measurement.silence import (
    DAYS_LOOKED_AT,
    ENGINE,
    GOALS,
    HOLDS_AT_MOST,
    WAITS_FOR_LATE,
    Held,
    Rhythm,
    Silence,
    is_silent,
)
from experiment_engine.domain.moments import DAY, HOUR, MINUTE, Duration, Instant

NOW = Instant(20_000 * DAY + 9 * HOUR)
HOUR_NOW = NOW // HOUR
CURVE = DelayCurve(Duration(3 * DAY), {})
TOLD_BY = {"clevertap": 80, "amplitude": 15, "segment": 5}


def silence(
    source: str = "clevertap", since: int = NOW - 12 * HOUR, until: int | None = None
) -> Silence:
    """Return a silence, by default one of the last twelve hours that lasts."""
    end = None if until is None else Instant(until)
    return Silence(source, GOALS, Instant(since), end, 100.0, 0, None)


def test_the_rhythm_is_that_of_quiet_days() -> None:
    """The course of the day is the mean one, its height that of the quieter days."""
    course = [10 * (hour % 24) for hour in range(24)]
    counts = {HOUR_NOW - 96 + h: course[(HOUR_NOW - 96 + h) % 24] for h in range(96)}
    busy = {hour: 5 * n if hour >= HOUR_NOW - 48 else n for hour, n in counts.items()}

    rhythm = Rhythm.of(busy, HOUR_NOW)

    assert rhythm is not None
    assert rhythm.usual == pytest.approx(course)
    assert rhythm.expected(Instant(NOW - NOW % DAY + 2 * HOUR), NOW) == pytest.approx(
        sum(course[2:9])
    )
    assert rhythm.expected(Instant(NOW - 2 * DAY - HOUR // 2), NOW) == pytest.approx(
        2 * sum(course) + course[8] / 2
    )


def test_nothing_is_usual_before_three_days() -> None:
    """A new source is never called silent."""
    counts = dict.fromkeys(range(HOUR_NOW - 71, HOUR_NOW), 1_000)

    assert Rhythm.of(counts, HOUR_NOW) is None
    assert not is_silent(None, Instant(0), NOW, Duration(MINUTE))
    assert Rhythm.of(dict.fromkeys(range(HOUR_NOW - 100, HOUR_NOW), 0), HOUR_NOW) is None


def test_false_alarms_are_rare() -> None:
    """In simulated source-years without an outage the alarm is silent; seed 3, 2 years each."""
    years = 2
    for number, pattern in enumerate(PATTERNS):
        rng = np.random.default_rng([3, number])
        minutes = minutes_of(pattern, years * 365 + DAYS_LOOKED_AT, rng)
        assert len(list(false_alarms(minutes))) == 0, pattern


def test_an_outage_is_noticed() -> None:
    """At 5,000 events a day, an outage is noticed after an hour by day and 7 hours by night."""
    minutes = minutes_of(PATTERNS[2], 30, np.random.default_rng(4))
    rhythm = rhythm_at(hours_of(minutes), 29 * 24)
    assert rhythm is not None

    assert noticed_after(rhythm, Instant(29 * DAY + 15 * HOUR)) < 60 * MINUTE
    assert noticed_after(rhythm, Instant(29 * DAY + 1 * HOUR)) < 7 * HOUR


def arrived(hours: float) -> float:
    return float(CURVE.arrived(np.array([hours * HOUR], np.float64))[0])


def test_a_trial_counts_for_what_could_be_seen() -> None:
    """What the curve has inside of a silence is taken out, and nothing else."""
    since, until = NOW - 30 * HOUR, NOW - 18 * HOUR
    held = Held.by([silence(since=since, until=until)], TOLD_BY, NOW)
    triggered = np.array([NOW - 60 * HOUR, NOW - 20 * HOUR, NOW - 10 * HOUR], np.float64)

    assert held.seen(CURVE, triggered, NOW) == pytest.approx(
        [
            arrived(60) - (arrived(42) - arrived(30)),
            arrived(20) - arrived(2),
            arrived(10),
        ]
    )


def test_time_stands_still_while_it_lasts() -> None:
    """Of an open silence nothing is seen: a trial counts as it did when it began."""
    began = Instant(NOW - 12 * HOUR)
    triggered = np.array([began - hours * HOUR for hours in (0, 1, 5, 40)], np.float64)

    held = Held.by([silence()], TOLD_BY, NOW)

    assert held.seen(CURVE, triggered, NOW) == pytest.approx(CURVE.arrived(began - triggered))


def test_whose_silence_matters() -> None:
    """One that tells a tenth of the conversions does, and so does our own; others do not."""
    for source, spans in (("clevertap", 1), ("amplitude", 1), (ENGINE, 1), ("segment", 0)):
        assert len(Held.by([silence(source)], TOLD_BY, NOW).spans) == spans
    assert len(Held.by([silence("segment")], {"clevertap": 3}, NOW).spans) == 1  # not known yet


def test_spans_are_counted_once() -> None:
    """Silences that overlap hold what they hold together."""
    both = [
        silence(since=NOW - 10 * HOUR, until=NOW - 4 * HOUR),
        silence(ENGINE, since=NOW - 6 * HOUR, until=NOW - 2 * HOUR),
        silence("amplitude", since=NOW - HOUR),
    ]

    assert Held.by(both, TOLD_BY, NOW).spans == (
        (NOW - 10 * HOUR, NOW - 2 * HOUR),
        (NOW - HOUR, NOW),
    )


def test_who_never_comes_back_holds_a_week() -> None:
    """Then trials count on, and lift waits a day longer; what was filled holds nothing."""
    late = Instant(NOW + 30 * DAY)
    held = Held.by([silence(since=NOW)], TOLD_BY, late)

    assert held.spans == ((NOW, NOW + HOLDS_AT_MOST),)
    assert held.waits_from is None
    waiting = Instant(NOW + HOLDS_AT_MOST + WAITS_FOR_LATE - 1)
    assert Held.by([silence(since=NOW)], TOLD_BY, waiting).waits_from == NOW
    filled = silence(since=NOW)._replace(filled_at=late)
    assert Held.by([filled], TOLD_BY, late) == Held()
