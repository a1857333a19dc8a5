"""R13: a batch gives exactly what its events in order of arrival would give one at a time."""

import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.support.configuration import COHORT, GOAL, TRIGGER, cohort
from tests.support.engine import RunningEngine
from tests.support.events import amplitude_event
from tests.support.start import Start

OTHER, COUNTED = "payment_failed", "paywall_viewed"
CONFIGURATION: dict[str, Any] = {
    "cohorts": {
        COHORT: cohort(delay=["2min", "1h"], angle=["helpful", "urgency"]),
        OTHER: cohort(trigger={"event": OTHER, "again_after": "0s"}),
        "paywall_bouncers": cohort(
            trigger={"event": COUNTED, "count": 2, "within": "1d"}, goal={"event": "subscribed"}
        ),
    },
    "frequency_cap": {"messages": 3, "per": "7d"},
    "opt_out": {"events": ["said_no"]},
    "opt_in": {"events": ["said_yes"]},
}
NAMES = (TRIGGER, TRIGGER, OTHER, COUNTED, COUNTED, GOAL, "subscribed", "said_no", "said_yes", "x")


def some_events(engine: RunningEngine, chance: random.Random, number: int) -> list[Any]:
    """Return events of few users: of every kind, repeated, late, out of order and broken."""
    events: list[Any] = []
    for _ in range(number):
        kind = chance.random()
        if kind < 0.05:
            events.append(chance.choice([17, {"user_id": "a"}, {"event_type": ["x"]}, None]))
        elif kind < 0.15 and events:
            events.append(chance.choice(events))
        else:
            user = chance.choice(["a", "b", "c", None] + ["d"] * (kind < 0.2))
            ago = chance.choice(["0s", "1min", "5min", "2h", "7h", "40d"])
            at = engine.clock.iso(before=ago)
            events.append(amplitude_event(user, at, chance.choice(NAMES)))
    return events


def some_feedback(chance: random.Random, experiments: list[str], number: int) -> list[Any]:
    """Return reports that name a user, an experiment, both or neither, also of another's."""
    reports = []
    for _ in range(number):
        user, experiment = (
            chance.choice(["a", "b", "c"]),
            chance.choice([*experiments, "nobody's"]),
        )
        named = {"user_id": user, "experiment_id": experiment}
        for name in chance.sample(sorted(named), chance.choice([0, 0, 1, 1, 2])):
            del named[name]
        reports.append(named)
    return reports


def rows(database: Path) -> dict[str, list[Any]]:
    """Return every table's rows, the secrets of the database apart."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return {
            name: sorted(map(repr, connection.execute(f'SELECT * FROM "{name}"')))
            for (name,) in names.fetchall()
            if name != "meta"
        }


@pytest.mark.parametrize("seed", range(4))
def test_r13_one_batch_equals_one_by_one(tmp_path: Path, seed: int) -> None:
    """The same answers and the same rows, however the stream is cut into batches."""
    chance = random.Random(seed)
    folders = [tmp_path / "together", tmp_path / "apart"]
    starts = [Start(folder) for folder in folders]
    together, apart = (start(**CONFIGURATION) for start in starts)
    experiments: list[str] = []
    for path in ("/webhook/opened", "/webhook/converted", "/webhook/opened", "/webhook/opted-out"):
        events = some_events(together, chance, 25)
        results = together.results("/webhook/amplitude", events)
        assert results == [apart.results("/webhook/amplitude", [event])[0] for event in events]
        experiments += [result["experiment_id"] for result in results if "experiment_id" in result]
        for engine in (together, apart):
            engine.deliver(after="3min")
        reports = some_feedback(chance, experiments, 8)
        results = together.results(path, reports)
        assert results == [apart.results(path, [report])[0] for report in reports]
        for engine in (together, apart):
            engine.learn()
    assert rows(folders[0] / "engine.db") == rows(folders[1] / "engine.db")
    for start in starts:
        start.stop()
