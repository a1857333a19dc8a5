"""Whether what was assigned fits the probabilities that were logged.

If one choice's messages get lost on the way, or users are counted who should not be, every
comparison is wrong, however narrow its interval. The number of assignments less the sum of their
logged probabilities is a martingale, so the check holds at every look although the policy changes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, log

from experiment_engine.domain.measurement.sums import Sums

ALARM = 0.001  # below it no winner is named
_TIGHTEST_AT = 300.0  # variance at which the check is most sensitive


@dataclass(frozen=True, slots=True)
class RatioSums(Sums):
    """How often something was assigned, how often it was expected, and the variance of that."""

    assigned: float = 0
    expected: float = 0
    variance: float = 0


@dataclass(frozen=True, slots=True)
class Mismatch:
    """What was assigned least as it was expected."""

    name: str
    assigned: float
    expected: float
    p_value: float  # valid at every look, and for the number of names looked at

    @property
    def is_alarm(self) -> bool:
        """Say whether comparisons must not be trusted."""
        return self.p_value < ALARM


def p_value(sums: RatioSums) -> float:
    """Return the chance of so large a difference at any look, if all is well; at most 1.

    One over the normal mixture martingale (Robbins 1970; Howard et al. 2021).
    """
    off = sums.assigned - sums.expected
    spread = sums.variance + _TIGHTEST_AT
    log_evidence = 0.5 * (off**2 / spread + log(_TIGHTEST_AT / spread))
    return min(1.0, exp(-log_evidence))


def worst_mismatch(by_name: Mapping[str, RatioSums]) -> Mismatch | None:
    """Return the largest mismatch, its p-value corrected for how many were looked at."""
    if not by_name:
        return None
    chances = {name: min(1.0, len(by_name) * p_value(sums)) for name, sums in by_name.items()}
    name = min(sorted(chances), key=lambda one: chances[one])
    return Mismatch(name, by_name[name].assigned, by_name[name].expected, chances[name])
