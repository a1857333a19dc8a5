"""`cancel` and `reset` of one combo: through the server that has the database, or on it."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.support.configuration import COHORT, GOAL, cohort, write_configuration
from tests.support.engine import RunningEngine
from tests.support.postgres import a_database
from tests.support.server import Command, Ended, run_commands, server_process
from tests.support.start import Start

from experiment_engine.application.rebuild import rebuild, recount
from experiment_engine.domain.identifiers import CohortName, ComboKey

ANGLES = ["one", "two"]
ONE, TWO = "2min|push|one|none", "2min|push|two|none"
TOKEN = "stats:for-looking,for-everything"


def run(folder: Path, environ: dict[str, str], *commands: list[str]) -> list[Ended]:
    return run_commands([Command(words, folder, environ) for words in commands])


def cancel(combo: str, *more: str) -> list[str]:
    return ["cancel", "--combo", combo, "--cohort", COHORT, *more]


def reset(combo: str, *more: str) -> list[str]:
    return ["reset", "--combo", combo, "--cohort", COHORT, *more]


def test_beside_a_server(tmp_path: Path) -> None:
    """On SQLite they go through the running server, which keeps the database for itself."""
    cohorts = {COHORT: cohort(angle=ANGLES)}
    environ = {
        "ENGINE_CONFIG": str(write_configuration(tmp_path / "configuration", cohorts=cohorts)),
        "API_TOKEN": TOKEN,
    }
    with server_process(tmp_path, environ) as server:
        server.client.headers["Authorization"] = "Bearer for-everything"
        waiting: dict[str, list[str]] = {ONE: [], TWO: []}
        for number in range(10):
            body = {"user_id": f"usr_{number}", "cohort": COHORT}
            made = server.client.post("/api/trigger", json=body).json()
            waiting[made["combo_key"]].append(made["experiment_id"])
        environ["PORT"] = str(server.client.base_url.port)
        as_json, again, anew, no_combo, no_cohort = run(
            tmp_path,
            environ,
            cancel(ONE, "--json"),
            cancel(ONE),
            reset(TWO, "--json"),
            cancel("2min|push|three|none"),
            ["reset", "--combo", ONE, "--cohort", "nobody"],
        )
        assert json.loads(as_json.output) == {
            "cohort": COHORT,
            "combo_key": ONE,
            "cancelled": len(waiting[ONE]),
        }
        assert "0 messages" in again.output
        assert json.loads(anew.output)["learns_from"].endswith(":00:00Z")
        for ended, says in ((no_combo, "has no combo"), (no_cohort, COHORT)):
            assert ended.status == 1
            assert says in ended.errors
        for combo, state in ((ONE, "cancelled"), (TWO, "scheduled")):
            for experiment_id in waiting[combo]:
                found = server.client.get(f"/api/experiments/{experiment_id}").json()
                assert found["status"] == state
                assert found["reason"] == ("by_hand" if combo == ONE else None)
        limited = server.client.post(
            f"/api/cohorts/{COHORT}/cancel",
            json={"combo_key": TWO},
            headers={"Authorization": "Bearer for-looking"},
        )
        assert limited.status_code == 403
    (nobody,) = run(tmp_path, {**environ, "PORT": "1"}, cancel(TWO, "--json"))
    assert json.loads(nobody.output)["cancelled"] == len(waiting[TWO])  # no server: on the file


def test_where_no_server_is_found(start: Start) -> None:
    """Where another process has the database and no server answers, the line says what to set."""
    start(cohorts={COHORT: cohort(angle=ANGLES)})
    environ = {
        "DATABASE_URL": f"sqlite:///{start.folder / 'engine.db'}",
        "ENGINE_CONFIG": str(start.folder / "configuration"),
        "PORT": "1",
    }
    (ended,) = run(start.folder, environ, cancel(ONE))
    assert ended.status == 1
    assert "set HOST and PORT" in ended.errors


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunningEngine]:
    """Return an engine with two combos, on each database."""
    with ExitStack() as lasting:
        environ = {}
        if request.param == "postgresql":
            environ["DATABASE_URL"] = lasting.enter_context(a_database())
        starting = Start(tmp_path)
        lasting.callback(starting.stop)
        yield starting(
            environ=environ, cohorts={COHORT: cohort(angle=ANGLES)}, holdout={"share": 0.0}
        )


def test_beside_a_server_on_postgresql(tmp_path: Path) -> None:
    """On PostgreSQL they need no server, and one that runs goes on."""
    with a_database() as url, ExitStack() as lasting:
        starting = Start(tmp_path)
        lasting.callback(starting.stop)
        environ = {"DATABASE_URL": url}
        running = starting(environ=environ, cohorts={COHORT: cohort(angle=["one"])})
        experiment_id = running.scheduled("usr_1")
        environ["ENGINE_CONFIG"] = str(tmp_path / "configuration")
        cancelled, anew = run(tmp_path, environ, cancel(ONE, "--json"), reset(ONE))
        assert json.loads(cancelled.output)["cancelled"] == 1
        assert anew.status == 0, anew.errors
        assert running.state(experiment_id) == ("cancelled", "by_hand")


def converting(engine: RunningEngine, combo: str, users: int, prefix: str) -> None:
    """Have messages go out until this many users of the combo have converted."""
    number = done = 0
    while done < users:
        user = f"{prefix}{number}"
        number += 1
        made = engine.experiment(engine.scheduled(user))
        engine.deliver(after="2min")
        if made["combo_key"] == combo:
            engine.event(user, GOAL)
            done += 1


def shown(engine: RunningEngine) -> dict[str, Any]:
    stats = engine.get("/api/stats")
    combos = {
        one["combo_key"]: (one["sent_count"], one["converted_count"])
        for one in stats["top_combinations"]
    }
    return {**stats["summary"], **combos}


def test_a_reset_combo_learns_anew(engine: RunningEngine) -> None:
    """Its past counts no more, also after a rebuild and in folded hours; what comes does."""
    converting(engine, ONE, 3, "old")
    assert engine.chances()[ONE] == pytest.approx(0.9)
    before = shown(engine)
    engine.engine.hands.reset_combo(CohortName(COHORT), ComboKey(ONE), who="a test")
    assert engine.chances()[ONE] < 0.6
    after = shown(engine)
    assert {name: after[name] for name in (ONE, "total_converted")} == {
        name: before[name] for name in (ONE, "total_converted")
    }
    converting(engine, ONE, 1, "same-hour")
    assert engine.chances()[ONE] < 0.6

    engine.clock.advance("1h")
    converting(engine, TWO, 1, "other")
    assert engine.chances()[TWO] == pytest.approx(0.9)
    converting(engine, ONE, 3, "new")
    assert engine.chances()[ONE] == pytest.approx(0.9)

    engine.engine.storage.run(rebuild)
    engine.engine.counts_moved.set()
    assert engine.chances()[ONE] == pytest.approx(0.9)
    engine.deliver(after="2min")
    known = remembered(engine)
    assert known[0][1] == 3

    for _ in range(2):  # days, then months
        engine.clock.advance("70d")
        while engine.engine.duties.tidy():
            pass
    assert not engine.engine.storage.run(recount).differences
    assert remembered(engine) == known


def remembered(engine: RunningEngine) -> tuple[tuple[int, int], int]:
    """Return what learning knows of the combo: trials and successes, and trials by hours."""
    inside, name, key = engine.engine, CohortName(COHORT), ComboKey(ONE)
    with inside.storage.evidence() as evidence:
        totals = evidence.totals(inside.mode, name)[key]
        return totals, evidence.trials(inside.mode, name, (0, 1 << 30))[key]


def test_both_leave_an_entry(engine: RunningEngine) -> None:
    """The audit says who did it, to which combo."""
    engine.scheduled("usr_1")
    for what in ("cancel", "reset"):
        body = {"combo_key": ONE}
        engine.post(f"/api/cohorts/{COHORT}/{what}", body).raise_for_status()
    entries = engine.engine.pages.reading.audit(5)
    assert [(one.what, one.target) for one in entries] == [
        ("reset", f"{COHORT}:{ONE}"),
        ("cancelled what waits", f"{COHORT}:{ONE}"),
    ]
