"""PostgreSQL: any number of processes on any number of hosts share one database.

Every transaction that decides about users first locks them. So READ COMMITTED is enough: what is
read about a user cannot change before the commit.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, ClassVar, Generic, TypeVar

import psycopg
import structlog
import uuid_utils
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from experiment_engine.adapters.storage import postgres_statements as statements
from experiment_engine.adapters.storage import tables
from experiment_engine.adapters.storage.cold import ColdStatements
from experiment_engine.adapters.storage.evidence import EvidenceReader, consistent
from experiment_engine.adapters.storage.hot import HotStatements
from experiment_engine.adapters.storage.learning import LearningStatements
from experiment_engine.adapters.storage.ledger import LedgerStatements
from experiment_engine.adapters.storage.postgres_connections import (
    address,
    open_readers,
    open_writers,
    refuse_what_is_not_durable,
)
from experiment_engine.adapters.storage.schema import migrate, prepare
from experiment_engine.adapters.storage.statements import HotSql
from experiment_engine.application.changes import Changes
from experiment_engine.domain.cohorts.user import User
from experiment_engine.domain.delivery.experiment import Due
from experiment_engine.domain.errors import OutcomeUnknown, StorageUnavailable
from experiment_engine.domain.identifiers import Channel, CohortName, ExperimentId, UserId
from experiment_engine.domain.moments import Instant

log = structlog.get_logger()

T = TypeVar("T")

_WAITS = (0.0, 0.0, 0.05, 0.1, 0.2, 0.4)  # seconds before each try of the same work

_IN_THE_WAY = {"40001", "40P01", "55P03", "23505"}  # another transaction: next time it is seen
_TROUBLE = {
    "08",
    "25",
    "40",
    "53",
    "55",
    "57",
    "58",
}  # classes that heal by themselves, or by hand


@dataclass
class _Batch(Generic[T]):
    """One piece of work, recognisable by its token in the table of batches."""

    token: str
    is_marked: bool = False  # in the transaction that is open
    is_in_doubt: bool = False  # its commit was sent, and nobody answered
    result: T | None = None  # of the work whose commit is in doubt


@dataclass(frozen=True)
class PostgresTransaction(HotStatements, ColdStatements, LearningStatements, LedgerStatements):
    """Everything one transaction can do; see the ports for what each method promises."""

    connection: psycopg.Connection[Any]
    batch: _Batch[Any]
    sql: ClassVar[HotSql] = statements

    def users(
        self, user_ids: Sequence[UserId], since: Instant, named: Sequence[ExperimentId]
    ) -> dict[UserId, User]:
        """Return the users that are known, locked against every other writer."""
        owners = self.owners(named).values() if named else ()
        locked = {*user_ids, *owners}
        self._ask(statements.LOCK_USERS, sorted({*map(_lock_of, locked)}))
        users = super().users(user_ids, since, named)
        # Whoever was erased between the two statements has another name now.
        renamed = users.keys() - locked
        if renamed:
            return self.users([*user_ids, *renamed], since, named)
        return users

    def due(
        self,
        channel: Channel,
        now: Instant,
        limit: int,
        *,
        held_out: bool,
        paused: Sequence[CohortName],
    ) -> list[Due]:
        """Return deliveries whose time has come and whose users nobody else decides about.

        Nothing is waited for here: whoever locked a user may be waiting for a row of ours.
        """
        found = super().due(channel, now, limit, held_out=held_out, paused=paused)
        wanted = sorted({_lock_of(due.user_id) for due in found})
        busy = {row[0] for row in self._ask(statements.TRY_TO_LOCK_USERS, wanted)}
        return [due for due in found if _lock_of(due.user_id) not in busy]

    def store(self, changes: Changes) -> None:
        """Write everything that a batch changed, in one trip to the server."""
        with self.connection.pipeline():
            super().store(changes)

    def mark(self) -> bool:
        """Make the batch recognisable; return False if it was committed before."""
        if not self.batch.is_marked:
            self.batch.is_marked = bool(self._ask(statements.MARK_BATCH, self.batch.token))
        return self.batch.is_marked

    def _ask(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        cursor = self.connection.execute(statement.encode(), values)
        return cursor.fetchall() if cursor.description else []

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


class PostgresStorage:
    """Opens transactions, each on a connection of its own, and tries again what may succeed."""

    is_shared = True  # by any number of processes

    def __init__(self, url: str) -> None:
        """Open the database, and make its schema if it is empty.

        Raises ConfigurationError, UnknownSchema or StorageUnavailable.
        """
        where = address(url)
        self._writers, self.readers = open_writers(where), open_readers(where)
        self._is_away = False
        try:
            refuse_what_is_not_durable(self._writers)
            prepare(where)
            self._erasure_key = self._meta("erasure_key")
        except DBAPIError as error:
            self.close()
            cause = error.orig if isinstance(error, DBAPIError) else error
            raise StorageUnavailable(
                f"DATABASE_URL: the database cannot be used: {cause}"
            ) from None
        except BaseException:
            self.close()
            raise

    def salt(self) -> bytes:
        """Return the stored salt of the holdout."""
        return self._meta("holdout_salt")

    def evidence(self) -> AbstractContextManager[EvidenceReader]:
        """Open one consistent view for learning, which waits for no writer and stops none."""
        return consistent(self.readers)

    @contextmanager
    def transaction(self) -> Iterator[PostgresTransaction]:
        """Open a writing transaction; it is durable when the block is left without an error."""
        try:
            with self._open(_Batch(_new_token())) as tx:
                yield tx
        except (psycopg.Error, DBAPIError, PoolTimeout) as error:
            if _is_trouble(error):
                raise self._unavailable(error) from error
            raise

    def run(self, work: Callable[[PostgresTransaction], T]) -> T:
        """Do some work in a transaction of its own, and again if others were in its way.

        The work is done anew from its beginning, so it may depend on nothing that it changed. If
        the answer to its commit was lost, it is looked up whether it was committed.
        """
        batch: _Batch[T] = _Batch(_new_token())
        waits = _WAITS[:2] if self._is_away else _WAITS
        for wait in waits:
            time.sleep(wait)
            try:
                result = self._try(work, batch)
            except (psycopg.Error, DBAPIError, PoolTimeout) as error:
                if not _is_worth_another_try(error):
                    raise
                failure = error
            else:
                self._is_away = False
                return result
        self._is_away = True
        if not _is_trouble(failure):
            raise failure
        if batch.is_in_doubt:
            raise OutcomeUnknown(_IN_DOUBT, lambda: self._look(batch)) from failure
        raise self._unavailable(failure) from failure

    def close(self) -> None:
        """Close every connection."""
        self.readers.dispose()
        self._writers.dispose()

    def _try(self, work: Callable[[PostgresTransaction], T], batch: _Batch[T]) -> T:
        with self._open(batch) as tx:
            if batch.is_in_doubt and not tx.mark():
                return batch.result  # type: ignore[return-value]  # it was committed with this
            batch.is_in_doubt = False
            batch.result = work(tx)
            return batch.result

    def _look(self, batch: _Batch[T]) -> T | None:
        """Return the result of a batch that turns out to be committed, or None."""
        try:
            with self._open(batch) as tx:
                committed = not tx.mark()
                batch.is_marked = False  # nothing is kept of the question
                tx.connection.rollback()
        except (psycopg.Error, DBAPIError, PoolTimeout) as error:
            raise self._unavailable(error) from error
        return batch.result if committed else None

    @contextmanager
    def _open(self, batch: _Batch[Any]) -> Iterator[PostgresTransaction]:
        with self._writers.connect() as core:
            connection: psycopg.Connection[Any] = core.connection.driver_connection  # type: ignore[assignment]
            transaction = core.begin()
            batch.is_marked = is_ending = False
            try:
                yield PostgresTransaction(
                    core=core, erasure_key=self._erasure_key, connection=connection, batch=batch
                )
                is_ending = batch.is_marked
                transaction.commit()
            except BaseException:
                is_broken = _give_up(core, connection)
                batch.is_in_doubt = batch.is_in_doubt or (is_ending and is_broken)
                raise

    def _unavailable(self, error: Exception) -> StorageUnavailable:
        cause = _cause(error)
        log.error("database_unavailable", error=str(cause), code=getattr(cause, "sqlstate", None))
        return StorageUnavailable(
            f"The database cannot be written now ({_first_line(cause)})."
            " Nothing was stored; send it again."
        )

    def _meta(self, key: str) -> bytes:
        with self.readers.connect() as connection:
            value = connection.execute(
                select(tables.meta.c.value).where(tables.meta.c.key == key)
            ).scalar_one()
        return bytes(value)


_CANNOT_BE_USED = "DATABASE_URL: the database cannot be used now: {}"
_IN_DOUBT = (
    "The database went away while the answer was stored; it may be there or not. Send it again."
)


def migrate_database(url: str) -> tuple[str | None, str]:
    """Bring a database to this version's schema; return the revision before and after."""
    try:
        return migrate(address(url))
    except DBAPIError as error:
        raise StorageUnavailable(_CANNOT_BE_USED.format(_first_line(_cause(error)))) from None


def _give_up(core: Connection, connection: psycopg.Connection[Any]) -> bool:
    """Roll back; return whether the connection broke, so that nobody uses it again."""
    if connection.closed or connection.info.transaction_status is TransactionStatus.UNKNOWN:
        core.invalidate()
        return True
    with suppress(DBAPIError):
        core.rollback()
    return False


def _lock_of(user_id: UserId) -> int:
    """Return the number by which a user is locked; two users may share one, and then wait."""
    return int.from_bytes(blake2b(user_id.encode(), digest_size=8).digest(), signed=True)


def _new_token() -> str:
    return str(uuid_utils.uuid7())


def _cause(error: Exception) -> BaseException:
    return (error.orig or error) if isinstance(error, DBAPIError) else error


def _is_trouble(error: Exception) -> bool:
    """Tell a server that is away, full or busy from a mistake in a statement."""
    cause = _cause(error)
    if not isinstance(cause, psycopg.Error):
        return isinstance(cause, PoolTimeout)
    if cause.sqlstate is None:  # it did not come from the server: the connection broke
        return isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError)
    return cause.sqlstate[:2] in _TROUBLE


def _is_worth_another_try(error: Exception) -> bool:
    return _is_trouble(error) or getattr(_cause(error), "sqlstate", None) in _IN_THE_WAY


def _first_line(cause: BaseException) -> str:
    return next(iter(str(cause).splitlines()), type(cause).__name__)
