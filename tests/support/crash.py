"""What it takes to kill the engine at any moment and to know afterwards what it had promised.

    with crashing_engine(folder, environ) as engine, clients(engine.port, seed) as history:
        engine.start()
        ...
        engine.kill()

`CrashingEngine` runs `experiment-engine serve` in a process group of its own. Most starts are
forks of a process that has everything imported: the same code, without the second that Python
takes to import it. `History` is what the clients were told; it grows only by whole 2xx answers.
"""

import contextlib
import ctypes
import http.client
import importlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

Json = dict[str, Any]
Kind = Literal["trigger", "goal", "converted", "opened"]

COMMAND = Path(sys.executable).with_name("experiment-engine")
HOST = "127.0.0.1"
TRIGGER, GOAL = "checkout_abandoned", "trial_activated"

_PATIENCE = 20.0  # seconds; only a failing test waits that long


# The engine, as often as it takes


class CrashingEngine:
    """`serve` on one database and port, started and killed again and again."""

    def __init__(self, folder: Path, port: int, environ: Mapping[str, str]) -> None:
        self.port = port
        self._folder = folder
        # A copy of the sources with a bug planted in it is tried with PYTHONPATH.
        passed_on = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
        self._environ = {"PATH": "/usr/bin:/bin", "PORT": str(port), **passed_on, **environ}
        self._process: subprocess.Popen[bytes] | None = None
        self._forked: int | None = None
        self._nursery: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start the command itself."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [COMMAND, "serve"],
                cwd=self._folder,
                env=self._environ,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def start_quickly(self) -> None:
        """Start the command's code by a fork."""
        self._forked = int(self._tell_nursery("start"))

    @property
    def log(self) -> Path:
        """Return the file that everything it says goes to."""
        return self._folder / "serve.log"

    def wait_until_up(self) -> float:
        """Return how many seconds it took until it answered."""
        began = time.monotonic()
        while not self._answers():
            assert time.monotonic() - began < _PATIENCE, f"serve is not up:\n{self.last_words}"
            time.sleep(0.005)
        return time.monotonic() - began

    @property
    def last_words(self) -> str:
        """Return the end of its log."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-3_000:]

    def kill(self) -> None:
        """Kill the whole process group with -9."""
        self.end(signal.SIGKILL)

    def end(self, how: signal.Signals = signal.SIGTERM) -> int | None:
        """Send a signal to the process group and wait; return the exit status if it is known."""
        if self._forked is not None:
            pid, self._forked = self._forked, None
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, how)
            self._tell_nursery("wait")
        if self._process is None:
            return None
        self.signal(how)
        return self.wait()

    def signal(self, how: signal.Signals) -> None:
        """Send a signal to the started command's process group."""
        assert self._process is not None
        os.killpg(self._process.pid, how)

    def wait(self) -> int:
        """Wait until the started command ends; return its exit status."""
        assert self._process is not None
        status = self._process.wait(_PATIENCE + 10)
        self._process = None
        return status

    def close(self) -> None:
        """Leave nothing running."""
        self.kill()
        if self._nursery is not None:
            self._nursery.communicate()

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=_PATIENCE)
        try:
            with contextlib.closing(connection):
                connection.request("GET", "/health")
                return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False

    def _tell_nursery(self, word: str) -> str:
        if self._nursery is None:
            self._nursery = subprocess.Popen(
                [sys.executable, __file__, str(self.log)],
                cwd=self._folder,
                env=self._environ,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        nursery = self._nursery
        assert nursery.stdin is not None
        assert nursery.stdout is not None
        print(word, file=nursery.stdin, flush=True)
        return nursery.stdout.readline()


@contextmanager
def crashing_engine(
    folder: Path, port: int, environ: Mapping[str, str]
) -> Iterator[CrashingEngine]:
    """Give an engine that is not running yet; nothing of it runs afterwards."""
    engine = CrashingEngine(folder, port, environ)
    try:
        yield engine
    finally:
        engine.close()


# Its clients


@dataclass(frozen=True, slots=True)
class Told:
    """One event and the result that a client read for it, in a whole 2xx."""

    kind: Kind
    user: str
    marker: str  # stands in the event itself, so that it is found again in the database
    result: Json
    repeated: bool = False  # it had been acknowledged before


@dataclass
class History:
    """What all clients were told, in no particular order."""

    told: list[Told] = field(default_factory=list)
    requests: int = 0  # sent, also those without an answer
    refused: int = 0  # answered with something else than 2xx


@dataclass(frozen=True, slots=True)
class Habits:
    """How a client behaves."""

    port: int
    seed: int
    most_events: int = 4  # in one request
    pause: float = 0.02  # seconds between requests, on average
    more_ports: tuple[int, ...] = ()  # of other hosts, which get their share of the requests
    reads: bool = True  # answers; otherwise it leaves before them, and knows nothing


class Client:
    """One sender: new users' triggers, repeated ones, opens and conversions of known users."""

    def __init__(self, number: int, habits: Habits, history: History) -> None:
        self._number, self._habits, self._history = number, habits, history
        self._chance = random.Random(f"{habits.seed} client {number}")
        self._count = 0
        self._acknowledged: list[Json] = []  # triggers, as they were sent
        self._known: list[tuple[str, str]] = []  # user and experiment
        self._connections = [
            http.client.HTTPConnection(HOST, port, timeout=5)
            for port in (habits.port, *habits.more_ports)
        ]

    def run(self, stopping: threading.Event) -> None:
        """Send until told to stop; whatever breaks is tried again, or not."""
        acts: Sequence[Callable[[], None]] = (
            *(self._trigger,) * 9,
            *(self._repeat,) * 2,
            *(self._open,) * 3,
            *(self._convert,) * 2,
            self._reach_goal,
            self._hang_up,
        )
        while not stopping.is_set():
            self._chance.choice(acts)()
            time.sleep(self._chance.expovariate(1 / self._habits.pause))
        for connection in self._connections:
            connection.close()

    def _trigger(self) -> None:
        events = [self._new_event() for _ in range(self._some())]
        results = self._post("/webhook/amplitude", events)
        if results is None and self._chance.random() < 0.5:  # a sender that tries once more
            time.sleep(0.05)
            results = self._post("/webhook/amplitude", events)
        for event, result in zip(events, results or (), strict=False):
            self._tell("trigger", event["user_id"], event["$insert_id"], result)
            self._acknowledged.append(event)
            if result["status"] == "scheduled":
                self._known.append((event["user_id"], result["experiment_id"]))

    def _repeat(self) -> None:
        if not self._acknowledged:
            return
        event = self._chance.choice(self._acknowledged)
        for result in self._post("/webhook/amplitude", event) or ():
            user, marker = event["user_id"], event["$insert_id"]
            self._history.told.append(Told("trigger", user, marker, result, repeated=True))

    def _open(self) -> None:
        self._report("opened", "/webhook/opened")

    def _convert(self) -> None:
        self._report("converted", "/webhook/converted")

    def _report(self, kind: Kind, path: str) -> None:
        if not self._known:
            return
        user, experiment_id = self._chance.choice(self._known)
        marker = self._marker(kind)
        said = {"user_id": user, "experiment_id": experiment_id, "marker": marker}
        if self._chance.random() < 0.3:
            del said["experiment_id"]
        for result in self._post(path, said) or ():
            self._tell(kind, user, marker, result)

    def _reach_goal(self) -> None:
        if not self._known:
            return
        user, _ = self._chance.choice(self._known)
        event = {**self._new_event(), "user_id": user, "event_type": GOAL}
        for result in self._post("/webhook/amplitude", event) or ():
            self._tell("goal", user, event["$insert_id"], result)

    def _hang_up(self) -> None:
        """Send an event and leave before the answer: it is stored, or not."""
        connection = self._connection()
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("POST", "/webhook/amplitude", json.dumps(self._new_event()))
            self._history.requests += 1
        connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        several = len(self._connections) > 1
        return self._chance.choice(self._connections) if several else self._connections[0]

    def _new_event(self) -> Json:
        marker = self._marker("event")
        return {
            "event_type": TRIGGER,
            "user_id": f"user of {marker}",
            "device_id": "phone",
            "$insert_id": marker,
            "event_time": datetime.fromtimestamp(time.time(), UTC).isoformat(),
        }

    def _marker(self, kind: str) -> str:
        self._count += 1
        return f"{kind} {self._number}.{self._count}"

    def _some(self) -> int:
        return self._chance.randint(1, self._habits.most_events)

    def _tell(self, kind: Kind, user: str, marker: str, result: Json) -> None:
        self._history.told.append(Told(kind, user, marker, result))

    def _post(self, path: str, body: object) -> list[Json] | None:
        """Return the results if a whole 2xx was read, else None."""
        connection = self._connection()
        try:
            self._history.requests += 1
            connection.request("POST", path, json.dumps(body))
            if not self._habits.reads:
                connection.close()
                return None
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            time.sleep(0.01)
            return None
        if response.status != 200:
            self._history.refused += 1
            return None
        results: list[Json] = json.loads(answer)["results"]
        return results


@contextmanager
def clients(habits: Habits, number: int = 8) -> Iterator[History]:
    """Let clients send while the block runs; afterwards their history is complete."""
    history, stopping = History(), threading.Event()
    threads = [
        threading.Thread(target=Client(one, habits, history).run, args=(stopping,))
        for one in range(number)
    ]
    for thread in threads:
        thread.start()
    try:
        yield history
    finally:
        stopping.set()
        for thread in threads:
            thread.join()


# The process that forks engines


def _nurse(log: Path) -> None:
    """Import everything once; then fork an engine for each `start`, reap it at each `wait`."""
    for name in ("entrypoints.cli.main", "entrypoints.cli.serving", "bootstrap"):
        importlib.import_module(f"experiment_engine.{name}")
    for name in ("uvicorn.protocols.http.httptools_impl", "uvicorn.lifespan.on", "uvloop"):
        importlib.import_module(name)
    child = 0
    for line in sys.stdin:
        if line.strip() == "start":
            child = os.fork()
            if child == 0:
                _serve(log)
            print(child, flush=True)
        else:
            print(os.waitpid(child, 0)[1], flush=True)


def _serve(log: Path) -> None:
    os.setsid()
    end_with_parent, kill = 1, signal.SIGKILL
    ctypes.CDLL(None).prctl(end_with_parent, kill)
    sys.stdin.close()
    with log.open("ab") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    main = importlib.import_module("experiment_engine.entrypoints.cli.main")
    main.run(["serve"])


if __name__ == "__main__":
    _nurse(Path(sys.argv[1]))
