"""What things are called on pages: plain words instead of codes."""

import re
from collections.abc import Mapping
from datetime import datetime

from experiment_engine.domain.delivery.quiet_hours import find_zone
from experiment_engine.domain.moments import DAY, HOUR, MINUTE, SECOND, Instant, to_datetime

THIN_SPACE = "\u202f"
MINUS = "\u2212"

_NAMES = {
    "whatsapp": "WhatsApp",
    "push": "Push",
    "sms": "SMS",
    "clevertap": "CleverTap",
    "meta": "Meta",
    "api": "API",
}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|min|h|d)")

REASONS: Mapping[str, str] = {
    "no_cohort": "no cohort starts on this event",
    "no_user": "the event names no user",
    "count_not_reached": "it counts, and more of its kind are needed",
    "too_old": "it was too old when it arrived",
    "already_active": "one message of this cohort was still waiting",
    "cooldown": "this cohort decided about the user too recently",
    "converted": "the user had reached the goal",
    "erased": "the user asked to be forgotten",
    "paused": "it was paused",
    "test_ping": "CleverTap tried out the webhook",
    "no_eligible_combo": "no combination was allowed, for different reasons",
    "opted_out": "the user wants no messages",
    "no_consent": "the user has not agreed to this channel",
    "channel_failing": "the provider keeps refusing this channel, so it rests",
    "not_connected": "the channel's provider has no credentials",
    "no_address": "nothing says where the provider reaches the user",
    "no_campaign": "no WhatsApp campaign or template fits",
    "not_reached": "the provider took it and could not deliver it",
    "missing_value": "a placeholder has neither a value nor a default",
    "overdue": "its time had passed already",
    "quiet_hours": "it would have gone out in quiet hours",
    "frequency_cap": "the user would have got too many messages",
    "offer_budget": "the offer's budget was used up",
    "fact_missing": "what the text rests on is not known, or too little",
    "fact_expired": "what the text rests on is over",
    "mismatch": "the experiment is another user's",
    "unknown_experiment": "no experiment fits",
    "not_sent": "there is no message out that this could be about",
    "outside_window": "the goal was reached outside the time in which it counts",
    "combo_removed": "the combination was taken out",
    "by_hand": "somebody cancelled what waited for its combination",
    "mode_changed": "it was scheduled before sending was switched on or off",
    "expired": "its time passed before it could go out",
    "stopped": "the engine stopped while it was being handed over",
    "not_json": "it is not JSON",
}

STATES: Mapping[str, str] = {
    "scheduled": "Waiting",
    "claimed": "Being handed over",
    "sent": "Sent",
    "failed": "Failed",
    "unknown": "Sent or not: unknown",
    "cancelled": "Cancelled",
    "expired": "Expired",
    "held_out": "Held out",
}

STATUSES: Mapping[str, str] = {
    "scheduled": "decided",
    "holdout": "held out",
    "recorded": "recorded",
    "cancelled": "cancelled a message",
    "duplicate": "known already",
    "ignored": "nothing follows",
    "quarantined": "not understood",
}

POLICIES: Mapping[str, str] = {
    "epsilon_greedy": "mostly the best so far, sometimes by chance",
    "thompson": "in proportion to the chance of being best",
    "factorial_thompson": "by what each choice adds, for users like this one",
    "uniform": "an even split",
}


def words(name: str) -> str:
    """Return a level's or a cohort's name as a person would write it."""
    if name in _NAMES:
        return _NAMES[name]
    spelled = _DURATION.fullmatch(name)
    if spelled:
        return f"{spelled[1]} {spelled[2]}"
    if name == "discount_20":
        return "20 % off"
    plain = name.replace("_", " ").strip()
    plain = re.sub(r"\brupee (\d+)\b", "₹\\1", plain)
    return plain[:1].upper() + plain[1:]


def level(dimension: str, name: str) -> str:
    """Return a level's name; an offer that offers nothing says so."""
    return "No offer" if dimension == "offer" and name == "none" else words(name)


def combo(key: str) -> str:
    """Return a combo key as a person would say it: channel first."""
    parts = key.split("|")
    if len(parts) != len(_ORDER):
        return key
    named = dict(zip(("delay", "channel", "angle", "offer"), parts, strict=True))
    return " · ".join(level(dimension, named[dimension]) for dimension in _ORDER)


_ORDER = ("channel", "delay", "angle", "offer")


def reason(code: str | None) -> str:
    """Return why something was not done, in words; a provider's code stays as it is."""
    return REASONS.get(code or "", (code or "").replace("_", " "))


def scope(name: str) -> str:
    """Return what is paused, in words."""
    if name == "*":
        return "everything"
    kind, _, rest = name.partition(":")
    if kind == "channel":
        return words(rest)
    cohort, _, what = rest.partition(":")
    if kind == "combo":
        return f"{combo(what)} in {words(cohort)}"
    if kind == "level":
        dimension, _, named = what.partition(":")
        return f"{level(dimension, named)} in {words(cohort)}"
    return words(name)


def number(value: float) -> str:
    """Write a count with thin spaces."""
    return f"{value:,.0f}".replace(",", THIN_SPACE).replace("-", MINUS)


def percent(value: float, digits: int = 1) -> str:
    """Write a share as a percentage, without its sign."""
    return f"{value * 100:.{digits}f}".replace("-", MINUS)


def signed(value: float) -> str:
    """Write a count with its sign."""
    return f"{'+' if value >= 0 else MINUS}{number(abs(value))}"


def span(milliseconds: int) -> str:
    """Write a span of time in its largest fitting units."""
    for unit, name in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min"), (SECOND, "s")):
        if milliseconds >= unit:
            whole, rest = divmod(milliseconds, unit)
            smaller = {DAY: (HOUR, "h"), HOUR: (MINUTE, "min")}.get(unit)
            if smaller and rest >= smaller[0]:
                return f"{whole} {name} {rest // smaller[0]} {smaller[1]}"
            return f"{whole} {name}"
    return f"{milliseconds} ms"


def day_and_time(instant: Instant, zone: str) -> str:
    """Write a moment on a clock: 21 Nov, 20:33."""
    local = _local(instant, zone)
    return f"{local.day} {local:%b}, {local:%H:%M}"


def clock_time(instant: Instant, zone: str) -> str:
    """Write the time of day."""
    return f"{_local(instant, zone):%H:%M:%S}"


def day(days: int) -> str:
    """Write a day, given as days since 1970: 21 Nov."""
    at = to_datetime(Instant(days * DAY))
    return f"{at.day} {at:%b}"


def _local(instant: Instant, zone: str) -> datetime:
    return to_datetime(instant).astimezone(find_zone(zone))
