"""Policies side by side in worlds of one cohort, over seeds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiment_engine.domain.bandit.arms import Arms
from experiment_engine.domain.bandit.policies import MAX_SHIFT, build
from experiment_engine.domain.bandit.statistics import Floats
from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.moments import HOUR
from experiment_engine.entrypoints.simulator.plot import Curve
from experiment_engine.entrypoints.simulator.runs import Run, play
from experiment_engine.entrypoints.simulator.world import Drift, Plan, World

EVEN, ORACLE, GREEDY = "even split", "oracle", "epsilon_greedy"

_GROWTH = 0.03  # of the counts, between two fits


@dataclass(frozen=True)
class Scale:
    """How much is played."""

    triggers: int
    a_day: float
    seeds: Sequence[int]


def plan_of(
    cohort: Cohort,
    features: tuple[int, ...],
    *,
    cross: float,
    drift: Drift,
    median_hours: float,
) -> Plan:
    """Return the world's plan for a cohort: its dimensions, delays, window and prior rate."""
    return Plan(
        arms=Arms.of(cohort.space),
        features=features,
        rate=cohort.prior.rate,
        sends=np.array([combo.delay / HOUR for combo in cohort.space.combos]),
        window=cohort.goal.window,
        cross=cross,
        drift=drift,
        median_hours=median_hours,
    )


def compare(
    cohort: Cohort, plan: Plan, names: Sequence[str], scale: Scale, tell: Callable[[], None]
) -> Mapping[str, Sequence[Run]]:
    """Return the runs of each policy, one a seed; all policies meet the same users."""
    runs: dict[str, list[Run]] = {name: [] for name in names}
    for seed in scale.seeds:
        world = World(plan, seed)
        users = world.users(scale.triggers, scale.a_day)
        for name in names:
            learner = build(
                name,
                plan.arms.sizes,
                plan.features,
                rate=cohort.prior.rate,
                weight=cohort.prior.weight,
                seed=seed,
                growth=_GROWTH,
                **_options(cohort, name),
            )
            runs[name].append(play(world, users, learner, tell))
    return runs


def _options(cohort: Cohort, name: str) -> dict[str, float]:
    """Return the policy's options, where the configuration names this very policy."""
    if cohort.policy.name != name:
        return {}
    return {key: value for key, value in cohort.policy.options.items() if key != MAX_SHIFT}


def figures(runs: Mapping[str, Sequence[Run]]) -> dict[str, Any]:
    """Return means and standard errors over the seeds; ratios are taken seed by seed.

    Where epsilon_greedy loses nothing, as with a single combo, no regret can be told by it: null.
    """
    some = next(iter(runs.values()))
    greedy = np.array([run.chosen for run in runs[GREEDY]])
    every = {
        EVEN: np.array([run.even for run in some]),
        **{name: np.array([run.chosen for run in played]) for name, played in runs.items()},
        ORACLE: np.array([run.oracle for run in some]),
    }
    return {
        name: {
            "conversions": _told(chosen),
            "to_even_split": _told(chosen / every[EVEN]),
            "to_oracle": _told(chosen / every[ORACLE]),
            "to_epsilon_greedy": _told(chosen / greedy),
            "regret_to_epsilon_greedy": _regret(every[ORACLE] - chosen, every[ORACLE] - greedy),
        }
        for name, chosen in every.items()
    }


def curves(runs: Mapping[str, Sequence[Run]]) -> dict[str, Curve]:
    """Return each policy's conversions to those of an even split, over the run."""
    some = next(iter(runs.values()))
    every = {
        ORACLE: [run.oracle_curve for run in some],
        **{name: [run.curve for run in played] for name, played in runs.items()},
    }
    return {name: _curve(np.stack(parts)) for name, parts in every.items()}


def _curve(parts: Floats) -> Curve:
    return parts.mean(axis=0).tolist(), _errors(parts).tolist()


def _regret(lost: Floats, greedy_lost: Floats) -> dict[str, float | None]:
    if not (greedy_lost > 0).all():
        return {"mean": None, "standard_error": None}
    return _told(lost / greedy_lost)


def _told(values: Floats) -> dict[str, float | None]:
    error = float(_errors(values)) if len(values) > 1 else None
    return {"mean": round(float(values.mean()), 5), "standard_error": error and round(error, 5)}


def _errors(values: Floats) -> Floats:
    number = len(values)
    if number == 1:
        return np.zeros(values.shape[1:])
    return np.asarray(values.std(axis=0, ddof=1) / np.sqrt(number))
