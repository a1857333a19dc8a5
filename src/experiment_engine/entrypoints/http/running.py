"""What one serving process runs: the engine, the lane of the webhooks and the worker."""

import threading
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy.exc import SQLAlchemyError

from experiment_engine.domain.errors import StorageUnavailable
from experiment_engine.engine.engine import Engine
from experiment_engine.entrypoints.group_commit import GroupCommit
from experiment_engine.entrypoints.http.access import Gate
from experiment_engine.entrypoints.telling import Telling
from experiment_engine.entrypoints.upkeep import Upkeep
from experiment_engine.entrypoints.watching import ConfigurationWatch
from experiment_engine.entrypoints.worker import Worker


class MadeUpWorld(Protocol):
    """What a demo adds: it moves a world beside the engine, and knows what is true in it."""

    speed: float  # times as fast as real time

    def start(self) -> None:
        """Begin to move it."""

    def stop(self) -> None:
        """Let it stand."""

    def truth(self) -> dict[str, Any]:
        """Return what is true of each cohort, and how far the engine is from it."""


@dataclass(frozen=True, slots=True)
class Running:
    """Started together, stopped in order: first what comes in, then what goes out."""

    engine: Engine
    lane: GroupCommit
    worker: Worker | None
    api_gate: Gate
    upkeep: Upkeep | None = None
    webhook_asks_for_secret: bool = False  # as the dashboard tells newcomers
    watch: ConfigurationWatch | None = None
    stopping: threading.Event = field(default_factory=threading.Event)  # no answer lasts longer
    demo: MadeUpWorld | None = None
    telling: Telling | None = None

    def start(self) -> None:
        """Begin to take in and to deliver."""
        self.lane.start()
        if self.worker is not None:
            self.worker.start()
        if self.upkeep is not None:
            self.upkeep.start()
        if self.telling is not None:
            self.telling.start()
        if self.demo is not None:
            self.demo.start()

    def deliver_no_more(self) -> None:
        """Let calls under way end, while what comes in is still taken in and answered."""
        if self.worker is not None:
            self.worker.stop()

    def stop(self) -> None:
        """Take in what waits, let calls under way end, and close the database."""
        if self.demo is not None:
            self.demo.stop()
        if self.telling is not None:
            self.telling.stopping()
        self.lane.stop()
        self.deliver_no_more()
        if self.upkeep is not None:
            self.upkeep.stop()
        if self.telling is not None:
            self.telling.stop()
        self.engine.close()

    def readiness(self) -> dict[str, Any]:
        """Return whether the process can do its work, with each check by name."""
        database = self._database()
        checks = {
            "database": database,
            "migrations": "ok" if database == "ok" else "not known",  # checked at the start
            "worker": self._worker_state(),
            "configuration": "ok" if self.watch is None else self.watch.state,
        }
        ready = database == "ok" and checks["worker"] in ("ok", "elsewhere")
        ready = ready and not (self.watch is not None and self.watch.is_mixed)
        return {
            "ready": ready and self.lane.is_alive,
            "checks": checks,
            "configuration": self.engine.rules.fingerprint,
            "provider": self._provider() if database == "ok" else {},
            **(self.engine.report.sources() if database == "ok" else {"silences": []}),
            "paused": sorted(self.engine.report.reading.paused()) if database == "ok" else [],
        }

    def metrics_text(self) -> bytes:
        """Return the metrics, with the gauges of this moment."""
        if self.worker is not None:
            for channel, number in self.worker.lanes.in_flight.items():
                self.engine.metrics.calls_in_flight.labels(channel).set(number)
        return self.engine.metrics.text()

    def _database(self) -> str:
        try:
            return "ok" if self.engine.report.reading.is_reachable() else "no secrets"
        except StorageUnavailable:
            return "no answer"
        except SQLAlchemyError as error:
            return type(error).__name__

    def _worker_state(self) -> str:
        if self.worker is None:
            return "elsewhere"
        return "ok" if self.worker.is_alive else "stopped"

    def _provider(self) -> dict[str, Any]:
        failing = self.engine.report.reading.failing_channels()
        channels = {}
        for channel in self.engine.rules.channels:
            breaker = self.worker.lanes.breakers[channel] if self.worker is not None else None
            channels[channel] = {
                "failing": channel in failing,
                "refused_in_a_row": failing.get(channel, 0),
                "breaker": "open" if breaker is not None and breaker.is_open else "closed",
            }
        return {"mode": self.engine.mode.value, "channels": channels}
