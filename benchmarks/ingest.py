"""The ingest benchmark: the whole webhook path, beside the same job in Express."""

import argparse
import datetime as dt
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import configuration, load, machine, report, servers, tools

_EXAMPLE = tools.HERE.parent / "src" / "experiment_engine" / "configuration" / "example"
_RUNS = tools.HERE / ".runs"
_WARM_UP = (32, 1)
"""Connections and seconds before the first figure of every started server."""
_SETTLE_SECONDS = 0.3
"""Between two runs: what the last one left in the server's queue must not delay the next one."""
_OTHER_MODES_SHARE = 0.4
"""Of the seconds a run: the other modes are there for their ratio, which settles sooner."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured."""

    rounds: int
    seconds: int
    connections: tuple[int, ...]
    modes: tuple[report.Mode, ...]
    contenders: tuple[servers.Server, ...]
    example: Path
    keep: bool


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; 1 if an answer was lost or refused, 2 if it cannot run."""
    options = _parser().parse_args(arguments)
    plan = _plan(options)
    try:
        _prepare(plan)
        with _run_folder(options.folder, keep=plan.keep) as folder:
            facts = _facts(plan, folder)
            samples = list(_measure(plan, folder))
    except (tools.MissingToolError, OSError, RuntimeError) as problem:
        tools.say(f"cannot run: {problem}")
        return 2
    sys.stdout.write(report.table(samples, facts))
    if options.json:
        content = report.as_json(samples, facts, _parameters(plan))
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 1 if any(sample.faults for sample in samples) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks ingest", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds, servers by turns (3)")
    parser.add_argument(
        "--seconds", type=int, default=5, help="seconds a run in the full mode (5)"
    )
    parser.add_argument("--quick", action="store_true", help="one round of two seconds a run")
    parser.add_argument("--connections", default="1,32,128", help="comma-separated (1,32,128)")
    modes = [mode.name for mode in report.MODES]
    parser.add_argument("--modes", default=",".join(modes), help=f"some of {', '.join(modes)}")
    names = [server.name for server in servers.SERVERS]
    parser.add_argument("--only", choices=names, help="one server alone: no ratios")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    parser.add_argument("--config", type=Path, default=_EXAMPLE, help="engine configuration")
    parser.add_argument(
        "--folder", type=Path, default=_RUNS, help="for the databases; no RAM disk"
    )
    parser.add_argument("--keep", action="store_true", help="keep databases and server logs")
    return parser


def _plan(options: argparse.Namespace) -> Plan:
    wanted = options.modes.split(",")
    return Plan(
        rounds=1 if options.quick else options.rounds,
        seconds=2 if options.quick else options.seconds,
        connections=tuple(int(number) for number in options.connections.split(",")),
        modes=tuple(mode for mode in report.MODES if mode.name in wanted),
        contenders=tuple(s for s in servers.SERVERS if options.only in {None, s.name}),
        example=options.config.resolve(),
        keep=options.keep,
    )


def _facts(plan: Plan, folder: Path) -> dict[str, object]:
    """Return what the figures depend on: the machine, its disk, the versions."""
    facts: dict[str, object] = dict(machine.description())
    if servers.BASELINE in plan.contenders:
        facts["node"] = tools.call(["node", "--version"], folder=folder).strip().removeprefix("v")
    return {**facts, "sync_ms": round(machine.sync_milliseconds(folder), 3)}


def _parameters(plan: Plan) -> dict[str, object]:
    """Return the part of the plan that belongs beside its figures."""
    return {
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "connections": plan.connections,
        "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }


def _prepare(plan: Plan) -> None:
    """Make sure of all that has to be there before the first server starts."""
    tools.require("wrk", *(("cc",) if any(mode.slow_sync for mode in plan.modes) else ()))
    if servers.BASELINE in plan.contenders:
        tools.require("node", "npm")
        tools.install_baseline()
    if not (plan.example / "engine.toml").is_file():
        raise FileNotFoundError("no engine.toml in the configuration; name a folder with --config")
    for server in plan.contenders:
        if not shutil.which(server.command[0]):
            raise FileNotFoundError(f"{server.command[0]} is not there: run `make install` first")


@contextmanager
def _run_folder(parent: Path, *, keep: bool) -> Iterator[Path]:
    """Make a new folder for everything that a run leaves behind."""
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="ingest-", dir=parent)).resolve()
    try:
        yield folder
    finally:
        if not keep:
            shutil.rmtree(folder)


def _measure(plan: Plan, folder: Path) -> Iterator[report.Sample]:
    """Measure all modes; in each the rounds, and in each round the servers by turns."""
    needs_shim = any(mode.slow_sync for mode in plan.modes)
    slow_sync = tools.compile_slow_sync(folder) if needs_shim else None
    for mode in plan.modes:
        engine_config, baseline_config = _write_configuration(plan, mode, folder / mode.name)
        for number in range(plan.rounds):
            for server in plan.contenders if number % 2 == 0 else plan.contenders[::-1]:
                setting = servers.Setting(
                    folder=folder / mode.name / f"{number}-{server.name}",
                    engine_config=engine_config,
                    baseline_config=baseline_config,
                    stubbed=mode.stubbed,
                    preload=slow_sync if mode.slow_sync else None,
                )
                yield from _session(plan, mode, number, server, setting)


def _write_configuration(plan: Plan, mode: report.Mode, folder: Path) -> tuple[Path, Path]:
    """Write the folder for the engine and the file for the baseline."""
    folder.mkdir()
    engine_config, baseline_config = folder / "configuration", folder / "baseline.json"
    if mode.stubbed:
        configuration.write_stubbed(engine_config)
    else:
        configuration.write_full(plan.example, engine_config)
    configuration.write_baseline(engine_config, baseline_config)
    return engine_config, baseline_config


def _session(
    plan: Plan, mode: report.Mode, number: int, server: servers.Server, setting: servers.Setting
) -> list[report.Sample]:
    """Measure one life of one server, from a probe to the count of its rows."""
    share = 1 if mode.is_full else _OTHER_MODES_SHARE
    seconds = max(1, round(plan.seconds * share))
    measured: list[tuple[int, load.Outcome, float]] = []
    with servers.running(server, setting) as here:
        _probe(here)
        acknowledged = 1 + _drive(here, *_WARM_UP, run="w").acknowledged
        for connections in plan.connections:
            outcome = _drive(here, connections, seconds, run=f"c{connections}")
            acknowledged += outcome.acknowledged
            measured.append((connections, outcome, machine.peak_rss_mb(here.pid)))
            tools.say(
                f"{mode.name} round {number + 1}/{plan.rounds} {server.name:8} c={connections:<3} "
                f"{outcome.per_second:8,.0f} req/s  p99 {outcome.p99_ms:7.1f} ms"
            )
    lost = max(0, acknowledged - servers.stored(server, setting.database))
    if not plan.keep:
        shutil.rmtree(setting.folder)
    return [
        report.Sample(mode.name, server.name, number, connections, peak_rss_mb, lost, outcome)
        for connections, outcome, peak_rss_mb in measured
    ]


def _drive(here: servers.Running, connections: int, seconds: int, *, run: str) -> load.Outcome:
    outcome = load.drive(load.Load(here.url, servers.SECRET, run, connections, seconds), here.pid)
    time.sleep(_SETTLE_SECONDS)
    return outcome


def _probe(here: servers.Running) -> None:
    """Make sure that the load will do the whole work: an event must start an experiment."""
    now = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
    event = {
        "$insert_id": "probe",
        "event_type": "checkout_abandoned",
        "event_time": now.strftime("%Y-%m-%d %H:%M:%S.%f"),
        "user_id": "usr_probe",
        "device_id": "dev_probe",
        "event_properties": {
            "region": "Bihar",
            "language": "Hindi",
            "show_name": "Mitti",
            "plan_viewed": "yearly_499",
        },
    }
    status = here.probe(json.dumps(event))
    if status not in {"scheduled", "holdout"}:
        raise RuntimeError(f"{here.server.name} starts no experiment but answers {status!r}")


if __name__ == "__main__":
    sys.exit(main())
