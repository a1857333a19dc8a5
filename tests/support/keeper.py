"""`experiment-engine keep` as a process, with the one that serves behind it.

with keeper(folder, environ) as kept:
kept.hand_over()
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.server import COMMAND, Command, eventually, free_port, run_command

from experiment_engine.entrypoints.cli.keeping import LIVES

_PATIENCE = 60.0  # seconds; only a failing test waits that long


@dataclass
class Kept:
    """A keeper with its serving process."""

    process: subprocess.Popen[bytes]
    folder: Path
    environ: dict[str, str]

    def serving(self) -> int:
        """Return the one process that serves, when there is one and no more."""
        found: list[str] = []

        def is_alone() -> bool:
            found[:] = self._children()
            return len(found) == 1

        eventually(is_alone, _PATIENCE)
        return int(found[0])

    def _children(self) -> list[str]:
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return listed.read_text(encoding="ascii").split()

    def is_ready(self) -> bool:
        """Ask the server as a container does, by the program itself."""
        asked = run_command(Command(["health", "--ready"], self.folder, self.environ))
        return asked.status == 0

    def hand_over(self) -> None:
        """Restart as `systemctl reload` does: the next process first, then the end of this one."""
        before = self.serving()
        self.process.send_signal(signal.SIGHUP)
        eventually(lambda: self._children() not in ([], [str(before)]), _PATIENCE)
        eventually(lambda: str(before) not in self._children(), _PATIENCE)

    def end_and_start(self) -> None:
        """Send SIGTERM to the serving process: it ends, and another one starts."""
        before = self.serving()
        os.kill(before, signal.SIGTERM)
        eventually(lambda: self._children() not in ([], [str(before)]), _PATIENCE)

    def wait_until_old(self) -> None:
        """Wait until the serving process has lived long enough to be replaced when it fails."""
        time.sleep(LIVES)

    def wait_for_starts(self, number: int) -> None:
        """Wait until so many processes have begun to serve."""
        eventually(lambda: self._starts() == number, _PATIENCE)

    def _starts(self) -> int:
        return self.log.count('"event":"serving"')

    @property
    def log(self) -> str:
        """Return everything that was said."""
        return (self.folder / "serve.log").read_text(encoding="utf-8")

    def end(self) -> int:
        """Send SIGTERM to the keeper; return how it ended."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(_PATIENCE)


@contextmanager
def keeper(folder: Path, environ: dict[str, str]) -> Iterator[Kept]:
    """Run `keep` in a folder; it is ready when entered, and ended by force if need be."""
    all_of_it = {"PATH": "/usr/bin:/bin", "PORT": str(free_port()), **environ}
    with (folder / "serve.log").open("ab") as log:
        process = subprocess.Popen(
            [COMMAND, "keep"],
            cwd=folder,
            env=all_of_it,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    kept = Kept(process, folder, all_of_it)
    try:
        eventually(kept.is_ready, _PATIENCE)
        yield kept
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(_PATIENCE)
