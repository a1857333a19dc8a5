"""Who is held out: stable, by user, and monotone in the share (CONTRACT R3)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from experiment_engine.domain.cohorts.holdout import holdout_position, is_held_out
from experiment_engine.domain.identifiers import UserId

USERS = [UserId(f"usr_{number}") for number in range(20_000)]
SALT = b"\x07" * 32
USER = st.text(st.characters(exclude_categories=["Cs"]), max_size=200).map(UserId)
SALTS = st.binary(min_size=16, max_size=64)
SHARE = st.floats(0, 1)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.1, 0.5, 0.9])
def test_share_is_kept(share: float) -> None:
    """Of many users about the configured share is held out."""
    held_out = sum(is_held_out(user, SALT, share) for user in USERS)

    assert stats.binomtest(held_out, len(USERS), share).pvalue > 1e-6


@given(user=USER, salt=SALTS)
def test_the_ends(user: UserId, salt: bytes) -> None:
    """Share 0 holds out nobody and share 1 everybody."""
    assert not is_held_out(user, salt, 0.0)
    assert is_held_out(user, salt, 1.0)


@given(user=USER, salt=SALTS, one=SHARE, other=SHARE)
def test_a_larger_share_only_adds(user: UserId, salt: bytes, one: float, other: float) -> None:
    """Who is held out at a share is held out at every larger one."""
    small, large = sorted((one, other))

    assert is_held_out(user, salt, small) <= is_held_out(user, salt, large)


@given(user=USER, salt=SALTS, share=SHARE)
def test_the_split_is_stable(user: UserId, salt: bytes, share: float) -> None:
    """The same user and salt always fall on the same side, at a place in [0, 1)."""
    assert is_held_out(user, salt, share) == is_held_out(UserId(str(user)), bytes(salt), share)
    assert 0 <= holdout_position(user, salt) < 1


def test_another_salt_is_another_split() -> None:
    """Two installations do not hold out the same users."""
    both = sum(is_held_out(u, SALT, 0.5) and is_held_out(u, b"\x08" * 32, 0.5) for u in USERS)

    assert stats.binomtest(both, len(USERS), 0.25).pvalue > 1e-6


def test_the_split_does_not_change() -> None:
    """Who is held out stays held out in every version: this place is fixed."""
    assert holdout_position(UserId("usr_123"), b"salt") == 0.5401368588731925
