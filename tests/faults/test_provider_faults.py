"""Every way a provider can fail, through the real worker, storage and sender.

The engine's clock runs 40 times faster than the wall's, and the time limit of a call is as much
shorter, so that to the engine 15 seconds, back-offs and deadlines are what they always are.
"""

import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.support.builders import empty_database
from tests.support.clevertap_double import (
    ACCOUNT_ID,
    BEHAVIOURS,
    EXTERNAL_TRIGGER,
    PASSCODE,
    PUSH,
    Call,
    CleverTapDouble,
    Stats,
    _packed,
    double_sends,
)
from tests.support.clock import FakeClock
from tests.support.configuration import COHORT, cohort, write_configuration
from tests.support.engine import RunningEngine, running_engine
from tests.support.events import amplitude_event
from tests.support.start import live

from experiment_engine.adapters.clevertap.sender import Account, CleverTapSender, open_client
from experiment_engine.domain.moments import MINUTE, SECOND, Instant, iso, parse_duration

FASTER = 40
TIME_LIMIT = 15.0  # seconds of the engine's clock
PATIENT = 3.0  # seconds of the wall's
MIXED = 200  # calls
IN_FLIGHT = 3  # CleverTap's limit for an account and API
SENDS = 6
SOON = 4 * MINUTE  # six seconds of the wall's clock, for a busy machine
HUGE = 32 * 2**20  # bytes; the engine reads no more than one MiB of an answer

RETRIED = {"401", "403", "429", "429_seconds", "429_date", "429_garbage", "refuse"}
REFUSED = {"400", "404", "redirect_307", "fail_200", "unprocessed"}
# Whoever waits longer than it may take expires.
TOO_LATE = {"429_huge"}
# These hold a call as long as they may.
SLOW = {"hang", "drip", "processed_then_timeout"}
# Nobody can know: among these are all that reached their users and did not say so.
UNCERTAIN = BEHAVIOURS.keys() - RETRIED - REFUSED - TOO_LATE - {"ok"}

END = {
    "ok": "sent",
    **dict.fromkeys(RETRIED, "sent"),
    **dict.fromkeys(REFUSED, "failed"),
    **dict.fromkeys(TOO_LATE, "expired"),
    **dict.fromkeys(UNCERTAIN, "unknown"),
}


class FastClock(FakeClock):
    """Runs by itself, many times faster than the wall's."""

    def __init__(self) -> None:
        super().__init__()
        self._began = time.monotonic()

    def now(self) -> Instant:
        passed = (time.monotonic() - self._began) * SECOND * FASTER
        return Instant(self._now + int(passed))


@dataclass
class Case:
    """An engine that sends, the provider it sends to, and what came of it."""

    engine: RunningEngine
    double: CleverTapDouble
    folder: Path
    expires_after: str

    def send(self, number: int) -> None:
        """Let people leave; their messages are due at once."""
        at = iso(self.engine.clock.now())
        results = self.engine.events(*(amplitude_event(f"{n} {at}", at) for n in range(number)))
        assert {result["status"] for result in results} == {"scheduled"}

    def experiments(self) -> list[Mapping[str, Any]]:
        """Return all experiments as they are stored, in the order of their making."""
        with closing(sqlite3.connect(f"file:{self.folder / 'engine.db'}?mode=ro", uri=True)) as db:
            db.row_factory = sqlite3.Row
            return [dict(row) for row in db.execute("SELECT * FROM experiment ORDER BY id")]

    def settle(self) -> list[Mapping[str, Any]]:
        """Wait until every delivery has ended, which it must inside its deadline."""
        experiments = self.experiments()
        while any(one["state"] in ("scheduled", "claimed") for one in experiments):
            # A call that began in time may take its time.
            last = (
                max(one["decided_at"] for one in experiments)
                + parse_duration(self.expires_after)
                + SOON
            )
            assert self.engine.clock.now() < last, "stuck beyond its deadline"
            time.sleep(0.01)
            experiments = self.experiments()
        return experiments

    def breakers(self) -> set[str]:
        """Return the states of the channels' breakers, as people see them."""
        channels: Mapping[str, Mapping[str, str]] = self.engine.get("/ready")["provider"][
            "channels"
        ]
        return {channel["breaker"] for channel in channels.values()}

    def pass_time(self, span: int) -> None:
        """Wait for a time of the engine's clock."""
        time.sleep(span / SECOND / FASTER)

    def soon(self, holds: Callable[[], bool]) -> None:
        """Wait for something that must come within a few minutes of the engine's clock."""
        deadline = self.engine.clock.now() + SOON
        while not holds():
            assert self.engine.clock.now() < deadline, "it did not happen in time"
            time.sleep(0.01)


@contextmanager
def _case(
    folder: Path,
    *,
    batch: int = 1,
    expires_after: str = "4min",
    time_limit: float = PATIENT,
    **rules: Any,
) -> Iterator[Case]:
    empty_database(folder)
    lane = {"batch": batch, "max_in_flight": IN_FLIGHT}
    config = write_configuration(
        folder / "configuration",
        cohorts={COHORT: cohort(delay=["1s"], channel=["push", "whatsapp"])},
        channels={"push": lane, "whatsapp": {**lane, "campaigns": {"*|*|*": "1700000000"}}},
        delivery={"expires_after": expires_after},
    )
    with CleverTapDouble(
        folder / "ledger",
        fsync=False,
        max_in_flight=IN_FLIGHT,
        hang_s=5,
        drip_interval_s=0.05,
        refuse_for_s=0.15,
        huge_bytes=HUGE,
        bomb_bytes=HUGE,
        **rules,
    ) as double:
        sender = CleverTapSender(
            open_client(double.base_url, connections=2 * IN_FLIGHT),
            Account(ACCOUNT_ID, PASSCODE),
            time_limit=time_limit,
        )
        with running_engine(
            folder,
            config=config,
            clock=FastClock(),
            environ=live(double),
            sender=sender,
            worker_runs=True,
        ) as engine:
            yield Case(engine, double, folder, expires_after)


@pytest.mark.parametrize("fault", sorted(BEHAVIOURS))
def test_each_fault_ends_as_it_must(tmp_path: Path, fault: str) -> None:
    """What may have reached its user is never repeated; what provably did not may be."""
    _packed(HUGE)  # once, so that no call waits for it
    expires_after = "1min" if fault in TOO_LATE else "4min"
    # A busy machine must not make a time-out of a call that only has to be read.
    limit = TIME_LIMIT / FASTER if fault in SLOW else PATIENT
    script = [fault] * SENDS
    with _case(tmp_path, expires_after=expires_after, time_limit=limit, script=script) as case:
        case.send(SENDS)
        experiments = case.settle()
        case.send(1)  # the script is used up: the provider is well again
        *_, after = case.settle()
        calls, stats = case.double.calls(), case.double.stats()

    ends = Counter(one["state"] for one in experiments)
    print(f"{fault}: {dict(ends)}, {len(calls)} calls")
    assert stats.behaviours[fault] >= (1 if fault in SLOW | {"refuse"} else SENDS)
    _assert_no_contradiction([*experiments, after], calls)
    assert ends == {END[fault]: SENDS}
    assert after["state"] == "sent"
    assert stats.redirect_hits == 0
    assert stats.huge_bytes_sent <= SENDS * HUGE // 2
    _assert_limit_held(stats)


@pytest.mark.parametrize("batch", [1, 10])
def test_faults_of_all_kinds_at_once(tmp_path: Path, batch: int) -> None:
    """With a third of all calls faulty, nobody gets two messages and the states tell the truth."""
    faults = sorted(BEHAVIOURS.keys() - TOO_LATE - SLOW - {"ok", "refuse"})
    weights = {"ok": 2.0 * len(faults), **dict.fromkeys(faults, 1.0)}
    with _case(tmp_path, batch=batch, expires_after="20min", behaviour=weights) as case:
        for _ in range(10):
            case.send(MIXED // 10 * batch)
            time.sleep(0.1)
        case.double.configure(behaviour="ok")  # in the end it heals
        experiments = case.settle()
        calls, stats = case.double.calls(), case.double.stats()
    ends = Counter(one["state"] for one in experiments)
    met = sum(stats.behaviours[fault] for fault in faults)
    print(f"batch {batch}: {dict(ends)}, {len(calls)} calls, {met} of them faulty")
    assert met > 20
    assert ends.keys() <= {"sent", "unknown", "failed"}
    _assert_no_contradiction(experiments, calls)
    _assert_limit_held(stats)


def test_one_bad_user_does_not_spoil_a_call(tmp_path: Path) -> None:
    """A refused call is halved down to the culprit; everybody else gets the message once (R10)."""
    with _case(tmp_path, batch=20) as case:
        at = iso(case.engine.clock.now())
        users = [f"user {number} {at}" for number in range(40)]
        case.double.configure(poison_users=users[7:9], unprocessed_users=users[20:22])
        case.engine.events(*(amplitude_event(user, at) for user in users))
        experiments = case.settle()
        calls = case.double.calls()
    failed = {one["user_id"] for one in experiments if one["state"] == "failed"}
    assert failed == {*users[7:9], *users[20:22]}
    assert Counter(one["state"] for one in experiments) == {"failed": 4, "sent": 36}
    _assert_no_contradiction(experiments, calls)


def test_a_call_that_is_halved_for_long_is_recorded(tmp_path: Path) -> None:
    """However long the search for culprits takes, what the provider answered is what is stored."""
    with _case(tmp_path, batch=100, latency_ms=40, expires_after="20min") as case:
        at = iso(case.engine.clock.now())
        users = [f"user {number} {at}" for number in range(100)]
        case.double.configure(poison_users=users[::5])
        case.engine.events(*(amplitude_event(user, at) for user in users))
        experiments = case.settle()
        minutes = (case.engine.clock.now() - experiments[0]["due_at"]) / MINUTE
        calls = case.double.calls()
    ends = Counter(one["state"] for one in experiments)
    print(f"{len(calls)} calls in {minutes:.1f} min: {dict(ends)}")
    assert ends == {"failed": 20, "sent": 80}
    _assert_no_contradiction(experiments, calls)


def test_never_more_calls_than_allowed(tmp_path: Path) -> None:
    """With hundreds of messages due, no channel has more than its calls in flight (P15)."""
    with _case(tmp_path, latency_ms=5, expires_after="20min") as case:
        case.send(300)
        experiments = case.settle()
        stats = case.double.stats()
    assert {one["state"] for one in experiments} == {"sent"}
    assert stats.max_in_flight == {PUSH: IN_FLIGHT, EXTERNAL_TRIGGER: IN_FLIGHT}
    assert stats.over_limit == 0


def test_the_breaker_opens_and_closes(tmp_path: Path) -> None:
    """A dead provider is tried with single calls, and soon after it is well all goes out."""
    with _case(tmp_path, expires_after="20min", behaviour="503") as case:
        case.send(100)
        case.soon(lambda: case.breakers() == {"open"})
        opened_at = case.engine.clock.now()
        before = len(case.double.calls())
        case.pass_time(2 * MINUTE)
        probes = len(case.double.calls()) - before
        case.double.configure(behaviour="ok")
        case.soon(lambda: case.breakers() == {"closed"})
        experiments = case.settle()
        calls = case.double.calls()
    minutes = (case.engine.clock.now() - opened_at) / MINUTE
    ends = Counter(one["state"] for one in experiments)
    print(f"{before} calls until open, {probes} probes in 2 min; {dict(ends)} after {minutes:.1f}")
    for path in (PUSH, EXTERNAL_TRIGGER):
        of_channel = [call for call in calls[:before] if call.path == path]
        assert len(of_channel) <= 5 + IN_FLIGHT  # five troubles, and what was under way
    assert 2 <= probes <= 2 * 2 * 12  # every 5 s or seldomer, on two channels
    assert ends["unknown"] <= before + probes + 2
    assert ends["sent"] == 100 - ends["unknown"]
    _assert_no_contradiction(experiments, calls)


def _assert_limit_held(stats: Stats) -> None:
    """Compare what the provider saw at once with what it allows."""
    assert max(stats.max_in_flight[path] for path in (PUSH, EXTERNAL_TRIGGER)) <= IN_FLIGHT


def _assert_no_contradiction(experiments: list[Mapping[str, Any]], calls: list[Call]) -> None:
    """Compare the database with the provider's own ledger."""
    assert double_sends(calls) == {}
    reached = {user for call in calls if call.processed for user in call.users}
    for one in experiments:
        if one["state"] == "sent":
            assert one["user_id"] in reached
        elif one["state"] != "unknown":
            assert one["user_id"] not in reached
    by_user: dict[str, list[Call]] = {}
    for call in calls:
        for user in (*call.users, *call.unprocessed):
            by_user.setdefault(user, []).append(call)
    for tries in by_user.values():
        for before, _ in pairwise(tries):
            halved = len(before.users) > 1 and before.behaviour in ("400", "fail_200")
            assert halved or before.behaviour in RETRIED | TOO_LATE | {"refused_429"}
