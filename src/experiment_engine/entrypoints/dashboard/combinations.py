"""All combinations of a cohort: filtered, sorted, two compared, one or a level paused."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from experiment_engine.application.cohort_results import (
    CohortResults,
    Estimate,
    RankedCombo,
    levels_of,
)
from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.cohorts.combo import DIMENSIONS
from experiment_engine.domain.identifiers import CohortName
from experiment_engine.domain.pausing import of_channel, of_combo, of_level
from experiment_engine.entrypoints.dashboard import charts
from experiment_engine.entrypoints.dashboard.pages import Asked, Page, View

_SORTS: Mapping[str, Callable[[RankedCombo], object]] = {
    "rate": lambda combo: combo.place,
    "best": lambda combo: -combo.probability_best,
    "sent": lambda combo: -combo.sent,
    "share": lambda combo: -combo.share_now,
}
_TWO = 2


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two combinations side by side."""

    one: RankedCombo
    other: RankedCombo
    chance: float  # that the first has the higher rate
    difference: Estimate


@dataclass(frozen=True, slots=True)
class Level:
    """One level as a filter and as something that can be paused."""

    name: str
    scope: str
    paused: bool
    chosen: bool


def view(asked: Asked) -> View:
    """Return the combinations that fit the filter, in the order asked for."""
    engine = asked.engine
    found = engine.pages.results(asked.path("cohort"))
    cohort = engine.rules.cohorts[CohortName(found.cohort)]
    paused = frozenset(engine.report.reading.paused())
    wanted = {name: asked.query(name) for name in DIMENSIONS if asked.query(name)}
    sort = asked.query("sort") if asked.query("sort") in _SORTS else "rate"
    combos = found.ranked or _untried(cohort)
    fitting = [c for c in combos if all(c.levels[name] == v for name, v in wanted.items())]
    return {
        "results": found,
        "combos": sorted(fitting, key=_SORTS[sort]),  # type: ignore[arg-type]  # numbers all
        "total": len(combos),
        "sort": sort,
        "wanted": wanted,
        "levels": _levels(cohort, wanted, paused),
        "paused_combos": _paused(cohort, paused),
        "comparison": _comparison(found, asked.request.query_params.getlist("compare"), cohort),
        "chosen": asked.request.query_params.getlist("compare"),
    }


def drawn(made: View, _asked: Asked) -> View:
    """Return the bands on one scale."""
    combos: Sequence[RankedCombo] = made["combos"]
    found: CohortResults = made["results"]
    known = [combo.quantiles for combo in combos if combo.quantiles]
    reference = found.holdout_rate.value if found.holdout_rate else None
    cohort = found.cohort
    return {
        "bands": charts.bands(known, reference) if known else None,
        "sorts": {"rate": "Rate", "best": "Best?", "sent": "Sent", "share": "Share now"},
        "scope_of": lambda key: of_combo(CohortName(cohort), key),
        "address": lambda **changes: _address(made, changes),
    }


def _address(made: View, changes: Mapping[str, str]) -> str:
    fields = {"sort": made["sort"], **made["wanted"], **changes}
    return "?" + urlencode({name: value for name, value in fields.items() if value})


def _untried(cohort: Cohort) -> list[RankedCombo]:
    return [
        RankedCombo(combo.index + 1, combo.key, combo.levels(), 0.0, (), 0.0, 0, 0, 0, 0.0)
        for combo in cohort.space.combos
    ]


def _levels(
    cohort: Cohort, wanted: Mapping[str, str], paused: frozenset[str]
) -> Mapping[str, Sequence[Level]]:
    return {
        dimension: [
            Level(
                level,
                of_level(cohort.name, dimension, level),
                of_level(cohort.name, dimension, level) in paused,
                wanted.get(dimension) == level,
            )
            for level in levels_of(cohort, dimension)
        ]
        for dimension in DIMENSIONS
    }


def _paused(cohort: Cohort, paused: frozenset[str]) -> Mapping[str, str]:
    """Return why combos are paused: combo key -> scope."""
    found = {}
    for combo in cohort.space.combos if paused else ():
        scopes = [
            of_combo(cohort.name, combo.key),
            of_channel(combo.channel),
            *(of_level(cohort.name, name, level) for name, level in combo.levels().items()),
        ]
        for scope in scopes:
            if scope in paused:
                found[str(combo.key)] = scope
                break
    return found


def _comparison(found: CohortResults, keys: Sequence[str], cohort: Cohort) -> Comparison | None:
    by_key = {combo.combo_key: combo for combo in found.ranked}
    chosen = [by_key[key] for key in dict.fromkeys(keys) if key in by_key][:_TWO]
    if len(chosen) < _TWO or found.standing is None:
        return None
    one, other = chosen
    places = {str(combo.key): combo.index for combo in cohort.space.combos}
    first, second = places[one.combo_key], places[other.combo_key]
    return Comparison(
        one,
        other,
        found.standing.beats(first, second),
        Estimate(*found.standing.difference(first, second)),
    )


PAGE = Page(
    "/combinations/{cohort}",
    "/combinations/{cohort}.json",
    "Combinations",
    "combinations.html",
    view,
    drawn,
)
