"""The TOML files of a configuration folder: each read once, in order."""

import re
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from experiment_engine.configuration.tables import Mistake, Table, mistake

_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)")


@dataclass(frozen=True)
class ConfigurationFiles:
    """What stands in the folder."""

    engine: Table
    cohorts: Mapping[str, Table]  # by the file's name without .toml
    copy: Mapping[str, Table]
    fingerprint: str


def read_files(folder: Path, found: list[Mistake] | None = None) -> ConfigurationFiles:
    """Read `engine.toml`, `cohorts/*.toml` and `copy/*.toml`; other files are left alone.

    With a list for the mistakes, a file that is no TOML goes there and counts as empty.
    """
    if not folder.is_dir():
        instead = "is no folder" if folder.exists() else "does not exist"
        raise mistake(
            "ENGINE_CONFIG",
            f"{instead}: write the path of a folder with engine.toml, cohorts/ and copy/"
            " (`experiment-engine init` makes one)",
            where=str(folder),
        )
    names = ["engine.toml", *_names(folder, "cohorts"), *_names(folder, "copy")]
    contents = {name: _read(folder, name) for name in sorted(names)}
    tables = {name: _parsed(name, content, found) for name, content in contents.items()}
    return ConfigurationFiles(
        engine=tables["engine.toml"],
        cohorts=_inside("cohorts", tables),
        copy=_inside("copy", tables),
        fingerprint=_fingerprint(contents),
    )


Stamp = tuple[tuple[str, int, int, int], ...]


def stamp(folder: Path) -> Stamp:
    """Return what changes when a file of the folder is written, without reading any."""
    found = []
    for path in (folder / "engine.toml", *folder.glob("cohorts/*"), *folder.glob("copy/*")):
        with suppress(OSError):
            about = path.stat()
            found.append((str(path), about.st_mtime_ns, about.st_size, about.st_ino))
    return tuple(sorted(found))


def _names(folder: Path, inside: str) -> list[str]:
    try:
        names = [path.name for path in (folder / inside).iterdir()]
    except FileNotFoundError:
        return []
    except NotADirectoryError:
        raise mistake(inside, "this is a file: make it a folder of .toml files") from None
    except OSError as error:
        raise mistake(inside, f"the folder cannot be read: {error.strerror}") from None
    wanted = [name for name in names if name.endswith(".toml") and not name.startswith(".")]
    return [f"{inside}/{name}" for name in wanted]


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except FileNotFoundError:
        raise mistake(
            name,
            f"the file is missing in {folder}: copy it from the bundled example",
        ) from None
    except IsADirectoryError:
        raise mistake(name, "this is a folder: put a TOML file of this name here") from None
    except OSError as error:
        raise mistake(name, f"the file cannot be read: {error.strerror}") from None


def _parsed(name: str, content: bytes, found: list[Mistake] | None) -> Table:
    try:
        return _parse(name, content)
    except Mistake as one:
        if found is None:
            raise
        found.append(one)
        return Table(name, (), {})


def _parse(name: str, content: bytes) -> Table:
    try:
        text = content.decode("utf-8-sig")  # an editor on Windows may have put a mark in front
        return Table(name, (), tomllib.loads(text))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise mistake(name, "not UTF-8: save the file as UTF-8", where=f"line {line}") from None
    except tomllib.TOMLDecodeError as error:
        raise _syntax_mistake(name, text, str(error)) from None
    except (ValueError, RecursionError):  # a number of thousands of digits, a thousand brackets
        raise mistake(
            name, "not readable as TOML: a number is too long, or brackets nest too deeply"
        ) from None


def _syntax_mistake(name: str, text: str, complaint: str) -> Mistake:
    place = _PLACE.search(complaint)
    lines = text.split("\n")
    line, column = len(lines), len(lines[-1]) + 1
    if place is not None and place[1]:
        line, column = int(place[1]), int(place[2])
    return mistake(
        name,
        f"this is not TOML ({_PLACE.sub('', complaint)}): write key = value, once for each key,"
        ' with texts and durations in quotes, such as per = "7d"',
        where=f"line {line}, column {column}",
    )


def _inside(folder: str, tables: Mapping[str, Table]) -> dict[str, Table]:
    start = f"{folder}/"
    return {
        name.removeprefix(start).removesuffix(".toml"): table
        for name, table in tables.items()
        if name.startswith(start)
    }


def _fingerprint(contents: Mapping[str, bytes]) -> str:
    digest = blake2b(digest_size=16)
    for name, content in contents.items():
        digest.update(f"{name}\0{len(content)}\0".encode("utf-8", "surrogateescape"))
        digest.update(content)
    return digest.hexdigest()
