"""What a partner tells afterwards of its messages, in our words."""

from dataclasses import dataclass, field

from experiment_engine.domain.events import Properties
from experiment_engine.domain.identifiers import EventName, ExperimentId, UserId
from experiment_engine.domain.moments import HOUR, MINUTE, Duration, Instant

DELIVERED_WITHIN = Duration(HOUR)  # of the call: later is another message's, or nobody knows
_CLOCKS_DIFFER = MINUTE


@dataclass(frozen=True, slots=True)
class ToldLater:
    """One record of an event: who, when, and what was told beside it."""

    name: str
    user_id: UserId
    at: Instant
    properties: Properties = field(default_factory=dict)

    @property
    def experiment_id(self) -> ExperimentId | None:
        """Return the experiment that it names, if it names one."""
        for key in ("experiment_id", "wzrk_xp"):
            told = self.properties.get(key)
            if isinstance(told, str) and told:
                return ExperimentId(told)
        return None

    @property
    def campaign(self) -> str | None:
        """Return the campaign that it names: the first part of `wzrk_id`."""
        for key in ("wzrk_id", "Campaign id", "campaign_id"):
            told = self.properties.get(key)
            if isinstance(told, str | int) and not isinstance(told, bool):
                found = str(told).partition("_")[0]
                if found.isdigit() and int(found) > 0:
                    return found
        return None

    @property
    def event_name(self) -> EventName:
        """Return the name as a goal has it."""
        return EventName(self.name)

    def may_be_of(self, called_at: Instant) -> bool:
        """Say whether it can be about a message that was handed over at this time."""
        return called_at - _CLOCKS_DIFFER <= self.at <= called_at + DELIVERED_WITHIN
