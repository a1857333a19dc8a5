"""A process that takes in without delivering still decides by the newest policies."""

import threading
from typing import Protocol

import structlog

from experiment_engine.domain.errors import StorageUnavailable

log = structlog.get_logger()

_EVERY = 0.5  # seconds


class LearningEngine(Protocol):
    """What refreshing needs of the engine."""

    def learn(self) -> None:
        """Refresh the policies' snapshots."""


class Refresher:
    """Looks for new snapshots on a thread of its own, where no worker does."""

    def __init__(self, engine: LearningEngine) -> None:
        """Prepare; nothing is looked for before `start`."""
        self._engine = engine
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="refresher", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End before the database is closed."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(_EVERY):
            try:
                self._engine.learn()
            except StorageUnavailable:
                continue  # logged where it happened; the policies stay as they are
            except Exception:
                log.exception("refreshing_failed")
