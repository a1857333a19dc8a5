"""The comparison after a crash: what clients were told, what the provider did, what is stored."""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row
from tests.support.clevertap_double import (
    Call,
    double_sends,
    sends_by_experiment,
    sends_by_user,
)
from tests.support.crash import History, Told

Row = Mapping[str, Any]
Counters = Mapping[tuple[object, ...], tuple[int, ...]]

_HOUR = 3_600_000
_ALL_HOURS = -1


@dataclass(frozen=True)
class Stored:
    """The database, read without touching it."""

    experiments: Mapping[str, Row]
    events: Mapping[str, Row]  # by the marker that the client put into the event
    feedback: frozenset[bytes]  # bodies
    counters: Counters
    experiment_counts: Mapping[tuple[object, ...], int]
    integrity: str

    @classmethod
    def read(cls, database: Path) -> "Stored":
        """Read everything that is compared from a file of SQLite's."""
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            (integrity,) = connection.execute("PRAGMA integrity_check").fetchone()
            return cls._read(
                lambda statement: [dict(row) for row in connection.execute(statement)], integrity
            )

    @classmethod
    def read_postgresql(cls, url: str) -> "Stored":
        """Read everything that is compared from PostgreSQL, by its address."""
        with psycopg.connect(url, row_factory=dict_row) as connection:
            return cls._read(lambda statement: list(connection.execute(statement.encode())), "ok")

    @classmethod
    def _read(cls, rows: Callable[[str], Sequence[Row]], integrity: str) -> "Stored":
        events = rows("SELECT * FROM event")
        names = ("mode", "cohort", "hour", "combo_key", "counted_for")
        sums = ("trials", "successes", "sent", "opened", "converted")
        return cls(
            experiments={row["id"]: row for row in rows("SELECT * FROM experiment")},
            events={row["dedup_key"].rpartition(":")[2]: row for row in events},
            feedback=frozenset(row["raw"] for row in events),
            counters={
                tuple(row[name] for name in names): tuple(row[name] for name in sums)
                for row in rows("SELECT * FROM combo_count")
            },
            experiment_counts={
                (row["mode"], row["cohort"], row["held_out"]): row["experiments"]
                for row in rows("SELECT * FROM experiment_count")
            },
            integrity=integrity,
        )

    def in_state(self, *states: str) -> list[Row]:
        """Return the experiments in one of these states."""
        return [row for row in self.experiments.values() if row["state"] in states]


def waiting(database: Path) -> int:
    """Return how many deliveries have not come to their end."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        count: int = connection.execute(
            "SELECT count(*) FROM experiment WHERE state IN ('scheduled', 'claimed')"
        ).fetchone()[0]
        return count


@dataclass(frozen=True)
class Verdicts:
    """Broken promises, by promise; every one must be empty."""

    lost: Sequence[str]  # acknowledged, and not in the database
    taken_twice: Sequence[str]  # a repeated event that was not a duplicate
    decided_twice: Sequence[str]  # one event, two experiments
    rewarded_twice: Sequence[str]
    sent_twice: Mapping[str, int]
    sent_without_ledger: Sequence[str]  # the database says sent, the provider knows nothing
    stuck: Sequence[str]
    ledger_without_sent: Sequence[str]  # the provider has it, the database says something else
    counters: Sequence[str]
    integrity: str

    def __iter__(self) -> Iterator[tuple[str, object]]:
        """Go through the promises by name."""
        return iter(vars(self).items())


def judge(history: History, ledger: Sequence[Call], stored: Stored) -> Verdicts:
    """Compare the three ledgers; nothing may be under way any more."""
    reached = _reached(ledger, stored)
    sent = {row["id"] for row in stored.in_state("sent")}
    may_be_out = sent | {row["id"] for row in stored.in_state("unknown")}
    return Verdicts(
        lost=[str(told) for told in history.told if _is_lost(told, stored)],
        taken_twice=[
            str(told)
            for told in history.told
            if told.repeated and told.result["status"] != "duplicate"
        ],
        decided_twice=_repeated(
            row["user_id"] + " " + row["event_key"] for row in stored.experiments.values()
        ),
        rewarded_twice=_repeated(
            f"{told.kind in ('goal', 'converted')} {told.result['experiment_id']}"
            for told in history.told
            if told.kind != "trigger" and told.result["status"] == "recorded"
        ),
        sent_twice=double_sends(ledger),
        sent_without_ledger=sorted(sent - reached),
        stuck=[row["id"] for row in stored.in_state("scheduled", "claimed")],
        ledger_without_sent=sorted(reached - may_be_out),
        counters=_differences(stored),
        integrity="" if stored.integrity == "ok" else stored.integrity,
    )


def _reached(ledger: Sequence[Call], stored: Stored) -> set[str]:
    """Return the experiments whose message the provider took; one user has one experiment."""
    users = sends_by_user(ledger)
    by_user = {row["id"] for row in stored.experiments.values() if row["user_id"] in users}
    return by_user | sends_by_experiment(ledger).keys()


def _is_lost(told: Told, stored: Stored) -> bool:
    """Say whether what a client was told about an event is not what is stored."""
    if told.kind in ("trigger", "goal"):
        event = stored.events.get(told.marker)
        if event is None or event["user_id"] != told.user:
            return True
    elif not any(f'"{told.marker}"'.encode() in raw for raw in stored.feedback):
        return True
    return not _effect_holds(told, stored)


def _effect_holds(told: Told, stored: Stored) -> bool:
    status = told.result["status"]
    if status not in ("scheduled", "holdout", "recorded", "cancelled"):
        return True
    experiment = stored.experiments.get(told.result["experiment_id"])
    if experiment is None or experiment["user_id"] != told.user:
        return False
    if status == "cancelled":
        return (experiment["state"], experiment["reason"]) == ("cancelled", "converted")
    if status == "recorded":
        column = "opened_at" if told.kind == "opened" else "converted_at"
        return experiment[column] is not None
    return bool(experiment["held_out"]) is (status == "holdout")


def _differences(stored: Stored) -> list[str]:
    sums: Counter[tuple[object, ...]] = Counter()
    numbers: Counter[tuple[object, ...]] = Counter()
    for row in stored.experiments.values():
        numbers[row["mode"], row["cohort"], row["held_out"]] += 1
        group = (
            "holdout"
            if row["held_out"]
            else "replaced"
            if row["replaced_by"] is not None
            else "postponed"
            if row["postponed"]
            else "combo"
        )
        for hour in (row["triggered_at"] // _HOUR, _ALL_HOURS):
            combo = row["replaced_by"] or row["combo_key"]
            key = (row["mode"], row["cohort"], hour, combo, group)
            for place, value in enumerate(_counted(row)):
                sums[*key, place] += value
    kept = {
        (*key, place): value
        for key, values in stored.counters.items()
        for place, value in enumerate(values)
    }
    both = sums.keys() | kept.keys()
    wrong = [
        f"{key}: {kept.get(key, 0)}, not {sums[key]}"
        for key in both
        if kept.get(key, 0) != sums[key]
    ]
    return wrong + [
        f"experiments {key}: {stored.experiment_counts.get(key, 0)}, not {number}"
        for key, number in numbers.items()
        if stored.experiment_counts.get(key, 0) != number
    ]


def _counted(row: Row) -> tuple[int, int, int, int, int]:
    """Say again what an experiment counts for (R1): trials, successes, sent, opened, converted."""
    converted = int(row["converted_at"] is not None)
    match row["state"], row["reason"]:
        case "sent", _:
            return 1, converted, 1, int(row["opened_at"] is not None), converted
        case "held_out", _:
            return 1, converted, 0, 0, converted
        case "cancelled", "converted" if converted:
            return 1, 1, 0, 0, 0
        case _:
            return 0, 0, 0, 0, 0


def _repeated(names: Iterator[str]) -> list[str]:
    return [name for name, times in Counter(names).items() if times > 1]
