"""How a call is made: once, with our account, and without a way to raise."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable

import httpx2
import pytest

from experiment_engine.adapters.calling.client import MAX_ANSWER
from experiment_engine.adapters.clevertap.sender import (
    Account,
    CleverTapSender,
    base_url,
    open_client,
)
from experiment_engine.domain.delivery.message import Answer, Call, Content, Verdict
from experiment_engine.domain.errors import ConfigurationError
from experiment_engine.domain.identifiers import CallId, Channel, ExperimentId, UserId

ACCOUNT = Account("ACC-123", "SECRET-PASSCODE")
ADDED = {"status": "success", "message": "Added to queue for processing"}
PUSH = Content(Channel("push"), "शुभ", "body", "app://x?xp={experiment_id}")

Handler = Callable[[httpx2.Request], httpx2.Response]


def call(content: Content = PUSH, *users: str) -> Call:
    ids = {UserId(user): ExperimentId(f"exp-{user}") for user in users or ("usr_1",)}
    return Call(CallId("call-1"), content, ids)


def send(handler: Handler, message: Call | None = None, time_limit: float = 5) -> Answer:
    async def run() -> Answer:
        transport = httpx2.MockTransport(handler)
        client = httpx2.AsyncClient(base_url="https://clevertap.test/base", transport=transport)
        sender = CleverTapSender(client, ACCOUNT, time_limit=time_limit)
        try:
            return await sender.send(message or call())
        finally:
            await sender.close()

    return asyncio.run(run())


class Pieces(httpx2.AsyncByteStream):
    """A body that arrives in pieces, and may end in an error or never."""

    def __init__(self, *pieces: bytes, error: Exception | None = None, hang: bool = False) -> None:
        self._pieces, self._error, self._hang = pieces, error, hang
        self.closed = False
        self.read = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            self.read += len(piece)
            yield piece
        if self._error is not None:
            raise self._error
        if self._hang:
            await asyncio.sleep(60)

    async def aclose(self) -> None:
        self.closed = True


def answer_with(body: Pieces, status: int = 200, encoding: str = "identity") -> Answer:
    headers = {"Content-Encoding": encoding}
    answer = send(lambda _: httpx2.Response(status, stream=body, headers=headers), time_limit=0.2)
    assert body.closed
    return answer


def test_request() -> None:
    """A call goes out once, to the right path, as JSON, in our name."""
    seen: list[httpx2.Request] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(200, json=ADDED)

    answer = send(handler)

    (request,) = seen
    assert (request.method, request.url.path) == ("POST", "/base/1/send/push.json")
    assert request.headers["X-CleverTap-Account-Id"] == "ACC-123"
    assert request.headers["X-CleverTap-Passcode"] == "SECRET-PASSCODE"
    assert request.headers["Content-Type"] == "application/json"
    assert json.loads(request.content)["content"]["title"] == "शुभ"
    assert answer.verdict is Verdict.ACCEPTED
    assert json.loads(answer.answer) == ADDED


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (Content(Channel("email"), "t", "b", ""), "unknown_channel"),
        (Content(Channel("whatsapp"), "t", "b", ""), "no_campaign"),
        (Content(Channel("push"), "t\ud800", "b", ""), "not_writable"),
    ],
)
def test_never_called(content: Content, reason: str) -> None:
    """What cannot be put into words is refused without a call."""

    def handler(_: httpx2.Request) -> httpx2.Response:
        raise AssertionError

    answer = send(handler, call(content))

    assert (answer.verdict, answer.reason) == (Verdict.REFUSED, reason)


def test_refused_with_retry_after() -> None:
    """Status, headers and body all come to the answer."""
    headers = {"Retry-After": "30"}
    answer = send(lambda _: httpx2.Response(429, headers=headers, json={"error": "Too many"}))

    assert (answer.verdict, answer.retry_after) == (Verdict.NOT_TAKEN, 30_000)
    assert answer.answer == '{"error":"Too many"}'


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (httpx2.ConnectError("x"), Verdict.NOT_TAKEN),
        (httpx2.ReadError("x"), Verdict.UNCERTAIN),
        (ValueError("x"), Verdict.UNCERTAIN),
    ],
)
def test_never_raises(error: Exception, verdict: Verdict) -> None:
    """Whatever the network or a library does, it becomes an answer."""

    def handler(_: httpx2.Request) -> httpx2.Response:
        raise error

    assert send(handler).verdict is verdict


def test_cancelled() -> None:
    """Only the worker's own stop is not an answer."""

    async def hang(_: httpx2.Request) -> httpx2.Response:
        await asyncio.sleep(60)
        raise AssertionError

    async def run() -> None:
        client = httpx2.AsyncClient(
            base_url="https://c.test", transport=httpx2.MockTransport(hang)
        )
        task = asyncio.create_task(CleverTapSender(client, ACCOUNT).send(call()))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())


def test_closed() -> None:
    """After closing nothing is called, and so nothing was taken."""

    async def run() -> Answer:
        sender = CleverTapSender(open_client("https://clevertap.test"), ACCOUNT)
        await sender.close()
        return await sender.send(call())

    answer = asyncio.run(run())
    assert (answer.verdict, answer.reason) == (Verdict.NOT_TAKEN, "closed")


# The body


def test_body_in_pieces() -> None:
    """The whole body is read before it is believed."""
    body = json.dumps(ADDED).encode()

    assert answer_with(Pieces(body[:20], body[20:])).verdict is Verdict.ACCEPTED


def test_body_breaks_off() -> None:
    """A success that breaks off is none; a refusal that breaks off is one."""
    error = httpx2.ReadError("gone")
    answer = answer_with(Pieces(b'{"status":"success"', error=error))

    assert (answer.verdict, answer.reason) == (Verdict.UNCERTAIN, "disconnected")
    assert answer_with(Pieces(b"{", error=error), 400).verdict is Verdict.REFUSED


def test_body_never_ends() -> None:
    """The time limit holds for the body too, and what the status proved stays proven."""
    answer = answer_with(Pieces(b'{"status":"success"', hang=True))

    assert (answer.verdict, answer.reason) == (Verdict.UNCERTAIN, "timed_out")
    assert answer_with(Pieces(b"{", hang=True), 429).verdict is Verdict.NOT_TAKEN


def test_body_too_large() -> None:
    """Reading stops soon after a megabyte."""
    body = Pieces(*[b" " * 65_536] * 100)
    answer = answer_with(body)

    assert (answer.verdict, answer.reason) == (Verdict.UNCERTAIN, "answer_too_large")
    assert body.read <= MAX_ANSWER + 65_536


def test_body_compressed() -> None:
    """A compressed answer is read; one that is compressed wrongly is not."""
    packed = gzip.compress(json.dumps(ADDED).encode())

    assert answer_with(Pieces(packed), encoding="gzip").verdict is Verdict.ACCEPTED
    answer = answer_with(Pieces(b"no gzip"), encoding="gzip")
    assert (answer.verdict, answer.reason) == (Verdict.UNCERTAIN, "unreadable")


# Secrets and settings


def test_secrets_do_not_show() -> None:
    """Neither printing nor a server that echoes us brings the passcode to light."""

    def echo(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(400, json={"error": f"bad header {request.headers.raw}"})

    assert "SECRET" not in repr(ACCOUNT) + str(ACCOUNT)
    assert "ACC-123" not in repr(ACCOUNT)
    answer = send(echo)
    assert "***" in answer.answer
    assert "SECRET" not in repr(answer)


@pytest.mark.parametrize("value", ["", "a b", "a\n", "“quoted”", "a\x7f"])
def test_account_that_cannot_be(value: str) -> None:
    """A credential that no header can carry stops the start, and is not printed."""
    for account in ((value, "x"), ("x", value)):
        with pytest.raises(ConfigurationError) as raised:
            Account(*account)
        assert "CLEVERTAP_" in str(raised.value)


@pytest.mark.parametrize(
    ("region", "url"),
    [
        ("in1", "https://in1.api.clevertap.com"),
        ("sg1", "https://sg1.api.clevertap.com"),
        ("us1", "https://us1.api.clevertap.com"),
        ("aps3", "https://aps3.api.clevertap.com"),
        ("mec1", "https://mec1.api.clevertap.com"),
        ("eu1", "https://api.clevertap.com"),
    ],
)
def test_region(region: str, url: str) -> None:
    """Every region has its host; Europe's has no prefix."""
    assert base_url(region) == url


def test_unknown_region() -> None:
    """An unknown region names the known ones."""
    with pytest.raises(ConfigurationError, match=r"CLEVERTAP_REGION.*in1, sg1"):
        base_url("in2")


def test_client() -> None:
    """The client follows nothing and takes nothing from the environment."""
    client = open_client("https://clevertap.test")

    assert not client.follow_redirects
    assert not client.trust_env
    assert client.timeout.connect == 3
    asyncio.run(client.aclose())
