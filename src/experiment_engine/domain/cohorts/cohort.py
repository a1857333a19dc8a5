"""A group of users in one situation: its trigger, goal, combos and policy."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from experiment_engine.domain.cohorts.combo import ComboSpace
from experiment_engine.domain.identifiers import CohortName, EventName
from experiment_engine.domain.moments import DAY, HOUR, Duration


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """Which event starts an experiment, and how soon the next one may start."""

    event: EventName
    count: int = 1  # this many distinct events ...
    within: Duration | None = None  # ... inside this window; None where count is 1
    max_age: Duration = Duration(6 * HOUR)
    again_after: Duration = DAY
    converted_quiet: Duration = Duration(30 * DAY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What the cohort's users are brought back for; the window runs from the trigger."""

    event: EventName
    window: Duration
    value: str | None = None  # the property of the event that says what it was worth
    value_max: float = 10_000.0  # more counts as this much: one mistake must not decide

    def value_of(self, properties: Mapping[str, object]) -> int | None:
        """Return what the event was worth, in thousandths, from 0 to `value_max`; or None."""
        told = properties.get(self.value) if self.value is not None else None
        if isinstance(told, bool) or not isinstance(told, int | float):
            return None
        return round(min(max(0, told), self.value_max) * 1_000)  # in this order NaN is 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """What is believed before any data: a rate, how strongly, and which levels lead."""

    rate: float = 0.02
    weight: float = 60.0  # as strong as this many sends of each combo
    lean: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # dimension -> level


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyChoice:
    """The policy's name and its options, as the configuration gives them."""

    name: str = "epsilon_greedy"
    options: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """Everything that decides about one cohort."""

    name: CohortName
    trigger: Trigger
    goal: Goal
    space: ComboSpace
    policy: PolicyChoice = field(default_factory=PolicyChoice)
    prior: Prior = field(default_factory=Prior)
