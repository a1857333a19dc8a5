"""A TOML table that knows its file and place, so that every mistake can name them."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeVar

from experiment_engine.configuration.kinds import Kind
from experiment_engine.domain.errors import ConfigurationError

T = TypeVar("T")
D = TypeVar("D")

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SHOWN = 60  # characters of a value in a message


def mistake(place: str, text: str) -> ConfigurationError:
    """Make the error of one line; what a file brings into it cannot break the line."""
    line = f"{place}: {text}"
    return ConfigurationError(
        "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    )


def show(value: object) -> str:
    """Write a value for a message: short, and as it would stand in the file."""
    if isinstance(value, str):
        cut = value if len(value) <= _SHOWN else value[:_SHOWN] + "..."
        return json.dumps(cut, ensure_ascii=False)
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, int) and abs(value) >= 10**20:
        return "a huge number"
    return str(value).lower()  # true, false, 0.5, nan, 2026-01-01


def nearest(name: str, allowed: Iterable[str], what: str = "Allowed here") -> str:
    """Name what was probably meant, and everything that could have been."""
    known = list(allowed)
    close = get_close_matches(name[:_SHOWN], known, n=1, cutoff=0.5)
    guess = f'; did you mean "{close[0]}"?' if close else "."
    return f"{guess} {what}: {', '.join(known) or 'nothing'}."


def dotted(path: Iterable[str]) -> str:
    """Join the parts of a key as TOML writes them."""
    return ".".join(part if _BARE_KEY.fullmatch(part) else show(part) for part in path)


@dataclass(frozen=True, slots=True)
class Table:
    """One table of one file. `only` first, so that a slip in a key is named as such."""

    file: str
    path: tuple[str, ...]
    values: Mapping[str, object]

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)

    def mistake(self, key: str | None, text: str) -> ConfigurationError:
        """Make an error about a key of this table, or about the table itself."""
        path = self.path if key is None else (*self.path, key)
        return mistake(f"{self.file}: {dotted(path)}" if path else self.file, text)

    def unknown(self, key: str, allowed: Iterable[str], what: str = "key") -> ConfigurationError:
        """Make the error about a name that does not exist."""
        return self.mistake(key, f"there is no such {what}{nearest(key, allowed)}")

    def only(self, *allowed: str) -> "Table":
        """Refuse every other key."""
        for key in self.values:
            if key not in allowed:
                raise self.unknown(key, allowed)
        return self

    def need(self, key: str, kind: Kind[T]) -> T:
        """Read a value that must be there."""
        if key not in self.values:
            raise self.mistake(key, f"is missing: write {kind.expected}")
        return self._read(key, kind)

    def get(self, key: str, kind: Kind[T], default: D) -> T | D:
        """Read a value, or take the default."""
        return self._read(key, kind) if key in self.values else default

    def table(self, key: str) -> "Table":
        """Return a table inside this one; one that is left out is empty."""
        value = self.values.get(key, {})
        if not isinstance(value, dict):
            header = dotted((*self.path, key))
            raise self.mistake(key, f"{show(value)} is not a table: write [{header}]")
        return Table(self.file, (*self.path, key), value)

    def tables(self) -> Iterator[tuple[str, "Table"]]:
        """Walk through the tables inside this one, which have names of the user's own."""
        return ((key, self.table(key)) for key in self.values)

    def each(self, kind: Kind[T]) -> dict[str, T]:
        """Read all values of a table whose keys are names of the user's own."""
        return {key: self._read(key, kind) for key in self.values}

    def _read(self, key: str, kind: Kind[T]) -> T:
        value = kind.read(self.values[key])
        if value is None:
            raise self.mistake(
                key, f"{show(self.values[key])} does not fit: write {kind.expected}"
            )
        return value
