"""One decision for one user, its delivery and what came of it."""

from dataclasses import dataclass
from enum import StrEnum

import msgspec

from experiment_engine.domain.identifiers import (
    CallId,
    Channel,
    CohortName,
    ComboKey,
    DistributionId,
    ExperimentId,
    SnapshotId,
    UserId,
)
from experiment_engine.domain.moments import Instant


class State(StrEnum):
    """Where the delivery is."""

    SCHEDULED = "scheduled"  # waits for its time
    CLAIMED = "claimed"  # handed to a call that may have started
    SENT = "sent"  # the provider accepted it
    FAILED = "failed"  # the provider definitely refused it
    UNKNOWN = "unknown"  # the provider may or may not have taken it; never repeated
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    HELD_OUT = "held_out"  # reached its time and was, by the holdout, not sent


MOVES: dict[State, frozenset[State]] = {
    State.SCHEDULED: frozenset(
        # scheduled again: postponed
        {State.CLAIMED, State.CANCELLED, State.EXPIRED, State.HELD_OUT, State.SCHEDULED}
    ),
    State.CLAIMED: frozenset({State.SENT, State.FAILED, State.UNKNOWN, State.SCHEDULED}),
    State.UNKNOWN: frozenset({State.SENT, State.FAILED}),  # settled by proof of delivery only
    State.SENT: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELLED: frozenset(),
    State.EXPIRED: frozenset(),
    State.HELD_OUT: frozenset(),
}

WAITING = frozenset({State.SCHEDULED, State.CLAIMED})
REACHED = frozenset({State.SENT, State.HELD_OUT})  # where a conversion by user is looked for
TAKES_A_PLACE = frozenset(
    {State.CLAIMED, State.SENT, State.UNKNOWN, State.HELD_OUT}
)  # in the caps


class Mode(StrEnum):
    """Whether messages leave the house."""

    LIVE = "live"
    DRY_RUN = "dry_run"


@dataclass(slots=True)
class Experiment:
    """What decisions about a user need to know of one experiment; it changes as it lives."""

    id: ExperimentId
    user_id: UserId
    cohort: CohortName
    combo_key: ComboKey
    channel: Channel
    mode: Mode
    held_out: bool
    manual: bool
    postponed: bool
    triggered_at: Instant
    decided_at: Instant
    due_at: Instant
    expires_at: Instant
    window_ends_at: Instant
    state: State = State.SCHEDULED
    reason: str | None = None
    placed_at: Instant | None = None  # when it took its place in the caps: claimed or held out
    opened_at: Instant | None = None
    converted_at: Instant | None = None
    attempts: int = 0
    call_id: CallId | None = None  # whose the message is while it is claimed: the fencing token
    lease_until: Instant | None = None
    levels: str = ""  # the key of its bucketed context: what it counts under
    converted_by: str | None = None  # the source that told of the conversion
    value: int | None = None  # of the conversion, in thousandths
    replaced_by: ComboKey | None = None  # what goes out instead of the combo that was drawn
    replaced_for: str | None = None  # and why

    @property
    def goes_out_as(self) -> ComboKey:
        """Return the combo whose message goes out."""
        return self.replaced_by or self.combo_key

    def window_holds(self, at: Instant) -> bool:
        """Say whether a conversion at this time is one of this experiment."""
        return self.triggered_at <= at <= self.window_ends_at

    def move(self, state: State, reason: str | None = None) -> None:
        """Change the state; a move that the table does not know is a mistake in the engine."""
        if state not in MOVES[self.state]:
            raise AssertionError(f"{self.id} cannot move from {self.state} to {state}")
        self.state, self.reason = state, reason


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """What was fixed at the decision and never changes: enough to explain and draw it again."""

    event_key: str
    zone: str
    propensity: float
    distribution_id: DistributionId
    snapshot_id: SnapshotId
    seed: int
    language: str
    title: str
    body: str
    context: str  # JSON: the features a contextual policy may use
    facts: str = ""  # JSON: what the text rests on; '' for nothing
    stand_ins: str = ""  # JSON: what may go out instead, best first; '' for nothing
    address: str | None = None  # kept while the message waits, where its provider needs one


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery whose time has come, with what its message needs."""

    experiment_id: ExperimentId
    user_id: UserId
    zone: str
    language: str
    title: str
    body: str
    seed: int
    facts: str = ""  # as in `Decided`
    stand_ins: str = ""
    address: str | None = None
