"""What is handed to a provider in one call, and what the provider may have done with it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from experiment_engine.domain.identifiers import CallId, Channel, ExperimentId, UserId
from experiment_engine.domain.moments import Duration


@dataclass(frozen=True, slots=True)
class MessageTemplate:
    """A text that the provider has approved, and what fills its gaps.

    A gap takes one of `TEMPLATE_VALUES`. `button` is the end of the link behind its first button.
    """

    name: str
    language: str
    header: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    button: str | None = None


TEMPLATE_VALUES = ("title", "body", "deep_link", "experiment_id")


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
    template: MessageTemplate | None = None  # where the provider asks for one
    fields: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Call:
    """One call at the provider: one content, one or more users, never the same user twice.

    `addresses` are where those are reached whom the provider does not know by our id.
    """

    id: CallId
    content: Content
    recipients: Mapping[UserId, ExperimentId]
    addresses: Mapping[UserId, str] = field(default_factory=dict, repr=False)

    def part(self, recipients: Mapping[UserId, ExperimentId]) -> "Call":
        """Return the same call for some of its users."""
        return Call(self.id, self.content, recipients, self.addresses)

    @property
    def link(self) -> str:
        """Return the deep link, with the experiment's id where the call may carry it."""
        return self.content.deep_link.replace("{experiment_id}", self.experiment_id or "")

    @property
    def experiment_id(self) -> ExperimentId | None:
        """Return the id of the only experiment, or None in a call for several users."""
        return next(iter(self.recipients.values())) if self.carries_ids else None

    @property
    def address(self) -> str | None:
        """Return where the only user is reached, or None."""
        return next((self.addresses.get(user) for user in self.recipients), None)

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
