"""What a cohort has achieved so far: the view behind the page of results."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from itertools import combinations
from operator import itemgetter
from typing import Any, TypeVar

import numpy as np

from experiment_engine.application.evidence import Learned
from experiment_engine.application.measure import EVEN
from experiment_engine.application.page_records import DayCount
from experiment_engine.application.report_measurement import measurement
from experiment_engine.application.report_records import ComboCounts
from experiment_engine.application.standings import Standings
from experiment_engine.domain.bandit.delay_curve import DelayCurve, weighed_trials
from experiment_engine.domain.bandit.reward import Group
from experiment_engine.domain.bandit.statistics import Floats
from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.cohorts.combo import DIMENSIONS
from experiment_engine.domain.measurement.interval import wilson_interval
from experiment_engine.domain.measurement.off_policy import WeightSums, overlap, snips
from experiment_engine.domain.measurement.standing import Standing
from experiment_engine.domain.moments import DAY, Duration, Instant

Name = TypeVar("Name")

_WEEK = 7  # days whose messages say where messages go now
THIN = 100  # with fewer trials a number says little, and is hatched


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and the range that holds it in 95 of 100 cases."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Day:
    """What came of everybody whose trigger fell on one day or before."""

    day: int  # since 1970
    messaged: int
    sent: int
    converted: int
    no_message: Estimate | None  # conversions to expect of the same people without messages
    even_split: Estimate | None  # ... with every combo as often as every other
    is_open: bool  # some may still convert
    sent_by_level: Mapping[str, Mapping[str, int]]  # of this day alone: dimension -> level


@dataclass(frozen=True, slots=True)
class RankedCombo:
    """One combo among all of its cohort."""

    place: int  # 1 is the one with the highest rate
    combo_key: str
    levels: Mapping[str, str]
    rate: float
    quantiles: Sequence[float]
    probability_best: float
    trials: int
    successes: int
    sent: int
    share_now: float  # of the last week's messages

    @property
    def is_thin(self) -> bool:
        """Say whether there is little behind the numbers."""
        return self.trials < THIN


@dataclass(frozen=True, slots=True)
class Cell:
    """Everything with one level of one dimension and one of another."""

    row: str
    column: str
    rate: Estimate
    trials: int
    share: float  # of the last week's messages
    is_thin: bool


@dataclass(frozen=True, slots=True)
class LevelRate:
    """The mean rate of every combo with one level."""

    level: str
    rate: Estimate
    probability_best: float  # that the best combo of all has it
    trials: int


@dataclass(frozen=True, slots=True)
class CohortResults:
    """Everything that the page of one cohort shows, from one reading of the counters."""

    cohort: str
    goal: str
    window: Duration
    policy: str
    mode: str
    paused: bool
    started_on: int | None  # day since 1970
    days_running: int
    combos: int
    combos_tried: int
    messaged: int
    sent: int
    opened: int
    converted: int
    rate: Estimate | None
    held_out: int
    holdout_rate: Estimate | None
    lift: Estimate | None  # relative
    no_lift: str | None  # why there is none
    extra: Estimate | None  # conversions over an even split
    no_extra: str | None
    mismatch: str | None  # why nothing may be compared
    days: Sequence[Day]
    ranked: Sequence[RankedCombo]
    levels: Mapping[str, Sequence[LevelRate]]
    frozen: str | None = None
    changes: Sequence[Mapping[str, Any]] = ()  # days from which people answered differently
    limited: bool = False  # a combo's share would have moved too fast
    # What the numbers were drawn from; its name keeps it out of the page's data.
    _standing: Standing | None = field(default=None, repr=False, compare=False)

    @property
    def standing(self) -> Standing | None:
        """Return how the combos stand against each other."""
        return self._standing

    def cells(self, rows: str, columns: str, cohort: Cohort) -> list[list[Cell]]:
        """Return the cells of a pair of dimensions, every other choice held even."""
        return _cells(self, rows, columns, cohort)


def pairs_of(cohort: Cohort) -> list[tuple[str, str]]:
    """Return the pairs of dimensions that have a choice."""
    having = [name for name in DIMENSIONS if len(levels_of(cohort, name)) > 1]
    order = ("channel", "angle", "offer", "delay")  # rows are what has few levels or long names
    return list(combinations(sorted(having, key=order.index), 2))


def levels_of(cohort: Cohort, dimension: str) -> list[str]:
    """Return a dimension's levels in the order of the configuration; delays shortest first."""
    combos = cohort.space.combos
    if dimension == "delay":
        combos = tuple(sorted(combos, key=lambda combo: combo.delay))
    return list(dict.fromkeys(cohort.space.levels[combo.index][dimension] for combo in combos))


@dataclass(frozen=True)
class Counted:
    """The counters that the results of one cohort follow from."""

    totals: Sequence[ComboCounts]
    days: Sequence[DayCount]
    curve: DelayCurve
    measured: Mapping[str, float] = field(default_factory=dict)  # sums over all days
    measured_days: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    learned: Learned | None = None


def cohort_results(
    cohort: Cohort,
    counted: Counted,
    now: Instant,
    standings: Standings,
    *,
    mode: str,
    paused: bool,
    frozen: str | None = None,
) -> CohortResults:
    """Work out what a cohort has achieved."""
    messaged = [c for c in counted.totals if c.counted_for not in (Group.HOLDOUT, Group.HISTORY)]
    held_out = [c for c in counted.totals if c.counted_for == Group.HOLDOUT]
    trials, converted = sum(c.trials for c in messaged), sum(c.successes for c in messaged)
    held_trials, held_back = (
        sum(c.trials for c in held_out),
        sum(c.successes for c in held_out),
    )
    days = _days(cohort, counted, now)
    by_combo = _sums(cohort, messaged)
    weighed = _weighed(cohort, counted, by_combo, now)
    stands = standings.of(cohort, by_combo[:, 1], weighed) if trials else None
    recent = _recent_shares(cohort, counted.days, now)
    said = measurement(cohort, counted.measured, None, None, counted.learned)
    lift, even, ratio = said["lift"], said["even_split"], said["sample_ratio"]
    return CohortResults(
        cohort=cohort.name,
        goal=cohort.goal.event,
        window=cohort.goal.window,
        policy=cohort.policy.name,
        mode=mode,
        paused=paused,
        started_on=days[0].day if days else None,
        days_running=now // DAY - days[0].day + 1 if days else 0,
        combos=len(cohort.space),
        combos_tried=int((by_combo[:, 0] > 0).sum()),
        messaged=trials,
        sent=sum(c.sent for c in messaged),
        opened=sum(c.opened for c in messaged),
        converted=converted,
        rate=_proportion(converted, trials),
        held_out=held_trials,
        holdout_rate=_proportion(held_back, held_trials),
        lift=_estimate(lift, "relative", "relative_interval", 100.0),
        no_lift=lift.get("why_not"),
        extra=_estimate(even, "extra_conversions", "extra_interval", 1.0),
        no_extra=even.get("why_not"),
        mismatch=None if ratio["ok"] else said["winner"]["why_not"],
        days=days,
        ranked=[] if stands is None else _ranked(cohort, stands, by_combo, recent),
        levels={} if stands is None else _levels(cohort, stands, by_combo),
        frozen=frozen,
        changes=said["learning"]["changes"],
        limited=bool(said["learning"].get("limited")),
        _standing=stands,
    )


def _proportion(successes: int, trials: int) -> Estimate | None:
    if trials == 0:
        return None
    interval = wilson_interval(successes, trials)
    return Estimate(successes / trials, interval.low, interval.high)


def _estimate(said: Mapping[str, Any], name: str, interval: str, unit: float) -> Estimate | None:
    if said.get(name) is None or said.get(interval) is None:
        return None
    low, high = said[interval]
    return Estimate(said[name] / unit, low / unit, high / unit)


def _even_rates(counted: Counted) -> Mapping[int, Estimate]:
    """Return the rate that an even split would have had, of all up to each day."""
    rates, sums = {}, WeightSums()
    for day in sorted(counted.measured_days):
        todays = WeightSums.read(EVEN, counted.measured_days[day])
        sums = WeightSums(*(a + b for a, b in zip(astuple(sums), astuple(todays), strict=True)))
        if overlap(sums) is None:
            found = snips(sums)
            rates[day] = Estimate(found.value, found.interval.low, found.interval.high)
    return rates


def _sums(cohort: Cohort, counts: Sequence[ComboCounts]) -> Floats:
    """Return trials, successes and sent of each combo, shape (K, 3)."""
    sums = np.zeros((len(cohort.space), 3))
    for count in counts:
        combo = cohort.space.by_key.get(count.combo_key)  # type: ignore[call-overload]
        if combo is not None and count.counted_for == Group.COMBO:
            sums[combo.index] = count.trials, count.successes, count.sent
    return sums


def _weighed(cohort: Cohort, counted: Counted, sums: Floats, now: Instant) -> Floats:
    """Return each combo's trials, of which those of the last days count for less."""
    trials = sums[:, 0].copy()
    open_days = [c for c in counted.days if _is_open(c.day, cohort, now)]
    days = sorted({count.day for count in open_days})
    ages = np.array([max(0, now - (day * DAY + DAY // 2)) for day in days], dtype=np.float64)
    share = dict(zip(days, counted.curve.arrived(ages), strict=True)) if days else {}
    for count in open_days:
        combo = cohort.space.by_key.get(count.combo_key)  # type: ignore[call-overload]
        if combo is not None and count.counted_for == Group.COMBO:
            trials[combo.index] -= count.trials * (1 - share[count.day])
    return weighed_trials(trials, sums[:, 1], np.ones_like(trials))


def _is_open(day: int, cohort: Cohort, now: Instant) -> bool:
    return (day + 1) * DAY + cohort.goal.window > now


def _days(cohort: Cohort, counted: Counted, now: Instant) -> list[Day]:
    """Return every day from the first one on, summed up to it."""
    by_day: dict[int, list[DayCount]] = {}
    for count in counted.days:
        by_day.setdefault(count.day, []).append(count)
    if not by_day:
        return []
    messaged = sent = converted = held = held_back = 0
    days, rates, rate = [], _even_rates(counted), None
    for day in range(min(by_day), max(now // DAY, *by_day) + 1):
        todays = by_day.get(day, [])
        rate = rates.get(day, rate)
        written = [c for c in todays if c.counted_for != Group.HOLDOUT]
        spared = [c for c in todays if c.counted_for == Group.HOLDOUT]
        messaged += sum(c.trials for c in written)
        sent += sum(c.sent for c in written)
        converted += sum(c.successes for c in written)
        held += sum(c.trials for c in spared)
        held_back += sum(c.successes for c in spared)
        days.append(
            Day(
                day,
                messaged,
                sent,
                converted,
                _scaled(_proportion(held_back, held), messaged),
                _scaled(rate, messaged),
                _is_open(day, cohort, now),
                _by_level(written),
            )
        )
    return days


def _scaled(rate: Estimate | None, people: int) -> Estimate | None:
    if rate is None:
        return None
    return Estimate(rate.value * people, rate.low * people, rate.high * people)


def _by_level(counts: Sequence[DayCount]) -> Mapping[str, Mapping[str, int]]:
    sums: dict[str, dict[str, int]] = {name: {} for name in DIMENSIONS}
    for count in counts:
        for dimension, level in zip(DIMENSIONS, count.combo_key.split("|"), strict=True):
            sums[dimension][level] = sums[dimension].get(level, 0) + count.sent
    return sums


def _recent_shares(cohort: Cohort, counts: Sequence[DayCount], now: Instant) -> Floats:
    """Return each combo's share of the last week's messages, shape (K,)."""
    sent = np.zeros(len(cohort.space))
    for count in counts:
        combo = cohort.space.by_key.get(count.combo_key)  # type: ignore[call-overload]
        if combo is not None and count.day > now // DAY - _WEEK:
            sent[combo.index] += count.sent if count.counted_for != Group.HOLDOUT else 0
    shares: Floats = sent / max(1.0, sent.sum())
    return shares


def _ranked(cohort: Cohort, stands: Standing, sums: Floats, recent: Floats) -> list[RankedCombo]:
    order = np.argsort(-stands.means, kind="stable")
    return [
        RankedCombo(
            place=place,
            combo_key=cohort.space[index].key,
            levels=cohort.space.levels[index],
            rate=float(stands.means[index]),
            quantiles=[float(q) for q in stands.quantiles[:, index]],
            probability_best=float(stands.best[index]),
            trials=int(sums[index, 0]),
            successes=int(sums[index, 1]),
            sent=int(sums[index, 2]),
            share_now=float(recent[index]),
        )
        for place, index in enumerate(map(int, order), start=1)
    ]


def _levels(cohort: Cohort, stands: Standing, sums: Floats) -> Mapping[str, Sequence[LevelRate]]:
    found = {}
    for dimension in DIMENSIONS:
        places = _places(cohort, itemgetter(dimension))
        found[dimension] = [
            LevelRate(
                level,
                Estimate(*stands.together(places[level])),
                float(stands.best[places[level]].sum()),
                int(sums[places[level], 0].sum()),
            )
            for level in levels_of(cohort, dimension)
        ]
    return found


def _cells(results: CohortResults, rows: str, columns: str, cohort: Cohort) -> list[list[Cell]]:
    if results.standing is None:
        return []
    places = _places(cohort, lambda levels: (levels[rows], levels[columns]))
    by_key = {combo.combo_key: combo for combo in results.ranked}
    grid = []
    for row in levels_of(cohort, rows):
        line = []
        for column in levels_of(cohort, columns):
            inside = places[row, column]
            combos = [by_key[cohort.space[place].key] for place in inside]
            trials = sum(combo.trials for combo in combos)
            line.append(
                Cell(
                    row,
                    column,
                    Estimate(*results.standing.together(inside)),
                    trials,
                    sum(combo.share_now for combo in combos),
                    trials < THIN,
                )
            )
        grid.append(line)
    return grid


def _places(cohort: Cohort, name: Callable[[Mapping[str, str]], Name]) -> dict[Name, list[int]]:
    found: dict[Name, list[int]] = {}
    for place, levels in enumerate(cohort.space.levels):
        found.setdefault(name(levels), []).append(place)
    return found
