"""The one table from a policy's name to its class."""

from collections.abc import Callable, Mapping

from experiment_engine.domain.bandit.arms import Arms, Belief
from experiment_engine.domain.bandit.epsilon_greedy import EpsilonGreedy
from experiment_engine.domain.bandit.factorial_thompson import FactorialThompson
from experiment_engine.domain.bandit.policy import Policy
from experiment_engine.domain.bandit.thompson import Thompson
from experiment_engine.domain.bandit.uniform import Uniform
from experiment_engine.domain.cohorts.cohort import Cohort

Options = Mapping[str, float]

POLICIES: Mapping[str, Callable[[Arms, Belief, Options], Policy]] = {
    "epsilon_greedy": EpsilonGreedy,
    "factorial_thompson": FactorialThompson,
    "thompson": Thompson,
    "uniform": Uniform,
}

_DRAWN = {"floor": (0.0, 1.0), "posterior_scale": (0.05, 2.0)}

OPTIONS: Mapping[str, Mapping[str, tuple[float, float]]] = {  # name -> option -> lowest, highest
    "epsilon_greedy": {"epsilon": (0.0, 1.0)},
    "factorial_thompson": {
        **_DRAWN,
        "main_scale": (0.01, 5.0),
        "pair_scale": (0.01, 5.0),
        "context_scale": (0.01, 5.0),
        "cross_scale": (0.01, 5.0),
    },
    "thompson": _DRAWN,
    "uniform": {},
}


def build_policy(cohort: Cohort) -> Policy:
    """Return the policy that the cohort's configuration names."""
    policy = POLICIES[cohort.policy.name]
    return policy(Arms.of(cohort.space), Belief.of(cohort), cohort.policy.options)
