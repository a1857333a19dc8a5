"""`POST /api/trigger`: its answers and their shape (CONTRACT 5 and 6)."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.configuration import COHORT, cohort, write_configuration
from tests.support.engine import RunningEngine, running_engine
from tests.support.events import somebody

COPY = {"push": {"helpful": {"*": {"title": "{show_name} waits", "body": "Come back."}}}}
FROM_EVENT = {"from": "event_properties.show_name", "default": "your show"}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    """Return one engine for the module; every test has users of its own."""
    folder = tmp_path_factory.mktemp("trigger")
    config = write_configuration(
        folder / "configuration",
        cohorts={COHORT: cohort(offer=["none", "rupee_1_trial"])},
        copy=COPY,
        placeholders={"show_name": FROM_EVENT},
    )
    with running_engine(folder, config=config) as running:
        yield running


def test_shape(engine: RunningEngine) -> None:
    """201 answers the experiment: who, what, with which probability, when and in which words."""
    user = somebody()
    answer = engine.trigger(user, attributes={"show_name": "Mahabharat"})
    made = answer.json()

    assert answer.status_code == 201
    assert made["combo_key"] in ("2min|push|helpful|none", "2min|push|helpful|rupee_1_trial")
    levels = made["combo_key"].split("|")
    assert made["combo"] == dict(zip(("delay", "channel", "angle", "offer"), levels, strict=True))
    assert isinstance(made["experiment_id"], str)
    assert isinstance(made["propensity"], float)
    assert {
        name: made[name]
        for name in ("user_id", "cohort", "status", "propensity", "scheduled_for", "message")
    } == {
        "user_id": user,
        "cohort": COHORT,
        "status": "scheduled",
        "propensity": 0.5,
        "scheduled_for": engine.clock.later("2min"),
        "message": {"title": "Mahabharat waits", "body": "Come back.", "language": "en"},
    }


def test_the_answer_is_what_is_kept(engine: RunningEngine) -> None:
    """What the trigger answers is what the experiment's own page says."""
    made = engine.trigger(somebody()).json()
    kept = engine.experiment(made["experiment_id"])
    assert {name: kept[name] for name in made} == made
    assert kept["manual"] is True


def test_waiting_already(engine: RunningEngine) -> None:
    """Who already waits in the cohort is ignored, with the waiting experiment's id."""
    user = somebody()
    first = engine.trigger(user).json()
    answer = engine.trigger(user)
    assert answer.status_code == 200
    assert (answer.json()["status"], answer.json()["experiment_id"]) == (
        "ignored",
        first["experiment_id"],
    )


def test_unknown_cohort(engine: RunningEngine) -> None:
    """404 for a cohort that is not there names those that are."""
    answer = engine.trigger(somebody(), "checkout_abandoner")
    assert answer.status_code == 404
    assert COHORT in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"\xff\xfe\xfd",
        b"[]",
        b'"text"',
        b"{}",
        b'{"cohort": "checkout_abandoners"}',
        b'{"user_id": "usr_1"}',
        b'{"user_id": "", "cohort": "checkout_abandoners"}',
        b'{"user_id": "   ", "cohort": "checkout_abandoners"}',
        b'{"user_id": 5, "cohort": "checkout_abandoners"}',
        b'{"user_id": null, "cohort": "checkout_abandoners"}',
        b'{"user_id": "\\ud800", "cohort": "checkout_abandoners"}',
        b'{"user_id": "a\\u0000b", "cohort": "checkout_abandoners"}',
        b'{"user_id": "usr_1", "cohort": ["checkout_abandoners"]}',
        b'{"user_id": "usr_1", "cohort": "checkout_abandoners", "attributes": "x"}',
        b'{"user_id": "%s", "cohort": "checkout_abandoners"}' % (b"u" * 300),
        b'{"user_id": "usr_1", "cohort": "checkout_abandoners", "attributes": {"a": '
        + b"[" * 200_000
        + b"]" * 200_000
        + b"}}",
    ],
    ids=lambda body: body[:60].decode(errors="replace") or "empty",
)
def test_bad_body(engine: RunningEngine, body: bytes) -> None:
    """422 for a body that is not what it should be, in the one shape of errors."""
    answer = engine.client.post(
        "/api/trigger", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 422, answer.text
    assert set(answer.json()) == {"error"}
    assert set(answer.json()["error"]) == {"code", "message"}


def test_too_large(engine: RunningEngine) -> None:
    """413 for a body over 1 MiB, in the one shape of errors."""
    answer = engine.trigger(somebody(), attributes={"a": "x" * (1 << 20)})
    assert answer.status_code == 413
    assert set(answer.json()["error"]) == {"code", "message"}


@pytest.mark.parametrize("odd", [float("1e300"), ["a", {"b": None}], {"x": {}}, None, "{{x}}"])
def test_any_attributes_are_taken(engine: RunningEngine, odd: Any) -> None:
    """Attributes are free: what a placeholder cannot use is replaced or made harmless."""
    made = engine.trigger(somebody(), attributes={"show_name": odd, "other": odd})
    assert made.status_code == 201
    assert "{" not in made.json()["message"]["title"]
