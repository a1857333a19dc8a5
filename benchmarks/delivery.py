"""The delivery benchmark: what is due to the provider, beside the bare HTTP client."""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import backlog, delivery_report, draining, machine, servers, tools

_RUNS = tools.HERE / ".runs"
_BATCHED_IN_FLIGHT = 3
"""CleverTap's limit, and the engine's default."""
_LEAST_WAVES = 4
"""The first wave is not measured."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured."""

    rounds: int
    messages: Mapping[int, int]
    """By users a call: how many messages are due."""
    scenarios: tuple[draining.Scenario, ...]
    keep: bool


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; 1 if a message was lost or sent twice, 2 if it cannot run."""
    options = _parser().parse_args(arguments)
    try:
        plan = _plan(options)
        _prepare()
        options.folder.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="delivery-", dir=options.folder)).resolve()
        try:
            facts = {
                **machine.description(),
                "sync_ms": round(machine.sync_milliseconds(folder), 3),
            }
            samples = list(_measure(plan, folder))
        finally:
            if not plan.keep:
                shutil.rmtree(folder)
    except (OSError, RuntimeError, ValueError) as problem:
        tools.say(f"cannot run: {problem}")
        return 2
    sys.stdout.write(delivery_report.table(samples, facts))
    if options.json:
        content = delivery_report.as_json(samples, facts, _parameters(plan))
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 1 if any(sample.faults for sample in samples) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks delivery", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1, help="rounds; medians are printed (1)")
    parser.add_argument("--messages", type=int, default=2_000, help="with one user a call (2000)")
    parser.add_argument("--in-flight", default="3,16,64", help="calls, comma-separated (3,16,64)")
    parser.add_argument("--latency", default="0,5", help="of the provider, in ms (0,5)")
    parser.add_argument(
        "--batch", type=int, default=1_000, help="users a call when batched (1000)"
    )
    parser.add_argument("--batched", type=int, default=20_000, help="messages batched (20000)")
    parser.add_argument("--batched-latency", default="0", help="of the provider, in ms (0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    parser.add_argument(
        "--folder", type=Path, default=_RUNS, help="for the databases; no RAM disk"
    )
    parser.add_argument("--keep", action="store_true", help="keep databases, ledgers and logs")
    return parser


def _plan(options: argparse.Namespace) -> Plan:
    in_flight = [int(number) for number in options.in_flight.split(",") if number]
    single = [
        draining.Scenario(1, calls, float(latency))
        for calls in in_flight
        for latency in options.latency.split(",")
    ]
    batched = [
        draining.Scenario(options.batch, _BATCHED_IN_FLIGHT, float(latency))
        for latency in options.batched_latency.split(",")
        if options.batched
    ]
    messages = {1: options.messages, options.batch: options.batched}
    for scenario in (*single, *batched):
        least = scenario.batch * scenario.in_flight * _LEAST_WAVES
        if messages[scenario.batch] < least:
            raise ValueError(f"{scenario} needs at least {least} messages")
    return Plan(options.rounds, messages, (*single, *batched), options.keep)


def _parameters(plan: Plan) -> dict[str, object]:
    """Return the part of the plan that belongs beside its figures."""
    return {
        "rounds": plan.rounds,
        "messages": dict(plan.messages),
        "at": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
    }


def _prepare() -> None:
    """Make sure of what has to be there before the engine starts."""
    command = servers.OURS.command[0]
    if not shutil.which(command):
        raise FileNotFoundError(f"{command} is not there: run `make install` first")


def _measure(plan: Plan, folder: Path) -> Iterator[delivery_report.Sample]:
    """Take in all messages first; then drain copies of them, and post the same calls bare."""
    batches = sorted({scenario.batch for scenario in plan.scenarios}, reverse=True)
    backlogs = {
        batch: backlog.prepare(folder / f"backlog-{batch}", plan.messages[batch])
        for batch in batches  # the largest first: while the next is taken in, it becomes due
    }
    for number in range(plan.rounds):
        for place, scenario in enumerate(plan.scenarios):
            sample = _sample(number, scenario, backlogs[scenario.batch], folder / "run")
            tools.say(
                f"round {number + 1}/{plan.rounds} {place + 1}/{len(plan.scenarios)} {scenario}: "
                f"{sample.ours.per_second:,.0f} messages/s, bare {sample.client.per_second:,.0f}"
            )
            if not plan.keep:
                shutil.rmtree(folder / "run")
            yield sample


def _sample(
    number: int, scenario: draining.Scenario, waiting: backlog.Backlog, folder: Path
) -> delivery_report.Sample:
    """Measure one scenario with both."""
    ours = draining.drain(waiting, scenario, folder / "ours")
    client = draining.post_bare(waiting.messages, scenario, folder / "client")
    return delivery_report.Sample(scenario, number, ours, client)


if __name__ == "__main__":
    sys.exit(main())
