"""A source is silent for half a day: nothing is learned as zero, and late events make it whole."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pytest
from tests.support.builders import (
    CHECKOUT,
    World,
    a_cohort,
    a_world,
    converted,
    happened,
    some_rules,
)

from experiment_engine.adapters.storage import tables
from experiment_engine.application.gather import Learning, gather
from experiment_engine.application.learn import cells_of
from experiment_engine.application.measure import keep, measure
from experiment_engine.application.watch import Watched, keep_watch, release_source, watch
from experiment_engine.domain.bandit.cells import Cells
from experiment_engine.domain.measurement.silence import ENGINE, EVENTS, GOALS, Silence
from experiment_engine.domain.moments import DAY, HOUR, MINUTE, Duration, Instant

COHORT = a_cohort(delays=("2min",), angles=("a", "b", "c"), window=DAY, policy="uniform")
RULES = some_rules(COHORT, holdout_share=0.3)
AN_HOUR = 30  # triggers
RATE = 0.6
BEGINS, LASTS, HOURS = 78, 12, 120  # hours since the start: three days and a half, ...


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def worlds(request: pytest.FixtureRequest) -> Iterator[tuple[World, World]]:
    """Return two worlds in which the same people come and go."""
    with (
        a_world(RULES, database=request.param) as one,
        a_world(RULES, database=request.param) as other,
    ):
        yield one, other


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Return a world on each database."""
    with a_world(RULES, database=request.param) as opened:
        yield opened


@dataclass
class Life:
    """Hours in which people leave and come back; of some hours nobody tells at first."""

    world: World
    tells: bool = True  # the source of conversions
    watches: bool = True  # the engine runs its upkeep
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(11))
    users: int = 0
    coming: list[tuple[int, str]] = field(default_factory=list)

    def hour(self) -> None:
        """Let an hour go by."""
        world = self.world
        names = [f"u{self.users + number}" for number in range(AN_HOUR)]
        self.users += AN_HOUR
        for name in names:
            if self.rng.random() < RATE:
                after = 10 * MINUTE + int(self.rng.exponential(3 * HOUR))
                self.coming.append((world.now + after, name))
        world.take(*(happened(user=name) for name in names))
        world.clock.advance("5min")
        world.deliver()
        for number in range(11):
            world.clock.advance("5min")
            if self.tells:
                self._tell()
            if self.watches and number % 3 == 1:
                self.watch()

    def _tell(self) -> None:
        now = self.world.now
        come = sorted(one for one in self.coming if one[0] <= now)
        self.coming = [one for one in self.coming if one[0] > now]
        self.world.take(*(converted(user=name, at=at) for at, name in come))

    def watch(self) -> list[Watched]:
        """Listen as far as there is something to hear."""
        found, steps = self._watch(), []
        while found is not None:
            steps.append(found)
            found = self._watch() if found.more else None
        return steps

    def _watch(self) -> Watched | None:
        world = self.world
        with world.storage.evidence() as evidence:
            found = watch(world.rules, evidence, world.now)
        if found is not None:
            assert world.storage.run(partial(keep_watch, found))
        return found

    def cells(self) -> Cells:
        """Return what a policy would be fitted to now."""
        world = self.world
        learning = Learning(world.rules.cohorts, world.mode, world.chance)
        with world.storage.evidence() as evidence:
            (material,) = gather({}, learning, evidence, world.now).materials
        return cells_of(material)

    def rate(self) -> float:
        """Return the conversions of a trial, as a policy sees them now."""
        cells = self.cells()
        return float(cells.successes.sum() / cells.trials.sum())

    def lift(self) -> dict[str, float]:
        """Measure all that has matured; return the sums."""
        world = self.world
        cohort = world.rules.cohorts[CHECKOUT]
        while True:
            with world.storage.evidence() as evidence:
                step = measure(cohort, world.mode, world.rules, evidence, world.now)
            if step is None:
                break
            world.storage.run(partial(keep, step))
        rows = world.rows(tables.measurement_sum)
        return {row["name"]: row["value"] for row in rows if row["day"] == tables.ALL_DAYS}

    def silences(self) -> list[Silence]:
        """Return every silence that is kept."""
        with self.world.storage.evidence() as evidence:
            return list(evidence.silences(Instant(0)))


def test_an_outage_of_half_a_day(worlds: tuple[World, World]) -> None:
    """Half a day without conversions, which then come late: learning and lift are as without.

    While it lasts the rate that a policy sees stays within 5 % of the one without an outage, once
    it is noticed; with nobody listening it falls by more than 10 %. In the end learning's cells
    are equal to the last bit, and so is who counts for lift; conversions differ by at most 0.5 %:
    those at the very end of windows that closed before the silence was noticed.
    """
    whole, broken = Life(worlds[0]), Life(worlds[1])
    worst = deaf = 0.0
    first: dict[str, float] = {}
    for hour in range(HOURS):
        broken.tells = not BEGINS <= hour < BEGINS + LASTS
        whole.hour()
        broken.hour()
        if BEGINS <= hour < BEGINS + LASTS:
            lift = broken.lift()
            users = {name: n for name, n in lift.items() if name.endswith(".users")}
            off = abs(broken.rate() / whole.rate() - 1)
            if broken.silences():
                worst = max(worst, off)
                first = first or users
                assert users == first  # no window closes of which a part was not told
            if hour == BEGINS + LASTS - 1:
                deaf = 1 - without(broken) / whole.rate()

    ended, also = broken.silences()
    assert {(one.source, one.told) for one in (ended, also)} == {
        ("clevertap", EVENTS),
        ("clevertap", GOALS),
    }
    assert ended.filled_at is not None
    assert also.filled_at is not None
    began = whole.world.now - (HOURS - BEGINS) * HOUR
    assert began - HOUR <= ended.since <= began
    assert worst <= 0.05
    assert deaf >= 0.1
    one, other = whole.cells(), broken.cells()
    assert np.array_equal(one.trials, other.trials)
    assert np.array_equal(one.successes, other.successes)
    usual, found = whole.lift(), broken.lift()
    for name, value in usual.items():
        exact = name.endswith(".users")
        assert found[name] == (value if exact else pytest.approx(value, rel=0.005)), name
    assert usual["lift.messaged.users"] > 1_500
    assert not whole.silences()


def without(life: Life) -> float:
    """Return the rate that a policy would see if nobody had noticed the silence."""
    noticed = life.silences()
    assert noticed
    with life.world.storage.transaction() as tx:
        tx.set_silences([one._replace(filled_at=life.world.now) for one in noticed])
    rate = life.rate()
    with life.world.storage.transaction() as tx:
        tx.set_silences(noticed)
    return rate


def test_what_is_never_told_stays_out(worlds: tuple[World, World]) -> None:
    """Lost for good: trials count for what was seen of them, and lift leaves their users out."""
    whole, broken = Life(worlds[0]), Life(worlds[1])
    for hour in range(BEGINS + LASTS + 26):
        broken.tells = not BEGINS <= hour < BEGINS + LASTS
        whole.hour()
        broken.hour()
        if hour == BEGINS + LASTS - 1:
            broken.coming = [one for one in broken.coming if one[0] > broken.world.now]

    ended, also = broken.silences()
    assert ended.filled_at is also.filled_at is None
    assert ended.late < ended.expected / 2
    assert broken.rate() == pytest.approx(whole.rate(), rel=0.03)
    broken.world.clock.advance("1d")
    whole.world.clock.advance("1d")
    found, usual = broken.lift(), whole.lift()
    for group in ("lift.messaged", "lift.held_out"):
        assert found[f"{group}.users"] < usual[f"{group}.users"]
        rates = [s[f"{group}.converted"] / s[f"{group}.users"] for s in (found, usual)]
        assert rates[0] == pytest.approx(rates[1], abs=0.05)

    with broken.world.storage.transaction() as tx:
        assert len(release_source("clevertap", broken.silences(), tx, broken.world.now)) == 2
    assert broken.rate() < 0.97 * whole.rate()  # counts as failures now: somebody said so


def test_our_own_outage(worlds: tuple[World, World]) -> None:
    """Hours in which nobody took in are a silence of the engine, and no source is accused."""
    life = Life(worlds[0])
    for _ in range(BEGINS):
        life.hour()
    stopped = life.world.now
    life.world.clock.advance("12h")

    life.watch()

    (own,) = life.silences()
    assert (own.source, own.filled_at) == (ENGINE, None)
    assert own.since == pytest.approx(stopped, abs=MINUTE)
    assert own.until == pytest.approx(life.world.now, abs=MINUTE)
    life.hour()  # what waited is told, late
    assert [one.source for one in life.silences()] == [ENGINE]
    life.watch()
    late = life.silences()[0].late
    assert late > 0


def test_a_pause_of_a_minute_is_none(worlds: tuple[World, World]) -> None:
    """A restart is no silence, and neither is a watch that was busy while events came."""
    life = Life(worlds[0])
    for _ in range(BEGINS):
        life.hour()
    life.world.clock.advance("10min")
    life.watch()
    life.watches = False
    for _ in range(3):
        life.hour()
    life.watch()

    assert life.silences() == []


def test_two_processes_count_once(world: World) -> None:
    """A step that another process has gone is not kept a second time."""
    life = Life(world, watches=False)
    life.hour()
    life.hour()
    life.world.clock.advance("2min")
    with life.world.storage.evidence() as evidence:
        steps = [watch(life.world.rules, evidence, life.world.now) for _ in range(2)]
    kept = [life.world.storage.run(partial(keep_watch, step)) for step in steps if step]

    assert kept == [True, False]
    rows = [row for row in life.world.rows(tables.source_hour) if row["told"] == "events"]
    by_source = {
        source: sum(r["minutes"] for r in rows if r["source"] == source)
        for source in ("amplitude", "clevertap")
    }
    told = {(row["source"], row["received_at"] // MINUTE) for row in life.world.rows(tables.event)}
    assert by_source == {
        source: sum(1 for who, _ in told if who == source) for source in by_source
    }


def test_nobody_listens_where_it_is_off(world: World) -> None:
    """With `after = "off"` nothing is counted and nothing is held."""
    life = Life(world)
    life.world.rules = replace(RULES, silent_after=None)
    life.hour()

    assert life.watch() == []
    assert life.world.rows(tables.source_hour) == []
    assert Duration(30 * MINUTE) == RULES.silent_after
