"""What the use cases need from outside."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from experiment_engine.application.changes import Changes
from experiment_engine.application.evidence import (
    AgeCount,
    BucketCount,
    Drawn,
    Frozen,
    Logged,
    Matured,
    Noticed,
    Outcome,
    StoredSnapshot,
)
from experiment_engine.application.noted import Noted
from experiment_engine.application.page_records import ProcessRecord
from experiment_engine.application.watch import Logbook, Watching
from experiment_engine.domain.bandit.reward import TEACHING, Group
from experiment_engine.domain.bandit.snapshot import Snapshot
from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.cohorts.user import User
from experiment_engine.domain.delivery.experiment import Due, Mode
from experiment_engine.domain.delivery.limits import OfferUse
from experiment_engine.domain.delivery.message import Answer, Call
from experiment_engine.domain.identifiers import (
    CallId,
    Channel,
    CohortName,
    ComboKey,
    DistributionId,
    EventName,
    ExperimentId,
    SnapshotId,
    UserId,
)
from experiment_engine.domain.moments import Duration, Instant
from experiment_engine.domain.pausing import EVERYTHING, of_channel

T = TypeVar("T")


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> Instant:
        """Return the present, UTC."""


class Chance(Protocol):
    """The only source of randomness: ids and seeds."""

    def experiment_id(self, at: Instant) -> ExperimentId:
        """Return a new id that sorts by its time (UUIDv7)."""

    def call_id(self) -> CallId:
        """Return a new id for a call at a provider."""

    def note_id(self, at: Instant) -> str:
        """Return a new id for an entry of the audit that sorts by its time (UUIDv7)."""

    def snapshot_id(self) -> SnapshotId:
        """Return a new id for a snapshot."""

    def seed(self) -> int:
        """Return a number from 0 to 2**63 - 1 from which one experiment's draws follow."""


@dataclass(frozen=True, slots=True)
class Switches:
    """What people and failures have switched off at the moment."""

    paused: frozenset[str] = frozenset()  # scopes, as in `domain.pausing`
    failing: frozenset[Channel] = frozenset()
    probing: frozenset[Channel] = frozenset()  # failing, and due to be tried with one message
    spent: frozenset[str] = frozenset()  # offers whose budget is used up

    def is_paused(self, cohort: CohortName, channel: Channel | None = None) -> bool:
        """Say whether nothing of this cohort may be decided or sent, or not on this channel."""
        return (
            EVERYTHING in self.paused
            or cohort in self.paused
            or (channel is not None and of_channel(channel) in self.paused)
        )


@dataclass(frozen=True, slots=True)
class Retained:
    """From when on each kind of row is kept."""

    raw_events: Instant  # before it an event's bytes go, and before `events` the event itself
    events: Instant
    counted: Instant
    goals: Instant
    experiments: Instant
    batches: Instant = Instant(0)  # the marks of transactions, and processes that died


class People(Protocol):
    """What is known of users; part of every transaction that decides about them."""

    def users(
        self, user_ids: Sequence[UserId], since: Instant, named: Sequence[ExperimentId]
    ) -> dict[UserId, User]:
        """Return the users that are known, locked against every other writer.

        Their experiments are those that wait, those decided since, and those named.
        """

    def switches(self, now: Instant) -> Switches:
        """Return what is switched off, offers apart."""

    def offers_used(self, mode: Mode, day: int, *, exact: bool = False) -> Mapping[str, OfferUse]:
        """Return how many messages carried each offer on a day (days since 1970), and in all.

        If it is to be `exact`, nobody else uses one until the transaction ends.
        """

    def store(self, changes: Changes) -> None:
        """Write everything that a batch changed."""


class Intake(People, Protocol):
    """What taking in a batch reads and writes: one transaction."""

    def seen(
        self, keys: Sequence[tuple[UserId, str]]
    ) -> dict[tuple[UserId, str], ExperimentId | None]:
        """Return the events among these that are kept already, and what each led to."""

    def users_reached_at(self, hashes: Sequence[str]) -> Mapping[str, Sequence[UserId]]:
        """Return who was to be written to at these addresses, by `address_hash`."""

    def owners(self, experiment_ids: Sequence[ExperimentId]) -> Mapping[ExperimentId, UserId]:
        """Return whose the experiments are; unknown ids are left out."""


class Outbox(People, Protocol):
    """What claiming and recording deliveries read and write: one transaction each."""

    def calls_elsewhere(
        self, channels: Sequence[Channel], under_way: Sequence[CallId], reached: Instant
    ) -> Mapping[Channel, int]:
        """Return how many calls of each channel others make, and keep them from beginning more.

        A call is made while its lease reaches at least to `reached`. Channels for which another
        claims at this moment are left out. Nobody pauses anything until the transaction ends.
        """

    def rate_free_at(self) -> int:
        """Return when the send rate allows the next message, in microseconds since 1970.

        Nobody else reads it until the transaction ends.
        """

    def due(
        self,
        limits: Mapping[tuple[Channel, bool], int],
        now: Instant,
        paused: Sequence[CohortName],
    ) -> list[Due]:
        """Return deliveries whose time has come, the longest waiting first.

        The limits are by channel, for messages and for held-out ones (True). Of paused cohorts
        only what has expired is due.
        """

    def abandoned(self, now: Instant | None) -> list[tuple[UserId, ExperimentId]]:
        """Return what is claimed by calls whose lease ended before `now`; None: by any call."""

    def renew(self, call_ids: Sequence[CallId], until: Instant) -> None:
        """Extend the leases of calls that are still under way."""

    def failures_in_a_row(self, *, exact: bool = False) -> Mapping[Channel, int]:
        """Return how many calls of each channel the provider refused since it last took one.

        If it is to be `exact`, nobody else counts until the transaction ends.
        """

    def set_failures_in_a_row(
        self, channel: Channel, failures: int, next_probe_at: Instant | None
    ) -> None:
        """Remember a channel's refusals; with a next probe it is not eligible but for that."""


class Measuring(Protocol):
    """What measuring reads: one consistent view."""

    def progress(self, name: str) -> str:
        """Return how far a piece of work has come; '' at its beginning."""

    def matured(
        self, mode: Mode, cohort: CohortName, after: ExperimentId, until: Instant, limit: int
    ) -> Sequence[Matured]:
        """Return the next experiments that were decided before `until`, by their ids."""

    def drawn_from(self, ids: Collection[DistributionId]) -> Mapping[DistributionId, Drawn]:
        """Return the probabilities of these distributions."""

    def entered(
        self, mode: Mode, cohort: CohortName, user_ids: Collection[UserId]
    ) -> frozenset[UserId]:
        """Return the users among these whose outcome in the cohort is known already."""

    def reached(
        self, goal: EventName, user_ids: Collection[UserId]
    ) -> Mapping[UserId, Sequence[tuple[Instant, int]]]:
        """Return when each of these users reached the goal, and what it was worth."""


class Noticing(Protocol):
    """What telling analytics reads: one consistent view."""

    def progress(self, name: str) -> str:
        """Return how far a piece of work has come; '' at its beginning."""

    def begin_at(self, at: Instant) -> str:
        """Return the smallest id that an experiment of this moment can have."""

    def decided(
        self, mode: Mode, after: ExperimentId, until: Instant, limit: int
    ) -> Sequence[Noticed]:
        """Return the next experiments that were decided before `until`, by their ids."""

    def accepted(
        self, mode: Mode, after: tuple[Instant, ExperimentId], until: Instant, limit: int
    ) -> Sequence[Noticed]:
        """Return the next ones that a provider took before `until`, by when it did, and id."""


class Evidence(Measuring, Watching, Noticing, Protocol):
    """What learning reads: one consistent view, on connections that cannot write."""

    def totals(self, mode: Mode, cohort: CohortName) -> Mapping[ComboKey, tuple[int, int]]:
        """Return the all-time trials and successes of each combo, postponed ones too."""

    def buckets(
        self,
        mode: Mode,
        cohort: CohortName,
        recent_from: int,
        *,
        by_context: bool,
        by_day: bool,
    ) -> Sequence[BucketCount]:
        """Return trials and successes by hour of the trigger, from hour `recent_from` on.

        What is older comes in one bucket (hour 0), or `by_day` in one a day (its first hour).
        """

    def ages(
        self,
        mode: Mode,
        cohort: CohortName,
        hours: tuple[int, int],
        groups: Sequence[Group] = TEACHING,
    ) -> Sequence[AgeCount]:
        """Return successes of messaged users by combo, source and age, for triggers in a span.

        The span of hours is half open.
        """

    def trials(
        self, mode: Mode, cohort: CohortName, hours: tuple[int, int]
    ) -> Mapping[ComboKey, int]:
        """Return the engine's own trials by combo, for triggers in a half-open span."""

    def days(
        self, mode: Mode, cohort: CohortName, hours: tuple[int, int]
    ) -> Sequence[tuple[int, ComboKey, int, int]]:
        """Return trials and successes by day (since 1970) and combo, in a half-open span."""

    def told_by(self, mode: Mode, cohort: CohortName, from_hour: int) -> Mapping[str, int]:
        """Return how many successes of messaged users each source told, of triggers since."""

    def frozen(self, mode: Mode) -> Mapping[CohortName, Frozen]:
        """Return the policies that stay where they are, and why."""

    def snapshot_at(self, mode: Mode, cohort: CohortName, at: Instant) -> SnapshotId | None:
        """Return the snapshot that was in force at a moment, or the first one after it."""

    def recent_contexts(self, cohort: CohortName, among: int) -> Sequence[str]:
        """Return the contexts (JSON) of the cohort's experiments among the newest ones of all."""

    def newest_snapshot(self, mode: Mode, cohort: CohortName) -> SnapshotId | None:
        """Return the id of the newest snapshot of the cohort."""

    def snapshot(self, snapshot_id: SnapshotId, cohort: Cohort) -> StoredSnapshot | None:
        """Return a snapshot with its model, if it is of the same combos and policy."""


class Log(Protocol):
    """The engine's own log of decisions, for judging other policies."""

    def logged(
        self, mode: Mode, cohort: CohortName, after: ExperimentId, until: Instant, limit: int
    ) -> Sequence[Logged]:
        """Return the next experiments that were decided before `until`, by their ids."""


class Lessons(Protocol):
    """What learning writes: small transactions."""

    def take_lease(self, name: str, holder: str, now: Instant, span: Duration) -> bool:
        """Take or keep a lease until `now + span`; return whether it is the holder's."""

    def freeze(self, mode: Mode, cohort: CohortName, frozen: Frozen) -> None:
        """Keep a cohort's policy at a snapshot; one that is frozen already stays as it is."""

    def unfreeze(self, mode: Mode, cohort: CohortName) -> bool:
        """Let a cohort's policy learn again; return whether it was frozen."""

    def add_snapshot(self, mode: Mode, cohort: Cohort, snapshot: Snapshot) -> None:
        """Keep a snapshot with its model; models of much older ones are let go of."""


class Keeping(Protocol):
    """What measuring writes: one small transaction."""

    def progress(self, name: str) -> str:
        """Return how far a piece of work has come; '' at its beginning."""

    def set_progress(self, name: str, position: str) -> None:
        """Remember how far a piece of work has come."""

    def add_outcomes(self, mode: Mode, cohort: CohortName, outcomes: Sequence[Outcome]) -> None:
        """Keep what came of users' first triggers."""

    def add_measured(
        self, mode: Mode, cohort: CohortName, sums: Mapping[tuple[int, str], float]
    ) -> None:
        """Add to the sums of measurement, by day and name, and to those of all days."""


class Administration(People, Protocol):
    """What an operator's doings read and write."""

    def set_paused(self, scope: str, *, paused: bool, at: Instant) -> None:
        """Pause or resume one cohort, or EVERYTHING."""

    def paused(self) -> frozenset[str]:
        """Return the scopes that are paused."""

    def release(self, number: int) -> bool:
        """Take one body out of quarantine; return whether it was there."""

    def note(self, noted: Noted, note_id: str, at: Instant) -> None:
        """Keep what a person changed; ids sort by time."""

    def erase(self, user_id: UserId, at: Instant) -> None:
        """Remove all that is personal, and remember only a keyed hash of the user id."""

    def newest_erasure(self) -> Instant | None:
        """Return when a user was forgotten last."""

    def quarantined_after(self, number: int, limit: int) -> Sequence[tuple[int, bytes]]:
        """Return the next bodies in quarantine, by their numbers."""

    def empty_quarantined(self, numbers: Sequence[int]) -> None:
        """Take the bytes out of bodies in quarantine; that they came stays known."""

    def nobodys_events_after(self, key: str, limit: int) -> Sequence[tuple[str, bytes]]:
        """Return the next events that name no user, by their keys."""

    def empty_nobodys_events(self, keys: Sequence[str]) -> None:
        """Take the bytes out of events that name no user; that they came stays known."""

    def beat(self, process_id: str, process: ProcessRecord) -> None:
        """Keep that a process lives."""

    def gone(self, process_id: str) -> None:
        """Forget a process that ended."""

    def prune(self, past: Retained, limit: int) -> int:
        """Delete at most `limit` rows of each kind that are older; return how many went."""

    def fold_counts(
        self, mode: Mode, cohort: CohortName, *, span: int, before: int, limit: int
    ) -> int:
        """Move at most `limit` rows of counts older than hour `before` to their span's first hour.

        Spans of `span` hours count from 1970. Returns how many rows were moved.
        """

    def waiting_combos(self) -> list[tuple[CohortName, ComboKey, Mode]]:
        """Return which combos of which mode wait to be sent."""

    def waiting_for(
        self, cohort: CohortName, combo: ComboKey, mode: Mode, limit: int
    ) -> list[tuple[UserId, ExperimentId]]:
        """Return some of what waits for a combo."""


class Transaction(Intake, Outbox, Lessons, Keeping, Logbook, Administration, Protocol):
    """Everything one transaction can do; each use case asks for its part only."""


class Storage(Protocol):
    """Opens transactions."""

    is_shared: bool  # by several processes

    @property
    def is_steady(self) -> bool:
        """Say whether the database has answered for a while."""

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Open a writing transaction; it is durable when the block is left without an error.

        Raises StorageUnavailable when the database cannot be written now.
        """

    def run(self, work: Callable[[Transaction], T]) -> T:
        """Do some work in a transaction of its own, and anew if others were in its way.

        Raises StorageUnavailable when the database cannot be written now, and OutcomeUnknown
        when it went away while it was to say whether the work is stored.
        """

    def evidence(self) -> AbstractContextManager[Evidence]:
        """Open one consistent view for learning, which waits for no writer and stops none."""

    def scrub(self, erased_at: Instant, now: Instant) -> bool:
        """Clear what is left on the disk of what was deleted until a moment.

        Returns whether nothing is left that the database itself would still have; otherwise it
        is to be tried again.
        """

    def salt(self) -> bytes:
        """Return the stored salt of the holdout; made once, with the database."""


class MessageSender(Protocol):
    """Hands calls to one provider."""

    async def send(self, call: Call) -> Answer:
        """Make the call once, never raise for what the provider or the network does.

        Returns within the sender's time limit. What cannot be known is UNCERTAIN.
        """

    async def close(self) -> None:
        """Give back the connections."""
