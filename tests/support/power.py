"""What a process wrote, synced and answered, in order; and what a power cut leaves of it.

A recording is a log of strace with the bytes of every write. A cut at some moment keeps of each
file what was written before its last sync had begun, and of the rest nothing, some, or all but
the end of the last write, as a disk with a cache may.
"""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

Name = Literal["database", "log"]
Mode = Literal["nothing", "some", "torn"]

RECORDED = ("pwrite64", "fdatasync", "fsync", "ftruncate", "unlink", "write", "writev", "sendto")
LONGEST = 1 << 16  # bytes of a write that are recorded
MODES: Sequence[Mode] = get_args(Mode)

_SECTOR = 512  # bytes that a disk writes whole
_FRAME_HEADER = 24  # bytes before each page in SQLite's log
_LINE = re.compile(r"(\d+) +(\w+)\((.*)")
_RESUMED = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>(.*)")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_FILE = re.compile(r"(?:\d+<|\")((?:\\x[0-9a-f]{2})+)[>\"]")
_TAIL = re.compile(r", (-?\d+)(?:, (\d+))? *\)? += (-?\d+)")
_RESULTS = b'{"results":['  # how the body of a webhook's 200 begins, and nothing else
_EXPERIMENT = re.compile(rb'"experiment_id":"([0-9a-f-]{36})"')


@dataclass(frozen=True, slots=True)
class Change:
    """A write, or a cut to a length; its times are lines of the recording."""

    begun: int
    ended: int
    offset: int
    data: bytes | None  # None cuts the file at the offset


@dataclass(frozen=True, slots=True)
class Answer:
    """The experiments that an answer 2xx told somebody of, and when it began to go out."""

    begun: int
    experiments: frozenset[bytes]


@dataclass
class Recording:
    """Changes and syncs of both files, and the answers."""

    base: Mapping[Name, bytes]
    changes: dict[Name, list[Change]] = field(default_factory=lambda: {"database": [], "log": []})
    syncs: dict[Name, list[tuple[int, int]]] = field(
        default_factory=lambda: {"database": [], "log": []}
    )
    answers: list[Answer] = field(default_factory=list)
    length: int = 0

    @classmethod
    def read(cls, log: Path, database: bytes) -> "Recording":
        """Read a log; `database` is the file as it was before."""
        recording = cls({"database": database, "log": b""})
        for call in _calls(log):
            recording._add(call)
            recording.length = call.ended
        return recording

    def _add(self, call: "_Call") -> None:
        if call.name in ("write", "writev", "sendto"):
            told = b"".join(_texts(call.text))
            if _RESULTS in told and (ids := _EXPERIMENT.findall(told)):
                self.answers.append(Answer(call.begun, frozenset(ids)))
            return
        name = _name(call.text)
        if name is None or call.failed:
            return
        match call.name:
            case "pwrite64":
                (data,), tail = _texts(call.text), _TAIL.search(call.text)
                assert tail is not None, call.text[-100:]
                assert len(data) == int(tail[1]) == int(tail[3]), "a write is not whole here"
                change = Change(call.begun, call.ended, int(tail[2]), data)
                self.changes[name].append(change)
            case "ftruncate":
                tail = _TAIL.search(call.text)
                assert tail is not None
                self.changes[name].append(Change(call.begun, call.ended, int(tail[1]), None))
            case "unlink":
                self.changes[name].append(Change(call.begun, call.ended, 0, None))
            case _:
                self.syncs[name].append((call.begun, call.ended))

    def unsynced(self) -> list[Answer]:
        """Return the answers that went out before their transactions were synced."""
        return [answer for answer in self.answers if not self._is_synced(answer)]

    def _is_synced(self, answer: Answer) -> bool:
        committed = max(self._commit_of(experiment) for experiment in answer.experiments)
        return any(
            committed < begun and ended < answer.begun for begun, ended in self.syncs["log"]
        )

    def _commit_of(self, experiment: bytes) -> int:
        """Return when the last page of the transaction that wrote an experiment was in the log."""
        changes = self.changes["log"]
        first = next(n for n, one in enumerate(changes) if one.data and experiment in one.data)
        for number in range(first - 1, len(changes)):
            header = changes[number].data
            if header is not None and len(header) == _FRAME_HEADER and any(header[4:8]):
                return changes[number + 1].ended
        raise AssertionError("the recording ends within a transaction")

    def told_before(self, moment: int) -> frozenset[bytes]:
        """Return the experiments whose answers may have been read by then."""
        told = [answer.experiments for answer in self.answers if answer.begun <= moment]
        return frozenset().union(*told)

    def cut(self, moment: int, mode: Mode, chance: random.Random) -> dict[Name, bytes]:
        """Return what the files are when the power has gone at a moment."""
        return {name: self._left(name, moment, mode, chance) for name in self.changes}

    def _left(self, name: Name, moment: int, mode: Mode, chance: random.Random) -> bytes:
        synced = max((begun for begun, ended in self.syncs[name] if ended <= moment), default=-1)
        content = bytearray(self.base[name])
        loose: list[Change] = []
        for change in self.changes[name]:
            if change.ended <= synced:
                _apply(content, change)
            elif change.begun <= moment:
                loose.append(change)
        for change in _kept(loose, mode, chance):
            _apply(content, change)
        return bytes(content)


def _kept(loose: Sequence[Change], mode: Mode, chance: random.Random) -> Iterator[Change]:
    if mode == "some":
        yield from (change for change in loose if chance.random() < 0.5)
    if mode == "torn" and loose:
        yield from loose[:-1]
        last = loose[-1]
        if last.data is not None:
            sectors = chance.randrange(1 + len(last.data) // _SECTOR)
            torn = last.data[: sectors * _SECTOR]
            yield Change(last.begun, last.ended, last.offset, torn)


def _apply(content: bytearray, change: Change) -> None:
    if change.data is None:
        del content[change.offset :]
        content.extend(bytes(change.offset - len(content)))
        return
    content.extend(bytes(max(0, change.offset - len(content))))
    content[change.offset : change.offset + len(change.data)] = change.data


# The log of strace


@dataclass(frozen=True, slots=True)
class _Call:
    name: str
    text: str
    begun: int
    ended: int

    @property
    def failed(self) -> bool:
        return " = -1 " in self.text[-80:]


def _calls(log: Path) -> Iterator[_Call]:
    """Go through the system calls in the order of their ends."""
    begun: dict[str, tuple[str, str, int]] = {}
    with log.open(encoding="ascii") as lines:
        for number, line in enumerate(lines):
            if resumed := _RESUMED.match(line):
                name, text, since = begun.pop(resumed[1])
                yield _Call(name, text + resumed[3], since, number)
            elif started := _LINE.match(line):
                thread, name, text = started.groups()
                if text.endswith("<unfinished ...>"):
                    begun[thread] = (name, text.removesuffix("<unfinished ...>"), number)
                else:
                    yield _Call(name, text, number, number)


def _texts(text: str) -> list[bytes]:
    return [bytes.fromhex(found.replace("\\x", "")) for found in _TEXT.findall(text)]


def _name(text: str) -> Name | None:
    """Return which of the files a call is about."""
    found = _FILE.match(text)
    path = bytes.fromhex(found[1].replace("\\x", "")) if found else b""
    if path.endswith(b".db-wal"):
        return "log"
    return "database" if path.endswith(b".db") else None
