"""Push through Firebase: what is sent, what answers mean, and where access tokens come from."""

import asyncio
import json
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.support.clevertap_double import CleverTapDouble
from tests.support.partner_doubles import (
    FCM,
    FCM_PROJECT,
    FCM_TOKEN,
    TokenServer,
    service_account,
    token_server,
)

from experiment_engine.adapters.calling.client import open_client
from experiment_engine.adapters.calling.posting import Unsendable
from experiment_engine.adapters.fcm.credentials import GoogleTokens, NoToken, ServiceAccount
from experiment_engine.adapters.fcm.payload import to_body
from experiment_engine.adapters.fcm.sender import FcmSender
from experiment_engine.domain.delivery.message import Answer, Call, Content, Verdict
from experiment_engine.domain.errors import ConfigurationError
from experiment_engine.domain.identifiers import CallId, Channel, ExperimentId, UserId

ACCEPTED, REFUSED = Verdict.ACCEPTED, Verdict.REFUSED
NOT_TAKEN, UNCERTAIN = Verdict.NOT_TAKEN, Verdict.UNCERTAIN
DEVICE = "dJ7kxQ:APA91bH-device-token"
CONTENT = Content(Channel("push"), "शुभ", "body", "app://x?xp={experiment_id}")
PATH = f"/v1/projects/{FCM_PROJECT}/messages:send"


def call(content: Content = CONTENT, device: str | None = DEVICE) -> Call:
    user = UserId("usr_1")
    addresses = {} if device is None else {user: device}
    return Call(CallId("call-1"), content, {user: ExperimentId("exp-1")}, addresses)


class Fixed:
    """A token that is always there, or never."""

    def __init__(self, token: str | None = FCM_TOKEN) -> None:
        self._token = token

    async def token(self) -> str:
        if self._token is None:
            raise NoToken("RefreshError")
        return self._token


def send(
    client: httpx2.AsyncClient,
    *calls: Call,
    tokens: Any = None,
    limit: float = 5,
) -> list[Answer]:
    async def run() -> list[Answer]:
        sender = FcmSender(client, PATH, tokens or Fixed(), time_limit=limit)
        try:
            return [await sender.send(one) for one in calls or (call(),)]
        finally:
            await sender.close()

    return asyncio.run(run())


def answered(status: int, body: object) -> Answer:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    transport = httpx2.MockTransport(lambda _request: httpx2.Response(status, content=content))
    return send(httpx2.AsyncClient(base_url="https://fcm.test", transport=transport))[0]


def test_what_is_sent() -> None:
    """A notification for one device, with experiment and link as text beside it."""
    assert to_body(call()) == {
        "message": {
            "token": DEVICE,
            "notification": {"title": "शुभ", "body": "body"},
            "data": {"experiment_id": "exp-1", "deep_link": "app://x?xp=exp-1"},
        }
    }


def test_without_a_device() -> None:
    """A call without a device's token reaches nobody."""
    with pytest.raises(Unsendable, match="no_address"):
        to_body(call(device=None))


def error(status: int, code: str | None) -> dict[str, Any]:
    told = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
    details = [] if code is None else [{"@type": told, "errorCode": code}]
    return {"error": {"code": status, "message": "no", "status": "X", "details": details}}


@pytest.mark.parametrize(
    ("status", "code", "verdict"),
    [
        *((404, "UNREGISTERED", REFUSED), (403, "SENDER_ID_MISMATCH", REFUSED)),
        *((400, "INVALID_ARGUMENT", REFUSED), (429, "QUOTA_EXCEEDED", NOT_TAKEN)),
        *((401, "THIRD_PARTY_AUTH_ERROR", NOT_TAKEN), (503, "UNAVAILABLE", UNCERTAIN)),
        *((500, "INTERNAL", UNCERTAIN), (401, None, NOT_TAKEN), (403, None, NOT_TAKEN)),
        *((429, None, NOT_TAKEN), (400, None, REFUSED), (404, None, REFUSED)),
        *((500, None, UNCERTAIN), (503, "SOMETHING_NEW", UNCERTAIN)),
    ],
)
def test_errors(status: int, code: str | None, verdict: Verdict) -> None:
    """What a device cannot get is final, what may have been taken unknown, the rest waits."""
    answer = answered(status, error(status, code))
    known = code is not None and code != "SOMETHING_NEW"
    assert answer.verdict is verdict
    assert answer.reason == (str(code).lower() if known else f"http_{status}")


@pytest.mark.parametrize(
    ("body", "verdict", "reason"),
    [
        ({"name": "projects/p/messages/0:1"}, ACCEPTED, "accepted"),
        *(({"name": odd}, UNCERTAIN, "status_unclear") for odd in ("", None, 7)),
        *((body, UNCERTAIN, "not_json") for body in (b"", b"<html>", b"[]")),
    ],
)
def test_successes(body: object, verdict: Verdict, reason: str) -> None:
    """A 200 is believed only with the message's name."""
    answer = answered(200, body)
    assert (answer.verdict, answer.reason) == (verdict, reason)


def test_no_token_is_no_message() -> None:
    """While no access token can be had nothing is sent, and it is tried again."""
    (answer,) = send(open_client("http://127.0.0.1:1"), tokens=Fixed(None))
    assert (answer.verdict, answer.reason) == (NOT_TAKEN, "no_token")


# Over real HTTP, with Google's own library


@pytest.fixture
def double(tmp_path: Path) -> Iterator[CleverTapDouble]:
    with CleverTapDouble(tmp_path / "ledger", fsync=False, dialect=FCM, hang_s=4) as double:
        yield double


@pytest.fixture
def google() -> Iterator[TokenServer]:
    with token_server() as server:
        yield server


def tokens_from(google: TokenServer) -> GoogleTokens:
    key = {**service_account(), "token_uri": google.url}
    return GoogleTokens(ServiceAccount(FCM_PROJECT, key))


def test_one_token_for_many_messages(double: CleverTapDouble, google: TokenServer) -> None:
    """Google is asked once, with a signed assertion, and each message goes out once."""
    answers = send(open_client(double.base_url), call(), call(), tokens=tokens_from(google))

    assert [answer.verdict for answer in answers] == [ACCEPTED, ACCEPTED]
    assert google.asked == 1
    assert urllib.parse.parse_qs(google.last)["grant_type"] == [
        "urn:ietf:params:oauth:grant-type:jwt-bearer"
    ]
    assert [taken.users for taken in double.ledger()] == [(DEVICE,), (DEVICE,)]
    assert double.ledger()[0].experiment_ids == ("exp-1",)


def test_google_refuses(double: CleverTapDouble, google: TokenServer) -> None:
    """A key that Google does not take is no message, and no secret is told."""
    google.status = 401
    (answer,) = send(open_client(double.base_url), tokens=tokens_from(google))

    assert (answer.verdict, answer.reason) == (NOT_TAKEN, "no_token")
    assert "PRIVATE" not in answer.answer
    assert double.calls() == []


def test_those_who_wait_for_a_token_fail_together() -> None:
    """Google is asked once for all: while it hangs, no call waits behind the others' attempts."""
    asked = []

    def hang(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        raise httpx2.ReadTimeout("too slow")

    client = httpx2.Client(transport=httpx2.MockTransport(hang))
    account = ServiceAccount(FCM_PROJECT, {**service_account(), "token_uri": "https://x/token"})

    async def many() -> list[Answer]:
        sender = FcmSender(open_client("http://127.0.0.1:1"), PATH, GoogleTokens(account, client))
        try:
            return await asyncio.gather(*(sender.send(call()) for _ in range(20)))
        finally:
            await sender.close()

    assert {answer.reason for answer in asyncio.run(many())} == {"no_token"}
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("behaviour", "verdict", "reason"),
    [
        *((status, NOT_TAKEN, f"http_{status}") for status in ("401", "403", "429")),
        *((status, UNCERTAIN, f"http_{status}") for status in ("500", "503")),
        *(("400", REFUSED, "http_400"), ("redirect_307", REFUSED, "http_307")),
        *(("html_200", UNCERTAIN, "not_json"), ("fail_200", UNCERTAIN, "status_unclear")),
        ("processed_then_reset", UNCERTAIN, "disconnected"),
        ("processed_then_timeout", UNCERTAIN, "timed_out"),
    ],
)
def test_fault(double: CleverTapDouble, behaviour: str, verdict: Verdict, reason: str) -> None:
    """Over real sockets: what may have been taken is never called a refusal."""
    double.configure(script=[behaviour])
    limit = 2 if "timeout" in behaviour else 20
    (answer,) = send(open_client(double.base_url), limit=limit)
    assert (answer.verdict, answer.reason) == (verdict, reason)


# The key file


@pytest.mark.parametrize(
    "content", [None, b"", b"x", b"[]", b"{}", b'{"type":"authorized_user","project_id":"p"}']
)
def test_a_key_file_that_is_none(tmp_path: Path, content: bytes | None) -> None:
    """It stops the start with the setting's name and the mend."""
    path = tmp_path / "key.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"FCM_CREDENTIALS: .*Generate new private key"):
        ServiceAccount.read(path)


def test_a_key_that_cannot_be_used() -> None:
    """What is wrong with the key is said without the key."""
    key = {**service_account(), "token_uri": "https://x", "private_key": "SECRET-KEY"}
    with pytest.raises(ConfigurationError) as refused:
        GoogleTokens(ServiceAccount(FCM_PROJECT, key))
    assert "SECRET" not in str(refused.value)
    assert "SECRET" not in repr(ServiceAccount(FCM_PROJECT, key))


def test_without_google_auth() -> None:
    """Where google-auth is not installed the start says what to run, and nobody else needs it."""
    script = """
import sys
sys.modules["google"] = sys.modules["google.oauth2"] = None
from experiment_engine.adapters.fcm.credentials import GoogleTokens, ServiceAccount
import experiment_engine.adapters.providers
try:
    GoogleTokens(ServiceAccount("p", {}))
except Exception as error:
    print(type(error).__name__, error)
"""
    told = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert told.stdout.startswith("ConfigurationError FCM_CREDENTIALS: ")
    assert 'pip install "experiment-engine[fcm]"' in told.stdout
