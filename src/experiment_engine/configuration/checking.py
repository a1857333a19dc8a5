"""Every mistake of a configuration folder that can be told at once, not the first alone.

After a mistake the place is put right in memory, so that reading goes on behind it. What could
follow from that alone is not told: it is looked at when the folder is checked again.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from experiment_engine.configuration.files import ConfigurationFiles, read_files
from experiment_engine.configuration.loading import read
from experiment_engine.configuration.tables import Mistake, Table
from experiment_engine.domain.errors import ConfigurationError

MOST = 100  # mistakes told at once

Place = tuple[str, tuple[str, ...]]  # file, path


@dataclass
class Findings:
    """What is wrong with a folder."""

    mistakes: list[ConfigurationError] = field(default_factory=list)
    unchecked: bool = False  # what rests on the combos waits until these are right


def check(folder: Path) -> Findings:
    """Return all mistakes that can be told at once; none means that the folder loads."""
    broken: list[Mistake] = []
    findings = Findings()
    try:
        files = read_files(folder, broken)
    except ConfigurationError as only:
        return Findings([only])
    findings.mistakes += broken
    findings.unchecked = bool(broken)
    _Search(files, findings, {(one.file, ()) for one in broken}).run()
    return findings


@dataclass
class _Search:
    """Reads again and again, each time with the last mistake put right."""

    files: ConfigurationFiles
    findings: Findings
    told: set[Place]
    tried: set[tuple[str, tuple[str, ...], str]] = field(default_factory=set)

    def run(self) -> None:
        for _ in range(4 * MOST):
            try:
                read(self.files)
            except Mistake as one:
                self._tell(one)
                if not self._put_right(one):
                    return
            except ConfigurationError as one:  # of no place: nothing can be put right
                self.findings.mistakes.append(one)
                return
            else:
                return
            if len(self.findings.mistakes) >= MOST:
                self.findings.unchecked = True
                return

    def _tell(self, one: Mistake) -> None:
        known = any((one.file, one.path[:end]) in self.told for end in range(len(one.path) + 1))
        follows = self.findings.unchecked and _rests_on_combos(one)
        if not known and not follows:
            self.findings.mistakes.append(one)
        self.told.add((one.file, one.path))
        self.findings.unchecked |= one.path[:1] == ("combos",) or not one.path

    def _put_right(self, one: Mistake) -> bool:
        """Put what was meant or a stand-in there, or take it out; at last take out what is around.

        Returns whether there was anything to change.
        """
        path = one.path
        table = self._table(one.file)
        renamed = () if one.meant is None else (partial(_rename, path=path, meant=one.meant),)
        for change in (*renamed, partial(_put, path=path, stand_in=one.stand_in), _out(path)):
            tried = (one.file, path, repr(change.keywords))
            if table is None or not path or tried in self.tried:
                continue
            self.tried.add(tried)
            values = deepcopy(dict(table.values))
            if change(values):
                self._keep(replace(table, values=values))
                return True
        return self._take_out_around(one)

    def _take_out_around(self, one: Mistake) -> bool:
        """Take out the table around a place that cannot be put right, and in the end the file."""
        table = self._table(one.file)
        for end in range(len(one.path) - 1, 0, -1):
            values = deepcopy(dict(table.values)) if table is not None else {}
            if table is not None and _out(one.path[:end])(values):
                self.told.add((one.file, one.path[:end]))
                self._keep(replace(table, values=values))
                return True
        self.told.add((one.file, ()))
        self.findings.unchecked = True
        return self._without(one.file)

    def _table(self, file: str) -> Table | None:
        for table in (self.files.engine, *self.files.cohorts.values(), *self.files.copy.values()):
            if table.file == file:
                return table
        return None

    def _keep(self, changed: Table) -> None:
        self._edit(lambda table: changed if table.file == changed.file else table)

    def _without(self, file: str) -> bool:
        if self._table(file) is None or file == self.files.engine.file:
            return False
        self._edit(lambda table: None if table.file == file else table)
        return True

    def _edit(self, change: Callable[[Table], Table | None]) -> None:
        files = self.files
        self.files = replace(
            files,
            engine=change(files.engine) or files.engine,
            cohorts=_changed(files.cohorts, change),
            copy=_changed(files.copy, change),
        )


def _changed(tables: Any, change: Callable[[Table], Table | None]) -> dict[str, Table]:
    changed = {name: change(table) for name, table in tables.items()}
    return {name: table for name, table in changed.items() if table is not None}


def _rename(values: dict[str, Any], path: tuple[str, ...], meant: str) -> bool:
    around = _around(values, path)
    if around is None or path[-1] not in around:
        return False
    wrong = around.pop(path[-1])
    around[meant] = _merged(wrong, around[meant]) if meant in around else wrong
    return True


def _merged(one: Any, other: Any) -> Any:
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return other
    return one | {key: _merged(one.get(key), value) for key, value in other.items()}


def _put(values: dict[str, Any], path: tuple[str, ...], stand_in: object) -> bool:
    """Put a value in, or with None take it out; return whether that changed anything."""
    around = _around(values, path)
    if around is None:
        return False
    before = around.pop(path[-1], None)
    if stand_in is not None:
        around[path[-1]] = stand_in
    return bool(before != stand_in)


def _out(path: tuple[str, ...]) -> partial[bool]:
    return partial(_put, path=path, stand_in=None)


def _around(values: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any] | None:
    for key in path[:-1]:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            return None
    return values


_ON_COMBOS = {"campaigns", "offers", "placeholders", "lean", "window"}


def _rests_on_combos(one: Mistake) -> bool:
    return one.file.startswith("copy/") or bool(_ON_COMBOS & set(one.path))
