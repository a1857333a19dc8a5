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


class Mistake(ConfigurationError):
    """What is wrong with one place of the folder."""

    def __init__(
        self, place: str, text: str, at: tuple[str, tuple[str, ...]], stand_in: object = None
    ) -> None:
        self.text = _one_line(text)
        self.file, self.path = at
        self.stand_in = stand_in  # with what reading could go on there; None: with nothing
        self.meant: str | None = None  # the key that was meant by the last one of the path
        super().__init__(_one_line(f"{place}: {text}"))


def mistake(
    file: str,
    text: str,
    path: tuple[str, ...] = (),
    *,
    where: str = "",
    stand_in: object = None,
) -> Mistake:
    """Make the error of one line about a file, a key in it, or another place of it (`where`)."""
    shown = where or dotted(path)
    return Mistake(f"{file}: {shown}" if shown else file, text, (file, path), stand_in)


def _one_line(text: str) -> str:
    """Return a text that what a file brings into it cannot break."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


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
    close = _close(name, known)
    guess = f'; did you mean "{close}"?' if close else "."
    return f"{guess} {what}: {', '.join(known) or 'nothing'}."


def _close(name: str, known: Iterable[str]) -> str | None:
    close = get_close_matches(name[:_SHOWN], list(known), n=1, cutoff=0.5)
    return close[0] if close else None


def dotted(path: Iterable[str]) -> str:
    """Join the parts of a key as TOML writes them."""
    return ".".join(part if _BARE_KEY.fullmatch(part) else show(part) for part in path)


@dataclass(frozen=True)
class Table:
    """One table of one file. `only` first, so that a slip in a key is named as such.

    What a reader asks of it is the configuration's schema too (`schema.py` listens).
    """

    file: str
    path: tuple[str, ...]
    values: Mapping[str, object]

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)

    def mistake(self, key: str | None, text: str, stand_in: object = None) -> Mistake:
        """Make an error about a key of this table, or about the table itself."""
        path = self.path if key is None else (*self.path, key)
        return mistake(self.file, text, path, stand_in=stand_in)

    def unknown(self, key: str, allowed: Iterable[str], what: str = "key") -> Mistake:
        """Make the error about a name that does not exist."""
        known = list(allowed)
        one = self.mistake(key, f"there is no such {what}{nearest(key, known)}")
        one.meant = _close(key, known)
        return one

    def only(self, *allowed: str) -> "Table":
        """Refuse every other key."""
        for key in self.values:
            if key not in allowed:
                raise self.unknown(key, allowed)
        return self

    def need(self, key: str, kind: Kind[T]) -> T:
        """Read a value that must be there."""
        if key not in self.values:
            raise self.mistake(key, f"is missing: write {kind.expected}", kind.stand_in)
        return self._read(key, kind)

    def get(self, key: str, kind: Kind[T], default: D) -> T | D:
        """Read a value, or take the default."""
        return self._read(key, kind) if key in self.values else default

    def table(self, key: str) -> "Table":
        """Return a table inside this one; one that is left out is empty."""
        return Table(self.file, (*self.path, key), self._inside(key))

    def named(self, key: str) -> "Table":
        """Return a table inside this one whose name is the user's own."""
        return self.table(key)

    def tables(self) -> Iterator[tuple[str, "Table"]]:
        """Walk through the tables inside this one, which have names of the user's own."""
        return ((key, self.named(key)) for key in self.values)

    def each(self, kind: Kind[T], names: str | None = None) -> dict[str, T]:  # noqa: ARG002
        """Read all values of a table whose keys are names of the user's own.

        `names` is for editors alone: the pattern of such a name, which the caller checks.
        """
        return {key: self._read(key, kind) for key in self.values}

    def _inside(self, key: str) -> Mapping[str, object]:
        value = self.values.get(key, {})
        if not isinstance(value, dict):
            header = dotted((*self.path, key))
            raise self.mistake(key, f"{show(value)} is not a table: write [{header}]")
        return value

    def _read(self, key: str, kind: Kind[T]) -> T:
        found = self.values[key]
        value = kind.read(found)
        if value is None:
            text = f"{show(found)} does not fit: write {kind.expected}"
            raise self.mistake(key, text, kind.stand_in)
        return value
