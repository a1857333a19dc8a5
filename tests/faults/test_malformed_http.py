"""What is no HTTP, or no honest one: answered 4xx or cut off, never 5xx, never a harm to others.

Raw bytes on real sockets against the running engine, with the secret in them where a request
gets so far. Half of the bodies that follow are good, so that a request that is smuggled inside
another one would show as an event.
"""

import json
from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest
from tests.support.engine import RunningEngine, running_engine
from tests.support.events import amplitude_event, somebody
from tests.support.raw_http import raw_client, request

from experiment_engine.entrypoints.http.connections import BoundedProtocol

SEED = 20261122
BODY = b'{"event_type":"seen","user_id":"usr_1"}'
# Twice: a body that is longer than it should be swallows the first.
LAST = request("/health", method="GET", headers=(b"connection: close",)) * 2
GOOD = request("/webhook/amplitude", BODY)


class Impatient(BoundedProtocol):
    """Waits for what does not come no longer than a test should."""

    head_within = 0.3
    body_within = 0.3


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    """Return an engine that waits for nobody long."""
    with running_engine(tmp_path_factory.mktemp("malformed"), protocol=Impatient) as running:
        yield running


def post(*headers: bytes, line: bytes = b"POST /webhook/amplitude HTTP/1.1") -> bytes:
    """Return the head of a request."""
    return b"\r\n".join([line, b"host: localhost", *headers]) + b"\r\n\r\n"


# Refused, or cut off without an answer.
MALFORMED: dict[str, bytes] = {
    "nothing but noise": bytes(range(256)) * 4,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xaa" * 300,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/9.9": b"GET /health HTTP/9.9\r\n\r\n",
    "unknown method": b"HACK /health HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "small letters": b"post /webhook/amplitude HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "NUL in the path": b"GET /he\x00alth HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "NUL in a header": post(b"x: a\x00b"),
    "blank in a name": post(b"x y: a"),
    "blank before the colon": post(b"content-length : 3") + b"abc",
    "no name": post(b": a"),
    "no colon": post(b"nothing"),
    "folded header": post(b"x: a", b" b: c"),
    "bare CR": b"GET /health HTTP/1.1\rhost: localhost\r\r",
    "two lengths": post(b"content-length: 3", b"content-length: 4") + b"abcd",
    "list of lengths": post(b"content-length: 3, 3") + b"abc",
    "negative length": post(b"content-length: -1"),
    "plus length": post(b"content-length: +3") + b"abc",
    "hexadecimal length": post(b"content-length: 0x3") + b"abc",
    "endless length": post(b"content-length: " + b"9" * 400),
    "no length at all": post(b"content-length: "),
    "length and chunks": post(b"content-length: 4", b"transfer-encoding: chunked") + b"0\r\n\r\n",
    "chunked, not last": post(b"transfer-encoding: chunked, gzip") + b"0\r\n\r\n",
    "chunked twice": post(b"transfer-encoding: chunked", b"transfer-encoding: gzip")
    + b"0\r\n\r\n",
    "unknown coding": post(b"transfer-encoding: xchunked") + b"0\r\n\r\n",
    "bad chunk size": post(b"transfer-encoding: chunked") + b"zz\r\nabc\r\n0\r\n\r\n",
    "endless chunk size": post(b"transfer-encoding: chunked") + b"f" * 40 + b"\r\n",
    "negative chunk": post(b"transfer-encoding: chunked") + b"-1\r\n\r\n",
    "chunk without an end": post(b"transfer-encoding: chunked") + b"3\r\nabcdef\r\n0\r\n\r\n",
    "no end of chunks": post(b"transfer-encoding: chunked") + b"3\r\nabc\r\n",
    "shorter than said": post(b"content-length: 100") + BODY,
    "half a head": GOOD[:40],
    "half a body": GOOD[:-5],
}

# Odd, and answered like any other request; what counts is that it is no failure of ours.
ODD: dict[str, bytes] = {
    "no version": b"GET /health\r\nhost: localhost\r\n\r\n",
    "absolute path": b"GET http://elsewhere.example/health HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "path of another": b"GET //elsewhere.example/x HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "star": b"OPTIONS * HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "connect": b"CONNECT localhost:22 HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "upgrade": post(b"connection: upgrade", b"upgrade: h2c", line=b"GET /health HTTP/1.1"),
    "websocket": post(
        *(b"connection: upgrade", b"upgrade: websocket", b"sec-websocket-version: 13"),
        *(b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",),
        line=b"GET /events/stream2 HTTP/1.1",
    ),
    "percent of no UTF-8": b"GET /%ff%fe%80 HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "percent of nothing": b"GET /%zz%0 HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "percent of a line": b"GET /users%0d%0aset-cookie:x=1 HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "up and away": b"GET /static/../../../../etc/passwd HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "up and away, written out": b"GET /static/..%2f..%2fetc%2fpasswd HTTP/1.1\r\nhost: a\r\n\r\n",
    "bytes in the path": "GET /ä HTTP/1.1\r\nhost: localhost\r\n\r\n".encode(),
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /api/stats HTTP/1.1\r\nhost: localhost\r\nhost: elsewhere\r\n\r\n",
    "bytes in a header": post(b"x-webhook-secret: \xff\xfe\xfd", b"content-length: 0"),
    "bytes as credentials": post(b"authorization: Basic \xff\xfe", b"content-length: 0"),
    "bytes as cookie": b"GET /users HTTP/1.1\r\nhost: a\r\ncookie: session=\xff;;=\r\n\r\n",
    "length with zeros": post(b"content-length: 0000") + b"",
    "body of a GET": b"GET /health HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n\r\nabc",
    "HEAD": b"HEAD /health HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "HTTP/1.0": b"GET /health HTTP/1.0\r\n\r\n",
    "continue": post(b"expect: 100-continue", b"content-length: 39") + BODY,
    "odd expectation": post(b"expect: a miracle", b"content-length: 39") + BODY,
    "trailers": post(b"transfer-encoding: chunked") + b"2\r\n{}\r\n0\r\nx-secret: y\r\n\r\n",
    "chunk extension": post(b"transfer-encoding: chunked") + b"2;a=b\r\n{}\r\n0\r\n\r\n",
    "compressed": post(b"content-encoding: gzip", b"content-length: 20")
    + b"\x1f\x8b"
    + b"\0" * 18,
    "range": b"GET /health HTTP/1.1\r\nhost: localhost\r\nrange: bytes=0-,0-,0-,0-\r\n\r\n",
    "query of bytes": b"GET /users?id=%ff%00%0a&id=2 HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "date of nobody": b"GET /api/stats?since=-9999999 HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "form of bytes": post(
        *(b"content-type: application/x-www-form-urlencoded", b"content-length: 9"),
        line=b"POST /pause HTTP/1.1",
    )
    + b"a=%ff&\xff\x00b",
}


def answers_to(engine: RunningEngine, data: bytes) -> tuple[list[int], bytes]:
    """Send bytes and a last request; return the status of every answer, and all that came."""
    with raw_client(engine.url) as client:
        client.send(data + LAST)
        try:
            client.read_until_closed()
        except TimeoutError:  # the last request was taken for a trailer: it is kept alive
            assert client.statuses(), (data, "neither answered nor ended")
        return client.statuses(), client.received


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_http_is_refused(engine: RunningEngine, name: str) -> None:
    statuses, received = answers_to(engine, MALFORMED[name])
    assert all(400 <= status < 500 for status in statuses), (statuses, received[:300])
    assert engine.client.get("/health").status_code == 200


@pytest.mark.parametrize("name", ODD)
def test_what_is_odd_is_no_failure_of_ours(engine: RunningEngine, name: str) -> None:
    statuses, received = answers_to(engine, ODD[name])
    assert statuses, received
    assert 101 not in statuses
    assert all(status < 500 for status in statuses), (statuses, received[:300])
    assert b"root:" not in received
    assert b"set-cookie: x" not in received.lower()


@pytest.mark.parametrize(
    "name",
    [
        "two lengths",
        "list of lengths",
        "length and chunks",
        "chunked, not last",
        "chunked twice",
        "unknown coding",
        "bad chunk size",
        "endless chunk size",
        "blank before the colon",
    ],
)
def test_no_request_is_smuggled_behind_another(engine: RunningEngine, name: str) -> None:
    """Where the end of a request is in doubt, nothing that follows it is heard."""
    user = somebody()
    event = json.dumps(amplitude_event(user, engine.clock.iso())).encode()
    answers_to(engine, MALFORMED[name] + request("/webhook/amplitude", event))
    assert engine.get(f"/api/users/{user}")["timeline"] == []


def mutated(chance: Random) -> bytes:
    """Return a request, odd or not, with a few bytes changed, cut, doubled or put in."""
    data = bytearray(chance.choice([GOOD, GOOD, *MALFORMED.values(), *ODD.values()])[:4_096])
    for _ in range(chance.choice((1, 1, 2, 8))):
        at = chance.randrange(len(data) + 1)
        kind = chance.randrange(5)
        if kind == 0:
            del data[at : at + chance.randrange(1, 9)]
        elif kind == 1:
            data[at:at] = chance.randbytes(chance.randrange(1, 5))
        elif kind == 2:
            data[at:at] = chance.choice((b"\r\n", b"\r", b"\n", b"\0", b" ", b":", b"\r\n\r\n"))
        elif kind == 3:
            data[at:at] = data[: chance.randrange(len(data) + 1)]
        elif at < len(data):
            data[at] ^= 1 << chance.randrange(8)
    return bytes(data[:8_192])


def storm(engine: RunningEngine, requests: int, seed: int) -> None:
    """Send so many mutated requests; the good ones among them are always answered."""
    chance, found = Random(seed), Counter[int]()
    for number in range(requests):
        data = mutated(chance)
        statuses, received = answers_to(engine, data)
        found.update(statuses or [0])
        assert all(status < 500 for status in statuses), (data, received[:300])
        if number % 100 == 0:
            assert engine.post("/webhook/amplitude", BODY).status_code == 200
    print(f"{requests} malformed requests, seed {seed}: {dict(found)} (0: cut off)")
    assert found[400] > requests // 20


def test_mutated_requests(engine: RunningEngine) -> None:
    storm(engine, 1_000, SEED)


@pytest.mark.long
def test_twenty_thousand_mutated_requests(engine: RunningEngine) -> None:
    for number in range(1, 21):
        storm(engine, 1_000, SEED + number)
