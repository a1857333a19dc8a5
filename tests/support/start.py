"""Starting an engine, and starting it again: same folder, same clock, same chance."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

from tests.support.clevertap_double import ACCOUNT_ID, PASSCODE
from tests.support.clock import FakeClock
from tests.support.configuration import write_configuration
from tests.support.engine import RunningEngine, running_engine
from tests.support.fakes import CountingChance

from experiment_engine.application.ports import MessageSender


class Provider(Protocol):
    """Whatever stands where CleverTap would."""

    @property
    def base_url(self) -> str:
        """Return where it listens."""


def live(provider: Provider) -> dict[str, str]:
    """Return the settings that send for real, to a double of CleverTap."""
    return {
        "CLEVERTAP_ACCOUNT_ID": ACCOUNT_ID,
        "CLEVERTAP_PASSCODE": PASSCODE,
        "CLEVERTAP_BASE_URL": provider.base_url,
    }


class Start:
    """Starts engines one after another; each start ends the one before, as a restart does."""

    def __init__(self, folder: Path) -> None:
        """Keep the database, and all else, in `folder`."""
        self.folder, self.clock = folder, FakeClock()
        self._chance, self._running = CountingChance(), ExitStack()

    def __call__(
        self,
        *,
        to: Provider | None = None,
        environ: Mapping[str, str] | None = None,
        sender: MessageSender | None = None,
        worker_runs: bool = False,
        **configuration: Any,
    ) -> RunningEngine:
        """Start with this configuration; dry-run, or live `to` a double of CleverTap."""
        self.stop()
        settings = {**(live(to) if to is not None else {}), **(environ or {})}
        return self._running.enter_context(
            running_engine(
                self.folder,
                config=write_configuration(self.folder / "configuration", **configuration),
                clock=self.clock,
                chance=self._chance,
                environ=settings,
                sender=sender,
                worker_runs=worker_runs,
            )
        )

    def stop(self) -> None:
        """End the engine that runs, if one does."""
        self._running.close()
