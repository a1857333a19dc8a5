"""`kill -9` at random moments of a working engine, and the three ledgers compared afterwards.

The long form kills as often as `CRASH_KILLS` says (100), with the moments that `CRASH_SEED`
draws: `CRASH_KILLS=1000 CRASH_SEED=7 make test-long TESTS=tests/faults/test_random_kills.py`.
"""

import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.faults.ledgers import Stored, judge, waiting
from tests.support.clevertap_double import CleverTapDoubleProcess
from tests.support.configuration import COHORT, cohort, write_configuration
from tests.support.crash import CrashingEngine, Habits, History, clients, crashing_engine
from tests.support.server import free_port
from tests.support.start import live

SEED = int(os.environ.get("CRASH_SEED", "20261122"))
FEW, MANY = 12, int(os.environ.get("CRASH_KILLS", "100"))
IN_FLIGHT = 4  # calls of each of the two channels

_DRAINS_IN = 40.0  # seconds: above the last retry and expiry


@dataclass
class Tally:
    """What happened in a run."""

    kills: int = 0
    in_flight: int = 0  # kills while the provider was at work
    ups: list[float] = field(default_factory=list)
    most_in_flight: int = 0


@pytest.mark.parametrize("batch", [1, 1_000])
def test_a_few_kills_break_no_promise(tmp_path: Path, batch: int) -> None:
    """Killed with -9 at any moment it loses nothing, sends nothing twice, and nothing sticks."""
    _kill_and_compare(tmp_path, batch, FEW)


def test_kills_while_nobody_reads_the_answers(tmp_path: Path) -> None:
    """What is stored and was told to nobody has one effect, however often it is sent."""
    _kill_and_compare(tmp_path, 1, FEW // 2, reads=False)


@pytest.mark.long
def test_many_kills_while_nobody_reads_the_answers(tmp_path: Path) -> None:
    """The same for a hundred kills."""
    _kill_and_compare(tmp_path, 1, MANY, reads=False)


@pytest.mark.long
@pytest.mark.parametrize("batch", [1, 1_000])
def test_many_kills_break_no_promise(tmp_path: Path, batch: int) -> None:
    """Killed with -9 a hundred times, it still loses nothing and sends nothing twice."""
    _kill_and_compare(tmp_path, batch, MANY)


def _kill_and_compare(folder: Path, batch: int, kills: int, *, reads: bool = True) -> None:
    with _provider(folder) as double, _engine(folder, batch, double) as engine:
        history, tally = _kill(engine, double, batch, kills, reads=reads)
        _drain(folder)
        engine.end()
        ledger, stored = double.ledger(), Stored.read(folder / "engine.db")
    _print(batch, history, tally, stored)
    verdicts = judge(history, ledger, stored)
    unknown = stored.in_state("unknown")
    for promise, broken in verdicts:
        assert not broken, f"{promise}: {broken}"
    assert len({row["call_id"] for row in unknown}) <= tally.kills * 2 * IN_FLIGHT
    assert len(unknown) <= tally.kills * 2 * IN_FLIGHT * batch
    assert tally.in_flight >= tally.kills // 2
    assert len(stored.in_state("sent")) > 10 * kills, "too little happened"
    assert reads == bool(history.told)


@contextmanager
def _provider(folder: Path) -> Iterator[CleverTapDoubleProcess]:
    """Run a provider that takes most calls after a while, and has a limit."""
    with CleverTapDoubleProcess(
        folder / "ledger",
        behaviour={"ok": 0.97, "429": 0.03},
        latency_ms=15,
        max_in_flight=IN_FLIGHT,
        seed=SEED,
    ) as double:
        yield double


@contextmanager
def _engine(folder: Path, batch: int, double: CleverTapDoubleProcess) -> Iterator[CrashingEngine]:
    lane = {"batch": batch, "max_in_flight": IN_FLIGHT}
    config = write_configuration(
        folder / "configuration",
        cohorts={COHORT: cohort(delay=["0.2s", "0.6s"], channel=["push", "whatsapp"])},
        channels={"push": lane, "whatsapp": {**lane, "campaigns": {"*|*|*": "1700000000"}}},
        holdout={"share": 0.05},
        delivery={"expires_after": "30s"},
    )
    environ = {
        "DATABASE_URL": f"sqlite:///{folder / 'engine.db'}",
        "ENGINE_CONFIG": str(config),
        **live(double),
    }
    with crashing_engine(folder, free_port(), environ) as engine:
        yield engine


def _kill(
    engine: CrashingEngine,
    double: CleverTapDoubleProcess,
    batch: int,
    kills: int,
    *,
    reads: bool,
) -> tuple[History, Tally]:
    """Start and kill; the last start is left running, and its clients stop after a while."""
    chance, tally = random.Random(f"{SEED} {batch}"), Tally()
    habits = Habits(
        engine.port,
        SEED,
        most_events=2 if batch == 1 else 40,
        pause=0.02 if reads else 0.1,  # who does not read is fast
        reads=reads,
    )
    engine.start()
    with clients(habits) as history:
        for number in range(kills):
            moment = time.monotonic() + chance.uniform(0.02, 0.8)
            if number % 2 == 0:  # the others may be hit while they start
                tally.ups.append(engine.wait_until_up())
                moment += tally.ups[-1]
            time.sleep(max(0.0, moment - time.monotonic()))
            tally.in_flight += number % 2 == 0 and _is_sending(double)
            engine.kill()
            tally.kills += 1
            engine.start_quickly() if number < kills - 1 else engine.start()
        tally.ups.append(engine.wait_until_up())
        time.sleep(0.5)
    tally.most_in_flight = max(double.stats().max_in_flight.values())
    return history, tally


def _is_sending(double: CleverTapDoubleProcess) -> bool:
    """Wait a little for a call in flight."""
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        if any(double.stats().in_flight.values()):
            return True
    return False


def _drain(folder: Path) -> None:
    deadline = time.monotonic() + _DRAINS_IN
    while waiting(folder / "engine.db") and time.monotonic() < deadline:
        time.sleep(0.05)


def _print(batch: int, history: History, tally: Tally, stored: Stored) -> None:
    states = Counter(row["state"] for row in stored.experiments.values())
    kinds = Counter(told.kind for told in history.told)
    print(
        f"seed {SEED}, batch {batch}: {tally.kills} kills, {tally.in_flight} with calls in flight;"
        f" {history.requests} requests, {len(history.told)} events acknowledged {dict(kinds)};"
        f" {len(stored.experiments)} experiments {dict(states)};"
        f" up again within {max(tally.ups):.2f} s"
    )
