"""Who is erased is in no table, in no body that was kept whole, and not on the disk either."""

import json
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import Boolean, Column, Integer, LargeBinary, Table, Text, insert
from sqlalchemy.types import Float
from tests.support.builders import (
    NOW,
    Storage,
    a_world,
    converted,
    empty_database,
    happened,
    opened,
    requested,
    rows_of,
    said_no,
    said_yes,
)
from tests.support.column_classes import CLASSES, PERSONAL
from tests.support.postgres import a_database

from experiment_engine.adapters.storage import tables
from experiment_engine.adapters.storage.postgres import PostgresStorage
from experiment_engine.adapters.storage.sqlite import SqliteStorage
from experiment_engine.application.audit import Doer, note_about
from experiment_engine.application.forget import (
    forget_anonymous,
    forget_quarantined,
    mentions,
)
from experiment_engine.application.manage import erase_user
from experiment_engine.application.noted import Noted
from experiment_engine.domain.events import Chosen, Fact, Source
from experiment_engine.domain.identifiers import UserId
from experiment_engine.domain.moments import DAY, HOUR, Instant

ASHA, BINOD = UserId("asha@example.org"), UserId("binod@example.org")


def mark(user: UserId, column: Column[Any]) -> str:
    return f"{user} in {column.table.name}.{column.name}"


def value_for(column: Column[Any], user: UserId, number: int) -> object:
    """Return something that fits the column; in a personal one something of the user's."""
    if column.name in ("user_id", "target"):
        return user
    personal = CLASSES[column.table.name, column.name] == PERSONAL
    if isinstance(column.type, LargeBinary):
        return mark(user, column).encode() if personal else b"nothing"
    if isinstance(column.type, Text):
        return f"{mark(user, column)} {number}" if personal else _text(column, number)
    if isinstance(column.type, Boolean | Float):
        return isinstance(column.type, Float) and 0.5
    return number if isinstance(column.type, Integer) else NOW + number


def _text(column: Column[Any], number: int) -> str:
    name = column.name
    if (column.table.name, name) == ("experiment", "id"):
        name = "experiment_id"
    told = {"state": "sent", "mode": "live", "cohort": f"cohort {number % 2}"}
    return told.get(name, f"{name} {number}")


def rows_about(user: UserId, table: Table, first: int) -> Iterator[dict[str, object]]:
    for number in (first, first + 1):
        yield {c.name: value_for(c, user, number) for c in table.columns}


def personal_tables() -> list[Table]:
    return [
        table
        for table in tables.metadata.sorted_tables
        if any(CLASSES[table.name, c.name] == PERSONAL for c in table.columns)
    ]


def fill(storage: Storage) -> None:
    """Write two rows about each of two users into every table that holds something personal."""
    with storage.transaction() as tx:
        for table in personal_tables():
            for user, first in ((ASHA, 1), (BINOD, 10)):
                tx.core.execute(insert(table), list(rows_about(user, table, first)))
        for number in range(2):
            row = ("live", f"cohort {number}", False, 1)
            tx.core.execute(insert(tables.experiment_count).values(row))
        nobody = {"source": "amplitude", "name": "x", "happened_at": 1, "received_at": 1}
        nobody |= {"user_id": "", "status": "ignored"}
        for number, user in enumerate((ASHA, BINOD)):
            raw = json.dumps({"device": user}).encode()
            tx.core.execute(
                insert(tables.event), [{**nobody, "dedup_key": f"k{number}", "raw": raw}]
            )


def erase(storage: Storage, user: UserId) -> None:
    with storage.transaction() as tx:
        erase_user(user, tx, NOW)
    number: int | None = 0
    while number is not None:
        number = storage.run(partial(forget_quarantined, user, number))
    key: str | None = ""
    while key is not None:
        key = storage.run(partial(forget_anonymous, user, key))


def everything(storage: Storage) -> str:
    found = []
    for table in tables.metadata.sorted_tables:
        for row in rows_of(storage, table):
            found += [
                v.decode(errors="replace") if isinstance(v, bytes) else str(v)
                for v in row.values()
            ]
    return "\n".join(found)


def test_erasing_reaches_every_personal_column(storage: Storage) -> None:
    """Of an erased user nothing is left where something personal may stand, of another all is."""
    fill(storage)
    before = {table.name: len(rows_of(storage, table)) for table in personal_tables()}
    text = everything(storage)
    personal = [
        c for t in personal_tables() for c in t.columns if CLASSES[t.name, c.name] == PERSONAL
    ]
    marks = [
        c
        for c in personal
        if isinstance(c.type, Text | LargeBinary) and c.name not in ("user_id", "target")
    ]
    assert len(marks) >= 15
    assert all(mark(user, column) in text for user in (ASHA, BINOD) for column in marks)

    erase(storage, ASHA)

    left = everything(storage)
    assert ASHA not in left
    assert all(mark(BINOD, column) in left for column in marks)
    # What counts need stays, without the person.
    for name in ("experiment", "attempt", "quarantine", "audit"):
        assert len(rows_of(storage, tables.metadata.tables[name])) == before[name]


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"user_id": ASHA}),
        json.dumps({"user_id": ASHA}).replace("a", "\\u0061"),
        f"user_id={quote(ASHA)}&x=1",
        f"user_id={ASHA}",
        f'{{"identity": "{ASHA}", broken',
        f"\xff\xfe {ASHA}",
    ],
)
def test_a_body_that_names_the_user(body: str) -> None:
    """However the body writes it, also where it is no JSON."""
    assert mentions(body.encode("latin-1"), ASHA)


@pytest.mark.parametrize(
    "body", ["", "{}", f"x{ASHA}", f"{ASHA}x", BINOD, "asha", "a@example.org"]
)
def test_a_body_about_others(body: str) -> None:
    """An id that is part of a longer one is another's."""
    assert not mentions(body.encode(), ASHA)


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("आशा", '{"u": "\\u0906\\u0936\\u093e"}'),
        ("u\U0001f600", '{"u": "u\\ud83d\\ude00"}'),
        ('q"1', '{"u": "q\\"1"}'),
        ("a/b", '{"u": "a\\/b"}'),
        ("+91 98", "u=%2B91+98"),
    ],
)
def test_ids_of_all_kinds_are_found(name: str, body: str) -> None:
    """Ids in any script, and with characters that JSON or a form writes in another way."""
    assert mentions(body.encode(), UserId(name))


@pytest.mark.parametrize("overwritten", [True, False])
def test_nothing_is_left_in_the_file(tmp_path: Path, *, overwritten: bool) -> None:
    """Once upkeep has been there no byte of an erased user is in the database's files.

    Without `secure_delete` the same look finds some: so it would find what were left.
    """
    path = empty_database(tmp_path)
    with closing(SqliteStorage(path)) as storage:
        if not overwritten:
            storage._writer.execute("PRAGMA secure_delete = OFF")
        fill(storage)
        with storage.transaction() as tx:
            for number in range(300):  # so that pages are split and rows move
                user = UserId(f"user {number}")
                for table in personal_tables():
                    rows = list(rows_about(user, table, 100 + 2 * number))
                    tx.core.execute(insert(table), rows)
        assert ASHA.encode() in b"".join(p.read_bytes() for p in tmp_path.iterdir())

        erase(storage, ASHA)
        assert storage.scrub(NOW, NOW)

        bytes_left = b"".join(p.read_bytes() for p in sorted(tmp_path.iterdir()))
    assert BINOD.encode() in bytes_left
    assert (ASHA.encode() in bytes_left) is not overwritten


def test_a_reader_only_delays_it(tmp_path: Path) -> None:
    """While a report still looks at older pages they stay, and the next try cuts them.

    Nobody waits for the report meanwhile: SQLite would for five seconds, and the webhooks with it.
    """
    with closing(SqliteStorage(empty_database(tmp_path))) as storage:
        fill(storage)
        with storage.evidence() as evidence:
            evidence.progress("anything")
            erase(storage, ASHA)
            began = time.monotonic()
            assert not storage.scrub(NOW, NOW)
            assert time.monotonic() - began < 4
        (patience,) = storage._writer.execute("PRAGMA busy_timeout").fetchone()
        assert patience == 5_000  # as before
        assert storage.scrub(NOW, NOW)
        assert ASHA.encode() not in b"".join(p.read_bytes() for p in tmp_path.iterdir())


def test_what_is_dead_is_vacuumed() -> None:
    """PostgreSQL vacuums when no view can be old enough to see the rows, and not before."""
    with a_database() as url, closing(PostgresStorage(url)) as storage:
        fill(storage)
        erase(storage, ASHA)
        assert not storage.scrub(NOW, Instant(NOW + HOUR - 1))
        assert storage.scrub(NOW, Instant(NOW + DAY))
        with storage.readers.connect() as connection:
            dead = connection.exec_driver_sql(
                "SELECT sum(n_dead_tup) FROM pg_stat_user_tables"
                " WHERE relname IN ('experiment', 'event', 'choice', 'user_outcome')"
            ).scalar_one()
        assert dead == 0


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_what_comes_late_makes_nothing_anew(database: str) -> None:
    """Whatever is told of an erased user later, by id or by experiment, leaves no row and no word.

    Only what was answered is counted, and what a person did is noted without the id.
    """
    with a_world(database=database) as world:
        made = world.one(happened(user=ASHA)).experiment_id
        world.clock.advance("2min")
        world.deliver()
        with world.storage.transaction() as tx:
            erase_user(ASHA, tx, world.now)
        counted = {tables.answer_count, tables.audit, tables.batch}
        kept = [t for t in tables.metadata.sorted_tables if t not in counted]
        before = {table.name: world.rows(table) for table in kept}

        world.clock.advance("1s")
        old = Instant(world.now - DAY)
        late: list[Fact] = [
            happened(user=ASHA),
            happened("purchase", user=ASHA),
            requested(ASHA),
            opened(made, user=ASHA),
            opened(made),
            converted(made),
            converted(user=ASHA),
            said_no(ASHA),
            said_yes(ASHA, at=old),
            Chosen(None, False, None, b"asha", Source.CLEVERTAP, experiment_id=made),
            Chosen(None, True, None, b"asha", Source.CLEVERTAP, experiment_id=made),
        ]
        for fact in late:
            result = world.one(fact)
            assert (result.status, result.reason) in {("ignored", "erased"), ("recorded", None)}
        doer = Doer("somebody", world.now, "note-1")
        with world.storage.transaction() as tx:
            note_about(ASHA, Noted("somebody", "opted out", ASHA), tx, doer)

        assert {table.name: world.rows(table) for table in kept} == before
        assert ASHA not in everything(world.storage)
        assert [row["target"] for row in world.rows(tables.audit)] == ["a user who is forgotten"]


def test_who_asks_to_hear_again_is_written_to() -> None:
    """A yes that is newer than the erasure makes the user one like any other."""
    with a_world() as world:
        with world.storage.transaction() as tx:
            erase_user(ASHA, tx, world.now)
        world.clock.advance("1s")
        world.one(said_yes(ASHA, at=world.now))
        assert world.one(happened(user=ASHA)).status == "scheduled"
