"""Triggers that count: which distinct events of a user start an experiment together."""

from collections.abc import Sequence
from dataclasses import dataclass

from experiment_engine.domain.cohorts.cohort import Trigger
from experiment_engine.domain.moments import Instant


@dataclass(frozen=True, slots=True)
class Counted:
    """One event of the user that counts towards the cohort's next experiment."""

    key: str
    at: Instant


def events_that_start(trigger: Trigger, waiting: Sequence[Counted]) -> Sequence[Counted] | None:
    """Return the events that start an experiment together, oldest first, or None.

    Looks at the window that ends with the newest waiting event, whatever the order of arrival.
    """
    ordered = sorted(waiting, key=lambda counted: (counted.at, counted.key))
    if not ordered:
        return None
    within = trigger.within if trigger.within is not None else 0
    newest = ordered[-1].at
    inside = [counted for counted in ordered if counted.at >= newest - within]
    return inside if len(inside) >= trigger.count else None
