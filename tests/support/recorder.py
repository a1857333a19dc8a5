"""A provider that takes everything and keeps every request as it came.

The double of CleverTap judges requests and keeps a ledger; this shows what stood in them.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_TAKEN = b'{"status": "success", "message": "Added to queue for processing"}'


@dataclass(frozen=True)
class Received:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]  # names in small letters
    body: Any


@dataclass
class Recorder:
    """What was received so far, and where."""

    base_url: str = ""
    received: list[Received] = field(default_factory=list)


@contextmanager
def recording_provider() -> Iterator[Recorder]:
    """Listen on a free port until the block is left; connections are not kept."""
    recorder = Recorder()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            headers = {name.lower(): value for name, value in self.headers.items()}
            recorder.received.append(Received(self.command, self.path, headers, json.loads(body)))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(_TAKEN)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        recorder.base_url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield recorder
        finally:
            server.shutdown()
            thread.join()
