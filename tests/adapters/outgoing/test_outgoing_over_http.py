"""The outgoing webhook over real sockets: signed for any receiver, and honest about faults."""

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import pytest
from standardwebhooks.webhooks import Webhook
from tests.support.clevertap_double import CleverTapDouble
from tests.support.clock import FakeClock
from tests.support.partner_doubles import HOOK, OUTGOING, SIGNING_SECRET

from experiment_engine.adapters.calling.client import open_client
from experiment_engine.adapters.outgoing.sender import OutgoingSender, Receiver
from experiment_engine.adapters.outgoing.signing import SigningKey
from experiment_engine.adapters.system.clock import SystemClock
from experiment_engine.application.ports import Clock
from experiment_engine.domain.delivery.message import Answer, Call, Content, Verdict
from experiment_engine.domain.identifiers import CallId, Channel, ExperimentId, UserId
from experiment_engine.domain.moments import to_datetime

ACCEPTED, REFUSED = Verdict.ACCEPTED, Verdict.REFUSED
NOT_TAKEN, UNCERTAIN = Verdict.NOT_TAKEN, Verdict.UNCERTAIN
CONTENT = Content(Channel("push"), "शुभ", "body", "app://x?xp={experiment_id}")


def call(address: str | None = None, content: Content = CONTENT) -> Call:
    user = UserId("usr_1")
    addresses = {} if address is None else {user: address}
    return Call(CallId("call-1"), content, {user: ExperimentId("exp-1")}, addresses)


def send(
    url: str, *calls: Call, time_limit: float = 5, secret: str = SIGNING_SECRET, clock: Clock
) -> list[Answer]:
    async def run() -> list[Answer]:
        receiver = Receiver(url, SigningKey.of(secret), loopback=True)
        sender = OutgoingSender(open_client(""), receiver, clock, time_limit=time_limit)
        try:
            return [await sender.send(one) for one in calls]
        finally:
            await sender.close()

    return asyncio.run(run())


@pytest.fixture
def double(tmp_path: Path) -> Iterator[CleverTapDouble]:
    with CleverTapDouble(tmp_path / "ledger", fsync=False, dialect=OUTGOING, hang_s=4) as double:
        yield double


def test_a_message_arrives_signed(double: CleverTapDouble) -> None:
    """The reference implementation takes our signature; the receiver knows user and experiment."""
    (answer,) = send(double.base_url + HOOK, call(), clock=SystemClock())

    assert (answer.verdict, answer.reason, answer.status) == (ACCEPTED, "accepted", 200)
    (taken,) = double.ledger()
    assert (taken.users, taken.experiment_ids) == (("usr_1",), ("exp-1",))


def test_another_secret_is_not_let_in(double: CleverTapDouble) -> None:
    """What a receiver cannot check it refuses, and it may heal."""
    other = "whsec_" + SIGNING_SECRET.removeprefix("whsec_").swapcase()
    (answer,) = send(double.base_url + HOOK, call(), secret=other, clock=SystemClock())

    assert (answer.verdict, answer.reason) == (NOT_TAKEN, "http_401")
    assert double.ledger() == []


@pytest.mark.parametrize(
    ("behaviour", "verdict", "reason"),
    [
        *(("400", REFUSED, "http_400"), ("404", REFUSED, "http_404")),
        *((status, NOT_TAKEN, f"http_{status}") for status in ("401", "403", "429")),
        *((status, UNCERTAIN, f"http_{status}") for status in ("500", "502", "503", "504")),
        *(("redirect_302", UNCERTAIN, "http_302"), ("redirect_307", REFUSED, "http_307")),
        *(("processed_then_html", ACCEPTED, "accepted"), ("huge_body", ACCEPTED, "accepted")),
        ("processed_then_cut", ACCEPTED, "accepted"),
        ("processed_then_reset", UNCERTAIN, "disconnected"),
        ("close_after_headers", UNCERTAIN, "disconnected"),
        ("processed_then_timeout", UNCERTAIN, "timed_out"),
    ],
)
def test_fault(double: CleverTapDouble, behaviour: str, verdict: Verdict, reason: str) -> None:
    """A 2xx is a yes, whatever its body; what may have arrived is never taken for a no."""
    double.configure(script=[behaviour])
    url, limit = double.base_url + HOOK, 2 if "timeout" in behaviour else 20
    (answer,) = send(url, call(), time_limit=limit, clock=SystemClock())

    assert (answer.verdict, answer.reason) == (verdict, reason)
    assert double.stats().redirect_hits == 0


class Keeping(BaseHTTPRequestHandler):
    """Keeps what it gets, byte for byte."""

    got: list[tuple[dict[str, str], bytes]] = []  # noqa: RUF012 - one server, one test

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_what_a_receiver_gets() -> None:
    """Body and headers are as the documentation shows them; each try has the same id."""
    Keeping.got.clear()
    clock = FakeClock()
    with ThreadingHTTPServer(("127.0.0.1", 0), Keeping) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://localhost:{server.server_port}/due?a=b"
        answers = send(url, call("+919800000001"), call(), clock=clock)
        server.shutdown()

    assert [answer.verdict for answer in answers] == [ACCEPTED, ACCEPTED]
    (headers, body), (again, _) = Keeping.got
    assert json.loads(body) == {
        "type": "message.due",
        "timestamp": clock.iso(),
        "data": {
            "experiment_id": "exp-1",
            "user_id": "usr_1",
            "channel": "push",
            "title": "शुभ",
            "body": "body",
            "deep_link": "app://x?xp=exp-1",
            "address": "+919800000001",
        },
    }
    assert headers["webhook-id"] == again["webhook-id"] == "exp-1"
    assert headers["host"] == f"localhost:{server.server_port}"
    signed = Webhook(SIGNING_SECRET).sign("exp-1", to_datetime(clock.now()), body.decode())
    assert headers["webhook-signature"] == signed


def test_where_a_user_is_reached_is_kept_of_no_answer() -> None:
    """A receiver may repeat what it got; the address stays with the message that waits."""
    transport = httpx2.MockTransport(lambda asked: httpx2.Response(400, content=asked.content))
    receiver = Receiver("http://127.0.0.1/due", SigningKey.of(SIGNING_SECRET), loopback=True)
    sender = OutgoingSender(httpx2.AsyncClient(transport=transport), receiver, FakeClock())
    answer = asyncio.run(sender.send(call("+919800000001")))

    assert "message.due" in answer.answer
    assert "9800000001" not in answer.answer


def test_what_cannot_be_written() -> None:
    """A lone surrogate in somebody's name is a refusal, and nobody is called."""
    broken = Content(Channel("push"), "\ud800", "body", "")
    (answer,) = send("http://127.0.0.1:1/", call(content=broken), clock=FakeClock())

    assert (answer.verdict, answer.reason) == (REFUSED, "not_writable")
