"""The page of results in one or two sentences: never more sure than the numbers."""

from collections.abc import Sequence

from experiment_engine.application.cohort_results import CohortResults, LevelRate, RankedCombo
from experiment_engine.domain.cohorts.combo import DIMENSIONS
from experiment_engine.entrypoints.dashboard import labels

Piece = tuple[str, str]  # a text and how it is said: "strong", "em" or ""

_SETTLED = 0.95  # chance to be the best from which a combo is called the best
_CLEAR = 0.8  # ... from which a level is named as where things are heading
_FEW = 200  # messaged people below which nothing is said about what works
_FEW_CONVERSIONS = 10
_NAMED = 2  # levels that are named of an open question


def summary(found: CohortResults) -> list[Piece]:
    """Return what the numbers say so far, in plain words."""
    if found.messaged == 0:
        return [("No message has gone out yet.", "strong"), (_waiting(found), "")]
    if found.messaged < _FEW or found.converted < _FEW_CONVERSIONS:
        return [
            ("Too early to tell what works.", "strong"),
            (
                (
                    f" {labels.number(found.messaged)} people so far,"
                    f" {labels.number(found.converted)} reached the goal, and"
                    f" {found.combos_tried} of {found.combos} combinations have been tried."
                ),
                "",
            ),
        ]
    if found.mismatch is not None:
        return [
            ("The numbers do not fit together, so nothing is called the best.", "strong"),
            (f" {found.mismatch[:1].upper()}{found.mismatch[1:]}.", ""),
        ]
    best = max(found.ranked, key=lambda combo: combo.probability_best)
    if best.probability_best >= _SETTLED:
        return [
            (labels.combo(best.combo_key), "strong"),
            (" is the best combination, as good as settled: the chance is ", ""),
            (f"{_percent(best.probability_best)}.", "em"),
        ]
    return _heading(found)


def _heading(found: CohortResults) -> list[Piece]:
    clear, still_open = [], []
    for dimension in DIMENSIONS:
        levels = sorted(found.levels[dimension], key=lambda level: -level.probability_best)
        if len(levels) < 2:  # noqa: PLR2004 - no choice, nothing to say
            continue
        if levels[0].probability_best >= _CLEAR:
            clear.append(labels.level(dimension, levels[0].level))
        else:
            still_open.append((dimension, levels))
    if not clear:
        most = max(found.ranked, key=lambda combo: combo.share_now)
        return [
            ("Nothing is settled yet.", "strong"),
            (" Most messages now go to ", ""),
            (labels.combo(most.combo_key), "em"),
            (f": {_rate(most)} reached the goal. {_unsettled(found)}", ""),
        ]
    return [
        (", ".join(clear), "strong"),
        (
            " is where the engine is heading." if len(clear) == 1 else " are where it is heading.",
            "",
        ),
        (_open_questions(still_open), ""),
    ]


def _rate(combo: RankedCombo) -> str:
    low, high = combo.quantiles[0], combo.quantiles[-1]
    return f"{labels.percent(combo.rate)} % ({labels.percent(low)} to {labels.percent(high)} %)"


def _unsettled(found: CohortResults) -> str:
    thin = sum(combo.is_thin for combo in found.ranked)
    if not thin:
        return "Others are too close to call one the best."
    return (
        f"{thin} of {found.combos} combinations have had too few messages to say"
        " whether one of them is better."
    )


def _open_questions(still_open: Sequence[tuple[str, Sequence[LevelRate]]]) -> str:
    if not still_open:
        return ""
    told = [
        f"the {dimension} ("
        + ", ".join(
            f"{labels.level(dimension, level.level)} {_percent(level.probability_best)}"
            for level in levels[:_NAMED]
        )
        + ")"
        for dimension, levels in still_open
    ]
    return f" Still open: {', '.join(told)}."


def _waiting(found: CohortResults) -> str:
    return f" The engine will try {found.combos} combinations, and learn from what comes back."


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %"
