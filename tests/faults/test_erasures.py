"""Users are erased while their messages are claimed and sent and events about them still come.

`ERASURES` and `ERASE_SEED` choose how many there are in the long form, and when they come.
"""

import os
import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.support.clevertap_double import sends_by_user
from tests.support.configuration import COHORT, GOAL, TRIGGER, cohort
from tests.support.events import Json
from tests.support.hosts import Hosts, some_hosts
from tests.support.onlooker import DATABASES

from experiment_engine.adapters.storage import tables
from experiment_engine.domain.moments import Instant, iso

SEED = int(os.environ.get("ERASE_SEED", "20261122"))
FEW, MANY = 50, int(os.environ.get("ERASURES", "500"))
KEPT = 5  # users who stay: what the search must find
THREADS = 6
DELAY = 0.4  # seconds
PATIENCE = 60.0  # seconds; only a failing test waits that long
MARKS = ("canary", "stays")  # in everything that is told of who goes, and of who stays
COPY = {"push": {"helpful": {"*": {"title": "Come back", "body": "Go on with {show}."}}}}


@dataclass
class Story:
    """What became of one user, as a client saw it."""

    user: str
    experiment_id: str = ""
    erased_at: float = 0.0  # when the answer had been read
    late: list[Mapping[str, Any]] = field(default_factory=list)  # results of what came after


@pytest.mark.parametrize("database", DATABASES)
def test_nothing_is_left_of_who_is_erased(tmp_path: Path, database: str) -> None:
    """No message is claimed after the answer, and no table, file or log knows the user."""
    _erase_many(tmp_path, database, FEW)


@pytest.mark.long
@pytest.mark.parametrize("database", DATABASES)
def test_nothing_is_left_of_many(tmp_path: Path, database: str) -> None:
    """The same for five hundred users."""
    _erase_many(tmp_path, database, MANY)


def _erase_many(folder: Path, database: str, users: int) -> None:
    with some_hosts(
        database,
        folder,
        cohorts={COHORT: cohort(delay=[f"{DELAY}s"])},
        copy=COPY,
        placeholders={"show": {"from": "event_properties.show", "default": "your show"}},
        delivery={"expires_after": "5min"},
    ) as hosts:
        for number in range(KEPT):
            hosts.results("/webhook/amplitude", _event(f"stays {number}", TRIGGER, number))
        stories = _live(hosts, users)
        hosts.until_all_ended(PATIENCE)
        called = sends_by_user(hosts.double.ledger())
        rows = {row["id"]: row for row in hosts.look("SELECT * FROM experiment")}
        for host in hosts.engines:
            host.engine.duties.scrub()
        found = list(_search(hosts, folder, database))
    in_time = sum(rows[story.experiment_id]["state"] == "cancelled" for story in stories)
    print(
        f"seed {SEED}, {database}: {users} erased, {in_time} before the claim,"
        f" {len(called) - KEPT} called; {sum(len(story.late) for story in stories)} late events;"
        f" searched {len({place for place, _ in found})} places"
    )
    for story in stories:
        row = rows[story.experiment_id]
        assert (row["state"] == "sent") is (story.user in called), story
        assert called[story.user] <= 1
        assert (row["placed_at"] or 0) <= story.erased_at * 1_000, "claimed after the answer"
        assert {result.get("reason") for result in story.late} == {"erased"}, story
    assert 0 < in_time < users, "all on one side: nothing was tried"
    assert not [what for what in found if what[1] == MARKS[0]], "something is left of the erased"
    places = {place for place, mark in found if mark == MARKS[1]}
    assert {"event", "experiment"} <= places, "the search finds nothing"
    assert database != "sqlite" or "engine.db" in places


def _live(hosts: Hosts, users: int) -> list[Story]:
    """Let users leave, be written to and be erased at about the same time, on several threads."""
    stories = [Story(f"canary {number}") for number in range(users)]

    def live(place: int) -> None:
        chance = random.Random(f"{SEED} {place}")
        for number in range(place, users, THREADS):
            _be_erased(hosts, stories[number], number, chance)
        hosts.hang_up()

    threads = [threading.Thread(target=live, args=(place,)) for place in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return stories


def _be_erased(hosts: Hosts, story: Story, number: int, chance: random.Random) -> None:
    user, path = story.user, "/webhook/amplitude"
    broken = {**_event(user, TRIGGER, number), "event_time": "yesterday"}
    first, kept = hosts.results(path, [_event(user, TRIGGER, number), broken])
    assert (first["status"], kept["status"]) == ("scheduled", "quarantined"), (first, kept)
    story.experiment_id = first["experiment_id"]
    hosts.results("/webhook/opened", {"user_id": user, "canary": f"canary open {number}"})
    time.sleep(max(0.0, DELAY + chance.uniform(-0.15, 0.25)))
    hosts.ask("DELETE", f"/api/users/{user}")
    story.erased_at = time.time()
    named = {"user_id": user, "experiment_id": story.experiment_id}
    later = [
        (path, _event(user, TRIGGER, number)),  # the same event again
        (path, _event(user, TRIGGER, number + 1_000_000)),
        (path, _event(user, GOAL, number)),
        ("/webhook/opened", named),
        ("/webhook/converted", {"user_id": user}),
    ]
    chance.shuffle(later)
    for where, body in later:
        story.late += hosts.results(where, body)


def _event(user: str, name: str, number: int) -> Json:
    """Return an event that tells of its user in six ways."""
    mark = user.partition(" ")[0]
    return {
        "event_type": name,
        "user_id": user,
        "device_id": f"{mark} device {number}",
        "$insert_id": f"{mark} insert {name} {number}",
        "event_time": iso(Instant(int(time.time() * 1_000))),
        "event_properties": {
            "show": f"{mark} show {number}",
            "region": f"{mark} region {number}",
            "e-mail": f"{mark}{number}@example.org",
        },
    }


def _search(hosts: Hosts, folder: Path, database: str) -> Iterator[tuple[str, str]]:
    """Return where a mark stands: tables by name, the database's files, logs."""
    for table in tables.metadata.sorted_tables:
        rows = hosts.look(f'SELECT * FROM "{table.name}"')
        yield from _marks(table.name, [_flat(row) for row in rows])
    for number, host in enumerate(hosts.engines):
        yield from _marks(f"log {number}", [host.log.getvalue().encode()])
    if database == "sqlite":
        for file in sorted(folder.glob("engine.db*")):
            yield from _marks(file.name, [file.read_bytes()])


def _flat(row: Mapping[str, Any]) -> bytes:
    values = (value for value in row.values() if value is not None)
    return b"\n".join(
        bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()
        for value in values
    )


def _marks(place: str, texts: Sequence[bytes]) -> Iterator[tuple[str, str]]:
    for mark in MARKS:
        if any(mark.encode() in text for text in texts):
            yield place, mark
