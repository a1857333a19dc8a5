"""The replay of a randomised mailing, on a mailing made for the test."""

from pathlib import Path

import numpy as np
import pytest
from benchmarks.learning import datasets, hillstrom
from benchmarks.learning.hillstrom import POLICIES, Mailing, best_fixed, replay

ROWS = 9_000


@pytest.fixture(scope="module")
def mailing() -> Mailing:
    """Campaign 1 brings 40 %, the others 5 %; three kinds of people, all alike."""
    rng = np.random.default_rng(1)
    arms = rng.integers(3, size=ROWS)
    visits = (rng.random(ROWS) < np.array([0.05, 0.4, 0.05])[arms]).astype(np.float64)
    return Mailing(rng.integers(3, size=(ROWS, 1)), arms, visits)


def test_an_even_split_meets_the_mean_of_the_log_in_a_third_of_it(mailing: Mailing) -> None:
    told = replay(mailing, POLICIES["uniform"](mailing, 2), 2)
    assert told.accepted == pytest.approx(ROWS / 3, rel=0.06)
    assert told.rate == pytest.approx(100 * mailing.visits.mean(), abs=2.0)


@pytest.mark.parametrize("name", [name for name in POLICIES if name != "uniform"])
def test_what_learns_finds_the_campaign_that_works(mailing: Mailing, name: str) -> None:
    told = replay(mailing, POLICIES[name](mailing, 3), 3)
    assert 30 < told.rate < best_fixed(mailing) + 2
    assert told == replay(mailing, POLICIES[name](mailing, 3), 3)


def test_a_missing_data_set_is_said_in_one_line_with_its_source(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert hillstrom.main(["--data", str(tmp_path)]) == 0
    (line,) = capsys.readouterr().out.strip().splitlines()
    assert "hillstrom.csv.gz" in line
    assert datasets.VARIABLE in line
    assert "MineThatData" in line
