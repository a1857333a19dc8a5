"""Forgetting a user where the engine did not know that it was this user: in bodies kept whole."""

import re
from collections.abc import Sequence
from typing import TypeVar
from urllib.parse import unquote_plus

from experiment_engine.application.ports import Administration
from experiment_engine.domain.identifiers import UserId

Key = TypeVar("Key")

READ_AT_ONCE = 50  # bodies in one transaction: each may be a megabyte

_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")


def mentions(body: bytes, user_id: UserId) -> bool:
    """Say whether a body names the user as a word of its own, however it was written.

    Where a body cannot be read nobody knows whose it is, so a short id may find others' too.
    """
    text = body.decode(errors="replace")
    for written in (text, unquote_plus(text), _plain(text)):
        if re.search(rf"(?<!\w){re.escape(user_id)}(?!\w)", written):
            return True
    return False


def forget_quarantined(user_id: UserId, after: int, administration: Administration) -> int | None:
    """Empty some bodies in quarantine that name the user; return the last one looked at."""
    kept = administration.quarantined_after(after, READ_AT_ONCE)
    administration.empty_quarantined(_naming(kept, user_id))
    return kept[-1][0] if kept else None


def forget_anonymous(user_id: UserId, after: str, administration: Administration) -> str | None:
    """Empty some events of nobody that name the user; return the last one looked at."""
    kept = administration.nobodys_events_after(after, READ_AT_ONCE)
    administration.empty_nobodys_events(_naming(kept, user_id))
    return kept[-1][0] if kept else None


def _naming(kept: Sequence[tuple[Key, bytes]], user_id: UserId) -> list[Key]:
    return [key for key, body in kept if mentions(body, user_id)]


def _plain(text: str) -> str:
    """Write JSON's escapes as the characters that they stand for."""
    units = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)
    pairs = units.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return pairs.replace(r"\/", "/").replace(r"\"", '"').replace(r"\\", "\\")
