"""The command itself: `experiment-engine` as a process, with its environment and exit status.

with server_process(tmp_path, {"LOG_FORMAT": "console"}) as server:
    server.client.get("/health")
    server.stop(signal.SIGTERM)
"""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

COMMAND = Path(sys.executable).with_name("experiment-engine")

_FORKS = Path(__file__).with_name("forked_commands.py")
_PATIENCE = 90.0  # seconds; only a failing test waits that long
_LOOK_AGAIN = 0.01


@dataclass(frozen=True)
class Command:
    """One command to run to its end: its arguments, its working directory, its environment."""

    arguments: Sequence[str]
    folder: Path
    environ: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    output: str
    errors: str


def run_command(command: Command) -> Ended:
    """Run a command to its end, with its environment and no other."""
    ended = subprocess.run(
        [COMMAND, *command.arguments],
        cwd=command.folder,
        env=_environment(command.environ),
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        check=False,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def run_commands(commands: Sequence[Command]) -> list[Ended]:
    """Run many commands: each is a process, forked from one that has imported the engine."""
    cases = [
        {
            "arguments": list(command.arguments),
            "folder": str(command.folder),
            "environ": _environment(command.environ),
        }
        for command in commands
    ]
    forks = subprocess.run(
        [sys.executable, _FORKS],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        timeout=_PATIENCE + len(cases),
        check=True,
    )
    return [Ended(**ended) for ended in json.loads(forks.stdout)]


@dataclass
class ServerProcess:
    """A running `serve`: its address, its output and its end."""

    url: str
    client: httpx2.Client
    process: subprocess.Popen[bytes]
    _out: Path
    _err: Path

    @property
    def output(self) -> str:
        """Return what it wrote on standard output so far."""
        return self._out.read_text(encoding="utf-8")

    @property
    def errors(self) -> str:
        """Return what it wrote on standard error so far."""
        return self._err.read_text(encoding="utf-8")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, wait for the end and return the exit status."""
        self.process.send_signal(how)
        return self.process.wait(_PATIENCE)


@contextmanager
def server_process(
    folder: Path,
    environ: Mapping[str, str] | None = None,
    *,
    port: int | None = None,
    command: Sequence[str | Path] = (COMMAND, "serve"),
) -> Iterator[ServerProcess]:
    """Run `experiment-engine serve` in `folder` until the block is left; it is up when entered.

    Another command must become it, or do what it does.
    """
    chosen = port or free_port()
    out, err = folder / f"serve-{chosen}.out", folder / f"serve-{chosen}.err"
    with out.open("ab") as to_out, err.open("ab") as to_err:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=_environment({"PORT": str(chosen), **(environ or {})}),
            stdout=to_out,
            stderr=to_err,
        )
    url = f"http://127.0.0.1:{chosen}"
    try:
        with httpx2.Client(base_url=url, trust_env=False, verify=False) as client:
            server = ServerProcess(url, client, process, out, err)
            eventually(lambda: process.poll() is not None or _answers(client))
            assert process.poll() is None, f"serve ended at once: {server.errors}"
            yield server
    finally:
        process.kill()
        process.wait(_PATIENCE)


def eventually(holds: Callable[[], bool], patience: float = _PATIENCE) -> None:
    """Wait until something holds; fail when it does not in time."""
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(_LOOK_AGAIN)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _environment(environ: Mapping[str, str] | None) -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "PYTHONUTF8": "1", **(environ or {})}


def _answers(client: httpx2.Client) -> bool:
    try:
        return client.get("/health").is_success
    except httpx2.TransportError:
        return False
