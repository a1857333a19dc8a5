"""One draw from a distribution: exact, and the same whenever it is repeated."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from experiment_engine.domain.bandit.decision import PICK, SPREAD, Distribution, stream
from experiment_engine.domain.guardrails import Eligibility
from experiment_engine.domain.identifiers import DistributionId, SnapshotId

SEEDS = range(20_000)
SEED = st.integers(0, 2**63 - 1)

# Wrongly refused once in a million runs of one of these tests; the seeds are fixed, so never.
SURE = 1e-6


def a_distribution(*shares: float) -> Distribution:
    places = tuple(10 + 3 * place for place in range(len(shares)))  # not their own numbers
    eligibility = Eligibility(places, {})
    return Distribution.of(DistributionId("d"), SnapshotId("s"), eligibility, shares)


SHARES = st.lists(st.floats(1e-6, 1), min_size=1, max_size=60).map(
    lambda weights: [weight / sum(weights) for weight in weights]
)


@pytest.mark.parametrize(
    "shares",
    [
        (1.0,),
        (0.5, 0.5),
        (0.9, 0.05, 0.05),
        (0.8 + 0.2 / 48, *[0.2 / 48] * 47),
        tuple(1 / 96 for _ in range(96)),
        tuple(place / 210 for place in range(1, 21)),
    ],
)
def test_draws_follow_the_distribution(shares: tuple[float, ...]) -> None:
    """Over many seeds each combo comes up as often as its propensity says."""
    distribution = a_distribution(*shares)

    drawn = Counter(distribution.draw(seed)[0] for seed in SEEDS)

    observed = [drawn[place] for place in distribution.eligibility.eligible]
    if len(shares) > 1:
        expected = np.asarray(shares) / sum(shares) * len(SEEDS)
        assert stats.chisquare(observed, expected).pvalue > SURE
    assert sum(observed) == len(SEEDS)


@given(shares=SHARES, seed=SEED)
def test_a_draw_repeats(shares: list[float], seed: int) -> None:
    """The same seed draws the same combo with the same propensity, also from a copy."""
    assert a_distribution(*shares).draw(seed) == a_distribution(*shares).draw(seed)


@given(shares=SHARES, seed=SEED)
def test_the_logged_propensity_is_the_drawn_one(shares: list[float], seed: int) -> None:
    """What is logged is the probability of the combo that was drawn, unchanged."""
    distribution = a_distribution(*shares)

    place, propensity = distribution.draw(seed)

    assert propensity == shares[distribution.eligibility.eligible.index(place)]


@given(
    shares=st.lists(st.sampled_from([0.0, 0.25, 1.0, 1e-300]), min_size=1, max_size=8), seed=SEED
)
def test_what_has_no_chance_is_never_drawn(shares: list[float], seed: int) -> None:
    """A combo with propensity zero is not drawn, wherever it stands."""
    if sum(shares) > 0:
        assert a_distribution(*shares).draw(seed)[1] > 0


@given(seed=SEED, place=st.integers(0, 2**16 - 1))
def test_stream_is_a_chance(seed: int, place: int) -> None:
    """Every number of a stream lies in [0, 1) and is the same when it is asked for again."""
    number = stream(seed, place)

    assert 0 <= number < 1
    assert stream(seed, place) == number


@pytest.mark.parametrize("place", [PICK, SPREAD])
def test_stream_is_even(place: int) -> None:
    """Over seeds that follow each other, the numbers of a place are spread evenly."""
    numbers = [stream(seed, place) for seed in SEEDS]

    assert stats.kstest(numbers, "uniform").pvalue > SURE


def test_places_of_a_stream_are_independent() -> None:
    """What is picked says nothing about how it is spread, nor a seed about its neighbour."""
    picks = [stream(seed, PICK) for seed in SEEDS]
    spreads = [stream(seed, SPREAD) for seed in SEEDS]

    assert stats.spearmanr(picks, spreads).pvalue > SURE
    assert stats.spearmanr(*zip(*pairwise(picks), strict=True)).pvalue > SURE


def test_stream_values_do_not_change() -> None:
    """Old experiments can be drawn again: these values hold for every version."""
    fixed = [stream(0, PICK), stream(0, SPREAD), stream(2**63 - 1, PICK)]

    assert fixed == [0.3750577591034765, 0.7143839520406676, 0.733944128349719]
