"""PostgreSQL: any number of processes on any number of hosts share one database.

What others were in the way of is done anew, and what was not answered is looked up.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import psycopg
import structlog
import uuid_utils
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from experiment_engine.adapters.storage import tables
from experiment_engine.adapters.storage.database_clock import DatabaseClock
from experiment_engine.adapters.storage.evidence import EvidenceReader, consistent
from experiment_engine.adapters.storage.postgres_connections import (
    address,
    open_readers,
    open_writers,
    refuse_what_is_not_durable,
)
from experiment_engine.adapters.storage.postgres_transaction import Batch, PostgresTransaction
from experiment_engine.adapters.storage.schema import migrate, prepare
from experiment_engine.domain.errors import OutcomeUnknown, StorageUnavailable
from experiment_engine.domain.moments import HOUR, Instant

log = structlog.get_logger()

T = TypeVar("T")

_LOOKED_AT_FOR = HOUR  # far above what any view of ours lasts
_OF_USERS = (
    "experiment",
    "attempt",
    "event",
    "quarantine",
    "goal_reached",
    "choice",
    "counted",
    "recipient",
    "user_outcome",
    "audit",
)
_STEADY_AFTER = 20.0  # seconds after an outage, in which workers record what they heard meanwhile
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


class PostgresStorage:
    """Opens transactions, each on a connection of its own, and tries again what may succeed."""

    is_shared = True  # by any number of processes

    def __init__(self, url: str) -> None:
        """Open the database, and make its schema if it is empty.

        Raises ConfigurationError, UnknownSchema or StorageUnavailable.
        """
        where = address(url)
        self._writers, self.readers = open_writers(where), open_readers(where)
        self.clock = DatabaseClock()
        self._is_away = False
        self._steady_since = -_STEADY_AFTER  # on the clock that only goes forward
        try:
            refuse_what_is_not_durable(self._writers)
            prepare(where)
            self._erasure_key, self._salt = self._meta("erasure_key"), self._meta("holdout_salt")
            with self._writers.connect() as connection:
                self.clock.ask(connection)
        except DBAPIError as error:
            self.close()
            raise StorageUnavailable(_CANNOT_BE_USED.format(_first_line(_cause(error)))) from None
        except BaseException:
            self.close()
            raise

    @property
    def is_steady(self) -> bool:
        """Say whether the database has answered for a while."""
        return not self._is_away and time.monotonic() - self._steady_since > _STEADY_AFTER

    def salt(self) -> bytes:
        """Return the stored salt of the holdout."""
        return self._salt

    @contextmanager
    def evidence(self) -> Iterator[EvidenceReader]:
        """Open one consistent view for learning, which waits for no writer and stops none."""
        try:
            with consistent(self.readers) as evidence:
                yield evidence
        except (DBAPIError, PoolTimeout) as error:
            if _is_trouble(error):
                raise self._unavailable(error) from error
            raise

    @contextmanager
    def transaction(self) -> Iterator[PostgresTransaction]:
        """Open a writing transaction; it is durable when the block is left without an error."""
        try:
            with self._open(Batch(_new_token())) as tx:
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
        batch: Batch[T] = Batch(_new_token())
        waits = _WAITS[:2] if self._is_away else _WAITS
        for wait in waits:
            if wait:
                time.sleep(wait)
            try:
                result = self._try(work, batch)
            except (psycopg.Error, DBAPIError, PoolTimeout) as error:
                if not _is_worth_another_try(error):
                    raise
                failure = error
                continue
            if self._is_away:
                self._is_away, self._steady_since = False, time.monotonic()
                log.info("database_answers_again")
            return result
        if not _is_trouble(failure):
            raise failure
        unavailable = self._unavailable(failure)
        if batch.is_in_doubt:
            raise OutcomeUnknown(_IN_DOUBT, lambda: self._look(batch)) from failure
        raise unavailable from failure

    def scrub(self, erased_at: Instant, now: Instant) -> bool:
        """Vacuum the tables of users, when nobody can still look at what was before."""
        if now - erased_at < _LOOKED_AT_FOR:
            return False
        try:
            with self._writers.connect().execution_options(isolation_level="AUTOCOMMIT") as core:
                core.exec_driver_sql("SET statement_timeout = 0")
                core.exec_driver_sql(f"VACUUM {', '.join(_OF_USERS)}")
                core.exec_driver_sql("RESET statement_timeout")
        except DBAPIError as error:
            if _is_trouble(error):
                raise self._unavailable(error) from error
            raise
        return True

    def close(self) -> None:
        """Close every connection."""
        self.readers.dispose()
        self._writers.dispose()

    def _try(self, work: Callable[[PostgresTransaction], T], batch: Batch[T]) -> T:
        with self._open(batch) as tx:
            if batch.is_in_doubt and not tx.mark():
                return batch.result  # type: ignore[return-value]  # it was committed with this
            batch.is_in_doubt = False
            batch.result = work(tx)
            return batch.result

    def _look(self, batch: Batch[T]) -> T | None:
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
    def _open(self, batch: Batch[Any]) -> Iterator[PostgresTransaction]:
        with self._writers.connect() as core:
            connection: psycopg.Connection[Any] = core.connection.driver_connection  # type: ignore[assignment]
            transaction = core.begin()
            batch.is_marked = is_ending = False
            try:
                if self.clock.is_stale:
                    self.clock.ask(core)
                yield PostgresTransaction(
                    core=core, erasure_key=self._erasure_key, connection=connection, batch=batch
                )
                is_ending = batch.is_marked
                transaction.commit()
            except BaseException:
                is_broken = _give_up(core, connection)
                if is_broken:
                    self._writers.dispose()  # what waits in the pool broke with it, most likely
                batch.is_in_doubt = batch.is_in_doubt or (is_ending and is_broken)
                raise

    def _unavailable(self, error: Exception) -> StorageUnavailable:
        cause = _cause(error)
        if not self._is_away:  # told once for each time that it goes away
            code = getattr(cause, "sqlstate", None)
            log.error("database_unavailable", error=_first_line(cause), code=code)
        self._is_away, self._steady_since = True, time.monotonic()
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
