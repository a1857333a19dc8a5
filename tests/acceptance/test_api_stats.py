"""`GET /api/stats`: exact fields, types, formats and order (CONTRACT 6)."""

import re
from typing import Any

import pytest
from tests.support.clevertap_double import CleverTapDouble
from tests.support.configuration import COHORT, TRIGGER, cohort
from tests.support.engine import RunningEngine
from tests.support.events import amplitude_event, somebody
from tests.support.start import Start

ANGLES = [f"angle_{number}" for number in range(5)]
OFFERS = ["none", "rupee_1_trial", "discount_20", "extra_week", "gift"]
MANY = {COHORT: cohort(angle=ANGLES, offer=OFFERS, policy={"name": "uniform"})}


def send_to(engine: RunningEngine, users: list[str], name: str = TRIGGER) -> list[str]:
    """Have a message go out to each of these users; return their experiments' ids."""
    results = engine.events(*(amplitude_event(user, engine.clock.iso(), name) for user in users))
    engine.deliver(after="2min")
    return [result["experiment_id"] for result in results]


def people(number: int) -> list[str]:
    return [somebody() for _ in range(number)]


def test_nothing_yet(start: Start) -> None:
    """Before the first event everything is zero, in the same shape."""
    stats = start().get("/api/stats")
    assert stats["summary"]["total_experiments"] == 0
    assert stats["summary"]["total_opened"] == 0
    assert stats["summary"]["total_converted"] == 0
    assert stats["summary"]["overall_cvr"] == "0.00%"
    assert (stats["top_combinations"], stats["worst_combinations"]) == ([], [])


def test_fields_and_formats(start: Start) -> None:
    """Whole numbers, a percentage with two decimals as text, and rates with two decimals."""
    engine = start()
    users = people(7)
    ids = send_to(engine, users)
    engine.opened(experiment_id=ids[0])
    for user in users[:2]:
        engine.converted(user_id=user)

    stats = engine.get("/api/stats")
    assert (
        stats["summary"].items()
        >= {
            "total_experiments": 7,
            "total_opened": 1,
            "total_converted": 2,
            "overall_cvr": "28.57%",
        }.items()
    )
    (only,) = stats["top_combinations"]
    assert (
        only.items()
        >= {
            "combo_key": "2min|push|helpful|none",
            "sent_count": 7,
            "converted_count": 2,
            "cvr": 28.57,
        }.items()
    )
    assert all(type(stats["summary"][name]) is int for name in ("total_opened", "total_converted"))
    assert (type(only["sent_count"]), type(only["cvr"])) == (int, float)


def test_interval_and_probability_stand_beside(start: Start) -> None:
    """Every combo has its 95 % interval around its rate, and its probability to be the best."""
    engine = start(cohorts=MANY)
    users = people(60)
    send_to(engine, users)
    for user in users[::3]:
        engine.converted(user_id=user)

    stats = engine.get("/api/stats")
    listed = stats["top_combinations"] + stats["worst_combinations"]
    for entry in listed:
        low, high = entry["interval"]
        assert 0 <= low <= entry["cvr"] <= high <= 100
        assert 0 <= entry["probability_best"] <= 1
    assert sum(entry["probability_best"] for entry in listed) <= 1 + 1e-3


def test_order_and_length_of_the_lists(start: Start) -> None:
    """Ten at most in each list, best by lower end and worst by upper end, none in both."""
    engine = start(cohorts=MANY)
    users = people(250)
    send_to(engine, users)
    for user in users[::4]:
        engine.converted(user_id=user)

    stats = engine.get("/api/stats")
    top, worst = stats["top_combinations"], stats["worst_combinations"]
    assert (len(top), len(worst)) == (10, 10)
    lower = [entry["interval"][0] for entry in top]
    upper = [entry["interval"][1] for entry in worst]
    assert lower == sorted(lower, reverse=True)
    assert upper == sorted(upper)
    assert not keys(top) & keys(worst)
    assert all(entry["sent_count"] >= 1 for entry in top + worst)
    assert all(
        re.fullmatch(r"2min\|push\|angle_\d\|\w+", entry["combo_key"]) for entry in top + worst
    )


def test_a_few_combos_are_in_no_two_lists(start: Start) -> None:
    """With fewer combos than places, still none stands in both lists."""
    engine = start(cohorts={COHORT: cohort(angle=ANGLES[:3], policy={"name": "uniform"})})
    send_to(engine, people(40))
    stats = engine.get("/api/stats")
    assert not keys(stats["top_combinations"]) & keys(stats["worst_combinations"])
    assert len(stats["top_combinations"] + stats["worst_combinations"]) == 3


def test_only_accepted_messages_are_sent(start: Start, double: CleverTapDouble) -> None:
    """`sent_count` counts what the provider accepted; refused and uncertain calls are no sends."""
    engine = start(to=double)
    for behaviour in ("ok", "400", "processed_then_reset", "ok"):
        double.behaviour = behaviour
        send_to(engine, people(1))
    (only,) = engine.get("/api/stats")["top_combinations"]
    assert only["sent_count"] == 2
    assert engine.get("/api/stats")["summary"]["total_experiments"] == 4


def test_nothing_else_changes_sent_count(start: Start) -> None:
    """Opens, conversions, opt-outs and erasure leave `sent_count` as it is."""
    engine = start()
    users = people(3)
    ids = send_to(engine, users)
    for change in (
        lambda: engine.opened(experiment_id=ids[0]),
        lambda: engine.converted(user_id=users[0]),
        lambda: engine.post(f"/api/users/{users[1]}/opt-out"),
        lambda: engine.client.delete(f"/api/users/{users[2]}"),
        lambda: engine.deliver(after="4d"),
    ):
        change()
        assert engine.get("/api/stats")["top_combinations"][0]["sent_count"] == 3


def test_holdout_is_counted_apart(start: Start) -> None:
    """Held-out users are not among `total_experiments`."""
    engine = start(holdout={"share": 0.999999})
    send_to(engine, people(5))
    stats = engine.get("/api/stats")
    assert stats["summary"]["total_experiments"] == 0
    assert stats["holdout"]["experiments"] == 5
    assert stats["top_combinations"] == []


def test_narrowed_to_a_cohort(start: Start) -> None:
    """`?cohort=` shows one cohort; one that is not there is 404 and names the known."""
    other = cohort(trigger={"event": "payment_failed"})
    engine = start(cohorts={COHORT: cohort(), "payment_failed": other})
    send_to(engine, people(2))
    send_to(engine, people(3), "payment_failed")

    assert engine.get("/api/stats")["summary"]["total_experiments"] == 5
    narrowed = engine.get("/api/stats", cohort="payment_failed")
    assert narrowed["summary"]["total_experiments"] == 3
    assert narrowed["top_combinations"][0]["sent_count"] == 3
    missing = engine.client.get("/api/stats", params={"cohort": "nobody"})
    assert missing.status_code == 404
    assert "payment_failed" in missing.json()["error"]["message"]


def test_narrowed_to_a_time(start: Start) -> None:
    """`?since=` shows what was decided from then on, and equals the whole before any of it."""
    engine = start()
    long_ago = engine.clock.iso()
    users = people(3)
    send_to(engine, users)
    engine.converted(user_id=users[0])
    engine.clock.advance("1h")
    since = engine.clock.iso()
    send_to(engine, people(2))

    assert engine.get("/api/stats", since=since)["summary"]["total_experiments"] == 2
    assert engine.get("/api/stats", since=since)["top_combinations"][0]["sent_count"] == 2
    assert without_time(engine.get("/api/stats", since=long_ago)) == without_time(
        engine.get("/api/stats")
    )


@pytest.mark.parametrize("since", ["yesterday", "2026-13-01", "12:00"])
def test_a_time_that_cannot_be_read(shared: RunningEngine, since: str) -> None:
    """422 for a `since` that is no time, in the one shape of errors."""
    answer = shared.client.get("/api/stats", params={"since": since})
    assert answer.status_code == 422
    assert set(answer.json()["error"]) == {"code", "message"}


def test_read_your_writes(start: Start) -> None:
    """Statistics include everything answered 2xx before the request."""
    engine = start()
    for number in range(1, 30):
        engine.event(somebody())
        assert engine.get("/api/stats")["summary"]["total_experiments"] == number


def keys(entries: list[dict[str, Any]]) -> set[str]:
    return {entry["combo_key"] for entry in entries}


def without_time(stats: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in stats.items() if name != "generated_at"}
