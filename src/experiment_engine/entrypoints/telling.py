"""Tells analytics what was decided and sent, on a thread of its own.

Nothing waits for it: if analytics is away, what is to be told waits where it is stored.
"""

import threading
from typing import Protocol

import structlog

from experiment_engine.adapters.amplitude.upload import Uploaded
from experiment_engine.application.tell import Notice, Notices
from experiment_engine.domain.errors import StorageUnavailable
from experiment_engine.domain.moments import SECOND

log = structlog.get_logger()

EVERY = 10.0  # seconds between looks where nothing waits
_SOON = 0.2  # where more waits
_FIRST_WAIT, _LONGEST_WAIT = 5.0, 300.0  # after troubles


class TellingEngine(Protocol):
    """What telling needs of the engine."""

    def notices(self) -> Notices | None:
        """Return what is to be told next, if it is this process's turn."""

    def keep_told(self, notices: Notices) -> None:
        """Remember that it has been told."""


class Analytics(Protocol):
    """Who is told."""

    def upload(self, notices: list[Notice]) -> Uploaded:
        """Tell some notices; a repeated one does no harm."""

    def close(self) -> None:
        """Give back the connections."""


class Telling:
    """Tells step by step until it is stopped."""

    def __init__(
        self, engine: TellingEngine, analytics: Analytics, *, every: float = EVERY
    ) -> None:
        """Prepare; nothing is told before `start`."""
        self._engine, self._analytics, self._every = engine, analytics, every
        self._troubles = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="telling", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stopping(self) -> None:
        """Begin nothing more."""
        self._stopping.set()

    def stop(self) -> None:
        """End before the database is closed; a request under way ends by its time limit."""
        self._stopping.set()
        self._thread.join()
        self._analytics.close()

    def step(self) -> float:
        """Go one step; return how long to wait for the next, in seconds."""
        try:
            notices = self._engine.notices()
            if notices is None:
                return self._every
            told = self._analytics.upload(list(notices.events))
            if not told.taken:
                return self._trouble(told)
            self._engine.keep_told(notices)
        except StorageUnavailable:
            return self._every  # logged where it happened
        self._troubles = 0
        if told.dropped:
            log.warning("analytics_refused_events", events=told.dropped)
        return _SOON if notices.more else self._every

    def _trouble(self, told: Uploaded) -> float:
        wait = min(_FIRST_WAIT * float(2**self._troubles), _LONGEST_WAIT)
        if told.wait is not None:
            wait = min(max(wait, told.wait / SECOND), _LONGEST_WAIT)
        self._troubles = min(self._troubles + 1, 10)
        log.warning("analytics_not_told", reason=told.reason, next=f"again in {wait:g} s")
        return wait

    def _run(self) -> None:
        wait = _SOON
        while not self._stopping.wait(wait):
            try:
                wait = self.step()
            except Exception:
                log.exception("telling_failed")
                wait = _LONGEST_WAIT
