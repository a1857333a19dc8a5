"""A CleverTap to call in tests and benchmarks: real HTTP, faults on demand, its own ledger.

It is the judge of double sends, so it trusts nobody: what it *processed* stands in a JSON-lines
file that it alone writes, one line before any answer or fault. It runs on a thread of the test
(`CleverTapDouble`), or as a process that outlives a `kill -9` of the engine
(`CleverTapDoubleProcess`, or by hand):

    python tests/support/clevertap_double.py --ledger calls.jsonl --behaviour ok:0.8,503:0.2

Requests are checked as far as CleverTap's API is known (PROVIDERS section 2 says how far that is).
`BEHAVIOURS` lists every fault and says whether a call that meets it counts as processed.

Control, on the API's own port and on a second one that `refuse` does not close: `POST /_control`
with any fields of `Changes`, `GET /_stats`, `GET /_ledger`. Whatever else reaches the second port
is a redirect that a client followed, and is counted.
"""

import argparse
import asyncio
import contextlib
import functools
import hashlib
import http.client
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field, fields, replace
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Self, TypedDict, Unpack, cast

ACCOUNT_ID: Final = "test-account"
PASSCODE: Final = "test-passcode"
PUSH: Final = "/1/send/push.json"
EXTERNAL_TRIGGER: Final = "/1/send/externaltrigger.json"
WHATSAPP: Final = "/1/send/whatsapp.json"
UPLOAD: Final = "/1/upload"
EVENTS: Final = "/1/events.json"
MAX_USERS: Final = 1_000
MAX_BODY: Final = 16 * 2**20
JSON_TYPE: Final = "application/json"
_HOST: Final = "127.0.0.1"

Json = dict[str, object]
_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
_COMPACT: Final = json.JSONEncoder(separators=(",", ":"))


# What the test reads: the ledger


@dataclass(frozen=True, slots=True)
class Call:
    """One call as the double saw it.

    `users` are those it took, `unprocessed` those it named as not taken. `answered` means that the
    whole answer was handed to the operating system while the client was still there.
    """

    id: str
    time: float
    path: str
    behaviour: str
    processed: bool
    users: tuple[str, ...] = ()
    unprocessed: tuple[str, ...] = ()
    content: str = ""
    experiment_ids: tuple[str, ...] = ()
    answered: bool = False
    status: int | None = None


def read_calls(ledger: Path | str) -> list[Call]:
    """Every call in the order in which its fate was decided, refused ones included."""
    calls: dict[str, Call] = {}
    for line in Path(ledger).read_bytes().splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break  # the double was killed while writing: it processed nothing
        record = json.loads(line)
        if record.pop("kind") == "answered":
            calls[record["id"]] = replace(
                calls[record["id"]], answered=True, status=record["status"]
            )
        else:
            call: dict[str, Any] = {
                key: tuple(one) if isinstance(one, list) else one for key, one in record.items()
            }
            calls[record["id"]] = Call(**call)
    return list(calls.values())


def read_ledger(ledger: Path | str) -> list[Call]:
    """Only what the double processed: it reached its users, whatever the client was told."""
    return [call for call in read_calls(ledger) if call.processed]


def sends_by_user_and_content(calls: Iterable[Call]) -> Counter[tuple[str, str]]:
    """How often each user was sent each content; a user named twice in one call counts twice."""
    return Counter((user, call.content) for call in _sends(calls) for user in call.users)


def sends_by_experiment(calls: Iterable[Call]) -> Counter[str]:
    """How many messages carried each experiment_id (calls for many users carry none)."""
    counts: Counter[str] = Counter()
    for call in _sends(calls):
        counts.update(dict.fromkeys(call.experiment_ids, len(call.users)))
    return counts


def sends_by_user(calls: Iterable[Call]) -> Counter[str]:
    """How many messages each user was sent."""
    return Counter(user for call in _sends(calls) for user in call.users)


def double_sends(calls: Iterable[Call]) -> dict[str, int]:
    """Experiments and (user, content) pairs sent more than once: empty, the engine promises."""
    processed = list(calls)
    counts = {f"experiment {id_}": count for id_, count in sends_by_experiment(processed).items()}
    counts |= {
        f"user {user}, content {text}": n
        for (user, text), n in sends_by_user_and_content(processed).items()
    }
    return {what: count for what, count in counts.items() if count > 1}


def content_hash(body: Mapping[str, object]) -> str:
    """Hash of everything in a body except its receivers, whatever the order of its keys."""
    content = {key: value for key, value in body.items() if key != "to"}
    return hashlib.blake2b(_CANONICAL.encode(content).encode(), digest_size=16).hexdigest()


def _sends(calls: Iterable[Call]) -> Iterator[Call]:
    return (call for call in calls if call.processed and call.path != UPLOAD)


# What the test sets: the rules


class Changes(TypedDict, total=False):
    """What may be given at the start, or later in Python or as JSON to `/_control`; see Rules."""

    behaviour: str | Mapping[str, float]
    script: Iterable[str]
    seed: int
    poison_users: Iterable[str]
    unprocessed_users: Iterable[str]
    user_behaviours: Mapping[str, str]
    unprocessed_share: float
    max_in_flight: int
    upload_max_in_flight: int
    latency_ms: float
    retry_after_s: int
    refuse_for_s: float
    hang_s: float
    drip_interval_s: float
    huge_bytes: int
    bomb_bytes: int


@dataclass(frozen=True, slots=True)
class Rules:
    """How calls are met.

    What decides, in this order: the call's own mistakes, the limit, poison, its users, the plan.
    The plan is the script, then the weights; only a call that gets that far uses up a line of it.
    """

    # A name, "name:weight,..." or {name: weight}.
    behaviour: Mapping[str, float]
    # For the first calls, one name each.
    script: tuple[str, ...] = ()
    seed: int = 0
    # A call that names one of them is refused whole, with 400.
    poison_users: frozenset[str] = frozenset()
    # Named in `unprocessed`, while the rest of the call goes through.
    unprocessed_users: frozenset[str] = frozenset()
    # The first of the call's users with a behaviour of their own decides.
    user_behaviours: Mapping[str, str] = field(default_factory=dict)
    # Of the call's users, at least one, when the plan says `unprocessed`.
    unprocessed_share: float = 0.5
    # For each /1/send API by itself, and for /1/upload.
    max_in_flight: int = 3
    upload_max_in_flight: int = 15
    # Between processing and answering.
    latency_ms: float = 0.0
    # For 429_seconds and 429_date.
    retry_after_s: int = 1
    refuse_for_s: float = 1.0
    hang_s: float = 60.0
    drip_interval_s: float = 1.0
    huge_bytes: int = 100 * 2**20
    # Unpacked.
    bomb_bytes: int = 100 * 2**20

    def changed(self, changes: Mapping[str, object]) -> Self:
        """Replace some fields; an unknown field or behaviour is a ValueError."""
        if unknown := changes.keys() - Changes.__annotations__.keys():
            known = ", ".join(Changes.__annotations__)
            message = f"unknown setting {', '.join(sorted(unknown))}; there are {known}"
            raise ValueError(message)
        readers = {name: _READERS.get(name, type(getattr(self, name))) for name in changes}
        read: dict[str, Any] = {name: readers[name](value) for name, value in changes.items()}
        return replace(self, **read)


def _weights(behaviour: str | Mapping[str, float]) -> dict[str, float]:
    if isinstance(behaviour, str):
        parts = (part.strip().partition(":") for part in behaviour.split(","))
        behaviour = {name: float(weight or 1) for name, _, weight in parts}
    _known(behaviour)
    if not sum(behaviour.values()) > 0:
        message = "the weights of the behaviours must sum to more than 0"
        raise ValueError(message)
    return dict(behaviour)


def _script(names: Iterable[str]) -> tuple[str, ...]:
    _known(script := tuple(_no_text(names)))
    return script


def _users(names: Iterable[str]) -> frozenset[str]:
    return frozenset(_no_text(names))


def _user_behaviours(table: Mapping[str, str]) -> dict[str, str]:
    _known(table.values())
    return dict(table)


def _no_text(names: Iterable[str]) -> Iterable[str]:
    if isinstance(names, str):
        message = f"{names!r} must be a list of names"
        raise TypeError(message)
    return names


def _known(names: Iterable[str]) -> None:
    if unknown := set(names) - BEHAVIOURS.keys():
        message = (
            f"unknown behaviour {', '.join(sorted(unknown))}; there are {', '.join(BEHAVIOURS)}"
        )
        raise ValueError(message)


_READERS: Final[dict[str, Callable[[Any], object]]] = {
    "behaviour": _weights,
    "script": _script,
    "poison_users": _users,
    "unprocessed_users": _users,
    "user_behaviours": _user_behaviours,
}  # everything else is a number


class _Plan:
    """What the next call meets: first the script, then the weights, from one seeded random."""

    def __init__(self, rules: Rules) -> None:
        self._next = deque(rules.script)
        self._random = random.Random(rules.seed)
        self._names, self._weights = list(rules.behaviour), list(rules.behaviour.values())

    def peek(self) -> str:
        if not self._next:
            self._next.extend(self._random.choices(self._names, self._weights))
        return self._next[0]

    def draw(self) -> str:
        self.peek()
        return self._next.popleft()

    def give_back(self, name: str) -> None:
        self._next.appendleft(name)

    def some(self, users: list[str], share: float) -> list[str]:
        return self._random.sample(users, max(1, round(share * len(users))))


@dataclass(slots=True)
class Stats:
    """What happened on the wire since the start."""

    connections: int = 0
    calls: Counter[str] = field(default_factory=Counter)  # by path, refused ones included
    behaviours: Counter[str] = field(
        default_factory=Counter
    )  # as met; refused_401, refused_429.. for own mistakes
    statuses: Counter[str] = field(default_factory=Counter)  # answered in full
    in_flight: Counter[str] = field(default_factory=Counter)  # by path, now
    max_in_flight: Counter[str] = field(
        default_factory=Counter
    )  # by path, the highest ever, above the limit too
    over_limit: int = 0  # calls answered 429 because too many were in flight
    outages: int = 0  # times the listener was closed by `refuse`
    redirect_hits: int = 0
    huge_bytes_sent: int = 0

    def as_json(self) -> Json:
        """Ready for `json.dumps`."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @classmethod
    def from_json(cls, read: Json) -> Self:
        """Inverse of `as_json`."""
        values: dict[str, Any] = {
            key: Counter(one) if isinstance(one, dict) else one for key, one in read.items()
        }
        return cls(**values)


# What a call must look like


class _RefusedError(Exception):
    """The call's own mistake, answered as CleverTap answers it."""

    def __init__(self, status: int, error: str, *, body_unread: bool = False) -> None:
        super().__init__(error)
        self.status, self.error, self.body_unread = status, error, body_unread


@dataclass(slots=True)
class _Intake:
    """A valid body: its users, and the records that CleverTap will name in `unprocessed`."""

    users: list[str]
    left_out: list[str] = field(default_factory=list)
    unprocessed: list[Json] = field(default_factory=list)
    records: dict[str, object] = field(
        default_factory=dict
    )  # upload only: what is echoed for a user
    content: str = ""
    experiment_ids: tuple[str, ...] = ()

    def leave_out(self, users: Iterable[str]) -> None:
        """Name these users in `unprocessed`; the code is made up, none is documented for sends."""
        left_out = set(users)
        self.left_out += left_out
        self.unprocessed += [
            {
                "status": "fail",
                "code": 514,
                "error": f"Profile identity is not valid.Skipped record number : {number}",
                "record": self.records.get(user, {"identity": user}),
            }
            for number, user in enumerate(self.users, 1)
            if user in left_out
        ]
        self.users = [user for user in self.users if user not in left_out]


def _bad(error: str) -> _RefusedError:
    return _RefusedError(400, error)


def _object(value: object, name: str) -> Json:
    if not isinstance(value, dict):
        error = f"{name} must be an object"
        raise _bad(error)
    return value


def _text(value: object, name: str) -> str:
    if not isinstance(value, str) or not value:
        error = f"{name} must be a non-empty string"
        raise _bad(error)
    return value


def _only(value: Json, allowed: frozenset[str], name: str) -> None:
    if unknown := value.keys() - allowed:
        error = f"{name} has unknown keys: {', '.join(sorted(unknown))}"
        raise _bad(error)


def _receivers(body: Json, identity: str, others: frozenset[str]) -> list[str]:
    to = _object(body.get("to"), "to")
    _only(to, others | {identity}, "to")
    for key, ids in to.items():
        if not isinstance(ids, list) or not all(isinstance(one, str) and one for one in ids):
            error = f"to.{key} must be a list of non-empty strings"
            raise _bad(error)
    users = [user for ids in to.values() for user in cast("list[str]", ids)]
    if not to.get(identity):
        error = f"to.{identity} must name at least one user"
        raise _bad(error)
    if len(users) > MAX_USERS:
        error = f"to must not name more than {MAX_USERS} users"
        raise _bad(error)
    return users


_SEND_TO: Final = frozenset({"Email", "objectId", "FBID", "GPID"})
_SEND_KEYS: Final = frozenset(
    {
        "to",
        "content",
        "tag_group",
        "campaign_id",
        "message_id",
        "provider_nick_name",
        "respect_frequency_caps",
        "respect_communication_preference",
    }
)


def _send_body(body: Json) -> tuple[list[str], Json]:
    _only(body, _SEND_KEYS, "body")
    users = _receivers(body, "Identity", _SEND_TO)
    if not isinstance(body.get("respect_frequency_caps", True), bool):
        error = "respect_frequency_caps must be a boolean"
        raise _bad(error)
    return users, _object(body.get("content"), "content")


def _push(body: Json) -> _Intake:
    """Check PROVIDERS 2c; a key that no source shows is refused: it is a typing error."""
    users, content = _send_body(body)
    _only(content, frozenset({"title", "body", "platform_specific"}), "content")
    _text(content.get("title"), "content.title")
    _text(content.get("body"), "content.body")
    for platform, keys in _object(
        content.get("platform_specific", {}), "content.platform_specific"
    ).items():
        for key, value in _object(keys, f"content.platform_specific.{platform}").items():
            if not isinstance(value, str | int | bool):
                error = f"{key} of {platform} must be a string, number or boolean"
                raise _bad(error)
    return _Intake(users)


def _whatsapp(body: Json) -> _Intake:
    """Check PROVIDERS 2f: on no official page, so only what the third-party shape needs."""
    users, content = _send_body(body)
    kind = str(content.get("message_type", "")).lower()
    if kind == "template":
        _text(content.get("template_name"), "content.template_name")
    elif kind == "freeform":
        _text(content.get("msg"), "content.msg")
    elif not content:
        error = "content must not be empty"
        raise _bad(error)
    return _Intake(users)


def _external_trigger(body: Json) -> _Intake:
    """Check PROVIDERS 2e."""
    _only(body, frozenset({"to", "campaign_id", "ExternalTrigger"}), "body")
    users = _receivers(body, "identity", frozenset({"email", "objectId"}))
    _text(body.get("campaign_id"), "campaign_id")
    for key, value in _object(body.get("ExternalTrigger"), "ExternalTrigger").items():
        if not isinstance(value, str):
            error = f"ExternalTrigger.{key} must be a string"
            raise _bad(error)
    return _Intake(users)


def _upload(body: Json) -> _Intake:
    """Check PROVIDERS 2b: a bad record does not spoil the others, it is named in `unprocessed`."""
    records = body.get("d")
    if not isinstance(records, list) or not 1 <= len(records) <= MAX_USERS:
        error = f"d must be a list of 1 to {MAX_USERS} records"
        raise _bad(error)
    intake = _Intake([])
    for number, value in enumerate(records, 1):
        record = _object(value, "d[]")
        user = next(
            (
                str(record[key])
                for key in ("identity", "FBID", "GPID", "objectId")
                if record.get(key)
            ),
            "",
        )
        if fault := _record_fault(record, user):
            code, text = fault
            error = f"{text}.Skipped record number : {number}"
            intake.unprocessed.append(
                {"status": "fail", "code": code, "error": error, "record": record}
            )
        else:
            intake.users.append(user)
            intake.records[user] = record
    return intake


def _record_fault(record: Json, user: str) -> tuple[int, str] | None:
    if not user:
        return 514, "Profile data is incorrect. Identity is missing"
    if type(record.get("ts", 0)) is not int:
        return 525, "Timestamp is not in epoch format"
    if record.get("type") == "event" and not isinstance(record.get("evtName"), str):
        return 509, "Event name is missing"
    if record.get("type") not in ("event", "profile", "token"):
        return 555, "Type is not valid"
    return None


def _events(body: Json) -> _Intake:
    """Check PROVIDERS 2h: a question, which reaches nobody."""
    _text(body.get("event_name"), "event_name")
    if not all(type(body.get(key)) is int for key in ("from", "to")):
        error = "from and to must be days, such as 20260301"
        raise _bad(error)
    return _Intake([])


_APIS: Final[dict[str, Callable[[Json], _Intake]]] = {
    PUSH: _push,
    EXTERNAL_TRIGGER: _external_trigger,
    WHATSAPP: _whatsapp,
    UPLOAD: _upload,
    EVENTS: _events,
}


def _clevertap_api(path: str) -> Callable[[Json], _Intake]:
    if path not in _APIS:
        raise _RefusedError(404, "Not found")
    return _APIS[path]


@dataclass(frozen=True, slots=True)
class Dialect:
    """What another provider's double has of its own: its API, and how it says yes.

    `check` gets the headers and the body as it came, `api` a path; both raise for a mistake.
    """

    api: Callable[[str], Callable[[Json], _Intake]] = _clevertap_api
    check: Callable[[Mapping[str, str], bytes], None] | None = None
    taken: bytes = b'{"status":"success","message":"Added to queue for processing"}'


def _experiment_ids(value: object, found: dict[str, None]) -> dict[str, None]:
    """Collect every `experiment_id`: per platform, under ExternalTrigger, in kv or in evtData."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(inner, dict | list):
                if key != "to":
                    _experiment_ids(inner, found)
            elif key == "experiment_id" and isinstance(inner, str):
                found[inner] = None
    elif isinstance(value, list):
        for inner in value:
            _experiment_ids(inner, found)
    return found


def _no_constant(name: str) -> float:
    error = f"{name} is not JSON"
    raise ValueError(error)


_DECODER: Final = json.JSONDecoder(parse_constant=_no_constant)


def _parsed(raw: bytes) -> Json:
    try:
        body = _DECODER.decode(raw.decode())
    except (ValueError, RecursionError) as mistake:
        error = "Body is not valid JSON"
        raise _bad(error) from mistake
    return _object(body, "body")


# What goes over the wire


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def length(self) -> int:
        """Of the body, in bytes."""
        if "transfer-encoding" in self.headers:
            raise _RefusedError(411, "Send a Content-Length", body_unread=True)
        length = self.headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > MAX_BODY:
            raise _RefusedError(413, "Body is too large", body_unread=True)
        return int(length)


def _head(raw: bytes) -> _Request:
    first, *lines = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, _, rest = first.partition(" ")
    path, _, version = rest.partition(" ")
    if not version.startswith("HTTP/1."):
        raise _RefusedError(400, "Not an HTTP/1.1 request", body_unread=True)
    pairs = (line.partition(":") for line in lines)
    return _Request(
        method,
        path.partition("?")[0],
        {name.strip().lower(): value.strip() for name, _, value in pairs},
    )


def _response(
    status: int,
    body: bytes,
    content_type: str = JSON_TYPE,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {content_type}\r\n{more}"
    )
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class _Connection:
    """One client's socket; `keep` says whether another call may follow on it."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, api: bool
    ) -> None:
        self._reader, self._writer, self.api = reader, writer, api
        self.idle = True
        self.keep = True

    async def head(self) -> _Request | None:
        """Read the next request's head; None when the client is done (or speaks TLS to us)."""
        self.idle = True
        first = await self._reader.read(1)
        self.idle = False
        if first in (b"", b"\x16"):
            return None
        request = _head(first + await self._reader.readuntil(b"\r\n\r\n"))
        self.keep = request.headers.get("connection", "").lower() != "close"
        return request

    async def body(self, request: _Request) -> _Request:
        return replace(request, body=await self._reader.readexactly(request.length))

    async def send(self, response: bytes) -> bool:
        """Hand over these bytes; False if the client has left."""
        if self._reader.at_eof() or self._writer.is_closing():
            self.keep = False
            return False
        self._writer.write(response)
        await self._writer.drain()
        return True

    async def left_within(self, seconds: float) -> bool:
        """Wait, but not longer than the client does."""
        try:
            async with asyncio.timeout(seconds):
                while await self._reader.read(65_536):
                    pass
        except TimeoutError:
            return False
        return True

    async def linger(self) -> None:
        """Let the client finish writing: to close at once would lose the answer."""
        self._writer.write_eof()
        await self.left_within(1)

    def close(self) -> None:
        self.keep = False
        self._writer.close()

    def abort(self) -> None:
        self.keep = False
        self._writer.transport.abort()

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        linger = struct.pack("ii", 1, 0)
        raw = self._writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.abort()


# How a call can be met


@dataclass(frozen=True, slots=True)
class _Exchange:
    """What a behaviour needs to act on."""

    connection: _Connection
    path: str
    intake: _Intake
    rules: Rules
    stats: Stats
    elsewhere: str
    now: float
    taken: bytes

    async def answer(
        self,
        status: int,
        body: bytes,
        content_type: str = JSON_TYPE,
        headers: Mapping[str, str] | None = None,
    ) -> int | None:
        """Return the status if the client was there to be answered."""
        sent = await self.connection.send(_response(status, body, content_type, headers))
        return status if sent else None

    def success(self) -> bytes:
        """Tell the truth about this call."""
        left_out = self.intake.unprocessed
        if self.path == EVENTS:
            return b'{"status":"success","cursor":"first"}'
        if not left_out and self.path != UPLOAD:
            return self.taken
        status = "partial" if left_out and self.intake.users else "fail" if left_out else "success"
        answer = {"status": status, "processed": len(self.intake.users), "unprocessed": left_out}
        return json.dumps(answer).encode()


_TOO_MANY: Final = "Too many concurrent requests"
_CONTROL: Final = "There are GET /_stats, GET /_ledger and POST /_control"
_PAGE: Final = b"<html><head><title>%s</title></head><body>gateway</body></html>"
_Act = Callable[[_Exchange], Awaitable[int | None]]


def _failure(status: int, error: str) -> bytes:
    return json.dumps({"status": "fail", "error": error, "code": status}).encode()


def _date(moment: float) -> str:
    return formatdate(moment, usegmt=True)


async def _ok(exchange: _Exchange) -> int | None:
    date = {"Date": _date(exchange.now)}
    return await exchange.answer(200, exchange.success(), headers=date)


def _fail(status: int, error: str) -> _Act:
    async def act(exchange: _Exchange) -> int | None:
        return await exchange.answer(status, _failure(status, error))

    return act


def _page(status: int, title: bytes) -> _Act:
    async def act(exchange: _Exchange) -> int | None:
        return await exchange.answer(status, _PAGE % title, "text/html")

    return act


def _too_many(retry_after: Callable[[_Exchange], str]) -> _Act:
    async def act(exchange: _Exchange) -> int | None:
        body = _failure(429, _TOO_MANY)
        headers = {"Retry-After": retry_after(exchange), "Date": _date(exchange.now)}
        return await exchange.answer(429, body, headers=headers)

    return act


async def _fail_200(exchange: _Exchange) -> int | None:
    return await exchange.answer(200, _failure(400, "Campaign is not active"))


def _redirect(status: int) -> _Act:
    async def act(exchange: _Exchange) -> int | None:
        headers = {"Location": exchange.elsewhere + exchange.path}
        return await exchange.answer(status, b"", headers=headers)

    return act


async def _close(exchange: _Exchange) -> int | None:
    exchange.connection.close()
    return None


async def _reset(exchange: _Exchange) -> int | None:
    exchange.connection.reset()
    return None


async def _hang(exchange: _Exchange) -> int | None:
    await exchange.connection.left_within(exchange.rules.hang_s)
    exchange.connection.close()
    return None


async def _cut(exchange: _Exchange) -> int | None:
    """Send the head and half of the body."""
    response = _response(200, exchange.success())
    await exchange.connection.send(response[: -len(exchange.taken) // 2])
    exchange.connection.close()
    return None


async def _drip(exchange: _Exchange) -> int | None:
    """One byte at a time, from the status line on: no pause ever reaches a read time-out."""
    for byte in _response(200, exchange.success()):
        if await exchange.connection.left_within(exchange.rules.drip_interval_s):
            exchange.connection.close()
            return None
        await exchange.connection.send(bytes((byte,)))
    return 200


async def _huge(exchange: _Exchange) -> int | None:
    start, end, size = b'{"status":"success","message":"', b'"}', exchange.rules.huge_bytes
    length = b"Content-Length: %d" % (size + len(start) + len(end))
    head = _response(200, b"").replace(b"Content-Length: 0", length)
    await exchange.connection.send(head + start)
    while size:
        chunk = min(size, 2**18)
        if not await exchange.connection.send(b"a" * chunk):
            return None
        size -= chunk
        exchange.stats.huge_bytes_sent += chunk
    return 200 if await exchange.connection.send(end) else None


async def _bomb(exchange: _Exchange) -> int | None:
    packed = await asyncio.to_thread(_packed, exchange.rules.bomb_bytes)
    return await exchange.answer(200, packed, headers={"Content-Encoding": "gzip"})


@functools.cache
def _packed(size: int) -> bytes:
    """Make a gzip stream about a thousandth of what it unpacks to, which is valid JSON."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    parts = [packer.compress(b'{"status":"success","message":"')]
    parts += [packer.compress(b"a" * min(2**20, size - done)) for done in range(0, size, 2**20)]
    return b"".join((*parts, packer.compress(b'"}'), packer.flush()))


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How a call is met, and whether its users get their message all the same."""

    processed: bool
    act: _Act
    before_body: bool = False  # the fault comes before the call's body is read


_GATEWAY_FAULTS: Final[dict[str, _Act]] = {
    "500": _fail(500, "Internal server error"),
    "502": _page(502, b"502 Bad Gateway"),
    "503": _fail(503, "Service unavailable"),
    "504": _page(504, b"504 Gateway Time-out"),
}
_BEFORE_BODY: Final[dict[str, _Act]] = {
    # A period, not a call: while it is next, nobody listens and idle connections are closed.
    "refuse": _close,
    # At accept where it is next then, else before the next call on a kept connection is read.
    "accept_close": _close,
    # When the request's headers were read.
    "close_after_headers": _close,
}
_NOT_PROCESSED: Final[dict[str, _Act]] = {
    "400": _fail(400, "Invalid request"),
    "401": _fail(401, "Account ID is not valid"),
    "403": _fail(403, "Forbidden"),
    "404": _fail(404, "Not found"),
    "429": _fail(429, _TOO_MANY),  # CleverTap's own has no Retry-After
    "429_seconds": _too_many(lambda exchange: str(exchange.rules.retry_after_s)),
    "429_date": _too_many(lambda exchange: _date(exchange.now + exchange.rules.retry_after_s)),
    "429_garbage": _too_many(lambda _: "soon-ish; maybe"),
    "429_huge": _too_many(lambda _: str(10**9)),
    **_GATEWAY_FAULTS,
    "redirect_302": _redirect(302),
    "redirect_307": _redirect(307),
    "fail_200": _fail_200,
    "html_200": _page(200, b"Please sign in"),
    "hang": _hang,
}
_PROCESSED: Final[dict[str, _Act]] = {
    "ok": _ok,
    # For the users whom it does not name; not at all if it names all.
    "unprocessed": _ok,
    **{f"processed_then_{status}": act for status, act in _GATEWAY_FAULTS.items()},
    "processed_then_html": _page(200, b"Please sign in"),
    "processed_then_timeout": _hang,
    "processed_then_reset": _reset,
    "processed_then_cut": _cut,
    "drip": _drip,
    "huge_body": _huge,
    "gzip_bomb": _bomb,
}
BEHAVIOURS: Final[dict[str, Behaviour]] = (
    {name: Behaviour(processed=True, act=act) for name, act in _PROCESSED.items()}
    | {name: Behaviour(processed=False, act=act) for name, act in _NOT_PROCESSED.items()}
    | {
        name: Behaviour(processed=False, act=a, before_body=True)
        for name, a in _BEFORE_BODY.items()
    }
)


# The server


class _LedgerFile:
    """The file of record: appended at once, and fsynced before a call may be answered."""

    def __init__(self, path: Path, *, fsync: bool) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._fsync = fsync
        self._waiting: list[asyncio.Future[None]] = []
        self._syncing: asyncio.Task[None] | None = None
        # A line torn by kill -9 was never acted upon.
        os.ftruncate(self._file, path.read_bytes().rfind(b"\n") + 1)

    def append(self, kind: str, **record: object) -> None:
        line = _COMPACT.encode({"kind": kind, **record}).encode() + b"\n"
        while line:
            line = line[os.write(self._file, line) :]

    async def durable(self) -> None:
        """Return once everything appended so far is on disk."""
        if not self._fsync:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        if self._syncing is None:
            self._syncing = asyncio.create_task(self._sync())
        await waiter

    async def _sync(self) -> None:
        """One fsync for all the calls that came while the last one ran."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            waiters, self._waiting = self._waiting, []
            synced = await asyncio.gather(
                loop.run_in_executor(None, os.fsync, self._file), return_exceptions=True
            )
            for waiter in waiters:
                if waiter.done():
                    continue
                if isinstance(synced[0], BaseException):
                    waiter.set_exception(synced[0])
                else:
                    waiter.set_result(None)
        self._syncing = None

    async def close(self) -> None:
        if self._syncing is not None:
            await self._syncing
        os.close(self._file)


@dataclass(frozen=True, slots=True)
class _Options:
    """What is fixed at the start."""

    ledger: Path
    port: int = 0
    control_port: int = 0
    account: tuple[str, str] = (ACCOUNT_ID, PASSCODE)
    fsync: bool = True
    clock: Callable[[], float] = time.time
    dialect: Dialect = Dialect()


class _Server:
    """Both doors, on one event loop."""

    def __init__(self, options: _Options, rules: Rules) -> None:
        self._socket, self._control_socket = _bound(options.port), _bound(options.control_port)
        self.rules, self._plan = rules, _Plan(rules)
        self.stats = Stats()
        self.stopping = asyncio.Event()
        self._options = options
        self._ledger = _LedgerFile(options.ledger, fsync=options.fsync)
        # The run's name keeps the ids of calls unique when a ledger sees many runs.
        self._run, self._count = os.urandom(4).hex(), 0
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._outage: asyncio.Task[None] | None = None
        self._outage_over = asyncio.Event()
        self._doors: list[asyncio.Server] = []
        self.port, self.control_port = _port(self._socket), _port(self._control_socket)

    async def serve(self, started: Callable[[], object]) -> None:
        """Serve until `stopping` is set."""
        self._doors = [
            await self._open(self._socket, api=True),
            await self._open(self._control_socket, api=False),
        ]
        self._look_ahead()
        started()
        try:
            await self.stopping.wait()
        finally:
            await self._stop()

    async def _stop(self) -> None:
        await self._end_outage()
        for door in self._doors:
            door.close()
        for connection in self._connections:
            connection.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._ledger.close()

    async def configure(self, changes: Mapping[str, object]) -> None:
        """Change the rules; a new behaviour, script or seed makes a new plan, and ends outages."""
        rules = self.rules.changed(changes)
        if changes.keys() & {"behaviour", "script", "seed"}:
            rules = replace(rules, script=rules.script if "script" in changes else ())
            self._plan = _Plan(rules)
            if self._plan.peek() != "refuse":
                await self._end_outage()
        self.rules = rules
        self._look_ahead()

    # connections

    async def _open(self, listener: socket.socket, *, api: bool) -> asyncio.Server:
        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._converse(_Connection(reader, writer, api=api)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        return await asyncio.start_server(connected, sock=listener, limit=2**20, backlog=1024)

    async def _converse(self, connection: _Connection) -> None:
        self._connections.add(connection)
        try:
            if connection.api:
                self._accept(connection)
            while connection.keep and (request := await connection.head()):
                await self._serve(connection, request)
        except _RefusedError as refused:
            await self._refuse(connection, refused)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the client left, or talks nonsense
        finally:
            self._connections.discard(connection)
            connection.close()

    def _accept(self, connection: _Connection) -> None:
        self.stats.connections += 1
        if self._outage is not None:
            connection.close()
        elif self._plan.peek() == "accept_close":
            self._record("", self._draw(), processed=False)
            connection.close()

    async def _serve(self, connection: _Connection, request: _Request) -> None:
        if request.path.startswith("/_"):
            await self._control(connection, await connection.body(request))
        elif connection.api:
            await self._call(connection, request)
            connection.keep = connection.keep and self._outage is None
        else:
            await connection.body(request)
            self.stats.redirect_hits += 1
            await connection.send(_response(200, self._options.dialect.taken))

    @staticmethod
    async def _refuse(connection: _Connection, refused: _RefusedError) -> int | None:
        connection.keep = connection.keep and not refused.body_unread
        sent = await connection.send(
            _response(refused.status, _failure(refused.status, refused.error))
        )
        if refused.body_unread:
            await connection.linger()
        return refused.status if sent else None

    # outages

    def _look_ahead(self) -> None:
        """Begin an outage if the plan says so: a socket that does not listen keeps the port."""
        if self._outage is not None or self._plan.peek() != "refuse":
            return
        self._doors[0].close()
        self._socket = _bound(self.port)
        for connection in self._connections:
            if connection.api and connection.idle:
                connection.close()
        self.stats.outages += 1
        self._outage_over.clear()
        self._outage = asyncio.create_task(self._sit_out())

    async def _sit_out(self) -> None:
        while self._plan.peek() == "refuse" and not self._outage_over.is_set():
            self.stats.behaviours[self._plan.draw()] += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._outage_over.wait(), self.rules.refuse_for_s)
        self._doors[0] = await self._open(self._socket, api=True)
        self._outage = None

    async def _end_outage(self) -> None:
        if self._outage is not None:
            self._outage_over.set()
            await self._outage

    # calls

    def _draw(self) -> str:
        drawn = self._plan.draw()
        self._look_ahead()
        return drawn

    async def _call(self, connection: _Connection, request: _Request) -> None:
        self.stats.calls[request.path] += 1
        drawn = self._draw()
        if BEHAVIOURS[drawn].before_body:
            self._record(request.path, drawn, processed=False)
            connection.close()
            return
        try:
            request = await connection.body(request)
            with self._in_flight(request.path):
                await self._meet(connection, request.path, self._checked(request), drawn)
        except _RefusedError as refused:
            self._plan.give_back(drawn)
            call = self._record(request.path, f"refused_{refused.status}", processed=False)
            self._answered(call, await self._refuse(connection, refused))

    @contextlib.contextmanager
    def _in_flight(self, path: str) -> Iterator[None]:
        limit = self.rules.upload_max_in_flight if path == UPLOAD else self.rules.max_in_flight
        now, highest = self.stats.in_flight, self.stats.max_in_flight
        now[path] += 1
        highest[path] = max(highest[path], now[path])
        try:
            if now[path] > limit:
                self.stats.over_limit += 1
                raise _RefusedError(429, _TOO_MANY)
            yield
        finally:
            now[path] -= 1

    def _checked(self, request: _Request) -> _Intake:
        headers = request.headers
        dialect = self._options.dialect
        read = dialect.api(request.path)
        if request.method != "POST":
            raise _RefusedError(405, "Method not allowed")
        account = headers.get("x-clevertap-account-id"), headers.get("x-clevertap-passcode")
        if dialect.check is not None:
            dialect.check(headers, request.body)
        elif account != self._options.account:
            raise _RefusedError(401, "Account ID is not valid")
        if headers.get("content-type", "").partition(";")[0].strip().lower() != JSON_TYPE:
            error = f"Content-Type must be {JSON_TYPE}"
            raise _bad(error)
        body = _parsed(request.body)
        intake = read(body)
        intake.content = content_hash(body)
        intake.experiment_ids = intake.experiment_ids or tuple(_experiment_ids(body, {}))
        return intake

    async def _meet(self, connection: _Connection, path: str, intake: _Intake, drawn: str) -> None:
        name = self._verdict(intake, drawn)
        behaviour = BEHAVIOURS[name]
        processed = behaviour.processed and bool(intake.users)
        call = self._record(path, name, processed=processed, intake=intake)
        if processed:
            await self._ledger.durable()
        # At 0 too, so that calls sent together are seen together.
        await asyncio.sleep(self.rules.latency_ms / 1_000)
        exchange = _Exchange(
            connection,
            path,
            intake,
            self.rules,
            self.stats,
            _url(self.control_port),
            self._options.clock(),
            self._options.dialect.taken,
        )
        self._answered(call, await behaviour.act(exchange))

    def _verdict(self, intake: _Intake, drawn: str) -> str:
        rules = self.rules
        table = rules.user_behaviours
        own = next((table[user] for user in intake.users if user in table), None)
        own = own if rules.poison_users.isdisjoint(intake.users) else "400"
        if own is not None:
            self._plan.give_back(drawn)
        name = own or drawn
        intake.leave_out(rules.unprocessed_users.intersection(intake.users))
        if name == "unprocessed" and not intake.unprocessed:
            intake.leave_out(self._plan.some(intake.users, rules.unprocessed_share))
        return "unprocessed" if name == "ok" and intake.unprocessed else name

    def _record(
        self, path: str, name: str, *, processed: bool, intake: _Intake | None = None
    ) -> str:
        self.stats.behaviours[name] += 1
        self._count += 1
        call = f"{self._run}-{self._count}"
        known: Json = {}
        if intake is not None:
            known = {
                "users": intake.users,
                "unprocessed": intake.left_out,
                "content": intake.content,
                "experiment_ids": intake.experiment_ids,
            }
        now = self._options.clock()
        self._ledger.append(
            "call", id=call, time=now, path=path, behaviour=name, processed=processed, **known
        )
        return call

    def _answered(self, call: str, status: int | None) -> None:
        if status is not None:
            self.stats.statuses[str(status)] += 1
            self._ledger.append("answered", id=call, status=status)

    # control

    async def _control(self, connection: _Connection, request: _Request) -> None:
        status = 200
        answer: object = {"status": "success"}
        match request.method, request.path:
            case "GET", "/_stats":
                answer = self.stats.as_json()
            case "GET", "/_ledger":
                answer = [asdict(call) for call in read_ledger(self._options.ledger)]
            case "POST", "/_control":
                try:
                    await self.configure(_parsed(request.body))
                except (ValueError, TypeError, AttributeError, _RefusedError) as mistake:
                    status, answer = 400, {"status": "fail", "error": str(mistake), "code": 400}
            case _:
                status, answer = 404, {"status": "fail", "error": _CONTROL, "code": 404}
        await connection.send(_response(status, json.dumps(answer).encode()))


def _bound(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((_HOST, port))
    except OSError:
        listener.close()
        raise
    return listener


def _port(listener: socket.socket) -> int:
    return cast("int", listener.getsockname()[1])


def _url(port: int) -> str:
    return f"http://{_HOST}:{port}"


# How the test holds it


class _Double:
    """What both forms have in common; everything but the ledger is asked over the control port."""

    def __init__(self, ledger: Path | str, rules: Changes) -> None:
        self.ledger_path = Path(ledger)
        self._rules = rules
        self._behaviour: str | Mapping[str, float] = rules.get("behaviour", "ok")
        self._ports: tuple[int, int] | None = None

    @property
    def base_url(self) -> str:
        """What the engine gets as CLEVERTAP_BASE_URL; the same for the double's whole life."""
        return _url(self._running[0])

    @property
    def control_url(self) -> str:
        """A second door that `refuse` does not close."""
        return _url(self._running[1])

    @property
    def behaviour(self) -> str | Mapping[str, float]:
        """How calls are met from now on: a name, "name:weight,..." or {name: weight}."""
        return self._behaviour

    @behaviour.setter
    def behaviour(self, behaviour: str | Mapping[str, float]) -> None:
        self.configure(behaviour=behaviour)

    def configure(self, **changes: Unpack[Changes]) -> None:
        """Change any rules; in force when this returns."""
        self._ask("POST", "/_control", json.dumps(changes, default=list))
        self._behaviour = changes.get("behaviour", self._behaviour)

    def stats(self) -> Stats:
        """Say what happened on the wire so far."""
        return Stats.from_json(cast("Json", self._ask("GET", "/_stats")))

    def ledger(self) -> list[Call]:
        """Give the judge's word: what was processed so far."""
        return [call for call in self.calls() if call.processed]

    def calls(self) -> list[Call]:
        """Every call so far, refused ones included."""
        if self._ports:
            self.stats()  # what was answered before this is written by now
        return read_calls(self.ledger_path)

    @property
    def _running(self) -> tuple[int, int]:
        if self._ports is None:
            message = "the double is not running"
            raise RuntimeError(message)
        return self._ports

    def _ask(self, method: str, path: str, body: str | None = None) -> object:
        connection = http.client.HTTPConnection(_HOST, self._running[1], timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, body, {"Connection": "close"})
            response = connection.getresponse()
            answer = json.loads(response.read())
        if response.status != HTTPStatus.OK:
            raise ValueError(answer["error"])
        return answer


class CleverTapDouble(_Double):
    """The double on a thread: `with CleverTapDouble(ledger, behaviour="503") as double: ...`."""

    def __init__(
        self,
        ledger: Path | str,
        *,
        port: int = 0,
        account: tuple[str, str] = (ACCOUNT_ID, PASSCODE),
        fsync: bool = True,
        clock: Callable[[], float] = time.time,
        dialect: Dialect = Dialect(),
        **rules: Unpack[Changes],
    ) -> None:
        super().__init__(ledger, rules)
        self._options = _Options(self.ledger_path, port, 0, account, fsync, clock, dialect)
        self._stop: Callable[[], object] = bool
        self._thread = threading.Thread()

    def __enter__(self) -> Self:
        server = _Server(self._options, _DEFAULTS.changed(self._rules))
        started: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(server, started), name="clevertap-double", daemon=True
        )
        self._thread.start()
        loop = started.result()
        self._stop = lambda: loop.call_soon_threadsafe(server.stopping.set)
        self._ports = server.port, server.control_port
        return self

    @staticmethod
    def _run(server: _Server, started: Future[asyncio.AbstractEventLoop]) -> None:
        async def serve() -> None:
            await server.serve(lambda: started.set_result(asyncio.get_running_loop()))

        try:
            asyncio.run(serve())
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    def __exit__(self, *_: object) -> None:
        self._ports = None
        self._stop()
        self._thread.join()


class CleverTapDoubleProcess(_Double):
    """The double as a process of its own; same use, and it can be killed."""

    def __init__(
        self,
        ledger: Path | str,
        *,
        port: int = 0,
        account: tuple[str, str] = (ACCOUNT_ID, PASSCODE),
        fsync: bool = True,
        **rules: Unpack[Changes],
    ) -> None:
        super().__init__(ledger, rules)
        options = {
            "--port": port,
            "--ledger": ledger,
            "--account-id": account[0],
            "--passcode": account[1],
        }
        self._command = [
            sys.executable,
            __file__,
            *(f"{name}={value}" for name, value in options.items()),
        ]
        self._command += ["--with-parent"] if fsync else ["--with-parent", "--no-fsync"]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        command = self._command
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        line = self._process.stdout.readline() if self._process.stdout else b""
        if not line:
            self._end(signal.SIGKILL)
            message = f"the double did not start: {' '.join(self._command)}"
            raise RuntimeError(message)
        doors = json.loads(line)
        self._ports = doors["port"], doors["control_port"]
        self.configure(**self._rules)
        return self

    def __exit__(self, *_: object) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it with -9: the ledger stays, everything else is gone."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        self._ports = None
        if self._process is not None:
            self._process.send_signal(how)
            self._process.communicate(timeout=30)


_DEFAULTS: Final = Rules(behaviour={"ok": 1.0})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--port", type=int, default=0, help="0: any free one; it is printed at the start"
    )
    parser.add_argument("--control-port", type=int, default=0)
    parser.add_argument("--ledger", type=Path, required=True)
    parser.add_argument("--account-id", default=ACCOUNT_ID)
    parser.add_argument("--passcode", default=PASSCODE)
    parser.add_argument(
        "--behaviour",
        default="ok",
        help="NAME or name:weight,...; names: " + ", ".join(BEHAVIOURS),
    )
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--max-in-flight", type=int, default=_DEFAULTS.max_in_flight)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-fsync", action="store_true")
    parser.add_argument("--with-parent", action="store_true", help="end when the starter does")
    return parser.parse_args()


async def _serve_process(given: argparse.Namespace) -> None:
    names = "behaviour", "latency_ms", "max_in_flight", "seed"
    rules = _DEFAULTS.changed({name: getattr(given, name) for name in names})
    account = given.account_id, given.passcode
    options = _Options(given.ledger, given.port, given.control_port, account, not given.no_fsync)
    server = _Server(options, rules)
    for one in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(one, server.stopping.set)
    doors = {"base_url": _url(server.port), "control_url": _url(server.control_port)}
    ports = {"port": server.port, "control_port": server.control_port}
    if given.with_parent:
        parting = asyncio.create_task(_watch_parent(os.getppid(), server.stopping))
    await server.serve(lambda: print(json.dumps(doors | ports), flush=True))
    if given.with_parent:
        parting.cancel()


async def _watch_parent(parent: int, stopping: asyncio.Event) -> None:
    while os.getppid() == parent:  # noqa: ASYNC110 - nobody tells us
        await asyncio.sleep(0.1)
    stopping.set()


if __name__ == "__main__":
    try:
        asyncio.run(_serve_process(_arguments()))
    except (ValueError, OSError) as mistake:
        sys.exit(f"clevertap_double: {mistake}")
