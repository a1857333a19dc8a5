"""The two servers: how each is started, asked and stopped, and what its database must hold."""

import contextlib
import http.client
import json
import os
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks import tools

SECRET = "a-secret-for-the-benchmark"
PATH = "/webhook/amplitude"
_ENGINE = tools.HERE.parent / ".venv" / "bin" / "experiment-engine"
_START_SECONDS = 30
_STOP_SECONDS = 20
_INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH")


@dataclass(frozen=True, slots=True)
class Server:
    """One of the two: its command, and the queries that count what it has stored."""

    name: str
    command: tuple[str | Path, ...]
    rows: tuple[str, ...]
    """Each counts rows of which an acknowledged request makes one."""


OURS = Server(
    name="ours",
    command=(_ENGINE, "serve"),
    rows=("SELECT count(*) FROM event", "SELECT count(*) FROM experiment"),
)
BASELINE = Server(
    name="baseline",
    command=("node", tools.BASELINE / "server.js"),
    rows=("SELECT count(*) FROM event", "SELECT count(*) FROM experiment"),
)
SERVERS = (OURS, BASELINE)


@dataclass(frozen=True, slots=True)
class Setting:
    """Where a server runs and what it reads."""

    folder: Path
    engine_config: Path
    baseline_config: Path
    stubbed: bool
    preload: Path | None = None

    @property
    def database(self) -> Path:
        """The file of this run."""
        return self.folder / "data.db"


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers."""

    server: Server
    setting: Setting
    pid: int
    port: int

    @property
    def url(self) -> str:
        """Where the load goes."""
        return f"http://127.0.0.1:{self.port}{PATH}"

    def probe(self, body: str) -> str:
        """Send one event and return its status; other answers than 200 are errors."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = {"Authorization": f"Bearer {SECRET}", "Content-Type": "application/json"}
        with contextlib.closing(connection):
            connection.request("POST", PATH, body, headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        if answer.status != http.HTTPStatus.OK:
            raise RuntimeError(f"{self.server.name} answered {answer.status}: {text[:400]}")
        return str(json.loads(text)["results"][0]["status"])


@contextlib.contextmanager
def running(server: Server, setting: Setting) -> Iterator[Running]:
    """Start the server in its folder, wait until it answers, and stop it at the end."""
    setting.folder.mkdir(parents=True)
    port = _free_port()
    log = setting.folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            server.command,
            cwd=setting.folder,
            env=_environment(setting, port),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_until_healthy(process, port, log)
        yield Running(server, setting, process.pid, port)
    finally:
        _stop(process)


def stored(server: Server, database: Path) -> int:
    """Return how many requests the database holds whole: the least of the row counts."""
    opened = sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)
    with contextlib.closing(opened) as connection:
        return min(int(connection.execute(query).fetchone()[0]) for query in server.rows)


def _environment(setting: Setting, port: int) -> Mapping[str, str]:
    """Return the settings, and none of the caller's: no account may reach a benchmark."""
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return {
        **inherited,
        **({"LD_PRELOAD": str(setting.preload)} if setting.preload else {}),
        "HOST": "127.0.0.1",
        "PORT": str(port),
        # The engine's
        "DATABASE_URL": f"sqlite:///{setting.database}",
        "ENGINE_CONFIG": str(setting.engine_config),
        "AMPLITUDE_WEBHOOK_SECRET": SECRET,
        "CLEVERTAP_WEBHOOK_SECRET": SECRET,
        "API_TOKEN": SECRET,
        "LOG_FORMAT": "json",
        # The baseline's
        "NODE_ENV": "production",
        "DB": str(setting.database),
        "CONFIG_JSON": str(setting.baseline_config),
        "SECRET": SECRET,
        "STUB": "1" if setting.stubbed else "",
    }


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait_until_healthy(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    give_up = time.monotonic() + _START_SECONDS
    while time.monotonic() < give_up and process.poll() is None:
        if _is_healthy(port):
            return
        time.sleep(0.05)
    last_words = log.read_text(errors="replace")[-800:].strip()
    raise RuntimeError(f"the server did not start: {last_words}")


def _is_healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
