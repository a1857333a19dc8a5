"""The public interface: `policies.build`."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from scipy import stats

from experiment_engine.domain.bandit.arms import Arms, Belief
from experiment_engine.domain.bandit.learner import Learner, seed_of
from experiment_engine.domain.bandit.policies import POLICIES, build
from experiment_engine.domain.bandit.statistics import Floats, Integers

DIMENSIONS, FEATURES, ARMS = (2, 2, 3, 1), (3, 2), 12
SURE = 1e-6

any_policy = pytest.mark.parametrize("name", POLICIES)
a_few = settings(max_examples=20)

History = tuple[Integers, Integers, Floats]


def a_history(number: int, seed: int) -> History:
    rng = np.random.default_rng(seed)
    contexts = np.stack([rng.integers(0, size, number) for size in FEATURES], axis=1)
    arms = rng.integers(0, ARMS, number)
    return contexts, arms, (rng.random(number) < 0.1 + 0.3 * (arms == 4)).astype(float)


def learner(name: str, history: History | None = None, **options: float) -> Learner:
    made = build(name, DIMENSIONS, FEATURES, **options)
    if history is not None:
        made.update(*history)
    return made


EVERY_CONTEXT = np.stack(np.unravel_index(np.arange(6), FEATURES), axis=1)
HISTORIES = st.builds(a_history, st.sampled_from([0, 1, 40, 2_000]), st.integers(0, 10**6))


@any_policy
@a_few
@given(history=HISTORIES)
def test_propensities_of_a_batch(name: str, history: History) -> None:
    """Every context of a batch gets a distribution over all arms, each arm above nothing."""
    shares = learner(name, history).propensities(EVERY_CONTEXT)

    assert shares.shape == (6, ARMS)
    assert shares.sum(axis=1) == pytest.approx(1, abs=1e-12)
    assert (shares > 0).all()


@any_policy
@a_few
@given(history=HISTORIES, cuts=st.lists(st.integers(0, 2_000), max_size=4), seed=st.integers(0))
def test_batches_and_order_do_not_matter(
    name: str, history: History, cuts: list[int], seed: int
) -> None:
    """Trials in any order and any batches lead to the same probabilities, to the last bit."""
    order = np.random.default_rng(seed).permutation(len(history[1]))
    in_batches = learner(name)
    for places in np.split(order, sorted(min(cut, len(order)) for cut in cuts)):
        in_batches.update(*(column[places] for column in history))

    at_once = learner(name, history)

    assert np.array_equal(
        in_batches.propensities(EVERY_CONTEXT), at_once.propensities(EVERY_CONTEXT)
    )


@any_policy
def test_a_context_has_the_same_chances_in_every_batch(name: str) -> None:
    """What a context gets does not depend on who else is asked about."""
    made = learner(name, a_history(2_000, 1))

    alone = made.propensities(EVERY_CONTEXT[3:4])
    repeated = made.propensities(EVERY_CONTEXT[[3, 0, 3, 5]])

    assert np.array_equal(alone[0], repeated[0])
    assert np.array_equal(alone[0], repeated[2])


@any_policy
def test_choices_carry_their_probability(name: str) -> None:
    """Arms are drawn as often as their probabilities say, which are returned with them."""
    made = learner(name, a_history(2_000, 2))
    context = np.tile([[1, 0]], (100_000, 1))

    arms, chances = made.choose(context, np.random.default_rng(3))

    (shares,) = made.propensities([[1, 0]])
    assert np.array_equal(chances, shares[arms])
    drawn = np.bincount(arms, minlength=ARMS)
    assert stats.chisquare(drawn, shares * 100_000).pvalue > SURE


@any_policy
def test_weights_count_trials(name: str) -> None:
    """A trial with weight three counts as three, and a negative weight takes back."""
    contexts, arms, rewards = a_history(300, 4)
    thrice = learner(name, (contexts, arms, rewards))
    for _ in range(2):
        thrice.update(contexts, arms, rewards)
    weighed = learner(name)
    weighed.update(contexts, arms, rewards, np.full(300, 4.0))
    weighed.update(contexts, arms, rewards, np.full(300, -1.0))

    assert np.array_equal(thrice.propensities(EVERY_CONTEXT), weighed.propensities(EVERY_CONTEXT))


@any_policy
def test_it_works_without_a_context(name: str) -> None:
    """Without features, contexts have no columns."""
    made = build(name, DIMENSIONS)
    nobody = np.zeros((4, 0), np.int64)
    made.update(nobody, [0, 1, 2, 2], [0, 1, 0, 1])

    arms, chances = made.choose(nobody, np.random.default_rng(1))

    assert arms.shape == chances.shape == (4,)
    assert made.propensities(nobody).shape == (4, ARMS)


@any_policy
def test_an_empty_batch_changes_nothing(name: str) -> None:
    """A batch may be empty, in every call."""
    made = learner(name, a_history(200, 5))
    nobody = np.zeros((0, 2), np.int64)
    before = made.propensities(EVERY_CONTEXT)

    made.update(nobody, [], [])

    assert made.propensities(nobody).shape == (0, ARMS)
    assert made.choose(nobody, np.random.default_rng(1))[0].shape == (0,)
    assert np.array_equal(made.propensities(EVERY_CONTEXT), before)


def test_a_seed_repeats_a_run() -> None:
    """The same seed and history give the same probabilities, another seed other draws."""
    history = a_history(60, 6)
    one, same, other = (learner("thompson", history, seed=seed) for seed in (1, 1, 2))

    shares = one.propensities(EVERY_CONTEXT)
    assert np.array_equal(shares, same.propensities(EVERY_CONTEXT))
    assert not np.array_equal(shares, other.propensities(EVERY_CONTEXT))


def test_it_is_fitted_anew_when_the_counts_have_grown() -> None:
    """Below the share that `growth` says the old fit stands, above it the next call fits anew."""
    made = learner("epsilon_greedy", a_history(1_000, 7), growth=0.1)
    before = made.propensities(EVERY_CONTEXT)

    made.update(np.zeros((99, 2), np.int64), np.zeros(99, np.int64), np.ones(99))
    still = made.propensities(EVERY_CONTEXT)
    made.update(np.zeros((2, 2), np.int64), np.zeros(2, np.int64), np.ones(2))
    after = made.propensities(EVERY_CONTEXT)

    assert np.array_equal(still, before)
    assert after[0, 0] > 0.8


@pytest.mark.parametrize("name", ["thompson", "factorial_thompson"])
def test_it_agrees_with_the_policy(name: str) -> None:
    """The learner is the engine's own policy on the learner's counts."""
    made = learner(name, a_history(2_000, 8), floor=0.1)

    cells = made.cells()
    policy = POLICIES[name](Arms(DIMENSIONS), Belief(), {"floor": 0.1})
    model = policy.fit(cells, seed_of(cells, 0))

    context = (2, 1) if name == "factorial_thompson" else ()
    shares = made.propensities([[2, 1]])[0]
    assert np.array_equal(shares, model.propensities(context, range(ARMS)))


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("thomson", {}, "factorial_thompson"),
        ("uniform", {"floor": 0.1}, "growth"),
        ("thompson", {"floor": 1.5}, "0.0 to 1.0"),
        ("thompson", {"rate": 0.0}, "out of range"),
        ("thompson", {"growth": -1.0}, "growth"),
    ],
)
def test_a_mistake_names_what_is_allowed(name: str, options: dict[str, float], told: str) -> None:
    """An unknown policy or option, or a value out of its range, is refused with what is known."""
    with pytest.raises(ValueError, match=told):
        build(name, DIMENSIONS, FEATURES, **options)


@pytest.mark.parametrize("contexts", [[[3, 0]], [[-1, 0]], [[0]], [0]])
def test_a_context_that_there_is_not_is_refused(contexts: ArrayLike) -> None:
    """A policy that looks at the context refuses levels that were not announced."""
    made = learner("factorial_thompson", a_history(200, 9))

    with pytest.raises(ValueError, match="context"):
        made.update(contexts, [0], [1])
    with pytest.raises(ValueError, match="context"):
        made.propensities(contexts)


@pytest.mark.parametrize("contexts", [np.zeros((5, 0)), np.full((5, 7), 99)])
def test_a_policy_without_context_takes_any(contexts: Floats) -> None:
    """What a policy does not look at need not fit, so that policies are easy to compare."""
    assert learner("thompson").propensities(contexts).shape == (5, ARMS)


@pytest.mark.parametrize(
    ("arms", "rewards"), [([12], [1]), ([-1], [1]), ([0, 1], [1, 0]), ([0], [1, 0])]
)
@any_policy
def test_a_batch_that_does_not_fit_is_refused(
    name: str, arms: list[int], rewards: list[float]
) -> None:
    """Arms that there are not, and columns of other lengths, change nothing."""
    made = learner(name, a_history(200, 9))
    before = made.propensities(EVERY_CONTEXT)

    with pytest.raises(ValueError, match="arms"):
        made.update([[0, 0]], arms, rewards)

    assert np.array_equal(made.propensities(EVERY_CONTEXT), before)
