"""What is true in the demo's city: how often whoever leaves comes back, with each message.

rate = alone + message x product of factors: of the combo's levels, and of levels together with who
the user is. Who comes back alone does so whatever is sent, so no message does harm. A message that
was put off over the quiet hours does `LATE` of its work.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from experiment_engine.domain.bandit.statistics import Floats
from experiment_engine.domain.cohorts.combo import ComboSpace
from experiment_engine.domain.identifiers import CohortName

LATE = 0.5

Person = Mapping[str, str]  # feature -> value
Together = Mapping[str, str]  # dimension or feature -> value, all of which must hold


@dataclass(frozen=True)
class Truth:
    """What is true of one cohort."""

    space: ComboSpace
    alone: float  # come back without any message
    message: float  # and this share more with a message, times the factors
    levels: Mapping[str, float] = field(default_factory=dict)  # of any dimension
    together: Sequence[tuple[Together, float]] = ()

    @cached_property
    def _of_levels(self) -> Floats:
        factors = [
            np.prod([self.levels.get(level, 1.0) for level in combo.levels().values()])
            for combo in self.space.combos
        ]
        return np.array(factors)

    @cached_property
    def _known(self) -> dict[tuple[str, ...], Floats]:
        return {}

    def gains(self, person: Person) -> Floats:
        """Return how many more come back because of each combo; shape (K,)."""
        key = tuple(person.values())
        if key not in self._known:
            self._known[key] = self.message * self._of_levels * self._factors(person)
        return self._known[key]

    def rates(self, person: Person) -> Floats:
        """Return how often this person comes back with each combo; shape (K,)."""
        return self.alone + self.gains(person)

    def _factors(self, person: Person) -> Floats:
        factors = np.ones(len(self.space))
        for wanted, factor in self.together:
            if all(person.get(name) == value for name, value in wanted.items() if name in person):
                of_combo = {name: v for name, v in wanted.items() if name not in person}
                holds = [
                    all(combo.levels()[name] == value for name, value in of_combo.items())
                    for combo in self.space.combos
                ]
                factors = np.where(holds, factors * factor, factors)
        return factors


_OFTEN = {"2min": 1.1, "15min": 1.35, "1h": 1.0, "6h": 0.6, "push": 0.8, "whatsapp": 1.25}
_TASTES: Sequence[tuple[Together, float]] = (
    ({"language": "bho", "channel": "whatsapp"}, 1.4),
    ({"language": "bgc", "channel": "push"}, 1.5),
    ({"region": "mumbai", "delay": "2min"}, 1.3),
    ({"plan": "yearly", "delay": "1h"}, 1.4),
    ({"channel": "push", "delay": "2min"}, 1.25),
)


def truths(spaces: Mapping[CohortName, ComboSpace]) -> dict[CohortName, Truth]:
    """Return what is true of each cohort of the bundled example."""
    about = {
        "checkout_abandoners": (
            0.05,
            0.03,
            {"social_proof": 1.6, "helpful": 1.2, "urgency": 0.9, "scarcity": 0.6}
            | {"discount": 1.0, "rupee_1_trial": 1.8, "discount_20": 1.1, "none": 0.6},
            ({"plan": "yearly", "offer": "discount_20"}, 2.0),
        ),
        "payment_failed": (
            0.12,
            0.06,
            {"retry": 1.7, "helpful": 1.1, "reassurance": 0.7, "rupee_1_trial": 0.8},
            ({"region": "patna", "angle": "reassurance"}, 2.2),
        ),
        "paywall_bouncers": (
            0.03,
            0.025,
            {"free_value": 1.7, "social_proof": 0.9, "curiosity": 0.8, "rupee_1_trial": 1.5},
            ({"language": "raj", "angle": "curiosity"}, 2.2),
        ),
    }
    return {
        CohortName(name): Truth(
            spaces[CohortName(name)], alone, message, _OFTEN | levels, (*_TASTES, taste)
        )
        for name, (alone, message, levels, taste) in about.items()
    }
