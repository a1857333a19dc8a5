"""`experiment-engine simulate`, as a user runs it on a configuration of their own."""

import json
from pathlib import Path

import pytest
from tests.support.configuration import cohort, write_configuration
from tests.support.server import Command, Ended, run_command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a small configuration."""
    angles = ["urgency", "helpful", "curiosity"]
    leavers = cohort(delay=["2min", "1h"], angle=angles, prior={"rate": 0.2})
    write_configuration(
        tmp_path / "configuration",
        cohorts={"leavers": leavers},
    )
    return tmp_path


def simulate(folder: Path, *options: str) -> Ended:
    """Run the command in a folder."""
    environ = {"ENGINE_CONFIG": "configuration", "OPENBLAS_NUM_THREADS": "1"}
    return run_command(Command(["simulate", *options], folder, environ))


def test_it_tells_policies_apart(folder: Path) -> None:
    """In JSON: oracle before what learns before the even split, with errors over the seeds."""
    scale = ["--triggers", "2000", "--seeds", "3", "--context-levels", "2", "2", "1", "1"]
    options = ["--policy", "thompson", "--plot", "p.svg", "--json"]
    ended = simulate(folder, *scale, *options)
    assert ended.status == 0, ended.errors
    told = json.loads(ended.output)
    assert told["cohort"] == "leavers"
    assert told["seeds"] == [1, 2, 3]
    assert told["world"]["dimensions"] == [2, 1, 3, 1]
    assert told["world"]["mean_rate"] == 0.2
    assert told["world"]["assumes"]
    policies = told["policies"]
    assert list(policies) == ["even split", "epsilon_greedy", "thompson", "oracle"]
    for figure in policies.values():
        assert set(figure) == {
            "conversions",
            "to_even_split",
            "to_oracle",
            "to_epsilon_greedy",
            "regret_to_epsilon_greedy",
        }
        assert all(set(value) == {"mean", "standard_error"} for value in figure.values())
    conversions = {name: figure["conversions"]["mean"] for name, figure in policies.items()}
    assert conversions["even split"] < conversions["thompson"] < conversions["oracle"]
    assert conversions["even split"] < conversions["epsilon_greedy"] < conversions["oracle"]
    assert conversions["even split"] == pytest.approx(0.2 * 2_000, rel=0.1)
    assert (folder / "p.svg").read_text(encoding="utf-8").startswith("<svg")


def test_the_same_seed_gives_the_same_answer(folder: Path) -> None:
    """Also where the world drifts; the table is for people."""
    options = ["--triggers", "60", "--seeds", "1", "--seed", "7", "--drift", "slow"]
    first, second = (simulate(folder, *options) for _ in range(2))
    assert first.status == 0, first.errors
    assert first.output == second.output
    assert "seeds 7 to 7" in first.output
    assert "Assumes" in first.output


@pytest.mark.parametrize(
    ("options", "status", "told"),
    [
        (["--drift", "fast"], 2, "sudden"),
        (["--policy", "best"], 2, "factorial_thompson"),
        (["--triggers", "1"], 2, "20"),
        (["--plot", "p.png"], 2, ".svg"),
        (["--plot", "missing/p.svg"], 2, "no folder missing"),
        (["--plot", "taken.svg", "--triggers", "20", "--seeds", "1"], 1, "taken.svg"),
        (["--context-levels", "99", "1", "1", "1"], 2, "17"),
        (["--empty-context-levels"], 2, "Unknown option"),
        (["--cohort", "nobody"], 1, "leavers"),
    ],
)
def test_what_is_wrong_is_told(folder: Path, options: list[str], status: int, told: str) -> None:
    """Wrong use ends with 2 and says what is allowed; what cannot be found or written with 1."""
    (folder / "taken.svg").mkdir()
    ended = simulate(folder, *options)
    assert ended.status == status
    assert told in ended.errors + ended.output
    assert "Traceback" not in ended.errors


def test_a_single_combo_leaves_nothing_to_lose(tmp_path: Path) -> None:
    """No regret is told where none is possible, and the JSON stays valid."""
    only = cohort(delay=["2min"], angle=["urgency"], prior={"rate": 0.2})
    write_configuration(tmp_path / "configuration", cohorts={"leavers": only})
    scale = ["--triggers", "40", "--seeds", "2", "--plot", "p.svg"]
    ended = simulate(tmp_path, *scale, "--json")
    assert ended.status == 0, ended.errors
    policies = json.loads(ended.output, parse_constant=pytest.fail)["policies"]
    for figure in policies.values():
        assert figure["to_oracle"]["mean"] == 1.0
        assert figure["regret_to_epsilon_greedy"] == {"mean": None, "standard_error": None}
    assert "nan" not in (tmp_path / "p.svg").read_text(encoding="utf-8")
