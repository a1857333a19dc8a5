"""A conversion, an opt-out or an erasure at the very moment at which a message is claimed.

`RACES` and `RACE_SEED` choose how many there are in the long form, and when they happen:
`RACES=20000 RACE_SEED=7 make test-long TESTS=tests/faults/test_races.py`.
"""

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from tests.support.clevertap_double import sends_by_user
from tests.support.configuration import COHORT, GOAL, cohort
from tests.support.events import amplitude_event
from tests.support.hosts import Hosts, some_hosts
from tests.support.onlooker import DATABASES

from experiment_engine.domain.moments import Instant, iso

SEED = int(os.environ.get("RACE_SEED", "20261122"))
FEW, MANY = 500, int(os.environ.get("RACES", "5000"))
STOPPERS = 8  # threads
AROUND = 0.05  # seconds before and after the moment at which claims come
DELAY = 0.5  # of the only combo
AT_ONCE = 10  # messages that come due at the same moment
PATIENCE = 60.0  # seconds; only a failing test waits that long
NEVER = 1 << 62


@dataclass(frozen=True)
class Race:
    """One message, and what must be stopped at about the time of its claim."""

    user: str
    experiment_id: str
    kind: str
    due_at: float  # seconds of the wall


@dataclass(frozen=True)
class Run:
    """A race that was run: when the answer had been read, and whether it said "stopped"."""

    race: Race
    answered_at: float
    stopped: bool


class Moment:
    """When to strike, from the due time on: moved to where half of the messages get away."""

    def __init__(self) -> None:
        self._after, self._turn = 0.025, threading.Lock()

    def draw(self, chance: random.Random) -> float:
        return self._after + chance.uniform(-AROUND, AROUND)

    def learn(self, *, stopped: bool) -> None:
        with self._turn:
            self._after += 0.001 if stopped else -0.001


@pytest.mark.parametrize("database", DATABASES)
def test_whoever_was_answered_first_gets_no_message(tmp_path: Path, database: str) -> None:
    """Whose stop was answered before the claim is not written to; whose came later, is, once."""
    _race(tmp_path, database, FEW)


@pytest.mark.long
@pytest.mark.parametrize("database", DATABASES)
def test_thousands_of_races(tmp_path: Path, database: str) -> None:
    """The same, five thousand times."""
    _race(tmp_path, database, MANY)


def _race(folder: Path, database: str, races: int) -> None:
    cohorts = {COHORT: cohort(delay=[f"{DELAY}s"])}
    with some_hosts(
        database, folder, cohorts=cohorts, delivery={"expires_after": "5min"}
    ) as hosts:
        runs = _run(hosts, races)
        hosts.until_all_ended(PATIENCE)
        called = sends_by_user(hosts.double.ledger())
        query = "SELECT id, state, reason, placed_at, converted_at FROM experiment"
        stored = {row["id"]: row for row in hosts.look(query)}
    _print(database, runs, called, stored)
    assert len(runs) == races
    wrong = [problem for run in runs for problem in _problems(run, called, stored)]
    assert not wrong, f"{len(wrong)} of {races}: {wrong[:5]}"
    assert max(called.values()) == 1
    for kind in KINDS:  # else nothing was tried
        ends = Counter(
            stored[run.race.experiment_id]["state"] for run in runs if run.race.kind == kind
        )
        assert min(ends["sent"], ends["cancelled"]) >= races / 60, f"{kind}: {ends}"


def _run(hosts: Hosts, races: int) -> list[Run]:
    """Let messages come due all the time, and stop each at about the moment of its claim."""
    waiting: SimpleQueue[Race | None] = SimpleQueue()
    runs: list[Run] = []
    moments = {kind: Moment() for kind in KINDS}
    stoppers = [
        threading.Thread(target=_stop, args=(hosts, number, waiting, moments, runs))
        for number in range(STOPPERS)
    ]
    for thread in stoppers:
        thread.start()
    for race in _races(hosts, races):
        waiting.put(race)
    for _ in stoppers:
        waiting.put(None)
    for thread in stoppers:
        thread.join()
    return runs


def _races(hosts: Hosts, races: int) -> Iterator[Race]:
    chance = random.Random(f"{SEED} kinds")
    for first in range(0, races, AT_ONCE):
        users = [f"user {n}" for n in range(first, min(first + AT_ONCE, races))]
        now = time.time()
        at = iso(Instant(int(now * 1_000)))
        events = [amplitude_event(user, at) for user in users]
        results = hosts.results("/webhook/amplitude", events)
        for user, result in zip(users, results, strict=True):
            assert result["status"] == "scheduled", result
            kind = chance.choice(KINDS)
            yield Race(user, result["experiment_id"], kind, now + DELAY)
        time.sleep(0.05)


def _stop(
    hosts: Hosts,
    number: int,
    waiting: "SimpleQueue[Race | None]",
    moments: Mapping[str, Moment],
    runs: list[Run],
) -> None:
    chance = random.Random(f"{SEED} stopper {number}")
    while (race := waiting.get()) is not None:
        moment = race.due_at + moments[race.kind].draw(chance)
        time.sleep(max(0.0, moment - time.time()))
        stopped = STOPS[race.kind](hosts, race)
        runs.append(Run(race, time.time(), stopped))
        moments[race.kind].learn(stopped=stopped)
    hosts.hang_up()


# Each stops a message, and says whether the engine told that it will not go out.


def _convert(hosts: Hosts, race: Race) -> bool:
    """Tell of a conversion: of now through CleverTap, or of a moment ago through Amplitude."""
    if race.user.endswith(("1", "3", "5", "7", "9")):
        (result,) = hosts.results("/webhook/converted", {"user_id": race.user})
    else:
        at = iso(Instant(int((time.time() - AROUND) * 1_000)))
        event = amplitude_event(race.user, at, GOAL)
        (result,) = hosts.results("/webhook/amplitude", event)
    assert result["status"] in ("cancelled", "recorded"), result
    return bool(result["status"] == "cancelled")


def _opt_out(hosts: Hosts, race: Race) -> bool:
    (result,) = hosts.results("/webhook/opted-out", {"user_id": race.user})
    return result.get("experiment_id") == race.experiment_id


def _erase(hosts: Hosts, race: Race) -> bool:
    hosts.ask("DELETE", f"/api/users/{race.user}")
    (row,) = hosts.look("SELECT state FROM experiment WHERE id = ?", race.experiment_id)
    return bool(row["state"] == "cancelled")


STOPS = {"conversion": _convert, "opt-out": _opt_out, "erasure": _erase}
REASONS = {"conversion": "converted", "opt-out": "opted_out", "erasure": "erased"}
KINDS = tuple(STOPS)


def _problems(
    run: Run, called: Mapping[str, int], stored: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    """Compare what was told, what the provider knows and what is stored of one race."""
    row, was_called = stored[run.race.experiment_id], run.race.user in called
    end = (row["state"], row["reason"])
    if run.stopped and was_called:
        yield f"told that nothing goes out, and called: {run}"
    if not run.stopped and not was_called:
        yield f"neither stopped nor called: {run}"
    if was_called and (row["placed_at"] or 0) > run.answered_at * 1_000:
        yield f"claimed after the answer: {run}"
    if end != (("sent", None) if was_called else ("cancelled", REASONS[run.race.kind])):
        yield f"stored as {end}, called {was_called}: {run}"


def _print(
    database: str, runs: Sequence[Run], called: Mapping[str, int], stored: Mapping[str, Any]
) -> None:
    ends = Counter((run.race.kind, "stopped" if run.stopped else "sent") for run in runs)
    converted = [stored[r.race.experiment_id] for r in runs if r.race.kind == "conversion"]
    in_flight = [
        row
        for row in converted
        if row["state"] == "sent" and (row["converted_at"] or NEVER) <= row["placed_at"]
    ]
    print(
        f"seed {SEED}, {database}: {len(runs)} races {dict(sorted(ends.items()))},"
        f" {len(called)} called; converted_in_flight {len(in_flight)} of {len(converted)}"
        f" conversions ({len(in_flight) / max(1, len(converted)):.1%})"
    )
