"""PostgreSQL that crashes, throws connections out and swallows answers, under a whole fleet.

`POSTGRES_SEED` draws other moments. The long forms take minutes:
`make test-long TESTS=tests/faults/test_postgres_faults.py`.
"""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from tests.faults.ledgers import Stored, judge
from tests.support.clevertap_double import CleverTapDoubleProcess
from tests.support.configuration import COHORT, cohort, write_configuration
from tests.support.crash import Habits, History, clients
from tests.support.cutting_proxy import CuttingProxy, a_cutting_proxy
from tests.support.fleet import Fleet, a_fleet
from tests.support.postgres import PostgresServer, a_database, a_server
from tests.support.server import eventually
from tests.support.start import live

SEED = int(os.environ.get("POSTGRES_SEED", "20261122"))
IN_FLIGHT = 4  # calls of each of the two channels
NORMAL_AGAIN = 5.0  # seconds after the database is back

_CUT_SHARE = 0.1  # of all COMMITs
_DRAINS_IN = 60.0  # seconds: above the last retry and expiry
_THROW_OUT = """
SELECT count(pg_terminate_backend(pid)) FROM (
  SELECT pid FROM pg_stat_activity WHERE application_name = 'experiment-engine'
  ORDER BY random() LIMIT 1) AS one
"""


@dataclass
class Troubles:
    """What was done to the database, and how soon all was well again."""

    restarts: int = 0
    terminated: int = 0
    normal_after: list[float] = field(default_factory=list)


def test_a_few_crashes_of_the_database(tmp_path: Path) -> None:
    """A database that crashes and throws connections out costs nothing but 503s for a while."""
    _trouble_and_compare(tmp_path, restarts=3, terminations=20)


@pytest.mark.long
def test_many_crashes_of_the_database(tmp_path: Path) -> None:
    """Thirty immediate restarts and two hundred terminated connections: still nothing."""
    _trouble_and_compare(tmp_path, restarts=30, terminations=200)


def _trouble_and_compare(folder: Path, *, restarts: int, terminations: int) -> None:
    with a_server() as server, a_database(server) as url, _provider(folder) as double:
        environ = _environ(folder, url, double)
        with a_fleet(folder, environ) as fleet:
            history, troubles = _trouble(fleet, server, restarts, terminations)
            _drain(url)
        stored, ledger = Stored.read_postgresql(url), double.ledger()
        most = max(double.stats().max_in_flight.values())
    _print(
        f"{troubles.restarts} immediate restarts, {troubles.terminated} terminated connections, "
        f"normal again within {max(troubles.normal_after):.2f} s, at most {most} calls in flight",
        history,
        stored,
    )
    for promise, broken in judge(history, ledger, stored):
        assert not broken, f"{promise}: {broken}"
    assert max(troubles.normal_after) <= NORMAL_AGAIN
    assert most <= IN_FLIGHT
    assert len(stored.in_state("sent")) > 10 * restarts, "too little happened"


def _trouble(
    fleet: Fleet, server: PostgresServer, restarts: int, terminations: int
) -> tuple[History, Troubles]:
    chance, troubles = random.Random(SEED), Troubles()
    habits = Habits(fleet.ports[0], SEED, more_ports=tuple(fleet.ports[1:]))
    acts = ["restart"] * restarts + ["terminate"] * terminations
    chance.shuffle(acts)
    with clients(habits, 6) as history:
        for act in acts:
            time.sleep(chance.uniform(0.02, 0.2))
            if act == "terminate":
                ((gone,),) = server.execute(_THROW_OUT)
                troubles.terminated += int(str(gone))
                continue
            server.stop(signal.SIGQUIT)
            if not troubles.restarts:
                _check_what_is_said(fleet)
            time.sleep(chance.uniform(0, 1))
            server.start()
            troubles.restarts += 1
            troubles.normal_after.append(fleet.seconds_until_served())
        time.sleep(0.5)
    return history, troubles


def _check_what_is_said(fleet: Fleet) -> None:
    """While the database is away, all but life itself is answered 503, and at once."""
    began = time.monotonic()
    assert fleet.get(0, "/health")[0] == 200
    for path in ("/ready", "/api/stats", "/api/users/somebody"):
        assert fleet.get(0, path)[0] == 503
    for path in ("/api/pause", "/webhook/converted"):
        assert fleet.post(0, path, {"user_id": "somebody"} if "web" in path else {})[0] == 503
    assert time.monotonic() - began < 10


def test_commits_whose_answer_is_lost(tmp_path: Path) -> None:
    """A COMMIT that nobody answers is looked up: nothing is lost, and nothing is done twice."""
    _cut_and_compare(tmp_path, cuts=8)


@pytest.mark.long
def test_many_commits_whose_answer_is_lost(tmp_path: Path) -> None:
    """The same for hundreds of them."""
    _cut_and_compare(tmp_path, cuts=150)


def _cut_and_compare(folder: Path, *, cuts: int) -> None:
    with (
        a_server() as server,
        a_database(server) as url,
        _provider(folder) as double,
        a_cutting_proxy(server.port, SEED) as proxy,
    ):
        through = url.replace(f":{server.port}/", f":{proxy.port}/")
        with a_fleet(folder, _environ(folder, through, double)) as fleet:
            history = _cut(fleet, proxy, cuts)
            _drain(url)
        stored, ledger = Stored.read_postgresql(url), double.ledger()
    _print(
        f"{proxy.cut_before} COMMITs cut on their way, {proxy.cut_after} answers to one dropped",
        history,
        stored,
    )
    for promise, broken in judge(history, ledger, stored):
        assert not broken, f"{promise}: {broken}"
    assert min(proxy.cut_before, proxy.cut_after) >= cuts
    assert not stored.in_state("unknown"), "a worker knew what it had claimed"


def _cut(fleet: Fleet, proxy: CuttingProxy, cuts: int) -> History:
    """Let clients send until so many COMMITs were cut in both ways."""
    habits = Habits(fleet.ports[0], SEED, more_ports=tuple(fleet.ports[1:]))
    with clients(habits, 6) as history:
        proxy.share = _CUT_SHARE
        eventually(lambda: min(proxy.cut_before, proxy.cut_after) >= cuts, 30 + 2 * cuts)
        proxy.share = 0.0
        time.sleep(0.5)
    return history


@contextmanager
def _provider(folder: Path) -> Iterator[CleverTapDoubleProcess]:
    """Run a provider that takes calls after a while, and has a limit."""
    with CleverTapDoubleProcess(
        folder / "ledger",
        latency_ms=15,
        max_in_flight=IN_FLIGHT,
        seed=SEED,
    ) as double:
        yield double


def _environ(folder: Path, url: str, double: CleverTapDoubleProcess) -> dict[str, str]:
    lane = {"max_in_flight": IN_FLIGHT}
    config = write_configuration(
        folder / "configuration",
        cohorts={COHORT: cohort(delay=["0.2s", "0.6s"], channel=["push", "whatsapp"])},
        channels={"push": lane, "whatsapp": {**lane, "campaigns": {"*|*|*": "1700000000"}}},
        holdout={"share": 0.05},
        delivery={"expires_after": "40s"},
    )
    return {"DATABASE_URL": url, "ENGINE_CONFIG": str(config), **live(double)}


def _drain(url: str) -> None:
    deadline = time.monotonic() + _DRAINS_IN
    with psycopg.connect(url, autocommit=True) as connection:
        while time.monotonic() < deadline:
            (left,) = connection.execute(
                "SELECT count(*) FROM experiment WHERE state IN ('scheduled', 'claimed')"
            ).fetchone() or (0,)
            if not left:
                return
            time.sleep(0.1)


def _print(what: str, history: History, stored: Stored) -> None:
    states = Counter(row["state"] for row in stored.experiments.values())
    kinds = Counter(told.kind for told in history.told)
    print(
        f"seed {SEED}: {what}; {history.requests} requests, {history.refused} refused,"
        f" {len(history.told)} events acknowledged {dict(kinds)};"
        f" {len(stored.experiments)} experiments {dict(states)}"
    )
