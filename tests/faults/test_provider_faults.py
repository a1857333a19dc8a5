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
from tests.support.clevertap_double import (
    ACCOUNT_ID,
    BEHAVIOURS,
    EXTERNAL_TRIGGER,
    PASSCODE,
    PUSH,
    Call,
    CleverTapDouble,
    double_sends,
)
from tests.support.clock import FakeClock
from tests.support.configuration import COHORT, cohort, write_configuration
from tests.support.engine import RunningEngine, running_engine
from tests.support.events import amplitude_event
from tests.support.start import live

from experiment_engine.adapters.clevertap.sender import Account, CleverTapSender, open_client
from experiment_engine.domain.moments import MINUTE, SECOND, Instant, iso

FASTER = 40
TIME_LIMIT = 15.0  # seconds of the engine's clock
IN_FLIGHT = 3  # CleverTap's limit for an account and API
SENDS = 6
EXPIRES_AFTER = 4 * MINUTE
SOON = MINUTE

RETRIED = {"401", "403", "429", "429_seconds", "429_date", "429_garbage", "refuse"}
REFUSED = {"400", "404", "redirect_307", "fail_200", "unprocessed"}
# Whoever waits longer than it may take expires.
TOO_LATE = {"429_huge"}
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
            last = max(one["decided_at"] for one in experiments) + EXPIRES_AFTER + SOON
            assert self.engine.clock.now() < last, "stuck beyond its deadline"
            time.sleep(0.01)
            experiments = self.experiments()
        return experiments

    def breakers(self) -> set[str]:
        """Return the states of the channels' breakers, as people see them."""
        channels: Mapping[str, Mapping[str, str]] = self.engine.get("/ready")["provider"]["channels"]
        return {channel["breaker"] for channel in channels.values()}

    def soon(self, holds: Callable[[], bool]) -> None:
        """Wait for something that must come within a minute of the engine's clock."""
        deadline = self.engine.clock.now() + SOON
        while not holds():
            assert self.engine.clock.now() < deadline, "it did not happen in time"
            time.sleep(0.01)


@contextmanager
def _case(folder: Path, *, batch: int = 1, **rules: Any) -> Iterator[Case]:
    lane = {"batch": batch, "max_in_flight": IN_FLIGHT}
    config = write_configuration(
        folder / "configuration",
        cohorts={COHORT: cohort(delay=["1s"], channel=["push", "whatsapp"])},
        channels={"push": lane, "whatsapp": {**lane, "campaigns": {"*|*|*": "1700000000"}}},
        delivery={"expires_after": "4min"},
    )
    with CleverTapDouble(
        folder / "ledger",
        fsync=False,
        max_in_flight=IN_FLIGHT,
        hang_s=5,
        drip_interval_s=0.05,
        refuse_for_s=0.15,
        **rules,
    ) as double:
        sender = CleverTapSender(
            open_client(double.base_url, connections=2 * IN_FLIGHT),
            Account(ACCOUNT_ID, PASSCODE),
            time_limit=TIME_LIMIT / FASTER,
        )
        with running_engine(
            folder,
            config=config,
            clock=FastClock(),
            environ=live(double),
            sender=sender,
            worker_runs=True,
        ) as engine:
            yield Case(engine, double, folder)


@pytest.mark.parametrize("fault", sorted(BEHAVIOURS))
def test_each_fault_ends_as_it_must(tmp_path: Path, fault: str) -> None:
    """What may have reached the user is never repeated; what provably did not, and may heal, is."""
    with _case(tmp_path, script=[fault] * SENDS) as case:
        case.send(SENDS)
        experiments = case.settle()
        case.send(1)  # the script is used up: the provider is well again
        *_, after = case.settle()
        calls, stats = case.double.calls(), case.double.stats()
        case.soon(lambda: case.breakers() == {"closed"} or "open" in case.breakers())

    ends = Counter(one["state"] for one in experiments)
    print(f"{fault}: {dict(ends)}, {len(calls)} calls")
    assert stats.behaviours[fault] >= (SENDS if fault != "refuse" else 1)
    assert ends == {END[fault]: SENDS}
    assert after["state"] == "sent"
    assert stats.redirect_hits == 0
    assert stats.over_limit == 0
    _assert_no_contradiction([*experiments, after], calls)
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
            assert before.behaviour in RETRIED | TOO_LATE | {"400", "refused_429"}
