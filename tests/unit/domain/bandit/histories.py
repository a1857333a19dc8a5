"""Counts that can arise, of a small space in a few contexts."""

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from experiment_engine.domain.bandit.cells import Cells

DIMENSIONS = (3, 2, 2, 1)
FEATURES = (3, 2)
ARMS = 12

CONTEXTS = st.tuples(*(st.integers(0, size - 1) for size in FEATURES))
ELIGIBLE = st.lists(st.integers(0, ARMS - 1), min_size=1, max_size=ARMS, unique=True).map(sorted)


def a_history(rows: int, most: int, seed: int, *, whole: bool = True) -> Cells:
    """Return counts, some of them postponed; trials need not be whole numbers."""
    rng = np.random.default_rng(seed)
    trials = rng.integers(0, most + 1, rows)
    successes = rng.binomial(trials, rng.random())
    share = 1.0 if whole else rng.random(rows)
    return Cells(
        np.stack([rng.integers(0, size, rows) for size in FEATURES], axis=1).reshape(
            rows, len(FEATURES)
        ),
        rng.integers(0, ARMS, rows),
        rng.random(rows) < 0.2,
        np.maximum(trials * share, successes),
        successes.astype(float),
        FEATURES,
    )


def histories() -> st.SearchStrategy[Cells]:
    """Draw counts from none to millions, whole and in fractions."""
    return st.builds(
        a_history,
        st.sampled_from([0, 1, 5, 80]),
        st.sampled_from([1, 30, 10_000, 10**6]),
        st.integers(0, 10**6),
        whole=st.booleans(),
    )


def rows_of(cells: Cells, chosen: NDArray[np.generic]) -> Cells:
    """Return some of the rows, in the order of the choice."""
    return Cells(
        cells.contexts[chosen],
        cells.arms[chosen],
        cells.postponed[chosen],
        cells.trials[chosen],
        cells.successes[chosen],
        cells.sizes,
    )
