"""`export`: experiments and events out of the database, for other programs."""

import json as json_text
import os
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from experiment_engine import bootstrap
from experiment_engine.adapters.tabular.table_files import to_csv, write_csv, write_parquet
from experiment_engine.application.export import Column, Row, Wanted, What, rows_of
from experiment_engine.domain.errors import WrongUse
from experiment_engine.domain.moments import to_instant
from experiment_engine.settings import read_settings

_STDOUT = "-"
_WRITERS = {".csv": write_csv, ".parquet": write_parquet}


def export(
    file: Annotated[
        str,
        Parameter(
            name="FILE",
            help="Ends in .csv or .parquet; - for CSV on standard output.",
            allow_leading_hyphen=True,
        ),
    ],
    /,
    *,
    what: What = "experiments",
    since: Annotated[
        datetime | None,
        Parameter(help="Decided (events: received) from then on, ISO 8601; UTC without a zone."),
    ] = None,
    until: Annotated[datetime | None, Parameter(help="Before then; else up to now.")] = None,
    cohort: Annotated[str | None, Parameter(help="Experiments of one cohort.")] = None,
    raw: Annotated[
        bool, Parameter(help="Events with their bodies as they came: all that is personal.")
    ] = False,
    json: Annotated[bool, Parameter(help="Answer as JSON.")] = False,
) -> None:
    """Write experiments or events into a file, as CSV or Parquet, beside a running server.

    Rows are read page by page, each as it stands then, so that memory stays the same and nobody
    waits. The file is new, and for its owner alone. Parquet needs the extra `parquet`. In CSV a
    text that a spreadsheet would run as a formula has a ' in front. No settings and no secrets
    are in it. Personal are user_id, title, body and context of experiments, and user_id of
    events; with --raw, raw too.
    """
    wanted = Wanted(
        what=what,
        since=to_instant(since or datetime.min.replace(tzinfo=UTC)),
        until=to_instant(until or datetime.max.replace(tzinfo=UTC)),
        cohort=cohort,
        raw=raw,
    )
    _refuse_what_makes_no_sense(wanted, file)
    with bootstrap.open_ledger(read_settings(os.environ)) as ledger, _bar() as bar:
        task = bar.add_task(what, total=ledger.number(what))
        rows = rows_of(wanted, ledger, lambda done: bar.update(task, completed=done))
        number = _write(file, wanted.columns, rows)
    if file == _STDOUT:
        return
    if json:
        answer = {"file": file, "what": what, "rows": number}
        print(json_text.dumps(answer))  # noqa: T201 - the command's answer
    else:
        print(f"{number:,} {what} in {file}.")  # noqa: T201


def _refuse_what_makes_no_sense(wanted: Wanted, file: str) -> None:
    if wanted.what == "events" and wanted.cohort is not None:
        raise WrongUse("--cohort: events belong to no cohort: leave it out")
    if wanted.what == "experiments" and wanted.raw:
        raise WrongUse("--raw: only events have a body: write --what events")
    if file != _STDOUT and Path(file).suffix not in _WRITERS:
        raise WrongUse(f'FILE: "{file}": name a file that ends in .csv or .parquet')


def _write(file: str, columns: tuple[Column, ...], rows: Iterable[Row]) -> int:
    if file == _STDOUT:
        return to_csv(sys.stdout, columns, rows)
    return _WRITERS[Path(file).suffix](Path(file), columns, rows)


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
