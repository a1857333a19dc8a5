"""Sums that grow by addition: one way to add to them, and folding hours into days and months."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, delete, func, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from experiment_engine.adapters.storage import tables
from experiment_engine.domain.delivery.experiment import Mode
from experiment_engine.domain.identifiers import CohortName

_KEY = [column.name for column in tables.combo_count.primary_key.columns]
_SUMS = [column.name for column in tables.combo_count.columns if column.name not in _KEY]


def add_up(connection: Connection, table: Table, rows: Sequence[Mapping[str, object]]) -> None:
    """Add these rows to those with their keys, in the order of the keys; new keys are new rows."""
    if not rows:
        return
    keys = [column.name for column in table.primary_key.columns]
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    adding: Any = dialect.insert(table)
    grown = {
        column.name: column + adding.excluded[column.name]
        for column in table.columns
        if column.name not in keys
    }
    statement = adding.on_conflict_do_update(index_elements=keys, set_=grown)
    connection.execute(statement, sorted(rows, key=lambda row: [row[key] for key in keys]))


@dataclass(frozen=True)
class FoldingStatements:
    """Hours of the counters become days, and days months, a few rows at a time."""

    core: Connection

    def fold_counts(
        self, mode: Mode, cohort: CohortName, *, span: int, before: int, limit: int
    ) -> int:
        """Move at most `limit` rows older than hour `before` to the first hour of their span.

        Spans of `span` hours count from 1970. Returns how many rows were moved.
        """
        count = tables.combo_count.c
        mine = (count.mode == mode.value, count.cohort == cohort)
        name = f"fold:{span}:{mode.value}:{cohort}"
        done = self._position(name)
        hour = self.core.execute(
            select(func.min(count.hour)).where(
                *mine, count.hour >= done, count.hour < before, count.hour % span != 0
            )
        ).scalar()
        if hour is None:
            return 0
        moved = self._take_rows((*mine, count.hour == hour), limit)
        add_up(self.core, tables.combo_count, _gathered(moved, hour - hour % span))
        self._set_position(name, hour)
        return len(moved)

    def _take_rows(self, mine: Sequence[Any], limit: int) -> list[dict[str, Any]]:
        table = tables.combo_count
        key = tuple_(*table.primary_key.columns)
        some = select(*table.primary_key.columns).where(*mine).limit(limit)
        taken = self.core.execute(delete(table).where(key.in_(some)).returning(*table.columns))
        return [dict(row) for row in taken.mappings()]

    def _position(self, name: str) -> int:
        progress = tables.progress.c
        found = self.core.execute(select(progress.position).where(progress.name == name)).scalar()
        return int(found or 0)

    def _set_position(self, name: str, position: int) -> None:
        self.core.execute(delete(tables.progress).where(tables.progress.c.name == name))
        self.core.execute(tables.progress.insert().values(name=name, position=str(position)))


def _gathered(rows: Sequence[Mapping[str, Any]], hour: int) -> list[Mapping[str, object]]:
    sums: dict[tuple[object, ...], dict[str, Any]] = {}
    for row in rows:
        moved = {**row, "hour": hour}
        key = tuple(moved[name] for name in _KEY)
        known = sums.setdefault(key, {**moved, **dict.fromkeys(_SUMS, 0)})
        for name in _SUMS:
            known[name] += row[name]
    return list(sums.values())
