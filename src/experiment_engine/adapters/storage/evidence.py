"""What learning and measurement read: sums, on connections that cannot write."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, Select, case, desc, func, literal, select

from experiment_engine.adapters.storage import tables
from experiment_engine.application.evidence import AgeCount, BucketCount
from experiment_engine.domain.bandit.reward import Group
from experiment_engine.domain.delivery.experiment import Mode
from experiment_engine.domain.identifiers import CohortName, ComboKey

_HOURS_A_DAY = 24
_count = tables.combo_count.c
_told = tables.conversion_count.c


class EvidenceReader:
    """Answers each question of one consistent view; opened by `consistent`."""

    def __init__(self, connection: Connection) -> None:
        """Read on this connection."""
        self._connection = connection

    def totals(self, mode: Mode, cohort: CohortName) -> Mapping[ComboKey, tuple[int, int]]:
        """Return the all-time trials and successes of each combo, postponed ones too."""
        query = (
            select(_count.combo_key, func.sum(_count.trials), func.sum(_count.successes))
            .where(*_messaged(mode, cohort), _count.hour == tables.ALL_HOURS)
            .group_by(_count.combo_key)
        )
        return {ComboKey(key): (int(n), int(s)) for key, n, s in self._rows(query)}

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
        older = _count.hour - _count.hour % _HOURS_A_DAY if by_day else literal(0)
        bucket = case((_count.hour >= recent_from, _count.hour), else_=older)
        context = _count.context if by_context else literal("")
        postponed = _count.counted_for == Group.POSTPONED.value
        query = (
            select(
                bucket,
                context,
                _count.combo_key,
                postponed,
                func.sum(_count.trials),
                func.sum(_count.successes),
            )
            .where(*_messaged(mode, cohort), _count.hour != tables.ALL_HOURS)
            .group_by(bucket, context, _count.combo_key, postponed)
        )
        return [
            BucketCount(hour, levels, ComboKey(key), bool(late), int(n), int(s))
            for hour, levels, key, late, n, s in self._rows(query)
        ]

    def ages(self, mode: Mode, cohort: CohortName, hours: tuple[int, int]) -> Sequence[AgeCount]:
        """Return successes of messaged users by combo, source and age, for triggers in a span.

        The span of hours is half open.
        """
        query = (
            select(_told.combo_key, _told.source, _told.age_bucket, func.sum(_told.conversions))
            .where(
                _told.mode == mode.value,
                _told.cohort == cohort,
                _told.hour >= hours[0],
                _told.hour < hours[1],
                _told.counted_for != Group.HOLDOUT.value,
            )
            .group_by(_told.combo_key, _told.source, _told.age_bucket)
        )
        return [
            AgeCount(ComboKey(key), source, bucket, int(number))
            for key, source, bucket, number in self._rows(query)
        ]

    def recent_contexts(self, cohort: CohortName, among: int) -> Sequence[str]:
        """Return the contexts (JSON) of the cohort's experiments among the newest ones of all."""
        made = tables.experiment.c
        newest = (
            select(made.cohort, made.context)
            .order_by(desc(made.id), desc(made.user_id))
            .limit(among)
            .subquery()
        )
        query = select(newest.c.context).where(newest.c.cohort == cohort)
        return [context for (context,) in self._rows(query)]

    def _rows(self, query: Select[Any]) -> Sequence[Any]:
        return self._connection.execute(query).all()


@contextmanager
def consistent(readers: Engine) -> Iterator[EvidenceReader]:
    """Open one view of the database in which every question sees the same moment."""
    on_sqlite = readers.dialect.name == "sqlite"
    options = {} if on_sqlite else {"isolation_level": "REPEATABLE READ"}
    with readers.connect().execution_options(**options) as connection:
        if on_sqlite:
            connection.exec_driver_sql("BEGIN")  # its driver begins none for a SELECT
        yield EvidenceReader(connection)
        connection.rollback()


def _messaged(mode: Mode, cohort: CohortName) -> tuple[Any, ...]:
    return (
        _count.mode == mode.value,
        _count.cohort == cohort,
        _count.counted_for != Group.HOLDOUT.value,
    )
