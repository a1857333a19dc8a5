"""Facts that a text rests on: what says "ends today" or "only 3 left" must be able to show it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from experiment_engine.domain.events import Properties
from experiment_engine.domain.moments import LATEST, SECOND, Instant, to_instant
from experiment_engine.domain.reasons import Reason

FactValue = int | float | bool  # a moment, a number, or that it is there

_SECONDS_BELOW = 100_000_000_000  # a Unix time below it is in seconds, above in milliseconds
_LARGEST = 1e15  # beyond it a number is not exact


class FactKind(StrEnum):
    """What makes a fact hold."""

    MOMENT = "moment"  # it lies ahead when the message goes out
    NUMBER = "number"  # it is at least so much
    PRESENT = "present"  # the event says it at all


@dataclass(frozen=True, slots=True)
class FactRule:
    """Where a fact comes from, and when it holds."""

    name: str
    path: tuple[str, str]  # ("event_properties", "offer_ends_at")
    kind: FactKind = FactKind.PRESENT
    at_least: float = 0  # of a number

    def read(self, said: object) -> FactValue | None:
        """Return the fact as it is kept, or None where what was said is no such thing."""
        if self.kind is FactKind.MOMENT:
            return _moment(said)
        if self.kind is FactKind.NUMBER:
            return _number(said)
        return True if _is_said(said) else None

    def refusal(self, value: FactValue | None, at: Instant) -> Reason | None:
        """Return why no text may rest on this at a moment, or None."""
        if value is None:
            return Reason.FACT_MISSING
        if self.kind is FactKind.MOMENT:
            return None if value > at else Reason.FACT_EXPIRED
        if self.kind is FactKind.NUMBER and value < self.at_least:
            return Reason.FACT_MISSING
        return None


def known_facts(
    rules: Iterable[FactRule], event_properties: Properties, user_properties: Properties
) -> dict[str, FactValue]:
    """Return the facts that the event brings; what it does not bring is left out."""
    facts = {}
    for rule in rules:
        folder, key = rule.path
        said = (event_properties if folder == "event_properties" else user_properties).get(key)
        value = rule.read(said)
        if value is not None:
            facts[rule.name] = value
    return facts


def first_refusal(
    rules: Mapping[str, FactRule], rests_on: Mapping[str, FactValue], at: Instant
) -> Reason | None:
    """Return why a text that rests on these facts may not go out at a moment, or None."""
    for name, value in rests_on.items():
        rule = rules.get(name)
        refusal = Reason.FACT_MISSING if rule is None else rule.refusal(value, at)
        if refusal is not None:
            return refusal
    return None


def _moment(said: object) -> Instant | None:
    """Read ISO 8601 with its zone, or a Unix time; without a zone nobody knows when it is."""
    if isinstance(said, str):
        try:
            found = datetime.fromisoformat(said.strip())
        except ValueError:
            return None
        return to_instant(found) if found.tzinfo is not None else None
    number = _number(said)
    if number is None:
        return None
    moment = Instant(round(number * SECOND if number < _SECONDS_BELOW else number))
    return moment if 0 < moment < LATEST else None


def _number(said: object) -> int | float | None:
    if isinstance(said, bool) or not isinstance(said, int | float):
        return None
    return said if -_LARGEST < said < _LARGEST else None  # NaN is neither


def _is_said(said: object) -> bool:
    if isinstance(said, str):
        return bool(said.strip())
    return said is not None and said is not False
