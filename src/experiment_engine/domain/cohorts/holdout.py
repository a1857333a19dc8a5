"""Who is held out: a stable split of users, the same in every cohort."""

from hashlib import blake2b

from experiment_engine.domain.identifiers import UserId

_SIZE = 8
_RANGE = 1 << (8 * _SIZE)


def holdout_position(user_id: UserId, salt: bytes) -> float:
    """Return the user's fixed place in [0, 1); the salt is at most 64 bytes."""
    digest = blake2b(user_id.encode(), digest_size=_SIZE, key=salt).digest()
    return int.from_bytes(digest) / _RANGE


def is_held_out(user_id: UserId, salt: bytes, share: float) -> bool:
    """Say whether the user is held out; a larger share only ever adds users."""
    return share > 0 and holdout_position(user_id, salt) < share
