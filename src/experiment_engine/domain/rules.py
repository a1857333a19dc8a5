"""The whole configuration as frozen values: everything that decides, besides the data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, TypeVar

from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.delivery.address import AddressRule
from experiment_engine.domain.delivery.copy import Catalogue
from experiment_engine.domain.delivery.facts import FactRule
from experiment_engine.domain.delivery.limits import FrequencyCap, OfferBudget
from experiment_engine.domain.delivery.message import MessageTemplate
from experiment_engine.domain.delivery.quiet_hours import QuietHours
from experiment_engine.domain.errors import UnknownCohort
from experiment_engine.domain.identifiers import Channel, CohortName, EventName
from experiment_engine.domain.moments import DAY, MINUTE, Duration

WHATSAPP = Channel("whatsapp")
CLEVERTAP = "clevertap"  # the provider of a channel that names none

T = TypeVar("T")

ByCombo = Mapping[tuple[str, str, str], T]  # by language, angle and offer, with "*" for any


@dataclass(frozen=True, kw_only=True)
class ChannelRules:
    """What holds for one channel."""

    consent: Literal["assumed", "required"] = "assumed"
    batch: int = 1  # users per provider call
    max_in_flight: int = 3  # CleverTap's own limit per account and API
    quiet_hours: QuietHours | None = None  # instead of the general ones
    frequency_cap: FrequencyCap | None = None  # besides the general one
    deep_link: str = "app://open?xp={experiment_id}"
    endpoint: Literal["externaltrigger", "whatsapp"] = "externaltrigger"
    campaigns: ByCombo[str] = field(default_factory=dict)
    provider: str = CLEVERTAP
    connected: bool = True  # there are credentials for its provider
    address: AddressRule | None = None  # where its provider finds a user; None: by our id
    templates: ByCombo[MessageTemplate] | None = None  # None: its provider asks for none

    def campaign(self, language: str, angle: str, offer: str) -> str | None:
        """Return the most specific campaign."""
        return _most_specific(self.campaigns, language, angle, offer)

    def template(self, language: str, angle: str, offer: str) -> MessageTemplate | None:
        """Return the most specific template."""
        return _most_specific(self.templates or {}, language, angle, offer)

    def lacks_form(self, channel: Channel, language: str, angle: str, offer: str) -> bool:
        """Say whether the provider wants a campaign or template of its own, and none fits."""
        if self.templates is not None:
            return self.template(language, angle, offer) is None
        by_campaign = self.provider == CLEVERTAP and self.endpoint == "externaltrigger"
        return (
            channel == WHATSAPP and by_campaign and self.campaign(language, angle, offer) is None
        )


def _most_specific(table: ByCombo[T], language: str, angle: str, offer: str) -> T | None:
    """Return the entry with the fewest `*`; of two with as many, the one for the language."""
    for key in (
        (language, angle, offer),
        (language, angle, "*"),
        (language, "*", offer),
        ("*", angle, offer),
        (language, "*", "*"),
        ("*", angle, "*"),
        ("*", "*", offer),
        ("*", "*", "*"),
    ):
        if key in table:
            return table[key]
    return None


@dataclass(frozen=True, kw_only=True, eq=False)
class Languages:
    """Which language a value means, and which ones stand in for it."""

    default: str = "en"
    codes: Mapping[str, str] = field(default_factory=dict)  # lower-case name or code -> code
    fallback: Mapping[str, str] = field(default_factory=dict)  # code -> code

    def chain(self, value: object) -> tuple[str, ...]:
        """Return the languages to try, best first; always ends with the default."""
        return self._chain(value) if isinstance(value, str) else (self.default,)

    @lru_cache(maxsize=4096)  # noqa: B019 - as long-lived as the configuration itself
    def _chain(self, value: str) -> tuple[str, ...]:
        wanted = value.strip().lower().replace("_", "-")
        code = self.codes.get(wanted) or self.codes.get(wanted.split("-", 1)[0])
        chain: list[str] = []
        while code is not None and code not in chain:
            chain.append(code)
            code = self.fallback.get(code)
        if self.default not in chain:
            chain.append(self.default)
        return tuple(chain)


@dataclass(frozen=True, kw_only=True)
class Retention:
    """How long things are kept."""

    raw_events: Duration = Duration(90 * DAY)
    experiments: Duration = Duration(400 * DAY)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The configuration folder, read and checked."""

    cohorts: Mapping[CohortName, Cohort]
    catalogue: Catalogue
    channels: Mapping[Channel, ChannelRules]
    languages: Languages = field(default_factory=Languages)
    timezone: str = "Asia/Kolkata"
    quiet_hours: QuietHours | None = None
    frequency_cap: FrequencyCap | None = None
    expires_after: Duration = Duration(30 * MINUTE)
    holdout_share: float = 0.05
    opt_out_events: frozenset[EventName] = frozenset()
    opt_in_events: frozenset[EventName] = frozenset()
    facts: Mapping[str, FactRule] = field(default_factory=dict)
    offers: Mapping[str, OfferBudget] = field(default_factory=dict)
    send_per_second: float | None = None
    silent_after: Duration | None = Duration(30 * MINUTE)  # at the least; None: nobody listens
    retention: Retention = field(default_factory=Retention)
    fingerprint: str = ""  # of the files' content: two processes with the same one agree

    def require_cohort(self, name: str) -> Cohort:
        """Return the cohort of this name; raises UnknownCohort."""
        cohort = self.cohorts.get(CohortName(name))
        if cohort is None:
            raise UnknownCohort(name, sorted(self.cohorts))
        return cohort

    def quiet_hours_of(self, channel: Channel) -> QuietHours | None:
        """Return the channel's own quiet hours, or the general ones."""
        return self.channels[channel].quiet_hours or self.quiet_hours

    def memory(self) -> Duration:
        """Return how far back a user's experiments matter for any rule."""
        spans = [DAY]
        for cohort in self.cohorts.values():
            spans += [cohort.trigger.again_after, cohort.goal.window]
        caps = [
            self.frequency_cap,
            *(rules.frequency_cap for rules in self.channels.values()),
        ]
        for cap in caps:
            if cap is not None:
                spans += [cap.per, cap.min_gap]
        # A decision may wait its delay and the quiet hours before the span of its send begins.
        return Duration(max(spans) + 2 * DAY)
