"""What the factorial model is for: what one combo teaches about others, here and elsewhere."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.domain.bandit.histories import ARMS, DIMENSIONS, FEATURES, a_history

from experiment_engine.domain.bandit.arms import Arms, Belief
from experiment_engine.domain.bandit.cells import Cells
from experiment_engine.domain.bandit.design import DELAY
from experiment_engine.domain.bandit.factorial_thompson import FactorialModel, FactorialThompson
from experiment_engine.domain.bandit.statistics import Floats

LEVELS = Arms(DIMENSIONS).levels
EVERYBODY = range(ARMS)


def a_policy(belief: Belief | None = None, **options: float) -> FactorialThompson:
    return FactorialThompson(Arms(DIMENSIONS), belief or Belief(), options)


def counts(
    rates: Floats, trials: float = 400, *, context: tuple[int, int] = (0, 0), late: bool = False
) -> Cells:
    """Return as many trials of every arm in one context, with these shares of successes."""
    given = np.full(ARMS, float(trials))
    return Cells(
        np.tile(np.array(context, np.int64), (ARMS, 1)),
        np.arange(ARMS),
        np.full(ARMS, late),
        given,
        given * rates,
        FEATURES,
    )


def test_a_level_teaches_about_combos_never_sent() -> None:
    """Where a channel won in half of the combos, the other half of its combos gains too."""
    sent = LEVELS[:, 2] == 0
    wins = np.where(LEVELS[:, 1] == 1, 0.2, 0.02)
    cells = counts(wins)
    shown = Cells(
        cells.contexts[sent],
        cells.arms[sent],
        cells.postponed[sent],
        cells.trials[sent],
        cells.successes[sent],
        FEATURES,
    )

    shares = a_policy().fit(shown, 1).propensities((0, 0), EVERYBODY)

    gains, loses = (shares[~sent & (LEVELS[:, 1] == channel)].sum() for channel in (1, 0))
    assert gains > 3 * loses
    assert shares[LEVELS[:, 1] == 1].sum() > 0.9


def test_contexts_are_told_apart() -> None:
    """Where each region has its own best angle, each gets it."""
    here, there = (0, 0), (1, 0)
    first, second = (np.where(LEVELS[:, 2] == angle, 0.15, 0.02) for angle in (0, 1))
    cells = Cells.together([counts(first, context=here), counts(second, context=there)])

    model = a_policy(cross_scale=0.5).fit(cells, 1)

    for context, angle in ((here, 0), (there, 1)):
        shares = model.propensities(context, EVERYBODY)
        assert shares[LEVELS[:, 2] == angle].sum() > 0.9


@given(cells=st.builds(a_history, st.just(40), st.just(300), st.integers(0, 10**6)))
@settings(max_examples=10)
def test_a_context_never_seen_is_answered(cells: Cells) -> None:
    """A level without any counts gets a distribution, near that of contexts in general."""
    seen = cells.contexts[:, 0] != 2
    known = Cells(
        cells.contexts[seen],
        cells.arms[seen],
        cells.postponed[seen],
        cells.trials[seen],
        cells.successes[seen],
        FEATURES,
    )

    shares = a_policy().fit(known, 1).propensities((2, 1), EVERYBODY)

    assert shares.sum() == pytest.approx(1)
    assert shares.min() >= 0.05 / ARMS * (1 - 1e-12)


def test_postponed_has_a_delay_of_its_own() -> None:
    """What failed after the quiet hours is not held against the shortest delay (R8)."""
    in_time = counts(np.where(LEVELS[:, DELAY] == 0, 0.10, 0.03))
    late = counts(np.full(ARMS, 0.0), 4_000, late=True)

    model = a_policy().fit(Cells.together([in_time, late]), 1)

    in_time_shares = model.propensities((0, 0), EVERYBODY)
    assert in_time_shares[LEVELS[:, DELAY] == 0].sum() > 0.9


def test_postponed_messages_still_teach_the_other_dimensions() -> None:
    """An angle that wins after the quiet hours wins at other times too."""
    late = counts(np.where(LEVELS[:, 2] == 1, 0.2, 0.02), late=True)

    shares = a_policy().fit(late, 1).propensities((0, 0), EVERYBODY)

    assert shares[LEVELS[:, 2] == 1].sum() > 0.9


def test_after_the_quiet_hours_the_delay_in_the_key_does_not_matter() -> None:
    """Postponed, combos that differ by their delay alone are equal; one of each is eligible."""
    model = a_policy().fit(counts(np.where(LEVELS[:, DELAY] == 2, 0.2, 0.02)), 1)
    of_delay = [np.flatnonzero(LEVELS[:, DELAY] == delay).tolist() for delay in range(3)]

    shares = [model.propensities((0, 0), places, postponed=True) for places in of_delay]

    assert np.array_equal(shares[0], shares[1])
    assert np.array_equal(shares[0], shares[2])


def test_pairs_enter_when_the_evidence_is_for_them() -> None:
    """Without interactions the simpler model is kept; strong ones bring the pairs in."""
    alone = np.where(LEVELS[:, 1] == 1, 0.06, 0.03)
    crossed = np.where(LEVELS[:, 1] == LEVELS[:, 2], 0.10, 0.03)

    simple = a_policy().fit(counts(alone, 2_000), 1)
    paired = a_policy().fit(counts(crossed, 2_000), 1)

    assert (simple.design.pairs, paired.design.pairs) == (False, True)


def test_the_prior_centres_on_the_configured_rate_and_lean() -> None:
    """Before any data the intercept is the cohort's rate, and leaning levels lead."""
    lean = np.array([1.0, 8.0])
    belief = Belief(rate=0.3, leans=(np.ones(3), np.ones(2), lean, np.ones(1)))

    model = a_policy(belief).fit(Cells.none(FEATURES), 1)

    assert model.draws[:, 0].mean() == pytest.approx(np.log(0.3 / 0.7), abs=0.3)
    shares = model.propensities((0, 0), EVERYBODY)
    assert shares[LEVELS[:, 2] == 1].sum() > 0.9


def test_other_seeds_are_other_draws() -> None:
    """The seed decides about the draws, and the counts alone about where they scatter."""
    one, other = (a_policy().fit(counts(np.full(ARMS, 0.1)), seed) for seed in (1, 2))

    assert isinstance(one, FactorialModel)
    assert not np.array_equal(one.draws, other.draws)
    assert one.draws.mean(axis=0) == pytest.approx(other.draws.mean(axis=0), abs=0.3)
