"""A client that may break every rule of HTTP: bytes out, bytes in."""

import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
_PATIENCE = 30.0  # seconds; only a failing test waits that long


class RawClient:
    """One connection."""

    def __init__(self, url: str) -> None:
        """Connect to a server on this machine."""
        self._socket = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))
        self._socket.settimeout(_PATIENCE)
        self.received = b""

    def send(self, data: bytes) -> bool:
        """Send bytes; return whether the server still took them."""
        try:
            self._socket.sendall(data)
        except OSError:
            return False
        return True

    def finish(self) -> None:
        """Say that nothing more will be sent."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def read(self) -> bytes:
        """Return what came next; nothing when the server has ended the connection."""
        try:
            piece = self._socket.recv(65_536)
        except ConnectionError:
            return b""
        self.received += piece
        return piece

    def read_until_closed(self) -> list[int]:
        """Return the status of every answer until the server ends the connection."""
        while self.read():
            pass
        return self.statuses()

    def read_answers(self, number: int) -> list[int]:
        """Return the status of every answer, once there are so many or the server has ended."""
        deadline = time.monotonic() + _PATIENCE
        while len(self.statuses()) < number and self.read():
            assert time.monotonic() < deadline
        return self.statuses()

    def statuses(self) -> list[int]:
        """Return the status of every answer so far."""
        return [int(status) for status in _STATUS.findall(self.received)]

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


@contextmanager
def raw_client(url: str) -> Iterator[RawClient]:
    """Connect, and hang up at the end."""
    client = RawClient(url)
    try:
        yield client
    finally:
        client.close()


def request(
    path: str, body: bytes = b"", method: str = "POST", headers: tuple[bytes, ...] = ()
) -> bytes:
    """Return a request as it should be."""
    lines = [f"{method} {path} HTTP/1.1".encode(), b"host: localhost", *headers]
    if body or method == "POST":
        lines.append(b"content-length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
