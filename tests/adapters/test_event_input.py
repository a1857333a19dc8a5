"""What every sender of app events has in common, whatever its words."""

import json
from collections.abc import Callable
from typing import TypeGuard

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiment_engine.adapters.amplitude import cohorts
from experiment_engine.adapters.backend import payload as backend
from experiment_engine.adapters.json_input import TooManyEvents
from experiment_engine.adapters.posthog import payload as posthog
from experiment_engine.adapters.rudderstack import payload as rudderstack
from experiment_engine.adapters.segment import payload as segment
from experiment_engine.domain.errors import NotUnderstood
from experiment_engine.domain.events import Anonymous, Fact, Happened, Unreadable

Parse = Callable[[bytes], list[Fact]]


def from_backend(body: bytes) -> list[Fact]:
    return backend.parse(body, {})


PARTNERS: dict[str, tuple[Parse, bytes]] = {
    "segment": (segment.parse, b'{"type":"track","event":"e","userId":"u","messageId":"m"}'),
    "rudderstack": (
        rudderstack.parse,
        b'{"type":"track","event":"e","userId":"u","messageId":"m"}',
    ),
    "posthog": (posthog.parse, b'{"event":{"event":"e","distinct_id":"u","uuid":"m"}}'),
    "backend": (from_backend, b'{"type":"e","data":{"user_id":"u"},"id":"m"}'),
}
BAD_EVENTS = [b"7", b"null", b'"text"', b"[]", b"{}", b'{"a":NaN}', b'{"a":"\xff"}', b"[[1]]"]
NO_JSON = [b"", b"nothing", b"7", b'"text"', b"{", b"[", b'{"a" 1}', b"[{]}", b"[" * 100_000]

partner = pytest.mark.parametrize(("parse", "good"), PARTNERS.values(), ids=PARTNERS)


@partner
def test_a_key_names_the_event(parse: Parse, good: bytes) -> None:
    """The same event has the same key; without an id of the sender's, its content is the key."""
    (once,) = parse(good)
    (again,) = parse(good)

    assert isinstance(once, Happened)
    assert once == again
    assert once.key.endswith(("m", "m:1"))
    nameless = good.replace(b'"m"', b"null")
    spaced = json.dumps(json.loads(nameless), indent=1).encode()
    keys = {fact.key for body in (nameless, spaced) for fact in parse(body) if is_event(fact)}
    assert len(keys) == 1


def is_event(fact: Fact) -> TypeGuard[Happened | Anonymous]:
    return isinstance(fact, Happened | Anonymous)


@partner
@pytest.mark.parametrize("bad", BAD_EVENTS)
def test_a_bad_event_is_alone_in_that(parse: Parse, good: bytes, bad: bytes) -> None:
    """What is wrong with one event is kept byte for byte, and its neighbours are read."""
    first, kept, last = parse(b"[" + b",".join((good, bad, good)) + b"]")

    assert isinstance(first, Happened)
    assert isinstance(last, Happened)
    assert isinstance(kept, Unreadable)
    assert kept.raw == bad


@partner
@pytest.mark.parametrize("body", NO_JSON)
def test_what_is_no_json_is_said(parse: Parse, good: bytes, body: bytes) -> None:
    """A body that is not JSON, or neither object nor array, is not understood as a whole."""
    assert good
    with pytest.raises(NotUnderstood):
        parse(body)


@partner
def test_there_is_a_limit(parse: Parse, good: bytes) -> None:
    """More events than a request may carry are refused, not cut."""
    with pytest.raises(TooManyEvents):
        parse(b"[" + b",".join([good] * 4_001) + b"]")


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
NAMES = (
    *("type", "event", "userId", "messageId", "timestamp", "properties", "context", "traits"),
    *("person", "distinct_id", "uuid", "data", "user_id", "id", "users", "cohort_name"),
    *("cohort_id", "in_cohort", "computed_time", "message_id", "user_properties", "events"),
)


@given(st.recursive(ANY_JSON, lambda inner: st.dictionaries(st.sampled_from(NAMES), inner)))
def test_any_json_is_read_or_kept(value: object) -> None:
    """Whatever JSON comes, each partner's reader gives facts, or says that it is none."""
    body = json.dumps(value).encode()
    for parse in (*(parse for parse, _ in PARTNERS.values()), cohorts.parse):
        try:
            facts = parse(body)
        except NotUnderstood:
            continue
        assert all(isinstance(fact, Happened | Anonymous | Unreadable) for fact in facts)
        assert all(fact.raw for fact in facts)
