"""Changes of the world, looked for in the counters by day."""

from collections.abc import Sequence
from typing import cast

from tests.support.builders import NOW, a_cohort
from tests.support.fakes import CountingChance

from experiment_engine.application.gather import Learning, _changes, day_of
from experiment_engine.application.ports import Evidence
from experiment_engine.domain.bandit.change_alarm import Change
from experiment_engine.domain.bandit.delay_curve import DelayCurve
from experiment_engine.domain.delivery.experiment import Mode
from experiment_engine.domain.identifiers import CohortName, ComboKey
from experiment_engine.domain.moments import DAY, Instant

COHORT = a_cohort()
TODAY = day_of(NOW)


class Days:
    """Counters of one combo by day: 500 trials, of which 25 convert, and 2 after a fall."""

    def __init__(self, first: int, fell_on: int) -> None:
        self._first, self._fell_on = first, fell_on
        self._key = COHORT.space.combos[0].key

    def days(
        self, mode: Mode, cohort: CohortName, hours: tuple[int, int]
    ) -> Sequence[tuple[int, ComboKey, int, int]]:
        return [
            (day, self._key, 500, 25 if day < self._fell_on else 2)
            for day in range(max(self._first, hours[0] // 24), hours[1] // 24)
        ]


def noticed(
    days: Days, known: Sequence[Change] = (), now: Instant = NOW
) -> tuple[tuple[int, int], ...]:
    """Return the new changes: since when, and noticed when, in days before today."""
    learning = Learning({COHORT.name: COHORT}, Mode.LIVE, CountingChance())
    curve = DelayCurve(COHORT.goal.window, {0: 10_000})  # everybody converts within the minute
    found = _changes(COHORT, curve, known, learning, cast(Evidence, days), now)
    return tuple((change.since - day_of(now), change.noticed - day_of(now)) for change in found)


def test_a_fall_is_found_on_its_day() -> None:
    """Rates that fell twenty days ago are a change since that day."""
    ((since, told),) = noticed(Days(TODAY - 60, TODAY - 20))

    assert (since, told) == (-20, -20)


def test_nothing_is_found_where_nothing_changed() -> None:
    assert noticed(Days(TODAY - 60, TODAY + 1)) == ()


def test_what_is_known_is_not_found_again() -> None:
    """Only the days since the last known change are looked at, so it stays one change."""
    known = Change(TODAY - 20, TODAY - 19, 50.0, 20.0)

    assert noticed(Days(TODAY - 60, TODAY - 20), [known]) == ()


def test_today_is_not_over() -> None:
    """A day is looked at when it is over, not before."""
    assert noticed(Days(TODAY - 60, TODAY)) == ()
    tomorrow = Instant(NOW + DAY)
    assert noticed(Days(TODAY - 60, TODAY), now=tomorrow) == ((-1, -1),)
