"""Who may tell what happened in the app: one line a partner.

A partner is a folder in `adapters/`, a line here, and a setting for its secret.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from experiment_engine.adapters.amplitude import cohorts as amplitude_cohorts
from experiment_engine.adapters.amplitude import payload as amplitude
from experiment_engine.adapters.backend import payload as backend
from experiment_engine.adapters.backend.signature import StandardWebhooks
from experiment_engine.adapters.meta import callbacks as meta
from experiment_engine.adapters.meta.signature import MetaSignature
from experiment_engine.adapters.posthog import payload as posthog
from experiment_engine.adapters.rudderstack import payload as rudderstack
from experiment_engine.adapters.segment import payload as segment
from experiment_engine.adapters.segment.signature import SegmentSignature
from experiment_engine.application.ports import Clock
from experiment_engine.domain.errors import NotUnderstood
from experiment_engine.domain.events import Fact, Source
from experiment_engine.entrypoints.http.access import Gate, Headers, Scope, Secret, Signature
from experiment_engine.entrypoints.http.bodies import MAX_BODY
from experiment_engine.entrypoints.http.door import Webhook

Reader = Callable[[bytes, Headers], list[Fact]]

_MANY_REPORTS = 3 * MAX_BODY  # Meta's own limit
_MANY_USERS = 4 * MAX_BODY  # 10,000 users of a cohort with some properties


def by_body(parse: Callable[[bytes], list[Fact]]) -> Reader:
    """Return a reader for which the headers say nothing."""
    return lambda body, _headers: parse(body)


def _unsigned(_clock: Clock) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Partner:
    """One that tells what users did: where, with which secret, and in whose words."""

    path: str
    setting: str  # the one that has its secrets
    source: Source
    parse: Reader
    signature: Callable[[Clock], Signature | None] = _unsigned
    methods: frozenset[str] = frozenset({"POST"})
    max_body: int = MAX_BODY
    scope: Scope = Scope.TRIGGER

    @property
    def name(self) -> str:
        """Return the last part of its path."""
        return self.path.rpartition("/")[2]

    def read_again(self, body: bytes) -> list[Fact]:
        """Read a body that was kept; its headers were not."""
        return self.parse(body, {})

    def webhook(self, secrets: Sequence[Secret], clock: Clock) -> Webhook:
        """Return its route of the door."""
        gate = Gate(secrets, self.setting, self.signature(clock))
        return Webhook(gate, self.scope, self.source, self.parse, self.methods, self.max_body)


META_PATH = "/webhook/meta"

PARTNERS = (
    Partner(
        "/webhook/amplitude",
        "AMPLITUDE_WEBHOOK_SECRET",
        Source.AMPLITUDE,
        by_body(amplitude.parse),
        methods=frozenset({"POST", "PUT"}),  # Amplitude's page does not name its method
    ),
    Partner(
        "/webhook/amplitude-cohort",
        "AMPLITUDE_WEBHOOK_SECRET",
        Source.AMPLITUDE,
        by_body(amplitude_cohorts.parse),
        max_body=_MANY_USERS,
    ),
    Partner(
        "/webhook/segment",
        "SEGMENT_WEBHOOK_SECRET",
        Source.SEGMENT,
        by_body(segment.parse),
        lambda _clock: SegmentSignature(),
        max_body=_MANY_USERS,
    ),
    Partner(
        "/webhook/rudderstack",
        "RUDDERSTACK_WEBHOOK_SECRET",
        Source.RUDDERSTACK,
        by_body(rudderstack.parse),
    ),
    Partner("/webhook/posthog", "POSTHOG_WEBHOOK_SECRET", Source.POSTHOG, by_body(posthog.parse)),
    Partner(
        "/webhook/backend",
        "BACKEND_WEBHOOK_SECRET",
        Source.BACKEND,
        backend.parse,
        lambda clock: StandardWebhooks(clock.now),
    ),
    Partner(
        META_PATH,
        "META_WEBHOOK_SECRET",
        Source.META,
        by_body(meta.parse),
        lambda _clock: MetaSignature(),
        max_body=_MANY_REPORTS,
        scope=Scope.ENGAGEMENT,
    ),
)


def read_again(source: str, body: bytes) -> list[Fact]:
    """Read what a source sent and the database kept, whichever of its addresses it came to."""
    facts: list[Fact] = []
    for partner in PARTNERS:
        if partner.source == source:
            with suppress(NotUnderstood):
                facts += partner.read_again(body)
    return facts
