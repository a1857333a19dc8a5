"""`cohorts/<cohort>.toml`: trigger, goal, combos, policy and prior of one cohort."""

import re
from collections.abc import Mapping
from dataclasses import replace
from math import prod

from experiment_engine.configuration.kinds import (
    DURATION,
    NAME,
    PART,
    SPAN,
    SPAN_TEXT,
    choice,
    list_of,
    number,
    spell,
    whole,
)
from experiment_engine.configuration.tables import Table, mistake, show
from experiment_engine.domain.bandit.policies import CONFIGURED, POLICIES
from experiment_engine.domain.cohorts.cohort import Cohort, Goal, PolicyChoice, Prior, Trigger
from experiment_engine.domain.cohorts.combo import DIMENSIONS, ComboSpace
from experiment_engine.domain.identifiers import Channel, CohortName, EventName
from experiment_engine.domain.moments import Duration
from experiment_engine.domain.rules import WHATSAPP

CHANNELS = (Channel("push"), WHATSAPP)  # the ones that a sender exists for

# Read as names, so that what is wrong is told by entry; editors are told more.
_KINDS = {
    "delay": replace(
        PART, schema={"type": "string", "pattern": SPAN_TEXT, "examples": ["2min", "1h"]}
    ),
    "channel": replace(PART, schema={"enum": list(CHANNELS)}),
}
_NAME = re.compile(r"[a-z0-9_]+")
_MOST_COMBOS = 10_000  # of one cohort: far above what traffic could ever tell apart
_MOST_VALUE = Goal(event=EventName("any"), window=Duration(0)).value_max
_USUAL = Trigger(event=EventName("any"))  # for its defaults


def read_cohort(name: str, root: Table) -> Cohort:
    """Read one cohort; its name is the file's."""
    if not _NAME.fullmatch(name) or name in CHANNELS:
        raise mistake(
            root.file,
            "the file's name is the cohort's: use small letters a-z, digits and _ only,"
            f" and not the name of a channel ({', '.join(CHANNELS)})",
        )
    root.only("trigger", "goal", "combos", "policy", "prior")
    trigger = _read_trigger(root.table("trigger"))
    space = _read_combos(root.table("combos"))
    return Cohort(
        name=CohortName(name),
        trigger=trigger,
        goal=_read_goal(root.table("goal"), trigger, space),
        space=space,
        policy=_read_policy(root.table("policy")),
        prior=_read_prior(root.table("prior"), space),
    )


def _read_trigger(table: Table) -> Trigger:
    table.only("event", "count", "within", "max_age", "again_after", "converted_quiet")
    count = table.get("count", whole(1, 1000), _USUAL.count)
    if count > 1 and "within" not in table:
        raise table.mistake(
            "within",
            f'is missing: count = {count} needs the window in which it counts, such as "7d"',
            stand_in="7d",
        )
    if count == 1 and "within" in table:
        raise table.mistake(
            "within", "has no meaning without count: set count to 2 or more, or take within out"
        )
    return Trigger(
        event=EventName(table.need("event", NAME)),
        count=count,
        within=table.get("within", SPAN, None),
        max_age=table.get("max_age", SPAN, _USUAL.max_age),
        again_after=table.get("again_after", DURATION, _USUAL.again_after),
        converted_quiet=table.get("converted_quiet", DURATION, _USUAL.converted_quiet),
    )


def _read_goal(table: Table, trigger: Trigger, space: ComboSpace) -> Goal:
    table.only("event", "window", "value", "value_max")
    event = EventName(table.need("event", NAME))
    if event == trigger.event:
        raise table.mistake(
            "event",
            f"{show(event)} is the trigger's event too: write the event that is the success",
            stand_in=f"not {event}",
        )
    window = table.need("window", SPAN)
    longest = space.delays[-1]
    if window < 2 * longest:
        raise table.mistake(
            "window",
            f'"{spell(window)}" is less than twice the longest delay ({spell(longest)}):'
            f' write "{spell(Duration(2 * longest))}" or more, or shorten combos.delay',
            stand_in=spell(Duration(2 * longest)),
        )
    if "value_max" in table and "value" not in table:
        raise table.mistake("value_max", "has no meaning without value: name the event's property")
    return Goal(
        event=event,
        window=window,
        value=table.get("value", NAME, None),
        value_max=table.get("value_max", number(0, 1e9, above=True), _MOST_VALUE),
    )


def _read_combos(table: Table) -> ComboSpace:
    table.only(*DIMENSIONS)
    lists = {
        dimension: table.need(dimension, list_of(_KINDS.get(dimension, PART)))
        for dimension in DIMENSIONS
    }
    number_of_combos = prod(len(levels) for levels in lists.values())
    if number_of_combos > _MOST_COMBOS:
        raise table.mistake(
            None, f"{number_of_combos} combos are too many: keep to {_MOST_COMBOS} or fewer"
        )
    _check_delays(table, lists["delay"])
    for channel in lists["channel"]:
        if channel not in CHANNELS:
            raise table.mistake(
                "channel",
                f"there is no channel {show(channel)}. Channels: {', '.join(CHANNELS)}.",
                stand_in=[known for known in CHANNELS if known in lists["channel"]] or ["push"],
            )
    return ComboSpace.of(lists["delay"], lists["channel"], lists["angle"], lists["offer"])


def _check_delays(table: Table, labels: tuple[str, ...]) -> None:
    seen: dict[Duration, str] = {}
    for label in labels:
        delay = None if set(label) & set(" \t") else SPAN.read(label)
        if delay is None:
            raise table.mistake(
                "delay", f"{show(label)} does not fit: write {SPAN.expected}, without blanks"
            )
        if delay in seen:
            raise table.mistake(
                "delay", f'"{seen[delay]}" and "{label}" are the same delay: take one out'
            )
        seen[delay] = label


def _read_policy(table: Table) -> PolicyChoice:
    name = table.get("name", choice(tuple(POLICIES)), PolicyChoice().name)
    ranges = CONFIGURED.get(name, {})
    table.only("name", *ranges)
    return PolicyChoice(
        name=name,
        options={
            option: table.need(option, number(*ranges[option]))
            for option in ranges
            if option in table
        },
    )


def _read_prior(table: Table, space: ComboSpace) -> Prior:
    table.only("rate", "weight", "lean")
    usual = Prior()
    return Prior(
        rate=table.get("rate", number(0, 1, above=True, below=True), usual.rate),
        weight=table.get("weight", number(0, 1e9, above=True), usual.weight),
        lean=_read_lean(table.table("lean"), space),
    )


def _read_lean(table: Table, space: ComboSpace) -> Mapping[str, Mapping[str, float]]:
    table.only(*DIMENSIONS)
    lean = {}
    for dimension, levels in table.tables():
        known = dict.fromkeys(combo.levels()[dimension] for combo in space.combos)
        for level in levels:
            if level not in known:
                raise levels.unknown(level, known, f"{dimension} in [combos]")
        lean[dimension] = levels.each(number(0, 1000, above=True))
    return lean
