"""What is handed to a provider in one call, and what the provider may have done with it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from experiment_engine.domain.identifiers import CallId, Channel, ExperimentId, UserId
from experiment_engine.domain.moments import Duration


@dataclass(frozen=True, slots=True)
class Content:
    """What is the same for every user of a call: two messages with equal content may share one.

    `deep_link` may hold `{experiment_id}`; only a call for one user carries the id.
    `fields` are further values a WhatsApp template can read, all of them text.
    """

    channel: Channel
    title: str
    body: str
    deep_link: str
    campaign_id: str | None = None  # the External Trigger campaign; WhatsApp only
    fields: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Call:
    """One call at the provider: one content, one or more users, never the same user twice."""

    id: CallId
    content: Content
    recipients: Mapping[UserId, ExperimentId]

    @property
    def carries_ids(self) -> bool:
        """Say whether the call may name its experiment (CONTRACT R10: batched calls may not)."""
        return len(self.recipients) == 1


class Verdict(StrEnum):
    """What became of one message of a call."""

    ACCEPTED = "accepted"
    REFUSED = "refused"  # definitely not taken, and trying again cannot help
    NOT_TAKEN = "not_taken"  # definitely not taken, and trying again may help
    UNCERTAIN = "uncertain"  # the provider may or may not have taken it: never repeated


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider's answer means for a whole call, and for users it named apart.

    `whole_call` is true where a refusal speaks of the call and not of its users: halving the
    call may then find the culprit. `answer` is a short excerpt for people, without secrets.
    """

    verdict: Verdict
    reason: str  # a code such as `http_429`, `timed_out`, `connection_refused`
    answer: str = ""
    status: int | None = None
    retry_after: Duration | None = None
    whole_call: bool = True
    exceptions: Mapping[UserId, tuple[Verdict, str]] = field(default_factory=dict, hash=False)

    def verdict_for(self, user_id: UserId) -> tuple[Verdict, str]:
        """Return what became of this user's message, and the reason code."""
        return self.exceptions.get(user_id, (self.verdict, self.reason))
