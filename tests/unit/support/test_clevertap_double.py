"""The CleverTap double does what it says, and its ledger tells the truth about it."""

import contextlib
import gzip
import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Unpack

import pytest
from tests.support import clevertap_double
from tests.support.clevertap_double import (
    ACCOUNT_ID,
    BEHAVIOURS,
    EXTERNAL_TRIGGER,
    PASSCODE,
    PUSH,
    UPLOAD,
    WHATSAPP,
    Changes,
    CleverTapDouble,
    CleverTapDoubleProcess,
    content_hash,
    double_sends,
    read_calls,
    read_ledger,
    sends_by_experiment,
    sends_by_user,
    sends_by_user_and_content,
)

HEADERS = {
    "X-CleverTap-Account-Id": ACCOUNT_ID,
    "X-CleverTap-Passcode": PASSCODE,
    "Content-Type": "application/json",
}
ADDED = {"status": "success", "message": "Added to queue for processing"}
QUICK: Changes = {
    "hang_s": 0.2,
    "refuse_for_s": 0.2,
    "drip_interval_s": 0.001,
    "huge_bytes": 3 * 2**20,
    "bomb_bytes": 3 * 2**20,
}
ANY_FAILURE = (OSError, http.client.HTTPException)


@dataclass(frozen=True)
class Answer:
    """What a client saw."""

    status: int
    headers: dict[str, str]
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.raw)


class Start(Protocol):
    """Makes a running double with short time-outs on the test's own ledger."""

    def __call__(self, **rules: Unpack[Changes]) -> CleverTapDouble: ...


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "ledger.jsonl"


@pytest.fixture
def start(ledger: Path) -> Iterator[Start]:
    with contextlib.ExitStack() as stack:

        def make(**rules: Unpack[Changes]) -> CleverTapDouble:
            return stack.enter_context(CleverTapDouble(ledger, fsync=False, **(QUICK | rules)))

        yield make


def push(*users: str, experiment: str = "exp-1", title: str = "Come back") -> dict[str, Any]:
    keys = {"deep_link": "app://x", "experiment_id": experiment}
    return {
        "to": {"Identity": list(users or ["u-1"])},
        "content": {
            "title": title,
            "body": "Now",
            "platform_specific": {"android": keys, "ios": keys},
        },
    }


def trigger(*users: str, experiment: str = "exp-1") -> dict[str, Any]:
    return {
        "to": {"identity": list(users or ["u-1"])},
        "campaign_id": "1700000000",
        "ExternalTrigger": {"title": "Come back", "experiment_id": experiment},
    }


def whatsapp(*users: str) -> dict[str, Any]:
    content = {
        "message_type": "template",
        "template_name": "come_back",
        "kv": {"experiment_id": "exp-1"},
    }
    return {"to": {"Identity": list(users or ["u-1"])}, "content": content}


def connect(url: str, timeout: float = 2) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(url.removeprefix("http://"), timeout=timeout)


def ask(
    connection: http.client.HTTPConnection,
    body: object,
    path: str = PUSH,
    headers: dict[str, str] = HEADERS,
    method: str = "POST",
) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request(method, path, raw, headers)
    response = connection.getresponse()
    return Answer(
        response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
    )


def post(url: str, body: object, path: str = PUSH, timeout: float = 2) -> Answer:
    with contextlib.closing(connect(url, timeout)) as connection:
        return ask(connection, body, path)


def outcome(url: str, body: object) -> int | str:
    """Give the status, or the name of what went wrong."""
    try:
        return post(url, body).status
    except ANY_FAILURE as failure:
        return type(failure).__name__


# A CleverTap that works


@pytest.mark.parametrize(
    ("path", "body"),
    [(PUSH, push()), (EXTERNAL_TRIGGER, trigger()), (WHATSAPP, whatsapp())],
    ids=lambda v: str(v)[:25],
)
def test_a_send_is_answered_and_kept(start: Start, path: str, body: dict[str, Any]) -> None:
    """A valid call gets CleverTap's answer and one line in the ledger that says all about it."""
    double = start()

    answer = post(double.base_url, body, path)

    assert (answer.status, answer.json) == (200, ADDED)
    (call,) = double.ledger()
    assert (call.path, call.users, call.behaviour) == (path, ("u-1",), "ok")
    assert (call.experiment_ids, call.content) == (("exp-1",), content_hash(body))
    assert (call.processed, call.answered, call.status) == (True, True, 200)


def test_the_content_hash_leaves_out_the_receivers() -> None:
    """The same message to others has the same hash, another message has not."""
    assert content_hash(push("u-1")) == content_hash(dict(reversed(push("u-2", "u-3").items())))
    assert content_hash(push(title="a")) != content_hash(push(title="b"))
    assert content_hash(push(experiment="a")) != content_hash(push(experiment="b"))


def test_the_clock_is_passed_in(ledger: Path) -> None:
    """The ledger's times come from the clock of the test."""
    with CleverTapDouble(ledger, clock=lambda: 1_772_356_522.5) as double:
        post(double.base_url, push())

        assert [call.time for call in double.ledger()] == [1_772_356_522.5]


def test_the_account_can_be_set(ledger: Path) -> None:
    """The account is the test's to choose."""
    with (
        CleverTapDouble(ledger, account=("a", "b")) as double,
        contextlib.closing(connect(double.base_url)) as client,
    ):
        own = HEADERS | {"X-CleverTap-Account-Id": "a", "X-CleverTap-Passcode": "b"}

        assert [ask(client, push(), headers=headers).status for headers in (own, HEADERS)] == [
            200,
            401,
        ]


def test_a_connection_serves_many_calls(start: Start) -> None:
    """Keep-alive holds after success and after refusal, and ends when the client asks for it."""
    double = start(script=["ok", "400", "ok"])
    with contextlib.closing(connect(double.base_url)) as connection:
        statuses = [ask(connection, body).status for body in (push(), push(), b"no json", push())]
        ask(connection, push(), headers=HEADERS | {"Connection": "close"})

        assert statuses == [200, 400, 400, 200]
        assert double.stats().connections == 1
        assert double.stats().calls == {PUSH: 5}
        assert connection.sock is None or connection.sock.recv(1) == b""


def test_a_thousand_users_and_no_more(start: Start) -> None:
    """One call names up to 1,000 users."""
    double = start()
    users = [f"u-{number}" for number in range(1_001)]

    assert post(double.base_url, push(*users[1:])).json == ADDED
    assert post(double.base_url, push(*users)).status == 400
    assert sends_by_user(double.ledger()) == Counter(users[1:])


@pytest.mark.parametrize(
    "headers",
    [
        {"X-CleverTap-Account-Id": "other"},
        {"X-CleverTap-Passcode": "other"},
        {"X-CleverTap-Passcode": ""},
    ],
    ids=str,
)
def test_wrong_account(start: Start, headers: dict[str, str]) -> None:
    """A wrong or missing account gets the answer that was recorded from CleverTap."""
    double = start()
    with contextlib.closing(connect(double.base_url)) as connection:
        answer = ask(connection, push(), headers=HEADERS | headers)

    assert answer.status == 401
    assert answer.json == {"status": "fail", "error": "Account ID is not valid", "code": 401}
    assert double.ledger() == []


WRONG: list[tuple[str, object, int]] = [
    ("/1/send/pigeon.json", push(), 404),
    (PUSH, b"{", 400),
    (PUSH, b"[" * 100_000, 400),
    (PUSH, b'{"to": NaN}', 400),
    (PUSH, b"\xff", 400),
    (PUSH, [push()], 400),
    (PUSH, push() | {"to": {"identity": ["u-1"]}}, 400),
    (PUSH, push() | {"to": {"Identity": "u-1"}}, 400),
    (PUSH, push() | {"to": {"Identity": []}}, 400),
    (PUSH, push() | {"to": {"Identity": [""]}}, 400),
    (PUSH, push() | {"to": {"Identity": [7]}}, 400),
    (PUSH, push() | {"content": {"title": "", "body": "x"}}, 400),
    (PUSH, push() | {"content": {"title": "x"}}, 400),
    (
        PUSH,
        push() | {"content": {"title": "x", "body": "y", "platform_specific": {"ios": {"k": {}}}}},
        400,
    ),
    (PUSH, push() | {"Content": {}}, 400),
    (PUSH, push() | {"respect_frequency_caps": "true"}, 400),
    (EXTERNAL_TRIGGER, push(), 400),
    (EXTERNAL_TRIGGER, trigger() | {"to": {"Identity": ["u-1"]}}, 400),
    (EXTERNAL_TRIGGER, trigger() | {"campaign_id": 1_700_000_000}, 400),
    (EXTERNAL_TRIGGER, trigger() | {"campaign_id": ""}, 400),
    (EXTERNAL_TRIGGER, trigger() | {"ExternalTrigger": {"price": 1}}, 400),
    (EXTERNAL_TRIGGER, trigger() | {"ExternalTrigger": None}, 400),
    (WHATSAPP, whatsapp() | {"content": {"message_type": "template"}}, 400),
    (WHATSAPP, whatsapp() | {"content": {"message_type": "Freeform"}}, 400),
    (WHATSAPP, whatsapp() | {"content": {}}, 400),
    (UPLOAD, {"d": []}, 400),
    (UPLOAD, {"d": [{}] * 1_001}, 400),
]


@pytest.mark.parametrize(("path", "body", "status"), WRONG, ids=range(len(WRONG)))
def test_a_body_that_clevertap_would_refuse(
    start: Start, path: str, body: object, status: int
) -> None:
    """What breaks the documented shapes is refused, and uses up no line of the script."""
    double = start(script=["503"])

    answer = post(double.base_url, body, path)

    assert (answer.status, answer.json["status"], answer.json["code"]) == (status, "fail", status)
    assert answer.json["error"]
    assert double.ledger() == []
    assert [call.status for call in double.calls()] == [status]
    assert outcome(double.base_url, push()) == 503


def test_requests_that_are_not_right(start: Start) -> None:
    """Other methods, types and framings are refused too; what is not HTTP is not hung on to."""
    double = start()
    with contextlib.closing(connect(double.base_url)) as connection:
        assert ask(connection, b"", method="GET").status == 405
        assert (
            ask(connection, push(), headers=HEADERS | {"Content-Type": "text/plain"}).status == 400
        )
        assert (
            ask(
                connection,
                push(),
                headers=HEADERS | {"Content-Type": "application/json; charset=utf-8"},
            ).status
            == 200
        )
        connection.request("POST", PUSH, iter([b"{}"]), HEADERS, encode_chunked=True)
        assert connection.getresponse().status == 411
    for nonsense in (
        b"\x16\x03\x01\x02",
        b"hello\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n",
    ):
        with socket.create_connection(address(double.base_url), timeout=2) as client:
            client.sendall(nonsense)
            client.recv(65_536)
            assert client.recv(65_536) == b""


def address(url: str) -> tuple[str, int]:
    host, _, port = url.removeprefix("http://").partition(":")
    return host, int(port)


def test_upload(start: Start) -> None:
    """A bad record is named and echoed, the others go through; uploads are no sends."""
    double = start()
    good = {
        "identity": "u-1",
        "ts": 1_772_356_522,
        "type": "event",
        "evtName": "assigned",
        "evtData": {},
    }
    bad = good | {"identity": "u-2", "ts": "yesterday"}

    answers = [
        post(double.base_url, {"d": records}, UPLOAD).json
        for records in ([good], [good, bad], [bad])
    ]

    assert answers[0] == {"status": "success", "processed": 1, "unprocessed": []}
    assert [answer["status"] for answer in answers] == ["success", "partial", "fail"]
    (named,) = answers[1]["unprocessed"]
    assert (named["code"], named["record"], named["error"][-1]) == (525, bad, "2")
    assert [call.users for call in double.ledger()] == [("u-1",), ("u-1",)]
    assert sends_by_user(double.ledger()) == {}


# Each behaviour


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_the_table_says_what_counts_as_processed(start: Start, name: str) -> None:
    """For every behaviour: in the ledger just if the table says so, and then all is well."""
    double = start(script=[name], unprocessed_share=0.5)

    seen = outcome(double.base_url, push("u-1", "u-2"))

    assert [call.behaviour for call in double.ledger()] == (
        [name] if BEHAVIOURS[name].processed else []
    )
    assert double.stats().behaviours[name] == 1
    assert (seen == 200) or name not in ("ok", "unprocessed")
    time.sleep(QUICK["refuse_for_s"] * (name == "refuse") * 1.5)
    assert outcome(double.base_url, push()) == 200


STATUSES = {
    "400": 400,
    "401": 401,
    "403": 403,
    "404": 404,
    "429": 429,
    "500": 500,
    "502": 502,
    "503": 503,
    "504": 504,
    "redirect_302": 302,
    "redirect_307": 307,
    "processed_then_500": 500,
    "processed_then_502": 502,
    "processed_then_503": 503,
    "processed_then_504": 504,
}


@pytest.mark.parametrize(("name", "status"), STATUSES.items())
def test_statuses(start: Start, name: str, status: int) -> None:
    """The status is as named; gateways answer with a page, CleverTap with its own body."""
    answer = post(start(behaviour=name).base_url, push())

    assert answer.status == status
    if status in (502, 504):
        assert answer.headers["content-type"] == "text/html"
    elif status >= 400:
        assert answer.json["status"] == "fail"
        assert answer.json["code"] == status


@pytest.mark.parametrize(
    ("name", "retry_after"),
    [
        ("429", None),
        ("429_seconds", "7"),
        ("429_date", "Thu, 01 Jan 1970 00:01:07 GMT"),
        ("429_garbage", "soon-ish; maybe"),
        ("429_huge", "1000000000"),
    ],
)
def test_retry_after(ledger: Path, name: str, retry_after: str | None) -> None:
    """A 429 comes with every kind of Retry-After, and, as CleverTap's own, with none."""
    with CleverTapDouble(ledger, clock=lambda: 60.0, behaviour=name, retry_after_s=7) as double:
        answer = post(double.base_url, push())

    assert answer.status == 429
    assert answer.headers.get("date") == ("Thu, 01 Jan 1970 00:01:00 GMT" if retry_after else None)
    assert answer.headers.get("retry-after") == retry_after
    assert answer.json["error"] == "Too many concurrent requests"


def test_refuse(start: Start) -> None:
    """Listener and idle connections are gone at once, the control stays, the port comes back."""
    double = start()
    with contextlib.closing(connect(double.base_url)) as idle:
        ask(idle, push())
        double.behaviour = "refuse"

        assert idle.sock.recv(1) == b""
    assert [outcome(double.base_url, push()) for _ in range(3)] == ["ConnectionRefusedError"] * 3
    assert double.stats().outages == 1
    double.behaviour = "ok"
    assert outcome(double.base_url, push()) == 200
    assert len(double.ledger()) == 2


def test_refuse_in_a_script(start: Start) -> None:
    """An outage begins after the call before it, which is still answered, and ends by itself."""
    double = start(script=["ok", "refuse", "refuse", "503"], refuse_for_s=0.15)
    with contextlib.closing(connect(double.base_url)) as connection:
        assert ask(connection, push()).status == 200
        assert connection.sock.recv(1) == b""
    since = time.monotonic()
    while (seen := outcome(double.base_url, push())) == "ConnectionRefusedError":
        time.sleep(0.01)

    assert seen == 503
    assert 0.2 < time.monotonic() - since < 1
    assert double.stats().outages == 1


def test_accept_close(start: Start) -> None:
    """A new connection is closed before a byte is read; on a kept one, the call is not read."""
    double = start(behaviour="accept_close")
    with socket.create_connection(address(double.base_url), timeout=2) as client:
        assert client.recv(1) == b""
    double.behaviour = "ok"
    with contextlib.closing(connect(double.base_url)) as connection:
        ask(connection, push())
        double.configure(script=["accept_close"])
        with pytest.raises(ANY_FAILURE):
            ask(connection, push())
    assert len(double.ledger()) == 1


def test_close_after_headers(start: Start) -> None:
    """The connection ends when the request's head was read and its body was not."""
    double = start(script=["close_after_headers"])
    with socket.create_connection(address(double.base_url), timeout=2) as client:
        client.sendall(b"POST /1/send/push.json HTTP/1.1\r\nContent-Length: 10\r\n\r\n")
        assert client.recv(1) == b""


def test_processed_then_reset(start: Start) -> None:
    """The client sees RST, the ledger the send."""
    double = start(behaviour="processed_then_reset")

    assert outcome(double.base_url, push()) == "ConnectionResetError"
    (call,) = double.ledger()
    assert (call.users, call.answered) == (("u-1",), False)


@pytest.mark.parametrize("name", ["processed_then_timeout", "hang"])
def test_no_answer(start: Start, name: str) -> None:
    """Nothing ever comes; a client that gives up frees its place in flight."""
    double = start(script=[name], hang_s=30)
    with pytest.raises(TimeoutError):
        post(double.base_url, push(), timeout=0.1)
    while double.stats().in_flight[PUSH]:
        time.sleep(0.005)

    assert outcome(double.base_url, push()) == 200
    assert [call.answered for call in double.calls()] == [False, True]


def test_processed_then_cut(start: Start) -> None:
    """The answer ends in the middle of its body."""
    double = start(behaviour="processed_then_cut")

    assert outcome(double.base_url, push()) == "IncompleteRead"


def test_drip(start: Start) -> None:
    """Byte by byte, so that no read waits long while the whole takes for ever."""
    double = start(behaviour="drip", drip_interval_s=0.002)
    since = time.monotonic()

    assert post(double.base_url, push(), timeout=0.5).json == ADDED
    assert time.monotonic() - since > 0.1

    double.configure(drip_interval_s=30)
    with pytest.raises(TimeoutError):
        post(double.base_url, push(), timeout=0.1)


def test_huge_body(start: Start) -> None:
    """The stream is as long as it says; a client that stops reading makes it stop."""
    double = start(behaviour="huge_body", huge_bytes=2**21)
    assert len(post(double.base_url, push()).raw) > 2**21

    double.configure(huge_bytes=100 * 2**20)
    with contextlib.closing(connect(double.base_url)) as connection:
        connection.request("POST", PUSH, json.dumps(push()), HEADERS)
        response = connection.getresponse()
        response.read(1_000)
        response.close()
    while double.stats().in_flight[PUSH]:
        time.sleep(0.005)
    assert double.stats().huge_bytes_sent < 50 * 2**20
    assert double.stats().statuses == {"200": 1}


def test_gzip_bomb(start: Start) -> None:
    """A few kB that unpack to many MB."""
    answer = post(start(behaviour="gzip_bomb", bomb_bytes=5 * 2**20).base_url, push())

    assert answer.headers["content-encoding"] == "gzip"
    assert len(answer.raw) < 10_000
    assert len(json.loads(gzip.decompress(answer.raw))["message"]) == 5 * 2**20


def test_redirect(start: Start) -> None:
    """It leads to another local port, which counts whoever follows."""
    double = start(behaviour="redirect_302")

    location = post(double.base_url, push()).headers["location"]

    assert location == double.control_url + PUSH
    assert double.stats().redirect_hits == 0
    assert post(location.removesuffix(PUSH), push()).status == 200
    assert double.stats().redirect_hits == 1
    assert double.ledger() == []


def test_unprocessed(start: Start) -> None:
    """A 200 names those whom it did not take, and only the others are in the ledger."""
    double = start(behaviour="unprocessed", unprocessed_share=0.25)

    answer = post(double.base_url, push("u-1", "u-2", "u-3", "u-4"))

    (named,) = answer.json["unprocessed"]
    assert (answer.status, answer.json["status"], answer.json["processed"]) == (200, "partial", 3)
    (call,) = double.ledger()
    assert call.unprocessed == (named["record"]["identity"],)
    assert {*call.users, *call.unprocessed} == {"u-1", "u-2", "u-3", "u-4"}


def test_unprocessed_altogether(start: Start) -> None:
    """If nobody is left, the 200 says `fail` and nothing was processed."""
    double = start(unprocessed_users={"u-1"})

    answer = post(double.base_url, push("u-1"))

    assert (answer.status, answer.json["status"], answer.json["processed"]) == (200, "fail", 0)
    assert double.ledger() == []


def test_a_200_that_is_none(start: Start) -> None:
    """200 with status fail, and 200 with somebody's web page."""
    double = start(script=["fail_200", "html_200", "processed_then_html"])

    failed, page, _ = (post(double.base_url, push()) for _ in range(3))

    assert (failed.status, failed.json["status"]) == (200, "fail")
    assert (page.status, page.headers["content-type"], page.raw[:6]) == (
        200,
        "text/html",
        b"<html>",
    )
    assert [call.behaviour for call in double.ledger()] == ["processed_then_html"]


# Which behaviour


def test_a_script_comes_first(start: Start) -> None:
    """The first calls follow the script, the rest the behaviour."""
    double = start(script=["503", "ok", "404"], behaviour="500")

    assert [outcome(double.base_url, push()) for _ in range(5)] == [503, 200, 404, 500, 500]


def test_weights_are_kept_and_repeatable(start: Start) -> None:
    """The mix has the shares that were asked for, and one seed gives one order."""
    double = start()

    def statuses(seed: int) -> list[int]:
        double.configure(behaviour="ok:0.7,503:0.3", seed=seed)
        with contextlib.closing(connect(double.base_url)) as connection:
            return [ask(connection, push()).status for _ in range(150)]

    first, again, other = statuses(1), statuses(1), statuses(2)

    assert first == again != other
    assert 30 < first.count(503) < 60


def test_the_behaviour_can_change_while_running(start: Start) -> None:
    """A new behaviour holds from the next call on, as a name, a text or a table."""
    double = start(behaviour="400")
    seen: list[int | str] = []
    for behaviour in ("400", "404:1,401:0", {"503": 2.0}):
        double.behaviour = behaviour
        seen.append(outcome(double.base_url, push()))

    assert seen == [400, 404, 503]
    assert double.behaviour == {"503": 2.0}


def test_poison_users(start: Start) -> None:
    """One of them spoils the whole call, which does not say who; without them it goes through."""
    double = start(poison_users={"u-3"}, script=["503"])

    answer = post(double.base_url, push("u-1", "u-2", "u-3"))

    assert answer.status == 400
    assert b"u-3" not in answer.raw
    assert [outcome(double.base_url, push("u-1", "u-2")) for _ in range(2)] == [503, 200]
    assert sends_by_user(double.ledger()) == {"u-1": 1, "u-2": 1}


def test_unprocessed_users(start: Start) -> None:
    """They are named whatever else the call meets, and are in the ledger as not taken."""
    double = start(unprocessed_users={"u-2"}, behaviour="ok", script=["processed_then_500"])

    statuses = [post(double.base_url, push("u-1", "u-2")).status for _ in range(2)]
    named = post(double.base_url, trigger("u-1", "u-2"), EXTERNAL_TRIGGER).json["unprocessed"]

    assert statuses == [500, 200]
    assert [one["record"] for one in named] == [{"identity": "u-2"}]
    assert [(call.users, call.unprocessed) for call in double.ledger()] == [
        (("u-1",), ("u-2",))
    ] * 3


def test_a_user_s_own_behaviour(start: Start) -> None:
    """A user can carry a behaviour of their own, which leaves the script alone."""
    double = start(user_behaviours={"u-9": "processed_then_reset"}, script=["503"])

    seen = [outcome(double.base_url, push(user)) for user in ("u-9", "u-1", "u-1", "u-9")]

    assert seen == ["ConnectionResetError", 503, 200, "ConnectionResetError"]
    assert sends_by_user(double.ledger()) == {"u-9": 2, "u-1": 1}


@pytest.mark.parametrize(
    "changes",
    [
        {"behaviour": "moody"},
        {"behaviour": "ok:-1"},
        {"behaviour": "ok:x"},
        {"script": ["moody"]},
        {"user_behaviours": {"u-1": "moody"}},
        {"user_behaviours": ["u-1"]},
        {"poison_users": "u-1"},
        {"max_in_flight": "three"},
        {"latency": 5},
    ],
    ids=str,
)
def test_a_wrong_rule_is_an_error(start: Start, changes: Changes) -> None:
    """A typing error in a test is not taken for a peaceful provider, and changes nothing."""
    double = start(behaviour="503")
    with pytest.raises(ValueError, match=r"."):
        double.configure(**changes)

    assert outcome(double.base_url, push()) == 503
    assert double.behaviour == "503"


# How many at a time


def test_the_limit_is_per_api(start: Start) -> None:
    """Three in flight for each send API, 15 uploads; the fourth send gets 429, and no more."""
    double = start(latency_ms=150)
    upload = {"d": [{"identity": "u-1", "type": "profile", "profileData": {}}]}
    calls = [(PUSH, push())] * 4 + [(EXTERNAL_TRIGGER, trigger())] * 3 + [(UPLOAD, upload)] * 5
    barrier = threading.Barrier(len(calls))

    def send(call: tuple[str, dict[str, Any]]) -> tuple[str, int]:
        barrier.wait()
        return call[0], post(double.base_url, call[1], call[0]).status

    with ThreadPoolExecutor(len(calls)) as pool:
        seen = Counter(pool.map(send, calls))

    assert seen == {(PUSH, 200): 3, (PUSH, 429): 1, (EXTERNAL_TRIGGER, 200): 3, (UPLOAD, 200): 5}
    stats = double.stats()
    assert stats.max_in_flight == {PUSH: 4, EXTERNAL_TRIGGER: 3, UPLOAD: 5}
    assert (stats.over_limit, stats.in_flight.total()) == (1, 0)
    assert sends_by_user(double.ledger()) == {"u-1": 6}


def test_the_limit_can_be_set(start: Start) -> None:
    """A lower limit holds from the next call on."""
    double = start(max_in_flight=0)

    answer = post(double.base_url, push())

    assert answer.json == {"status": "fail", "error": "Too many concurrent requests", "code": 429}


def test_calls_sent_together_are_seen_together(start: Start) -> None:
    """Even without latency, calls sent before any of them was answered are in flight together."""
    double = start()
    connections = [connect(double.base_url) for _ in range(20)]
    for _ in range(20):
        for connection in connections:
            connection.request("POST", PUSH, json.dumps(push()), HEADERS)
        for connection in connections:
            connection.getresponse().read()
    for connection in connections:
        connection.close()

    assert double.stats().max_in_flight[PUSH] > 3


def test_latency_comes_after_processing(start: Start) -> None:
    """A client that dies while it waits was sent to all the same."""
    double = start(latency_ms=200)
    with pytest.raises(TimeoutError):
        post(double.base_url, push(), timeout=0.05)

    assert [(call.users, call.answered) for call in double.ledger()] == [(("u-1",), False)]
    time.sleep(0.25)
    assert [call.answered for call in double.ledger()] == [False]


# The ledger


def test_double_sends_are_found(start: Start) -> None:
    """The judge counts per experiment, and per user and content; other messages are no doubles."""
    double = start(script=["ok", "processed_then_reset", "503", "ok", "ok"])
    for body in (push(), push(), push(), push("u-2", "u-3", experiment="exp-2")):
        outcome(double.base_url, body)
    calls = double.ledger()
    same = content_hash(push())

    assert sends_by_experiment(calls) == {"exp-1": 2, "exp-2": 2}
    assert sends_by_user_and_content(calls)["u-1", same] == 2
    assert double_sends(calls) == {
        "experiment exp-1": 2,
        "experiment exp-2": 2,
        f"user u-1, content {same}": 2,
    }
    assert double_sends(calls[:1]) == {}


def test_a_user_named_twice_in_a_call_is_a_double_send(start: Start) -> None:
    """Never two messages of one user in a call."""
    double = start()
    post(double.base_url, push("u-1", "u-1"))

    assert set(double_sends(double.ledger()).values()) == {2}


def test_a_ledger_outlives_its_double(ledger: Path) -> None:
    """A second double goes on in the same file; a line torn by kill -9 is dropped."""
    for behaviour in ("ok", "503", "processed_then_timeout"):
        with CleverTapDouble(ledger, behaviour=behaviour, hang_s=0.01) as double:
            outcome(double.base_url, push())
        with ledger.open("ab") as file:
            file.write(b'{"kind":"call","id"')

    assert [(call.behaviour, call.answered) for call in read_calls(ledger)] == [
        ("ok", True),
        ("503", True),
        ("processed_then_timeout", False),
    ]
    assert len(read_ledger(ledger)) == len(double.ledger()) == 2


# The other form


def test_as_a_process(ledger: Path) -> None:
    """The same use in a process of its own, whose ledger survives its kill -9."""
    with CleverTapDoubleProcess(ledger, behaviour="503", poison_users={"u-2"}) as double:
        assert outcome(double.base_url, push()) == 503
        double.behaviour = "ok"
        assert [outcome(double.base_url, push(user)) for user in ("u-1", "u-2")] == [200, 400]
        assert double.stats().calls == {PUSH: 3}
        url = double.base_url
        double.kill()

        assert outcome(url, push()) == "ConnectionRefusedError"
        assert sends_by_user(double.ledger()) == {"u-1": 1}


def test_a_process_ends_with_the_one_that_started_it(ledger: Path) -> None:
    """A test that is killed leaves no double behind."""
    code = (
        "import os, signal, sys\n"
        "from tests.support.clevertap_double import CleverTapDoubleProcess\n"
        "with CleverTapDoubleProcess(sys.argv[1]) as double:\n"
        "    print(double.base_url, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    root = Path(clevertap_double.__file__).parents[2]
    command = [sys.executable, "-c", code, str(ledger)]
    done = subprocess.run(command, cwd=root, capture_output=True, check=False)
    url = done.stdout.decode().strip()
    since = time.monotonic()
    while outcome(url, push()) != "ConnectionRefusedError":
        time.sleep(0.02)

    assert time.monotonic() - since < 5


def test_by_hand(ledger: Path) -> None:
    """From a shell: says where it listens, obeys options and control, and stops on SIGTERM."""
    options = [
        "--port",
        "0",
        "--behaviour",
        "404:1,401:0",
        "--latency-ms",
        "1",
        "--seed",
        "7",
        "--no-fsync",
    ]
    command = [sys.executable, clevertap_double.__file__, "--ledger", str(ledger), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        doors = json.loads(process.stdout.readline())
        assert outcome(doors["base_url"], push()) == 404
        for url, behaviour in ((doors["base_url"], "refuse"), (doors["control_url"], "ok")):
            assert post(url, {"behaviour": behaviour}, "/_control").json == {"status": "success"}
        assert outcome(doors["base_url"], push()) == 200
        with contextlib.closing(connect(doors["base_url"])) as connection:
            assert ask(connection, b"", "/_stats", method="GET").json["statuses"] == {
                "404": 1,
                "200": 1,
            }
            (call,) = ask(connection, b"", "/_ledger", method="GET").json
            assert call["users"] == ["u-1"]
            assert ask(connection, {"mood": "bad"}, "/_control").status == 400
            assert ask(connection, b"", "/_nothing", method="GET").status == 404
        process.terminate()

    assert process.returncode == 0


def test_a_wrong_option_is_said(ledger: Path) -> None:
    """One line tells what is wrong and what there is."""
    command = [
        sys.executable,
        clevertap_double.__file__,
        "--ledger",
        str(ledger),
        "--behaviour",
        "moody",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert done.stderr.startswith("clevertap_double: unknown behaviour moody; there are ok, ")


def test_a_port_that_is_taken_is_said(start: Start, ledger: Path) -> None:
    """A double never pretends to listen."""
    taken = address(start().base_url)[1]
    with pytest.raises(OSError, match="in use"), CleverTapDouble(ledger, port=taken):
        pass


def test_many_at_once(start: Start) -> None:
    """In a random mix of faults, each honest 200 is in the ledger, and nothing is there twice."""
    liars = {"refuse", "unprocessed", "fail_200", "html_200", "huge_body", "gzip_bomb"}
    weights = dict.fromkeys(BEHAVIOURS.keys() - liars, 1.0) | {"ok": 20.0}
    double = start(behaviour=dict(sorted(weights.items())), max_in_flight=100, hang_s=0.02, seed=5)
    experiments = [f"exp-{number}" for number in range(300)]

    with ThreadPoolExecutor(8) as pool:
        seen = list(
            pool.map(lambda one: outcome(double.base_url, push(experiment=one)), experiments)
        )

    calls = double.ledger()
    processed = sends_by_experiment(calls)
    accepted = {one for one, status in zip(experiments, seen, strict=True) if status == 200}
    assert accepted < processed.keys()
    assert double_sends(calls) == {}
    assert len({status for status in seen if isinstance(status, str)}) > 2
    assert double.stats().in_flight.total() == 0
