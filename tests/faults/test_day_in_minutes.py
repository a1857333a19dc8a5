"""A day with its rush hours, outages, a restart and clocks set back, in fast time.

At its end every message has come to one end, the counters are what the day's own count says, and
the process is no larger than it was. The long form has 100,000 users:
`make test-long TESTS=tests/faults/test_day_in_minutes.py`. DAY_SEED draws another day.
"""

import gc
import heapq
import math
import os
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from tests.faults.ledgers import Row, Stored, judge, waiting
from tests.support.clevertap_double import Call, CleverTapDoubleProcess
from tests.support.configuration import COHORT, GOAL, cohort
from tests.support.crash import History
from tests.support.engine import RunningEngine
from tests.support.events import Json, amplitude_event
from tests.support.start import Start

from experiment_engine.domain.moments import HOUR, MINUTE, Duration, Instant, iso, to_datetime

SEED = int(os.environ.get("DAY_SEED", "20261126"))
BERLIN = ZoneInfo("Europe/Berlin")
NOON = datetime(2026, 10, 24, 10, 0, tzinfo=UTC)  # in the night clocks are set back
QUIET = (23, 8)  # o'clock
AT_ONCE = 200  # events in a request

_OUTAGES = (3, 8, 21, 23)  # hours of the day that begin without a provider
_RESTART = 18  # hours after noon
_TROUBLES = ("429", "503")
_MB = 1 << 20
_MOST_LOG = 64 * _MB


@dataclass
class Day:
    """What the day's own count says, and what of the process was measured at each hour."""

    chance: random.Random
    results: Counter[str] = field(default_factory=Counter)
    recorded: Counter[str] = field(default_factory=Counter)
    resident: list[int] = field(default_factory=list)  # bytes
    descriptors: list[int] = field(default_factory=list)
    log: list[int] = field(default_factory=list)  # bytes
    users: int = 0
    later: list[tuple[int, int, str, str]] = field(default_factory=list)  # opens, conversions

    def leave(self, engine: RunningEngine, number: int) -> None:
        """Let users leave the checkout now; some will open what they get, some come back."""
        now = engine.clock.now()
        for first in range(0, number, AT_ONCE):
            events = [self._newcomer(engine) for _ in range(min(AT_ONCE, number - first))]
            for event, result in zip(events, engine.events(*events), strict=True):
                self.results[result["status"]] += 1
                self._plan(now, event["user_id"])

    def _newcomer(self, engine: RunningEngine) -> Json:
        self.users += 1
        return amplitude_event(f"user {self.users}", engine.clock.iso())

    def _plan(self, now: Instant, user: str) -> None:
        for what, share, mean in (("opened", 0.25, 2 * HOUR), (GOAL, 0.05, 3 * HOUR)):
            if self.chance.random() < share:
                at = now + round(self.chance.expovariate(1 / mean))
                heapq.heappush(self.later, (at, len(self.later), what, user))

    def report(self, engine: RunningEngine) -> None:
        """Report what has happened by now."""
        opened, returned = [], []
        while self.later and self.later[0][0] <= engine.clock.now():
            at, _, what, user = heapq.heappop(self.later)
            if what == GOAL:
                returned.append(amplitude_event(user, iso(Instant(at)), GOAL))
            else:
                opened.append({"identity": user})
        for results in (
            engine.events(*returned) if returned else [],
            engine.results("/webhook/opened", {"targetId": 1, "profiles": opened})
            if opened
            else [],
        ):
            self.recorded.update(result["status"] for result in results)

    def measure(self, log: Path) -> None:
        """Note how large the process and the database's log are."""
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        self.resident.append(pages * os.sysconf("SC_PAGE_SIZE"))
        self.descriptors.append(len(list(Path("/proc/self/fd").iterdir())))
        self.log.append(log.stat().st_size if log.exists() else 0)


def test_a_day_in_seconds(tmp_path: Path) -> None:
    """Twelve hundred users, a step a quarter of an hour: all ends and is counted, none leaks."""
    _live(tmp_path, users=1_200, step=Duration(15 * MINUTE))


@pytest.mark.long
def test_a_large_day_in_minutes(tmp_path: Path) -> None:
    """A hundred thousand users, a step every two minutes."""
    _live(tmp_path, users=100_000, step=Duration(2 * MINUTE))


def _live(folder: Path, *, users: int, step: Duration) -> None:
    began, worked = time.monotonic(), time.process_time()
    day = Day(random.Random(SEED))
    with _provider(folder) as double:
        with _engines(folder, double) as start:
            _pass(day, start, double, users, step)
        stored, calls = Stored.read(folder / "engine.db"), double.calls()
    seconds, worked = time.monotonic() - began, time.process_time() - worked
    states = Counter((row["state"], row["reason"]) for row in stored.experiments.values())
    grown = (max(day.resident[18:]) - max(day.resident[6:12])) / _MB
    print(
        f"seed {SEED}: {day.users} users in 24 hours and the night after, in {seconds:.0f} s"
        f" ({worked:.0f} s of work);"
        f" {dict(states)}; {sum(not call.processed for call in calls)} calls refused;"
        f" {dict(day.recorded)}; resident {day.resident[6] / _MB:.0f} MB after 6 h,"
        f" {grown:+.1f} MB in the last quarter over the second; descriptors"
        f" {min(day.descriptors)} to {max(day.descriptors)}; log at most"
        f" {max(day.log) / _MB:.1f} MB"
    )
    _check_ends(day, stored, calls)
    assert grown <= 8 + users / 4_000  # MB: what is kept of users that come and go
    assert max(day.descriptors[12:]) <= max(day.descriptors[:12]) + 4
    assert max(day.log) <= _MOST_LOG


def _pass(
    day: Day, start: Start, double: CleverTapDoubleProcess, users: int, step: Duration
) -> None:
    """Live through the day, and on until nothing waits any more."""
    engine, share, ends = _begin(start, double), _shares(step), 24 * HOUR // step
    left = users
    for number in range(ends + 24 * HOUR // step):
        hour, minute = divmod(number * step, HOUR)
        if minute == 0 and number < ends:
            double.configure(behaviour=_TROUBLES[hour % 2] if hour in _OUTAGES else "ok")
        if minute >= 5 * MINUTE and hour in _OUTAGES:
            double.configure(behaviour="ok")
        if number < ends:
            coming = min(left, round(users * share[number]) if number < ends - 1 else left)
            day.leave(engine, coming)
            left -= coming
        elif not waiting(start.folder / "engine.db"):
            break
        day.report(engine)
        engine.deliver(f"{step // MINUTE}min")
        engine.learn()
        if minute == 0 and number < ends:
            _keep_house(day, engine, start.folder)
            if hour == _RESTART:
                engine = _begin(start, double)
    assert left == 0


def _keep_house(day: Day, engine: RunningEngine, folder: Path) -> None:
    """Do by hand what upkeep does, and measure."""
    while engine.engine.duties.measure():
        pass
    while engine.engine.duties.tidy():
        pass
    engine.log.seek(0)
    engine.log.truncate(0)  # the test's own memory
    day.measure(folder / "engine.db-wal")


def _shares(step: Duration) -> Sequence[float]:
    """Return which share of the users comes in each step: few at night, many in the evening."""
    weights = [
        1 + 0.9 * math.cos(2 * math.pi * (at - 10 * HOUR) / (24 * HOUR))
        for at in range(0, 24 * HOUR, step)
    ]
    return [weight / sum(weights) for weight in weights]


def _check_ends(day: Day, stored: Stored, calls: Sequence[Call]) -> None:
    """Compare the database with the provider's ledger and with the day's own count."""
    ledger = [call for call in calls if call.processed]
    for promise, broken in judge(History(), ledger, stored):
        assert not broken, f"{promise}: {broken}"
    rows = list(stored.experiments.values())
    assert day.results.keys() <= {"scheduled", "holdout", "ignored"}
    assert len(rows) == day.results["scheduled"] + day.results["holdout"]
    assert day.users == day.results.total()
    ends = {row["state"] for row in rows}
    assert ends <= {"sent", "unknown", "failed", "held_out", "cancelled", "expired"}
    assert sum(bool(row["opened_at"]) + bool(row["converted_at"]) for row in rows) == (
        day.recorded["recorded"] + day.recorded["cancelled"]
    )
    early = [row for row in rows if row["state"] == "sent" and _in_quiet_hours(row)]
    assert not early, dict(early[0])
    assert sum(row["state"] == "sent" for row in rows) > len(rows) // 2


def _in_quiet_hours(row: Row) -> bool:
    local = to_datetime(Instant(row["placed_at"])).astimezone(BERLIN)
    return local.hour >= QUIET[0] or local.hour < QUIET[1]


@contextmanager
def _provider(folder: Path) -> Iterator[CleverTapDoubleProcess]:
    with CleverTapDoubleProcess(folder / "ledger", fsync=False, max_in_flight=9) as double:
        yield double


@contextmanager
def _engines(folder: Path, double: CleverTapDoubleProcess) -> Iterator[Start]:
    start = Start(folder)
    start.clock.set(NOON)
    try:
        yield start
    finally:
        start.stop()


def _begin(start: Start, double: CleverTapDoubleProcess) -> RunningEngine:
    lane = {"batch": 20, "max_in_flight": 3}
    return start(
        to=double,
        cohorts={
            COHORT: cohort(delay=["2min", "30min", "2h"], channel=["push", "whatsapp"]),
        },
        channels={"push": lane, "whatsapp": {**lane, "campaigns": {"*|*|*": "1700000000"}}},
        timezone="Europe/Berlin",
        quiet_hours={"start": f"{QUIET[0]}:00", "end": f"0{QUIET[1]}:00"},
        frequency_cap={"messages": 2, "per": "7d", "min_gap": "1h"},
        holdout={"share": 0.05},
        retention={"raw_events": "6h", "experiments": "400d"},
    )
