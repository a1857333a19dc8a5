"""`keep`: one serving process follows another, and nobody is refused in between.

The keeper holds the port and runs `serve` behind it. While no process serves, callers wait in the
port's backlog. SIGHUP starts the next process beside the one that serves; it checks all that it
can, and only then sends its predecessor away (`succeeding.py`). If it finds a mistake, it ends,
and its predecessor serves on.
"""

import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, NoReturn

import structlog
from cyclopts import Parameter

from experiment_engine.adapters.system.logs import configure_logs
from experiment_engine.entrypoints.cli.listening import listen, pass_on
from experiment_engine.settings import read_settings

log = structlog.get_logger()

PREDECESSOR = "ENGINE_PREDECESSOR"  # tells the next process whom it follows

_HEARD = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}
LIVES = 5.0  # seconds; what is killed sooner is not replaced
_CANNOT_RUN = 127


def keep(
    *,
    worker: Annotated[
        bool, Parameter(help="Deliver from the serving process; --no-worker takes in only.")
    ] = True,
) -> None:
    """Hold the port, and serve behind it: SIGHUP restarts without refusing anybody.

    The next process reads settings, configuration and program anew. If something is wrong with
    them it says so, and the one before serves on. SIGTERM ends both.
    """
    settings = read_settings(os.environ)
    configure_logs(settings.log_format)
    options = [] if worker else ["--no-worker"]
    command = [sys.executable, "-m", "experiment_engine", "serve", *options]
    Keeper(listen(settings), command).run()


class Keeper:
    """Holds the port while serving processes come and go."""

    def __init__(self, listener: socket.socket, command: Sequence[str]) -> None:
        """Prepare to run `command`, which takes the port as systemd would pass it on."""
        self._listener, self._command = listener, command
        self._serving = self._following = 0  # processes; 0 is none
        self._began = 0.0
        self._again = self._ending = False

    def run(self) -> NoReturn:
        """Start a serving process, and answer signals until it has ended."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)  # they wait for `sigwait`
        self._serving = self._start()
        while True:
            heard = signal.sigwait(_HEARD)
            if heard == signal.SIGHUP:
                self._restart()
            elif heard == signal.SIGCHLD:
                self._look()
            else:
                self._end()

    def _restart(self) -> None:
        if self._following:
            self._again = True
        elif not self._ending:
            self._following = self._start(self._serving)

    def _end(self) -> None:
        self._ending = True
        for process in filter(None, (self._serving, self._following)):
            os.kill(process, signal.SIGTERM)  # not reaped yet, so it is still ours

    def _look(self) -> None:
        with suppress(ChildProcessError):  # none is left
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                self._ended(ended[0], os.waitstatus_to_exitcode(ended[1]))

    def _ended(self, process: int, status: int) -> None:
        if process == self._following:
            self._following = 0
            log.error("successor_ended", status=status, next="the one before serves on")
        elif process == self._serving and self._following:
            self._serving, self._following = self._following, 0
            if self._again:
                self._again = False
                self._restart()
        elif process == self._serving:
            self._nobody_serves(status)

    def _nobody_serves(self, status: int) -> None:
        if self._ending:
            sys.exit(max(status, 0))
        killed_early = status < 0 and time.monotonic() - self._began < LIVES
        if status > 0 or killed_early:  # it said what is wrong, or would fall over and over
            sys.exit(max(status, 1))
        log.error("serving_process_ended", status=status, next="another one starts")
        self._serving = self._start()

    def _start(self, predecessor: int = 0) -> int:
        self._began = time.monotonic()
        process = os.fork()
        if process:
            return process
        environ = dict(os.environ)
        environ.pop(PREDECESSOR, None)
        if predecessor:
            environ[PREDECESSOR] = str(predecessor)
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)
            pass_on(self._listener, environ)
            os.execve(self._command[0], list(self._command), environ)  # noqa: S606
        finally:
            os._exit(_CANNOT_RUN)
