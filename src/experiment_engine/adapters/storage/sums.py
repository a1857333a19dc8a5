"""Writing rows whose keys may be there already, on either database."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def add_up(connection: Connection, table: Table, rows: Sequence[Mapping[str, object]]) -> None:
    """Add these rows to those with their keys, in the order of the keys; new keys are new rows."""
    if not rows:
        return
    keys = [column.name for column in table.primary_key.columns]
    adding = _insert(connection, table)
    grown = {
        column.name: column + adding.excluded[column.name]
        for column in table.columns
        if column.name not in keys
    }
    statement = adding.on_conflict_do_update(index_elements=keys, set_=grown)
    connection.execute(statement, sorted(rows, key=lambda row: [row[key] for key in keys]))


def insert_or_leave(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, object]]
) -> int:
    """Insert the rows whose keys are new, in the order of the keys; return how many of one."""
    if not rows:
        return 0
    keys = [column.name for column in table.primary_key.columns]
    statement = _insert(connection, table).on_conflict_do_nothing(index_elements=keys)
    ordered = sorted(rows, key=lambda row: [row[key] for key in keys])
    return connection.execute(statement, ordered).rowcount


def _insert(connection: Connection, table: Table) -> Any:
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    return dialect.insert(table)
