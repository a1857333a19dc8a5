"""An Amplitude to upload to in tests: real HTTP, its documented limits, and its own memory.

It knows an event by user and `insert_id` and keeps the first, as Amplitude does for seven days.
"""

import json
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

API_KEY = "amplitude-key"
MOST_EVENTS, MOST_BYTES = 2_000, 1_000_000


@dataclass
class AmplitudeDouble:
    """What has been ingested, and how requests are met.

    `script` has one behaviour for each of the next requests: a status, `processed_500`, `close`;
    when it is used up, all is well. Events of `bad_users` are named as unusable.
    """

    base_url: str = ""
    script: deque[str] = field(default_factory=deque)
    bad_users: set[str] = field(default_factory=set)
    most_events: int = MOST_EVENTS
    events: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    requests: list[int] = field(default_factory=list)  # how many events each had
    repeated: int = 0

    def names(self) -> list[str]:
        """Return the names of what was ingested, in the order of its coming."""
        return [event["event_type"] for event in self.events.values()]

    def answer(self, raw: bytes) -> tuple[int, dict[str, Any]]:
        """Take one request as Amplitude documents it."""
        body = json.loads(raw)
        events = body["events"]
        self.requests.append(len(events))
        if body["api_key"] != API_KEY:
            return 400, {"code": 400, "error": "Invalid API key"}
        if len(events) > self.most_events or len(raw) > MOST_BYTES:
            return 413, {"code": 413, "error": "Payload too large"}
        bad = [place for place, event in enumerate(events) if event["user_id"] in self.bad_users]
        if bad:
            said = {"code": 400, "error": "Invalid field values on some events"}
            return 400, {**said, "events_with_invalid_fields": {"user_id": bad}}
        behaviour = self.script.popleft() if self.script else "ok"
        if behaviour not in {"ok", "processed_500"}:
            return int(behaviour), {"code": int(behaviour), "error": "no"}
        for event in events:
            assert isinstance(event["time"], int)
            key = event["user_id"], event["insert_id"]
            self.repeated += key in self.events
            self.events.setdefault(key, event)
        if behaviour == "processed_500":
            return 500, {"code": 500, "error": "after all"}
        return 200, {"code": 200, "events_ingested": len(events)}


@contextmanager
def amplitude_double() -> Iterator[AmplitudeDouble]:
    """Listen on a free port until the block is left."""
    double = AmplitudeDouble()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["content-length"]))
            if double.script and double.script[0] == "close":
                double.script.popleft()
                self.close_connection = True
                return
            assert self.path == "/2/httpapi"
            status, said = double.answer(raw)
            body = json.dumps(said).encode()
            self.send_response(status)
            if status == 429:
                self.send_header("Retry-After", "30")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        double.base_url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield double
        finally:
            server.shutdown()
            thread.join()
