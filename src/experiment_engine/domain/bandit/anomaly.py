"""Feedback that looks forged or broken: one combo's conversions leap without a reason."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, lgamma

from experiment_engine.domain.identifiers import ComboKey

ALARM = 1e-6  # the chance, over all combos and sources, below which learning stops
FEWEST_CONVERSIONS = 10  # recent ones: fewer can wait
FEWEST_BEFORE = 500  # trials: without a history nothing can be called a leap


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of one combo's conversions as one source told them."""

    trials_before: float
    conversions_before: float
    trials: float  # recent ones
    conversions: float


@dataclass(frozen=True, slots=True)
class Leap:
    """A combo whose conversions leapt, as one source told them."""

    combo_key: ComboKey
    source: str
    record: Record
    p_value: float  # for the number of combos and sources looked at

    @property
    def reason(self) -> str:
        """Say for a person what is wrong."""
        record = self.record
        return (
            f"{self.combo_key}: {record.conversions:.0f} conversions of {record.trials:.0f} told"
            f" by {self.source or 'an unknown source'} in the last day, after"
            f" {record.conversions_before:.0f} of {record.trials_before:.0f} before"
        )


def largest_leap(
    records: Mapping[tuple[ComboKey, str], Record], *, rate: float, weight: float
) -> Leap | None:
    """Return the leap that chance explains least, if it does not explain it at all.

    What is known of a combo is a Beta distribution around `rate` with the strength of `weight`
    trials; the recent conversions are then beta-binomial. Recent trials have not had all their
    time to convert, so more conversions are expected of them than will have come.
    """
    found: Leap | None = None
    for (combo_key, source), record in sorted(records.items()):
        if record.conversions < FEWEST_CONVERSIONS or record.trials_before < FEWEST_BEFORE:
            continue
        ahead = record.conversions_before + weight * rate
        behind = record.trials_before - record.conversions_before + weight * (1 - rate)
        chance = min(1.0, len(records) * _tail(record, ahead, max(behind, 1e-9)))
        if chance < ALARM and (found is None or chance < found.p_value):
            found = Leap(combo_key, source, record, chance)
    return found


def _tail(record: Record, ahead: float, behind: float) -> float:
    """Return the chance of so many conversions or more under the beta-binomial distribution."""
    trials, conversions = round(record.trials), round(record.conversions)
    if conversions <= trials * ahead / (ahead + behind):
        return 1.0
    total = 0.0
    for number in range(conversions, trials + 1):
        term = exp(_log_chance(number, trials, ahead, behind))
        total += term
        if term < 1e-3 * total / (trials - number + 1):  # what is left cannot matter
            break
    return min(1.0, total)


def _log_chance(number: int, trials: int, ahead: float, behind: float) -> float:
    choose = lgamma(trials + 1) - lgamma(number + 1) - lgamma(trials - number + 1)
    return choose + _log_beta(number + ahead, trials - number + behind) - _log_beta(ahead, behind)


def _log_beta(one: float, other: float) -> float:
    return lgamma(one) + lgamma(other) - lgamma(one + other)
