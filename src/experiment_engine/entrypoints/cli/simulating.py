"""`simulate`: the production policies in a synthetic world of the user's own configuration."""

import json as json_text
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter, validators
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from experiment_engine import bootstrap
from experiment_engine.configuration.loading import load
from experiment_engine.domain.bandit.context import FEATURES
from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.errors import ConfigurationError
from experiment_engine.entrypoints.simulator.comparison import (
    GREEDY,
    Scale,
    compare,
    curves,
    figures,
    plan_of,
)
from experiment_engine.entrypoints.simulator.plot import draw
from experiment_engine.entrypoints.simulator.runs import POINTS, steps
from experiment_engine.entrypoints.simulator.world import Drift, Plan
from experiment_engine.settings import read_settings

PolicyName = Literal["epsilon_greedy", "thompson", "factorial_thompson", "uniform"]

ASSUMES = (
    "the mean rate over everybody and all combos is the configuration's prior rate",
    (
        "which levels, pairs of levels and contexts convert better is drawn anew for each seed,"
        " as normal log odds; the configuration's lean plays no part"
    ),
    (
        "triggers come evenly over time, and every combo is eligible for everybody: no quiet"
        " hours, caps, consent, failures or holdout"
    ),
    "a conversion comes log-normally late after the message, inside the goal's window",
    "what is compared are expected conversions of the choices, without the luck of the draw",
)
_REGRET = "* lost to the oracle, as a share of what epsilon_greedy loses to it; ± standard errors."
_MOST_CONTEXTS = 5_000


def _levels(_type: Any, value: tuple[int, ...] | None) -> None:
    product = 1
    for size in value or ():
        if not 1 <= size <= 17:  # noqa: PLR2004 - 16 named levels and `other`
            raise ValueError("each feature has 1 to 17 levels, as in the engine")
        product *= size
    if product > _MOST_CONTEXTS:
        raise ValueError(f"these are {product} contexts; {_MOST_CONTEXTS} are the most")


def _svg(_type: Any, value: Path | None) -> None:
    if value is not None and value.suffix != ".svg":
        raise ValueError("the plot is written as SVG: name a file that ends in .svg")
    if value is not None and not value.parent.is_dir():  # told before the work, not after it
        raise ValueError(f"there is no folder {value.parent}: make it, or name another")


def simulate(
    *,
    cohort: Annotated[
        str | None, Parameter(help="One of the configuration; else its first.")
    ] = None,
    config: Annotated[
        Path | None, Parameter(help="A configuration folder; else the one of ENGINE_CONFIG.")
    ] = None,
    policy: Annotated[
        tuple[PolicyName, ...] | None,
        Parameter(
            help="Policies to play, once for each; else all that learn. epsilon_greedy is always"
            " among them, to compare with.",
            negative_iterable=(),
        ),
    ] = None,
    triggers: Annotated[
        int, Parameter(help="Users of each run.", validator=validators.Number(gte=20, lte=200_000))
    ] = 10_000,
    a_day: Annotated[
        float,
        Parameter(
            help="Users a day: how many wait for their conversion at a time.",
            validator=validators.Number(gte=1, lte=1_000_000),
        ),
    ] = 500.0,
    seeds: Annotated[
        int, Parameter(help="Worlds to play in.", validator=validators.Number(gte=1, lte=1_000))
    ] = 5,
    seed: Annotated[
        int, Parameter(help="The first seed; others follow.", validator=validators.Number(gte=0))
    ] = 1,
    context_levels: Annotated[
        tuple[int, int, int, int],
        Parameter(
            help="How many regions, languages, plans and shows there are.",
            validator=_levels,
            negative_iterable=(),
        ),
    ] = (4, 3, 3, 6),
    cross: Annotated[
        float,
        Parameter(
            help="Cross effects of context and levels: standard deviation of log odds."
            " 0.06 is little, 0.22 much.",
            validator=validators.Number(gte=0, lte=2),
        ),
    ] = 0.06,
    drift: Annotated[
        Drift,
        Parameter(
            help="none; slow: all effects wander, in 20 stretches; sudden: all are new half-way."
        ),
    ] = "none",
    conversion_hours: Annotated[
        float,
        Parameter(
            help="Median hours from message to conversion.",
            validator=validators.Number(gt=0, lte=10_000),
        ),
    ] = 4.0,
    plot: Annotated[
        Path | None, Parameter(help="Write a picture here, as SVG.", validator=_svg)
    ] = None,
    json: Annotated[bool, Parameter(help="Answer as JSON.")] = False,
) -> None:
    """Play the production policies in a synthetic world made of your own configuration.

    The world has the cohort's combos, delays, goal window and prior rate, and contexts as you
    say. It assumes that effects are normal log odds, drawn anew for each seed; that triggers come
    evenly and every combo is eligible (no quiet hours, caps or holdout); and that conversions come
    log-normally late inside the window. Learning counts trials by their age, as the engine does.
    It tells how policies compare in such worlds, not what your users will do.
    """
    chosen = _cohort(config, cohort)
    names = list(dict.fromkeys([GREEDY, *(policy or ("thompson", "factorial_thompson"))]))
    scale = Scale(triggers, a_day, range(seed, seed + seeds))
    plan = plan_of(chosen, context_levels, cross=cross, drift=drift, median_hours=conversion_hours)
    with Progress(console=Console(stderr=True), transient=True) as bars:
        total = len(steps(triggers)) * len(names) * seeds
        task = bars.add_task(f"{chosen.name}: {seeds} worlds", total=total)
        runs = compare(chosen, plan, names, scale, lambda: bars.advance(task))
    told = _Told(chosen, plan, scale, figures(runs), curves(runs))
    if plot is not None:
        _write(plot, draw(told.title, told.curves, triggers))
    if json:
        print(json_text.dumps(told.described()))  # noqa: T201 - the command's answer
    else:
        Console().print(told.table())


def _cohort(config: Path | None, wanted: str | None) -> Cohort:
    rules = load(config) if config else bootstrap.read_rules(read_settings(os.environ))
    return rules.require_cohort(next(iter(rules.cohorts)) if wanted is None else wanted)


def _write(plot: Path, picture: str) -> None:
    try:
        plot.write_text(picture, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"--plot: {plot} cannot be written: {error.strerror}") from error


@dataclass(frozen=True)
class _Told:
    """What is answered."""

    cohort: Cohort
    plan: Plan
    scale: Scale
    figures: Mapping[str, Mapping[str, Any]]
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]

    @property
    def title(self) -> str:
        seeds = self.scale.seeds
        return (
            f"{self.cohort.name}: {self.scale.triggers:,} triggers,"
            f" {len(self.cohort.space)} combos, seeds {seeds[0]} to {seeds[-1]}"
        )

    def described(self) -> dict[str, Any]:
        """Return it as JSON says it."""
        plan = self.plan
        return {
            "cohort": self.cohort.name,
            "triggers": self.scale.triggers,
            "triggers_a_day": self.scale.a_day,
            "seeds": list(self.scale.seeds),
            "world": {
                "combos": len(plan.arms),
                "dimensions": list(plan.arms.sizes),
                "context_levels": dict(zip(FEATURES, plan.features, strict=True)),
                "mean_rate": plan.rate,
                "cross_effects": plan.cross,
                "drift": plan.drift,
                "median_hours_to_convert": plan.median_hours,
                "assumes": list(ASSUMES),
            },
            "policies": self.figures,
            "curves": {
                "points": POINTS,
                "to_even_split": {
                    name: {"mean": means, "standard_error": errors}
                    for name, (means, errors) in self.curves.items()
                },
            },
        }

    def table(self) -> Table:
        """Return it for people."""
        caption = f"{_REGRET}\nAssumes: {'; '.join(ASSUMES)}."
        table = Table(title=self.title, caption=caption, caption_justify="left", box=SIMPLE_HEAD)
        table.add_column("policy", no_wrap=True)
        for head in ("conversions", "of even", "of oracle", "of greedy", "regret *"):
            table.add_column(head, justify="right", no_wrap=True)
        for name, figure in self.figures.items():
            cells = [
                _spelled(value, 0 if key == "conversions" else 2) for key, value in figure.items()
            ]
            table.add_row(name, *cells)
        return table


def _spelled(value: Mapping[str, float | None], digits: int) -> str:
    if value["mean"] is None:
        return "-"
    error = value["standard_error"]
    return f"{value['mean']:.{digits}f}" + (f" ±{error:.{digits}f}" if error is not None else "")
