"""The sentence is never more sure than the numbers (no winner that they do not support)."""

import numpy as np
import pytest
from tests.support.builders import CHECKOUT

from experiment_engine.application.cohort_results import CohortResults, Counted, cohort_results
from experiment_engine.application.report_records import ComboCounts
from experiment_engine.application.standings import Standings
from experiment_engine.domain.bandit.delay_curve import DelayCurve
from experiment_engine.domain.cohorts.cohort import Cohort, Goal, Trigger
from experiment_engine.domain.cohorts.combo import ComboSpace
from experiment_engine.domain.identifiers import CohortName, EventName
from experiment_engine.domain.moments import DAY, Duration, Instant
from experiment_engine.entrypoints.dashboard.sentence import summary

NOW = Instant(20_000 * DAY)


def a_cohort() -> Cohort:
    return Cohort(
        name=CohortName(str(CHECKOUT)),
        trigger=Trigger(event=EventName("left")),
        goal=Goal(event=EventName("back"), window=Duration(3 * DAY)),
        space=ComboSpace.of(["2min", "1h"], ["push", "whatsapp"], ["helpful"], ["none"]),
    )


def results(trials: list[int], successes: list[int]) -> CohortResults:
    cohort = a_cohort()
    totals = [
        ComboCounts(cohort.name, combo.key, "combo", n, s, n, 0, s, 0)
        for combo, n, s in zip(cohort.space.combos, trials, successes, strict=True)
    ]
    counted = Counted(totals, [], DelayCurve(cohort.goal.window, {}))
    return cohort_results(cohort, counted, NOW, Standings(), mode="live", paused=False)


def said(trials: list[int], successes: list[int]) -> str:
    return "".join(text for text, _ in summary(results(trials, successes)))


def test_before_the_first_message() -> None:
    assert "No message has gone out yet." in said([0] * 4, [0] * 4)


@pytest.mark.parametrize("trials", [[1, 0, 0, 0], [40, 40, 40, 40]])
def test_with_little_data_nothing_is_named(trials: list[int]) -> None:
    assert "Too early to tell" in said(trials, [min(1, n) for n in trials])


def test_a_clear_winner_is_called_as_good_as_settled() -> None:
    told = said([2_000] * 4, [40, 40, 40, 300])
    assert told.startswith("WhatsApp · 1 h · Helpful · No offer is the best")


def test_equal_rates_name_no_winner() -> None:
    told = said([2_000] * 4, [100] * 4)
    assert "Nothing is settled yet" in told
    assert "the best combination" not in told


def test_a_level_that_is_clear_is_named_and_the_rest_stays_open() -> None:
    told = said([2_000] * 4, [40, 200, 40, 210])
    assert told.startswith("WhatsApp is where the engine is heading.")
    assert "Still open: the delay" in told


def test_chance_alone_rarely_makes_a_winner() -> None:
    """Four combos with the same true rate, a hundred times: called settled at most a few times."""
    chance = np.random.default_rng(3)
    winners = sum(
        "as good as settled" in said([1_000] * 4, chance.binomial(1_000, 0.05, 4).tolist())
        for _ in range(100)
    )
    assert winners <= 15


def test_the_best_is_named_where_intervals_show_it() -> None:
    found = results([500] * 4, [10, 20, 30, 60])
    for combo in found.ranked:
        assert combo.quantiles == sorted(combo.quantiles)
        assert combo.quantiles[0] <= combo.rate <= combo.quantiles[-1]
    assert abs(sum(combo.probability_best for combo in found.ranked) - 1) < 1e-9
