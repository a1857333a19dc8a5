"""What a replayed history came to: volumes, base rates, delays, and what would be decided."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from experiment_engine.application.results import Result
from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.cohorts.combo import DIMENSIONS
from experiment_engine.domain.delivery.experiment import Experiment
from experiment_engine.domain.identifiers import CohortName
from experiment_engine.domain.measurement.interval import Interval, wilson_interval
from experiment_engine.domain.moments import DAY, HOUR

QUANTILES = (0.5, 0.9, 0.95)


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What one cohort would have done."""

    started: int
    days: float
    ignored: Mapping[str, int]  # by reason
    ended: Mapping[str, int]  # by state and reason, such as `cancelled: frequency_cap`
    converted: int  # in the window, without any message
    base_rate: Interval
    hours_to_convert: Mapping[float, float]  # quantile -> hours since the trigger
    levels: Mapping[str, Mapping[str, int]]  # dimension -> level -> how often it was drawn
    postponed: int


@dataclass
class Rehearsal:
    """Collects what a history leads to, fact after fact."""

    cohorts: Mapping[CohortName, Cohort]
    ignored: dict[CohortName, Counter[str]] = field(default_factory=dict)

    def add(self, results: Sequence[Result]) -> None:
        """Count the triggers that started nothing, by reason."""
        for result in results:
            for one in result.results or (result,):
                if one.status == "ignored" and one.cohort is not None and one.reason:
                    self.ignored.setdefault(one.cohort, Counter())[one.reason] += 1

    def of(self, name: CohortName, experiments: Sequence[Experiment]) -> Rehearsed:
        """Return what a cohort would have done, given all of its experiments."""
        converted = [e for e in experiments if e.converted_at is not None]
        hours = [(e.converted_at - e.triggered_at) / HOUR for e in converted if e.converted_at]
        moments = [e.triggered_at for e in experiments]
        levels = {dimension: Counter[str]() for dimension in DIMENSIONS}
        for made in experiments:
            for dimension, level in zip(DIMENSIONS, made.combo_key.split("|"), strict=True):
                levels[dimension][level] += 1
        return Rehearsed(
            started=len(experiments),
            days=max(1.0, (max(moments) - min(moments)) / DAY) if moments else 0.0,
            ignored=self.ignored.get(name, Counter()),
            ended=Counter(_end(e) for e in experiments),
            converted=len(converted),
            base_rate=wilson_interval(len(converted), len(experiments)),
            hours_to_convert={
                quantile: float(np.quantile(hours, quantile)) if hours else float("nan")
                for quantile in QUANTILES
            },
            levels=levels,
            postponed=sum(e.postponed for e in experiments),
        )


def _end(experiment: Experiment) -> str:
    if experiment.reason is None:
        return experiment.state.value
    return f"{experiment.state.value}: {experiment.reason}"
