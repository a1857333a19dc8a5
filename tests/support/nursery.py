"""Processes of the engine that begin when they are told to: forks of one that has imported all.

    with a_nursery(folder, environ) as nursery:
        child = nursery.fork("migrate")
        ...  # attach to child.pid
        child.go()
        child.wait()

A fork costs milliseconds where a start costs a second, and waits at a gate until strace holds it.
`one-thread` runs the engine on one thread (see `one_thread.py`); everything else is a command.
"""

import contextlib
import ctypes
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

ONE_THREAD = "one-thread"

_END_WITH_PARENT = 1  # prctl's PR_SET_PDEATHSIG
_IMPORTED = (
    *(f"experiment_engine.entrypoints.cli.{name}" for name in ("main", "serving")),
    *(f"uvicorn.{name}" for name in ("protocols.http.httptools_impl", "lifespan.off")),
    *("alembic.command", "tests.support.one_thread"),
)


@dataclass
class Child:
    """A forked process; it does nothing before `go`."""

    pid: int
    _nursery: "Nursery"
    _status: int | None = None

    def go(self) -> None:
        """Open its gate."""
        self._nursery.tell("go", self.pid)

    def kill(self) -> None:
        """Kill it with -9."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def ended(self) -> int | None:
        """Return the exit status, or the signal that ended it as a negative; None if it lives."""
        if self._status is None:
            self._status = self._nursery.tell("look", self.pid)
        return self._status

    def wait(self, patience: float = 30.0) -> int:
        """Wait for its end; return what `ended` does."""
        deadline = time.monotonic() + patience
        while (status := self.ended()) is None:
            assert time.monotonic() < deadline, "the process did not end in time"
            time.sleep(0.002)
        return status


class Nursery:
    """The process that forks; it has one environment for all its children."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        """Start it; everything that its children say goes to `log`."""
        self.log = folder / "children.log"
        root = Path.cwd()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.nursery", str(self.log)],
            cwd=folder,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{root}:{root / 'src'}", **environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def last_words(self) -> str:
        """Return the end of the log."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-3_000:]

    def fork(self, *arguments: str, **environ: str) -> Child:
        """Fork a process for a command, with these variables more."""
        pid = self.tell("fork", {"arguments": arguments, "environ": environ})
        assert pid is not None
        return Child(pid, self)

    def tell(self, word: str, what: object) -> int | None:
        """Give an order; return the number that comes back."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps([word, what]), file=self._process.stdin, flush=True)
        answer: int | None = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        """End it, and with it all children."""
        self._process.communicate()


@contextmanager
def a_nursery(folder: Path, environ: Mapping[str, str]) -> Iterator[Nursery]:
    """Give a nursery; nothing of it runs afterwards."""
    nursery = Nursery(folder, environ)
    try:
        yield nursery
    finally:
        nursery.close()


# The process itself


def _nurse(log: Path) -> None:
    for name in _IMPORTED:
        importlib.import_module(name)
    gates: dict[int, int] = {}
    for line in sys.stdin:
        word, what = json.loads(line)
        match word:
            case "fork":
                reader, writer = os.pipe()
                pid = os.fork()
                if pid == 0:
                    os.close(writer)
                    _begin(what["arguments"], what["environ"], reader, log)
                os.close(reader)
                gates[pid] = writer
                answer: int | None = pid
            case "go":
                os.close(gates.pop(what))
                answer = 0
            case _:
                pid, status = os.waitpid(what, os.WNOHANG)
                answer = os.waitstatus_to_exitcode(status) if pid else None
        print(json.dumps(answer), flush=True)


def _begin(arguments: list[str], environ: Mapping[str, str], gate: int, log: Path) -> NoReturn:
    ctypes.CDLL(None).prctl(_END_WITH_PARENT, signal.SIGKILL)
    sys.stdin.close()
    with log.open("ab") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    os.environ.update(environ)
    select.select([gate], [], [])  # until the other end is closed
    os.close(gate)
    try:
        if arguments == [ONE_THREAD]:
            importlib.import_module("tests.support.one_thread").main()
        importlib.import_module("experiment_engine.entrypoints.cli.main").run(arguments)
    except SystemExit as end:
        sys.stdout.flush()
        os._exit(end.code if isinstance(end.code, int) else 1)  # without taking all apart
    except BaseException:
        sys.excepthook(*sys.exc_info())
        raise
    finally:
        os._exit(1)


if __name__ == "__main__":
    _nurse(Path(sys.argv[1]))
