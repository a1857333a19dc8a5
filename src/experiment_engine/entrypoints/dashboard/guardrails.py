"""Guardrails: what each of them is set to, what it stopped this week, and the switches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from experiment_engine.application.page_records import Stopped
from experiment_engine.domain.delivery.limits import OfferBudget
from experiment_engine.domain.identifiers import Channel
from experiment_engine.domain.moments import DAY, Instant
from experiment_engine.domain.pausing import EVERYTHING, of_channel
from experiment_engine.domain.rules import Rules
from experiment_engine.entrypoints.dashboard import labels
from experiment_engine.entrypoints.dashboard.pages import Asked, Page, View

_CHANGES = 30
_WEEK = 7 * DAY


@dataclass(frozen=True, slots=True)
class Guardrail:
    """One rule: its setting in words, and how many messages it kept back."""

    name: str
    setting: str
    reasons: Sequence[str]
    stopped: int
    moved: bool = False  # it moves messages instead of stopping them


@dataclass(frozen=True, slots=True)
class Switch:
    """Something that can be paused."""

    name: str
    kind: str
    scope: str
    since: Instant | None


def view(asked: Asked) -> View:
    """Return every guardrail, every switch and the last changes."""
    engine = asked.engine
    stopped = engine.pages.reading.stopped(Instant(engine.clock.now() - _WEEK))
    paused = engine.report.reading.paused()
    return {
        "guardrails": _guardrails(engine.rules, stopped),
        "switches": _switches(engine.rules, paused),
        "audit": engine.pages.reading.audit(_CHANGES),
    }


def _guardrails(rules: Rules, stopped: Sequence[Stopped]) -> list[Guardrail]:
    cap, quiet = rules.frequency_cap, rules.quiet_hours
    required = [name for name, channel in rules.channels.items() if channel.consent == "required"]
    budgets = [f"{labels.words(name)} {_budget(known)}" for name, known in rules.offers.items()]
    told = [
        (
            "Quiet hours",
            "none" if quiet is None else f"{quiet.start:%H:%M} to {quiet.end:%H:%M}, user's clock",
            ("quiet_hours",),
        ),
        (
            "Frequency cap",
            "none"
            if cap is None
            else f"{cap.messages} in {labels.span(cap.per)}, {labels.span(cap.min_gap)} apart",
            ("frequency_cap",),
        ),
        (
            "Opt-outs and consent",
            f"a yes is needed on {', '.join(map(labels.words, required))}"
            if required
            else "a no is always obeyed",
            ("opted_out", "no_consent", "erased"),
        ),
        (
            "Re-entry",
            "one at a time, never soon again, nobody who reached the goal",
            ("already_active", "cooldown", "converted"),
        ),
        (
            "Age",
            f"messages expire after {labels.span(rules.expires_after)}",
            ("too_old", "overdue", "expired"),
        ),
        ("Offer budgets", ", ".join(budgets) or "none", ("offer_budget",)),
        (
            "Facts",
            ", ".join(map(labels.words, rules.facts)) or "no text rests on one",
            ("fact_missing", "fact_expired"),
        ),
        ("Texts", "no message without its words", ("missing_value", "no_campaign")),
        ("Failing channels", "rest after 20 refusals in a row", ("channel_failing",)),
        ("Several at once", "no combination was left", ("no_eligible_combo",)),
        ("Pause", "by a person", ("paused", "combo_removed", "by_hand")),
    ]
    return [
        Guardrail(
            name,
            setting,
            reasons,
            sum(one.times for one in stopped if one.reason in reasons),
            moved=reasons == ("quiet_hours",),
        )
        for name, setting, reasons in told
    ]


def _budget(budget: OfferBudget) -> str:
    told = ((budget.per_day, "a day"), (budget.total, "in all"))
    return " and ".join(f"{number} {span}" for number, span in told if number is not None)


def _switches(rules: Rules, paused: Mapping[str, Instant]) -> list[Switch]:
    known = [
        ("Everything", "all", EVERYTHING),
        *((labels.words(name), "cohort", str(name)) for name in rules.cohorts),
        *(
            (labels.words(name), "channel", of_channel(Channel(name)))
            for name in sorted(rules.channels)
        ),
    ]
    scopes = {scope for _, _, scope in known}
    known += [(labels.scope(s), "combination", s) for s in paused if s not in scopes]
    return [Switch(name, kind, scope, paused.get(scope)) for name, kind, scope in known]


def drawn(_made: View, asked: Asked) -> View:
    """Return what the template needs besides."""
    return {"holdout": asked.engine.rules.holdout_share, "label": labels.scope}


PAGE = Page("/guardrails", "/guardrails.json", "Guardrails", "guardrails.html", view, drawn)
