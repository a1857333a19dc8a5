"""No form of an address leads the engine to a machine behind our own doors.

A recorder at the level of the operating system's sockets sees every connection this process
tries; the answers of the name server are the test's where they have to change in between.
"""

import asyncio
import sys
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.clock import FakeClock
from tests.support.partner_doubles import SIGNING_SECRET

from experiment_engine.adapters.calling.client import open_client
from experiment_engine.adapters.outgoing.public_hosts import Lookup, look_up, may_be_called
from experiment_engine.adapters.outgoing.sender import OutgoingSender, Receiver
from experiment_engine.adapters.outgoing.signing import SigningKey
from experiment_engine.domain.delivery.message import Answer, Call, Content, Verdict
from experiment_engine.domain.errors import ConfigurationError
from experiment_engine.domain.identifiers import CallId, Channel, ExperimentId, UserId

CONNECTED: list[object] = []  # where this process tried to connect to
KEY = SigningKey.of(SIGNING_SECRET)


def _record(event: str, arguments: tuple[object, ...]) -> None:
    # A name server may be asked; nobody else may be called.
    if event == "socket.connect" and arguments[1][1:2] != (53,):  # type: ignore[index]
        CONNECTED.append(arguments[1])


sys.addaudithook(_record)

FORBIDDEN = [
    *("127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1"),
    *("017700000001", "127.0.0.1.", "127.255.255.254", "0", "0.0.0.0", "localhost", "LOCALHOST"),
    *("[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"),
    *("[::ffff:169.254.169.254]", "[::ffff:10.0.0.1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]"),
    *("[64:ff9b::a9fe:a9fe]", "[2002:7f00:1::]", "[2002:a00:1::1]", "[fe80::1]", "[fc00::1]"),
    *("[fec0::1]", "[::ffff:0:10.0.0.1]", "[64:ff9b:1::a00:1]", "[4000::1]"),
    *("[fd00:ec2::254]", "[ff02::1]", "[2001:db8::1]", "[2001:0:7f00:1::]"),
    *("169.254.169.254", "2852039166", "0xa9fea9fe", "10.0.0.1", "10.1", "172.16.0.1"),
    *("192.168.1.1", "192.168.257", "100.64.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
    *("192.0.2.1", "198.18.0.1"),
]
ODD = [
    "https://user:password@127.0.0.1/due",
    "https://example.com@127.0.0.1/due",
    "https://127.0.0.1:443/due",
    "https://127.0.0.1:22/due",
    "https://127.0.0.1#@example.com/",
    "https://127.0.0.1?@example.com/",
    "https://⑫⑦.⓪.⓪.①/",
    "https://127。0。0。1/",
]
NOT_HTTPS = [
    *("http://example.com/", "http://127.0.0.1/", "ftp://example.com/", "file:///etc/passwd"),
    *("gopher://127.0.0.1/", "//example.com/", "example.com", "", "https:///due", "https://"),
    *("javascript:alert(1)", "https://[::1"),
]


def send(url: str, *, loopback: bool = False, lookup: Lookup = look_up) -> Answer:
    """Send one message to a receiver and return what it came to."""
    ids = {UserId("usr_1"): ExperimentId("exp-1")}
    call = Call(CallId("call-1"), Content(Channel("push"), "title", "body", ""), ids)

    async def run() -> Answer:
        receiver = Receiver(url, KEY, loopback=loopback)
        client = open_client("", connect_limit=1)
        sender = OutgoingSender(client, receiver, FakeClock(), time_limit=2, lookup=lookup)
        try:
            return await sender.send(call)
        finally:
            await sender.close()

    return asyncio.run(run())


@pytest.mark.parametrize("url", [*(f"https://{host}/due" for host in FORBIDDEN), *ODD])
def test_nobody_behind_our_doors_is_called(url: str) -> None:
    """Whatever the spelling of a private address, no connection is even tried."""
    CONNECTED.clear()
    try:
        answer = send(url)
    except ConfigurationError:
        answer = Answer(Verdict.NOT_TAKEN, "not_public")  # no address at all: refused at the start

    assert CONNECTED == []
    assert answer.verdict is Verdict.NOT_TAKEN
    assert answer.reason in {"not_public", "dns_failed"}  # some spellings are no name


def test_the_forms_are_many() -> None:
    """The promise is about at least 40 forms."""
    print(f"{len(FORBIDDEN)} hosts, {len(ODD)} odd addresses, {len(NOT_HTTPS)} without https")
    assert len({*FORBIDDEN, *ODD}) >= 40


@pytest.mark.parametrize("url", NOT_HTTPS)
def test_only_https(url: str) -> None:
    """Anything but https:// and a host stops the start, with the setting's name."""
    with pytest.raises(ConfigurationError, match="OUTGOING_WEBHOOK_URL"):
        Receiver(url, KEY)


@pytest.mark.parametrize(
    "answers",
    [
        ["10.0.0.1"],
        ["93.184.215.14", "127.0.0.1"],  # one of several is enough
        ["::ffff:10.0.0.1"],
        ["fe80::1%eth0"],
        ["not an address"],
        [],
    ],
)
def test_a_name_that_stands_for_a_private_machine(answers: Sequence[str]) -> None:
    """All that the name server says is judged, not the name."""

    async def lookup(_host: str, _port: int) -> Sequence[str]:
        return answers

    CONNECTED.clear()
    answer = send("https://messages.example.com/due", lookup=lookup)
    assert (answer.verdict, answer.reason) == (Verdict.NOT_TAKEN, "not_public")
    assert CONNECTED == []


def test_the_call_goes_to_the_address_that_was_judged() -> None:
    """A name server that answers differently the second time is not asked a second time."""
    asked: list[str] = []

    async def lookup(host: str, _port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) > 1 else ["93.184.215.14"]

    CONNECTED.clear()
    answer = send("https://messages.example.com:9/due", lookup=lookup)
    assert asked == ["messages.example.com"]
    assert [address[:2] for address in CONNECTED] == [("93.184.215.14", 9)]  # type: ignore[index]
    assert answer.verdict is Verdict.NOT_TAKEN  # there is no internet in a test


def test_a_receiver_on_this_machine_has_to_be_allowed() -> None:
    """With the switch the loopback may be called, by http too; other private machines may not."""
    CONNECTED.clear()
    allowed = send("http://127.0.0.1:1/due", loopback=True)
    assert allowed.reason == "connection_refused"
    assert CONNECTED == [("127.0.0.1", 1)]
    for url in ("http://10.0.0.1/due", "https://10.0.0.1/due", "https://169.254.169.254/"):
        assert send(url, loopback=True).reason == "not_public"

    async def public(_host: str, _port: int) -> Sequence[str]:
        return ["93.184.215.14"]

    assert send("http://example.com/due", loopback=True, lookup=public).reason == "not_public"
    assert CONNECTED == [("127.0.0.1", 1)]


@pytest.mark.parametrize("address", ["2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"])
def test_the_public_internet_may_be_called(address: str) -> None:
    """A machine of the internet is reached by its own address, and by an IPv4 one inside."""
    assert may_be_called(address)


@given(st.ip_addresses(v=4))
def test_what_stands_for_an_address_is_judged_like_it(address: object) -> None:
    """An IPv4 address inside an IPv6 one opens nothing that it does not open by itself."""
    for wrapped in (f"::ffff:{address}", f"64:ff9b::{address}"):
        assert not may_be_called(wrapped) or may_be_called(str(address))
