"""What partners tell afterwards: taken in late, and never the beginning of a message (R15)."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from experiment_engine.application.ports import People
from experiment_engine.domain.delivery.experiment import Experiment, Mode, State
from experiment_engine.domain.events import (
    Fact,
    Feedback,
    FeedbackKind,
    Happened,
    Reported,
    Source,
    Unreadable,
)
from experiment_engine.domain.identifiers import EventName
from experiment_engine.domain.moments import Instant
from experiment_engine.domain.past import ToldLater
from experiment_engine.domain.rules import Rules

CLICKED, DELIVERED = "Notification Clicked", "Notification Delivered"  # CleverTap's names

_OUT = frozenset({State.SENT, State.UNKNOWN, State.CLAIMED})

Tally = Counter[str]  # how many of what


def goals_of(rules: Rules) -> list[EventName]:
    """Return the events that are somebody's goal."""
    return sorted({cohort.goal.event for cohort in rules.cohorts.values()})


def sort_out(facts: Iterable[Fact], rules: Rules, tally: Tally) -> list[Happened]:
    """Return goals, opt-outs and opt-ins as past ones; count all else: triggers start nothing."""
    wanted = {*goals_of(rules), *rules.opt_out_events, *rules.opt_in_events}
    triggers = {cohort.trigger.event for cohort in rules.cohorts.values()}
    useful = []
    for fact in facts:
        tally["events"] += 1
        if isinstance(fact, Unreadable):
            tally["not_understood"] += 1
        elif not isinstance(fact, Happened) or fact.at is None:
            tally["of_no_use"] += 1
        else:
            if fact.name in triggers:
                tally["triggers"] += 1
            if fact.name in wanted:
                useful.append(replace(fact, past=True))
            elif fact.name not in triggers:
                tally["of_no_use"] += 1
    return useful


def facts_of(reports: Iterable[ToldLater], rules: Rules, tally: Tally) -> list[Fact]:
    """Return what reports tell of goals and opens; a click of a foreign campaign is not ours."""
    ours = {c for channel in rules.channels.values() for c in channel.campaigns.values()}
    goals = set(goals_of(rules))
    facts: list[Fact] = []
    for report in reports:
        if report.name in goals:
            key = f"clevertap:{report.name}:{report.at}"
            facts.append(
                Happened(
                    report.user_id,
                    report.event_name,
                    report.at,
                    key,
                    b"",
                    Source.CLEVERTAP,
                    report.properties,
                    past=True,
                )
            )
            tally["goals"] += 1
        elif report.name == CLICKED:
            mine = report.experiment_id is not None or report.campaign in ours
            tally["opens" if mine else "foreign_clicks"] += 1
            if mine:
                opened, experiment = FeedbackKind.OPENED, report.experiment_id
                facts.append(Feedback(opened, report.user_id, experiment, report.at, b""))
    return facts


def proofs_of(
    deliveries: Sequence[ToldLater], rules: Rules, people: People
) -> tuple[list[Fact], Tally]:
    """Return what delivery reports prove of unknown messages, and how many cannot be told.

    A report proves it that names the experiment, or its campaign within an hour of the call where
    no other message of ours can be meant. That none is there proves nothing.
    """
    proofs: dict[str, Fact] = {}
    tally = Tally()
    if not deliveries:
        return [], tally
    named = [report.experiment_id for report in deliveries if report.experiment_id is not None]
    since = Instant(min(report.at for report in deliveries) - rules.memory())
    users = people.users(list({report.user_id for report in deliveries}), since, named)
    for report in deliveries:
        user = users.get(report.user_id)
        meant = [] if user is None else [e for e in user.experiments if _means(report, e, rules)]
        if len(meant) == 1 and meant[0].state is State.UNKNOWN:
            proofs[meant[0].id] = _proof(report, meant[0])
        elif len(meant) > 1:
            tally["ambiguous"] += 1
    tally.update({"settled": len(proofs)} if proofs else {})
    return list(proofs.values()), tally


def _proof(report: ToldLater, experiment: Experiment) -> Reported:
    return Reported(
        experiment.id,
        report.name,
        reached=True,
        at=report.at,
        key=f"clevertap:{report.name}:{experiment.id}",
        raw=b"",
        source=Source.CLEVERTAP,
    )


def _means(report: ToldLater, experiment: Experiment, rules: Rules) -> bool:
    """Say whether a delivery report may be about this message."""
    if experiment.mode is not Mode.LIVE or experiment.state not in _OUT:
        return False
    if report.experiment_id is not None:
        return report.experiment_id == experiment.id
    if experiment.placed_at is None or not report.may_be_of(experiment.placed_at):
        return False
    channel = rules.channels.get(experiment.channel)
    _, _, angle, offer = experiment.combo_key.split("|")
    return channel is not None and any(
        campaign == report.campaign and key[1] in (angle, "*") and key[2] in (offer, "*")
        for key, campaign in channel.campaigns.items()
    )
