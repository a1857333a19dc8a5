"""The one table from a policy's name to its class."""

from collections.abc import Callable, Mapping

from experiment_engine.domain.bandit.epsilon_greedy import EpsilonGreedy
from experiment_engine.domain.bandit.policy import Policy
from experiment_engine.domain.bandit.uniform import Uniform
from experiment_engine.domain.cohorts.cohort import Cohort

POLICIES: Mapping[str, Callable[[Cohort], Policy]] = {
    "epsilon_greedy": EpsilonGreedy,
    "uniform": Uniform,
}

OPTIONS: Mapping[str, Mapping[str, tuple[float, float]]] = {  # name -> option -> lowest, highest
    "epsilon_greedy": {"epsilon": (0.0, 1.0)},
    "uniform": {},
}


def build_policy(cohort: Cohort) -> Policy:
    """Return the policy that the cohort's configuration names."""
    return POLICIES[cohort.policy.name](cohort)
