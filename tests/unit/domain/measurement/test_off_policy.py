"""Another policy's value from logged propensities: by definition, and on logs with a truth."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from experiment_engine.domain.measurement.confidence_sequence import half_width
from experiment_engine.domain.measurement.off_policy import (
    NotEnoughOverlap,
    WeightSums,
    advantage,
    doubly_robust,
    ips,
    overlap,
    snips,
)
from experiment_engine.domain.measurement.sums import total

Floats = NDArray[np.float64]

RATES = np.array([0.01, 0.02, 0.03, 0.06])  # of four arms
LOGGED = np.array([0.1, 0.1, 0.2, 0.6])  # the policy that wrote the log
EVEN = float(RATES.mean())


class Log(NamedTuple):
    """Weights for an even split, rewards, and the arms; shape (n,) or (runs, n)."""

    weights: Floats
    rewards: Floats
    arms: NDArray[np.int64]


def log(shape: int | tuple[int, int], rng: np.random.Generator) -> Log:
    arms = rng.choice(len(RATES), p=LOGGED, size=shape)
    rewards = (rng.random(shape) < RATES[arms]).astype(np.float64)
    return Log(1 / len(RATES) / LOGGED[arms], rewards, arms)


def first(number: int) -> Floats:
    """Return 10,000 rewards of which the first so many are conversions."""
    return np.asarray(np.arange(10_000) < number, dtype=np.float64)


rows = st.lists(
    st.tuples(st.floats(0.01, 50), st.sampled_from([0.0, 1.0])), min_size=2, max_size=60
)


@given(drawn=rows, cut=st.integers(0, 60))
def test_sums_add_over_batches(drawn: list[tuple[float, float]], cut: int) -> None:
    """A log that is added up in two batches gives the sums of the whole."""
    both = np.array(drawn)
    parts = [WeightSums.of(*part.T) for part in (both[:cut], both[cut:])]

    added = total(parts, WeightSums()).named("all")

    assert added == pytest.approx(WeightSums.of(*both.T).named("all"))
    assert WeightSums.read("all", added).named("all") == added


@given(drawn=rows)
def test_estimates_are_their_definitions(drawn: list[tuple[float, float]]) -> None:
    """What sums say is what the rows say: value, and the spread of each row's influence."""
    w, y = np.array(drawn).T
    sums, n = WeightSums.of(w, y), len(y)
    value = float((w * y).sum() / w.sum())
    influence = (y - y.mean()) - w * (y - value) / w.mean()

    assert ips(sums).value == pytest.approx((w * y).mean())
    assert snips(sums).value == pytest.approx(value)
    found = advantage(sums)
    assert found.value == pytest.approx(y.mean() - value, abs=1e-12)
    width = (found.interval.high - found.interval.low) / 2
    assert width == pytest.approx(half_width((influence**2).mean() / n, n), rel=1e-4, abs=1e-6)


def test_a_policy_has_no_advantage_over_itself() -> None:
    """Where every weight is one, nothing is left to chance: zero, and surely so."""
    rewards = np.array([0.0, 1.0] * 300)

    found = advantage(WeightSums.of(np.ones(600), rewards))

    assert found.value == 0
    assert found.interval.high - found.interval.low == pytest.approx(0, abs=1e-9)


def test_weights_are_right_on_average() -> None:
    """IPS, SNIPS and DR of 400 logs (seed 11) average to the even split's true rate."""
    rng = np.random.default_rng(11)
    logs = [log(2_000, rng) for _ in range(400)]
    wrong = np.full(2_000, 0.5)  # a model that knows nothing
    estimates = {
        "ips": [ips(WeightSums.of(w, y)).value for w, y, _ in logs],
        "snips": [snips(WeightSums.of(w, y)).value for w, y, _ in logs],
        "dr": [doubly_robust(w, y, wrong, wrong).value for w, y, _ in logs],
    }

    for values in estimates.values():
        error = np.std(values) / np.sqrt(len(values))
        assert abs(np.mean(values) - EVEN) < 4 * error


def test_a_good_model_narrows_the_interval() -> None:
    """Doubly robust with the true rates is surer than IPS, and as right."""
    w, y, arms = log(20_000, np.random.default_rng(12))

    found = doubly_robust(w, y, RATES[arms], np.full(len(y), EVEN))
    plain = ips(WeightSums.of(w, y))

    assert found.interval.low < EVEN < found.interval.high
    assert found.interval.high - found.interval.low < plain.interval.high - plain.interval.low


def test_the_advantage_is_covered_at_every_look() -> None:
    """In 95 % of 200 runs (seed 13), none of 40 looks' intervals leaves out the truth."""
    truth, covered = float(LOGGED @ RATES) - EVEN, 0
    w, y, _ = log((200, 20_000), np.random.default_rng(13))
    for weights, rewards in zip(w, y, strict=True):
        sums, always = WeightSums(), True
        for look in range(0, 20_000, 500):
            sums += WeightSums.of(weights[look : look + 500], rewards[look : look + 500])
            if overlap(sums) is None:
                interval = advantage(sums).interval
                always = always and interval.low <= truth <= interval.high
        covered += always
    assert covered >= 190


def test_it_says_what_is_missing() -> None:
    """Few rows that resemble the other policy are refused, and so are few conversions."""
    heavy = np.ones(10_000)
    heavy[0] = 5_000
    resembles_little = overlap(WeightSums.of(heavy, np.ones(10_000)))
    few = overlap(WeightSums.of(np.ones(10_000), first(19)))
    enough = overlap(WeightSums.of(np.ones(10_000), first(20)))

    assert isinstance(resembles_little, NotEnoughOverlap)
    assert "messages" in resembles_little.reason
    assert isinstance(few, NotEnoughOverlap)
    assert "19 conversions" in few.reason
    assert enough is None
    assert overlap(WeightSums()) is not None
