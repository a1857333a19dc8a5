"""`/webhook/opened`, `/webhook/converted`, `/webhook/opted-out`: what is answered (CONTRACT 5)."""

from typing import Any

import pytest
from tests.support.engine import RunningEngine
from tests.support.events import somebody

PATHS = ("/webhook/opened", "/webhook/converted", "/webhook/opted-out")


def sent(shared: RunningEngine, user: str) -> str:
    """Have a message go out to the user; return its experiment's id."""
    experiment_id = shared.scheduled(user)
    shared.deliver(after="2min")
    assert shared.state(experiment_id)[0] == "sent"
    return experiment_id


@pytest.mark.parametrize("path", PATHS[:2])
@pytest.mark.parametrize("named", [("user_id", "experiment_id"), ("user_id",), ("experiment_id",)])
def test_recorded_once(shared: RunningEngine, path: str, named: tuple[str, ...]) -> None:
    """Feedback finds its experiment by id, by user or by both, and counts once."""
    user = somebody()
    known = {"user_id": user, "experiment_id": sent(shared, user)}
    body = {name: known[name] for name in named}

    (first,), (second,) = shared.results(path, body), shared.results(path, body)
    assert (first["status"], first["experiment_id"]) == ("recorded", known["experiment_id"])
    assert (second["status"], second["experiment_id"]) == ("duplicate", known["experiment_id"])


@pytest.mark.parametrize("path", PATHS)
def test_neither_user_nor_experiment(shared: RunningEngine, path: str) -> None:
    """A report that names nobody is not understood, and kept."""
    (result,) = shared.results(path, {"channel": "push"})
    assert result["status"] == "quarantined"


@pytest.mark.parametrize("path", PATHS[:2])
def test_unknown_experiment(shared: RunningEngine, path: str) -> None:
    """An experiment that is not there is ignored with its reason."""
    (result,) = shared.results(path, {"experiment_id": "0193a8a0-0000-7000-8000-000000000000"})
    assert (result["status"], result["reason"]) == ("ignored", "unknown_experiment")


@pytest.mark.parametrize("path", PATHS[:2])
def test_somebody_without_experiment(shared: RunningEngine, path: str) -> None:
    """A user who was never written to has no experiment to report about."""
    (result,) = shared.results(path, {"user_id": somebody()})
    assert (result["status"], result["reason"]) == ("ignored", "unknown_experiment")


@pytest.mark.parametrize("path", PATHS[:2])
def test_mismatch(shared: RunningEngine, path: str) -> None:
    """An experiment of another user is ignored, and not touched."""
    experiment_id = sent(shared, somebody())
    (result,) = shared.results(path, {"user_id": somebody(), "experiment_id": experiment_id})

    assert (result["status"], result["reason"]) == ("ignored", "mismatch")
    feedback = shared.experiment(experiment_id)["feedback"]
    assert (feedback["opened_at"], feedback["converted_at"]) == (None, None)


def test_a_conversion_cancels_what_waits(shared: RunningEngine) -> None:
    """Who reaches the goal before the message is due gets none."""
    user = somebody()
    experiment_id = shared.scheduled(user)
    result = shared.converted(user_id=user)
    shared.deliver(after="2min")

    assert (result["status"], result["experiment_id"]) == ("cancelled", experiment_id)
    assert shared.state(experiment_id) == ("cancelled", "converted")


def test_an_open_before_the_send(shared: RunningEngine) -> None:
    """A message that has not gone out cannot have been opened."""
    experiment_id = shared.scheduled(somebody())
    assert shared.opened(experiment_id=experiment_id)["status"] == "ignored"


def test_several_reports_in_one_body(shared: RunningEngine) -> None:
    """An array is answered with one result for each, in order."""
    first, second = somebody(), somebody()
    sent(shared, first)
    bodies = [{"user_id": first}, {}, {"user_id": second}]
    results = shared.results("/webhook/opened", bodies)
    assert [result["status"] for result in results] == ["recorded", "quarantined", "ignored"]


def test_clevertaps_own_bodies(shared: RunningEngine) -> None:
    """CleverTap's broadcast and personalised webhooks are read as they come."""
    first, second = somebody(), somebody()
    ids = {user: sent(shared, user) for user in (first, second)}
    broadcast: dict[str, Any] = {
        "targetId": 1,
        "profiles": [
            {"identity": first, "objectId": "o1", "key_values": {"experiment_id": ids[first]}},
            {"identity": second, "objectId": "o2"},
        ],
    }
    results = shared.results("/webhook/opened", broadcast)
    assert [(r["status"], r["experiment_id"]) for r in results] == [
        ("recorded", ids[first]),
        ("recorded", ids[second]),
    ]


def test_set_up_ping(shared: RunningEngine) -> None:
    """The test call of CleverTap's set-up page is answered 200 and means nothing."""
    (result,) = shared.results("/webhook/opened", {"is_test": True, "user_id": "x"})
    assert result["status"] == "ignored"


@pytest.mark.parametrize("path", PATHS)
def test_not_json(shared: RunningEngine, path: str) -> None:
    """A body that is not JSON is answered 400 in the one shape of errors."""
    answer = shared.post(path, b"user_id=1")
    assert answer.status_code == 400
    assert set(answer.json()["error"]) == {"code", "message"}


@pytest.mark.parametrize("by", ["user_id", "experiment_id"])
def test_opted_out(shared: RunningEngine, by: str) -> None:
    """An opt-out by user or by experiment stops what waits and every later message."""
    user = somebody()
    experiment_id = shared.scheduled(user)
    body = {"user_id": user} if by == "user_id" else {"experiment_id": experiment_id}
    (result,) = shared.results("/webhook/opted-out", body)
    shared.deliver(after="2min")
    shared.clock.advance("25h")

    assert result["status"] == "recorded"
    assert shared.state(experiment_id) == ("cancelled", "opted_out")
    following = shared.event(user)
    assert (following["status"], following["reason"]) == ("ignored", "opted_out")
