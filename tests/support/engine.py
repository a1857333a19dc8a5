"""The real application in this process: real SQLite file, real HTTP, the clock in the test's hand.

    with running_engine(tmp_path, clock=clock) as engine:
        engine.event("usr_1")
        engine.deliver(after="2min")

Nothing is delivered or learned before the test says so, unless `worker_runs` is given. For the
command itself, its signals and its exit status there is `server.py`.
"""

import asyncio
import atexit
import io
import os
import tempfile
from collections.abc import Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Self

import httpx2
from tests.support.clock import FakeClock
from tests.support.configuration import COHORT, TRIGGER, write_configuration
from tests.support.events import Json, amplitude_event, somebody
from tests.support.fakes import CountingChance
from tests.support.postgres import a_database
from tests.support.serving import serving

from experiment_engine.adapters.storage.sqlite import SqliteStorage
from experiment_engine.adapters.system.logs import Journal
from experiment_engine.application.ports import Chance, MessageSender
from experiment_engine.bootstrap import open_engine, open_sender
from experiment_engine.domain.moments import to_datetime
from experiment_engine.engine.engine import Engine
from experiment_engine.entrypoints.cli.serving import around
from experiment_engine.entrypoints.http.connections import BoundedProtocol
from experiment_engine.entrypoints.http.running import Running
from experiment_engine.entrypoints.worker import Worker
from experiment_engine.settings import read_settings


@dataclass
class RunningEngine:
    """A started engine and the doors through which a test meets it."""

    url: str
    client: httpx2.Client
    clock: FakeClock
    engine: Engine  # to look inside; what users see comes through the client
    running: Running
    log: io.StringIO
    _worker: Worker
    _hand: "Hand"

    @property
    def embedded(self) -> SqliteStorage:
        """Return the database, which is SQLite's."""
        assert isinstance(self.engine.storage, SqliteStorage)
        return self.engine.storage

    def post(self, path: str, body: Any = None, **headers: str) -> httpx2.Response:
        """Post JSON, or bytes as they are."""
        if isinstance(body, bytes):
            return self.client.post(path, content=body, headers=headers)
        return self.client.post(path, json=body, headers=headers)

    def get(self, path: str, **params: str) -> Json:
        """Return what a route answers, which must be a success."""
        answer: Json = self.client.get(path, params=params).raise_for_status().json()
        return answer

    def results(self, path: str, body: Any) -> list[Json]:
        """Return the results of a webhook's events."""
        results: list[Json] = self.post(path, body).raise_for_status().json()["results"]
        return results

    def events(self, *events: Json) -> list[Json]:
        """Send one batch of Amplitude events and return its results."""
        return self.results("/webhook/amplitude", list(events))

    def event(self, user: str | None, name: str = TRIGGER, **members: Any) -> Json:
        """Send one Amplitude event, of now unless `at` says otherwise; return its result."""
        at = members.pop("at", self.clock.iso())
        (result,) = self.events(amplitude_event(user, at, name, **members))
        return result

    def scheduled(self, user: str, **members: Any) -> str:
        """Send an event that must start an experiment; return the experiment's id."""
        result = self.event(user, **members)
        assert result["status"] == "scheduled", result
        return str(result["experiment_id"])

    def trigger(self, user: str, cohort: str = COHORT, **body: Any) -> httpx2.Response:
        """Ask through the API that a user be written to."""
        return self.post("/api/trigger", {"user_id": user, "cohort": cohort, **body})

    def opened(self, **body: str) -> Json:
        """Report an open; return its result."""
        return self.results("/webhook/opened", body)[0]

    def converted(self, **body: str) -> Json:
        """Report a conversion; return its result."""
        return self.results("/webhook/converted", body)[0]

    def experiment(self, experiment_id: str) -> Json:
        """Return one experiment with everything that explains it."""
        return self.get(f"/api/experiments/{experiment_id}")

    def state(self, experiment_id: str) -> tuple[str, str | None]:
        """Return where a delivery is, and why."""
        found = self.experiment(experiment_id)
        return found["status"], found["reason"]

    def deliver(self, after: str = "0s") -> None:
        """Let this much time pass, then do all that is due, as the worker does; by hand only."""
        self.clock.advance(after)
        self._hand.run(self._deliver())

    async def _deliver(self) -> None:
        worker = self._worker
        while worker._turn() or worker._calls or worker._answers:
            await worker._pause(busy=True)

    def learn(self) -> None:
        """Let the policies see the counters, as the worker does twice a second."""
        self.engine.duties.learn()

    def chances(self) -> dict[str, float]:
        """Let the policies learn; return the probabilities that a newcomer's combos have."""
        self.learn()
        decision = self.experiment(self.scheduled(somebody()))["decision"]
        eligible: dict[str, float] = decision["eligible"]
        return eligible

    def sent(self, user: str, **members: Any) -> str:
        """Have a message go out to a user within a day; return its experiment's id."""
        experiment_id = self.scheduled(user, **members)
        due = self.experiment(experiment_id)["scheduled_for"]
        self.clock.set(max(datetime.fromisoformat(due), to_datetime(self.clock.now())))
        self.deliver()
        assert self.state(experiment_id) == ("sent", None)
        return experiment_id


class Hand:
    """Runs coroutines on a thread of its own: the test's may belong to a browser's loop."""

    def __enter__(self) -> Self:
        self._thread = ThreadPoolExecutor(1, "hand")
        self._runner = asyncio.Runner()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.submit(self._runner.close).result()
        self._thread.shutdown()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run to the end."""
        self._thread.submit(self._runner.run, work).result()


@contextmanager
def running_engine(
    folder: Path,
    *,
    config: Path | None = None,
    clock: FakeClock | None = None,
    chance: Chance | None = None,
    environ: Mapping[str, str] | None = None,
    sender: MessageSender | None = None,
    worker_runs: bool = False,
    protocol: type[BoundedProtocol] = BoundedProtocol,
) -> Iterator[RunningEngine]:
    """Start an engine on the database in `folder`, dry-run unless `environ` has an account.

    An engine that is started again in the same folder needs the same chance, or ids come twice.
    """
    given = {
        "DATABASE_URL": _database_url(folder),
        "ENGINE_CONFIG": str(config or write_configuration(folder / "configuration")),
        **(environ or {}),
    }
    settings, log = read_settings(given, env_file=None), io.StringIO()
    if settings.is_sqlite and not settings.database_path.exists():
        settings.database_path.write_bytes(_new_database())
    at = clock or FakeClock()
    engine = open_engine(settings, Journal("console", log), at, chance or CountingChance())
    engine.open(paused=settings.start_paused)
    rules = engine.rules
    sending = sender or open_sender(settings, rules)
    worker = Worker(engine.traffic, sending, rules.channels)
    door, running = around(engine, worker if worker_runs else None, settings)
    with (
        serving(door, protocol) as url,
        httpx2.Client(base_url=url, trust_env=False, verify=False, timeout=30) as client,
        Hand() as hand,
    ):
        try:
            yield RunningEngine(url, client, at, engine, running, log, worker, hand)
        finally:
            if not worker_runs:
                hand.run(sending.close())


@cache
def _database_url(folder: Path) -> str:
    """Return where the database of a folder is: SQLite, or with TEST_DATABASE=postgresql that."""
    if os.environ.get("TEST_DATABASE") != "postgresql":
        return f"sqlite:///{folder / 'engine.db'}"
    lasting = a_database()
    url = lasting.__enter__()
    atexit.register(lasting.__exit__, None, None, None)  # after the server's: that ends last
    return url


@cache
def _new_database() -> bytes:
    """Return an empty database as the first start makes it; made once, because it takes time."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "new.db"
        SqliteStorage(path).close()
        return path.read_bytes()
