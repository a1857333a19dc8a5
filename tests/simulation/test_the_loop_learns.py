"""The loop, end to end over HTTP: it finds what works, and nothing where nothing works."""

import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from math import log, sqrt
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chi2_contingency
from tests.support.clevertap_double import (
    ACCOUNT_ID,
    PASSCODE,
    CleverTapDouble,
    double_sends,
    sends_by_user,
)
from tests.support.clock import FakeClock
from tests.support.configuration import write_configuration
from tests.support.engine import RunningEngine, running_engine
from tests.support.fakes import FakeSender, an_answer
from tests.support.start import live
from tests.support.world import (
    ANGLES,
    BEST,
    CHANNELS,
    COMBOS,
    DELAYS,
    IndifferentWorld,
    Phones,
    World,
    cohort_of,
)

from experiment_engine.adapters.clevertap.sender import Account, CleverTapSender, open_client
from experiment_engine.adapters.storage.sqlite import SqliteStorage
from experiment_engine.domain.moments import HOUR, Duration

ONCE_IN_A_MILLION = 1e-6

# A world in which messages work: `tests/support/world.py` derives the bounds.

SEED = 1
COHORTS = tuple(f"world_{number}" for number in range(1, 7))
STEP, STEPS, UNTIL_ALL_ARE_BACK = "30min", 96, 48
EACH, HOLDOUT = 22, 0.1  # people of a cohort a step; about 20 of them are written to
LEAST_SHARE, LEAST_GAIN = 0.47, 1.13


def test_the_best_combos_take_over_and_bring_more_back_than_an_even_split(tmp_path: Path) -> None:
    """What truly works gets the traffic, and conversions rise above those of an even split.

    Six cohorts with true rates of 2 to 12 % a combo. Share of the four best of twelve combos in
    the last third, and expected conversions against an even split, both as means over cohorts:
    an honest 80/20 policy reaches 0.85 and 1.5, and falls under the bounds once in a million
    (10,000 simulated runs a cohort); one that does not learn stays at 0.33 and 1.00.
    """
    clock = FakeClock()
    world = World(COHORTS, seed=SEED, clock=clock)
    with (
        CleverTapDouble(tmp_path / "ledger", max_in_flight=100, fsync=False) as double,
        _living_world(tmp_path, clock, double) as (engine, phones),
    ):
        statuses = _live(world, engine, phones)
        statistics = {name: engine.get("/api/stats", cohort=name) for name in COHORTS}
        ledger = double.ledger()
    shares = [_share_of_best(world, name) for name in COHORTS]
    gains = [_gain_on_even_split(world, name) for name in COHORTS]
    even = sum(np.mean(list(world.rates[world.people[u].cohort].values())) for u in world.saw)
    print(f"seed {SEED}: {len(world.people)} triggers, {len(world.saw)} messages")
    print(f"share of the best: {_spelled(shares)}, mean {np.mean(shares):.3f} >= {LEAST_SHARE}")
    print(f"gain on even: {_spelled(gains)}, mean {np.mean(gains):.3f} >= {LEAST_GAIN}")
    print(f"conversions: {len(world.returned)} seen, {even:.0f} expected of an even split")

    assert statuses.keys() == {"scheduled", "holdout", "recorded"}
    assert double_sends(ledger) == {}
    assert sends_by_user(ledger).keys() == world.saw.keys()
    assert len(world.saw) == statuses["scheduled"]
    for name in COHORTS:
        _assert_statistics_tell(world, name, statistics[name])
    assert np.mean(shares) >= LEAST_SHARE
    assert np.mean(gains) >= LEAST_GAIN


def _hold_out_the_same(folder: Path) -> None:
    """Give a new database a known salt: with it and the seeds a run repeats itself exactly."""
    database = folder / "engine.db"
    SqliteStorage(database).close()
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE meta SET value = ? WHERE key = 'holdout_salt'", (b"salt" * 8,))


def _need_not_outlive_a_power_cut(engine: RunningEngine) -> None:
    engine.embedded._writer.execute("PRAGMA synchronous = OFF")


@contextmanager
def _living_world(
    folder: Path, clock: FakeClock, double: CleverTapDouble
) -> Iterator[tuple[RunningEngine, Phones]]:
    """Run the engine on the double; push goes out to four at most, WhatsApp to 1,000."""
    combos: dict[str, list[str]] = {
        "delay": list(DELAYS),
        "channel": list(CHANNELS),
        "angle": list(ANGLES),
    }
    config = write_configuration(
        folder / "configuration",
        cohorts={name: cohort_of(name, combos) for name in COHORTS},
        copy={
            channel: {angle: {"*": {"title": angle, "body": "Come back."}} for angle in ANGLES}
            for channel in CHANNELS
        },
        channels={
            "push": {"batch": 4, "max_in_flight": 20},
            "whatsapp": {"batch": 1_000, "campaigns": {"*|*|*": "1700000000"}},
        },
        holdout={"share": HOLDOUT},
    )
    _hold_out_the_same(folder)
    client = open_client(double.base_url, connections=40)
    phones = Phones(CleverTapSender(client, Account(ACCOUNT_ID, PASSCODE)), clock)
    with running_engine(
        folder, config=config, clock=clock, environ=live(double), sender=phones
    ) as engine:
        _need_not_outlive_a_power_cut(engine)
        yield engine, phones


def _live(world: World, engine: RunningEngine, phones: Phones) -> Counter[str]:
    """Let people leave for two days and come back for one more; count what was answered."""
    statuses: Counter[str] = Counter()
    read = 0
    for step in range(STEPS + UNTIL_ALL_ARE_BACK):
        if step < STEPS:
            statuses.update(r["status"] for r in engine.events(*world.leave(EACH)))
        engine.deliver(after=STEP)
        world.read(phones.messages[read:])
        read = len(phones.messages)
        for path, told in world.come_back():
            statuses.update(result["status"] for result in engine.results(path, told))
        engine.learn()
    return statuses


def _share_of_best(world: World, cohort: str) -> float:
    rates = world.rates[cohort]
    best = sorted(COMBOS, key=lambda combo: -rates[combo])[:BEST]
    people = [world.people[user] for user in world.saw if world.people[user].cohort == cohort]
    times = sorted({person.left_at for person in people})
    late = times[-(STEPS // 3)]
    seen = [world.saw[person.user] for person in people if person.left_at >= late]
    return sum(combo in best for combo in seen) / len(seen)


def _gain_on_even_split(world: World, cohort: str) -> float:
    rates = world.rates[cohort]
    seen = [combo for user, combo in world.saw.items() if world.people[user].cohort == cohort]
    return float(np.mean([rates[combo] for combo in seen]) / np.mean(list(rates.values())))


def _assert_statistics_tell(world: World, cohort: str, told: dict[str, object]) -> None:
    sent = Counter(c for user, c in world.saw.items() if world.people[user].cohort == cohort)
    back = Counter(
        world.saw[one.person.user] for one in world.returned if one.person.cohort == cohort
    )
    leagues = [*_league(told, "top_combinations"), *_league(told, "worst_combinations")]
    assert {c["combo_key"]: c["sent_count"] for c in leagues} == sent
    assert {c["combo_key"]: c["converted_count"] for c in leagues} == {c: back[c] for c in sent}


def _league(told: dict[str, object], name: str) -> list[dict[str, object]]:
    league = told[name]
    assert isinstance(league, list)
    return league


def _spelled(numbers: Sequence[float]) -> str:
    return " ".join(f"{number:.2f}" for number in numbers)


# A world in which messages do nothing.

IDLE_SEED = 2
GREEDY = tuple(f"greedy_{number}" for number in range(64))
EVEN = tuple(f"even_{number}" for number in range(16))
IDLE_DELAYS = ("1h", "24h")
IDLE_HOURS, IDLE_EACH, IDLE_HOLDOUT = 96, 2, 0.2
RATE, FADES = 0.25, Duration(8 * HOUR)


@dataclass(frozen=True, slots=True)
class Drawn:
    """One experiment of the idle world, at the end."""

    cohort: str
    delay: str
    held_out: bool
    counted: bool  # as a trial
    converted: bool


class _Nowhere:
    base_url = "http://127.0.0.1:9"  # the provider is a fake: nobody is called


@pytest.fixture(scope="module")
def idle_world(tmp_path_factory: pytest.TempPathFactory) -> list[Drawn]:
    """Run many small cohorts whose users come back, or not, whatever they are sent."""
    folder, clock = tmp_path_factory.mktemp("idle"), FakeClock()
    cohorts = {name: cohort_of(name, {"delay": list(IDLE_DELAYS)}) for name in GREEDY}
    cohorts |= {
        name: cohort_of(name, {"delay": list(IDLE_DELAYS)}, policy="uniform") for name in EVEN
    }
    config = write_configuration(
        folder / "configuration",
        cohorts=cohorts,
        channels={"push": {"batch": 1_000}},
        holdout={"share": IDLE_HOLDOUT},
    )
    world = IndifferentWorld(list(cohorts), seed=IDLE_SEED, clock=clock, rate=RATE, fades=FADES)
    _hold_out_the_same(folder)
    provider = FakeSender(lambda _: an_answer())
    with running_engine(
        folder, config=config, clock=clock, environ=live(_Nowhere()), sender=provider
    ) as engine:
        _need_not_outlive_a_power_cut(engine)
        for hour in range(IDLE_HOURS + 72):
            if hour < IDLE_HOURS:
                results = engine.events(*world.leave(IDLE_EACH))
                assert {result["status"] for result in results} <= {"scheduled", "holdout"}
            engine.deliver(after="1h")
            if back := world.come_back():
                results = engine.events(*back)
                assert {r["status"] for r in results} <= {"recorded", "cancelled", "ignored"}
            engine.learn()
        engine.deliver()
    return _drawn(folder / "engine.db")


def _drawn(database: Path) -> list[Drawn]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        rows = connection.execute(
            "SELECT cohort, combo_key, held_out, state, reason, converted_at FROM experiment"
        ).fetchall()
    return [
        Drawn(
            cohort=cohort,
            delay=combo.partition("|")[0],
            held_out=bool(held_out),
            counted=state in ("sent", "held_out") or (state, reason) == _CONVERTED_BEFORE,
            converted=converted_at is not None,
        )
        for cohort, combo, held_out, state, reason, converted_at in rows
    ]


_CONVERTED_BEFORE = ("cancelled", "converted")


def test_every_delay_is_credited_with_the_same_people(idle_world: list[Drawn]) -> None:
    """In the end no delay is robbed of, or credited with, people who come back anyway (R1).

    Cohorts that choose evenly: conversions by delay, chi-squared, wrong once in a million.
    """
    table = [
        [sum(one.converted is way for one in trials) for way in (True, False)]
        for delay in IDLE_DELAYS
        if (trials := [d for d in idle_world if d.cohort in EVEN and d.delay == delay])
    ]
    p_value = chi2_contingency(table).pvalue
    print(f"seed {IDLE_SEED}: converted or not by delay {table}, p = {p_value:.3f}")
    assert all(one.counted for one in idle_world)
    assert p_value > ONCE_IN_A_MILLION


def test_the_held_out_come_back_as_often(idle_world: list[Drawn]) -> None:
    """Messages that do nothing show no lift over the holdout.

    Conversions of all cohorts, messaged against held out, chi-squared, wrong once in a million.
    """
    table = [
        [
            sum(d.converted is way for d in idle_world if d.held_out is group)
            for way in (True, False)
        ]
        for group in (False, True)
    ]
    p_value = chi2_contingency(table).pvalue
    rates = [back / (back + away) for back, away in table]
    print(f"seed {IDLE_SEED}: messaged {rates[0]:.4f}, held out {rates[1]:.4f}, p = {p_value:.3f}")
    assert abs(sum(table[1]) / len(idle_world) - IDLE_HOLDOUT) < 0.02
    assert p_value > ONCE_IN_A_MILLION


def test_no_delay_is_favoured_where_messages_do_nothing(idle_world: list[Drawn]) -> None:
    """With messages that do nothing and conversions that fade, no delay gets more traffic (R1).

    In each of many cohorts the difference of the delays' shares is as likely to be x as -x, so
    by Hoeffding |sum| / sqrt(sum of squares) exceeds sqrt(2 ln(2 / p)) with a chance below p,
    whatever the policy and however few the cohorts.
    """
    bound = sqrt(2 * log(2 / ONCE_IN_A_MILLION))
    shares = np.array([_shares(idle_world, cohort) for cohort in GREEDY])
    differences = shares[:, 1] - shares[:, 0]
    favour = float(differences.sum() / sqrt((differences**2).sum()))
    means = ", ".join(
        f"{d} {share:.2f}" for d, share in zip(IDLE_DELAYS, shares.mean(0), strict=True)
    )
    print(f"seed {IDLE_SEED}, {len(GREEDY)} cohorts: mean shares {means}")
    print(f"the late over the early delay: {favour:+.1f}, bound {bound:.1f}")
    assert abs(favour) < bound


def _shares(drawn: Sequence[Drawn], cohort: str) -> list[float]:
    delays = [one.delay for one in drawn if one.cohort == cohort]
    return [delays.count(delay) / len(delays) for delay in IDLE_DELAYS]
