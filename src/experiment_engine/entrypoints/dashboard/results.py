"""The page of one cohort's results: is it worth it, what works, is it settled."""

from collections.abc import Sequence
from typing import Any

from experiment_engine.application.cohort_results import (
    CohortResults,
    Day,
    Estimate,
    LevelRate,
    RankedCombo,
    levels_of,
    pairs_of,
)
from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.cohorts.combo import DIMENSIONS
from experiment_engine.domain.identifiers import CohortName
from experiment_engine.entrypoints.dashboard import charts, labels
from experiment_engine.entrypoints.dashboard.latest import latest
from experiment_engine.entrypoints.dashboard.pages import Asked, NoSuchPage, Page, View
from experiment_engine.entrypoints.dashboard.sentence import summary

_BEST, _WORST = 6, 4  # combos listed from either end
_LATEST = 6
_MEASURES = ("rate", "traffic")
_NOTHING = Estimate(0.0, 0.0, 0.0)


def view(asked: Asked) -> View:
    """Return what the cohort has achieved."""
    found = asked.engine.pages.results(asked.path("cohort"))
    return {"results": found, "summary": summary(found), **_heat(found, asked)}


def drawn(made: View, asked: Asked) -> View:
    """Return the charts."""
    found: CohortResults = made["results"]
    shown = _shown(found.ranked)
    reference = found.holdout_rate.value if found.holdout_rate else None
    dimension = _dimension(found, asked)
    return {
        "shown": shown,
        "split": min(_BEST, len(found.ranked)) if len(shown) < len(found.ranked) else len(shown),
        "bands": charts.bands([c.quantiles for c in shown], reference) if shown else None,
        "cumulative": _cumulative(found.days) if found.days else None,
        "table_rows": _table(found.days),
        "traffic": _traffic(found.days, dimension, _cohort(asked)) if found.sent else None,
        "dimension": dimension,
        "dimensions": [name for name in DIMENSIONS if len(found.levels.get(name, ())) > 1],
        "levers": _levers(found),
        "spark_rate": charts.spark(charts.smoothed(_daily_rates(found.days), 5)),
        "spark_sent": charts.spark(_differences([d.sent for d in found.days])),
        "latest": latest(asked, found.cohort, _LATEST),
        **_heat_drawn(made),
    }


def heat_view(asked: Asked) -> View:
    """Return what the heat map shows, alone."""
    return view(asked)


def heat_drawn(made: View, _asked: Asked) -> View:
    """Return the heat map's colours."""
    return _heat_drawn(made)


def _cohort(asked: Asked) -> Cohort:
    return asked.engine.rules.cohorts[CohortName(asked.path("cohort"))]


def _heat(found: CohortResults, asked: Asked) -> View:
    cohort = _cohort(asked)
    pairs = pairs_of(cohort)
    first = f"{pairs[0][0]}:{pairs[0][1]}" if pairs else ""
    row, _, column = asked.query("pair", first).partition(":")
    measure = asked.query("measure", "rate")
    if (pairs and (row, column) not in pairs) or measure not in _MEASURES:
        raise NoSuchPage("There is no such pair of choices.")
    return {
        "pairs": pairs,
        "pair": (row, column),
        "measure": measure,
        "columns": levels_of(cohort, column) if pairs else [],
        "cells": found.cells(row, column, cohort) if pairs else [],
    }


def _heat_drawn(made: View) -> View:
    cells = [cell for line in made["cells"] for cell in line]
    measure = made["measure"]
    values = [c.rate.value if measure == "rate" else c.share for c in cells]
    return {
        "low": min(values, default=0.0),
        "high": max(values, default=0.0),
    }


def _shown(ranked: Sequence[RankedCombo]) -> list[RankedCombo]:
    if len(ranked) <= _BEST + _WORST:
        return list(ranked)
    return [*ranked[:_BEST], *ranked[-_WORST:]]


def _cumulative(days: Sequence[Day]) -> dict[str, Any]:
    made = [charts.Line("engine", "Engine", [day.converted for day in days])]
    for name, label, values in (
        ("even", "Even split", [day.even_split for day in days]),
        ("none", "No message", [day.no_message for day in days]),
    ):
        starts = next((place for place, value in enumerate(values) if value is not None), None)
        if starts is not None:
            made.append(_estimated(name, label, values, starts, days[-1].converted))
    opened = [place for place, day in enumerate(days) if day.is_open]
    return charts.lines(
        [day.day for day in days],
        made,
        open_from=max(0, opened[0] - 1) if opened else None,
        number=labels.number,
        label=labels.day,
    ) | {"names": [(line.name, line.label) for line in made]}


def _estimated(
    name: str, label: str, values: Sequence[Estimate | None], starts: int, most: float
) -> charts.Line:
    """Return a line with its band, which is cut off where it would dwarf everything else."""
    known = [value or _NOTHING for value in values]
    return charts.Line(
        name,
        label,
        [value.value for value in known],
        [value.low for value in known],
        [min(value.high, max(3 * value.value, most)) for value in known],
        starts,
    )


def _table(days: Sequence[Day]) -> list[list[str]]:
    """Return the chart's numbers, a row a week and the last day."""
    chosen = [*days[:-1:7], days[-1]] if days else []
    having = [name for name in ("even_split", "no_message") if days and getattr(days[-1], name)]
    rows = []
    for day in chosen:
        estimates = [getattr(day, name) for name in having]
        rows.append(
            [
                labels.day(day.day),
                labels.number(day.converted),
                *("\N{EN DASH}" if e is None else labels.number(e.value) for e in estimates),
            ]
        )
    return rows


def _dimension(found: CohortResults, asked: Asked) -> str:
    having = [name for name in DIMENSIONS if len(found.levels.get(name, ())) > 1]
    wanted = asked.query("by", having[0] if having else "delay")
    return wanted if wanted in DIMENSIONS else "delay"


def _traffic(days: Sequence[Day], dimension: str, cohort: Cohort) -> dict[str, Any]:
    sending = [day for day in days if sum(day.sent_by_level[dimension].values())]
    layers = []
    for level in levels_of(cohort, dimension):
        shares = [
            day.sent_by_level[dimension].get(level, 0) / sum(day.sent_by_level[dimension].values())
            for day in sending
        ]
        layers.append((labels.level(dimension, level), charts.smoothed(shares)))
    return charts.stack([day.day for day in sending], layers, label=labels.day)


def _levers(found: CohortResults) -> dict[str, Any] | None:
    rows = [
        (labels.words(name), [(labels.level(name, r.level), r.rate.value) for r in rates])
        for name, rates in found.levels.items()
        if len(rates) > 1
    ]
    clear = {labels.words(name) for name, rates in found.levels.items() if _is_clear(rates)}
    return charts.levers(rows, clear) if rows else None


def _is_clear(rates: Sequence[LevelRate]) -> bool:
    """Say whether the bands of the highest and the lowest level stand apart."""
    ordered = sorted((level.rate for level in rates), key=lambda rate: rate.value)
    return ordered[-1].low > ordered[0].high


def _daily_rates(days: Sequence[Day]) -> list[float]:
    closed = [day for day in days if not day.is_open] or list(days)
    people = _differences([day.messaged for day in closed])
    back = _differences([day.converted for day in closed])
    return [b / p for b, p in zip(back, people, strict=True) if p]


def _differences(sums: Sequence[int]) -> list[int]:
    return [now - before for before, now in zip([0, *sums], sums, strict=False)]


PAGE = Page("/results/{cohort}", "/results/{cohort}.json", "Results", "results.html", view, drawn)
FRAGMENTS = (Page("/results/{cohort}/heat", "", "Results", "_heat.html", heat_view, heat_drawn),)
