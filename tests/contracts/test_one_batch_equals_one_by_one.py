"""CONTRACT R13: a batch gives exactly the answers and rows of its events one at a time."""

from hypothesis import given, settings
from tests.contracts.lives import RULES, STEPS, Life, Step, TakeIn
from tests.support.builders import a_world, rows_of

from experiment_engine.adapters.storage.tables import metadata


@settings(max_examples=150)
@given(steps=STEPS)
def test_one_batch_equals_one_by_one(steps: list[Step]) -> None:
    """However facts are cut into batches, every answer, every call and every row is the same."""
    with a_world(RULES) as one_by_one, a_world(RULES) as in_batches:
        single, batched = Life(one_by_one), Life(in_batches)
        for step in steps:
            if isinstance(step, TakeIn):
                facts, results = single.facts_one_by_one(step)
                assert batched.facts_in_batches(step, facts) == results
            else:
                assert batched.go(step) == single.go(step)
        for table in metadata.sorted_tables:
            assert rows_of(in_batches.storage, table) == rows_of(one_by_one.storage, table)
