"""The counters can be counted anew from the experiments, and a source's word taken back."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from sqlalchemy import Table, update
from tests.contracts.lives import STEPS, Life, Step, TakeIn
from tests.support.builders import (
    CHECKOUT,
    World,
    a_cohort,
    a_world,
    converted,
    happened,
    some_rules,
)

from experiment_engine.adapters.storage import tables
from experiment_engine.application.rebuild import exclude, rebuild, recount
from experiment_engine.domain.events import Source
from experiment_engine.domain.moments import DAY, MINUTE, Instant

EVER = (Instant(0), Instant(1 << 60))


@pytest.fixture
def world() -> Iterator[World]:
    """Return one cohort whose messages wait two minutes."""
    with a_world(some_rules(a_cohort(delays=("2min",)))) as opened:
        yield opened


def send(world: World, users: int, prefix: str = "u") -> list[str]:
    made = world.take(*(happened(user=f"{prefix}{number}") for number in range(users)))
    world.clock.advance("2min")
    world.deliver()
    return [str(result.experiment_id) for result in made]


def counted(world: World) -> dict[str, list[dict[str, object]]]:
    kept = (tables.combo_count, tables.conversion_count, tables.experiment_count)
    return {
        table.name: [row for row in world.rows(table) if any(numbers(table, row))]
        for table in kept
    }


def numbers(table: Table, row: dict[str, object]) -> list[object]:
    return [row[c.name] for c in table.columns if c.name not in table.primary_key.columns]


@settings(max_examples=40)
@given(steps=STEPS)
def test_a_rebuild_equals_the_running_state(
    worlds: tuple[World, World], steps: list[Step]
) -> None:
    """Whatever happened, counting the experiments anew gives every counter, exactly."""
    world, _ = worlds
    world.begin_anew()
    life = Life(world)
    for step in steps:
        if isinstance(step, TakeIn):
            life.facts_one_by_one(step)
        else:
            life.go(step)
    before = counted(world)

    found = world.storage.run(rebuild)

    assert not found.differences
    assert counted(world) == before


def test_a_wrong_counter_is_found_and_mended(world: World) -> None:
    """A counter that does not follow from the experiments is named, and put right."""
    send(world, 5)
    right = counted(world)
    count = tables.combo_count
    world.storage.run(
        lambda tx: tx.core.execute(update(count).where(count.c.hour >= 0).values(successes=99))
    )

    (wrong, *_) = world.storage.run(recount).differences
    assert "successes=99" in wrong
    world.storage.run(rebuild)

    assert counted(world) == right
    assert not world.storage.run(recount).differences


def test_folded_counters_need_no_mending(world: World) -> None:
    """Hours that were folded into days still follow from the experiments."""
    send(world, 5)
    later = world.now // 3_600_000 + 24
    world.storage.run(
        lambda tx: tx.fold_counts(world.mode, CHECKOUT, span=24, before=later, limit=99)
    )

    assert not world.storage.run(recount).differences


def test_a_source_is_taken_back(world: World) -> None:
    """Without a source's conversions the counters are those of a world in which it was silent."""
    send(world, 6)
    clean = counted(world)
    made = [row["id"] for row in world.experiments()]
    world.take(*(converted(experiment) for experiment in made[:4]))
    assert counted(world) != clean

    number = world.storage.run(lambda tx: exclude(Source.CLEVERTAP, EVER, world.rules.cohorts, tx))

    assert number == 4
    assert counted(world) == clean
    assert world.rows(tables.goal_reached) == []


def test_another_source_s_word_stays(world: World) -> None:
    """Where another source told of a conversion inside the window, that one counts."""
    send(world, 2)
    first, second = world.experiments()
    world.take(converted(first["id"]), converted(second["id"], at=world.now - MINUTE))
    world.one(happened("purchase", user=first["user_id"]))

    world.storage.run(lambda tx: exclude(Source.CLEVERTAP, EVER, world.rules.cohorts, tx))

    kept = {row["user_id"]: row["converted_by"] for row in world.experiments()}
    assert kept == {first["user_id"]: "amplitude", second["user_id"]: None}


def test_only_the_span_is_taken_back(world: World) -> None:
    """Conversions outside of the named time stay."""
    send(world, 2)
    first, second = world.experiments()
    world.one(converted(first["id"]))
    world.clock.advance("1d")
    world.one(converted(second["id"]))

    span = (Instant(world.now - DAY // 2), world.now)
    number = world.storage.run(lambda tx: exclude(Source.CLEVERTAP, span, world.rules.cohorts, tx))

    assert number == 1
    assert [row["converted_at"] is None for row in world.experiments()] == [False, True]
