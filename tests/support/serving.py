"""The HTTP server of the product on a thread of the test."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from experiment_engine.entrypoints.cli.serving import server_configuration
from experiment_engine.entrypoints.http.connections import BoundedProtocol
from experiment_engine.entrypoints.http.door import Door

_PATIENCE = 20.0  # seconds for what should take milliseconds


@contextmanager
def serving(door: Door, protocol: type[BoundedProtocol] = BoundedProtocol) -> Iterator[str]:
    """Serve on a free port of loopback until the block is left; give the address."""
    listener = socket.create_server(("127.0.0.1", 0))
    thread = _Server(door, listener, protocol)
    thread.start()
    assert thread.up.wait(_PATIENCE), "the server did not start"
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        thread.loop.call_soon_threadsafe(thread.stopping.set)
        thread.join(_PATIENCE)
        listener.close()


class _Server(threading.Thread):
    """uvicorn on a thread, without the tenths of a second that it sleeps at its end."""

    def __init__(
        self, door: Door, listener: socket.socket, protocol: type[BoundedProtocol]
    ) -> None:
        super().__init__(name="server")
        self._config = server_configuration(door, protocol)
        self._listener = listener
        self.up, self.stopping = threading.Event(), asyncio.Event()

    def run(self) -> None:
        with asyncio.Runner(loop_factory=self._config.get_loop_factory()) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._config.load()
        server = uvicorn.Server(self._config)
        server.lifespan = self._config.lifespan_class(self._config)
        await server.startup(sockets=[self._listener])
        self.up.set()
        await self.stopping.wait()
        for connection in list(server.server_state.connections):
            connection.shutdown()
        for one in server.servers:
            one.close()
            await one.wait_closed()
        await server.lifespan.shutdown()
