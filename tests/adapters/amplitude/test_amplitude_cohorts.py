"""What we read in a cohort webhook of Amplitude."""

import json
from typing import Any

import pytest

from experiment_engine.adapters.amplitude.cohorts import MAX_USERS, parse
from experiment_engine.adapters.json_input import TooManyEvents
from experiment_engine.domain.errors import NotUnderstood
from experiment_engine.domain.events import Anonymous, Fact, Happened, Unreadable

CALL: dict[str, Any] = {
    "cohort_name": "Stuck in checkout",
    "cohort_id": "7khm89cz",
    "in_cohort": True,
    "computed_time": "1692206763",
    "message_id": "c6b1::enter::0",
    "users": [
        {"user_id": "usr_1", "user_properties": {"language": "hi"}},
        {"user_id": "usr_2"},
    ],
}


def facts(**changes: object) -> list[Fact]:
    return parse(json.dumps({**CALL, **changes}).encode())


def test_each_user_is_an_event() -> None:
    """Users who entered a cohort become events of that name, at the time it was computed."""
    first, second = facts()

    assert isinstance(first, Happened)
    assert isinstance(second, Happened)
    assert (first.user_id, first.name) == ("usr_1", "entered_cohort:Stuck in checkout")
    assert first.at == 1_692_206_763_000
    assert first.user_properties == {"language": "hi"}
    assert first.event_properties["cohort_id"] == "7khm89cz"
    assert (first.key, second.key) == (
        "amplitude:c6b1::enter::0:usr_1",
        "amplitude:c6b1::enter::0:usr_2",
    )


def test_what_is_kept_can_be_read_again() -> None:
    """Each fact keeps the call with itself as the only user, which tells the same."""
    for fact in facts():
        assert parse(fact.raw) == [fact]


def test_who_left() -> None:
    """Users who left have an event of their own."""
    assert {fact.name for fact in facts(in_cohort=False) if isinstance(fact, Happened)} == {
        "left_cohort:Stuck in checkout"
    }


def test_one_odd_user_is_alone() -> None:
    """A user who cannot be read is kept, one without an id is nobody's, the others are read."""
    good, odd, nobody = facts(users=[{"user_id": "u"}, {"user_id": ["u"]}, {"user_id": None}])

    assert isinstance(good, Happened)
    assert isinstance(odd, Unreadable)
    assert isinstance(nobody, Anonymous)
    assert odd.reason == "bad_id"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"cohort_name": None, "cohort_id": None}, "no_cohort_name"),
        ({"in_cohort": None}, "bad_value"),
        ({"users": None}, "no_users"),
        ({"users": {"user_id": "u"}}, "no_users"),
    ],
)
def test_a_call_that_is_none(changes: dict[str, Any], reason: str) -> None:
    """A call without a cohort, a direction or users is kept whole, with the reason."""
    (kept,) = facts(**changes)
    assert isinstance(kept, Unreadable)
    assert (kept.reason, kept.raw) == (reason, json.dumps({**CALL, **changes}).encode())


@pytest.mark.parametrize("body", [b"", b"nothing", b"7", b"[]", b"{", b'{"a'])
def test_what_is_no_call(body: bytes) -> None:
    """A body that is no JSON object is not understood as a whole."""
    with pytest.raises(NotUnderstood):
        parse(body)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{}", "no_cohort_name"),
        (json.dumps({**CALL, "cohort_name": "x" * 9_000}).encode(), "bad_value"),
    ],
    ids=["empty", "a name for 10,000 users"],
)
def test_what_is_an_object_is_kept(body: bytes, reason: str) -> None:
    """An object that is no call goes to quarantine; so does one that is too long for each user."""
    (kept,) = parse(body)
    assert isinstance(kept, Unreadable)
    assert (kept.reason, kept.raw) == (reason, body)


def test_the_largest_call() -> None:
    """Ten thousand users are read in one call, and one more is refused."""
    assert len(facts(users=[{"user_id": f"u{n}"} for n in range(MAX_USERS)])) == MAX_USERS
    with pytest.raises(TooManyEvents):
        facts(users=[{"user_id": f"u{n}"} for n in range(MAX_USERS + 1)])
