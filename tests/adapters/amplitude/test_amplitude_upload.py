"""Uploads to Amplitude: within its limits, repeated without harm, and never raising."""

from collections import deque
from collections.abc import Iterator

import pytest
from tests.support.amplitude_double import API_KEY, AmplitudeDouble, amplitude_double

from experiment_engine.adapters.amplitude.upload import AmplitudeUpload, base_url
from experiment_engine.application.tell import Notice
from experiment_engine.domain.identifiers import UserId
from experiment_engine.domain.moments import SECOND, Instant

AT = Instant(1_795_341_600_000)


@pytest.fixture
def double() -> Iterator[AmplitudeDouble]:
    with amplitude_double() as server:
        yield server


def notices(number: int, size: int = 0) -> list[Notice]:
    return [
        Notice(
            UserId(f"usr_{n}"), "experiment_sent", AT, f"experiment_sent:{n}", {"text": "x" * size}
        )
        for n in range(number)
    ]


def uploader(double: AmplitudeDouble, key: str = API_KEY) -> AmplitudeUpload:
    return AmplitudeUpload(double.base_url, key)


def test_what_is_uploaded(double: AmplitudeDouble) -> None:
    """An event has its user, its time in milliseconds, and a name that stays the same."""
    assert uploader(double).upload(notices(1)).taken
    (event,) = double.events.values()
    assert event == {
        "user_id": "usr_0",
        "event_type": "experiment_sent",
        "time": AT,
        "insert_id": "experiment_sent:0",
        "event_properties": {"text": ""},
    }


def test_nothing_to_say(double: AmplitudeDouble) -> None:
    """Without notices nobody is asked."""
    assert uploader(double).upload([]).taken
    assert double.requests == []


@pytest.mark.parametrize(("number", "size"), [(1_700, 0), (60, 50_000), (3, 800_000)])
def test_within_the_limits(double: AmplitudeDouble, number: int, size: int) -> None:
    """Many events, or large ones, go in several requests, each within Amplitude's limits."""
    assert uploader(double).upload(notices(number, size)).taken
    assert len(double.events) == number
    assert max(double.requests) <= 500
    assert len(double.requests) >= 2


def test_too_large_after_all(double: AmplitudeDouble) -> None:
    """What Amplitude finds too large is halved."""
    double.most_events = 3
    assert uploader(double).upload(notices(10)).taken
    assert len(double.events) == 10


def test_unusable_events_are_left_out(double: AmplitudeDouble) -> None:
    """Those that Amplitude names never become usable; the others are not held up."""
    double.bad_users = {"usr_3", "usr_7"}
    told = uploader(double).upload(notices(10))
    assert (told.taken, told.dropped) == (True, 2)
    assert len(double.events) == 8
    double.bad_users = {f"usr_{n}" for n in range(10)}
    assert uploader(double).upload(notices(10)).dropped == 10


def test_a_wrong_key(double: AmplitudeDouble) -> None:
    """It drops nothing, and the key is not in what is said."""
    told = uploader(double, "wrong-key").upload(notices(2))
    assert (told.taken, told.dropped, told.reason) == (False, 0, "http_400")
    assert "wrong-key" not in repr(told)


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        *(("429", "http_429"), ("500", "http_500"), ("503", "http_503"), ("403", "http_403")),
        *(("302", "http_302"), ("close", "RemoteProtocolError")),
        ("processed_500", "http_500"),
    ],
)
def test_trouble(double: AmplitudeDouble, behaviour: str, reason: str) -> None:
    """Whatever happens is said, nothing is dropped, and a second time does no harm."""
    double.script = deque([behaviour])
    upload = uploader(double)
    told = upload.upload(notices(2))
    assert (told.taken, told.dropped, told.reason) == (False, 0, reason)
    assert told.wait == (30 * SECOND if behaviour == "429" else None)
    assert upload.upload(notices(2)).taken
    assert len(double.events) == 2


def test_nobody_there() -> None:
    """A refused connection is trouble too."""
    told = AmplitudeUpload("http://127.0.0.1:1", API_KEY).upload(notices(1))
    assert (told.taken, told.reason) == (False, "ConnectError")


def test_regions() -> None:
    """Europe has its own address."""
    assert base_url("us") == "https://api2.amplitude.com"
    assert base_url("eu") == "https://api.eu.amplitude.com"
