"""Following the process that serves now: it is sent away when all is well here, not before."""

import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from experiment_engine.bootstrap import open_log, read_rules
from experiment_engine.entrypoints.cli.keeping import PREDECESSOR
from experiment_engine.settings import Settings

PATIENCE = 25.0  # seconds; calls under way may take 15, answers 3


@dataclass(frozen=True)
class Predecessor:
    """The process that serves now, and ends when it is told to."""

    process: int

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "Predecessor | None":
        """Return whom this process follows, if it follows anybody."""
        named = environ.get(PREDECESSOR, "")
        return cls(int(named)) if named.isdecimal() else None

    def send_away(self) -> None:
        """Tell it to end; it may have done so already."""
        with suppress(ProcessLookupError):
            os.kill(self.process, signal.SIGTERM)


def rehearse(settings: Settings) -> None:
    """Raise what would stop the start, as far as can be seen beside whoever serves now."""
    read_rules(settings)
    with open_log(settings):
        pass
