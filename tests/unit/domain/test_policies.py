"""Which probability each combo gets, for any history and any eligible set."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from tests.support.builders import a_cohort

from experiment_engine.domain.bandit.cells import Cells
from experiment_engine.domain.bandit.epsilon_greedy import EpsilonGreedy
from experiment_engine.domain.bandit.policies import OPTIONS, POLICIES, build_policy
from experiment_engine.domain.bandit.statistics import Floats, Statistics
from experiment_engine.domain.cohorts.cohort import Cohort, Prior

SIZE = 12  # 3 delays, 2 channels, 2 angles
NO_PRIOR = Prior(rate=0.02, weight=60.0)


def cohort(policy: str = "epsilon_greedy", *, prior: Prior = NO_PRIOR, **options: float) -> Cohort:
    return a_cohort(
        delays=("2min", "15min", "1h"),
        channels=("push", "whatsapp"),
        policy=policy,
        options=options,
        prior=prior,
    )


def counted(successes: ArrayLike, trials: ArrayLike) -> Statistics:
    return Statistics(np.asarray(trials, float), np.asarray(successes, float))


def nothing_known() -> Statistics:
    return Statistics.none(SIZE)


def a_history(largest: int, seed: int) -> Statistics:
    generator = np.random.default_rng(seed)
    trials = generator.integers(0, largest + 1, SIZE)
    return counted(generator.binomial(trials, generator.random()), trials)


def histories() -> st.SearchStrategy[Statistics]:
    """Draw sums that can arise: no more successes than trials, from none to millions."""
    return st.builds(a_history, st.sampled_from([0, 1, 10, 10_000, 10**7]), st.integers(0, 10**6))


ELIGIBLE = st.lists(st.integers(0, SIZE - 1), min_size=1, max_size=SIZE, unique=True).map(sorted)
EPSILONS = st.floats(0, 1) | st.sampled_from([0.0, 0.2, 1.0])
LEANS = st.dictionaries(
    st.sampled_from(["urgency", "scarcity"]), st.floats(0.01, 1_000), max_size=2
).map(lambda angles: {"angle": angles})
PRIORS = st.builds(Prior, rate=st.floats(1e-6, 1 - 1e-6), weight=st.floats(1e-6, 1e9), lean=LEANS)


def chances_of(cohort: Cohort, statistics: Statistics, eligible: Sequence[int]) -> Floats:
    return build_policy(cohort).fit(Cells.of(statistics), seed=1).propensities((), eligible)


def shares(policy: str, statistics: Statistics, eligible: Sequence[int]) -> Floats:
    return chances_of(cohort(policy), statistics, eligible)


def greedy(cohort: Cohort) -> EpsilonGreedy:
    policy = build_policy(cohort)
    assert isinstance(policy, EpsilonGreedy)
    return policy


@pytest.mark.parametrize("policy", POLICIES)
@given(statistics=histories(), eligible=ELIGIBLE, prior=PRIORS)
def test_any_policy_gives_a_distribution(
    policy: str, statistics: Statistics, eligible: list[int], prior: Prior
) -> None:
    """Whatever is known and eligible, each eligible combo gets a chance and they sum to one."""
    chances = chances_of(cohort(policy, prior=prior), statistics, eligible)

    assert chances.shape == (len(eligible),)
    assert np.isfinite(chances).all()
    assert (chances > 0).all()
    assert (chances <= 1).all()
    assert chances.sum() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_has_its_options_listed(policy: str) -> None:
    """What the configuration may say about a policy is known for every policy."""
    assert policy in OPTIONS


@pytest.mark.parametrize("policy", POLICIES)
@given(statistics=histories(), eligible=ELIGIBLE)
def test_any_policy_repeats_itself(
    policy: str, statistics: Statistics, eligible: list[int]
) -> None:
    """The same statistics give the same probabilities, and asking changes nothing."""
    trials, successes = statistics.trials.copy(), statistics.successes.copy()

    first = shares(policy, statistics, eligible)
    again = shares(policy, statistics, eligible)

    assert np.array_equal(first, again)
    assert np.array_equal(statistics.trials, trials)
    assert np.array_equal(statistics.successes, successes)


@pytest.mark.parametrize("policy", POLICIES)
@given(statistics=histories(), eligible=ELIGIBLE, data=st.data())
def test_order_of_the_eligible_does_not_matter(
    policy: str, statistics: Statistics, eligible: list[int], data: st.DataObject
) -> None:
    """A combo's probability does not depend on its place in the list."""
    turned = data.draw(st.permutations(eligible))

    by_place = dict(zip(eligible, shares(policy, statistics, eligible), strict=True))
    by_turned = dict(zip(turned, shares(policy, statistics, turned), strict=True))

    assert by_place == pytest.approx(by_turned)


@given(statistics=histories(), eligible=ELIGIBLE)
def test_uniform_is_even(statistics: Statistics, eligible: list[int]) -> None:
    """The even split gives every eligible combo the same, whatever is known."""
    assert set(shares("uniform", statistics, eligible)) == {1 / len(eligible)}


@given(statistics=histories(), eligible=ELIGIBLE, epsilon=EPSILONS)
@example(statistics=nothing_known(), eligible=[3], epsilon=0.0)
def test_epsilon_is_a_floor(statistics: Statistics, eligible: list[int], epsilon: float) -> None:
    """Every eligible combo keeps its even part of epsilon."""
    chances = chances_of(cohort(epsilon=epsilon), statistics, eligible)

    assert chances.min() >= epsilon / len(eligible) * (1 - 1e-12)


@given(statistics=histories(), eligible=ELIGIBLE, epsilon=EPSILONS)
def test_the_rest_goes_to_the_best(
    statistics: Statistics, eligible: list[int], epsilon: float
) -> None:
    """What epsilon leaves is shared evenly by the eligible combos with the best smoothed rate."""
    policy = greedy(cohort(epsilon=epsilon))
    rates = policy.rates(statistics)[eligible]

    chances = chances_of(cohort(epsilon=epsilon), statistics, eligible)

    best = [place for place, rate in enumerate(rates) if rate >= rates.max() * (1 - 1e-12)]
    floor, part = epsilon / len(eligible), (1 - epsilon) / len(best)
    expected = [floor + (part if place in best else 0) for place in range(len(eligible))]
    assert chances == pytest.approx(expected, abs=1e-12)


@given(successes=st.integers(0, 50), trials=st.integers(50, 1_000), eligible=ELIGIBLE)
def test_ties_share_evenly(successes: int, trials: int, eligible: list[int]) -> None:
    """Combos with the same record have the same probability: none wins by its place."""
    alike = counted([successes] * SIZE, [trials] * SIZE)

    assert shares("epsilon_greedy", alike, eligible) == pytest.approx(1 / len(eligible))


def test_two_of_three_tie() -> None:
    """Two best combos share the best's part, and the third keeps its floor."""
    statistics = counted([30, 30, 1] + [0] * 9, [300, 300, 300] + [300] * 9)

    assert list(shares("epsilon_greedy", statistics, [0, 1, 2])) == pytest.approx(
        [0.4 + 0.2 / 3, 0.4 + 0.2 / 3, 0.2 / 3]
    )


@given(statistics=histories(), eligible=ELIGIBLE)
def test_what_is_not_eligible_does_not_win(statistics: Statistics, eligible: list[int]) -> None:
    """The best of the eligible leads even where a better combo is not eligible."""
    best_elsewhere = Statistics(statistics.trials.copy(), statistics.successes.copy())
    outside = [place for place in range(SIZE) if place not in eligible]
    best_elsewhere.trials[outside] += 10_000
    best_elsewhere.successes[outside] += 10_000
    policy = greedy(cohort())

    chances = chances_of(cohort(), best_elsewhere, eligible)

    leader = eligible[int(chances.argmax())]
    assert policy.rates(best_elsewhere)[leader] == pytest.approx(
        policy.rates(best_elsewhere)[eligible].max()
    )
    assert chances.max() >= 0.8 / len(eligible)


def test_one_lucky_send_does_not_lead() -> None:
    """One success in one send does not overtake a combo that has proved itself."""
    proven = counted([1, 100] + [0] * 10, [1, 1_000] + [200] * 10)

    chances = shares("epsilon_greedy", proven, range(SIZE))

    assert chances.argmax() == 1


def test_the_unseen_is_not_worthless() -> None:
    """A combo never sent stands at the cohort's mean, before one that did worse than that."""
    statistics = counted([0] + [0] + [10] * 10, [0] + [5_000] + [1_000] * 10)
    rates = greedy(cohort()).rates(statistics)

    assert rates[0] > rates[1]
    assert rates[0] == pytest.approx((100 + 60 * 0.02) / (15_000 + 60), rel=1e-9)


def test_the_unseen_leads_where_all_else_did_worse_than_the_mean() -> None:
    """With one combo at zero after many sends, the combos never sent share the lead."""
    statistics = counted([0] * SIZE, [400] + [0] * 11)

    chances = shares("epsilon_greedy", statistics, range(SIZE))

    assert chances[0] == pytest.approx(0.2 / SIZE)
    assert chances[1:] == pytest.approx(0.8 / 11 + 0.2 / SIZE)


def test_the_lean_leads_until_data_say_otherwise() -> None:
    """Before any data the default strategy's combos share the lead; results overrule it."""
    leaning = cohort(prior=Prior(lean={"angle": {"scarcity": 1.3}}))
    scarce = [combo.index for combo in leaning.space.combos if combo.angle == "scarcity"]
    urgent = [combo.index for combo in leaning.space.combos if combo.angle == "urgency"]

    at_first = chances_of(leaning, nothing_known(), range(SIZE))
    shown = nothing_known()
    shown.trials[:] = 2_000
    shown.successes[scarce], shown.successes[urgent] = 20, 60
    later = chances_of(leaning, shown, range(SIZE))

    assert at_first[scarce] == pytest.approx(0.8 / 6 + 0.2 / SIZE)
    assert at_first[urgent] == pytest.approx(0.2 / SIZE)
    assert later[urgent] == pytest.approx(0.8 / 6 + 0.2 / SIZE)


def test_leans_of_two_dimensions_multiply() -> None:
    """A combo that leans by its channel and by its angle leads before one that leans by one."""
    leaning = cohort(prior=Prior(lean={"angle": {"scarcity": 1.3}, "channel": {"push": 1.2}}))

    rates = greedy(leaning).rates(nothing_known())

    by_key = {str(combo.key): rates[combo.index] for combo in leaning.space.combos}
    assert by_key["2min|push|scarcity|none"] == pytest.approx(0.02 * 1.3 * 1.2)
    assert by_key["2min|whatsapp|scarcity|none"] == pytest.approx(0.02 * 1.3)
    assert by_key["2min|push|urgency|none"] == pytest.approx(0.02 * 1.2)


@given(statistics=histories(), weight=st.floats(0.1, 1e6))
def test_smoothed_rates_lie_between_record_and_mean(statistics: Statistics, weight: float) -> None:
    """Without a lean every rate lies between what the combo showed and the cohort's mean."""
    rates = greedy(cohort(prior=Prior(weight=weight))).rates(statistics)

    pooled = (statistics.successes.sum() + weight * 0.02) / (statistics.trials.sum() + weight)
    for rate, tried, won in zip(rates, statistics.trials, statistics.successes, strict=True):
        own = won / tried if tried else pooled
        assert min(own, pooled) - 1e-12 <= rate <= max(own, pooled) + 1e-12


@given(one=histories(), other=histories())
def test_statistics_add(one: Statistics, other: Statistics) -> None:
    """Sums of two processes are the sum, in either order."""
    both, turned = one + other, other + one

    assert np.array_equal(both.trials, one.trials + other.trials)
    assert np.array_equal(both.trials, turned.trials)
    assert np.array_equal(both.successes, turned.successes)
