"""How fast messages reach the provider: from the engine's worker, and from its bare HTTP client.

The judge is the ledger of the provider double (`tests/support/clevertap_double.py`), a process of
its own: who was written to, and when.
"""

import asyncio
import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx2
from tests.support import clevertap_double as provider

from benchmarks import backlog, machine, servers

_LOOK_SECONDS = 0.1
_STALLED_SECONDS = 10
"""Without a new line in the ledger, the rest is lost."""
_SETTLE_SECONDS = 0.3
"""After the last message: one that goes out twice would come now."""
_LEAST_CALLS = 200
"""Of the bare client; a few dozen would be over before they can be measured."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One way to send."""

    batch: int
    """Users a call, at most."""
    in_flight: int
    latency_ms: float
    """From the provider's having processed a call to its answer."""

    def __str__(self) -> str:
        """Name it in a line of progress."""
        each = "one user a call" if self.batch == 1 else f"{self.batch} users a call"
        return f"{each}, {self.in_flight} in flight, {self.latency_ms:g} ms"


@dataclass(frozen=True, slots=True)
class Sent:
    """What the provider saw of one run, and what it cost."""

    messages: int
    calls: int
    per_second: float
    """Messages, from the first entry of the ledger to the last, the first wave apart."""
    cores: float
    """Used by whoever sent: the engine's process, or the bare client's."""
    foreign_cores: float
    """Processor use by anything that is not of this benchmark: above 0.3 a figure is suspect."""
    lost: int = 0
    doubled: int = 0
    unrecorded: int = 0
    """Messages that the provider took and that the engine's database does not show as sent."""
    refused: int = 0
    """Calls not answered 200, as those above the provider's limit."""


def drain(waiting: backlog.Backlog, scenario: Scenario, folder: Path) -> Sent:
    """Start the engine paused on a copy of the backlog, let go, and look at the ledger."""
    folder.mkdir(parents=True)
    configuration, ledger = folder / "configuration", folder / "ledger.jsonl"
    backlog.write_configuration(
        configuration,
        delay=waiting.delay,
        batch=scenario.batch,
        in_flight=scenario.in_flight,
    )
    database = waiting.copy(folder / "data.db")
    setting = backlog.engine_setting(folder / "engine", configuration)
    with _provider(ledger, scenario) as double:
        ours = backlog.engine(
            double.base_url, DATABASE_URL=f"sqlite:///{database}", START_PAUSED="1"
        )
        with servers.running(ours, setting) as here:
            waiting.wait_until_due()
            tree, clock = machine.cpu_clock(os.getpid()), machine.cpu_clock(here.pid)
            backlog.ask(here, "/api/resume", {})
            _wait_for(ledger, waiting.messages)
            cores = _cores(clock, machine.cpu_clock(here.pid))
            foreign = _foreign_cores(tree, machine.cpu_clock(os.getpid()))
            time.sleep(_SETTLE_SECONDS)
        refused = _not_accepted(double.stats())
    return _judged(
        provider.read_ledger(ledger),
        scenario,
        expected=waiting.messages,
        cores=cores,
        foreign_cores=foreign,
        unrecorded=waiting.messages - _shown_as_sent(database),
        refused=refused,
    )


def post_bare(messages: int, scenario: Scenario, folder: Path) -> Sent:
    """Post calls of the same size and number in flight, with nothing around the client."""
    folder.mkdir(parents=True)
    ledger = folder / "ledger.jsonl"
    messages = max(messages, _LEAST_CALLS * scenario.batch)
    bodies = list(_bodies(messages, scenario.batch))
    with _provider(ledger, scenario) as double:
        tree, own, began = machine.cpu_clock(os.getpid()), time.process_time(), time.monotonic()
        asyncio.run(_post_all(double.base_url, bodies, scenario.in_flight))
        cores = (time.process_time() - own) / (time.monotonic() - began)
        foreign = _foreign_cores(tree, machine.cpu_clock(os.getpid()))
        refused = _not_accepted(double.stats())
    calls = provider.read_ledger(ledger)
    return _judged(
        calls,
        scenario,
        expected=messages,
        cores=cores,
        foreign_cores=foreign,
        refused=refused,
    )


@contextlib.contextmanager
def _provider(ledger: Path, scenario: Scenario) -> Iterator[provider.CleverTapDoubleProcess]:
    """Run the double; it does not sync its ledger, the disk is for the engine."""
    with provider.CleverTapDoubleProcess(
        ledger, fsync=False, max_in_flight=scenario.in_flight, latency_ms=scenario.latency_ms
    ) as double:
        yield double


def _wait_for(ledger: Path, messages: int) -> None:
    """Return when this many messages stand in the ledger, or no more come."""
    seen, rest, last = 0, b"", time.monotonic()
    with ledger.open("rb") as file:
        while seen < messages and time.monotonic() - last < _STALLED_SECONDS:
            time.sleep(_LOOK_SECONDS)
            *lines, rest = (rest + file.read()).split(b"\n")
            if lines:
                seen, last = seen + sum(map(_messages_in, lines)), time.monotonic()


def _messages_in(line: bytes) -> int:
    entry = json.loads(line)
    return len(entry["users"]) if entry.get("processed") else 0


def _bodies(messages: int, batch: int) -> Iterator[bytes]:
    """Yield what the engine would write for these messages (CONTRACT 8), ready to send."""
    for number in range(messages // batch):
        link, extra = "app://open?xp=", {}
        if batch == 1:
            extra = {"experiment_id": f"019ab0c4-7d1e-7c3f-9a51-{number:012x}"}
            link += extra["experiment_id"]
        platform = {"deep_link": link, **extra}
        content = {
            "title": backlog.TITLE,
            "body": backlog.TEXT,
            "platform_specific": {"android": platform, "ios": platform},
        }
        users = [f"usr_{number * batch + place:08x}" for place in range(batch)]
        yield json.dumps({"to": {"Identity": users}, "content": content}).encode()


async def _post_all(url: str, bodies: Iterable[bytes], in_flight: int) -> None:
    """Post everything with a fixed number of calls in flight; answers are read and checked."""
    headers = {
        "X-CleverTap-Account-Id": provider.ACCOUNT_ID,
        "X-CleverTap-Passcode": provider.PASSCODE,
        "Content-Type": provider.JSON_TYPE,
    }
    limits = httpx2.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
    waiting = iter(bodies)
    async with httpx2.AsyncClient(
        base_url=url, headers=headers, limits=limits, timeout=15, trust_env=False
    ) as client:

        async def post_on() -> None:
            for body in waiting:
                answer = await client.post(provider.PUSH, content=body)
                answer.raise_for_status()
                if answer.json()["status"] != "success":
                    raise RuntimeError(f"the provider double answered {answer.text[:400]}")

        async with asyncio.TaskGroup() as group:
            for _ in range(in_flight):
                group.create_task(post_on())


def _judged(
    calls: Sequence[provider.Call],
    scenario: Scenario,
    *,
    expected: int,
    cores: float,
    foreign_cores: float,
    refused: int,
    unrecorded: int = 0,
) -> Sent:
    """Compare the ledger with what had to be sent."""
    by_user = provider.sends_by_user(calls)
    return Sent(
        messages=by_user.total(),
        calls=len(calls),
        per_second=_per_second(calls, scenario.in_flight),
        cores=cores,
        foreign_cores=foreign_cores,
        lost=expected - len(by_user),
        doubled=by_user.total() - len(by_user),
        unrecorded=unrecorded,
        refused=refused,
    )


def _per_second(calls: Sequence[provider.Call], in_flight: int) -> float:
    """Messages a second from the first entry to the last.

    The first wave, as many calls as go out at once, was on its way before the first entry.
    """
    messages = sum(len(call.users) for call in calls[in_flight:])
    if not messages:
        return 0.0
    return messages / (calls[-1].time - calls[0].time)


def _shown_as_sent(database: Path) -> int:
    """Return how many messages the engine, stopped by now, has recorded as sent."""
    opened = sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)
    with contextlib.closing(opened) as connection:
        query = "SELECT count(*) FROM experiment WHERE state = 'sent'"
        return int(connection.execute(query).fetchone()[0])


def _not_accepted(stats: provider.Stats) -> int:
    return sum(number for status, number in stats.statuses.items() if status != "200")


def _cores(before: machine.CpuClock, after: machine.CpuClock) -> float:
    return (after.process - before.process) / (after.at - before.at)


def _foreign_cores(before: machine.CpuClock, after: machine.CpuClock) -> float:
    """Cores used outside the tree of this process: not by us, an engine or the double."""
    ours = after.process - before.process
    return (after.machine - before.machine - ours) / (after.at - before.at)
