"""`replay`: exported history is lived through, and nothing leaves the house (R15)."""

import gzip
import json
import sqlite3
import zipfile
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.support.configuration import COHORT, GOAL, TRIGGER, cohort, write_configuration
from tests.support.server import Command, Ended, run_commands

MORNING = datetime(2026, 9, 1, 5, 30, tzinfo=UTC)


def exported(
    number: int, user: str, name: str, at: datetime, properties: dict[str, str] | None = None
) -> bytes:
    """Return an event as Amplitude's Export API writes it."""
    event = {
        "$insert_id": f"insert-{number}",
        "event_type": name,
        "user_id": user,
        "event_time": at.strftime("%Y-%m-%d %H:%M:%S.%f"),
        "event_properties": {"language": "Hindi", **(properties or {})},
        "user_properties": {},
        "device_id": None,
    }
    return json.dumps(event).encode() + b"\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a configuration, and exports of forty users of whom ten convert by themselves."""
    folder = tmp_path_factory.mktemp("replay")
    write_configuration(folder / "configuration", cohorts={COHORT: cohort(delay=["2min", "1h"])})
    lines, number = [], 0
    for user in range(40):
        at = MORNING + timedelta(minutes=user)
        lines.append((at, exported(number, f"u{user}", TRIGGER, at)))
        lines.append((at, exported(number + 1, f"u{user}", "app_opened", at)))
        if user < 10:
            later = at + timedelta(hours=5)
            lines.append((later, exported(number + 2, f"u{user}", GOAL, later)))
        number += 3
    lines.sort()
    (folder / "export").mkdir()
    whole = [line for _, line in lines]
    with gzip.open(folder / "export" / "1_2026-09-01_5#0.json.gz", "wb") as packed:
        packed.writelines([*whole[:50], b"no event at all\n"])
    with zipfile.ZipFile(folder / "export" / "rest.zip", "w") as archive:
        archive.writestr("1/1_2026-09-01_6#0.json", b"".join(whole[50:]))
        archive.writestr("readme.txt", "nothing to read")
    return folder


def run(folder: Path, *arguments: str) -> Ended:
    environ = {"ENGINE_CONFIG": str(folder / "configuration")}
    (ended,) = run_commands([Command(["replay", *arguments], folder, environ)])
    return ended


def answer(ended: Ended) -> Any:
    assert ended.status == 0, ended.errors
    return json.loads(ended.output)


def test_what_would_have_been(folder: Path) -> None:
    """Volumes, base rate and delays of the history, and what would have been decided."""
    found = answer(run(folder, "export", "--json"))

    assert (found["events"], found["of_no_use"], found["unreadable"]) == (91, 40, 1)
    one = found["cohorts"][COHORT]
    assert one["started"] == 40
    assert one["converted_by_themselves"] == 10
    assert one["base_rate"] == pytest.approx(0.25)
    assert one["hours_to_convert"]["50%"] == pytest.approx(5.0)
    assert sum(one["drawn"]["delay"].values()) == 40
    assert sum(one["ended"].values()) == 40
    assert set(one["ended"]) <= {"sent", "held_out"}


def test_it_leaves_nothing_behind(folder: Path) -> None:
    """No database is made or changed: the history is lived through on one that is thrown away."""
    before = sorted(path.relative_to(folder) for path in folder.rglob("*"))
    assert "Nothing was sent" in run(folder, "export").output

    assert sorted(path.relative_to(folder) for path in folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["nowhere"], 1, "is no export file or folder"),
        (["configuration"], 1, "no file below it"),
        ([], 2, "name at least one"),
    ],
)
def test_what_cannot_be_read_is_said(
    folder: Path, arguments: list[str], status: int, says: str
) -> None:
    """A wrong path ends with a line that says what to name."""
    ended = run(folder, *arguments)

    assert ended.status == status
    assert says in ended.errors


def test_a_broken_file_is_named(folder: Path, tmp_path: Path) -> None:
    """A file that is cut off is named, with what to do."""
    whole = (folder / "export" / "1_2026-09-01_5#0.json.gz").read_bytes()
    (tmp_path / "cut.json.gz").write_bytes(whole[:-20])
    ended = run(folder, str(tmp_path / "cut.json.gz"))

    assert ended.status == 1
    assert "cut.json.gz" in ended.errors
    assert "export it again" in ended.errors


@pytest.fixture
def sent_before(folder: Path, tmp_path: Path) -> Path:
    """Return an export of twenty messages of an earlier engine, five of which led to the goal."""
    lines = []
    for user in range(20):
        at = MORNING + timedelta(minutes=user)
        lines.append(exported(3 * user, f"s{user}", "experiment_sent", at, COMBO))
        if user < 5:
            lines.append(exported(3 * user + 1, f"s{user}", GOAL, at + timedelta(hours=1)))
    late = MORNING + timedelta(days=9)
    lines.append(exported(99, "s99", "experiment_sent", late, COMBO))
    (tmp_path / "sent.json").write_bytes(b"".join(lines))
    return tmp_path / "sent.json"


COMBO = {"cohort": COHORT, "combo_key": "2min|push|helpful|none"}
DATABASE = "data/experiment_engine.db"


def test_what_was_sent_before_is_learned_on_demand(folder: Path, sent_before: Path) -> None:
    """Rows with combo and time of the send become trials with --learn alone, and go again."""
    told = answer(run(folder, str(sent_before), "--json"))["history"]
    assert told["learned"] is False
    assert not (folder / DATABASE).exists()

    learned = answer(run(folder, str(sent_before), "--learn", "--json"))["history"]
    assert learned == {**told, "learned": True}
    assert (learned["trials"], learned["successes"]) == (20, 5)
    assert learned["left_out"] == {"window_open": 1}
    assert counted(folder) == [("2min|push|helpful|none", 20, 5)]
    assert "20 trials, 5 successes (learned)" in run(folder, str(sent_before), "--learn").output
    assert counted(folder) == [("2min|push|helpful|none", 20, 5)]

    assert answer(run(folder, "--unlearn", "--json")) == {"history": {}}
    assert counted(folder) == []


def counted(folder: Path) -> list[tuple[str, int, int]]:
    """Return what learning has of all hours, as the database says it."""
    with closing(sqlite3.connect(folder / DATABASE)) as connection:
        assert connection.execute("SELECT count(*) FROM experiment").fetchone() == (0,)
        query = "SELECT combo_key, trials, successes FROM combo_count WHERE hour = -1"
        return connection.execute(query).fetchall()
