"""Every fault of a real server, over real sockets: what we conclude is what the server did."""

import asyncio
import contextlib
import socket
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import uvloop
from tests.support.clevertap_double import (
    ACCOUNT_ID,
    BEHAVIOURS,
    PASSCODE,
    CleverTapDouble,
    CleverTapDoubleProcess,
)

from experiment_engine.adapters.clevertap.sender import Account, CleverTapSender, open_client
from experiment_engine.domain.delivery.message import Answer, Call, Content, Verdict
from experiment_engine.domain.identifiers import CallId, Channel, ExperimentId, UserId

ACCEPTED, REFUSED = Verdict.ACCEPTED, Verdict.REFUSED
NOT_TAKEN, UNCERTAIN = Verdict.NOT_TAKEN, Verdict.UNCERTAIN
SLOW = {"hang", "processed_then_timeout", "drip"}

Run = Callable[[Awaitable[list[Answer]]], list[Answer]]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run on Python's own loop and on the one of `serve`: they fail in different words."""

    def run(work: Awaitable[list[Answer]]) -> list[Answer]:
        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(work)  # type: ignore[arg-type]

    return run


@pytest.fixture
def double(tmp_path: Path) -> Iterator[CleverTapDouble]:
    with CleverTapDouble(tmp_path / "ledger", fsync=False, drip_interval_s=0.05) as double:
        yield double


def call(*users: str, channel: str = "push", number: int = 1) -> Call:
    content = Content(Channel(channel), "t", "b", "app://{experiment_id}", campaign_id="17")
    ids = {UserId(user): ExperimentId(f"exp-{user}-{number}") for user in users or ("usr_1",)}
    return Call(CallId(f"call-{number}"), content, ids)


@contextlib.asynccontextmanager
async def sender_to(
    url: str, *, time_limit: float = 5, connect_limit: float = 1, account: Account | None = None
) -> AsyncIterator[CleverTapSender]:
    client = open_client(url, connect_limit=connect_limit)
    sender = CleverTapSender(
        client, account or Account(ACCOUNT_ID, PASSCODE), time_limit=time_limit
    )
    try:
        yield sender
    finally:
        await sender.close()


async def send(
    url: str, *calls: Call, time_limit: float = 5, connect_limit: float = 1
) -> list[Answer]:
    async with sender_to(url, time_limit=time_limit, connect_limit=connect_limit) as sender:
        return [await sender.send(one) for one in calls]


@pytest.mark.parametrize(
    ("behaviour", "verdict", "reason"),
    [
        ("ok", ACCEPTED, "accepted"),
        ("unprocessed", REFUSED, "code_514"),
        ("400", REFUSED, "http_400"),
        ("401", NOT_TAKEN, "http_401"),
        ("403", NOT_TAKEN, "http_403"),
        ("404", REFUSED, "http_404"),
        ("429", NOT_TAKEN, "http_429"),
        ("429_seconds", NOT_TAKEN, "http_429"),
        ("429_date", NOT_TAKEN, "http_429"),
        ("429_garbage", NOT_TAKEN, "http_429"),
        ("429_huge", NOT_TAKEN, "http_429"),
        ("500", UNCERTAIN, "http_500"),
        ("502", UNCERTAIN, "http_502"),
        ("503", UNCERTAIN, "http_503"),
        ("504", UNCERTAIN, "http_504"),
        ("accept_close", UNCERTAIN, "disconnected"),
        ("close_after_headers", UNCERTAIN, "disconnected"),
        ("redirect_302", UNCERTAIN, "http_302"),
        ("redirect_307", REFUSED, "http_307"),
        ("fail_200", REFUSED, "code_400"),
        ("html_200", UNCERTAIN, "not_json"),
        ("hang", UNCERTAIN, "timed_out"),
        ("processed_then_500", UNCERTAIN, "http_500"),
        ("processed_then_html", UNCERTAIN, "not_json"),
        ("processed_then_timeout", UNCERTAIN, "timed_out"),
        ("processed_then_reset", UNCERTAIN, "disconnected"),
        ("processed_then_cut", UNCERTAIN, "disconnected"),
        ("drip", UNCERTAIN, "timed_out"),
        ("huge_body", UNCERTAIN, "answer_too_large"),
        ("gzip_bomb", UNCERTAIN, "answer_too_large"),
    ],
)
def test_fault(
    run: Run, double: CleverTapDouble, behaviour: str, verdict: Verdict, reason: str
) -> None:
    """Each fault is called by its name."""
    double.behaviour = behaviour
    limit = 0.3 if behaviour in SLOW else 5
    (answer,) = run(send(double.base_url, call(), time_limit=limit))

    assert (answer.verdict, answer.reason) == (verdict, reason)


@pytest.mark.parametrize("run", [uvloop.new_event_loop], ids=["uvloop"], indirect=True)
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_never_a_wrong_proof(run: Run, double: CleverTapDouble, behaviour: str) -> None:
    """What the server took is never called refused, and what it did not take never accepted."""
    double.configure(behaviour=behaviour, refuse_for_s=0.2)
    limit = 0.3 if behaviour in SLOW else 5
    answers = run(send(double.base_url, call(number=1), call(number=2), time_limit=limit))

    taken = [experiment for one in double.ledger() for experiment in one.experiment_ids]
    for number, answer in enumerate(answers, 1):
        if f"exp-usr_1-{number}" in taken:
            assert answer.verdict in (ACCEPTED, UNCERTAIN)
        else:
            assert answer.verdict is not ACCEPTED
    assert len(taken) == len(set(taken))
    assert double.stats().redirect_hits == 0


@pytest.mark.parametrize(
    ("behaviour", "least", "most"),
    [
        ("429", None, None),
        ("429_garbage", None, None),
        ("429_seconds", 2_000, 2_000),
        ("429_date", 1_000, 2_000),
        ("429_huge", 3_600_000, 3_600_000),
    ],
)
def test_retry_after(
    run: Run, double: CleverTapDouble, behaviour: str, least: int | None, most: int | None
) -> None:
    """How long to wait arrives in every form."""
    double.configure(behaviour=behaviour, retry_after_s=2)
    (answer,) = run(send(double.base_url, call()))

    if least is None or most is None:
        assert answer.retry_after is None
    else:
        assert answer.retry_after is not None
        assert least <= answer.retry_after <= most


@pytest.mark.parametrize("channel", ["push", "whatsapp"])
def test_batch(run: Run, double: CleverTapDouble, channel: str) -> None:
    """A thousand users go in one call, and those the server leaves out are told apart."""
    users = [f"usr_{number}" for number in range(1_000)]
    double.configure(unprocessed_users=users[10:13])
    (answer,) = run(send(double.base_url, call(*users, channel=channel)))

    assert answer.verdict is ACCEPTED
    assert set(answer.exceptions) == set(users[10:13])
    assert [len(one.users) for one in double.ledger()] == [997]


def test_poisoned_batch(run: Run, double: CleverTapDouble) -> None:
    """One user can spoil a whole call; the answer says that halving it may help."""
    double.configure(poison_users=["usr_2"])
    answers = run(send(double.base_url, call("usr_1", "usr_2", "usr_3"), call("usr_1", "usr_3")))

    assert [(one.verdict, one.whole_call) for one in answers] == [
        (REFUSED, True),
        (ACCEPTED, False),
    ]


def test_wrong_account(run: Run, double: CleverTapDouble) -> None:
    """A wrong passcode is not taken, may heal, and does not show."""

    async def work() -> list[Answer]:
        account = Account(ACCOUNT_ID, "wrong-passcode")
        async with sender_to(double.base_url, account=account) as sender:
            return [await sender.send(call())]

    (answer,) = run(work())
    assert (answer.verdict, answer.whole_call) == (NOT_TAKEN, False)
    assert "wrong-passcode" not in answer.answer


def test_connections_are_kept(run: Run, double: CleverTapDouble) -> None:
    """Calls share connections, but for one whose answer was not read to its end."""
    run(send(double.base_url, *(call(number=number) for number in range(20))))
    assert double.stats().connections == 1

    double.configure(script=["huge_body", "ok"])
    run(send(double.base_url, call(number=21), call(number=22)))
    assert double.stats().connections == 3


def test_many_at_once(run: Run, double: CleverTapDouble) -> None:
    """Calls beside each other do not mix up their answers."""
    double.configure(user_behaviours={"usr_1": "400", "usr_2": "503"}, latency_ms=20)

    async def work() -> list[Answer]:
        async with sender_to(double.base_url) as sender:
            calls = (sender.send(call(f"usr_{number}")) for number in range(1, 4))
            return list(await asyncio.gather(*calls))

    assert [answer.verdict for answer in run(work())] == [REFUSED, UNCERTAIN, ACCEPTED]


def test_refused_connection(run: Run) -> None:
    """Nobody listens: provably nothing was written."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    (answer,) = run(send(f"http://127.0.0.1:{port}", call()))

    assert (answer.verdict, answer.reason) == (NOT_TAKEN, "connection_refused")


def test_connecting_takes_too_long(run: Run) -> None:
    """A host that does not answer the handshake was told nothing."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):  # fill the queue; further handshakes are dropped
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        port = server.getsockname()[1]
        (answer,) = run(send(f"http://127.0.0.1:{port}", call(), connect_limit=0.2))

    assert (answer.verdict, answer.reason) == (NOT_TAKEN, "connect_timed_out")


def test_no_such_host(run: Run) -> None:
    """A name that does not resolve was told nothing."""
    (answer,) = run(send("http://nobody.invalid", call(), connect_limit=3))

    assert answer.verdict is NOT_TAKEN
    assert answer.reason in ("dns_failed", "connect_timed_out")


def test_no_tls(run: Run, double: CleverTapDouble) -> None:
    """A failed TLS handshake carried nothing."""
    url = double.base_url.replace("http://", "https://")
    (answer,) = run(send(url, call()))

    assert answer.verdict is NOT_TAKEN
    assert answer.reason in ("tls_failed", "connect_failed")
    assert double.ledger() == []


def test_no_free_connection(run: Run, double: CleverTapDouble) -> None:
    """A call that waits in vain for a connection was not made."""
    double.behaviour = "hang"

    async def work() -> list[Answer]:
        client = open_client(double.base_url, connections=1, connect_limit=0.1)
        sender = CleverTapSender(client, Account(ACCOUNT_ID, PASSCODE), time_limit=0.5)
        answers = await asyncio.gather(sender.send(call(number=1)), sender.send(call(number=2)))
        await sender.close()
        return list(answers)

    answers = run(work())
    assert {answer.reason for answer in answers} == {"timed_out", "no_free_connection"}
    assert len(double.calls()) == 1


@pytest.mark.parametrize("behaviour", ["huge_body", "gzip_bomb"])
def test_memory(tmp_path: Path, run: Run, behaviour: str) -> None:
    """A hundred megabytes, packed or not, do not come into our memory."""
    with CleverTapDoubleProcess(tmp_path / "ledger", behaviour=behaviour) as double:
        tracemalloc.start()
        run(send(double.base_url, *(call(number=number) for number in range(3))))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert peak < 20 * 2**20
