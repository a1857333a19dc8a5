"""Facts from outside in our words; adapters make them, take_in reads them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from experiment_engine.domain.identifiers import (
    EVERY_CHANNEL,
    Channel,
    CohortName,
    EventName,
    ExperimentId,
    UserId,
)
from experiment_engine.domain.moments import Instant

Properties = Mapping[str, object]


class Source(StrEnum):
    """Who told us."""

    AMPLITUDE = "amplitude"
    SEGMENT = "segment"
    RUDDERSTACK = "rudderstack"
    POSTHOG = "posthog"
    BACKEND = "backend"  # a server of the app's own
    CLEVERTAP = "clevertap"
    META = "meta"
    API = "api"


class Terms(NamedTuple):
    """What a user agreed to, as far as that was told."""

    text_version: str | None = None
    purpose: str | None = None


class FeedbackKind(StrEnum):
    """What a message led to."""

    OPENED = "opened"
    CONVERTED = "converted"


@dataclass(frozen=True, slots=True)
class Happened:
    """A user did something in the app: it may start a cohort, reach a goal, or say no more."""

    user_id: UserId
    name: EventName
    at: Instant | None  # None: the sender gave no time, so the time of receipt counts
    key: str  # the same for every delivery of the same event
    raw: bytes
    source: Source = Source.AMPLITUDE
    event_properties: Properties = field(default_factory=dict)
    user_properties: Properties = field(default_factory=dict)
    past: bool = False  # fetched afterwards: whatever it is, it starts nothing (R15)


@dataclass(frozen=True, slots=True)
class Feedback:
    """A message was opened, or a goal was reached; known by experiment, by user, or by both."""

    kind: FeedbackKind
    user_id: UserId | None
    experiment_id: ExperimentId | None
    at: Instant | None
    raw: bytes
    source: Source = Source.CLEVERTAP


@dataclass(frozen=True, slots=True)
class Reported:
    """A provider's word about one message: that it has it or delivered it, or that it never will.

    It does not depend on what the user does, so it is proof (CONTRACT R2).
    """

    experiment_id: ExperimentId
    name: str  # of the report, in the provider's words
    reached: bool
    at: Instant | None
    key: str  # the same for every delivery of the same report
    raw: bytes
    source: Source
    reason: str | None = None  # why it never will, as a code


@dataclass(frozen=True, slots=True)
class Chosen:
    """A user said yes or no to messages, on one channel or on all.

    Known by user, by an experiment of theirs, or by where we wrote to.
    """

    user_id: UserId | None
    allowed: bool
    at: Instant | None
    raw: bytes
    source: Source
    channel: Channel = EVERY_CHANNEL
    experiment_id: ExperimentId | None = None
    terms: Terms = field(default_factory=Terms)
    address: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Requested:
    """Somebody asked through the API that this user be written to."""

    user_id: UserId
    cohort: CohortName
    raw: bytes
    attributes: Properties = field(default_factory=dict)
    source: Source = Source.API


@dataclass(frozen=True, slots=True)
class Anonymous:
    """An event that names no user: kept, and nothing follows from it."""

    name: EventName
    key: str
    raw: bytes
    source: Source = Source.AMPLITUDE
    at: Instant | None = None


@dataclass(frozen=True, slots=True)
class Ping:
    """A test call of the sender's own set-up page; it is answered and means nothing."""

    raw: bytes
    source: Source = Source.CLEVERTAP


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Authenticated but not understood: kept byte for byte."""

    reason: str
    raw: bytes
    source: Source


Fact = Happened | Feedback | Reported | Chosen | Requested | Anonymous | Ping | Unreadable
