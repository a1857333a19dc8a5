"""Engines that deliver by themselves, at the wall's time, on either database: what races need.

with some_hosts("postgresql", folder, cohorts=...) as hosts:
    hosts.post("/webhook/amplitude", events)
"""

import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from tests.support.clevertap_double import CleverTapDoubleProcess
from tests.support.clock import FakeClock
from tests.support.configuration import Toml, write_configuration
from tests.support.engine import RunningEngine, running_engine
from tests.support.onlooker import Look, database_url, onlooker
from tests.support.server import eventually
from tests.support.start import live

from experiment_engine.adapters.system.chance import SystemChance
from experiment_engine.adapters.system.clock import SystemClock
from experiment_engine.domain.moments import Instant

IN_FLIGHT = 20


class WallClock(FakeClock):
    """Tells the time of the wall."""

    def now(self) -> Instant:
        return SystemClock().now()


@dataclass
class Hosts:
    """One engine, or two that share a database; their provider; and who looks on."""

    engines: Sequence[RunningEngine]
    double: CleverTapDoubleProcess
    look: Look
    folder: Path
    _mine: threading.local = field(default_factory=threading.local)

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Ask one of the hosts; a thread has connections of its own."""
        host = random.choice(self.engines)
        clients: dict[str, httpx2.Client] = self._mine.__dict__
        if host.url not in clients:
            clients[host.url] = httpx2.Client(base_url=host.url, trust_env=False, timeout=30)
        return clients[host.url].request(method, path, json=body).raise_for_status().json()

    def results(self, path: str, body: object) -> Sequence[dict[str, Any]]:
        """Tell a webhook of one of the hosts; return its results."""
        results: Sequence[dict[str, Any]] = self.ask("POST", path, body)["results"]
        return results

    def hang_up(self) -> None:
        """Close this thread's connections."""
        for client in self._mine.__dict__.values():
            client.close()
        self._mine.__dict__.clear()

    def until_all_ended(self, patience: float) -> None:
        """Wait until nothing waits to be sent, and nothing is under way."""
        waiting = "SELECT count(*) AS n FROM experiment WHERE state IN ('scheduled', 'claimed')"
        eventually(lambda: self.look(waiting)[0]["n"] == 0, patience)


@contextmanager
def some_hosts(
    database: str, folder: Path, *, cohorts: dict[str, Toml], latency_ms: float = 10, **rules: Any
) -> Iterator[Hosts]:
    """Run one host on SQLite, two on PostgreSQL, with workers and a provider over HTTP."""
    lane = {"max_in_flight": IN_FLIGHT}
    config = write_configuration(
        folder / "configuration",
        cohorts=cohorts,
        channels={"push": lane, "whatsapp": {**lane, "campaigns": {"*|*|*": "1700000000"}}},
        **rules,
    )
    with ExitStack() as lasting:
        url = lasting.enter_context(database_url(database, folder))
        double = lasting.enter_context(
            CleverTapDoubleProcess(
                folder / "ledger", latency_ms=latency_ms, max_in_flight=IN_FLIGHT, fsync=False
            )
        )
        environ = {"DATABASE_URL": url, **live(double)}
        engines = [
            lasting.enter_context(
                running_engine(
                    folder,
                    config=config,
                    clock=WallClock(),
                    chance=SystemChance(),
                    environ=environ,
                    worker_runs=True,
                )
            )
            for _ in range(1 if database == "sqlite" else 2)
        ]
        hosts = Hosts(engines, double, lasting.enter_context(onlooker(url)), folder)
        yield hosts
        hosts.hang_up()
