"""What a cohort webhook of Amplitude says: who entered a cohort, and who left it.

Facts: https://amplitude.com/docs/data/destination-catalog/cohort-webhooks. One call carries many
users; each becomes an event of its own, named `entered_cohort:<name>` or `left_cohort:<name>`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from experiment_engine.adapters.event_input import Members, event_of, fact_of
from experiment_engine.adapters.json_input import (
    BadElement,
    decode,
    elements_of,
    fault_of,
    members_of,
    not_json,
    opening,
    text_of,
)
from experiment_engine.domain.events import Fact, Source, Unreadable

MAX_USERS = 10_000  # as many as Amplitude puts into a batch for its partners

_WORDS = {"true": "entered_cohort", "false": "left_cohort"}
_READ = frozenset({"cohort_id", "cohort_name", "in_cohort", "computed_time", "message_id"})

_MAX_CALL = 8_192  # bytes of what is said about all users

_encode = msgspec.json.encode


@dataclass(frozen=True, slots=True)
class _Call:
    """What a call says about all its users."""

    name: str
    at: object
    message_id: str
    cohort: Members

    def read(self, user: Members, raw: bytes) -> Fact:
        """Return what the call tells of one user."""
        user_id = text_of(user.get("user_id"))
        return event_of(
            Source.AMPLITUDE,
            raw,
            name=self.name,
            user_id=user.get("user_id"),
            at=self.at,
            key=f"{self.message_id}:{user_id}" if self.message_id else None,
            event_properties=self.cohort,
            user_properties=user.get("user_properties"),
        )


def parse(body: bytes) -> list[Fact]:
    """Return one fact per user, in order; a bad one is Unreadable and alone in that.

    Each keeps the call with itself as its only user. Raises NotUnderstood if the body is no JSON
    object, TooManyEvents beyond MAX_USERS.
    """
    if opening(body) != b"{":
        raise not_json()
    members = members_of(body)
    if not members and fault_of(body) == "not_json":
        raise not_json()
    users = members.get("users", b"")
    # Of each user all of this is kept again, so that it must not be more than it needs to be.
    parts = {name: members[name] for name in members if name in _READ}
    try:
        call, listed = _call(parts), _listed(users)
    except BadElement as bad:
        return [Unreadable(bad.reason, body, Source.AMPLITUDE)]
    return [_fact(call, parts, user) for user in listed]


def _call(parts: Mapping[str, bytes]) -> _Call:
    if sum(map(len, parts.values())) > _MAX_CALL:
        raise BadElement("bad_value")
    said = {name: decode(raw) for name, raw in parts.items()}
    name = text_of(said.get("cohort_name")) or text_of(said.get("cohort_id"))
    word = _WORDS.get(str(said.get("in_cohort")).lower())
    if name is None or word is None:
        raise BadElement("no_cohort_name" if name is None else "bad_value")
    cohort = {"cohort_id": said.get("cohort_id"), "cohort_name": said.get("cohort_name")}
    message_id = text_of(said.get("message_id")) or ""
    return _Call(f"{word}:{name}", said.get("computed_time"), message_id, cohort)


def _listed(users: bytes) -> list[bytes]:
    if opening(users) != b"[":
        raise BadElement("no_users")
    return elements_of(users, MAX_USERS)


def _fact(call: _Call, parts: Mapping[str, bytes], user: bytes) -> Fact:
    """Read one user from a call that has no other, so that what is kept can be read again."""
    members = [*parts.items(), ("users", b"[" + user + b"]")]
    alone = b",".join(_encode(name) + b":" + raw for name, raw in members)
    return fact_of(user, lambda told, _raw: call.read(told, b"{" + alone + b"}"), Source.AMPLITUDE)
