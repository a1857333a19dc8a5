"""`explain`: a decision's receipt beside a running server, drawn again from what is stored."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.support.configuration import COHORT, cohort
from tests.support.engine import RunningEngine
from tests.support.server import Command, Ended, run_commands
from tests.support.start import Start

ANGLES = ["a", "b", "c"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("explain")


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[RunningEngine]:
    """Return an engine that goes on running while its decisions are explained."""
    start = Start(folder)
    yield start(cohorts={COHORT: cohort(angle=ANGLES)}, holdout={"share": 0.0})
    start.stop()


def run(folder: Path, *commands: list[str]) -> list[Ended]:
    environ = {
        "DATABASE_URL": f"sqlite:///{folder / 'engine.db'}",
        "ENGINE_CONFIG": str(folder / "configuration"),
        "COLUMNS": "160",
    }
    return run_commands([Command(["explain", *words], folder, environ) for words in commands])


def answer(ended: Ended) -> Any:
    assert ended.status == 0, ended.errors
    return json.loads(ended.output)


def test_beside_a_running_server(engine: RunningEngine, folder: Path) -> None:
    """It says what the API says, and the decision is drawn again, while the server serves."""
    made = engine.sent("usr_[bold]1")  # a name that a terminal must not obey
    engine.opened(experiment_id=made)
    engine.converted(user_id="usr_[bold]1")

    as_json, page = run(folder, [made, "--redraw", "--json"], [made, "--redraw"])

    told = answer(as_json)
    checks = {check["what"]: check["found"] for check in told.pop("redraw")["checks"]}
    assert told == engine.experiment(made)
    assert checks == dict.fromkeys(
        ("eligible", "distribution", "probabilities", "draw", "context", "text"), "equal"
    )
    assert [event["name"] for event in told["events"]][1:] == ["opened", "converted"]
    assert told["feedback"]["converted_by"] == "clevertap"
    assert page.status == 0
    for said in ("usr_[bold]1", told["seed"], "<- drawn", "Drawn again: equal", "accepted"):
        assert said in page.output


def test_by_hand_too(engine: RunningEngine, folder: Path) -> None:
    """What was asked for through the API is drawn again, its text from what was asked."""
    made = engine.trigger("usr_2", attributes={"language": "en"}).json()["experiment_id"]

    (ended,) = run(folder, [made, "--redraw", "--json"])

    assert {check["found"] for check in answer(ended)["redraw"]["checks"]} == {"equal"}


def test_a_tampered_row_ends_with_1(engine: RunningEngine, folder: Path) -> None:
    """A row that somebody changed is named, on the page, as JSON, and by the exit status."""
    made = engine.scheduled("usr_3")
    with closing(sqlite3.connect(folder / "engine.db", isolation_level=None)) as other:
        other.execute("UPDATE experiment SET propensity = 0.9 WHERE id = ?", (made,))

    as_json, page, unknown = run(
        folder, [made, "--redraw", "--json"], [made, "--redraw"], ["nothing", "--redraw"]
    )

    assert as_json.status == page.status == unknown.status == 1
    assert not json.loads(as_json.output)["redraw"]["equal"]
    assert "NOT as stored" in page.output
    assert "is not drawn again as it is stored: draw" in as_json.errors
    assert 'There is no experiment "nothing"' in unknown.errors


def test_without_a_database(tmp_path: Path, folder: Path, engine: RunningEngine) -> None:
    """Where there is no database it says so and makes none."""
    environ = {"ENGINE_CONFIG": str(folder / "configuration")}
    (ended,) = run_commands([Command(["explain", "x"], tmp_path, environ)])

    assert ended.status == 1
    assert "there is no database" in ended.errors
    assert list(tmp_path.iterdir()) == []
    assert engine.client.get("/health").status_code == 200
