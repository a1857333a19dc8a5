"""What the doubles of providers other than CleverTap have of their own; see clevertap_double."""

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from tests.support.clevertap_double import (
    Dialect,
    Json,
    _bad,
    _Intake,
    _object,
    _only,
    _RefusedError,
    _text,
)

SIGNING_SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
HOOK = "/due"

Api = Callable[[Json], _Intake]


def _at(pattern: str, read: Api) -> Callable[[str], Api]:
    def api(path: str) -> Api:
        if re.fullmatch(pattern, path) is None:
            raise _RefusedError(404, "Not found")
        return read

    return api


def _hook(body: Json) -> _Intake:
    """Check what the engine's own documentation promises to a receiver."""
    _only(body, frozenset({"type", "timestamp", "data"}), "body")
    data = _object(body.get("data"), "data")
    for name in ("experiment_id", "user_id", "channel", "title", "body"):
        _text(data.get(name), name)
    return _Intake([str(data["user_id"])])


def _signed(headers: Mapping[str, str], body: bytes) -> None:
    """Check the signature by the reference implementation of Standard Webhooks."""
    try:
        Webhook(SIGNING_SECRET).verify(body, cast("Any", dict(headers)))
    except WebhookVerificationError as error:
        raise _RefusedError(401, str(error)) from error


OUTGOING = Dialect(_at(HOOK, _hook), _signed, b'{"thanks":true}')


def _bearer(token: str) -> Callable[[Mapping[str, str], bytes], None]:
    def check(headers: Mapping[str, str], _body: bytes) -> None:
        if headers.get("authorization") != f"Bearer {token}":
            raise _RefusedError(401, "Invalid OAuth access token")

    return check


META_TOKEN, PHONE_NUMBER_ID = "EAAG-test-token", "106540352242922"


def _template_message(body: Json) -> _Intake:
    """Check a template message as the Cloud API documents it; the rest is a typing error."""
    known = {"messaging_product", "recipient_type", "to", "type", "template"}
    _only(body, frozenset({*known, "biz_opaque_callback_data"}), "body")
    if (body.get("messaging_product"), body.get("type")) != ("whatsapp", "template"):
        raise _bad("messaging_product and type must be whatsapp and template")
    template = _object(body.get("template"), "template")
    _text(template.get("name"), "template.name")
    _text(_object(template.get("language"), "template.language").get("code"), "code")
    for component in cast("list[Json]", template.get("components", [])):
        for parameter in cast("list[Json]", component["parameters"]):
            text = _text(parameter.get("text"), "parameter.text")
            if re.search(r"[\n\t]| {5}", text):
                raise _bad("Param text cannot have new-line/tab characters or 5 blanks")
    if re.fullmatch(r"\+?[0-9]{8,15}", _text(body.get("to"), "to")) is None:
        raise _bad("to must be a phone number")
    told = _text(body.get("biz_opaque_callback_data"), "biz_opaque_callback_data")
    return _Intake([str(body["to"])], experiment_ids=(told,))


META = Dialect(
    _at(rf"/v[0-9]+\.[0-9]/{PHONE_NUMBER_ID}/messages", _template_message),
    _bearer(META_TOKEN),
    b'{"messaging_product":"whatsapp","contacts":[{"input":"+919800000001","wa_id":"919800000001"}]'
    b',"messages":[{"id":"wamid.HBgL","message_status":"accepted"}]}',
)

FCM_TOKEN, FCM_PROJECT = "ya29.test-token", "test-project"


@cache
def service_account() -> Mapping[str, str]:
    """Return a key file's content with a key that nobody else has; `token_uri` is to be set."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    pem = key.private_bytes(encoding, form, serialization.NoEncryption()).decode()
    return {
        "type": "service_account",
        "project_id": FCM_PROJECT,
        "private_key_id": "key-1",
        "private_key": pem,
        "client_email": "engine@test-project.iam.gserviceaccount.com",
        "client_id": "1",
    }


@dataclass
class TokenServer:
    """Google's token endpoint: how often it was asked, and what it answers."""

    url: str = ""
    asked: int = 0
    status: int = 200
    last: str = ""


@contextmanager
def token_server() -> Iterator[TokenServer]:
    """Give out access tokens on a free port until the block is left."""
    told = TokenServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.asked += 1
            told.last = self.rfile.read(int(self.headers["content-length"])).decode()
            good = {"access_token": FCM_TOKEN, "expires_in": 3600, "token_type": "Bearer"}
            body = json.dumps(good if told.status == 200 else {"error": "invalid_grant"})
            self.send_response(told.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        told.url = f"http://127.0.0.1:{server.server_port}/token"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield told
        finally:
            server.shutdown()
            thread.join()


def _fcm_message(body: Json) -> _Intake:
    """Check a message for one token as FCM's HTTP v1 documents it."""
    _only(body, frozenset({"message", "validate_only"}), "body")
    message = _object(body.get("message"), "message")
    _only(message, frozenset({"token", "notification", "data", "android", "apns"}), "message")
    _text(message.get("token"), "message.token")
    notification = _object(message.get("notification"), "message.notification")
    _text(notification.get("title"), "title")
    for name, value in _object(message.get("data", {}), "message.data").items():
        if not isinstance(value, str):
            raise _bad(f"data.{name} must be a string")
    return _Intake([str(message["token"])])


FCM = Dialect(
    _at(f"/v1/projects/{FCM_PROJECT}/messages:send", _fcm_message),
    _bearer(FCM_TOKEN),
    b'{"name":"projects/test-project/messages/0:1500415314455276%31bd1c9631bd1c96"}',
)
