"""Everybody who is compared, by name, each built from a seed."""

import importlib.util
from collections.abc import Callable, Mapping
from functools import partial

from benchmarks.learning.days import Watchful
from benchmarks.learning.peers import SWEEP, MabWiser, River, VowpalWabbit
from benchmarks.learning.plain import Plain
from benchmarks.learning.runs import Chooser
from benchmarks.learning.world import DIMENSIONS, FEATURES
from experiment_engine.domain.bandit import policies
from experiment_engine.domain.bandit.learner import Learner

Maker = Callable[[int, int], Chooser]  # from a seed and the number of triggers to come

BASELINE = "plain"


GROWTH_AT_LENGTH = 0.03  # long runs are fitted anew less often than the engine (0.01) would
_LONG = 50_000


def own(name: str, **options: float) -> Maker:
    """Return a maker of one of our policies, fed as the engine feeds it."""
    return lambda seed, triggers: _built(name, seed, triggers, options)


def watchful(name: str, **options: float) -> Maker:
    """Return a maker of one of our policies behind the change alarm, as it is in the engine."""
    return lambda seed, triggers: Watchful(_built(name, seed, triggers, options), triggers)


def peer(learner: Callable[[int], Chooser]) -> Maker:
    """Return a maker of a learner that takes a seed alone."""
    return lambda seed, _: learner(seed)


def _built(name: str, seed: int, triggers: int, options: Mapping[str, float]) -> Learner:
    pace = {"growth": GROWTH_AT_LENGTH} if triggers >= _LONG else {}
    seeded = {"seed": seed * 1_000_003, **pace, **options}
    return policies.build(name, DIMENSIONS, FEATURES, **seeded)


OURS: Mapping[str, Maker] = {
    "uniform": own("uniform"),
    "epsilon_greedy": own("epsilon_greedy"),
    "thompson": own("thompson"),
    "factorial_thompson": own("factorial_thompson"),
    "factorial_thompson, no floor": own("factorial_thompson", floor=0.0),
    "factorial_thompson, change alarm": watchful("factorial_thompson"),
}

_PEERS: Mapping[str, tuple[str, Callable[[int], Chooser]]] = {  # name -> its package and its maker
    "vowpalwabbit squarecb": ("vowpalwabbit", VowpalWabbit),
    "mabwiser epsilon-greedy": ("mabwiser", partial(MabWiser, policy="epsilon_greedy")),
    "mabwiser thompson": ("mabwiser", partial(MabWiser, policy="thompson")),
    "mabwiser linear thompson": ("mabwiser", partial(MabWiser, policy="linear_thompson")),
    "river thompson": ("river", River),
}

CONTENDERS: Mapping[str, Maker] = {
    BASELINE: peer(Plain),
    **OURS,
    **{
        name: peer(learner)
        for name, (package, learner) in _PEERS.items()
        if importlib.util.find_spec(package) is not None
    },
}

SWEPT: Mapping[str, Maker] = {
    f"vowpalwabbit {settings}": peer(partial(VowpalWabbit, settings=settings))
    for settings in SWEEP
}
