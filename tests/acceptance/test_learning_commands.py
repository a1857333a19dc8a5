"""`evaluate`, `rebuild` and `exclude-source`, as a user runs them beside a database."""

import json
import random
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.support.builders import happened
from tests.support.configuration import COHORT, GOAL, TRIGGER, cohort
from tests.support.server import Command, Ended, run_commands
from tests.support.start import Start

ANGLES = {"a": 0.02, "b": 0.5}
USERS = 1_500
_COMMANDS = {
    "even": ["evaluate", "--policy", "uniform", "--json"],
    "even as a table": ["evaluate", "--policy", "uniform"],
    "gate": ["evaluate", "--policy", "uniform", "--gate"],
    "same": ["evaluate", "--policy", "epsilon_greedy", "--gate", "--json"],
    "no such policy": ["evaluate", "--policy", "best"],
    "neither": ["evaluate"],
    "check": ["rebuild", "--check", "--json"],
    "rebuild": ["rebuild"],
    "exclude": ["exclude-source", "amplitude", "--json"],
    "no such source": ["exclude-source", "nobody"],
    "help": ["exclude-source", "--help"],
}


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    """Return how each command ended, one after another on one database."""
    folder = tmp_path_factory.mktemp("commands")
    start = Start(folder)
    start.clock.set(datetime(2026, 1, 10, 10, tzinfo=UTC))  # the commands go by the real time
    engine = start(
        cohorts={
            COHORT: cohort(angle=list(ANGLES), policy={"name": "epsilon_greedy"}),
        },
        holdout={"share": 0.0},
    )
    rng = random.Random(5)
    for batch in range(3):
        users = [f"u{batch}-{number}" for number in range(USERS // 3)]
        taken = engine.engine.traffic.take([happened(TRIGGER, user=user) for user in users])
        engine.deliver(after="2min")
        goals = [
            happened(GOAL, user=made.user_id)
            for made, _ in taken.decided.values()
            if rng.random() < ANGLES[made.combo_key.split("|")[2]]
        ]
        engine.engine.traffic.take(goals)
        engine.learn()
        engine.clock.advance("1d")
    start.stop()
    environ = {
        "DATABASE_URL": f"sqlite:///{folder / 'engine.db'}",
        "ENGINE_CONFIG": str(folder / "configuration"),
    }
    found = run_commands([Command(words, folder, environ) for words in _COMMANDS.values()])
    return dict(zip(_COMMANDS, found, strict=True))


def answer(one: Ended) -> Any:
    assert one.status == 0, one.errors
    return json.loads(one.output)


def test_an_even_split_is_judged(ended: dict[str, Ended]) -> None:
    """What an even split would have made of the messages is said with its interval."""
    even = answer(ended["even"])[COHORT]

    assert even["messages"] == USERS
    assert even["effective_messages"] > 500
    low, high = even["snips"]["interval"]
    assert low < 0.26 < high
    assert even["worse"] is True
    assert "%" in ended["even as a table"].output


def test_the_gate_stops_what_is_worse(ended: dict[str, Ended]) -> None:
    """With --gate the exit status is 1 for what is credibly worse, and 0 for the others."""
    assert ended["gate"].status == 1
    assert "credibly worse" in ended["gate"].errors
    assert answer(ended["same"])[COHORT]["worse"] is False


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("no such policy", "factorial_thompson"),
        ("neither", "--config"),
        ("no such source", "amplitude, api, backend, clevertap"),
    ],
)
def test_wrong_words_are_answered_with_what_is_allowed(
    ended: dict[str, Ended], name: str, says: str
) -> None:
    """A mistake ends with a line that says what can be written."""
    assert ended[name].status == 2
    assert says in ended[name].errors


def test_counters_agree_with_the_ledger(ended: dict[str, Ended]) -> None:
    """A check of a healthy database finds no difference, and a rebuild has nothing to mend."""
    assert answer(ended["check"])["differences"] == 0
    assert f"{USERS} experiments counted, 0 counters differ." in ended["rebuild"].output


def test_a_source_is_taken_back(ended: dict[str, Ended]) -> None:
    """All of a source's conversions are taken back, and their number is said."""
    assert answer(ended["exclude"])["taken_back"] > 100


def test_help_names_the_route_and_every_source(ended: dict[str, Ended]) -> None:
    """What stands in braces or names a source is not lost on the way to the terminal."""
    words = " ".join(ended["help"].output.replace("\N{BOX DRAWINGS LIGHT VERTICAL}", " ").split())
    assert "/api/cohorts/{cohort}/unfreeze" in words
    assert "amplitude, api, backend, clevertap, meta, posthog, rudderstack, segment" in words
