"""One run of wrk against a server, and what it cost."""

import json
import resource
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks import machine, tools

SCRIPT = tools.HERE / "amplitude.lua"


@dataclass(frozen=True, slots=True)
class Load:
    """What to send: to whom, over how many connections, for how long."""

    url: str
    secret: str
    run: str
    """Part of every user id; two runs against one database must differ in it."""
    connections: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run of wrk measured."""

    requests: int
    refused: int
    """Answers outside 2xx."""
    broken: int
    """Connections and requests that failed or took longer than ten seconds."""
    per_second: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    server_cores: float
    wrk_cores: float
    foreign_cores: float
    """Processor use by anything else on the machine: above 0.3 the figure is suspect."""

    @property
    def acknowledged(self) -> int:
        """Requests answered 2xx."""
        return self.requests - self.refused


def drive(load: Load, server_pid: int) -> Outcome:
    """Send the load and measure, with the server's processor time over the same seconds."""
    before, wrk_before = machine.cpu_clock(server_pid), _children_seconds()
    printed = tools.call(
        [
            *("wrk", "--threads", "1", "--timeout", "10s", "--latency"),
            *("--connections", str(load.connections), "--duration", f"{load.seconds:g}s"),
            *("--script", SCRIPT, load.url),
        ],
        folder=tools.HERE,
        env={"RUN": load.run, "SECRET": load.secret},
    )
    after, wrk_after = machine.cpu_clock(server_pid), _children_seconds()
    elapsed = after.at - before.at
    server = (after.process - before.process) / elapsed
    wrk = (wrk_after - wrk_before) / elapsed
    busy = (after.machine - before.machine) / elapsed
    return _outcome(_result(printed), server=server, wrk=wrk, foreign=busy - server - wrk)


def _result(printed: str) -> Mapping[str, int]:
    """Return what the script prints at its end."""
    for line in printed.splitlines():
        if line.startswith("RESULT "):
            result: dict[str, int] = json.loads(line.removeprefix("RESULT "))
            return result
    raise RuntimeError(f"wrk printed no result: {printed[-800:]}")


def _outcome(result: Mapping[str, int], *, server: float, wrk: float, foreign: float) -> Outcome:
    seconds = result["microseconds"] / 1e6
    return Outcome(
        requests=result["requests"],
        refused=result["refused"],
        broken=result["broken"],
        per_second=(result["requests"] - result["refused"]) / seconds,
        p50_ms=result["p50"] / 1000,
        p99_ms=result["p99"] / 1000,
        max_ms=result["max"] / 1000,
        server_cores=server,
        wrk_cores=wrk,
        foreign_cores=foreign,
    )


def _children_seconds() -> float:
    """Processor seconds of the programs that this process started and that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
