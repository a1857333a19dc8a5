"""Frequency caps and offer budgets, when everything comes at the same moment.

`CAP_USERS` chooses how many users the long form has; each is triggered 64 times at once.
"""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tests.support.clevertap_double import double_sends, sends_by_user
from tests.support.configuration import Toml, cohort
from tests.support.events import Json, amplitude_event
from tests.support.hosts import Hosts, some_hosts
from tests.support.onlooker import DATABASES

from experiment_engine.domain.moments import Instant, iso

FEW, MANY = 30, int(os.environ.get("CAP_USERS", "500"))
CAP, AT_ONCE = 2, 64
BUDGET = 100
SENDERS = 8  # threads
PATIENCE = 120.0  # seconds; only a failing test waits that long


@pytest.mark.parametrize("database", DATABASES)
def test_a_cap_holds(tmp_path: Path, database: str) -> None:
    """Triggered 64 times at once, a user gets as many messages as the cap allows, exactly."""
    _cap(tmp_path, database, FEW, delay="8s")


@pytest.mark.long
@pytest.mark.parametrize("database", DATABASES)
def test_a_cap_holds_for_many(tmp_path: Path, database: str) -> None:
    """The same for five hundred users: 32,000 triggers."""
    _cap(tmp_path, database, MANY, delay="2min")


@pytest.mark.parametrize("database", DATABASES)
def test_a_budget_holds(tmp_path: Path, database: str) -> None:
    """An offer is handed out as often as its budget of the day allows, exactly."""
    _budget(tmp_path, database, 4 * BUDGET)


@pytest.mark.long
@pytest.mark.parametrize("database", DATABASES)
def test_a_budget_holds_for_many(tmp_path: Path, database: str) -> None:
    """The same for eight thousand users."""
    _budget(tmp_path, database, 80 * BUDGET)


def _cap(folder: Path, database: str, users: int, *, delay: str) -> None:
    names = [f"cohort_{number}" for number in range(AT_ONCE)]
    cohorts = {name: _cohort(name, number, delay=delay) for number, name in enumerate(names)}
    with some_hosts(
        database,
        folder,
        cohorts=cohorts,
        frequency_cap={"messages": CAP, "per": "7d"},
        delivery={"expires_after": "10min"},
    ) as hosts:
        at = iso(Instant(int(time.time() * 1_000)))
        events = [
            amplitude_event(f"user {user}", at, name) for user in range(users) for name in names
        ]
        answers = _send(hosts, events, at_once=8)
        hosts.until_all_ended(PATIENCE + users)
        ledger, ends = hosts.double.ledger(), _ends(hosts)
    sent = Counter(sends_by_user(ledger).values())
    print(f"{database}: {users} users x {AT_ONCE} triggers at once {dict(answers)}: {dict(ends)}")
    assert max(sent) <= CAP, f"more than the cap: {dict(sent)}"
    assert sent == {CAP: users}
    assert not double_sends(ledger)
    assert answers.keys() <= {("scheduled", None), ("ignored", "frequency_cap")}
    assert answers["scheduled", None] > users * AT_ONCE // 2  # most meet at the claim


def _budget(folder: Path, database: str, users: int) -> None:
    offer = "rupee_1_trial"
    cohorts = {
        name: _cohort(name, number, delay="2s", offer=offer)
        for number, name in enumerate(("one", "other"))
    }
    with some_hosts(
        database,
        folder,
        cohorts=cohorts,
        timezone=_zone_where_it_is_noon(),
        offers={offer: {"per_day": BUDGET}},
        delivery={"expires_after": "10min"},
    ) as hosts:
        at = iso(Instant(int(time.time() * 1_000)))
        events = [
            amplitude_event(f"user {user}", at, ("one", "other")[user % 2])
            for user in range(users)
        ]
        answers = _send(hosts, events, at_once=20)
        hosts.until_all_ended(PATIENCE + users / 20)
        ledger, ends = hosts.double.ledger(), _ends(hosts)
        used = [row["used"] for row in hosts.look("SELECT used FROM offer_use")]
    sent = sends_by_user(ledger).total()
    print(f"{database}: budget {BUDGET}, {users} users {dict(answers)}: {dict(ends)}")
    assert sent <= BUDGET, f"more than the budget: {sent}"
    assert (sent, used) == (BUDGET, [BUDGET, BUDGET])  # of the day, and in all
    assert ends["cancelled", "offer_budget"] == answers["scheduled", None] - BUDGET > 0


def _cohort(name: str, number: int, *, delay: str, offer: str = "none") -> Toml:
    return cohort(
        trigger={"event": name, "again_after": "0s"},
        delay=[delay],
        channel=["whatsapp" if number % 2 else "push"],
        offer=[offer],
    )


def _send(
    hosts: Hosts, events: Sequence[Json], *, at_once: int
) -> Counter[tuple[str, str | None]]:
    """Send events from several threads to all hosts; count the answers."""
    requests = [list(events[start : start + at_once]) for start in range(0, len(events), at_once)]
    answers: list[tuple[str, str | None]] = []

    def send(place: int) -> None:
        for request in requests[place::SENDERS]:
            results = hosts.results("/webhook/amplitude", request)
            answers.extend((result["status"], result.get("reason")) for result in results)
        hosts.hang_up()

    _together([lambda place=place: send(place) for place in range(SENDERS)])  # type: ignore[misc]
    assert len(answers) == len(events)
    return Counter(answers)


def _together(works: Sequence[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _ends(hosts: Hosts) -> Counter[tuple[str, str | None]]:
    found = hosts.look(
        "SELECT state, reason, count(*) AS n FROM experiment GROUP BY state, reason"
    )
    return Counter({(row["state"], row["reason"]): row["n"] for row in found})


def _zone_where_it_is_noon() -> str:
    """Return a zone in which no day ends while the test runs."""
    return f"Etc/GMT{time.gmtime().tm_hour - 12:+d}"
