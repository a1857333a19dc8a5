"""What holds for every policy, whatever it was fitted to."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from tests.unit.domain.bandit.histories import (
    ARMS,
    CONTEXTS,
    DIMENSIONS,
    ELIGIBLE,
    FEATURES,
    a_history,
    histories,
    rows_of,
)

from experiment_engine.adapters.storage.rows import arrays_from_bytes, arrays_to_bytes
from experiment_engine.domain.bandit.arms import Arms, Belief
from experiment_engine.domain.bandit.cells import Cells
from experiment_engine.domain.bandit.context import Context
from experiment_engine.domain.bandit.policies import POLICIES
from experiment_engine.domain.bandit.policy import Policy

FLOORS = {
    "uniform": 1.0,
    "epsilon_greedy": 0.2,
    "thompson": 0.05,
    "factorial_thompson": 0.05,
}
SURE = 1e-6  # wrongly refused once in a million runs; the seeds are fixed, so never


def a_policy(name: str, **options: float) -> Policy:
    return POLICIES[name](Arms(DIMENSIONS), Belief(), options)


any_policy = pytest.mark.parametrize("name", POLICIES)
a_few = settings(max_examples=25)  # each fits a model


def test_every_policy_is_tried_here() -> None:
    """A policy that joins the table joins these tests."""
    assert set(FLOORS) == set(POLICIES)


@any_policy
@a_few
@given(
    cells=histories(), context=CONTEXTS, eligible=ELIGIBLE, late=st.booleans(), seed=st.integers(0)
)
def test_propensities_are_a_distribution_above_the_floor(
    *, name: str, cells: Cells, context: Context, eligible: list[int], late: bool, seed: int
) -> None:
    """For any history the eligible arms' chances sum to one, and none is below the floor."""
    model = a_policy(name).fit(cells, seed)

    shares = model.propensities(context, eligible, postponed=late)

    assert shares.shape == (len(eligible),)
    assert shares.sum() == pytest.approx(1, abs=1e-12)
    assert shares.min() >= FLOORS[name] / len(eligible) * (1 - 1e-12)


@any_policy
@a_few
@given(cells=histories(), context=CONTEXTS, eligible=ELIGIBLE, data=st.data())
def test_order_of_the_eligible_does_not_matter(
    name: str, cells: Cells, context: Context, eligible: list[int], data: st.DataObject
) -> None:
    """An arm's chance does not depend on its place in the list, to the last bit."""
    model = a_policy(name).fit(cells, 1)
    turned = data.draw(st.permutations(eligible))

    by_place = dict(zip(eligible, model.propensities(context, eligible), strict=True))
    by_turned = dict(zip(turned, model.propensities(context, turned), strict=True))

    assert by_place == by_turned


@any_policy
@a_few
@given(cells=histories(), eligible=ELIGIBLE, seed=st.integers(0, 10**6))
def test_order_and_number_of_rows_do_not_matter(
    name: str, cells: Cells, eligible: list[int], seed: int
) -> None:
    """Counts in any order, split into any batches, make the same model to the last bit."""
    rng = np.random.default_rng(seed)
    turned = rows_of(cells, rng.permutation(len(cells.arms)))
    first = rng.random(len(cells.arms)) < 0.5
    split = Cells.together([rows_of(cells, ~first), rows_of(cells, first)])

    models = [a_policy(name).fit(counts, 7) for counts in (cells, turned, split)]

    one, *others = (model.arrays() for model in models)
    for other in others:
        assert set(other) == set(one)
        assert all(np.array_equal(other[key], one[key]) for key in one)
    context = (2, 1)
    shares = [model.propensities(context, eligible) for model in models]
    assert all(np.array_equal(shares[0], other) for other in shares)


@any_policy
@a_few
@given(cells=histories(), seed=st.integers(0, 10**6))
def test_one_by_one_equals_at_once(name: str, cells: Cells, seed: int) -> None:
    """Whole counts that come in single batches make the model of their sums, to the last bit."""
    part = np.random.default_rng(seed).random(len(cells.arms))
    taken = np.floor(cells.successes * part), np.floor(cells.trials * part)
    some = Cells(cells.contexts, cells.arms, cells.postponed, taken[1], taken[0], FEATURES)
    trials, successes = np.floor(cells.trials) - taken[1], cells.successes - taken[0]
    rest = Cells(cells.contexts, cells.arms, cells.postponed, trials, successes, FEATURES)
    whole = Cells(
        cells.contexts,
        cells.arms,
        cells.postponed,
        np.floor(cells.trials),
        cells.successes,
        FEATURES,
    )

    at_once = a_policy(name).fit(whole, 7).arrays()
    in_batches = a_policy(name).fit(Cells.together([some, rest]), 7).arrays()

    assert all(np.array_equal(at_once[key], in_batches[key]) for key in at_once)


@any_policy
@a_few
@given(cells=histories(), context=CONTEXTS, eligible=ELIGIBLE, late=st.booleans())
def test_a_stored_model_is_the_same(
    *, name: str, cells: Cells, context: Context, eligible: list[int], late: bool
) -> None:
    """What is written to bytes and loaded gives the same probabilities, to the last bit."""
    policy = a_policy(name)
    model = policy.fit(cells, 3)

    loaded = policy.load(arrays_from_bytes(arrays_to_bytes(model.arrays())))

    assert np.array_equal(
        loaded.propensities(context, eligible, postponed=late),
        model.propensities(context, eligible, postponed=late),
    )


@any_policy
def test_draws_follow_the_propensities(name: str) -> None:
    """A hundred thousand choices come up as often as their probabilities say."""
    model = a_policy(name).fit(a_history(80, 300, 5), 1)
    shares = model.propensities((1, 1), range(ARMS))
    points = np.random.default_rng(11).random(100_000)

    drawn = np.bincount(np.searchsorted(shares.cumsum(), points), minlength=ARMS)

    assert stats.chisquare(drawn[:ARMS], shares * 100_000).pvalue > SURE


@pytest.mark.parametrize("name", ["thompson", "factorial_thompson"])
@given(floor=st.floats(0.001, 1))
@settings(max_examples=10)
def test_the_floor_is_an_option(name: str, floor: float) -> None:
    """Whatever floor is set, every eligible arm keeps its even part of it."""
    model = a_policy(name, floor=floor).fit(a_history(80, 1_000, 5), 1)

    shares = model.propensities((0, 0), [1, 4, 7])

    assert shares.min() >= floor / 3 * (1 - 1e-12)


@pytest.mark.parametrize("name", ["thompson", "factorial_thompson"])
def test_the_number_of_draws_is_an_option(name: str) -> None:
    """Without a floor, probabilities are whole numbers of draws."""
    model = a_policy(name, floor=0.0, draws=10).fit(a_history(80, 30, 5), 1)

    tenths = model.propensities((0, 0), range(ARMS)) * 10

    assert tenths == pytest.approx(tenths.round())
    assert tenths.max() < 10


@any_policy
def test_what_won_is_chosen_most(name: str) -> None:
    """After many trials the one arm that converts gets most of the choices."""
    trials = np.full(ARMS, 2_000.0)
    successes = np.full(ARMS, 20.0)
    successes[5] = 400
    nowhere = np.zeros((ARMS, len(FEATURES)), np.int64)
    late = np.zeros(ARMS, bool)
    cells = Cells(nowhere, np.arange(ARMS), late, trials, successes, FEATURES)

    shares = a_policy(name).fit(cells, 1).propensities((0, 0), range(ARMS))

    if name != "uniform":
        assert shares[5] >= 0.8


@any_policy
def test_what_was_postponed_counts_in_no_arms_rate(name: str) -> None:
    """Successes after the quiet hours say nothing about the delay that the key keeps (R8)."""
    rows = ARMS
    nowhere = np.zeros((rows, len(FEATURES)), np.int64)
    trials = np.full(rows, 500.0)
    successes = np.where(np.arange(rows) < 4, 250.0, 0.0)  # all that has the shortest delay
    late = np.ones(rows, bool)
    cells = Cells(nowhere, np.arange(rows), late, trials, successes, FEATURES)

    if name in {"thompson", "epsilon_greedy"}:
        model = a_policy(name).fit(cells, 1).arrays()
        nothing = a_policy(name).fit(Cells.none(FEATURES), 1).arrays()
        assert all(np.array_equal(model[key], nothing[key]) for key in model)
