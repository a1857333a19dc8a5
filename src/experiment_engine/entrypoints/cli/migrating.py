"""`migrate`: bring the database to this version's schema, or a SQLite database into PostgreSQL."""

import os
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from experiment_engine import bootstrap
from experiment_engine.domain.errors import ConfigurationError, WrongUse
from experiment_engine.settings import read_settings


def migrate(
    *,
    source: Annotated[
        str | None,
        Parameter(
            name="--from",
            help="A SQLite database, sqlite:///..., to copy into the PostgreSQL one that"
            " DATABASE_URL names. It goes on where it was interrupted, and opens paused.",
        ),
    ] = None,
) -> None:
    """Bring the database's schema to the one this version needs; safe to repeat."""
    settings = read_settings(os.environ)
    if source is None:
        before, after = bootstrap.migrate(settings)
        if before == after:
            print(f"The schema is up to date ({after}).")  # noqa: T201 - the command's answer
        else:
            print(f"The schema went from {before or 'nothing'} to {after}.")  # noqa: T201
        return
    if settings.is_sqlite:
        raise ConfigurationError(
            "DATABASE_URL: is where the copy goes: write postgresql://user:password@host:5432/name"
        )
    old = read_settings({"DATABASE_URL": source}, env_file=None)
    if not old.is_sqlite:
        raise WrongUse("--from: copies from SQLite: write sqlite:///path/to/engine.db")
    with _Bars() as bars:
        counts = bootstrap.copy_to_postgresql(old, settings, bars.show)
    print(f"Copied {sum(counts.values())} rows of {len(counts)} tables; the counts agree.")  # noqa: T201
    print(  # noqa: T201
        "The copy is paused. Stop the old engine for good, start `serve` on the new database, and"
        " resume it: POST /api/resume."
    )


class _Bars(Progress):
    """A bar for each table, on the standard error."""

    def __init__(self) -> None:
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            console=Console(stderr=True),
        )
        self._tables: dict[str, TaskID] = {}

    def show(self, table: str, done: int, rows: int) -> None:
        """Move the bar of a table."""
        if table not in self._tables:
            self._tables[table] = self.add_task(table, total=rows)
        self.update(self._tables[table], completed=done)
