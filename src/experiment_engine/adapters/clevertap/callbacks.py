"""What a call from CleverTap says: opened, converted, or no more messages.

Facts: https://docs.clevertap.com/docs/create-message-webhook and .../docs/setup-webhooks. Names
are read whatever their case, because CleverTap's own pages differ. Our plain form
(`{"user_id", "experiment_id"}`) is read by the same rules.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from experiment_engine.adapters.json_input import (
    MAX_EVENTS,
    BadElement,
    TooManyEvents,
    decode,
    elements_of,
    identifier_of,
    instant_of,
    mapping_of,
    members_of,
    not_json,
    opening,
)
from experiment_engine.domain.delivery.copy import clean
from experiment_engine.domain.errors import NotUnderstood
from experiment_engine.domain.events import (
    Chosen,
    Fact,
    Feedback,
    FeedbackKind,
    Ping,
    Source,
    Terms,
    Unreadable,
)
from experiment_engine.domain.identifiers import (
    EVERY_CHANNEL,
    Channel,
    ExperimentId,
    UserId,
)
from experiment_engine.domain.moments import Instant

__all__ = [
    "MAX_EVENTS",
    "TooManyEvents",
    "parse_converted",
    "parse_opened",
    "parse_opted_out",
]

_USER = ("user_id", "userid", "identity")
_EXPERIMENT = ("experiment_id", "experimentid", "wzrk_xp", "xp")
_TIME = ("timestamp", "event_time", "at")
_CHANNEL = ("channel",)
_ALL = frozenset({"*", "all", "any"})

# Text that the dashboard should have replaced, and did not.
_MACRO = re.compile(
    r"""\{\{ | \{% | \$\{                          # Liquid, FreeMarker
      | ^\s* \$ (?i: identity\b | event\. | profile\. )
      | ^\s* @? (?: Event | Profile ) \. \w        # as the dashboard's editor writes them
    """,
    re.VERBOSE,
)

Members = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class _Report:
    """What is said about one user; at least one of user and experiment is there."""

    user_id: UserId | None
    experiment_id: ExperimentId | None
    at: Instant | None
    channel: Channel
    terms: Terms
    raw: bytes


def parse_opened(body: bytes) -> list[Fact]:
    """Return one fact per user: Feedback, Ping (CleverTap's set-up page tries us) or Unreadable.

    Raises NotUnderstood if the body is not JSON, TooManyEvents beyond MAX_EVENTS users.
    """
    return _parse(body, partial(_feedback, FeedbackKind.OPENED))


def parse_converted(body: bytes) -> list[Fact]:
    """As parse_opened, for the webhook of a reached goal."""
    return _parse(body, partial(_feedback, FeedbackKind.CONVERTED))


def parse_opted_out(body: bytes) -> list[Fact]:
    """As parse_opened, with Chosen; without a `channel` the user wants no messages on any."""
    return _parse(body, _opted_out)


def _feedback(kind: FeedbackKind, report: _Report) -> Fact:
    return Feedback(kind, report.user_id, report.experiment_id, report.at, report.raw)


def _opted_out(report: _Report) -> Fact:
    return Chosen(
        user_id=report.user_id,
        allowed=False,
        at=report.at,
        raw=report.raw,
        source=Source.CLEVERTAP,
        channel=report.channel,
        experiment_id=report.experiment_id,
        terms=report.terms,
    )


# From a body to its profiles


def _parse(body: bytes, fact_of: Callable[[_Report], Fact]) -> list[Fact]:
    first = opening(body)
    if first not in (b"[", b"{"):
        raise not_json()
    facts: list[Fact] = []
    for entry in elements_of(body) if first == b"[" else [body]:
        facts.extend(_facts(entry, fact_of))
        if len(facts) > MAX_EVENTS:
            raise TooManyEvents
    if facts == [Unreadable("not_json", body, Source.CLEVERTAP)]:
        raise not_json()
    return facts


def _facts(entry: bytes, fact_of: Callable[[_Report], Fact]) -> Iterator[Fact]:
    """Read one object: a plain report, or CleverTap's body with its profiles."""
    parts = {name.lower(): raw for name, raw in members_of(entry).items()}
    if _is_test(parts.get("is_test", b"")):
        yield Ping(entry)
        return
    try:
        profiles = _profiles(parts.pop("profiles", b""))
    except TooManyEvents:
        raise
    except NotUnderstood:
        yield Unreadable("not_json", entry, Source.CLEVERTAP)
        return
    if profiles is None:
        yield _fact(entry, {}, entry, fact_of)
        return
    shared = {name: _lenient(raw) for name, raw in parts.items()}
    for profile in profiles:
        yield _fact(profile, shared, profile if len(profiles) > 1 else entry, fact_of)


def _profiles(profiles: bytes) -> list[bytes] | None:
    """Return those of a broadcast or the one of a personalised call; None in a plain report."""
    first = opening(profiles)
    if first == b"[":
        return elements_of(profiles)
    return [profiles] if first == b"{" else None


def _is_test(raw: bytes) -> bool:
    return str(_lenient(raw)).lower() in {"true", "1"}


def _lenient(raw: bytes) -> object:
    try:
        return decode(raw)
    except BadElement:
        return None


# From a profile to what it says


def _fact(profile: bytes, shared: Members, raw: bytes, fact_of: Callable[[_Report], Fact]) -> Fact:
    try:
        return fact_of(_report(_members(profile), shared, raw))
    except BadElement as bad:
        return Unreadable(bad.reason, raw, Source.CLEVERTAP)


def _members(profile: bytes) -> Members:
    value = decode(profile)
    if not isinstance(value, dict):
        raise BadElement("not_an_object")
    return _lowered(value)


def _report(own: Members, shared: Members, raw: bytes) -> _Report:
    """Look in the most particular place first: the profile, its event, the call, the person."""
    event = _inner(own, "event_properties")
    settings = (_inner(own, "key_values"), _inner(shared, "key_values"))
    places = (own, event, shared, *settings, _inner(own, "profiledata"))
    user = identifier_of(_rendered((own, shared), _USER) or _first_identity(own))
    experiment = identifier_of(_rendered(places, _EXPERIMENT))
    if user is None and experiment is None:
        macros = any(map(_is_macro, _values(places, _USER + _EXPERIMENT)))
        raise BadElement("macro_not_rendered" if macros else "no_user_and_no_experiment")
    return _Report(
        None if user is None else UserId(user),
        None if experiment is None else ExperimentId(experiment),
        instant_of(_rendered((own, shared), _TIME)),
        _channel_of(_rendered((own, event, shared, *settings), _CHANNEL)),
        Terms(
            *(
                clean(_rendered((own, event, shared), (name,)))
                for name in ("text_version", "purpose")
            )
        ),
        raw,
    )


def _channel_of(value: object) -> Channel:
    name = identifier_of(value)
    return EVERY_CHANNEL if name is None or name.lower() in _ALL else Channel(name.lower())


def _first_identity(profile: Members) -> object:
    identities = profile.get("all_identities")
    return identities[0] if isinstance(identities, list) and identities else None


def _inner(members: Members, name: str) -> Members:
    try:
        return _lowered(mapping_of(members.get(name)))
    except BadElement:
        return {}


def _lowered(members: Members) -> Members:
    """Write the names in small letters; of two that differ in case only, the one with a value."""
    lowered: dict[str, object] = {}
    for name, value in members.items():
        if lowered.get(name.lower()) in (None, ""):
            lowered[name.lower()] = value
    return lowered


def _values(places: Iterable[Members], names: Iterable[str]) -> Iterator[object]:
    """Go through what is said under these names, place by place; blanks say nothing."""
    for members in places:
        for name in names:
            value = members.get(name)
            if value is not None and str(value).strip():
                yield value


def _rendered(places: Iterable[Members], names: Iterable[str]) -> object:
    return next((value for value in _values(places, names) if not _is_macro(value)), None)


def _is_macro(value: object) -> bool:
    return isinstance(value, str) and _MACRO.search(value) is not None
