"""A TCP proxy in front of PostgreSQL that cuts connections at the worst moment: at a COMMIT.

Either the COMMIT never reaches the server, or it does and the answer is dropped. Whoever sent it
cannot know which.
"""

import contextlib
import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_COMMIT = b"COMMIT\x00"
_HOST = "127.0.0.1"


class CuttingProxy:
    """Passes bytes on; of every hundred COMMITs it cuts some."""

    def __init__(self, port: int, seed: int) -> None:
        """Stand in front of the server on this port."""
        self._upstream = port
        self._chance = random.Random(seed)
        self._listener = socket.create_server((_HOST, 0))
        self.share = 0.0  # of the COMMITs that are cut
        self.before = 0.5  # of those, the share that never reaches the server
        self.cut_before = self.cut_after = 0

    @property
    def port(self) -> int:
        """Return where it listens."""
        number: int = self._listener.getsockname()[1]
        return number

    def run(self) -> None:
        """Accept until it is closed."""
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def close(self) -> None:
        """Accept nobody any more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            server = socket.create_connection((_HOST, self._upstream))
            with server:
                back = threading.Thread(target=_pump, args=(server, client), daemon=True)
                back.start()
                while data := client.recv(65_536):
                    if _COMMIT in data and self._chance.random() < self.share:
                        self._cut(data, server, client)
                        return
                    server.sendall(data)

    def _cut(self, data: bytes, server: socket.socket, client: socket.socket) -> None:
        if self._chance.random() < self.before:
            self.cut_before += 1
        else:
            self.cut_after += 1
            client.shutdown(socket.SHUT_RDWR)  # first, so that the answer cannot get through
            server.sendall(data)
            server.shutdown(socket.SHUT_WR)
            with contextlib.suppress(OSError):
                while server.recv(65_536):  # the server has worked through it when it hangs up
                    pass
        for side in (client, server):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


@contextmanager
def a_cutting_proxy(port: int, seed: int) -> Iterator[CuttingProxy]:
    """Run a proxy in front of a server's port."""
    proxy = CuttingProxy(port, seed)
    thread = threading.Thread(target=proxy.run, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.close()
        thread.join()
