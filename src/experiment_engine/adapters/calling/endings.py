"""How an exchange ended: with a reply, or in a way that proves something or nothing."""

import re
import socket
import ssl
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import httpx2

from experiment_engine.adapters.calling.statuses import Meaning
from experiment_engine.adapters.json_input import BadElement, decode
from experiment_engine.domain.delivery.message import Answer, Verdict
from experiment_engine.domain.moments import HOUR, SECOND, Duration, to_instant

Members = Mapping[str, object]

MAX_EXCERPT = 500
MAX_WAIT = HOUR

_SECONDS = re.compile(r"[0-9]+")
_LONG = 10  # digits: over MAX_WAIT, and thousands of them are more than int() takes
# Control characters, and those that turn or hide the text around them.
_UNPRINTABLE = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\\u200b-\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ufeff]"
)

_NEVER_WRITTEN: Mapping[type[Exception], str] = {
    httpx2.ConnectTimeout: "connect_timed_out",
    httpx2.ConnectError: "connect_failed",
    httpx2.PoolTimeout: "no_free_connection",
    httpx2.UnsupportedProtocol: "bad_url",
    httpx2.InvalidURL: "bad_url",
}
_CAUSES: Mapping[type[BaseException], str] = {
    socket.gaierror: "dns_failed",
    ssl.SSLError: "tls_failed",
    ConnectionRefusedError: "connection_refused",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, with header names in small letters.

    `body` is None if it could not be read whole; `fault` then says why.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes | None
    fault: str = ""


def answered(
    reply: Reply, meaning: Meaning, reason: str, told: bytes | None, secrets: Iterable[str]
) -> Answer:
    """Return what a reply means for the one message of a call; `told` is kept of it, or all."""
    return Answer(
        verdict=meaning.verdict,
        reason=reason,
        answer=excerpt(reply.body or b"" if told is None else told, secrets),
        status=reply.status,
        retry_after=retry_after(reply.headers),
        whole_call=False,
    )


def members_of(body: bytes | None) -> Members | None:
    """Read an answer that is a JSON object; None for any other."""
    try:
        value = decode(body or b"")
    except BadElement:
        return None
    return value if isinstance(value, dict) else None


def error_of(said: Members | None) -> Members:
    """Return what an answer says under `error`, as those of Google and Meta do."""
    error = (said or {}).get("error")
    return error if isinstance(error, dict) else {}


def of_failure(error: Exception, secrets: Iterable[str] = ()) -> Answer:
    """Classify an exchange that ended without a status."""
    text = excerpt(f"{type(error).__name__}: {error}".encode(errors="replace"), secrets)
    if isinstance(error, tuple(_NEVER_WRITTEN)):
        return Answer(Verdict.NOT_TAKEN, _why_not_written(error), text, whole_call=False)
    return Answer(Verdict.UNCERTAIN, fault_of(error), text, whole_call=False)


def fault_of(error: Exception) -> str:
    """Name what ended an exchange after something may have been written."""
    if isinstance(error, TimeoutError | httpx2.TimeoutException):
        return "timed_out"
    if isinstance(error, httpx2.NetworkError | httpx2.RemoteProtocolError):
        return "disconnected"
    return "unreadable" if isinstance(error, httpx2.DecodingError) else "unexpected"


def retry_after(headers: Mapping[str, str]) -> Duration | None:
    """Read how long to wait: seconds, or a date compared with the answer's own; at most 1 h."""
    text = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(text):
        return _capped(int(text) * SECOND) if len(text) < _LONG else MAX_WAIT
    try:
        until = to_instant(parsedate_to_datetime(text))
        now = to_instant(parsedate_to_datetime(headers.get("date", "")))
    except (ValueError, OverflowError):
        return None
    return _capped(until - now)


def _capped(wait: int) -> Duration:
    return Duration(min(max(wait, 0), MAX_WAIT))


def excerpt(text: bytes, secrets: Iterable[str] = ()) -> str:
    """Return the beginning for people to read: one line, no control characters, no secrets."""
    clean = _UNPRINTABLE.sub("", text[: 100 * MAX_EXCERPT].decode(errors="replace"))
    for secret in secrets:
        clean = clean.replace(secret, "***")
    return clean[:MAX_EXCERPT]


def _why_not_written(error: Exception) -> str:
    for cause in _causes(error):
        for kind, reason in _CAUSES.items():
            if isinstance(cause, kind):
                return reason
    return next(why for kind, why in _NEVER_WRITTEN.items() if isinstance(error, kind))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Go down to what the operating system said."""
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            for inner in error.exceptions:
                yield from _causes(inner)
        error = error.__cause__ or error.__context__
