"""What the comparison of policies rests on: paired regret, its error, and fair play."""

import numpy as np
import pytest
from benchmarks.learning import main
from benchmarks.learning.plain import Plain
from benchmarks.learning.regret import Row, ratio_of_sums, table
from benchmarks.learning.runs import play
from benchmarks.learning.world import ARMS, FEATURES, Floats, Integers, World, make


class Oracle:
    """Knows the rates, which nobody else does."""

    def __init__(self, world: World) -> None:
        self._rates = world.rates[0]

    def choose(self, contexts: Integers, rng: np.random.Generator) -> tuple[Integers, Floats]:
        arms = self._rates[np.ravel_multi_index(tuple(contexts.T), FEATURES)].argmax(axis=1)
        return arms, np.ones(len(arms))

    def update(
        self, contexts: Integers, arms: Integers, rewards: Floats, weights: Floats | None = None
    ) -> None:
        assert set(rewards.tolist()) <= {0.0, 1.0}


def test_who_knows_the_rates_regrets_nothing() -> None:
    """The oracle's regret is zero and it captures everything, late as early."""
    world = make("contextual", 7)

    run = play(world, Oracle(world), 2_000, 7)

    assert run.regret == pytest.approx(0)
    assert run.capture == pytest.approx(1)


def test_a_run_repeats_itself() -> None:
    """The same seed gives the same users, luck and choices."""
    first, again = (play(make("factorial", 3), Plain(3), 2_000, 3) for _ in range(2))

    assert first == again


def test_the_plain_design_leaves_a_fifth_to_chance() -> None:
    """Before any data every combo is alike; then the best raw rate has 80 % and its even part."""
    plain, rng = Plain(), np.random.default_rng(1)
    nobody = np.zeros((1, len(FEATURES)), np.int64)
    before = plain.choose(nobody, rng)[1]
    plain.update(nobody, np.array([5]), np.array([1.0]))

    arms, chances = plain.choose(np.repeat(nobody, 10_000, axis=0), rng)

    assert before == pytest.approx(1 / ARMS)
    assert set(chances[arms == 5]) == {0.8 + 0.2 / ARMS}
    assert (arms == 5).mean() == pytest.approx(0.8, abs=0.02)
    assert len(set(arms.tolist())) == ARMS


def test_the_error_of_a_ratio_is_that_of_repeated_trials() -> None:
    """The printed error agrees with the spread of the ratio over many sets of seeds."""
    rng = np.random.default_rng(1)
    found = []
    for _ in range(2_000):
        theirs = rng.normal(200, 40, 30)
        found.append(ratio_of_sums(0.7 * theirs + rng.normal(0, 20, 30), theirs))

    ratios, errors = np.array(found).T

    assert ratios.mean() == pytest.approx(0.7, abs=0.01)
    assert errors.mean() == pytest.approx(ratios.std(), rel=0.1)


def test_the_table_pairs_with_the_plain_design() -> None:
    """Every contender's regret is divided by the plain design's on the same seeds."""
    rows = [
        Row("factorial:2000", name, seed, regret, 0.5, 0.5, 1.0)
        for name, regrets in {"plain": (100, 200), "ours": (50, 100)}.items()
        for seed, regret in enumerate(regrets)
    ]

    lines = table("factorial:2000", rows, range(2))

    assert any(line.startswith("| ours | 0.50 ± 0.00 | 75 ± 25 |") for line in lines)


def test_the_command_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m benchmarks learning regret` runs what it is asked for."""
    options = ["regret", "--tracks", "factorial:2000", "--seeds", "1", "--contenders", "uniform"]

    assert main(options) == 0
    assert "| uniform | " in capsys.readouterr().out
