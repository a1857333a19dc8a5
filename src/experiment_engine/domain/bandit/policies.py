"""The one table from a policy's name to its class."""

from collections.abc import Callable, Mapping, Sequence

from experiment_engine.domain.bandit.arms import Arms, Belief
from experiment_engine.domain.bandit.epsilon_greedy import EpsilonGreedy
from experiment_engine.domain.bandit.factorial_thompson import FactorialThompson
from experiment_engine.domain.bandit.learner import GROWTH, Learner
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

_DRAWN = {"floor": (0.0, 1.0), "posterior_scale": (0.05, 2.0), "draws": (8.0, 1_000.0)}

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

_OF_LEARNERS = {
    "rate": (1e-6, 1 - 1e-6),
    "weight": (1e-6, 1e9),
    "seed": (0, 2**63 - 1),
    "growth": (0.0, 1e9),
}


MAX_SHIFT = "max_shift"  # in an hour of a running engine; of no meaning to a learner by itself

CONFIGURED: Mapping[str, Mapping[str, tuple[float, float]]] = {
    name: {**options, MAX_SHIFT: (0.001, 1.0)} for name, options in OPTIONS.items()
}

_MOST_SHIFT = {"thompson": 0.2, "factorial_thompson": 0.2}


def most_shift(cohort: Cohort) -> float:
    """Return how far a combo's share of the traffic may move in an hour; 1: as far as it likes."""
    usual = _MOST_SHIFT.get(cohort.policy.name, 1.0)
    return cohort.policy.options.get(MAX_SHIFT, usual)


def build_policy(cohort: Cohort) -> Policy:
    """Return the policy that the cohort's configuration names."""
    policy = POLICIES[cohort.policy.name]
    return policy(Arms.of(cohort.space), Belief.of(cohort), cohort.policy.options)


def build(
    name: str, dimensions: Sequence[int], context_levels: Sequence[int] = (), **options: float
) -> Learner:
    """Return a policy that keeps its own counts: the public interface for measuring it.

    `dimensions` are the numbers of levels of delay, channel, angle and offer, such as
    (4, 2, 5, 4): an arm is the row-major place of its levels. `context_levels` are those of the
    features. Options are those of the configuration's `[policy]`, and besides `rate` and
    `weight` of the prior, `seed`, and `growth`: the share by which counts grow between two fits.
    Raises ValueError, which names what is allowed.
    """
    if name not in POLICIES:
        raise ValueError(f'there is no policy "{name}"; known: {", ".join(POLICIES)}')
    known = {**OPTIONS[name], **_OF_LEARNERS}
    for option, value in options.items():
        if option not in known:
            told = ", ".join(sorted(known))
            raise ValueError(f"{name} has no option {option}; known: {told}")
        low, high = known[option]
        if not low <= value <= high:
            raise ValueError(f"{option} = {value} is out of range: {low} to {high}")
    usual = Belief()
    belief = Belief(options.get("rate", usual.rate), options.get("weight", usual.weight))
    arms = Arms(tuple(dimensions))
    return Learner(
        POLICIES[name](arms, belief, options),
        len(arms),
        context_levels,
        seed=int(options.get("seed", 0)),
        growth=options.get("growth", GROWTH),
    )
