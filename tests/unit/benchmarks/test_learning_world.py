"""The worlds of the learning benchmark are what their description says."""

import numpy as np
import pytest
from benchmarks.learning.plain import Plain
from benchmarks.learning.runs import Run, play
from benchmarks.learning.world import ARMS, CONTEXTS, FEATURES, Floats, Integers, World, make

KINDS = ("factorial", "contextual", "unstructured", "drift", "shock", "null")


class Even:
    """The even split."""

    def choose(self, contexts: Integers, rng: np.random.Generator) -> tuple[Integers, Floats]:
        return rng.integers(ARMS, size=len(contexts)), np.full(len(contexts), 1 / ARMS)

    def update(
        self, contexts: Integers, arms: Integers, rewards: Floats, weights: Floats | None = None
    ) -> None:
        pass


class Oracle(Even):
    """Knows the truth of a world that stays as it is."""

    def __init__(self, world: World) -> None:
        self._best = world.rates[0].argmax(axis=1)

    def choose(self, contexts: Integers, rng: np.random.Generator) -> tuple[Integers, Floats]:
        cells = np.ravel_multi_index(tuple(contexts.T), FEATURES)
        return self._best[cells], np.ones(len(contexts))


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_makes_the_same_world_again(kind: str) -> None:
    one, same, other = (make(kind, seed) for seed in (1, 1, 2))
    assert np.array_equal(one.rates, same.rates)
    assert np.array_equal(one.shares, same.shares)
    assert not np.array_equal(one.rates, other.rates)


@pytest.mark.parametrize("kind", KINDS)
def test_an_even_split_converts_one_two_or_three_percent_at_all_times(kind: str) -> None:
    for seed in range(3):
        world = make(kind, seed)
        means = [world.shares @ rates.mean(axis=1) for rates in world.rates]
        assert round(float(means[0]), 6) in {0.01, 0.02, 0.03}
        assert means == pytest.approx([means[0]] * len(means))


def test_the_oracle_is_worth_learning_for() -> None:
    """About three times an even split, and more where the context decides."""
    factorial, contextual, null = (
        np.mean([_oracle_to_even(make(kind, seed)) for seed in range(8)])
        for kind in ("factorial", "contextual", "null")
    )
    assert 2.4 < factorial < 4.5
    assert contextual > factorial + 0.5
    assert null == pytest.approx(1.0)


def test_unstructured_arms_differ_by_themselves_and_alike_for_everybody() -> None:
    rates = make("unstructured", 4).rates[0]
    assert np.ptp(rates, axis=0).max() < 1e-12
    assert np.std(np.log(rates[0] / (1 - rates[0]))) == pytest.approx(0.45, rel=0.2)


def test_a_shock_draws_everything_anew_and_drift_goes_in_steps() -> None:
    shock, drift = make("shock", 5), make("drift", 5)
    assert (len(shock.rates), len(drift.rates)) == (2, 20)
    assert abs(_correlation(shock.rates[0], shock.rates[1])) < 0.6
    steps = zip(drift.rates, drift.rates[1:], strict=False)
    assert np.mean([_correlation(*step) for step in steps]) == pytest.approx(0.9, abs=0.06)


def test_rates_change_when_their_time_has_come() -> None:
    world = make("shock", 6)
    contexts = np.stack(np.unravel_index(np.arange(CONTEXTS), FEATURES), axis=1)
    for progress, stretch in ((0.0, 0), (0.499, 0), (0.5, 1), (1.0, 1)):
        assert np.array_equal(world.rates_of(contexts, progress), world.rates[stretch])


def test_users_come_as_often_as_their_share_says() -> None:
    world = make("factorial", 7)
    contexts = world.contexts(200_000, np.random.default_rng(8))
    counts = np.bincount(np.ravel_multi_index(tuple(contexts.T), FEATURES), minlength=CONTEXTS)
    assert counts / 200_000 == pytest.approx(world.shares, abs=0.005)


def test_the_plain_design_lies_between_an_even_split_and_the_oracle() -> None:
    worlds = {seed: make("factorial", seed) for seed in range(3)}
    plain = [play(world, Plain(seed), 10_000, seed) for seed, world in worlds.items()]
    even = [play(world, Even(), 10_000, seed) for seed, world in worlds.items()]
    assert [run.oracle for run in plain] == [run.oracle for run in even]  # the same users
    assert 0 < sum(run.regret for run in plain) < sum(run.regret for run in even)
    assert max(abs(run.capture) for run in even) < 0.05


def test_a_policy_that_knows_the_truth_has_no_regret() -> None:
    world = make("contextual", 9)
    known: Run = play(world, Oracle(world), 2_000, 9)
    assert known.regret == pytest.approx(0.0, abs=1e-9)
    assert known.capture == pytest.approx(1.0)


def test_the_plain_design_takes_the_best_raw_rate_and_breaks_ties_at_random() -> None:
    """Three arms of equal rate share 80 %; whatever was never tried gets its part of 20 %."""
    plain = Plain(1)
    arms = np.array([0, 0, 1, 1, 2, 2, 3])
    plain.update(np.zeros((7, 0), np.int64), arms, np.array([1.0, 0, 1, 0, 0, 1, 0]))
    drawn, shares = plain.choose(np.zeros((200_000, 0), np.int64), np.random.default_rng(7))
    expected = np.full(ARMS, 0.2 / ARMS)
    expected[:3] += 0.8 / 3
    assert np.bincount(drawn, minlength=ARMS) / 200_000 == pytest.approx(expected, abs=0.005)
    assert shares == pytest.approx(expected[drawn])


def _oracle_to_even(world: World) -> float:
    rates = world.rates[0]
    return float(world.shares @ rates.max(axis=1) / (world.shares @ rates.mean(axis=1)))


def _correlation(one: Floats, other: Floats) -> float:
    return float(np.corrcoef(np.log(one).ravel(), np.log(other).ravel())[0, 1])
