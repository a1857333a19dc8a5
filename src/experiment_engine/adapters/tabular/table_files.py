"""Rows into files that other programs read: CSV, and Parquet by DuckDB.

Both are written beside their place and moved there when they are whole; memory stays the same
whatever their length.
"""

import csv
import json
import os
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from experiment_engine.application.export import Column, Row
from experiment_engine.domain.errors import EngineError, MissingExtra
from experiment_engine.domain.moments import Instant, iso

_TYPES = {
    "text": "VARCHAR",
    "truth": "BOOLEAN",
    "whole": "BIGINT",
    "number": "DOUBLE",
    "time": "TIMESTAMPTZ",
}
# A spreadsheet takes a cell that begins with one of these for a formula, also in its wide form.
_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
_MARK = "'"


def write_csv(path: Path, columns: Sequence[Column], rows: Iterable[Row]) -> int:
    """Write a CSV file with a head; return the number of rows.

    A text that a spreadsheet would run, or that begins with ', gets a ' in front: take one away
    to have it back.
    """
    with _beside(path) as part, part.open("x", encoding="utf-8", newline="") as file:
        return to_csv(file, columns, rows)


def to_csv(file: IO[str], columns: Sequence[Column], rows: Iterable[Row]) -> int:
    """Write CSV; return the number of rows."""
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow(column.name for column in columns)
    number = 0
    for row in rows:
        writer.writerow(_cell(column, value) for column, value in zip(columns, row, strict=True))
        number += 1
    return number


def _cell(column: Column, value: object) -> object:
    said = _said(column, value)
    if isinstance(said, bool):
        return "true" if said else "false"
    if isinstance(said, str) and said.startswith((*_FORMULA, _MARK)):
        return _MARK + said
    return "" if said is None else said


def _said(column: Column, value: object) -> object:
    if value is None:
        return None
    if column.kind == "time" and isinstance(value, int):
        return iso(Instant(value))
    if column.kind == "truth":
        return bool(value)
    return value


def write_parquet(path: Path, columns: Sequence[Column], rows: Iterable[Row]) -> int:
    """Write a Parquet file, by DuckDB, which reads the rows from a pipe; return their number.

    Raises MissingExtra where DuckDB is not installed.
    """
    try:
        import duckdb  # noqa: PLC0415 - an extra: the engine runs without it
    except ImportError:
        raise MissingExtra(
            "Parquet needs DuckDB: pip install 'experiment-engine[parquet]', or write CSV"
        ) from None
    with _beside(path) as part, tempfile.TemporaryDirectory() as folder:
        pipe = Path(folder) / "rows"
        os.mkfifo(pipe, 0o600)
        feeding = _Feeding(pipe, columns, rows)
        feeding.start()
        types = ", ".join(f"'{column.name}': '{_TYPES[column.kind]}'" for column in columns)
        try:
            with duckdb.connect(":memory:", config={"memory_limit": "512MB", "threads": 1}) as db:
                db.execute(
                    f"COPY (SELECT * FROM read_json($rows, format = 'newline_delimited',"  # noqa: S608
                    f" maximum_object_size = {_LARGEST_ROW}, columns = {{{types}}}))"
                    " TO $file (FORMAT parquet, COMPRESSION zstd)".replace(
                        "$rows", _quoted(pipe)
                    ).replace("$file", _quoted(part))
                )
        except duckdb.Error as error:
            feeding.give_up()
            raise feeding.failure or EngineError(
                f"{path} cannot be written: {str(error).splitlines()[0]}"
            ) from None
        feeding.join()
        if feeding.failure is not None:
            raise feeding.failure
        return feeding.number


_LARGEST_ROW = 1 << 26  # bytes; a request has at most one MiB


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


class _Feeding(threading.Thread):
    """Writes rows into a pipe as lines of JSON."""

    def __init__(self, pipe: Path, columns: Sequence[Column], rows: Iterable[Row]) -> None:
        super().__init__(name="export", daemon=True)
        self._pipe, self._columns, self._rows = pipe, columns, rows
        self.number = 0
        self.failure: BaseException | None = None

    def run(self) -> None:
        """Write all rows; what fails is kept for who waits."""
        try:
            with self._pipe.open("w", encoding="utf-8") as file:
                for row in self._rows:
                    pairs = zip(self._columns, row, strict=True)
                    line = {column.name: _said(column, value) for column, value in pairs}
                    file.write(json.dumps(line) + "\n")
                    self.number += 1
        except BrokenPipeError:
            pass  # the reader has gone, and says why itself
        except BaseException as failure:  # noqa: BLE001 - raised again where it is waited for
            self.failure = failure

    def give_up(self) -> None:
        """Let the thread end that waits for a reader."""
        with suppress(OSError):
            os.close(os.open(self._pipe, os.O_RDONLY | os.O_NONBLOCK))
        self.join()


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Give a name beside the file, for its owner alone, and move it there when it is whole."""
    if path.exists():
        raise EngineError(f"{path} is there already: name another file, or move it away")
    part = path.with_name(path.name + ".part")
    umask = os.umask(0o077)
    try:
        part.unlink(missing_ok=True)
        yield part
        part.replace(path)
    except OSError as error:
        raise EngineError(f"{path} cannot be written: {error.strerror}") from None
    finally:
        os.umask(umask)
        with suppress(OSError):
            part.unlink(missing_ok=True)
