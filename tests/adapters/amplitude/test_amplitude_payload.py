"""What we read in a body from Amplitude."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiment_engine.adapters.amplitude.payload import MAX_EVENTS, TooManyEvents, parse
from experiment_engine.domain.errors import NotUnderstood
from experiment_engine.domain.events import Anonymous, Fact, Happened, Source, Unreadable
from experiment_engine.domain.identifiers import EventName, UserId
from experiment_engine.domain.moments import to_instant

FIXTURES = Path(__file__).parent / "fixtures"
AT = to_instant(datetime(2026, 11, 22, 10, 0, 1, 795_000, tzinfo=UTC))

GOOD = b'{"event_type":"checkout_abandoned","user_id":"usr_1","insert_id":"1","device_id":"d"}'
BAD = {
    b'{"event_type":"a","user_id":"u","event_properties":{"price":NaN}}': "bad_value",
    b'{"event_type":"a","user_id":"u","event_properties":{"price":1e999}}': "bad_value",
    b'{"event_type":"a","user_id":"u","event_properties":{"p":'
    + b"9" * 5_000
    + b"}}": "bad_value",
    b'{"event_type":"a","user_id":"u","event_properties":{"name":"\\ud800"}}': "bad_value",
    b'{"event_type":"a","user_id":"u","event_properties":{"name":"\xff"}}': "not_utf8",
    b'{"event_type":"a","p":' + b"[" * 100_000 + b"]" * 100_000 + b"}": "too_deep",
    b'{"event_type":"a","p":' + b"[" * 40 + b"]" * 40 + b"}": "too_deep",
    b'{"event_type":"a" "user_id":"u"}': "not_json",
    b'{event_type:"a"}': "not_json",
    b'"text"': "not_an_object",
    b"12": "not_an_object",
    b"null": "not_an_object",
    b"[]": "not_an_object",
    b"{}": "no_event_type",
    b'{"event_type":""}': "no_event_type",
    b'{"event_type":["a"]}': "no_event_type",
    b'{"event_type":"a\\u0000b"}': "bad_event_type",
    b'{"event_type":"' + b"a" * 1_025 + b'"}': "bad_event_type",
    b'{"event_type":"a","user_id":["u"]}': "bad_id",
    b'{"event_type":"a","user_id":true}': "bad_id",
    b'{"event_type":"a","user_id":1.5}': "bad_id",
    b'{"event_type":"a","user_id":"u\\u0000"}': "bad_id",
    b'{"event_type":"a","user_id":"u\\u0085x"}': "bad_id",
    b'{"event_type":"a","user_id":"' + b"u" * 257 + b'"}': "bad_id",
    b'{"event_type":"a","user_id":' + b"7" * 4_000 + b"}": "bad_id",
    b'{"event_type":"a","user_id":"u","event_time":"yesterday"}': "bad_time",
    b'{"event_type":"a","user_id":"u","event_properties":[1]}': "bad_properties",
    b'{"event_type":"a","user_id":"u","event_properties":"[1]"}': "bad_properties",
    b'{"event_type":"a","user_id":"u","user_properties":7}': "bad_properties",
    b'{"event_type":"a","user_id":"u","event_properties":"{not json"}': "not_json",
}
UNPARSEABLE = [
    *(b"", b" ", b"not json", b"{", b"[", b'{"event_type":', b"{bad}", b"[bad]", b'"text"', b"7"),
    *(b"null", b"true", b"NaN", b'[{"a":1}', b'[{"a":1}]]', b'[{"a":1]}', b"[1] x", b"x [1]"),
    *(b"[" * 100_000, b'{"a":' * 100_000, b'{"events":[' * 50_000, b'["' + b'\\"' * 100_000),
]


def fixture(name: str) -> bytes:
    return (FIXTURES / f"{name}.json").read_bytes()


def event(**members: object) -> bytes:
    return json.dumps({"event_type": "paywall_viewed", "user_id": "usr_1", **members}).encode()


def happened(**members: object) -> Happened:
    (fact,) = parse(event(**members))
    assert isinstance(fact, Happened)
    return fact


def key(**members: object) -> str:
    return happened(**members).key


# What Amplitude documents


def test_default_body() -> None:
    """The event object that a webhook sends by default is read whole."""
    body = fixture("default_body")

    assert parse(body) == [
        Happened(
            user_id=UserId("usr_123"),
            name=EventName("checkout_abandoned"),
            at=AT,
            key=(
                "amplitude:1b0e4a52-7b1c-4e5a-93f7-8a2d1e6f9c11:"
                "5f0c6b0e-7d0f-4c55-9a2c-0f6a1d0b7e11"
            ),
            raw=body,
            source=Source.AMPLITUDE,
            event_properties=json.loads(body)["event_properties"],
            user_properties={"timezone": "Asia/Kolkata", "plan": "free"},
        )
    ]


def test_template_body() -> None:
    """The body that we ask users to configure is read, empty values included as they came."""
    (fact,) = parse(fixture("template_body"))

    assert isinstance(fact, Happened)
    assert (fact.user_id, fact.at, fact.key) == ("usr_7", AT, "amplitude:dev-7:ins-1")
    assert fact.event_properties["region"] == ""
    assert fact.user_properties == {}


def test_template_body_without_values() -> None:
    """What a template renders empty is missing: no user, no time, no properties, no id."""
    (fact,) = parse(fixture("template_body_empty"))

    assert isinstance(fact, Anonymous)
    assert (fact.name, fact.at) == ("paywall_viewed", None)
    assert fact.key.startswith("amplitude:#")


def test_upload_body() -> None:
    """Events in the form of HTTP V2 are read, with its name and form of the time."""
    first, second = parse(fixture("http_v2_upload"))

    assert isinstance(first, Happened)
    assert (first.user_id, first.at, first.key) == (
        "usr_9",
        AT,
        "amplitude:dev-9:Trial Activated:3",
    )
    assert isinstance(second, Anonymous)
    assert (second.name, second.key) == ("app_opened", "amplitude:dev-10:7")


@pytest.mark.parametrize(
    ("name", "reason"), [("cohort_webhook", "cohort_webhook"), ("identify", "no_event_type")]
)
def test_other_bodies(name: str, reason: str) -> None:
    """Bodies of Amplitude's other webhooks are kept with their reason."""
    body = fixture(name)

    assert parse(body) == [Unreadable(reason, body, Source.AMPLITUDE)]


# Bodies


@pytest.mark.parametrize(
    "body",
    [
        GOOD,
        b"[" + GOOD + b"]",
        b" \n[ \t" + GOOD + b" ] \r\n",
        b'{"events":[' + GOOD + b"]}",
        b' { "api_key" : "x", "events" : [ ' + GOOD + b" ] } ",
    ],
)
def test_three_shapes(body: bytes) -> None:
    """An object, an array and a wrapper say the same, and each event keeps its own bytes."""
    (fact,) = parse(body)

    assert isinstance(fact, Happened)
    assert (fact.user_id, fact.key) == ("usr_1", "amplitude:d:1")
    assert fact.raw == (body if body is GOOD else GOOD)


@pytest.mark.parametrize("body", [b"[]", b" [ ] ", b'{"events":[]}', b"\xef\xbb\xbf[]"])
def test_empty_batch(body: bytes) -> None:
    """A batch of nothing is nothing."""
    assert parse(body) == []


@pytest.mark.parametrize("body", [GOOD, b"[" + GOOD + b"]", b'{"events":[' + GOOD + b"]}"])
def test_byte_order_mark(body: bytes) -> None:
    """The mark that some editors put before UTF-8 does no harm."""
    (fact,) = parse(b"\xef\xbb\xbf" + body)

    assert isinstance(fact, Happened)
    assert fact.user_id == "usr_1"


def test_event_with_a_field_called_events() -> None:
    """An event is an event, whatever its fields are called."""
    assert isinstance(happened(events=[1, 2]), Happened)
    assert isinstance(happened(events={"a": 1}), Happened)


@pytest.mark.parametrize("body", UNPARSEABLE, ids=lambda body: body[:20])
def test_not_json(body: bytes) -> None:
    """What is no JSON, or neither object nor array, is not understood as a whole."""
    with pytest.raises(NotUnderstood) as raised:
        parse(body)
    assert "JSON" in str(raised.value)


@pytest.mark.parametrize("wrapper", [b"[%s]", b'{"events":[%s]}'])
def test_batch_limit(wrapper: bytes) -> None:
    """A batch may hold 2,000 events, and not one more, good or bad."""
    assert len(parse(wrapper % b",".join([GOOD] * MAX_EVENTS))) == MAX_EVENTS
    for element in (GOOD, b"NaN"):
        with pytest.raises(TooManyEvents):
            parse(wrapper % b",".join([element] * (MAX_EVENTS + 1)))


@pytest.mark.parametrize(("element", "reason"), BAD.items(), ids=lambda given: str(given)[:60])
def test_bad_element(element: bytes, reason: str) -> None:
    """A bad event is kept byte for byte with its reason, and its neighbours do not notice."""
    (good,) = parse(GOOD)
    bad = Unreadable(reason, element, Source.AMPLITUDE)

    assert parse(b"[%b , %b,%b]" % (GOOD, element, GOOD)) == [good, bad, good]
    assert parse(b'{"x":1,"events":[%b,%b,%b]}' % (element, GOOD, element)) == [bad, good, bad]


@pytest.mark.parametrize(
    ("element", "reason"),
    [(body, why) for body, why in BAD.items() if why != "not_json" and body[:1] == b"{"],
    ids=lambda given: str(given)[:60],
)
def test_bad_event_alone(element: bytes, reason: str) -> None:
    """A lone event that is JSON, but not right, is one Unreadable and no error."""
    assert parse(element) == [Unreadable(reason, element, Source.AMPLITUDE)]


def test_depth() -> None:
    """32 levels are read, 33 are not; brackets in text are no levels."""
    nested: Any = "x"
    for _ in range(30):
        nested = {"a": nested}

    assert happened(event_properties=nested).event_properties == nested
    assert parse(event(event_properties={"a": nested})) != []
    assert isinstance(parse(event(event_properties={"a": {"a": nested}}))[0], Unreadable)
    assert happened(event_properties={"text": '[{"' * 500}).user_id == "usr_1"


@pytest.mark.parametrize(
    "body",
    [
        b'["' + b'\\"' * 500_000 + b"]",
        b'[{"a":NaN},' + b"[" * 500_000 + b"]" * 500_000 + b"]",
        b"[" + b"x," * 500_000 + b"x]",
        b'{"events":[' + b'"' * 1_000_000 + b"]}",
        b"[" + b'{"":' * 200_000 + b"1" + b"}" * 200_000 + b"]",
    ],
    ids=range(5),
)
def test_hostile_megabyte(body: bytes) -> None:
    """No body of a megabyte takes more than linear time, or more of the stack than there is."""
    try:
        facts = parse(body)
    except NotUnderstood:
        return
    assert all(isinstance(fact, Unreadable) for fact in facts)


# Users


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("usr_1", "usr_1"),
        (" usr_1\n", "usr_1"),
        (12345, "12345"),
        (2**70, str(2**70)),
        ("u" * 256, "u" * 256),
        ("आशा देवी", "आशा देवी"),
        ("क\u200dष", "क\u200dष"),
        ("a b", "a b"),
    ],
)
def test_user(given: object, read: str) -> None:
    """An id is text of any script; a number is taken as text."""
    assert happened(user_id=given).user_id == read


@pytest.mark.parametrize(
    "given",
    [
        *(None, "", "  ", "null", "NULL", "None", "nil", "undefined", "Unknown", "anonymous"),
        *("n/a", "NA", "0", 0, "-1", -1, "{}", "00000000-0000-0000-0000-000000000000", "lmy47d"),
    ],
)
def test_nobody(given: object) -> None:
    """Ids that Amplitude itself refuses name nobody."""
    (fact,) = parse(event(user_id=given, event_time="2026-11-22 10:00:01.795"))

    assert isinstance(fact, Anonymous)
    assert (fact.name, fact.at, fact.source) == ("paywall_viewed", AT, Source.AMPLITUDE)


# Times


@pytest.mark.parametrize(
    "given",
    [
        "2026-11-22 10:00:01.795",
        "2026-11-22T10:00:01.795",
        "2026-11-22 10:00:01.795999",
        " 2026-11-22 10:00:01.795 ",
        "2026-11-22T10:00:01.795Z",
        "2026-11-22T15:30:01.795+05:30",
        "20261122T100001.795",
        1795341601795,
        "1795341601795",
        1795341601.795,
        "1795341601.795",
        1795341601795.2,
    ],
)
def test_time(given: object) -> None:
    """All forms of a time mean the same instant, to the millisecond; no zone means UTC."""
    assert happened(event_time=given).at == AT
    assert happened(time=given).at == AT
    assert happened(event_time="", time=given).at == AT
    assert happened(event_time=given, time=1).at == AT


def test_time_in_whole_seconds() -> None:
    """A Unix time in seconds is told from one in milliseconds by its size."""
    assert happened(event_time=1795341601).at == AT - 795
    assert happened(event_time="1795341601").at == AT - 795


@pytest.mark.parametrize("given", [None, "", "  "])
def test_no_time(given: object) -> None:
    """A missing time is left open."""
    assert happened(event_time=given).at is None


@pytest.mark.parametrize(
    "given",
    [
        *("2026-11-22", "22/11/2026 10:00", "10:00:01", "2026-13-01 00:00:00", "${input.time}"),
        *(True, [], {}, -1, 0, 10**18, 1e300, -1e308, 10**400, "9" * 5_000, "nan", "inf", "1_000"),
        *(
            "0001-01-01T00:00:00+05:00",
            "1969-12-31 23:59:59",
            "2999-01-01 00:00:00",
            20261122100001,
        ),
        *("\u0661\u0662\u0663", "-", "2026-", "2026-11-22 10:00:01 UTC"),
    ],
)
def test_bad_time(given: object) -> None:
    """A time that cannot be read, or cannot be, is not guessed."""
    (fact,) = parse(event(event_time=given))

    assert fact == Unreadable("bad_time", fact.raw, Source.AMPLITUDE)


@given(st.datetimes(datetime(1970, 1, 2), datetime(2199, 12, 31)))  # noqa: DTZ001 - no zone is the case
def test_any_time(moment: datetime) -> None:
    """Every time that Python can write is read back, whatever the form."""
    instant = to_instant(moment)

    for text in (str(moment), moment.isoformat(), f"{moment.isoformat()}Z"):
        assert happened(event_time=text).at == instant
    if instant >= 100_000_000_000:
        assert happened(time=instant).at == instant


# Keys


def test_key_is_the_same_for_every_delivery() -> None:
    """Order and blanks do not make another event, even without any id."""
    body = {"event_type": "a", "user_id": "u", "event_time": "2026-11-22 10:00:01.795", "p": [1]}
    (first,) = parse(json.dumps(body).encode())
    (second,) = parse(json.dumps(dict(reversed(body.items())), indent=4).encode())
    (third,) = parse(json.dumps({**body, "user_id": "v"}).encode())

    assert isinstance(first, Happened)
    assert isinstance(second, Happened)
    assert isinstance(third, Happened)
    assert first.key == second.key != third.key


def test_key_by_insert_id() -> None:
    """An insert id is known by its device, under either of its names, as text or number."""
    assert key(device_id="d", insert_id="3") == "amplitude:d:3"
    assert key(device_id="d", insert_id=3) == "amplitude:d:3"
    assert key(device_id="d", insert_id="1", **{"$insert_id": "3"}) == "amplitude:d:3"
    assert key(device_id="d", insert_id="3", **{"$insert_id": ""}) == "amplitude:d:3"
    assert key(device_id="e", insert_id="3") == "amplitude:e:3"


def test_key_without_device() -> None:
    """Without a device, two users with the same insert id had two events."""
    assert key(user_id="u", insert_id="Order:3") == "amplitude:@u:Order:3"
    assert key(user_id="v", insert_id="Order:3") == "amplitude:@v:Order:3"


def test_key_by_uuid() -> None:
    """Without an insert id the uuid is the key."""
    assert key(uuid="a3c9", device_id="d", insert_id=" ") == "amplitude:a3c9"


@pytest.mark.parametrize("insert_id", ["x" * 5_000, "a\u0000b", "\u202e", "x" * 201])
def test_key_is_always_a_short_line(insert_id: str) -> None:
    """A key fits every index: a long or unprintable id is hashed, and stays the same."""
    hashed = key(device_id="d", insert_id=insert_id)

    assert hashed == key(device_id="d", insert_id=insert_id)
    assert hashed != key(device_id="e", insert_id=insert_id)
    assert len(hashed) < 60
    assert hashed.isprintable()


def test_key_of_an_event_with_a_bad_value_that_nobody_reads() -> None:
    """A field that we do not read may hold what it likes."""
    body = b'{"event_type":"a","user_id":"u","other":1e999}'
    (first,) = parse(body)
    (again,) = parse(body)

    assert isinstance(first, Happened)
    assert first == again


# Properties


@pytest.mark.parametrize("name", ["event_properties", "user_properties"])
@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({"price": "299", "step": 3}, {"price": "299", "step": 3}),
        ('{"price": "299"}', {"price": "299"}),
        (None, {}),
        ("", {}),
        (" ", {}),
        ([], {}),
        ("{}", {}),
        ("null", {}),
    ],
)
def test_properties(name: str, given: object, read: object) -> None:
    """Properties come as an object, as its text, or not at all; values stay as they are."""
    assert getattr(happened(**{name: given}), name) == read


# Anything at all


NAMES = ["event_type", "user_id", "device_id", "event_time", "time", "event_properties", "events"]
NAMES += ["user_properties", "$insert_id", "insert_id", "uuid", "cohort_id", "x"]
TEXTS = st.text(st.characters(codec=None), max_size=8) | st.sampled_from(
    ["2026-11-22 10:00", "{}"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(NAMES) | TEXTS, inner, max_size=6)
    ),
    max_leaves=20,
)
EVENTS = st.dictionaries(st.sampled_from(NAMES[:-1]), VALUES, max_size=8).map(
    lambda members: {"event_type": "a", "user_id": "u", **members}
)


def raws(facts: list[Fact]) -> list[bytes]:
    return [fact.raw for fact in facts]


@given(st.binary(max_size=200) | st.text().map(lambda text: text.encode()))
def test_any_bytes(body: bytes) -> None:
    """Whatever arrives, either every event has its fact or the body is not understood."""
    try:
        facts = parse(body)
    except NotUnderstood:
        return
    assert all(raw in body for raw in raws(facts))


@given(VALUES | EVENTS, st.booleans())
def test_any_json(value: object, ascii_only: bool) -> None:  # noqa: FBT001 - given by hypothesis
    """Any object or array of JSON gives facts, and never an error."""
    body = json.dumps(value, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    try:
        facts = parse(body)
    except NotUnderstood:
        assert not isinstance(value, dict | list)
    else:
        assert len(facts) == (len(value) if isinstance(value, list) else len(facts))


@given(
    st.lists(EVENTS | VALUES, max_size=5).map(
        lambda many: [json.dumps(one).encode() for one in many]
    ),
    st.sampled_from([bad for bad in BAD if len(bad) < 1_000]),
    st.integers(0, 5),
)
def test_neighbours_of_a_bad_element(elements: list[bytes], bad: bytes, place: int) -> None:
    """One bad element never changes what its neighbours say."""
    alone = [parse(b"[%b]" % element)[0] for element in elements]
    elements.insert(place, bad)
    expected: list[Fact] = [*alone]
    expected.insert(place, Unreadable(BAD[bad], bad, Source.AMPLITUDE))

    if bad.startswith(b"{event_type") and not alone:
        return  # nothing in it is JSON
    try:
        assert parse(b"[%b]" % b", ".join(elements)) == expected
        assert parse(b'{"events": [%b]}' % b",".join(elements)) == expected
    except NotUnderstood:
        assert BAD[bad] == "not_json"
        assert not alone
