"""`doctor` asks every partner that has credentials, by calls that send nothing to anybody."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.support.partner_doubles import (
    FCM_PROJECT,
    FCM_TOKEN,
    META_TOKEN,
    PHONE_NUMBER_ID,
    SIGNING_SECRET,
    TokenServer,
    service_account,
    token_server,
)
from tests.support.server import free_port

from experiment_engine.application.diagnosis import Finding
from experiment_engine.entrypoints.checkup.partners import of_providers
from experiment_engine.settings import read_settings


class Asked(NamedTuple):
    method: str
    path: str
    authorization: str
    body: bytes


class Partner:
    """A partner that answers everything alike, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.status, self.body = 200, b"{}"
        self.url = ""

    def says(self, status: int, **body: object) -> None:
        self.status, self.body = status, json.dumps(body).encode()


@contextmanager
def a_partner() -> Iterator[Partner]:
    partner = Partner()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            told = self.headers.get("authorization", "")
            partner.asked.append(Asked(self.command, self.path, told, body))
            self.send_response(partner.status)
            self.send_header("Content-Length", str(len(partner.body)))
            self.end_headers()
            self.wfile.write(partner.body)

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        partner.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield partner
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def partner() -> Iterator[Partner]:
    with a_partner() as opened:
        yield opened


@pytest.fixture
def tokens() -> Iterator[TokenServer]:
    with token_server() as opened:
        yield opened


def look(check: str, environ: Mapping[str, str]) -> Finding:
    found = {one.check: one for one in of_providers(read_settings(environ, None))}
    return found[check]


def meta(partner: Partner) -> dict[str, str]:
    return {
        "META_ACCESS_TOKEN": META_TOKEN,
        "META_PHONE_NUMBER_ID": PHONE_NUMBER_ID,
        "META_BASE_URL": partner.url,
    }


def amplitude(partner: Partner) -> dict[str, str]:
    return {
        "AMPLITUDE_API_KEY": "key-1",
        "AMPLITUDE_SECRET_KEY": "canary-secret",
        "AMPLITUDE_EXPORT_URL": partner.url,
    }


@pytest.fixture
def fcm(tmp_path: Path, tokens: TokenServer) -> Callable[[Partner], dict[str, str]]:
    key = {**service_account(), "token_uri": tokens.url}
    (tmp_path / "key.json").write_text(json.dumps(key))
    return lambda partner: {
        "FCM_CREDENTIALS": str(tmp_path / "key.json"),
        "FCM_BASE_URL": partner.url,
    }


NO_MORE = {"error": {"code": 190, "type": "OAuthException", "message": "it has expired"}}


@pytest.mark.parametrize(
    ("status", "body", "state"),
    [
        (200, {"id": PHONE_NUMBER_ID}, "ok"),
        (200, {}, "wrong"),
        (401, NO_MORE, "wrong"),
        (400, {"error": {"code": 100, "message": "does not exist"}}, "wrong"),
        (400, {"error": {"code": 4, "message": "too many calls"}}, "note"),
        (429, {}, "note"),
        (503, {}, "wrong"),
    ],
)
def test_meta_is_asked_for_our_number(
    partner: Partner, status: int, body: dict[str, object], state: str
) -> None:
    """Only who gets the number's id knows that the token is good, and no message is sent."""
    partner.says(status, **body)

    assert look("meta", meta(partner)).state == state
    (asked,) = partner.asked
    assert asked.method == "GET"
    assert asked.path == f"/v23.0/{PHONE_NUMBER_ID}?fields=id"
    assert asked.authorization == f"Bearer {META_TOKEN}"


@pytest.mark.parametrize(
    ("status", "error", "state"),
    [
        (400, {"status": "INVALID_ARGUMENT"}, "ok"),
        (404, {"status": "UNREGISTERED"}, "ok"),
        (404, {"status": "NOT_FOUND"}, "wrong"),
        (403, {"status": "PERMISSION_DENIED"}, "wrong"),
        (429, {}, "note"),
        (500, {}, "wrong"),
    ],
)
def test_firebase_is_asked_to_check_only(
    partner: Partner,
    fcm: Callable[[Partner], dict[str, str]],
    status: int,
    error: dict[str, object],
    state: str,
) -> None:
    """The question carries `validate_only` and a device that is none."""
    partner.says(status, error=error)

    assert look("fcm", fcm(partner)).state == state
    (asked,) = partner.asked
    assert asked.path == f"/v1/projects/{FCM_PROJECT}/messages:send"
    assert asked.authorization == f"Bearer {FCM_TOKEN}"
    assert json.loads(asked.body)["validate_only"] is True


def test_google_refuses_the_key(
    partner: Partner, fcm: Callable[[Partner], dict[str, str]], tokens: TokenServer
) -> None:
    """A key that Google does not know is told as such, and Firebase is not asked."""
    tokens.status = 400
    found = look("fcm", fcm(partner))

    assert (found.state, "new key" in found.mend) == ("wrong", True)
    assert partner.asked == []


def test_a_key_file_that_is_none(tmp_path: Path) -> None:
    """A file that is no key is named, with where the right one comes from."""
    (tmp_path / "key.json").write_text("{}")
    found = look("fcm", {"FCM_CREDENTIALS": str(tmp_path / "key.json")})

    assert (found.state, "key.json is no key" in found.saw) == ("wrong", True)


@pytest.mark.parametrize(
    ("status", "state"),
    [(404, "ok"), (200, "ok"), (401, "wrong"), (403, "wrong"), (429, "note"), (500, "wrong")],
)
def test_amplitude_is_asked_for_an_empty_hour(partner: Partner, status: int, state: str) -> None:
    """Whether the export keys are good, by an hour in which nothing was uploaded."""
    partner.says(status)
    found = look("amplitude export", amplitude(partner))

    assert found.state == state
    assert "canary" not in f"{found.saw} {found.mend}"
    (asked,) = partner.asked
    assert asked.path == "/api/2/export?start=20150101T00&end=20150101T00"


@pytest.mark.parametrize(
    ("url", "loopback", "state", "saw"),
    [
        ("https://192.0.2.1/due", "", "wrong", "not on the public internet"),
        ("https://127.0.0.1/due", "", "wrong", "not on the public internet"),
        ("https://no-such-host.invalid/due", "", "wrong", "its name is not found"),
        ("http://127.0.0.1:9/due", "1", "ok", "it was not called"),
    ],
)
def test_a_receiver_is_looked_up(url: str, loopback: str, state: str, saw: str) -> None:
    """Where an outgoing webhook goes is judged as a call would be, and nothing is called."""
    given = {"OUTGOING_WEBHOOK_URL": url, "OUTGOING_WEBHOOK_SECRET": SIGNING_SECRET}
    found = look("webhook", given | ({"OUTGOING_WEBHOOK_LOOPBACK": "1"} if loopback else {}))

    assert found.state == state
    assert saw in found.saw


@pytest.mark.parametrize("settings", [meta, amplitude])
def test_a_partner_that_is_away(settings: Callable[[Partner], dict[str, str]]) -> None:
    """Where nobody answers, the way out of this machine is named."""
    away = Partner()
    away.url = f"http://127.0.0.1:{free_port()}"
    given = settings(away)
    found = look("meta" if settings is meta else "amplitude export", given)

    assert (found.state, "DNS" in found.mend) == ("wrong", True)
