"""Clients that are slow, large or many (RELIABILITY T14): they are let go, the others served.

Nothing here measures time: the slow are slower than the limit by far, and good clients are asked
only whether all of their requests were answered.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.support.engine import RunningEngine, running_engine
from tests.support.events import amplitude_event, somebody
from tests.support.raw_http import RawClient, raw_client, request
from tests.support.server import eventually, server_process

from experiment_engine.entrypoints.http.bodies import MAX_BODY
from experiment_engine.entrypoints.http.connections import BoundedProtocol

AMPLITUDE = "/webhook/amplitude"


class Impatient(BoundedProtocol):
    """The limits of the product, for people who test."""

    head_within = 0.4
    body_within = 0.8
    connections_at_most = 40


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    """Return an engine that waits for nobody long."""
    with running_engine(tmp_path_factory.mktemp("impatient"), protocol=Impatient) as running:
        yield running


def event(engine: RunningEngine, user: str | None = None) -> bytes:
    return json.dumps(amplitude_event(user or somebody(), engine.clock.iso())).encode()


def slow_head() -> bytes:
    return b"POST /webhook/amplitude HTTP/1.1\r\nhost: localhost\r\nx-slow: "


def slow_body(length: int = 1_000) -> bytes:
    return request(AMPLITUDE, b"[" + b" " * (length - 1))[: -length + 1]


def drip(client: RawClient, byte: bytes) -> None:
    """Send a byte now and then, until the server has enough."""
    while client.send(byte):
        time.sleep(0.02)


def test_the_limits_that_are_published() -> None:
    limits = BoundedProtocol
    assert (limits.head_within, limits.body_within, limits.head_size) == (5, 10, 16_384)
    assert limits.connections_at_most == 1_000


@pytest.mark.parametrize("start", [b"", b"P", slow_head()], ids=["nothing", "a letter", "headers"])
def test_a_head_that_does_not_come_is_not_waited_for(engine: RunningEngine, start: bytes) -> None:
    with raw_client(engine.url) as client:
        client.send(start)
        assert client.read_until_closed() == [408]


@pytest.mark.parametrize("start", [slow_head(), slow_body()], ids=["head", "body"])
def test_bytes_now_and_then_gain_no_time(engine: RunningEngine, start: bytes) -> None:
    """A byte every 20 ms does not keep a connection: the whole has to be there in time."""
    with raw_client(engine.url) as client:
        client.send(start)
        drip(client, b" ")
        assert client.read_until_closed() in ([408], [])  # the answer may be lost to our own bytes


def test_a_slow_body_is_told_so_and_nothing_is_stored(engine: RunningEngine) -> None:
    user = somebody()
    body = event(engine, user)
    with raw_client(engine.url) as client:
        client.send(request(AMPLITUDE, body)[:-1])
        assert client.read_until_closed() == [408]
    assert json.loads(client.received.partition(b"\r\n\r\n")[2])["error"]["code"]
    assert engine.get(f"/api/users/{user}")["timeline"] == []


def test_blank_lines_keep_no_connection(engine: RunningEngine) -> None:
    """Between requests as well: what is no request does not restart the keep-alive."""
    with raw_client(engine.url) as client:
        client.send(request("/health", method="GET"))
        assert client.read_answers(1) == [200]
        drip(client, b"\r\n")
        assert client.read_until_closed() in ([200, 408], [200])


def test_who_only_pauses_between_requests_is_kept(engine: RunningEngine) -> None:
    """The limits are for requests that have begun; pools keep connections for longer."""
    with raw_client(engine.url) as client:
        for number in (1, 2, 3):
            client.send(request(AMPLITUDE, event(engine)))
            assert client.read_answers(number) == [200] * number
            time.sleep(2 * Impatient.head_within)


def test_good_clients_are_served_among_slow_ones(engine: RunningEngine) -> None:
    """40 slow heads and 40 slow bodies fill 40 connections; 100 good events are all taken in."""
    stopping, gone = threading.Event(), []

    def be_slow(start: bytes) -> None:
        while not stopping.is_set():
            with raw_client(engine.url) as client:
                client.send(start)
                client.read_until_closed()
                gone.append(start)
            stopping.wait(0.2)

    starts = [slow_head(), slow_body()] * 40
    slow = [threading.Thread(target=be_slow, args=(start,)) for start in starts]
    for thread in slow:
        thread.start()
    try:
        answered = []
        for _ in range(100):  # a connection each: whoever comes may come for the first time
            with raw_client(engine.url) as client:
                client.send(request(AMPLITUDE, event(engine)))
                answered += client.read_answers(1)
        eventually(lambda: len(gone) > len(slow))
    finally:
        stopping.set()
        for thread in slow:
            thread.join()
    assert answered == [200] * 100


def test_the_one_that_waits_longest_makes_room(tmp_path: Path) -> None:
    """Above the limit idle connections go first, oldest first, and newcomers are served."""
    # An engine of its own: on the shared one, connections of tests before may still be open.
    with running_engine(tmp_path, protocol=Impatient) as engine, ExitStack() as stack:
        idle = []
        for _ in range(Impatient.connections_at_most):
            client = stack.enter_context(raw_client(engine.url))
            client.send(request("/health", method="GET"))
            client.read_answers(1)
            idle.append(client)
        newcomer = stack.enter_context(raw_client(engine.url))
        newcomer.send(request("/health", method="GET"))
        assert newcomer.read_answers(1) == [200]
        assert idle[0].read_until_closed()[0] == 200
        idle[-1].send(request("/health", method="GET"))
        assert idle[-1].read_answers(2) == [200, 200]


def head_of(size: int) -> bytes:
    """Return a request whose request line and headers have exactly this size, as it is counted."""
    start = b"GET /health HTTP/1.1\r\nhost: localhost\r\nx-long: "
    counted = len("/health") + len("hostlocalhost: \r\n") + len("x-long: \r\n")
    return start + b"x" * (size - counted) + b"\r\n\r\n"


@pytest.mark.parametrize(("over", "status"), [(0, 200), (1, 431)])
def test_the_size_of_a_head(engine: RunningEngine, over: int, status: int) -> None:
    """16 KiB are taken, a byte more is not."""
    with raw_client(engine.url) as client:
        client.send(head_of(BoundedProtocol.head_size + over))
        assert client.read_answers(1) == [status]


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\n" + b"a: b\r\n" * 5_000 + b"\r\n",
        b"GET /health HTTP/1.1\r\nx: " + b"x" * 1_000_000,
        b"GET /health HTTP/1.1\r\n" + b"x" * 1_000_000,
        b"GET /" + b"x" * 1_000_000,
        b"\r\n" * 500_000,
    ],
    ids=["long path", "many headers", "endless value", "endless name", "endless path", "blanks"],
)
def test_a_head_without_measure(engine: RunningEngine, head: bytes) -> None:
    """Whatever grows without an end is cut off, in one piece or in many."""
    for size in (len(head), 4_096):
        with raw_client(engine.url) as client:
            for start in range(0, len(head), size):
                if not client.send(head[start : start + size]):
                    break
            assert set(client.read_until_closed()) <= {431, 408}


@pytest.mark.parametrize("path", [AMPLITUDE, "/webhook/opened", "/api/trigger", "/login", "/none"])
@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
def test_a_body_without_measure(engine: RunningEngine, path: str, *, chunked: bool) -> None:
    """64 MB are refused at every kind of route, declared or not."""
    piece = b" " * 65_536
    length = b"transfer-encoding: chunked" if chunked else b"content-length: %d" % (64 << 20)
    with raw_client(engine.url) as client:
        client.send(f"POST {path} HTTP/1.1\r\nhost: localhost\r\n".encode() + length + b"\r\n\r\n")
        for _ in range(1024):
            if not client.send(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece):
                break
        client.send(b"0\r\n\r\n" if chunked else b"")
        client.finish()
        assert set(client.read_until_closed()) <= {413, 404, 405, 422, 408}
    assert engine.client.get("/health").status_code == 200


@pytest.mark.parametrize(("over", "status"), [(0, 200), (1, 413)])
def test_the_size_of_a_body(engine: RunningEngine, over: int, status: int) -> None:
    """1 MiB is taken, a byte more is not; the connection goes on."""
    body = event(engine)
    body += b" " * (MAX_BODY + over - len(body))
    with raw_client(engine.url) as client:
        client.send(request(AMPLITUDE, body) + request("/health", method="GET"))
        assert client.read_answers(2) == [status, 200]


def test_very_many_keys_are_an_event_like_any_other(engine: RunningEngine) -> None:
    keys = ",".join(f'"k{number}":0' for number in range(80_000))
    body = event(engine)[:-1] + b"," + keys.encode() + b"}"
    assert engine.post(AMPLITUDE, body).status_code == 200


def test_requests_in_one_piece_are_answered_in_their_order(engine: RunningEngine) -> None:
    """50 pipelined requests, good, bad and unknown by turns."""
    turns = [
        (request(AMPLITUDE, event(engine)), 200),
        (request(AMPLITUDE, b"nonsense"), 400),
        (request("/health", method="GET"), 200),
        (request("/none", method="GET"), 404),
        (request("/webhook/opened", method="DELETE"), 405),
    ] * 10
    with raw_client(engine.url) as client:
        client.send(b"".join(one for one, _ in turns))
        assert client.read_answers(len(turns)) == [status for _, status in turns]


def test_an_early_answer_leaves_the_connection_usable(engine: RunningEngine) -> None:
    """After 413 the rest of the body is thrown away, and the next request is heard."""
    with raw_client(engine.url) as client:
        client.send(request(AMPLITUDE, b" " * (3 << 20)))
        client.send(request("/health", method="GET"))
        assert client.read_answers(2) == [413, 200]


@pytest.mark.long
def test_the_whole_storm_on_the_shipped_limits(tmp_path: Path) -> None:
    """500 slow heads, 500 slow bodies and 16 bodies of 64 MB: 2,000 events get in, memory stays.

    On the command itself, with its own limits of time: the storm goes on for all of the 2,000.
    """
    with server_process(tmp_path, {"LOG_FORMAT": "json"}) as server, ExitStack() as stack:
        answered: list[int] = []
        for number in range(1_000):
            client = stack.enter_context(raw_client(server.url))
            client.send(slow_head() if number % 2 else slow_body())
        large = [stack.enter_context(raw_client(server.url)) for _ in range(16)]
        floods = [threading.Thread(target=_flood, args=(client,)) for client in large]
        for flood in floods:
            flood.start()
        for number in range(2_000):
            body = json.dumps({"event_type": "checkout_abandoned", "user_id": f"usr_{number}"})
            with raw_client(server.url) as client:
                client.send(request(AMPLITUDE, body.encode()))
                answered += client.read_answers(1)
        for flood in floods:
            flood.join()
        peak = _peak_memory(server.process.pid)
        print(f"2,000 events among 1,016 hostile connections; peak {peak >> 20} MiB")
        assert answered == [200] * 2_000
        assert peak < 256 << 20


def _flood(client: RawClient) -> None:
    client.send(b"POST /webhook/amplitude HTTP/1.1\r\nhost: localhost\r\n")
    client.send(b"transfer-encoding: chunked\r\n\r\n")
    piece = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    for _ in range(1024):
        if not client.send(piece):
            return


def _peak_memory(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    (line,) = [line for line in text.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1_024
