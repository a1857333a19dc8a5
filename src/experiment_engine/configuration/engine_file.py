"""`engine.toml`: what holds for the whole engine, channels and placeholders apart."""

from collections.abc import Collection, Mapping

from experiment_engine.configuration.kinds import (
    DURATION,
    NAME,
    SPAN,
    SPAN_OR_OFF,
    TIME,
    ZONE,
    list_of,
    number,
    whole,
)
from experiment_engine.configuration.tables import Table, show
from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.delivery.limits import FrequencyCap, OfferBudget
from experiment_engine.domain.delivery.quiet_hours import QuietHours
from experiment_engine.domain.identifiers import EventName
from experiment_engine.domain.moments import Duration
from experiment_engine.domain.rules import Retention, Rules

ENGINE_KEYS = (
    "timezone",
    "quiet_hours",
    "frequency_cap",
    "delivery",
    "holdout",
    "languages",
    "opt_out",
    "opt_in",
    "channels",
    "placeholders",
    "facts",
    "links",
    "offers",
    "send_rate",
    "retention",
    "silent_sources",
)


def read_timezone(engine: Table) -> str:
    """Read the zone for users whose own is unknown."""
    return engine.get("timezone", ZONE, Rules.timezone)


def read_quiet_hours(around: Table) -> QuietHours | None:
    """Read `quiet_hours` of the engine or of a channel; None if the table is left out."""
    if "quiet_hours" not in around:
        return None
    table = around.table("quiet_hours").only("start", "end")
    quiet = QuietHours(start=table.need("start", TIME), end=table.need("end", TIME))
    if quiet.start == quiet.end:
        raise table.mistake(
            "end", "is the start too: write another time, or take the table out for no quiet hours"
        )
    return quiet


def read_frequency_cap(around: Table) -> FrequencyCap | None:
    """Read `frequency_cap` of the engine or of a channel; None if the table is left out."""
    if "frequency_cap" not in around:
        return None
    table = around.table("frequency_cap").only("messages", "per", "min_gap")
    return FrequencyCap(
        messages=table.need("messages", whole(1, 1000)),
        per=table.need("per", SPAN),
        min_gap=table.get("min_gap", DURATION, Duration(0)),
    )


def read_expires_after(engine: Table) -> Duration:
    """Read how long after its due time a message may still go out."""
    table = engine.table("delivery").only("expires_after")
    return table.get("expires_after", SPAN, Rules.expires_after)


def read_holdout_share(engine: Table) -> float:
    """Read the share of users who are never written to."""
    table = engine.table("holdout").only("share")
    return table.get("share", number(0, 1, below=True), Rules.holdout_share)


def read_choice_events(engine: Table) -> tuple[frozenset[EventName], frozenset[EventName]]:
    """Read the events that opt a user out, and those that opt a user in."""
    opt_out, opt_in = (_read_events(engine.table(key)) for key in ("opt_out", "opt_in"))
    for event in sorted(opt_out & opt_in):
        raise engine.table("opt_in").mistake(
            "events", f"{show(event)} stands under opt_out too: take it out of one of the two"
        )
    return opt_out, opt_in


def _read_events(table: Table) -> frozenset[EventName]:
    names = table.only("events").get("events", list_of(NAME, may_be_empty=True), None)
    return frozenset(map(EventName, names or ()))


def read_budgets(engine: Table, cohorts: Collection[Cohort]) -> Mapping[str, OfferBudget]:
    """Read how many messages may carry an offer, a day and in all."""
    table = engine.table("offers")
    known = dict.fromkeys(combo.offer for cohort in cohorts for combo in cohort.space.combos)
    budgets = {}
    for offer, budget in table.tables():
        if offer not in known:
            raise table.unknown(offer, known, "offer in any cohort")
        budgets[offer] = _read_budget(budget.only("per_day", "total"))
    return budgets


def _read_budget(table: Table) -> OfferBudget:
    per_day, total = (table.get(key, whole(1, 10**9), None) for key in ("per_day", "total"))
    if per_day is None and total is None:
        raise table.mistake(None, "limits nothing: write per_day, total or both, or take it out")
    return OfferBudget(per_day, total)


def read_send_rate(engine: Table) -> float | None:
    """Read how many messages a second may go out; None for no limit."""
    if "send_rate" not in engine:
        return None
    table = engine.table("send_rate").only("per_second")
    return table.need("per_second", number(0, 1e6, above=True))


def read_silent_after(engine: Table) -> Duration | None:
    """Read how long a source is silent at the least before it is called so; None for never."""
    table = engine.table("silent_sources").only("after")
    return table.get("after", SPAN_OR_OFF, Rules.silent_after) or None


def read_retention(engine: Table) -> Retention:
    """Read how long things are kept."""
    table = engine.table("retention").only("raw_events", "experiments")
    usual = Retention()
    return Retention(
        raw_events=table.get("raw_events", SPAN, usual.raw_events),
        experiments=table.get("experiments", SPAN, usual.experiments),
    )
