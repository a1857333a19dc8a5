"""Everybody who is compared, by name, each built from a seed."""

import importlib.util
from collections.abc import Callable, Mapping
from functools import partial

from benchmarks.learning.peers import MabWiser, River, VowpalWabbit
from benchmarks.learning.plain import Plain
from benchmarks.learning.runs import Chooser
from benchmarks.learning.world import DIMENSIONS, FEATURES
from experiment_engine.domain.bandit import policies

Maker = Callable[[int], Chooser]  # from a seed

BASELINE = "plain"


def own(name: str, **options: float) -> Maker:
    """Return a maker of one of our policies, fed as the engine feeds it."""
    return lambda seed: policies.build(
        name, DIMENSIONS, FEATURES, **{"seed": seed * 1_000_003, **options}
    )


OURS: Mapping[str, Maker] = {
    "uniform": own("uniform"),
    "epsilon_greedy": own("epsilon_greedy"),
    "thompson": own("thompson"),
    "factorial_thompson": own("factorial_thompson"),
    "factorial_thompson, no floor": own("factorial_thompson", floor=0.0),
}

_PEERS: Mapping[str, tuple[str, Maker]] = {  # name -> its package and its maker
    "vowpalwabbit squarecb": ("vowpalwabbit", VowpalWabbit),
    "mabwiser epsilon-greedy": ("mabwiser", partial(MabWiser, policy="epsilon_greedy")),
    "mabwiser thompson": ("mabwiser", partial(MabWiser, policy="thompson")),
    "mabwiser linear thompson": ("mabwiser", partial(MabWiser, policy="linear_thompson")),
    "river thompson": ("river", River),
}

CONTENDERS: Mapping[str, Maker] = {
    BASELINE: Plain,
    **OURS,
    **{
        name: maker
        for name, (package, maker) in _PEERS.items()
        if importlib.util.find_spec(package) is not None
    },
}
