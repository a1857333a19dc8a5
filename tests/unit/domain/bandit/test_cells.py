"""Counts: one row for each context and arm, whatever order they came in."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.domain.bandit.histories import ARMS, FEATURES, histories, rows_of

from experiment_engine.domain.bandit.cells import Cells


def as_table(cells: Cells) -> dict[tuple[int, ...], tuple[float, float]]:
    keys = zip(*cells.contexts.T, cells.arms, cells.postponed, strict=True)
    counts = zip(cells.trials, cells.successes, strict=True)
    return {tuple(map(int, key)): count for key, count in zip(keys, counts, strict=True)}


@given(cells=histories(), seed=st.integers(0, 10**6))
def test_merged_is_one_row_each_in_any_order(cells: Cells, seed: int) -> None:
    """Merging any order of the rows gives the same rows, none of them twice, to the last bit."""
    order = np.random.default_rng(seed).permutation(len(cells.arms))

    merged, turned = cells.merged(), rows_of(cells, order).merged()

    assert len(as_table(merged)) == len(merged.arms)
    assert as_table(merged) == as_table(turned)
    assert np.array_equal(merged.trials, turned.trials)
    assert merged.sizes == cells.sizes


@given(one=histories(), other=histories())
def test_merging_loses_nothing(one: Cells, other: Cells) -> None:
    """Merged rows have the sums of all rows with their context, arm and time."""
    both = Cells.together([one, other]).merged()

    expected: dict[tuple[int, ...], float] = {}
    for cells in (one, other):
        for place in range(len(cells.arms)):
            row = (*cells.contexts[place], cells.arms[place], cells.postponed[place])
            key = tuple(map(int, row))
            expected[key] = expected.get(key, 0.0) + cells.trials[place]
    found = as_table(both)
    assert set(found) == set(expected)
    for key, (trials, _) in found.items():
        assert np.isclose(trials, expected[key])


@given(cells=histories())
def test_by_arm_leaves_out_what_was_postponed(cells: Cells) -> None:
    """Sums per arm are over every context, and without what went out after the quiet hours."""
    found = cells.by_arm(ARMS)

    for arm in range(ARMS):
        kept = (cells.arms == arm) & ~cells.postponed
        assert np.isclose(found.trials[arm], cells.trials[kept].sum())
        assert np.isclose(found.successes[arm], cells.successes[kept].sum())


def test_no_counts() -> None:
    """There may be nothing to merge."""
    nothing = Cells.none(FEATURES).merged()

    assert len(nothing.arms) == 0
    assert nothing.contexts.shape == (0, len(FEATURES))
