"""Changes of the configuration folder while the engine runs, and whether all processes agree.

A folder is taken in when nobody has written to it for one look, or at once on SIGHUP. One with a
mistake changes nothing and says so. Settings are read at the start alone.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import structlog

from experiment_engine.configuration.files import Stamp, stamp
from experiment_engine.configuration.loading import load
from experiment_engine.configuration.tables import Mistake, dotted
from experiment_engine.domain.errors import ConfigurationError, StorageUnavailable
from experiment_engine.domain.moments import SECOND, Instant
from experiment_engine.domain.rules import Rules
from experiment_engine.engine.engine import Engine

log = structlog.get_logger()

LOOKS_EVERY = 2.0  # seconds
AGREES_WITHIN = 60.0  # seconds: longer than every process needs to follow
_LIVES = 45 * SECOND  # a process that was not seen for this long is gone

Followed = Callable[[Rules], None]


class ConfigurationWatch:
    """Follows the folder; `step` and `compare` are duties of one thread, the one that learns."""

    def __init__(
        self,
        engine: Engine,
        folder: Path,
        kind: str,
        follow: Followed = lambda _: None,
        *,
        read: Callable[[], Rules] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Watch for an engine; `read` reads the folder, if that is more than loading it."""
        self._engine, self._folder, self._kind = engine, folder, kind
        self._read = read or partial(load, folder)
        self._follow, self._clock = follow, clock
        self._taken: Stamp | None = None  # the engine was started on what stood there then
        self._seen = stamp(folder)
        self._asked = threading.Event()
        self._mixed_since: float | None = None
        self._mixture: Counter[str] = Counter()
        self.mistake: ConfigurationError | None = None

    def hurry(self) -> None:
        """Look again whether or not anything seems to have changed; safe in a signal handler."""
        self._asked.set()

    def step(self) -> None:
        """Take the folder in if it has changed and is at rest."""
        now, before = stamp(self._folder), self._seen
        self._seen = now
        asked = self._asked.is_set()
        if not asked and (now == self._taken or now != before):
            return
        self._asked.clear()
        self._take(now)

    def _take(self, now: Stamp) -> None:
        try:
            rules = self._read()
            changed = rules.fingerprint != self._engine.rules.fingerprint
            if changed:
                self._follow(rules)
        except ConfigurationError as mistake:
            self._taken = now
            self._refuse(mistake)
            return
        if changed:
            try:
                self._engine.change_rules(rules, who=f"folder {self._folder.name}")
                self._engine.duties.beat(self._kind)
            except StorageUnavailable:
                self._asked.set()  # once more at the next look
                raise
        elif self.mistake is not None:
            log.info("configuration is as it was", configuration=rules.fingerprint[:12])
        self._taken, self.mistake = now, None

    def _refuse(self, mistake: ConfigurationError) -> None:
        self.mistake = mistake
        log.error(
            "configuration refused",
            mistake=str(mistake),
            configuration=self._engine.rules.fingerprint[:12],
            next="the engine goes on as before; mend the file and it is taken in",
        )

    def compare(self) -> None:
        """See whether the processes on this database have one configuration."""
        engine = self._engine
        since = Instant(engine.clock.now() - _LIVES)
        found = Counter(one.configuration for one in engine.pages.reading.processes(since))
        found.pop(engine.rules.fingerprint, None)
        self._mixture = found
        if not found:
            self._mixed_since = None
        elif self._mixed_since is None:
            self._mixed_since = self._clock()

    @property
    def state(self) -> str:
        """Return `ok`, or in a few words what is wrong, without what stands in the files."""
        if self.is_mixed:
            others = ", ".join(f"{n} with {one[:12]}" for one, n in self._mixture.items())
            return f"mixed: this process has {self._engine.rules.fingerprint[:12]}, {others}"
        if self.mistake is None:
            return "ok"
        place = "the folder"
        if isinstance(self.mistake, Mistake):
            place = ": ".join(filter(None, (self.mistake.file, dotted(self.mistake.path))))
        return (
            f"a mistake in {place}: the engine goes on with {self._engine.rules.fingerprint[:12]}"
        )

    @property
    def is_mixed(self) -> bool:
        """Say whether processes have had different configurations for too long."""
        since = self._mixed_since
        return since is not None and self._clock() - since > AGREES_WITHIN
