"""Vowpal Wabbit, MABWiser and River behind our verbs; only `.venv-bench` has them."""

import importlib
from itertools import combinations, product
from typing import Any

import numpy as np

from benchmarks.learning.world import ARMS, DIMENSIONS, FEATURES, Floats, Integers

_OF_ARM, _OF_CONTEXT = "DCAO", "RLSP"  # one namespace for each dimension and feature
_PAIRS = [f"-q {one}{other}" for one, other in combinations(_OF_ARM, 2)]
_CROSSES = [f"-q {one}{other}" for one, other in product(_OF_CONTEXT, _OF_ARM)]
_ARM_LINES = [
    " ".join(f"|{space} {level}" for space, level in zip(_OF_ARM, levels, strict=True))
    for levels in product(*map(range, DIMENSIONS))
]

BEST_FOUND = "--gamma_scale 10000 --gamma_exponent 0.25"

# Swept on selection seeds at 10,000 triggers.
SWEEP = (
    "--gamma_scale 500 --gamma_exponent 0.5",
    "--gamma_scale 100 --gamma_exponent 0.5",
    "--gamma_scale 2000 --gamma_exponent 0.5",
    "--gamma_scale 2000 --gamma_exponent 0.25",
    "--gamma_scale 10000 --gamma_exponent 0.25",
    "--gamma_scale 10000 --gamma_exponent 0.5",
    "--gamma_scale 500 --gamma_exponent 0.5 -l 0.05",
    "--gamma_scale 500 --gamma_exponent 0.5 -l 2",
    "--gamma_scale 2000 --gamma_exponent 0.5 -l 0.05",
    "--gamma_scale 2000 --gamma_exponent 0.5 -l 0.005",
    "--gamma_scale 500 --gamma_exponent 0.5 --power_t 0",
    "--gamma_scale 2000 --gamma_exponent 0.5 --power_t 0 -l 0.05",
)


class VowpalWabbit:
    """`--cb_explore_adf --squarecb` with all pairs of dimensions and all crosses with context."""

    def __init__(self, seed: int, settings: str = BEST_FOUND) -> None:
        told = ["--cb_explore_adf --squarecb --quiet", f"--random_seed {seed}", settings]
        self._model: Any = importlib.import_module("vowpalwabbit").Workspace(
            " ".join([*told, *_PAIRS, *_CROSSES])
        )
        self._chances: list[float] = []

    def choose(self, contexts: Integers, rng: np.random.Generator) -> tuple[Integers, Floats]:
        arms, chances = [], []
        for context in contexts.tolist():
            shares = np.array(self._model.predict([_shared(context), *_ARM_LINES]))
            shares /= shares.sum()
            arms.append(int(rng.choice(len(shares), p=shares)))
            chances.append(float(shares[arms[-1]]))
        self._chances += chances
        return np.array(arms), np.array(chances)

    def update(
        self, contexts: Integers, arms: Integers, rewards: Floats, weights: Floats | None = None
    ) -> None:
        del weights
        told = zip(contexts.tolist(), arms.tolist(), rewards.tolist(), strict=True)
        for (context, arm, reward), chance in zip(told, self._chances, strict=True):
            lines = list(_ARM_LINES)
            lines[arm] = f"0:{-reward}:{chance} {lines[arm]}"
            self._model.learn([_shared(context), *lines])
        self._chances = []


class MabWiser:
    """One of MABWiser's policies; arms share nothing there."""

    def __init__(self, seed: int, policy: str) -> None:
        mab: Any = importlib.import_module("mabwiser.mab")
        policies = {
            "epsilon_greedy": mab.LearningPolicy.EpsilonGreedy(epsilon=0.2),
            "thompson": mab.LearningPolicy.ThompsonSampling(),
            "linear_thompson": mab.LearningPolicy.LinTS(alpha=0.5),
        }
        self._contextual = policy.startswith("linear")
        self._model: Any = mab.MAB(list(range(ARMS)), policies[policy], seed=seed)
        nothing = np.zeros((ARMS, sum(FEATURES)))
        self._learn("fit", np.arange(ARMS), np.zeros(ARMS), nothing)

    def choose(self, contexts: Integers, rng: np.random.Generator) -> tuple[Integers, Floats]:
        del rng
        if self._contextual:
            told = self._model.predict(_one_hot(contexts))
        else:
            told = [self._model.predict() for _ in contexts]
        arms = np.array(told, np.int64).reshape(-1)
        return arms, np.full(len(arms), np.nan)  # it does not say

    def update(
        self, contexts: Integers, arms: Integers, rewards: Floats, weights: Floats | None = None
    ) -> None:
        del weights
        self._learn("partial_fit", arms, rewards, _one_hot(contexts))

    def _learn(self, verb: str, arms: Integers, rewards: Floats, contexts: Floats) -> None:
        given = (contexts,) if self._contextual else ()
        getattr(self._model, verb)(arms.tolist(), rewards.tolist(), *given)


class River:
    """River's Thompson sampling on Beta posteriors; arms share nothing there."""

    def __init__(self, seed: int) -> None:
        beta = importlib.import_module("river.proba").Beta()
        bandit: Any = importlib.import_module("river.bandit")
        self._policy: Any = bandit.ThompsonSampling(reward_obj=beta, seed=seed)

    def choose(self, contexts: Integers, rng: np.random.Generator) -> tuple[Integers, Floats]:
        del rng
        arms = np.array([self._policy.pull(range(ARMS)) for _ in contexts], np.int64)
        return arms, np.full(len(arms), np.nan)  # it does not say

    def update(
        self, contexts: Integers, arms: Integers, rewards: Floats, weights: Floats | None = None
    ) -> None:
        del contexts, weights
        for arm, reward in zip(arms.tolist(), rewards.tolist(), strict=True):
            self._policy.update(arm, bool(reward))


def _shared(context: list[int]) -> str:
    told = zip(_OF_CONTEXT, context, strict=True)
    return "shared " + " ".join(f"|{space} {level}" for space, level in told)


def _one_hot(contexts: Integers) -> Floats:
    starts = np.cumsum([0, *FEATURES[:-1]])
    rows = np.zeros((len(contexts), sum(FEATURES)))
    rows[np.arange(len(contexts))[:, None], contexts + starts] = 1
    return rows
