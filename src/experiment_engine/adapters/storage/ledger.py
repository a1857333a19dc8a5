"""What counting anew reads and writes, in one transaction; any database."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass

from sqlalchemy import Connection, delete, func, select, tuple_

from experiment_engine.adapters.storage import rows, statements, tables
from experiment_engine.adapters.storage.sums import add_up
from experiment_engine.application.changes import Changes, CounterKey, ToldKey
from experiment_engine.application.rebuild import ToldConversion
from experiment_engine.domain.bandit.reward import Counts, Group
from experiment_engine.domain.delivery.experiment import Experiment, Mode
from experiment_engine.domain.identifiers import (
    CohortName,
    ComboKey,
    EventName,
    ExperimentId,
    UserId,
)
from experiment_engine.domain.moments import Instant

_HISTORY = Group.HISTORY.value
_COUNTERS = (tables.combo_count, tables.conversion_count)
_SUMS = tuple(Counts.__dataclass_fields__)
_EXPERIMENT = [
    tables.experiment.c[name.strip()] for name in statements.EXPERIMENT_COLUMNS.split(",")
]


@dataclass(frozen=True)
class LedgerStatements:
    """Experiments as a ledger, and the counters that follow from them."""

    core: Connection

    def lock_counts(self) -> None:
        """Let no other transaction change a counter until this one ends."""
        if self.core.dialect.name == "postgresql":
            self.core.exec_driver_sql(
                "LOCK TABLE combo_count, conversion_count, experiment_count"
                " IN SHARE ROW EXCLUSIVE MODE"
            )

    def experiments_after(
        self, experiment_id: ExperimentId, limit: int, *, converted_by: str | None = None
    ) -> Sequence[Experiment]:
        """Return the next experiments in the order of their ids; those of one source only."""
        made = tables.experiment.c
        query = select(*_EXPERIMENT).where(made.id > experiment_id).order_by(made.id).limit(limit)
        if converted_by is not None:
            query = query.where(made.converted_by == converted_by)
        return [rows.experiment_from(tuple(row)) for row in self.core.execute(query)]

    def decided_ever(self) -> int:
        """Return how many experiments were decided, those that are not kept any more too."""
        query = select(func.sum(tables.experiment_count.c.experiments))
        return int(self.core.execute(query).scalar() or 0)

    def count_sums(self) -> Mapping[CounterKey, Counts]:
        """Return every counter of every hour but those of history: no experiment tells of it."""
        count = tables.combo_count.c
        query = select(
            count.mode,
            count.cohort,
            count.hour,
            count.context,
            count.combo_key,
            count.counted_for,
            *(count[name] for name in _SUMS),
        ).where(count.hour != tables.ALL_HOURS, count.counted_for != _HISTORY)
        return {
            (
                Mode(mode),
                CohortName(cohort),
                hour,
                context,
                ComboKey(combo),
                Group(group),
            ): Counts(*map(int, sums))
            for mode, cohort, hour, context, combo, group, *sums in self.core.execute(query)
            if any(sums)
        }

    def conversion_sums(self) -> Mapping[ToldKey, int]:
        """Return how many conversions were told, by hour, combo, source and age."""
        told = tables.conversion_count
        found = self.core.execute(select(told).where(told.c.counted_for != _HISTORY))
        return {
            (
                Mode(row.mode),
                CohortName(row.cohort),
                row.hour,
                ComboKey(row.combo_key),
                Group(row.counted_for),
                row.source,
                row.age_bucket,
            ): int(row.conversions)
            for row in found
            if row.conversions
        }

    def replace_counts(self, changes: Changes, from_hour: int) -> None:
        """Put these counters in place of all from an hour on, and add up those of all hours."""
        for table in _COUNTERS:
            by = table.c
            self.core.execute(
                delete(table).where(by.hour >= from_hour, by.counted_for != _HISTORY)
            )
        self.core.execute(
            delete(tables.progress).where(tables.progress.c.name.startswith("fold:"))
        )
        self._add(changes, from_hour)

    def first_hours(self, mode: Mode) -> Mapping[CohortName, int]:
        """Return the hour of the first trigger that the engine itself counted, by cohort."""
        count = tables.combo_count.c
        query = select(count.cohort, func.min(count.hour)).where(
            count.mode == mode.value,
            count.hour != tables.ALL_HOURS,
            count.counted_for != _HISTORY,
        )
        found = self.core.execute(query.group_by(count.cohort))
        return {CohortName(cohort): int(hour) for cohort, hour in found}

    def replace_history(self, mode: Mode, changes: Changes) -> None:
        """Put these counts in the place of all that history has told before."""
        for table in _COUNTERS:
            by = table.c
            self.core.execute(
                delete(table).where(by.mode == mode.value, by.counted_for == _HISTORY)
            )
        self._add(changes, 0)

    def _add(self, changes: Changes, from_hour: int) -> None:
        """Add counters from an hour on, and put the sums of all hours in the place of the old."""
        counted = [
            {**_named(key), **dict(zip(_SUMS, astuple(sums), strict=True))}
            for key, sums in changes.counts.items()
            if key[2] >= from_hour
        ]
        add_up(self.core, tables.combo_count, counted)
        add_up(
            self.core,
            tables.conversion_count,
            [
                {
                    "mode": mode.value,
                    "cohort": cohort,
                    "hour": hour,
                    "combo_key": combo,
                    "counted_for": group.value,
                    "source": source,
                    "age_bucket": bucket,
                    "conversions": number,
                }
                for (mode, cohort, hour, combo, group, source, bucket), number in (
                    changes.conversions.items()
                )
                if number and hour >= from_hour
            ],
        )
        self._add_up_all_hours()

    def told_conversions(
        self, user_ids: Sequence[UserId], names: Sequence[str]
    ) -> Sequence[ToldConversion]:
        """Return the events of these users and names that are still kept, oldest first."""
        kept = tables.event.c
        query = (
            select(kept.user_id, kept.name, kept.happened_at, kept.source)
            .where(kept.user_id.in_(user_ids), kept.name.in_(names))
            .order_by(kept.happened_at)
        )
        return [
            ToldConversion(UserId(user_id), name, Instant(at), source)
            for user_id, name, at, source in self.core.execute(query)
        ]

    def forget_goals(self, goals: Sequence[tuple[UserId, EventName, Instant]]) -> None:
        """Take back that these users reached these goals at these times."""
        table = tables.goal_reached
        key = tuple_(*table.primary_key.columns)
        self.core.execute(delete(table).where(key.in_(goals)))

    def _add_up_all_hours(self) -> None:
        count = tables.combo_count
        self.core.execute(delete(count).where(count.c.hour == tables.ALL_HOURS))
        key = (count.c.mode, count.c.cohort, count.c.combo_key, count.c.counted_for)
        sums = select(*key, *(func.sum(count.c[name]).label(name) for name in _SUMS)).group_by(
            *key
        )
        every = [dict(row) for row in self.core.execute(sums).mappings()]
        add_up(
            self.core, count, [{**row, "hour": tables.ALL_HOURS, "context": ""} for row in every]
        )


def _named(key: CounterKey) -> dict[str, object]:
    mode, cohort, hour, context, combo, group = key
    return {
        "mode": mode.value,
        "cohort": cohort,
        "hour": hour,
        "context": context,
        "combo_key": combo,
        "counted_for": group.value,
    }
