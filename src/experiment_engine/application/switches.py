"""What is switched off at the moment, offers whose budget is used up among it."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

from experiment_engine.application.changes import Changes
from experiment_engine.application.ports import People, Switches
from experiment_engine.domain.delivery.experiment import Experiment, Mode
from experiment_engine.domain.delivery.limits import OfferUse
from experiment_engine.domain.delivery.quiet_hours import find_zone
from experiment_engine.domain.moments import Instant, to_datetime
from experiment_engine.domain.rules import Rules


def switched_off(people: People, rules: Rules, mode: Mode, now: Instant) -> Switches:
    """Return what is switched off for decisions and claims made now."""
    switches = people.switches(now)
    if not rules.offers:
        return switches
    used = offers_used(people, rules, mode, now)
    return replace(switches, spent=frozenset(o for o in rules.offers if is_spent(o, rules, used)))


def offers_used(
    people: People, rules: Rules, mode: Mode, now: Instant, *, exact: bool = False
) -> Mapping[str, OfferUse]:
    """Return how many messages carried each offer: today, in the configured zone, and in all.

    If it is to be `exact`, nobody else uses one until the transaction ends.
    """
    return people.offers_used(mode, day_of(now, rules.timezone), exact=exact)


def is_spent(offer: str, rules: Rules, used: Mapping[str, OfferUse]) -> bool:
    """Say whether the offer has a budget, and it is used up."""
    budget, use = rules.offers.get(offer), used.get(offer, _UNUSED)
    return budget is not None and budget.is_spent(use.today, use.in_all)


_UNUSED = OfferUse()


def day_of(now: Instant, zone: str) -> int:
    """Return the calendar day in the zone, as days since 1970: a budget's day."""
    local = to_datetime(now).astimezone(find_zone(zone))
    return (local.date() - to_datetime(Instant(0)).date()) // timedelta(days=1)


def give_back_offer(
    experiment: Experiment, placed_at: Instant, rules: Rules, changes: Changes
) -> None:
    """Count back an offer that was handed to a call and did not go out."""
    cohort = rules.cohorts.get(experiment.cohort)
    combo = cohort.space.by_key.get(experiment.goes_out_as) if cohort else None
    if combo is not None and combo.offer in rules.offers:
        day = day_of(placed_at, rules.timezone)
        changes.use_offer(experiment.mode, combo.offer, day, -1)
