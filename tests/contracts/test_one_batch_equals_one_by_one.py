"""CONTRACT R13: a batch gives exactly the answers and rows of its events one at a time."""

from hypothesis import given, settings
from tests.contracts.lives import STEPS, Life, Step, TakeIn
from tests.support.builders import World

from experiment_engine.adapters.storage.tables import batch, metadata, quarantine


@settings(max_examples=120)
@given(steps=STEPS)
def test_one_batch_equals_one_by_one(worlds: tuple[World, World], steps: list[Step]) -> None:
    """However facts are cut into batches, every answer, every call and every row is the same."""
    for world in worlds:
        world.begin_anew()
    one_by_one, in_batches = Life(worlds[0]), Life(worlds[1])

    for step in steps:
        if isinstance(step, TakeIn):
            facts, results = one_by_one.facts_one_by_one(step)
            assert in_batches.facts_in_batches(step, facts) == results
        else:
            assert in_batches.go(step) == one_by_one.go(step)

    for table in metadata.sorted_tables:
        if table is not batch:  # that one is about the transactions themselves
            columns = ", ".join(c.name for c in table.columns if c is not quarantine.c.id)
            rows = one_by_one.world.fast_rows(table, columns)
            assert in_batches.world.fast_rows(table, columns) == rows
