"""What learning and measurement read: sums, on connections that cannot write."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from sqlalchemy import Engine, Select, case, desc, func, literal, or_, select

from experiment_engine.adapters.storage import rows, tables
from experiment_engine.adapters.storage.measuring import MeasuringStatements
from experiment_engine.adapters.storage.noticing import NoticingStatements
from experiment_engine.application.evidence import (
    AgeCount,
    BucketCount,
    Frozen,
    StoredSnapshot,
)
from experiment_engine.domain.bandit.context import ContextLevels
from experiment_engine.domain.bandit.reward import OWN, TEACHING, Group
from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.delivery.experiment import Mode
from experiment_engine.domain.identifiers import CohortName, ComboKey, SnapshotId
from experiment_engine.domain.moments import Instant

_HOURS_A_DAY = 24
_count = tables.combo_count.c
_told = tables.conversion_count.c
_kept = tables.snapshot.c


class EvidenceReader(MeasuringStatements, NoticingStatements):
    """Answers each question of one consistent view; opened by `consistent`."""

    def totals(self, mode: Mode, cohort: CohortName) -> Mapping[ComboKey, tuple[int, int]]:
        """Return the all-time trials and successes of each combo, postponed ones too."""
        sums = select(_count.combo_key, func.sum(_count.trials), func.sum(_count.successes))
        query = sums.where(*_messaged(mode, cohort), _count.hour == tables.ALL_HOURS)
        totals = {
            ComboKey(key): (int(n), int(s))
            for key, n, s in self._rows(query.group_by(_count.combo_key))
        }
        for combo_key, hour in self.resets(mode, cohort).items():
            forgotten = sums.where(
                *_messaged(mode, cohort),
                _count.combo_key == combo_key,
                _count.hour != tables.ALL_HOURS,
                _count.hour < hour,
            )
            for key, n, s in self._rows(forgotten.group_by(_count.combo_key)):
                trials, successes = totals[key]
                totals[key] = (trials - int(n), successes - int(s))
        return totals

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
            .where(
                *_messaged(mode, cohort),
                _count.hour != tables.ALL_HOURS,
                *self._remembered(mode, cohort, _count),
            )
            .group_by(bucket, context, _count.combo_key, postponed)
        )
        return [
            BucketCount(hour, levels, ComboKey(key), bool(late), int(n), int(s))
            for hour, levels, key, late, n, s in self._rows(query)
        ]

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
        query = (
            select(_told.combo_key, _told.source, _told.age_bucket, func.sum(_told.conversions))
            .where(
                _told.mode == mode.value,
                _told.cohort == cohort,
                _told.hour >= hours[0],
                _told.hour < hours[1],
                _told.counted_for.in_([group.value for group in groups]),
                *self._remembered(mode, cohort, _told),
            )
            .group_by(_told.combo_key, _told.source, _told.age_bucket)
        )
        return [
            AgeCount(ComboKey(key), source, bucket, int(number))
            for key, source, bucket, number in self._rows(query)
        ]

    def trials(
        self, mode: Mode, cohort: CohortName, hours: tuple[int, int]
    ) -> Mapping[ComboKey, int]:
        """Return the engine's own trials by combo, for triggers in a half-open span."""
        query = (
            select(_count.combo_key, func.sum(_count.trials))
            .where(
                *_messaged(mode, cohort, OWN),
                _count.hour >= hours[0],
                _count.hour < hours[1],
                *self._remembered(mode, cohort, _count),
            )
            .group_by(_count.combo_key)
        )
        return {ComboKey(key): int(number) for key, number in self._rows(query)}

    def days(
        self, mode: Mode, cohort: CohortName, hours: tuple[int, int]
    ) -> Sequence[tuple[int, ComboKey, int, int]]:
        """Return trials and successes by day (since 1970) and combo, in a half-open span."""
        day = _count.hour - _count.hour % _HOURS_A_DAY
        query = (
            select(day, _count.combo_key, func.sum(_count.trials), func.sum(_count.successes))
            .where(
                *_messaged(mode, cohort),
                _count.hour >= hours[0],
                _count.hour < hours[1],
                *self._remembered(mode, cohort, _count),
            )
            .group_by(day, _count.combo_key)
        )
        return [
            (hour // _HOURS_A_DAY, ComboKey(key), int(n), int(s))
            for hour, key, n, s in self._rows(query)
        ]

    def frozen(self, mode: Mode) -> Mapping[CohortName, Frozen]:
        """Return the policies that stay where they are, and why."""
        freeze = tables.freeze.c
        query = select(freeze.cohort, freeze.since, freeze.snapshot_id, freeze.reason).where(
            freeze.mode == mode.value
        )
        return {
            CohortName(cohort): Frozen(Instant(since), SnapshotId(snapshot_id), reason)
            for cohort, since, snapshot_id, reason in self._rows(query)
        }

    def snapshot_at(self, mode: Mode, cohort: CohortName, at: Instant) -> SnapshotId | None:
        """Return the snapshot that was in force at a moment, or the first one after it."""
        mine = (_kept.mode == mode.value, _kept.cohort == cohort, _kept.model.is_not(None))
        before = select(_kept.id).where(*mine, _kept.taken_at <= at)
        after = select(_kept.id).where(*mine, _kept.taken_at > at)
        for query in (
            before.order_by(_kept.taken_at.desc(), _kept.id.desc()),
            after.order_by(_kept.taken_at, _kept.id),
        ):
            found = self._rows(query.limit(1))
            if found:
                return SnapshotId(found[0].id)
        return None

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

    def newest_snapshot(self, mode: Mode, cohort: CohortName) -> SnapshotId | None:
        """Return the id of the newest snapshot of the cohort."""
        query = (
            select(_kept.id)
            .where(_kept.mode == mode.value, _kept.cohort == cohort)
            .order_by(_kept.taken_at.desc(), _kept.id.desc())
            .limit(1)
        )
        found = self._rows(query)
        return SnapshotId(found[0].id) if found else None

    def snapshot(self, snapshot_id: SnapshotId, cohort: Cohort) -> StoredSnapshot | None:
        """Return a snapshot with its model, if it is of the same combos and policy."""
        query = select(
            _kept.id, _kept.taken_at, _kept.statistics, _kept.model, _kept.details
        ).where(
            _kept.id == snapshot_id,
            _kept.combos == rows.combos_digest(cohort),
            _kept.model.is_not(None),
        )
        for row in self._rows(query):
            details = msgspec.json.decode(row.details)
            arrays = rows.arrays_from_bytes(row.model)
            return StoredSnapshot(
                SnapshotId(row.id),
                Instant(row.taken_at),
                rows.statistics_from_json(row.statistics, len(cohort.space)),
                ContextLevels(tuple(tuple(names) for names in details["levels"])),
                arrays,
                rows.shares_from(arrays),
                rows.limit_from(arrays),
                rows.changes_from(details),
                details.get("looked_on", -1),
            )
        return None

    def _remembered(self, mode: Mode, cohort: CohortName, counts: Any) -> list[Any]:
        """Return what leaves out the past of combos that learn anew."""
        return [
            or_(counts.combo_key != combo_key, counts.hour >= hour)
            for combo_key, hour in self.resets(mode, cohort).items()
        ]

    def _rows(self, query: Select[Any]) -> Sequence[Any]:
        return self.core.execute(query).all()


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


def _messaged(
    mode: Mode, cohort: CohortName, groups: Sequence[Group] = TEACHING
) -> tuple[Any, ...]:
    return (
        _count.mode == mode.value,
        _count.cohort == cohort,
        _count.counted_for.in_([group.value for group in groups]),
    )
