"""What we take an answer to mean; the wrong side of "perhaps" is a message sent twice."""

import json
from collections.abc import Mapping

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiment_engine.adapters.calling.endings import (
    MAX_EXCERPT,
    Reply,
    excerpt,
    of_failure,
    retry_after,
)
from experiment_engine.adapters.clevertap.answers import of_reply
from experiment_engine.domain.delivery.message import Answer, Call, Content, Verdict
from experiment_engine.domain.identifiers import CallId, Channel, ExperimentId, UserId
from experiment_engine.domain.moments import HOUR, SECOND

ACCEPTED, REFUSED = Verdict.ACCEPTED, Verdict.REFUSED
NOT_TAKEN, UNCERTAIN = Verdict.NOT_TAKEN, Verdict.UNCERTAIN
ADDED = b'{"status":"success","message":"Added to queue for processing"}'
USERS = ("usr_1", "usr_2", "usr_3")


def call(*users: str) -> Call:
    content = Content(Channel("push"), "title", "body", "")
    ids = {UserId(user): ExperimentId(f"exp-{user}") for user in users or USERS[:1]}
    return Call(CallId("call-1"), content, ids)


BATCH = call(*USERS)


def of_status(status: int, body: bytes | None = b"", **headers: str) -> Answer:
    return of_reply(call(), Reply(status, headers, body))


def of_body(to: Call, body: object) -> Answer:
    return of_reply(to, Reply(200, {}, json.dumps(body).encode()))


def meaning(answer: Answer) -> tuple[Verdict, str, bool]:
    return answer.verdict, answer.reason, answer.whole_call


def by_user(answer: Answer) -> Mapping[str, Verdict]:
    return {user: answer.verdict_for(UserId(user))[0] for user in USERS}


# Statuses


@pytest.mark.parametrize(
    ("statuses", "verdict", "whole_call"),
    [
        ((400, 413, 422), REFUSED, True),
        ((402, 404, 405, 406, 410, 411, 414, 415, 421, 431, 451), REFUSED, False),
        ((301, 307, 308), REFUSED, False),
        ((401, 403, 407, 425, 429), NOT_TAKEN, False),
        ((408, 409), UNCERTAIN, False),
        ((101, 300, 302, 303, 304, 500, 501, 502, 503, 504, 520, 524, 599, 999), UNCERTAIN, False),
    ],
)
def test_status(statuses: tuple[int, ...], verdict: Verdict, whole_call: bool) -> None:  # noqa: FBT001 - a table
    """A status means the same whatever the body says, or whether it arrived at all."""
    for status in statuses:
        for body in (b"", ADDED, None, b"<html>", b'{"status":"fail","code":429}'):
            answer = of_status(status, body)
            assert meaning(answer) == (verdict, f"http_{status}", whole_call)
            assert answer.status == status


@pytest.mark.parametrize("status", [200, 201, 202])
def test_accepted(status: int) -> None:
    """A 2xx is read before it is believed."""
    assert meaning(of_status(status, ADDED)) == (ACCEPTED, "accepted", False)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"<html>Please sign in</html>", b"null", b"[]", b'"success"', b"{", ADDED[:-9]),
        *(b"{}", b'{"status":null}', b'{"status":"queued"}', b'{"message":"ok"}', b"\xff"),
        *(b'{"status":"success","error":"half of it"}', b'{"status":"partial"}'),
        *(b'{"status":"fail","processed":1}', b"[" * 100_000, b'{"a":' * 100_000),
    ],
    ids=lambda body: body[:30],
)
def test_unclear(body: bytes) -> None:
    """A 200 that does not clearly say success may mean anything."""
    answer = of_status(200, body)

    assert (answer.verdict, answer.whole_call) == (UNCERTAIN, False)


def test_body_cut_short() -> None:
    """A 200 whose body did not arrive whole says nothing, but why it did not is told."""
    answer = of_reply(call(), Reply(200, {}, None, "disconnected"))

    assert meaning(answer) == (UNCERTAIN, "disconnected", False)


# Bodies of a 200


@pytest.mark.parametrize(
    ("code", "verdict", "whole_call"),
    [
        *((code, REFUSED, True) for code in (400, 413, 509, 514, 515, 525, 555, 2000)),
        *((code, NOT_TAKEN, False) for code in (401, 403, 429, "429")),
        *((code, REFUSED, False) for code in (404, 405)),
        *((code, UNCERTAIN, False) for code in (500, 502, 503, 504)),
    ],
)
def test_fail(code: object, verdict: Verdict, whole_call: bool) -> None:  # noqa: FBT001 - a table
    """A body can refuse with HTTP 200; its code is HTTP's own or CleverTap's for wrong data."""
    answer = of_body(BATCH, {"status": "fail", "error": "no", "code": code})

    assert meaning(answer) == (verdict, f"code_{code}", whole_call)


@pytest.mark.parametrize("code", [None, "", 0, "x", [], -1])
def test_fail_without_code(code: object) -> None:
    """A refusal without a usable code is a refusal."""
    answer = of_body(BATCH, {"status": "FAIL", "code": code})

    assert meaning(answer) == (REFUSED, "status_fail", True)


@pytest.mark.parametrize(
    "entry",
    [
        "usr_2",
        ["usr_2"],
        {"identity": "usr_2"},
        {"Identity": "usr_2", "code": 514, "status": "fail"},
        {"record": {"identity": "usr_2", "type": "profile"}, "error": "usr_1 is not the one"},
        {"record": {"profileData": {"Name": "usr_1"}, "Identity": "usr_2"}},
        {"to": {"Identity": ["usr_2"]}},
        {"who": {"where": ["usr_2"]}},
        {"profile": {"all_identities": ["other", "usr_2"]}},
    ],
)
@pytest.mark.parametrize("status", ["success", "partial"])
def test_user_left_out(entry: object, status: str) -> None:
    """A user named in `unprocessed`, wherever in the entry, was not taken; the others were."""
    answer = of_body(BATCH, {"status": status, "processed": 2, "unprocessed": [entry]})

    assert answer.verdict is ACCEPTED
    assert by_user(answer) == {"usr_1": ACCEPTED, "usr_2": REFUSED, "usr_3": ACCEPTED}


def test_code_of_a_user_left_out() -> None:
    """Each user left out has its own reason, and 429 may be tried again."""
    entries = [{"identity": "usr_1", "code": 514}, {"identity": "usr_3", "code": 429}]
    answer = of_body(BATCH, {"status": "partial", "unprocessed": entries})

    assert answer.exceptions == {"usr_1": (REFUSED, "code_514"), "usr_3": (NOT_TAKEN, "code_429")}


@pytest.mark.parametrize("unprocessed", [["somebody"], [{}], [7], 2, "x", [{"code": 514}], [None]])
def test_unnamed_left_out(unprocessed: object) -> None:
    """If it cannot be told who was left out, nobody of a batched call is known to be taken."""
    body = {"status": "partial", "unprocessed": unprocessed}

    assert set(by_user(of_body(BATCH, body)).values()) == {UNCERTAIN}
    assert of_body(call(), body).verdict is REFUSED


def test_some_of_the_left_out_are_named() -> None:
    """Those named are known, the rest of the call is not."""
    body = {"status": "partial", "unprocessed": ["usr_2", "somebody"]}

    assert by_user(of_body(BATCH, body)) == {
        "usr_1": UNCERTAIN,
        "usr_2": REFUSED,
        "usr_3": UNCERTAIN,
    }


def test_fail_that_names_users() -> None:
    """A refusal of the whole call may name its culprits."""
    answer = of_body(
        BATCH, {"status": "fail", "unprocessed": [{"identity": "usr_2", "code": 514}]}
    )

    assert meaning(answer) == (REFUSED, "status_fail", True)
    assert answer.exceptions == {"usr_2": (REFUSED, "code_514")}


def test_fail_that_names_everybody() -> None:
    """If everybody is named there is no culprit to look for."""
    answer = of_body(BATCH, {"status": "fail", "code": 429, "unprocessed": list(USERS)})

    assert meaning(answer) == (NOT_TAKEN, "code_429", False)
    assert set(by_user(answer).values()) == {NOT_TAKEN}
    assert not of_body(BATCH, {"status": "fail", "unprocessed": list(USERS)}).whole_call


def test_fail_of_a_single_user() -> None:
    """A call for one user takes the code of its only entry, else that of the whole."""
    for entry in ({"code": 429}, {"code": 429, "identity": "usr_1"}):
        answer = of_body(call(), {"status": "fail", "unprocessed": [entry]})
        assert meaning(answer) == (NOT_TAKEN, "code_429", False)
    answer = of_body(call(), {"status": "fail", "code": 429, "unprocessed": ["usr_1"]})
    assert answer.verdict_for(UserId("usr_1")) == (NOT_TAKEN, "code_429")


def test_fail_that_took_some() -> None:
    """A "fail" that processed some is a partial success in other words."""
    body = {"status": "fail", "processed": 2, "unprocessed": ["usr_2"]}

    assert by_user(of_body(BATCH, body))["usr_1"] is ACCEPTED


@pytest.mark.parametrize("unprocessed", [[], None, 0, ""])
def test_nobody_left_out(unprocessed: object) -> None:
    """An empty `unprocessed` is a plain success."""
    body = {"status": "success", "processed": 3, "unprocessed": unprocessed}

    assert meaning(of_body(BATCH, body)) == (ACCEPTED, "accepted", False)


# Waiting


NOW = "Sun, 22 Nov 2026 10:00:00 GMT"


@pytest.mark.parametrize(
    ("given", "wait"),
    [
        ("7", 7 * SECOND),
        (" 0 ", 0),
        ("3600", HOUR),
        ("1000000000", HOUR),
        ("9" * 5_000, HOUR),
        ("Sun, 22 Nov 2026 10:00:30 GMT", 30 * SECOND),
        ("Sun, 22 Nov 2026 09:00:00 GMT", 0),
        ("Sun, 22 Nov 2093 09:00:00 GMT", HOUR),
        *((text, None) for text in ("", "soon-ish; maybe", "-1", "1.5", "1e3", "٣", "Sun")),
    ],
)
def test_retry_after(given: str, wait: int | None) -> None:
    """Seconds or a date say how long to wait, up to an hour; anything else says nothing."""
    assert retry_after({"retry-after": given, "date": NOW}) == wait
    assert of_status(429, b"", **{"retry-after": given, "date": NOW}).retry_after == wait


@pytest.mark.parametrize("date", ["", "garbage", "Sun, 99 Nov 2026 10:00:00 GMT"])
def test_retry_after_without_a_clock(date: str) -> None:
    """A date can only be compared with the answer's own; without one it says nothing."""
    assert retry_after({"retry-after": NOW, "date": date}) is None
    assert retry_after({}) is None


@given(st.text(), st.text())
def test_any_retry_after(given: str, date: str) -> None:
    """Whatever stands there, it is a wait of at most an hour or none."""
    wait = retry_after({"retry-after": given, "date": date})

    assert wait is None or 0 <= wait <= HOUR


# No answer


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (httpx2.ConnectError("no"), "connect_failed"),
        (httpx2.ConnectTimeout("no"), "connect_timed_out"),
        (httpx2.PoolTimeout("no"), "no_free_connection"),
        (httpx2.UnsupportedProtocol("no"), "bad_url"),
        (httpx2.InvalidURL("no"), "bad_url"),
    ],
)
def test_nothing_written(error: Exception, reason: str) -> None:
    """What ended before a connection stood was provably not taken."""
    assert meaning(of_failure(error)) == (NOT_TAKEN, reason, False)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TimeoutError(), "timed_out"),
        (httpx2.ReadTimeout("no"), "timed_out"),
        (httpx2.WriteTimeout("no"), "timed_out"),
        (httpx2.ReadError("no"), "disconnected"),
        (httpx2.WriteError("no"), "disconnected"),
        (httpx2.CloseError("no"), "disconnected"),
        (httpx2.RemoteProtocolError("no"), "disconnected"),
        (httpx2.LocalProtocolError("no"), "unexpected"),
        (httpx2.DecodingError("no"), "unreadable"),
        (OSError("no"), "unexpected"),
        (RuntimeError("no"), "unexpected"),
    ],
)
def test_perhaps_written(error: Exception, reason: str) -> None:
    """What ended later, or in a way that nobody foresaw, may have been taken."""
    answer = of_failure(error)

    assert meaning(answer) == (UNCERTAIN, reason, False)
    assert type(error).__name__ in answer.answer


# What people get to read


def test_excerpt_is_short_and_clean() -> None:
    """An excerpt is one line of printable text that cannot turn what stands around it."""
    text = excerpt(
        "a\x00b\r\n\x1b[31mc\u202ed\u009b\u2066ए\u200bf".encode() + b"\xff" + b"z" * 9_000
    )

    assert text.startswith("ab[31mcdएf\ufffdz")
    assert len(text) == MAX_EXCERPT


@pytest.mark.parametrize("before", [b"", b"x" * (MAX_EXCERPT - 3), b"\x00"])
def test_excerpt_keeps_secrets(before: bytes) -> None:
    """A server that echoes our passcode does not bring it into a log, not even a piece."""
    text = excerpt(before + b"SECRET\x00-PASSCODE!", ["SECRET-PASSCODE"])

    assert "SEC" not in text


def test_answer_keeps_no_records() -> None:
    """An answer echoes users' data; what is kept of it is what went wrong."""
    record = {"identity": "usr_1", "profileData": {"Email": "asha@example.com"}}
    entry = {"status": "fail", "code": 515, "error": "Email is not valid", "record": record}
    answer = of_body(BATCH, {"status": "partial", "processed": 2, "unprocessed": [entry]})

    assert "asha" not in answer.answer
    assert json.loads(answer.answer) == {
        "status": "partial",
        "processed": 2,
        "unprocessed": [{"status": "fail", "code": 515, "error": "Email is not valid"}],
    }


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["success", "partial", "fail", *USERS]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["status", "code", "error", "unprocessed", "processed", "identity"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=15,
)


@given(VALUES.map(lambda value: json.dumps(value).encode()) | st.binary(), st.integers(100, 999))
def test_any_answer(body: bytes, status: int) -> None:
    """Every answer has a meaning; only a clear success is one, and nobody else's user is named."""
    answer = of_reply(BATCH, Reply(status, {}, body))

    assert (
        answer.verdict is not ACCEPTED
        or (b'"success"' in body or b'"partial"' in body)
        or b'"processed"' in body
    )
    assert answer.exceptions.keys() <= set(USERS)
    assert len(answer.answer) <= MAX_EXCERPT
