"""Rows as the dashboard's pages read them: sums, and the newest of each kind."""

from dataclasses import dataclass

from experiment_engine.domain.moments import Instant


@dataclass(frozen=True, slots=True)
class DayCount:
    """The sums of one combo and group over the triggers of one day (UTC)."""

    day: int  # since 1970
    combo_key: str
    counted_for: str
    trials: int
    successes: int
    sent: int
    rows: int  # how many counters were added up


@dataclass(frozen=True, slots=True)
class Recent:
    """One of the newest experiments, briefly."""

    id: str
    user_id: str
    cohort: str
    combo_key: str
    held_out: bool
    state: str
    reason: str | None
    decided_at: Instant
    due_at: Instant
    placed_at: Instant | None
    language: str
    title: str
    body: str


@dataclass(frozen=True, slots=True)
class WaitingCount:
    """How many messages of a channel are due in one stretch of time."""

    starts_at: Instant
    channel: str
    messages: int


@dataclass(frozen=True, slots=True)
class Stopped:
    """How often a reason kept a message from going out, and at which step."""

    step: str  # event, decision or delivery
    reason: str
    times: int


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One change that a person made."""

    at: Instant
    who: str
    what: str
    target: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """One process that says it lives."""

    kind: str
    host: str
    version: str
    configuration: str
    started_at: Instant
    seen_at: Instant
