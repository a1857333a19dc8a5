"""The same facts any number of times, in any order, from any side: one effect.

`ORDER_EVENTS` and `ORDER_SEED` choose how much the long form sends, and in which order.
"""

import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from tests.support.builders import (
    NOW,
    World,
    a_cohort,
    a_world,
    converted,
    empty_database,
    happened,
    opened,
    some_rules,
)
from tests.support.fakes import an_answer
from tests.support.postgres import a_database

from experiment_engine.adapters.storage import tables
from experiment_engine.adapters.storage.postgres import PostgresStorage
from experiment_engine.adapters.storage.sqlite import SqliteStorage
from experiment_engine.adapters.system.chance import SystemChance
from experiment_engine.application.results import Result
from experiment_engine.domain.delivery.message import Call, Verdict
from experiment_engine.domain.events import Fact
from experiment_engine.domain.moments import MINUTE, Instant

SEED = int(os.environ.get("ORDER_SEED", "20261122"))
LEFT = NOW
FEW, MANY = 1_500, int(os.environ.get("ORDER_EVENTS", "20000"))
RULES = some_rules(a_cohort(delays=("2min",), angles=("urgency",)))  # one combo: nothing is drawn
# What says which row it is, whose draw it was, and who told of a conversion first.
APART = {"id", "slot", "call_id", "seed", "snapshot_id", "distribution_id", "converted_by"}


# All orders of what can be told about one message


def _under_way(world: World, users: Sequence[str]) -> dict[str, Call]:
    """Have a message to each user under way; return the calls."""
    world.take(*(happened(user=user, key=f"{user} left", at=world.now) for user in users))
    world.clock.advance("2min")
    return {next(iter(call.recipients)): call for call in world.claim().calls}


def _told(world: World, user: str, call: Call) -> dict[str, Callable[[], object]]:
    """Return what can now happen, and be told, in any order."""
    (experiment_id,) = call.recipients.values()
    read_at, back_at = LEFT + 3 * MINUTE, LEFT + 4 * MINUTE
    left = happened(user=user, key=f"{user} left", at=LEFT)
    bought = happened("purchase", user=user, key=f"{user} bought", at=back_at)
    return {
        "sent": lambda: world.record((call, an_answer())),
        "unknown": lambda: world.record((call, an_answer(Verdict.UNCERTAIN))),
        "opened": lambda: world.one(opened(experiment_id, at=read_at)),
        "converted": lambda: world.one(converted(experiment_id, at=back_at)),
        "reached the goal": lambda: world.one(bought),
        "left again": lambda: world.one(left),
    }


def _summary(world: World) -> dict[str, Any]:
    """Return everything that is stored, but for what tells one draw from another."""
    successes: Counter[tuple[object, ...]] = Counter()  # by age, whoever told of them first
    for row in world.rows(tables.conversion_count):
        successes[row["hour"], row["counted_for"], row["age_bucket"]] += row["conversions"]
    return {
        "conversion_count": successes,
        **_rows(world),
    }


def _rows(world: World) -> dict[str, list[dict[str, Any]]]:
    return {
        table.name: sorted(
            (
                {name: value for name, value in row.items() if name not in APART}
                for row in world.rows(table)
            ),
            key=repr,
        )
        for table in (
            tables.experiment,
            tables.combo_count,
            tables.experiment_count,
            tables.goal_reached,
            tables.choice,
            tables.offer_use,
        )
    }


@pytest.mark.parametrize("outcome", ["sent", "unknown"])
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_all_orders_lead_to_one_state(database: str, outcome: str) -> None:
    """The provider's answer, open, conversion, goal and the same trigger: 120 orders, one end."""
    facts = [outcome, "opened", "converted", "reached the goal", "left again"]
    orders = {f"usr_{n}": order for n, order in enumerate(permutations(facts))}
    with a_world(RULES, database=database) as world:
        assert world.now == LEFT
        calls = _under_way(world, list(orders))
        world.clock.advance("1h")
        for user, order in orders.items():
            told = _told(world, user, calls[user])
            for fact in order:
                told[fact]()
        ends: dict[str, tuple[str, ...]] = {}
        for row in world.experiments():
            end = {k: v for k, v in row.items() if k not in APART | {"user_id", "event_key"}}
            ends.setdefault(repr(end), orders[row["user_id"]])
        counts = world.counts()
    print(f"{database}, {outcome}: {len(orders)} orders, {len(ends)} end, {counts}")
    assert len(ends) == 1, list(ends.values())
    each = len(orders)
    assert counts == ({"combo": (each,) * 5} if outcome == "sent" else {})


# Each event one to five times, shuffled, from two sides at once


@dataclass(frozen=True)
class Told:
    """What happens to some users: first they leave; later, in any order, the rest."""

    leaving: Sequence[Fact]
    later: Sequence[Fact]


def _story(users: int, now: Instant, chance: random.Random) -> Told:
    leaving: list[Fact] = []
    later: list[Fact] = []
    for number in range(users):
        user = f"usr_{number}"
        leaving.append(happened(user=user, key=f"{number} left", at=now))
        at = now + 3 * MINUTE + number
        could: list[Fact] = [
            opened(user=user, at=at),
            converted(user=user, at=at + MINUTE),
            happened("purchase", user=user, key=f"{number} bought", at=at + MINUTE),
            happened("app_opened", user=user, key=f"{number} came", at=at),
        ]
        later += chance.sample(could, chance.randint(0, len(could)))
    return Told(leaving, later)


@contextmanager
def _sides(database: str, folder: Path) -> Iterator[Sequence[World]]:
    """Open two sides of one database: two hosts, or two threads before the one writer."""
    with ExitStack() as lasting:
        if database == "sqlite":
            path = empty_database(folder, f"{len(list(folder.iterdir()))}.db")
            one = lasting.enter_context(closing(SqliteStorage(path)))
            yield [World(one, RULES, chance=SystemChance()) for _ in range(2)]
        else:
            url = lasting.enter_context(a_database())
            two = [lasting.enter_context(closing(PostgresStorage(url))) for _ in range(2)]
            yield [World(storage, RULES, chance=SystemChance()) for storage in two]


def _tell(sides: Sequence[World], facts: Sequence[Fact]) -> list[Result]:
    """Tell both sides their half at the same time, in batches of any size."""
    results: list[Result] = []

    def tell(place: int) -> None:
        chance, mine = random.Random(f"{SEED} {place}"), facts[place :: len(sides)]
        start = 0
        while start < len(mine):
            size = chance.choice((1, 2, 5, 20, 100))
            results.extend(sides[place].take(*mine[start : start + size]))
            start += size

    threads = [threading.Thread(target=tell, args=(place,)) for place in range(len(sides))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == len(facts)
    return results


def _live(
    sides: Sequence[World], told: Told, copies: Callable[[Sequence[Fact]], list[Fact]]
) -> Counter[str]:
    """Let people leave, write to them, and let the rest be told."""
    statuses: Counter[str] = Counter(
        result.status for result in _tell(sides, copies(told.leaving))
    )
    for side in sides:
        side.clock.advance("2min")
    while sides[0].deliver():  # so many at a time
        pass
    for side in sides:
        side.clock.advance("1h")
    statuses.update(result.status for result in _tell(sides, copies(told.later)))
    return statuses


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_repeated_and_shuffled(tmp_path: Path, database: str) -> None:
    """Every event one to five times, shuffled, from two sides at once, is every event once."""
    _repeat(tmp_path, database, FEW, shuffles=2)


@pytest.mark.long
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_repeated_and_shuffled_a_hundred_times(tmp_path: Path, database: str) -> None:
    """The same in a hundred shuffles, which take in twenty thousand events each on average."""
    _repeat(tmp_path, database, MANY, shuffles=100)


def _repeat(folder: Path, database: str, events: int, shuffles: int) -> None:
    chance = random.Random(SEED)
    with _sides("sqlite", folder) as sides:
        told = _story(events // 9, sides[0].now, chance)  # nine events of a user, on average
        _live(sides[:1], told, list)
        clean = _summary(sides[0])
    taken: Counter[str] = Counter()
    for shuffle in range(shuffles):

        def copies(facts: Sequence[Fact]) -> list[Fact]:
            many = [fact for fact in facts for _ in range(chance.randint(1, 5))]
            chance.shuffle(many)
            return many

        with _sides(database, folder) as sides:
            taken += _live(sides, told, copies)
            assert _summary(sides[0]) == clean, f"seed {SEED}, shuffle {shuffle}"
    print(f"seed {SEED}, {database}: {shuffles} shuffles, {taken.total()} events: {dict(taken)}")
