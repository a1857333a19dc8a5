"""`evaluate`: what another policy or configuration would have made of the messages sent."""

import json as json_text
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from experiment_engine import bootstrap
from experiment_engine.adapters.system.clock import SystemClock
from experiment_engine.application.evaluate import Judged, judge, read_log
from experiment_engine.application.measure import GRACE
from experiment_engine.configuration.loading import load
from experiment_engine.domain.bandit.policies import POLICIES
from experiment_engine.domain.cohorts.cohort import Cohort, PolicyChoice
from experiment_engine.domain.errors import EngineError, WrongUse
from experiment_engine.domain.identifiers import CohortName
from experiment_engine.domain.measurement.off_policy import Value
from experiment_engine.domain.moments import Instant
from experiment_engine.settings import Settings, read_settings


def evaluate(
    *,
    cohort: Annotated[str | None, Parameter(help="One cohort; all, if left out.")] = None,
    policy: Annotated[
        str | None,
        Parameter(help="The policy to judge, with its usual options; `uniform` is an even split."),
    ] = None,
    config: Annotated[
        Path | None,
        Parameter(help="A configuration folder to judge, instead of a policy by its name."),
    ] = None,
    gate: Annotated[
        bool, Parameter(help="Exit with 1 if what is judged is credibly worse; for use in CI.")
    ] = False,
    json: Annotated[bool, Parameter(help="Answer as JSON.")] = False,
) -> None:
    """Judge another policy or configuration on the engine's own log.

    Estimates by logged propensities (IPS, SNIPS, DR) with intervals that hold at every look, and
    says so where the log cannot tell. Nothing is sent and nothing is changed.
    """
    settings = read_settings(os.environ)
    judged = {c.name: _judge(c, settings) for c in _wanted(settings, cohort, policy, config)}
    if json:
        print(json_text.dumps({name: _described(one) for name, one in judged.items()}))  # noqa: T201
    else:
        Console().print(_table(judged))
    worse = [name for name, one in judged.items() if one.is_worse]
    if gate and worse:
        raise EngineError(f"credibly worse than what was done: {', '.join(worse)}")


_READ = (
    "IPS, SNIPS, DR: three estimates of the rate that what is judged would have had, with 95 %"
    " intervals; the last column is how far ahead of it the messages were."
)


def _wanted(
    settings: Settings, cohort: str | None, policy: str | None, config: Path | None
) -> list[Cohort]:
    """Return the cohorts to judge, with the policy that is asked about."""
    if (policy is None) == (config is None):
        raise WrongUse("evaluate: write either --policy or --config: it says what to judge")
    if policy is not None and policy not in POLICIES:
        known = ", ".join(POLICIES)
        raise WrongUse(f'--policy: there is no policy "{policy}": write one of {known}')
    rules = load(config) if config is not None else bootstrap.read_rules(settings)
    every = list(rules.cohorts.values())
    cohorts = every if cohort is None else [rules.require_cohort(cohort)]
    if policy is None:
        return cohorts
    return [replace(one, policy=PolicyChoice(name=policy)) for one in cohorts]


def _judge(cohort: Cohort, settings: Settings) -> Judged:
    mode = bootstrap.mode_of(settings, bootstrap.read_rules(settings))
    until = Instant(SystemClock().now() - cohort.goal.window - GRACE)
    with Progress(console=Console(stderr=True)) as bars:
        reading = bars.add_task(f"{cohort.name}: reading", total=None)
        with bootstrap.open_log(settings) as log:
            rows = read_log(cohort, mode, log, until, _moves(bars, reading))
        judging = bars.add_task(f"{cohort.name}: judging", total=len(rows))
        return judge(cohort, rows, _moves(bars, judging))


def _moves(bars: Progress, task: Any) -> Callable[[int], None]:
    return lambda done: bars.update(task, completed=done)


def _described(one: Judged) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "messages": int(one.sums.rows),
        "effective_messages": round(one.sums.effective_rows, 1),
        "left_out": one.left_out,
        "rate": one.sums.y / one.sums.rows if one.sums.rows else None,
        "worse": one.is_worse,
    }
    if one.refused is not None:
        return {**answer, "why_not": one.refused.reason}
    estimates = {
        "ips": one.ips,
        "snips": one.snips,
        "dr": one.doubly_robust,
        "behind": one.behind,
    }
    return answer | {
        name: {"value": value.value, "interval": [value.interval.low, value.interval.high]}
        for name, value in estimates.items()
        if value is not None
    }


def _table(judged: dict[CohortName, Judged]) -> Table:
    names = ("cohort", "messages", "count for", "so far", "IPS", "SNIPS", "DR", "lead of so far")
    table = Table(*names, box=SIMPLE_HEAD, caption_justify="left")
    table.columns[0].no_wrap = True
    table.columns[0].min_width = max(map(len, judged), default=0)
    untold = []
    for name, one in judged.items():
        rate = f"{100 * one.sums.y / one.sums.rows:.2f} %" if one.sums.rows else "-"
        row = [name, f"{one.sums.rows:.0f}", f"{one.sums.effective_rows:.0f}", rate]
        if one.refused is not None:
            table.add_row(*row)
            untold.append(f"{name}: {one.refused.reason}")
        else:
            table.add_row(*row, *map(_shown, (one.ips, one.snips, one.doubly_robust, one.behind)))
    table.caption = "\n".join([*untold, _READ])
    return table


def _shown(value: Value | None) -> str:
    if value is None:
        return "-"
    low, high = 100 * value.interval.low, 100 * value.interval.high
    return f"{100 * value.value:.2f} % [{low:.2f}, {high:.2f}]"
