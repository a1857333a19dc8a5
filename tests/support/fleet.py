"""Several `serve` and `worker` processes of the engine on one database, as on several hosts.

with a_fleet(folder, environ, serve=2, workers=2) as fleet:
    fleet.ports, fleet.workers[0].pid
"""

import http.client
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tests.support.crash import COMMAND, HOST
from tests.support.server import eventually, free_port

_SHORT_LEASES = Path(__file__).with_name("short_leases.py")
_SOURCES = f"{Path.cwd()}:{Path.cwd() / 'src'}"
_PATIENCE = 40.0  # seconds; only a failing test waits that long


@dataclass
class Fleet:
    """Running processes, and how to talk to those that serve."""

    folder: Path
    ports: Sequence[int] = ()
    servers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _environs: dict[int, Mapping[str, str]] = field(default_factory=dict)  # by process

    @property
    def log(self) -> str:
        """Return everything that all of them said."""
        return self._log_file.read_text(encoding="utf-8", errors="replace")

    def post(self, place: int, path: str, body: object, timeout: float = 10) -> tuple[int, Any]:
        """Post JSON to one of them; return status and answer, or 0 if there was none."""
        return self._ask(place, "POST", path, json.dumps(body), timeout)

    def get(self, place: int, path: str, timeout: float = 10) -> tuple[int, Any]:
        """Get a route of one of them; return status and answer, or 0 if there was none."""
        return self._ask(place, "GET", path, None, timeout)

    def _ask(
        self, place: int, method: str, path: str, body: str | None, timeout: float
    ) -> tuple[int, Any]:
        try:
            with closing(
                http.client.HTTPConnection(HOST, self.ports[place], timeout=timeout)
            ) as connection:
                connection.request(method, path, body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                return response.status, json.loads(response.read())
        except (OSError, http.client.HTTPException):
            return 0, None

    def seconds_until_served(self) -> float:
        """Return how long it takes until each of them stores what it is sent."""
        began = time.monotonic()
        for place in range(len(self.ports)):
            eventually(partial(self._stores, place), _PATIENCE)
        return time.monotonic() - began

    def _stores(self, place: int) -> bool:
        event = {"event_type": "app_opened", "user_id": "somebody"}
        return self.post(place, "/webhook/amplitude", event)[0] == 200

    def start(
        self, arguments: Sequence[str], environ: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        """Start one more process."""
        with self._log_file.open("ab") as log:
            process = subprocess.Popen(
                arguments,
                cwd=self.folder,
                env={"PATH": "/usr/bin:/bin", "PYTHONPATH": _SOURCES, **environ},
                stdout=log,
                stderr=log,
            )
        self._environs[process.pid] = environ
        return process

    def kill_and_start(self, number: int) -> None:
        """Kill one of the processes with -9, whatever it is, and start it again."""
        kind = self.servers if number < len(self.servers) else self.workers
        place = number if kind is self.servers else number - len(self.servers)
        old = kind[place]
        old.kill()
        old.wait()
        assert isinstance(old.args, list)
        kind[place] = self.start(old.args, self._environs.pop(old.pid))

    @property
    def _log_file(self) -> Path:
        return self.folder / "fleet.log"


@contextmanager
def a_fleet(
    folder: Path,
    environ: Mapping[str, str],
    *,
    serve: int = 2,
    workers: int = 2,
    lease: str = "",
) -> Iterator[Fleet]:
    """Run processes until the block is left; those that serve are up when it is entered.

    With a `lease` the workers' claims end after that time instead of minutes.
    """
    fleet = Fleet(folder, [free_port() for _ in range(serve)])
    worker = [sys.executable, str(_SHORT_LEASES), lease] if lease else [str(COMMAND), "worker"]
    try:
        for port in fleet.ports:
            command = [str(COMMAND), "serve", "--no-worker"]
            fleet.servers.append(fleet.start(command, {**environ, "PORT": str(port)}))
        for _ in range(workers):
            fleet.workers.append(fleet.start(worker, environ))
        fleet.seconds_until_served()
        yield fleet
    finally:
        for process in (*fleet.servers, *fleet.workers):
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()
