"""`python -m benchmarks database`: everything on one server of its own, in one run, as ratios."""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psycopg
from tests.support.postgres import PostgresServer, a_database, a_server

from benchmarks.configuration import write_stubbed
from benchmarks.database.ours import a_trigger, an_engine, drain
from benchmarks.machine import description
from benchmarks.tools import say
from experiment_engine.engine.engine import Engine

PEERS = ("pgqueuer", "procrastinate", "dbos")
_SLOW_PEER_JOBS = 2_000  # of a peer that would take minutes: its rate is what is compared
_LOOKS = 200
_BATCH = 500

_FUTURE = """
INSERT INTO experiment
SELECT (jsonb_populate_record(made, jsonb_build_object(
         'id', 'future-' || n, 'user_id', 'future-' || n, 'due_at', (made).due_at + 864000000,
         'expires_at', (made).expires_at + 864000000, 'state', 'scheduled', 'slot', 'waiting'))).*
  FROM (SELECT one FROM experiment AS one LIMIT 1) AS first(made), generate_series(1, %s) AS n
"""


def main(arguments: Sequence[str]) -> int:
    """Run all parts, or those named; return the exit status."""
    parser = argparse.ArgumentParser(prog="benchmarks database", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=["ingest", "drain", "size", []], default=[])
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--future", type=int, default=1_000_000)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5.0)
    chosen = parser.parse_args(arguments)
    parts = chosen.parts or ["ingest", "drain", "size"]
    say(" ".join(f"{name}={value}" for name, value in description().items()))
    settings = {"shared_buffers": "512MB", "max_wal_size": "4GB"}
    with a_server(**settings) as server, tempfile.TemporaryDirectory() as folder:
        configuration = _configuration(Path(folder))
        if "ingest" in parts:
            _ingest(server, configuration, chosen.clients, chosen.seconds)
        if "drain" in parts:
            _drain(server, configuration, chosen.jobs)
        if "size" in parts:
            _size(server, configuration, chosen.jobs, chosen.future)
    return 0


def _configuration(folder: Path) -> Path:
    write_stubbed(folder / "configuration")
    cohort = next((folder / "configuration" / "cohorts").glob("*.toml"))
    cohort.write_text(cohort.read_text().replace('"2min"', '"1s"'))
    return folder / "configuration"


def _ingest(server: PostgresServer, configuration: Path, clients: int, seconds: float) -> None:
    """Compare group commit with a transaction a request, on one and on two processes."""
    say("\n| taking in | processes | a second | against a transaction a request |")
    say("| - | - | - | - |")
    for processes in (1, 2):
        rates = {}
        for how in ("request", "group"):
            with a_database(server) as url:
                running = [
                    _started("ours", how, url, configuration, clients, seconds, place * 10**8)
                    for place in range(processes)
                ]
                answered = sum(int(_output(process)) for process in running)
            rates[how] = answered / seconds
        ratio = rates["group"] / rates["request"]
        say(f"| a transaction a request | {processes} | {rates['request']:.0f} | 1 |")
        say(f"| group commit | {processes} | {rates['group']:.0f} | **{ratio:.1f}** |")


def _drain(server: PostgresServer, configuration: Path, jobs: int) -> None:
    """Compare how fast due messages are claimed and recorded with job queues' trivial jobs."""
    with a_database(server) as url, an_engine(url, configuration) as engine:
        ours = _drained(engine, jobs, first=0)
    say("\n| draining what is due | jobs | a second | ours against it |\n| - | - | - | - |")
    say(f"| ours, every check and the record of each | {jobs} | {ours:.0f} | 1 |")
    for peer in PEERS:
        number = jobs if peer == "pgqueuer" else min(jobs, _SLOW_PEER_JOBS)
        with a_database(server, empty=True) as url:
            seconds = float(_output(_started("peers", peer, url, number)))
        rate = number / seconds
        say(f"| {peer} | {number} | {rate:.0f} | **{ours / rate:.1f}** |")


def _size(server: PostgresServer, configuration: Path, jobs: int, future: int) -> None:
    """Compare claims and statistics with and without a million deliveries in the future."""
    with a_database(server) as url, an_engine(url, configuration) as engine:
        few = (_drained(engine, jobs, first=0), _looks(engine))
        with psycopg.connect(url) as connection:
            connection.execute(_FUTURE, (future,))
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("ANALYZE experiment")
        many = (_drained(engine, jobs, first=10**7), _looks(engine))
    say(f"\n| | {jobs} experiments | and {future} in the future | ratio |\n| - | - | - | - |")
    say(f"| drained a second | {few[0]:.0f} | {many[0]:.0f} | **{many[0] / few[0]:.2f}** |")
    say(f"| /api/stats, p99 ms | {few[1]:.1f} | {many[1]:.1f} | **{many[1] / few[1]:.2f}** |")


def _drained(engine: Engine, jobs: int, *, first: int) -> float:
    """Schedule messages, wait until they are due, and return how many are drained a second."""
    waiting = 0
    for start in range(first, first + jobs, _BATCH):
        taken = engine.traffic.take([a_trigger(number) for number in range(start, start + _BATCH)])
        waiting += sum(not made.held_out for made, _ in taken.decided.values())
    time.sleep(1.5)
    return waiting / drain(engine, waiting)


def _looks(engine: Engine) -> float:
    """Return the 99th percentile of the time in which the statistics are answered, in ms."""
    times = []
    for _ in range(_LOOKS):
        began = time.perf_counter()
        engine.report.statistics()
        times.append(1_000 * (time.perf_counter() - began))
    return float(np.quantile(times, 0.99))


def _started(module: str, *arguments: object) -> subprocess.Popen[str]:
    # The package has imported the module that is run: that is meant, and no reason to warn.
    quiet = ("-W", "ignore::RuntimeWarning")
    command = [sys.executable, *quiet, "-m", f"benchmarks.database.{module}", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _output(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=900)
    if process.returncode:
        raise RuntimeError(f"a part of the benchmark failed with {process.returncode}")
    return output.strip().splitlines()[-1]
