"""Rows as reports read them: plain values, in the words of the tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from experiment_engine.domain.moments import Instant


@dataclass(frozen=True, slots=True)
class ComboCounts:
    """The sums of one combo of one group."""

    cohort: str
    combo_key: str
    counted_for: str
    trials: int
    successes: int
    sent: int
    opened: int
    converted: int
    value: int  # of the successes, in thousandths


@dataclass(frozen=True, slots=True)
class ExperimentRecord:
    """Everything kept of one experiment."""

    id: str
    user_id: str
    cohort: str
    combo_key: str
    channel: str
    mode: str
    held_out: bool
    manual: bool
    event_key: str
    triggered_at: Instant
    decided_at: Instant
    window_ends_at: Instant
    zone: str
    propensity: float
    distribution_id: str
    snapshot_id: str
    seed: int
    language: str
    title: str
    body: str
    context: str
    postponed: bool
    due_at: Instant
    expires_at: Instant
    state: str
    reason: str | None
    placed_at: Instant | None
    opened_at: Instant | None
    converted_at: Instant | None
    attempts: int
    call_id: str | None
    lease_until: Instant | None
    levels: str
    converted_by: str | None
    value: int | None
    replaced_by: str | None
    replaced_for: str | None
    drawn_text: str | None
    facts: str
    stand_ins: str


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One try at the provider."""

    number: int
    call_id: str
    started_at: Instant
    ended_at: Instant | None
    verdict: str | None
    reason: str | None
    status: int | None
    answer: str | None


@dataclass(frozen=True, slots=True)
class DistributionRecord:
    """The probabilities an experiment was drawn from, and why other combos were not eligible."""

    id: str
    snapshot_id: str
    policy: str
    snapshot_taken_at: Instant
    propensities: Mapping[str, float]  # in the order in which they were drawn from
    refused: Mapping[str, Sequence[str]]
    postponed: bool  # the delay was not drawn
    context: str  # the key of the levels that the probabilities are for
    eligible_id: str  # the digest of what was eligible and what was not
    space: Sequence[str]  # the combo keys in the order of their places


@dataclass(frozen=True, slots=True)
class KeptEvent:
    """One event as it came, and what followed."""

    user_id: str
    key: str
    source: str
    name: str
    happened_at: Instant
    received_at: Instant
    status: str
    reason: str | None
    experiment_id: str | None


@dataclass(frozen=True, slots=True)
class ChoiceRecord:
    """A user's yes or no, and what was told about it."""

    channel: str
    allowed: bool
    at: Instant
    source: str
    text_version: str | None
    purpose: str | None


@dataclass(frozen=True, slots=True)
class QuarantineRecord:
    """What was not understood."""

    id: int
    source: str
    received_at: Instant
    reason: str
    raw: bytes
