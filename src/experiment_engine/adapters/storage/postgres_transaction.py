"""One transaction on PostgreSQL: who is locked by it, in what order, and how rows get there.

Every transaction that decides about users first locks them, in the order of their numbers. So
READ COMMITTED is enough: what is read about a user cannot change before the commit. A claim waits
for no user: it passes over those that are locked, because their holder may wait for its rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any, ClassVar, Generic, TypeVar

import psycopg

from experiment_engine.adapters.storage import postgres_statements as statements
from experiment_engine.adapters.storage.cold import ColdStatements
from experiment_engine.adapters.storage.hot import HotStatements, Question
from experiment_engine.adapters.storage.learning import LearningStatements
from experiment_engine.adapters.storage.ledger import LedgerStatements
from experiment_engine.adapters.storage.statements import HotSql
from experiment_engine.application.changes import Changes
from experiment_engine.application.ports import Switches
from experiment_engine.domain.cohorts.user import User
from experiment_engine.domain.delivery.experiment import Due, Mode
from experiment_engine.domain.delivery.limits import OfferUse
from experiment_engine.domain.identifiers import (
    CallId,
    Channel,
    CohortName,
    ExperimentId,
    UserId,
)
from experiment_engine.domain.moments import Instant

T = TypeVar("T")

# Classes of locks; those of users have one long number, and no class.
_CLAIMING, _LANES, _OFFERS, _REFUSALS = 1, 2, 3, 4


@dataclass
class Batch(Generic[T]):
    """One piece of work, recognisable by its token in the table of batches."""

    token: str
    is_marked: bool = False  # in the transaction that is open
    is_in_doubt: bool = False  # its commit was sent, and nobody answered
    result: T | None = None  # of the work whose commit is in doubt


@dataclass(frozen=True)
class PostgresTransaction(HotStatements, ColdStatements, LearningStatements, LedgerStatements):
    """Everything one transaction can do; see the ports for what each method promises."""

    connection: psycopg.Connection[Any]
    batch: Batch[Any]
    locked: set[int] = field(default_factory=set)  # the numbers of the users that are ours
    sql: ClassVar[HotSql] = statements

    def users(
        self, user_ids: Sequence[UserId], since: Instant, named: Sequence[ExperimentId]
    ) -> dict[UserId, User]:
        """Return the users that are known, locked against every other writer."""
        self._lock(user_ids)
        users = super().users(user_ids, since, named)
        # A named experiment may be somebody else's: of a user who was erased, or nobody told us.
        others = users.keys() - set(user_ids)
        return self.users([*user_ids, *others], since, named) if others else users

    def switches(self, now: Instant) -> Switches:
        """Return what is switched off; who may probe a failing channel has that alone."""
        switches = super().switches(now)
        if not switches.probing:
            return switches
        failing = self._ask(statements.FAILING_EXACTLY, now)
        return replace(
            switches,
            failing=frozenset(channel for channel, closed in failing if closed),
            probing=frozenset(channel for channel, closed in failing if not closed),
        )

    def calls_elsewhere(
        self, channels: Sequence[Channel], under_way: Sequence[CallId], reached: Instant
    ) -> Mapping[Channel, int]:
        """Return how many calls others make, for the channels that nobody else claims for now."""
        numbers = [_number(channel, 4) for channel in channels]
        _, lanes, found = self._ask_all(
            (statements.LOCK_SHARED, (_CLAIMING,)),
            (statements.TAKE_LANES, (list(channels), numbers, _LANES)),
            (statements.CALLS_ELSEWHERE, (reached, list(under_way))),
        )
        calls = dict(found)
        return {Channel(channel): calls.get(channel, 0) for (channel,) in lanes}

    def rate_free_at(self) -> int:
        """Return when the send rate allows the next message; other claims wait for this one."""
        self._ask(statements.ADD_RATE)
        return super().rate_free_at()

    def offers_used(self, mode: Mode, day: int, *, exact: bool = False) -> Mapping[str, OfferUse]:
        """Return how many messages carried each offer; an exact claim has the offers alone."""
        if exact:
            self._ask(statements.LOCK_ALONE, _OFFERS)
        return super().offers_used(mode, day)

    def failures_in_a_row(self, *, exact: bool = False) -> Mapping[Channel, int]:
        """Return the refusals of each channel; whoever is exact counts alone."""
        if exact:
            self._ask(statements.LOCK_ALONE, _REFUSALS)
        return super().failures_in_a_row()

    def set_paused(self, scope: str, *, paused: bool, at: Instant) -> None:
        """Pause or resume, between two claims: none that began before commits after this."""
        self._ask(statements.LOCK_ALONE, _CLAIMING)
        super().set_paused(scope, paused=paused, at=at)

    def due(
        self,
        limits: Mapping[tuple[Channel, bool], int],
        now: Instant,
        paused: Sequence[CohortName],
    ) -> list[Due]:
        """Return deliveries whose time has come and whose users nobody else decides about.

        Nothing is waited for here: whoever locked a user may be waiting for a row of ours.
        """
        found = super().due(limits, now, paused)
        if not found:
            return []
        wanted = sorted({_lock_of(due.user_id) for due in found})
        busy = {row[0] for row in self._ask(statements.TRY_TO_LOCK_USERS, wanted)}
        self.locked.update(set(wanted) - busy)
        return [due for due in found if _lock_of(due.user_id) not in busy]

    def store(self, changes: Changes) -> None:
        """Write everything that a batch changed, in one trip to the server."""
        with self.connection.pipeline():
            super().store(changes)

    def _lock(self, user_ids: Sequence[UserId]) -> None:
        missing = sorted(set(map(_lock_of, user_ids)) - self.locked)
        if missing:
            self._ask_all((statements.LOCK_USERS, (missing,)))
            self.locked.update(missing)

    def mark(self) -> bool:
        """Make the batch recognisable; return False if it was committed before."""
        if not self.batch.is_marked:
            self.batch.is_marked = bool(self._ask(statements.MARK_BATCH, self.batch.token))
        return self.batch.is_marked

    def _ask(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        cursor = self.connection.execute(statement.encode(), values)
        return cursor.fetchall() if cursor.description else []

    def _ask_all(self, *questions: Question) -> list[Sequence[tuple[Any, ...]]]:
        """Ask in one trip to the server; each statement sees what was committed before it."""
        with self.connection.pipeline():
            cursors = [
                self.connection.execute(statement.encode(), values)
                for statement, values in questions
            ]
        return [cursor.fetchall() if cursor.description else [] for cursor in cursors]

    def _run(self, statement: str, values: Sequence[Sequence[object]]) -> None:
        if values:
            if not self.batch.is_marked:
                self.batch.is_marked = True
                self.connection.execute(statements.MARK_BATCH.encode(), (self.batch.token,))
            columns = [list(column) for column in zip(*values, strict=True)]
            self.connection.execute(statement.encode(), columns)

    def _keys(self, keys: Sequence[str]) -> object:
        return list(keys)

    def _pairs(self, keys: Sequence[tuple[str, str]]) -> Sequence[object]:
        return [list(column) for column in zip(*keys, strict=True)]


def _lock_of(user_id: UserId) -> int:
    """Return the number by which a user is locked; two users may share one, and then wait."""
    return _number(user_id, 8)


def _number(name: str, size: int) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=size).digest(), signed=True)
