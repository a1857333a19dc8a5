"""What we read in CleverTap's calls to our webhooks."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiment_engine.adapters.clevertap.callbacks import (
    MAX_EVENTS,
    TooManyEvents,
    parse_converted,
    parse_opened,
    parse_opted_out,
)
from experiment_engine.domain.errors import NotUnderstood
from experiment_engine.domain.events import (
    Chosen,
    Fact,
    Feedback,
    FeedbackKind,
    Ping,
    Source,
    Unreadable,
)
from experiment_engine.domain.identifiers import EVERY_CHANNEL, Channel, ExperimentId, UserId
from experiment_engine.domain.moments import to_instant

FIXTURES = Path(__file__).parent / "fixtures"
AT = to_instant(datetime(2026, 11, 22, 10, 0, 1, tzinfo=UTC))
PARSERS = [parse_opened, parse_converted, parse_opted_out]

Parser = Callable[[bytes], list[Fact]]


def fixture(name: str) -> bytes:
    return (FIXTURES / f"{name}.json").read_bytes()


def body(value: object) -> bytes:
    return json.dumps(value).encode()


def feedback(
    raw: bytes,
    user_id: str | None,
    experiment_id: str | None,
    kind: FeedbackKind = FeedbackKind.OPENED,
) -> Feedback:
    user = None if user_id is None else UserId(user_id)
    experiment = None if experiment_id is None else ExperimentId(experiment_id)
    return Feedback(kind, user, experiment, None, raw, Source.CLEVERTAP)


def opened(value: object) -> Feedback:
    (fact,) = parse_opened(body(value))
    assert isinstance(fact, Feedback)
    return fact


def known_by(value: object) -> tuple[str | None, str | None]:
    fact = opened(value)
    return fact.user_id, fact.experiment_id


def reason(value: object, parse: Parser = parse_opened) -> str:
    (fact,) = parse(body(value))
    assert isinstance(fact, Unreadable)
    assert fact.source is Source.CLEVERTAP
    return fact.reason


# Our plain form


def test_plain() -> None:
    """User and experiment are read, and the route says what happened."""
    raw = fixture("plain")

    for parse, kind in [
        (parse_opened, FeedbackKind.OPENED),
        (parse_converted, FeedbackKind.CONVERTED),
    ]:
        assert parse(raw) == [feedback(raw, "usr_1", "exp-1", kind)]


def test_plain_array() -> None:
    """Each element of an array is a report of its own and keeps its own bytes."""
    one, other = b'{"user_id":"u"}', b'{"experiment_id":"x"}'

    assert parse_opened(b"[ %b, %b ]" % (one, other)) == [
        feedback(one, "u", None),
        feedback(other, None, "x"),
    ]


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({"user_id": "u"}, ("u", None)),
        ({"experiment_id": "x"}, (None, "x")),
        ({"user_id": 7, "experiment_id": 8}, ("7", "8")),
        ({"User_ID": "u", "Experiment_Id": "x"}, ("u", "x")),
        ({"identity": "u", "xp": "x"}, ("u", "x")),
        ({"user_id": None, "identity": "u", "wzrk_xp": "x"}, ("u", "x")),
        ({"user_id": "", "Identity": " u ", "experiment_id": " x\n"}, ("u", "x")),
        ({"user_id": "anonymous", "experiment_id": "x"}, (None, "x")),
        ({"user_id": "u", "experiment_id": "null"}, ("u", None)),
    ],
)
def test_ids(given: object, read: tuple[str | None, str | None]) -> None:
    """Ids come under several names, as text or number; reserved words are none."""
    assert known_by(given) == read


@pytest.mark.parametrize("name", ["timestamp", "event_time", "at", "Timestamp"])
@pytest.mark.parametrize(
    "given", ["2026-11-22 10:00:01", "2026-11-22T15:30:01+05:30", 1795341601, "1795341601000"]
)
def test_time(name: str, given: object) -> None:
    """The time may stand under any of three names, in every form that events have."""
    assert opened({"user_id": "u", name: given}).at == AT


@pytest.mark.parametrize("given", [None, "", "{{Event.ts}}", "$event.ts"])
def test_no_time(given: object) -> None:
    """A missing time, or one that was not filled in, is left open."""
    assert opened({"user_id": "u", "at": given}).at is None


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({}, "no_user_and_no_experiment"),
        ({"user_id": "", "experiment_id": None}, "no_user_and_no_experiment"),
        ({"user_id": "unknown"}, "no_user_and_no_experiment"),
        ({"user_id": ["u"]}, "bad_id"),
        ({"user_id": "u\u0000"}, "bad_id"),
        ({"user_id": "u", "experiment_id": "x" * 257}, "bad_id"),
        ({"user_id": "u", "at": "20261122100001"}, "bad_time"),
    ],
)
def test_unreadable(given: object, why: str) -> None:
    """What names nobody, or names somebody in no usable way, is kept with its reason."""
    assert reason(given) == why


# Macros that arrive as they were typed


@pytest.mark.parametrize(
    "macro",
    [
        *("$Identity", "$event.experiment_id", "{{ Profile.Identity }}", "${user.id}"),
        *("Profile.Identity", "Event.experiment_id", "@Event.experiment_id", "{% if a %}"),
        *("$profile.identity", " $Identity "),
    ],
)
def test_macro(macro: str) -> None:
    """A macro that nobody filled in is a missing value; without any other, it is the reason."""
    assert reason({"user_id": macro, "experiment_id": macro}) == "macro_not_rendered"
    assert reason({"user_id": macro}) == "macro_not_rendered"
    assert reason({"experiment_id": macro}) == "macro_not_rendered"
    assert known_by({"user_id": "u", "experiment_id": macro}) == ("u", None)
    assert known_by({"user_id": macro, "experiment_id": "x"}) == (None, "x")
    assert known_by({"user_id": macro, "identity": "u"}) == ("u", None)


@pytest.mark.parametrize("user", ["$42", "event.manager", "profile7", "$identityless"])
def test_not_a_macro(user: str) -> None:
    """An id that only looks a little like a macro is an id."""
    assert known_by({"user_id": user}) == (user, None)


def test_unrendered_fixture() -> None:
    """The body that a public example tells people to configure is told apart."""
    raw = fixture("unrendered")

    assert parse_opened(raw) == [Unreadable("macro_not_rendered", raw, Source.CLEVERTAP)]


# CleverTap's own bodies


def test_broadcast() -> None:
    """Every profile of a broadcast is a report of its own and keeps its own bytes."""
    facts = parse_converted(fixture("broadcast"))

    assert [
        (fact.user_id, fact.experiment_id) for fact in facts if isinstance(fact, Feedback)
    ] == [
        ("usr_1", "exp-1"),
        ("usr_2", "exp-2"),
        ("usr_3", None),
    ]
    profiles = json.loads(fixture("broadcast"))["profiles"]
    assert [json.loads(fact.raw) for fact in facts] == profiles


def test_personalised() -> None:
    """A personalised call has one profile that is no array, and its id in the key values."""
    raw = fixture("personalised")

    assert parse_opened(raw) == [feedback(raw, "usr_7", "exp-7")]


def test_mixed_case() -> None:
    """Names are read whatever their case; the event says more than the profile."""
    (fact,) = parse_opened(fixture("mixed_case"))

    assert isinstance(fact, Feedback)
    assert (fact.user_id, fact.experiment_id) == ("usr_8", "exp-8")


def test_identity_among_many() -> None:
    """A profile without its main identity is known by its first other one."""
    (fact,) = parse_opened(fixture("post_action"))

    assert isinstance(fact, Feedback)
    assert fact.user_id == "usr_9"


@pytest.mark.parametrize("parse", PARSERS)
def test_set_up_test(parse: Parser) -> None:
    """CleverTap's trial call is a ping on every route, whatever else it holds."""
    raw = fixture("set_up_test")

    assert parse(raw) == [Ping(raw)]
    assert parse(b'{"Is_Test":"true","profiles":[x,{}]}') == [
        Ping(b'{"Is_Test":"true","profiles":[x,{}]}')
    ]
    assert parse(b'{"is_test":false,"user_id":"u"}') != [Ping(b'{"is_test":false,"user_id":"u"}')]


@pytest.mark.parametrize("name", ["experiment_id", "Experiment_id", "wzrk_xp", "xp"])
@pytest.mark.parametrize("place", ["event_properties", "key_values", "profileData", "own", "top"])
def test_where_the_experiment_stands(name: str, place: str) -> None:
    """The experiment is found wherever CleverTap can be made to put it."""
    profile: dict[str, object] = {"identity": "u"}
    call: dict[str, object] = {"targetId": 1, "profiles": [profile]}
    where = {"own": profile, "top": call}.get(place)
    if where is not None:
        where[name] = "x"
    elif place == "key_values":
        call[place] = {name: "x"}
    else:
        profile[place] = {name: "x"}

    assert known_by(call) == ("u", "x")


def test_particular_before_general() -> None:
    """An id of this event wins over one of the campaign, and that over one in the profile."""
    profile: dict[str, object] = {"identity": "u", "profileData": {"xp": "old"}}
    call: dict[str, object] = {"profiles": [profile]}
    assert known_by(call) == ("u", "old")
    call["key_values"] = {"experiment_id": "campaign"}
    assert known_by(call) == ("u", "campaign")
    profile["event_properties"] = {"xp": "event"}
    assert known_by(call) == ("u", "event")
    profile["event_properties"] = {"xp": "{{ Event.xp }}"}
    assert known_by(call) == ("u", "campaign")


@pytest.mark.parametrize("odd", [[], "", None, 7, "Event.x", [1], {"a": {"b": 1}}])
def test_odd_parts(odd: object) -> None:
    """Parts that hold nothing usable do not hide a user who is named."""
    profile = {"identity": "u", "event_properties": odd, "profileData": odd}

    assert known_by({"key_values": odd, "profiles": [profile]}) == ("u", None)


@pytest.mark.parametrize("profiles", [None, "", "Profile"])
def test_no_profiles(profiles: object) -> None:
    """A body whose profiles are empty is read as a plain report."""
    assert known_by({"profiles": profiles, "user_id": "u"}) == ("u", None)


def test_empty_broadcast() -> None:
    """A broadcast to nobody says nothing."""
    assert parse_opened(b'{"targetId":1,"profiles":[]}') == []


# Opt-outs


@pytest.mark.parametrize(
    ("given", "channel"),
    [
        ({}, EVERY_CHANNEL),
        ({"channel": None}, EVERY_CHANNEL),
        ({"channel": "all"}, EVERY_CHANNEL),
        ({"channel": "*"}, EVERY_CHANNEL),
        ({"channel": "{{Event.channel}}"}, EVERY_CHANNEL),
        ({"channel": "whatsapp"}, "whatsapp"),
        ({"Channel": " WhatsApp "}, "whatsapp"),
        ({"event_properties": {"Channel": "Push"}}, "push"),
    ],
)
def test_opted_out(given: dict[str, object], channel: str) -> None:
    """A user says no to one channel, or, if none is named, to all."""
    raw = body({"user_id": "u", "at": "2026-11-22 10:00:01", **given})

    assert parse_opted_out(raw) == [
        Chosen(
            UserId("u"),
            allowed=False,
            at=AT,
            raw=raw,
            source=Source.CLEVERTAP,
            channel=Channel(channel),
        )
    ]


def test_broadcast_of_opt_outs() -> None:
    """Opt-outs come in CleverTap's own bodies too."""
    facts = parse_opted_out(fixture("broadcast"))

    assert [fact.user_id for fact in facts if isinstance(fact, Chosen)] == [
        "usr_1",
        "usr_2",
        "usr_3",
    ]


def test_opt_out_of_nobody() -> None:
    """An opt-out needs its user, or an experiment of theirs; its channel must be a text."""
    (fact,) = parse_opted_out(b'{"experiment_id": "x"}')
    assert isinstance(fact, Chosen)
    assert (fact.user_id, fact.experiment_id) == (None, "x")
    assert reason({"user_id": "u", "channel": ["x"]}, parse_opted_out) == "bad_id"


# Bodies


@pytest.mark.parametrize(
    "raw", [b"", b"not json", b"{", b"[", b"{bad}", b"[bad]", b'"x"', b"7", b"null", b"[" * 10**5]
)
@pytest.mark.parametrize("parse", PARSERS)
def test_not_json(parse: Parser, raw: bytes) -> None:
    """What is no JSON, or neither object nor array, is not understood as a whole."""
    with pytest.raises(NotUnderstood):
        parse(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"[%b]" % b",".join([b'{"user_id":"u"}'] * (MAX_EVENTS + 1)),
        b'{"profiles":[%b]}' % b",".join([b'{"identity":"u"}'] * (MAX_EVENTS + 1)),
        b"[%b]" % b",".join([b'{"profiles":[{"identity":"u"},{"identity":"v"}]}'] * MAX_EVENTS),
    ],
    ids=["plain", "profiles", "both"],
)
def test_limit(raw: bytes) -> None:
    """A call may speak of 2,000 users, in whatever form."""
    with pytest.raises(TooManyEvents):
        parse_opened(raw)


BAD = {
    b'{"identity":"v","x":NaN}': "bad_value",
    b'{"identity":"v","x":1e999}': "bad_value",
    b'{"identity":"v","x":"\\ud800"}': "bad_value",
    b'{"identity":"\xff"}': "not_utf8",
    b'{"identity":"v","x":' + b"[" * 10_000 + b"]" * 10_000 + b"}": "too_deep",
    b"{identity}": "not_json",
    b"7": "not_an_object",
    b"{}": "no_user_and_no_experiment",
}


@pytest.mark.parametrize(("element", "why"), BAD.items(), ids=lambda given: str(given)[:40])
@pytest.mark.parametrize("shape", [b"[%b]", b'{"targetId":1,"profiles":[%b]}'])
def test_bad_element(shape: bytes, element: bytes, why: str) -> None:
    """A bad profile is kept byte for byte with its reason, and its neighbours do not notice."""
    good = b'{"identity":"u"}'
    expected = feedback(good, "u", None)

    assert parse_opened(shape % b",".join([good, element, good])) == [
        expected,
        Unreadable(why, element, Source.CLEVERTAP),
        expected,
    ]


def test_bad_call_among_calls() -> None:
    """A call whose profiles cannot be cut is kept, and the calls beside it are read."""
    good, bad = b'{"user_id":"u"}', b'{"profiles":[x,y]}'

    assert parse_opened(b"[%b,%b]" % (good, bad)) == [
        feedback(good, "u", None),
        Unreadable("not_json", bad, Source.CLEVERTAP),
    ]


def test_bad_key_values() -> None:
    """A bad part of the campaign does not hide the profiles."""
    raw = b'{"key_values":{"a":NaN},"profiles":[{"identity":"u"}]}'

    assert parse_opened(raw) == [feedback(raw, "u", None)]


# Anything at all


NAMES = ["user_id", "identity", "Identity", "experiment_id", "xp", "at", "channel", "is_test"]
NAMES += ["profiles", "event_properties", "key_values", "profileData", "all_identities"]
TEXTS = st.text(st.characters(codec=None), max_size=6) | st.sampled_from(["$Identity", "{{", "0"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(NAMES) | TEXTS, inner, max_size=6)
    ),
    max_leaves=20,
)


@pytest.mark.parametrize("parse", PARSERS)
@given(raw=st.binary(max_size=200) | st.text().map(lambda text: text.encode()))
def test_any_bytes(parse: Parser, raw: bytes) -> None:
    """Whatever arrives, either every user has a fact or the body is not understood."""
    try:
        facts = parse(raw)
    except NotUnderstood:
        return
    assert all(fact.raw in raw for fact in facts)


@pytest.mark.parametrize("parse", PARSERS)
@given(value=VALUES, ascii_only=st.booleans())
def test_any_json(parse: Parser, value: object, ascii_only: bool) -> None:  # noqa: FBT001 - given
    """Any object or array of JSON gives facts, and never an error."""
    raw = json.dumps(value, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    try:
        parse(raw)
    except NotUnderstood:
        assert not isinstance(value, dict | list)
