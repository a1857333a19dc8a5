"""How far the engine is from the truth, which only a made-up world can tell."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiment_engine.domain.bandit.context import FEATURES
from experiment_engine.domain.bandit.snapshot import PolicyInForce
from experiment_engine.domain.bandit.statistics import Floats
from experiment_engine.domain.identifiers import CohortName
from experiment_engine.engine.engine import Engine
from experiment_engine.entrypoints.simulator.truth import Person, Truth

_ASKED = 400  # people of the city, for means over all
_BEST = 10


def distance(
    engine: Engine, truths: Mapping[CohortName, Truth], people: Sequence[Person]
) -> dict[str, Any]:
    """Return, for each cohort, what is true and what the engine's policy makes of it now."""
    asked, policies = people[:_ASKED], engine.policies
    return {
        name: of_cohort(policies[name], truth, asked)
        for name, truth in truths.items()
        if name in policies
    }


def of_cohort(policy: PolicyInForce, truth: Truth, people: Sequence[Person]) -> dict[str, Any]:
    """Return the truth of one cohort, and the rate its policy reaches between even and best."""
    rates = np.stack([truth.rates(person) for person in people])
    shares = np.stack([_shares(policy, person) for person in people])
    even = float(rates.mean())
    oracle = float(rates.max(axis=1).mean())
    reached = float((rates * shares).sum(axis=1).mean())
    known = policy.snapshot.statistics
    order = np.argsort(-rates.mean(axis=0))
    keys = [combo.key for combo in truth.space.combos]
    return {
        "come_back_alone": truth.alone,
        "even_split": _rounded(even),
        "policy_now": _rounded(reached),
        "best_possible": _rounded(oracle),
        "way_to_the_best": _rounded((reached - even) / (oracle - even)),
        "traffic_on_the_true_top_10": _rounded(float(shares.mean(axis=0)[order[:_BEST]].sum())),
        "trials": int(known.trials.sum()),
        "combos": [
            {
                "combo_key": keys[place],
                "true_rate": _rounded(float(rates[:, place].mean())),
                "measured_rate": _ratio(known.successes[place], known.trials[place]),
                "trials": int(known.trials[place]),
                "traffic_now": _rounded(float(shares[:, place].mean())),
            }
            for place in order.tolist()
        ],
    }


def _shares(policy: PolicyInForce, person: Person) -> Floats:
    levels = policy.snapshot.levels
    known = {name: person[name] for name in FEATURES if name in person}
    context = levels.bucket(known) if policy.uses_context else ()
    return policy.snapshot.model.propensities(context, np.arange(len(policy.cohort.space)))


def _ratio(successes: float, trials: float) -> float | None:
    return _rounded(successes / trials) if trials else None


def _rounded(number: float) -> float:
    return round(float(number), 4)
