"""`kill -9` at random moments of any of four processes on one PostgreSQL; the ledgers compared.

The long form kills as often as FLEET_KILLS says (300), with the moments that CRASH_SEED draws:
`make test-long TESTS=tests/faults/test_random_kills_of_a_fleet.py`.
"""

import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from tests.faults.ledgers import Stored, judge
from tests.support.clevertap_double import CleverTapDoubleProcess
from tests.support.configuration import COHORT, cohort, write_configuration
from tests.support.crash import Habits, History, clients
from tests.support.fleet import Fleet, a_fleet
from tests.support.postgres import a_database, shared_server
from tests.support.server import eventually
from tests.support.start import live

SEED = int(os.environ.get("CRASH_SEED", "20261126"))
FEW, MANY = 6, int(os.environ.get("FLEET_KILLS", "300"))
IN_FLIGHT = 4  # calls of each of the two channels, over all processes
LEASE = "4s"

_TOGETHER = 5  # kills before all have been up again
_DRAINS_IN = 90.0  # seconds: above the last lease and expiry


def test_a_few_kills_in_a_fleet(tmp_path: Path) -> None:
    """Whichever process dies, nothing is lost or sent twice, and the others end what it began."""
    _kill_and_compare(tmp_path, FEW, reads=True)


@pytest.mark.long
@pytest.mark.parametrize("reads", [True, False], ids=["answers read", "answers not read"])
def test_many_kills_in_a_fleet(tmp_path: Path, *, reads: bool) -> None:
    """The same for hundreds of kills, also under clients that do not read what they are told."""
    _kill_and_compare(tmp_path, MANY, reads=reads)


def _kill_and_compare(folder: Path, kills: int, *, reads: bool) -> None:
    with (
        a_database(shared_server()) as url,
        CleverTapDoubleProcess(
            folder / "ledger", latency_ms=15, max_in_flight=IN_FLIGHT, seed=SEED
        ) as double,
        a_fleet(folder, _environ(folder, url, double), lease=LEASE) as fleet,
    ):
        history, hits = _kill(fleet, kills, reads=reads)
        with _looking(url) as connection:
            eventually(lambda: not _waiting(connection), _DRAINS_IN)
        stored, ledger = Stored.read_postgresql(url), double.ledger()
    states = Counter(row["state"] for row in stored.experiments.values())
    print(
        f"seed {SEED}, answers {'read' if reads else 'not read'}: {sum(hits.values())} kills"
        f" {dict(hits)}; {history.requests} requests, {len(history.told)} events acknowledged;"
        f" {len(stored.experiments)} experiments {dict(states)}"
    )
    for promise, broken in judge(history, ledger, stored):
        assert not broken, f"{promise}: {broken}"
    assert states["unknown"] <= hits["worker"] * 2 * IN_FLIGHT
    assert states["sent"] > 2 * kills, "too little happened"
    assert reads == bool(history.told)


def _kill(fleet: Fleet, kills: int, *, reads: bool) -> tuple[History, Counter[str]]:
    """Kill one process after another; the others go on meanwhile."""
    chance, hits = random.Random(SEED), Counter[str]()
    habits = Habits(
        fleet.ports[0],
        SEED,
        pause=0.02 if reads else 0.1,  # who does not read is fast
        more_ports=tuple(fleet.ports[1:]),
        reads=reads,
    )
    with clients(habits, 6) as history:
        for kill in range(kills):
            if kill % _TOGETHER == 0:  # on a slow machine some would never be up
                fleet.seconds_until_served()
            time.sleep(chance.uniform(0.2, 1.2))
            number = chance.randrange(len(fleet.servers) + len(fleet.workers))
            fleet.kill_and_start(number)
            hits["serve" if number < len(fleet.servers) else "worker"] += 1
        fleet.seconds_until_served()
        time.sleep(0.5)
    return history, hits


@contextmanager
def _looking(url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def _waiting(connection: psycopg.Connection) -> int:
    found = connection.execute(
        "SELECT count(*) FROM experiment WHERE state IN ('scheduled', 'claimed')"
    ).fetchone()
    assert found is not None
    return int(found[0])


def _environ(folder: Path, url: str, double: CleverTapDoubleProcess) -> dict[str, str]:
    lane = {"max_in_flight": IN_FLIGHT}
    config = write_configuration(
        folder / "configuration",
        cohorts={COHORT: cohort(delay=["0.2s", "0.6s"], channel=["push", "whatsapp"])},
        channels={"push": lane, "whatsapp": {**lane, "campaigns": {"*|*|*": "1700000000"}}},
        holdout={"share": 0.05},
        delivery={"expires_after": "60s"},
    )
    return {"DATABASE_URL": url, "ENGINE_CONFIG": str(config), **live(double)}
