"""Request bodies and answers on bare ASGI, with the engine's limits."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from experiment_engine.entrypoints.http.access import Headers

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MAX_BODY = 1 << 20  # bytes

encode = msgspec.json.Encoder().encode

_JSON = (b"content-type", b"application/json")


class TooLarge(Exception):
    """The body is larger than the limit."""


class ClientGone(Exception):
    """The client went away before its body was whole."""


def declared_length(headers: Headers) -> int:
    """Return the length that the client says its body has; 0 where it does not say."""
    declared = headers.get(b"content-length", b"0")
    return int(declared) if declared.isdigit() else 0


async def read_body(headers: Headers, receive: Receive, limit: int = MAX_BODY) -> bytes:
    """Return the whole body; raises TooLarge as soon as it is known to be, and ClientGone."""
    if declared_length(headers) > limit:
        raise TooLarge
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        body = await _rest(body, receive, limit)
    if len(body) > limit:
        raise TooLarge
    return body


async def _rest(first: bytes, receive: Receive, limit: int) -> bytes:
    pieces, size, more = [first], len(first), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > limit:
            raise TooLarge
        more = message.get("more_body", False)
    return b"".join(pieces)


async def answer(send: Send, status: int, body: bytes, *extra: tuple[bytes, bytes]) -> None:
    """Answer with a JSON body."""
    length = (b"content-length", str(len(body)).encode())
    await send(
        {"type": "http.response.start", "status": status, "headers": [_JSON, length, *extra]}
    )
    await send({"type": "http.response.body", "body": body})


def error_body(code: str, message: str) -> bytes:
    """Return the one shape that every error has."""
    return encode({"error": {"code": code, "message": message}})
