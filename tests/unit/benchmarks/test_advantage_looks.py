"""The runs in which the advantage over an even split is looked at."""

import pytest
from benchmarks.learning.advantages import look
from benchmarks.learning.pages import share_with_error, with_error
from benchmarks.learning.world import make


def test_the_truth_is_what_the_policy_reached_and_repeats_with_the_seed() -> None:
    """Where messages do nothing there is no advantage; where they do, a policy finds some."""
    nothing = look(make("null", 1), "epsilon_greedy", 1)
    assert nothing.truth == pytest.approx(0.0, abs=1e-9)
    assert nothing == look(make("null", 1), "epsilon_greedy", 1)
    found = look(make("factorial", 1), "epsilon_greedy", 1)
    assert found.shown
    assert found.truth > 0.1


def test_figures_are_written_with_their_error() -> None:
    assert share_with_error([True, False, False, False]) == "25.0 ± 21.7"
    assert with_error([1.0, 2.0, 3.0], 2) == "2.00 ± 0.58"
