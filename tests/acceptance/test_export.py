"""`export`: what the database holds, as files for other programs, beside a running server."""

import csv
import io
import json
import re
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
from tests.support.configuration import COHORT, GOAL, cohort
from tests.support.engine import RunningEngine
from tests.support.postgres import a_database
from tests.support.server import Command, Ended, run_command, run_commands
from tests.support.start import Start

from experiment_engine.adapters.tabular.table_files import to_csv
from experiment_engine.application.export import COLUMNS, RAW, Column

FORMULAS = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "\uff1d1",
    "\uff0b1",
    "\uff0d1",
    "\uff201",
    '=HYPERLINK("http://evil","x")',
    "=cmd|' /C calc'!A0",
    "'=1",
    "'",
    "''x",
]
PLAIN = [
    "",
    "a",
    "a=1",
    " =1",
    "1",
    '"',
    "a,b",
    "a\nb",
    "आपका",
    "NULL",
    "true",
    ";=1",
    "x'",
    "\\N",
]
TOKEN = "a-secret-of-the-door"


class Exporting:
    """An engine with some history, and the command beside it."""

    def __init__(self, engine: RunningEngine, folder: Path, environ: dict[str, str]) -> None:
        """Give it three users, one of them with a name that a spreadsheet would run."""
        self.engine, self.folder, self.environ = engine, folder, environ
        self.ids = [engine.sent(user) for user in ("usr_1", "=usr_2")]
        engine.event("usr_1", GOAL)
        engine.clock.advance("1d")
        self.later = datetime.fromisoformat(engine.clock.iso())
        self.ids.append(engine.scheduled("usr_3"))

    def run(self, *arguments: str) -> Ended:
        (ended,) = run_commands([Command(["export", *arguments], self.folder, self.environ)])
        return ended


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def exporting(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Exporting]:
    """Return the command beside a running engine, on each database."""
    folder = tmp_path_factory.mktemp("export")
    with ExitStack() as lasting:
        url = f"sqlite:///{folder / 'engine.db'}"
        if request.param == "postgresql":
            url = lasting.enter_context(a_database())
        start = Start(folder)
        lasting.callback(start.stop)
        environ = {"DATABASE_URL": url, "CLEVERTAP_WEBHOOK_SECRET": TOKEN}
        engine = start(
            environ=environ, cohorts={COHORT: cohort(angle=["a", "b"])}, holdout={"share": 0.0}
        )
        environ["ENGINE_CONFIG"] = str(folder / "configuration")
        yield Exporting(engine, folder, environ)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_experiments_as_csv(exporting: Exporting) -> None:
    """Every experiment is there once, with what the API says of it, for its owner's eyes alone."""
    ended = exporting.run("one.csv", "--json")
    assert ended.status == 0, ended.errors
    assert json.loads(ended.output)["rows"] == 3
    path = exporting.folder / "one.csv"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.with_name("one.csv.part").exists()
    found = {row["experiment_id"]: row for row in rows(path)}
    assert set(found) == set(exporting.ids)
    for experiment_id, row in found.items():
        told = exporting.engine.experiment(experiment_id)
        for name in ("cohort", "combo_key", "status", "triggered_at", "scheduled_for", "seed"):
            assert row[name] == str(told[name]), name
        assert float(row["propensity"]) == told["propensity"]
        assert row["title"] == told["message"]["title"]
        assert row["converted_at"] == (told["feedback"]["converted_at"] or "")
        assert row["held_out"] == "false"
    assert found[exporting.ids[1]]["user_id"] == "'=usr_2"


def test_experiments_as_parquet(exporting: Exporting) -> None:
    """Parquet says the same, with types, and names as they are."""
    ended = exporting.run("one.parquet")
    assert ended.status == 0, ended.errors
    assert "3 experiments in one.parquet." in ended.output
    path = exporting.folder / "one.parquet"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with duckdb.connect() as db:
        query = (
            "SELECT experiment_id, user_id, seed, epoch_ms(triggered_at), held_out, propensity,"
            f" converted_at FROM '{path}' ORDER BY decided_at"
        )
        found = db.execute(query).fetchall()
    assert [row[0] for row in found] == exporting.ids
    assert [row[1] for row in found] == ["usr_1", "=usr_2", "usr_3"]
    for row in found:
        told = exporting.engine.experiment(row[0])
        moment = datetime.fromisoformat(told["triggered_at"]).timestamp() * 1000
        assert (str(row[2]), row[3]) == (told["seed"], round(moment))
        assert (row[4], row[5]) == (False, told["propensity"])
        assert (row[6] is None) == (told["feedback"]["converted_at"] is None)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_events(exporting: Exporting, kind: str) -> None:
    """Events are there with what followed; their bodies only if asked for."""
    for name, more in (("events", []), ("bodies", ["--raw"])):
        ended = exporting.run(f"{name}.{kind}", "--what", "events", *more)
        assert ended.status == 0, ended.errors
    if kind == "csv":
        found = rows(exporting.folder / "bodies.csv")
        assert "raw" not in rows(exporting.folder / "events.csv")[0]
        assert sorted(row["status"] for row in found) == ["recorded"] + ["scheduled"] * 3
        assert all(json.loads(row["raw"])["event_type"] == row["name"] for row in found)
    else:
        with duckdb.connect() as db:
            path = exporting.folder / "bodies.parquet"
            query = f"SELECT name, json_extract_string(raw, 'event_type') FROM '{path}'"
            pairs = db.execute(query).fetchall()
        assert len(pairs) == 4
        assert all(name == told for name, told in pairs)


def test_a_part(exporting: Exporting) -> None:
    """`--since`, `--until` and `--cohort` narrow it, and `-` writes to standard output."""
    later = exporting.later.isoformat().replace("+00:00", "")

    def ids(*arguments: str) -> set[str]:
        ended = exporting.run("-", *arguments)
        assert ended.status == 0, ended.errors
        return {row["experiment_id"] for row in csv.DictReader(io.StringIO(ended.output))}

    assert ids("--since", later) == {exporting.ids[2]}
    assert ids("--until", later) == set(exporting.ids[:2])
    assert ids("--cohort", COHORT) == set(exporting.ids)
    assert ids("--cohort", "another") == set()


def test_no_secret_is_in_it(exporting: Exporting) -> None:
    """Nothing of the settings is in what is exported."""
    for what in ("experiments", "events"):
        output = exporting.run("-", "--what", what).output
        assert TOKEN not in output
        assert exporting.environ["DATABASE_URL"] not in output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["x.xlsx"], ".csv or .parquet"),
        (["x.csv", "--what", "events", "--cohort", COHORT], "belong to no cohort"),
        (["x.csv", "--raw"], "--what events"),
        (["nowhere/x.csv"], "cannot be written"),
        (["nowhere/x.parquet"], "cannot be written"),
        (["there.csv"], "is there already"),
    ],
)
def test_wrong_words(exporting: Exporting, arguments: list[str], says: str) -> None:
    """A mistake ends with 2 (or 1 where only the disk knows) and a line; what is there stays."""
    there = exporting.folder / "there.csv"
    there.write_text("mine")
    ended = exporting.run(*arguments)
    assert ended.status == (1 if "there" in says or "written" in says else 2)
    assert says in ended.errors
    assert there.read_text() == "mine"


def test_the_help_names_what_is_personal(tmp_path: Path) -> None:
    """`--help` names every personal column."""
    said = " ".join(run_command(Command(["export", "--help"], tmp_path)).output.split())
    for column in (*COLUMNS["experiments"], *COLUMNS["events"], RAW):
        assert bool(re.search(rf"Personal.*\b{column.name}\b.*Parameters", said)) == (
            column.personal
        ), column.name


def test_formulas_are_escaped_and_come_back() -> None:
    """A spreadsheet runs nothing, and taking the mark away gives back what was there."""
    file = io.StringIO(newline="")
    columns = [Column("text", "text"), Column("amount", "number")]
    to_csv(file, columns, [(text, -1.5) for text in FORMULAS + PLAIN])
    file.seek(0)
    found = list(csv.reader(file))[1:]
    back = [text.removeprefix("'") for text, _ in found]
    assert back == FORMULAS + PLAIN
    assert not any(
        text.startswith(tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")) for text, _ in found
    )
    assert {amount for _, amount in found} == {"-1.5"}
    assert [text for text, _ in found[len(FORMULAS) :]] == PLAIN


def test_many_rows_take_no_more_memory(tmp_path: Path, start: Start) -> None:
    """Pages follow one another: what is more than a page comes whole and in order."""
    engine = start()
    users = [f"u{number:05}" for number in range(4_500)]
    for first in range(0, len(users), 1_500):
        results: list[Any] = engine.events(
            *(
                {"event_type": "checkout_abandoned", "user_id": user, "insert_id": user}
                for user in users[first : first + 1_500]
            )
        )
        assert {result["status"] for result in results} == {"scheduled"}
    environ = {"DATABASE_URL": f"sqlite:///{start.folder / 'engine.db'}"}
    commands = [["export", "-", "--what", what] for what in ("events", "experiments")]
    for ended in run_commands([Command(words, tmp_path, environ) for words in commands]):
        found = list(csv.DictReader(io.StringIO(ended.output)))
        assert sorted(row["user_id"] for row in found) == users
