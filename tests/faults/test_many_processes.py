"""Two processes that serve and two workers on one PostgreSQL: caps, and who comes back late."""

import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from tests.support.clevertap_double import CleverTapDoubleProcess, double_sends, sends_by_user
from tests.support.configuration import cohort, write_configuration
from tests.support.fleet import Fleet, a_fleet
from tests.support.postgres import a_database, shared_server
from tests.support.server import eventually
from tests.support.start import live

PATIENCE = 60.0  # seconds; only a failing test waits that long
USERS, CAP = 50, 2
COHORTS = [f"cohort_{number}" for number in range(64)]
LEASE = 3.0  # seconds


def test_a_cap_holds_over_all_hosts(tmp_path: Path) -> None:
    """64 messages for each user at the same instant, two hosts, two workers: two go out."""
    config = write_configuration(
        tmp_path / "configuration",
        cohorts={
            name: cohort(
                trigger={"event": name, "again_after": "0s"},
                delay=["20s"],
                channel=["whatsapp" if number % 2 else "push"],
            )
            for number, name in enumerate(COHORTS)
        },
        channels=_lanes(in_flight=20),
        frequency_cap={"messages": CAP, "per": "7d"},
        delivery={"expires_after": "5min"},
    )
    with _one_fleet(tmp_path, config, in_flight=20) as (fleet, double, url):
        at = datetime.fromtimestamp(time.time(), UTC)
        events = [
            {"event_type": name, "user_id": f"user {user}", "event_time": at.isoformat()}
            for user in range(USERS)
            for name in COHORTS
        ]
        _post_to_both(fleet, events)
        _until_all_ended(url)
        states = _states(url)
        sent = sends_by_user(double.ledger())
        doubles = double_sends(double.ledger())
        assert _processes(url) == ["serve --no-worker"] * 2 + ["worker"] * 2
        fleet.workers[0].send_signal(signal.SIGTERM)
        assert fleet.workers[0].wait(PATIENCE) == 0
        assert _processes(url) == ["serve --no-worker"] * 2 + ["worker"]
    print(f"{USERS} users, {len(COHORTS)} cohorts due at the same instant: {dict(states)}")
    assert Counter(sent.values()) == {CAP: USERS}
    assert not doubles
    assert states == {
        ("sent", None): CAP * USERS,
        ("cancelled", "frequency_cap"): (len(COHORTS) - CAP) * USERS,
    }


def test_workers_that_come_back_late(tmp_path: Path) -> None:
    """A worker that was stopped past its lease writes nothing, and nobody is written to twice."""
    _stop_and_continue(tmp_path, rows=1_200, zombies=20)


@pytest.mark.long
def test_many_workers_that_come_back_late(tmp_path: Path) -> None:
    """The same for ten thousand due rows, of which a hundred are held by stopped workers."""
    _stop_and_continue(tmp_path, rows=10_000, zombies=100)


def test_a_conversion_and_a_pause_hold_over_all_hosts(tmp_path: Path) -> None:
    """Whoever's conversion was answered is not claimed any more, nor is anybody after a pause."""
    config = write_configuration(
        tmp_path / "configuration",
        cohorts={"one": cohort(trigger={"event": "one"}, delay=["1s"])},
        channels=_lanes(in_flight=3),
        delivery={"expires_after": "10min"},
    )
    users = [f"user {number}" for number in range(300)]
    with _one_fleet(tmp_path, config, in_flight=3) as (fleet, double, url):
        _post_to_both(fleet, [{"event_type": "one", "user_id": user} for user in users])
        eventually(lambda: _states(url)["sent", None] > 5, PATIENCE)
        answered = _convert(fleet, users[::2])
        assert fleet.post(0, "/api/pause", {})[0] == 200
        paused_at = time.time()
        time.sleep(3)
        last_call = max(call.time for call in double.ledger())
        left = _left(url)
        assert fleet.post(1, "/api/resume", {})[0] == 200
        _until_all_ended(url)
        states, placed = _states(url), _placed(url)
    late = [user for user, at in answered.items() if placed.get(user, 0) > at]
    print(
        f"{len(answered)} conversions answered while messages went out, {len(late)} claimed later;"
        f" last call {last_call - paused_at:+.2f} s after the pause, {left} waited: {dict(states)}"
    )
    assert not late
    assert last_call <= paused_at + 1
    assert left > 0
    assert states["cancelled", "converted"] > 50


def _convert(fleet: Fleet, users: Sequence[str]) -> dict[str, float]:
    """Report conversions to both hosts in turn; return when each was answered, in milliseconds."""
    answered = {}
    for number, user in enumerate(users):
        status, _ = fleet.post(number % 2, "/webhook/converted", {"user_id": user})
        assert status == 200
        answered[user] = time.time() * 1_000
    return answered


def _placed(url: str) -> dict[str, int]:
    """Return when the messages that went out were claimed."""
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT user_id, placed_at FROM experiment WHERE state = 'sent'"
        )
        return dict(found.fetchall())


def _stop_and_continue(folder: Path, *, rows: int, zombies: int) -> None:
    config = write_configuration(
        folder / "configuration",
        cohorts={"one": cohort(trigger={"event": "one"}, delay=["1s"])},
        channels=_lanes(in_flight=24),
        delivery={"expires_after": "10min"},
    )
    with _one_fleet(folder, config, in_flight=24, lease=f"{LEASE:g}s") as (fleet, double, url):
        _post_to_both(fleet, [{"event_type": "one", "user_id": f"user {n}"} for n in range(rows)])
        stops = _stop_workers(fleet, url, zombies)
        _until_all_ended(url, PATIENCE + rows / 50)
        states = _states(url)
        time.sleep(0.5)  # for whoever is late to try
        assert _states(url) == states, "somebody who was late wrote"
        most = max(double.stats().max_in_flight.values())
        ledger = double.ledger()
    held = states["unknown", "stopped"]
    print(
        f"{rows} rows, two workers, {stops} stops past the lease with {held} rows in flight:"
        f" {dict(states)}; at most {most} calls in flight"
    )
    assert not double_sends(ledger)
    assert max(sends_by_user(ledger).values()) == 1
    assert held >= zombies
    assert states["sent", None] + held == rows


def _stop_workers(fleet: Fleet, url: str, zombies: int) -> int:
    """Stop workers in turn while they have calls in flight, until enough rows were abandoned."""
    stops = 0
    while _states(url)["unknown", "stopped"] < zombies and _left(url) and stops < 40:
        worker = fleet.workers[stops % 2]
        worker.send_signal(signal.SIGSTOP)
        time.sleep(LEASE + 1)
        worker.send_signal(signal.SIGCONT)
        stops += 1
        time.sleep(0.3)
    return stops


def _lanes(in_flight: int) -> dict[str, dict[str, object]]:
    lane: dict[str, object] = {"max_in_flight": in_flight}
    return {"push": lane, "whatsapp": {**lane, "campaigns": {"*|*|*": "1700000000"}}}


@contextmanager
def _one_fleet(
    folder: Path, config: Path, *, in_flight: int, lease: str = ""
) -> Iterator[tuple[Fleet, CleverTapDoubleProcess, str]]:
    with (
        a_database(shared_server()) as url,
        CleverTapDoubleProcess(
            folder / "ledger", latency_ms=150, max_in_flight=in_flight, fsync=False
        ) as double,
    ):
        environ = {"DATABASE_URL": url, "ENGINE_CONFIG": str(config), **live(double)}
        with a_fleet(folder, environ, lease=lease) as fleet:
            yield fleet, double, url


def _post_to_both(fleet: Fleet, events: Sequence[dict[str, str]]) -> None:
    """Post each event to one of the hosts, to both at the same time."""

    def post(place: int) -> None:
        mine = events[place::2]
        for start in range(0, len(mine), 200):
            status, answer = fleet.post(place, "/webhook/amplitude", mine[start : start + 200])
            assert status == 200, answer
            assert {result["status"] for result in answer["results"]} == {"scheduled"}, json.dumps(
                answer
            )[:500]

    threads = [threading.Thread(target=post, args=(place,)) for place in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _states(url: str) -> Counter[tuple[str, str | None]]:
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT state, reason, count(*) FROM experiment GROUP BY 1, 2")
        return Counter({(state, reason): number for state, reason, number in found})


def _processes(url: str) -> list[str]:
    """Return which processes say that they live."""
    with psycopg.connect(url) as connection:
        return [kind for (kind,) in connection.execute("SELECT kind FROM process ORDER BY kind")]


def _left(url: str) -> int:
    states = _states(url)
    return sum(n for (state, _), n in states.items() if state in ("scheduled", "claimed"))


def _until_all_ended(url: str, patience: float = PATIENCE) -> None:
    eventually(lambda: not _left(url), patience)
