"""A combo's share moves by at most the limit, and the floor stays under everyone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiment_engine.domain.bandit.shift_limit import shift_limit
from experiment_engine.domain.bandit.statistics import Floats

SIZE = 6
FLOOR = 0.05 / SIZE


def shares(seed: int, sharpness: float) -> Floats:
    weights = np.random.default_rng(seed).dirichlet(np.full(SIZE, sharpness))
    return np.asarray(0.95 * weights + FLOOR)


SHARES = st.builds(shares, st.integers(0, 10**6), st.sampled_from([0.05, 0.5, 5.0]))
MOST = st.sampled_from([0.01, 0.1, 0.2, 0.5])
EVERY = range(SIZE)


@given(before=SHARES, now=SHARES, most=MOST)
def test_no_share_moves_further(before: Floats, now: Floats, most: float) -> None:
    """After the limit every share lies within it of what it was, and they still sum to one."""
    limit = shift_limit(before, now, now.min(), most)
    after = now if limit is None else limit.applied(now, EVERY)

    assert np.abs(after - before).max() <= most + 1e-9
    assert after.sum() == pytest.approx(1)
    assert after.min() >= FLOOR - 1e-12


@given(before=SHARES, now=SHARES, most=MOST)
def test_it_moves_in_the_right_direction(before: Floats, now: Floats, most: float) -> None:
    """A limited share lies between what it was and what it would be."""
    limit = shift_limit(before, now, now.min(), most)
    if limit is not None:
        after = limit.applied(now, EVERY)
        assert (after >= np.minimum(before, now) - 1e-9).all()
        assert (after <= np.maximum(before, now) + 1e-9).all()


@given(before=SHARES, now=SHARES, eligible=st.sets(st.sampled_from(EVERY), min_size=1))
def test_the_limited_are_probabilities(before: Floats, now: Floats, eligible: set[int]) -> None:
    """Whatever is eligible, the probabilities sum to one and keep their floor."""
    places = sorted(eligible)
    chances = now[places] / now[places].sum()
    limit = shift_limit(before, now, now.min(), 0.05)
    after = chances if limit is None else limit.applied(chances, places)

    assert after.sum() == pytest.approx(1)
    assert after.min() >= min(FLOOR, chances.min()) - 1e-12


def test_within_the_limit_nothing_is_touched() -> None:
    """Small moves need no limit."""
    assert shift_limit(np.array([0.5, 0.5]), np.array([0.6, 0.4]), 0.0, 0.2) is None
