"""What one connection may cost: uvicorn's HTTP protocol, with time limits and sizes.

uvicorn waits for a request's head and body as long as the client likes, and takes a head of any
size. Here a client that is too slow or too large is answered and disconnected. Where there are
too many connections, the one that has kept us waiting longest makes room.
"""

import asyncio
from enum import Enum
from http import HTTPStatus
from typing import cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from experiment_engine.entrypoints.http.bodies import error_body

_PER_HEADER = len(": \r\n")


class _Phase(Enum):
    """Whose turn it is."""

    HEAD = "head"  # theirs: nothing of a request is there yet, or not all of its head
    BODY = "body"  # theirs
    ANSWER = "answer"  # ours
    IDLE = "idle"  # nobody's: uvicorn's keep-alive ends it


class BoundedProtocol(HttpToolsProtocol):
    """One connection of a client that may be slow, large or hostile."""

    head_within = 5.0  # seconds
    body_within = 10.0
    head_size = 16_384  # bytes, of the request line and the headers
    connections_at_most = 1_000  # of this process

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._turn = self._watched = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._refused = False
        self._wait_for(_Phase.HEAD)
        if len(self.connections) > self.connections_at_most:
            self._make_room()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._wait_for(_Phase.IDLE)
        self._watch()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take some bytes of a request, or of several."""
        if self._refused:
            return
        self._begins = False
        super().data_received(data)
        if self._phase is _Phase.IDLE:  # bytes, and no request: the keep-alive does not wait on
            self._wait_for(_Phase.HEAD)
        if self._phase is _Phase.HEAD:
            self._pending += 0 if self._begins else len(data)  # of a header without an end
            self._check_size()
        self._watch()

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._wait_for(_Phase.HEAD)

    def on_url(self, url: bytes) -> None:
        """Take a piece of the request line."""
        super().on_url(url)
        self._size += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        super().on_header(name, value)
        self._size += len(name) + len(value) + _PER_HEADER

    def on_headers_complete(self) -> None:
        """Hand the request to the application, unless its head is too large."""
        self._pending = 0
        self._check_size()
        if not self._refused:
            super().on_headers_complete()
            self._wait_for(_Phase.BODY)

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body; after an early answer it is thrown away."""
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Let them wait for us, the request being whole."""
        if not self._refused:
            self._wait_for(_Phase.HEAD if self.cycle.response_complete else _Phase.ANSWER)
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for another request, if none has come already."""
        super().on_response_complete()
        if self._phase is _Phase.ANSWER and self.cycle.response_complete:
            self._wait_for(_Phase.IDLE)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP in the one shape that every error has."""
        self._refuse(HTTPStatus.BAD_REQUEST, msg)

    def _unsupported_upgrade_warning(self) -> None:
        """Answer as if no other protocol was asked for, and end: the parser reads no further."""
        self.cycle.keep_alive = False

    def _wait_for(self, phase: _Phase) -> None:
        self._phase, self._since = phase, self.loop.time()
        self._turn += 1
        if phase is _Phase.HEAD:
            self._size = self._pending = 0
            self._begins = True

    def _watch(self) -> None:
        """Set the clock for what they owe us; one that runs for it runs on, whatever arrives."""
        if self._watched == self._turn:
            return
        self._watched = self._turn
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if self._phase in {_Phase.HEAD, _Phase.BODY}:
            within = self.head_within if self._phase is _Phase.HEAD else self.body_within
            self._deadline = self.loop.call_later(within, self._too_slow)

    def _too_slow(self) -> None:
        if self._watched == self._turn:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"The {self._phase.value} came too slowly.")

    def _check_size(self) -> None:
        if self._size + self._pending > self.head_size:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "Send smaller headers.")

    def _make_room(self) -> None:
        """Let the connection go that has kept us waiting longest; if none has, this one."""
        others = cast("set[BoundedProtocol]", self.connections) - {self}
        waiting = [one for one in others if one._phase is not _Phase.ANSWER]  # noqa: SLF001
        longest = min(waiting, key=lambda one: one._since, default=self)  # noqa: SLF001
        longest._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "Too many connections.")  # noqa: SLF001

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        """Disconnect, and say why if an answer of ours cannot be taken for another one."""
        self._refused = True
        if self._phase is not _Phase.BODY and not self._is_next():
            self.cycle.keep_alive = False  # what came before is answered first
            return
        if self._is_next() and not self.transport.is_closing():
            body = error_body(status.name.lower(), message)
            head = (
                f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self.transport.close()

    def _is_next(self) -> bool:
        """Say whether what they read next answers what they last sent."""
        if self._phase is _Phase.BODY:
            return not self.pipeline and not self.cycle.response_started
        return self.cycle is None or self.cycle.response_complete
