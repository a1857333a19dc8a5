"""Events as Amplitude sends them."""

import itertools
from typing import Any

from tests.support.configuration import TRIGGER

Json = dict[str, Any]

_numbers = itertools.count(1)


def amplitude_event(user: str | None, at: str, name: str = TRIGGER, **members: Any) -> Json:
    """Return an event with an insert id of its own; `members` replace what it says."""
    return {
        "event_type": name,
        "user_id": user,
        "device_id": f"device of {user}",
        "$insert_id": f"insert-{next(_numbers)}",
        "event_time": at,
        **members,
    }


def somebody() -> str:
    """Return a user id that no other test has."""
    return f"usr_{next(_numbers)}"
