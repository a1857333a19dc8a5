"""Amplitude's export files: events one a line, in `.json`, `.json.gz`, or a zip of these.

Facts: https://amplitude.com/docs/apis/analytics/export.
"""

import gzip
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from experiment_engine.adapters.amplitude.payload import parse
from experiment_engine.domain.errors import ConfigurationError, NotUnderstood
from experiment_engine.domain.events import Fact, Source, Unreadable

_ENDINGS = (".json", ".jsonl", ".json.gz", ".zip")


def files_of(paths: list[Path]) -> list[Path]:
    """Return the export files among these and below the folders among these, by their names.

    Raises ConfigurationError for what is no export file, and where there is none.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += [one for one in path.rglob("*") if one.name.endswith(_ENDINGS)]
        elif path.is_file() and path.name.endswith(_ENDINGS):
            found.append(path)
        else:
            raise ConfigurationError(
                f"{path}: is no export file or folder: name files that end with"
                f" {', '.join(_ENDINGS)}, as Amplitude's Export API gives them"
            )
    if not found:
        raise ConfigurationError(f"{paths[0]}: no file below it ends with {', '.join(_ENDINGS)}")
    return sorted(found)


def facts_of(path: Path) -> Iterator[Fact]:
    """Return what a file tells, line by line; a line that is no event is Unreadable.

    Raises ConfigurationError for a file that is broken as a whole.
    """
    try:
        if path.name.endswith(".zip"):
            with zipfile.ZipFile(path) as archive:
                for member in sorted(archive.namelist()):
                    if member.endswith(_ENDINGS[:3]):
                        with archive.open(member) as packed:
                            yield from _facts(packed, member)
        else:
            with path.open("rb") as plain:
                yield from _facts(plain, path.name)
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigurationError(f"{path}: cannot be read ({error}): export it again") from error


def _facts(stream: IO[bytes], name: str) -> Iterator[Fact]:
    if name.endswith(".gz"):
        with gzip.GzipFile(fileobj=stream) as unpacked:
            yield from _lines(unpacked)
    else:
        yield from _lines(stream)


def _lines(stream: Iterable[bytes]) -> Iterator[Fact]:
    for line in stream:
        if line.strip():
            yield from _line(line.strip())


def _line(line: bytes) -> list[Fact]:
    try:
        return parse(line)
    except NotUnderstood:
        return [Unreadable("not_json", line, Source.AMPLITUDE)]
