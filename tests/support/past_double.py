"""What partners tell afterwards, over real HTTP: Amplitude's exports and CleverTap's events.

It checks credentials and parameters as far as the APIs are documented, and keeps what it was
asked. Nothing recorded of either was found: the shapes are those of their documentation.
"""

import base64
import gzip
import io
import json
import threading
import zipfile
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.clevertap_double import ACCOUNT_ID, PASSCODE

API_KEY, SECRET_KEY = "an-api-key", "a-secret-key"
_PAGE = 2  # records

Answer = tuple[int, bytes]


@dataclass
class PastDouble:
    """What it knows, what goes wrong, and what it was asked."""

    url: str = ""
    exports: dict[str, list[bytes]] = field(default_factory=dict)  # YYYYMMDDTHH -> lines
    records: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # event -> records
    not_exported: set[str] = field(default_factory=set)
    statuses: deque[int] = field(default_factory=deque)  # of the next answers, then none
    asked: list[str] = field(default_factory=list)

    def environ(self) -> dict[str, str]:
        """Return the settings with which both are asked."""
        return {
            "AMPLITUDE_API_KEY": API_KEY,
            "AMPLITUDE_SECRET_KEY": SECRET_KEY,
            "AMPLITUDE_EXPORT_URL": self.url,
            "CLEVERTAP_ACCOUNT_ID": ACCOUNT_ID,
            "CLEVERTAP_PASSCODE": PASSCODE,
            "CLEVERTAP_BASE_URL": self.url,
        }

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Answer one request."""
        parts = urlsplit(target)
        given = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.asked.append(f"{method} {parts.path} {given.get('start', '')}".strip())
        if self.statuses:
            return self.statuses.popleft(), b'{"status":"fail","error":"Too many"}'
        if (method, parts.path) == ("GET", "/api/2/export"):
            return self._export(given, headers)
        if parts.path == "/1/events.json":
            return self._events(method, given, headers, body)
        return 404, b"{}"

    def _export(self, given: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        wanted = base64.b64encode(f"{API_KEY}:{SECRET_KEY}".encode()).decode()
        if headers.get("authorization") != f"Basic {wanted}":
            return 401, b""
        datetime.strptime(given["start"], "%Y%m%dT%H")  # noqa: DTZ007 - raises where malformed
        assert given["start"] == given["end"], "one hour a request"
        lines = self.exports.get(given["start"])
        return (404, b"") if lines is None else (200, exported(lines))

    def _events(
        self, method: str, given: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> Answer:
        told = headers.get("x-clevertap-account-id"), headers.get("x-clevertap-passcode")
        if told != (ACCOUNT_ID, PASSCODE):
            return 401, b'{"status":"fail","error":"Account ID is not valid","code":401}'
        if method == "POST":
            asked = json.loads(body)
            assert {type(asked["from"]), type(asked["to"])} == {int}
            if asked["event_name"] in self.not_exported:
                error = {"status": "fail", "error": "Export not allowed for this event"}
                return 400, json.dumps({**error, "code": 400}).encode()
            return 200, json.dumps(
                {"status": "success", "cursor": f"{asked['event_name']}|0"}
            ).encode()
        name, _, start = given["cursor"].rpartition("|")
        records, first = self.records.get(name, []), int(start)
        page: dict[str, Any] = {"status": "success", "records": records[first : first + _PAGE]}
        if first + _PAGE < len(records):
            page["next_cursor"] = f"{name}|{first + _PAGE}"
        return 200, json.dumps(page).encode()


def exported(lines: Iterable[bytes]) -> bytes:
    """Return a zip as the Export API gives it: a gzipped file of JSON lines in a folder."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr("1/1_2026-11-22_4#0.json.gz", gzip.compress(b"\n".join(lines)))
    return written.getvalue()


@contextmanager
def past_double() -> Iterator[PastDouble]:
    """Serve on a free port of loopback until the block is left."""
    double = PastDouble()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(length)
            status, content = double.answer(self.command, self.path, headers, body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _answer  # noqa: N815 - the names that are looked for

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    double.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield double
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
