"""What an experiment counts for (CONTRACT R1, R2).

Every counter of the engine is a sum of `contribution` over experiments. A change of an
experiment adds the difference of its contributions, so counters are exact at every moment, in
any order of events, and can be rebuilt from the experiments alone.
"""

from dataclasses import dataclass
from enum import StrEnum

from experiment_engine.domain.bandit.delay_curve import age_bucket
from experiment_engine.domain.delivery.experiment import WAITING, Experiment, State
from experiment_engine.domain.moments import Duration


class Group(StrEnum):
    """Whose counts these are."""

    COMBO = "combo"  # messaged, and the combo means what it says
    POSTPONED = "postponed"  # messaged after the quiet hours: counts in no combo's rate (R8)
    REPLACED = "replaced"  # something else went out than what was drawn: teaches nothing
    HOLDOUT = "holdout"
    HISTORY = "history"  # sent before the engine counted, told by exports: it only teaches


@dataclass(frozen=True, slots=True)
class Counts:
    """Sums that add: what learning and the statistics are made of."""

    trials: int = 0
    successes: int = 0
    sent: int = 0
    opened: int = 0
    converted: int = 0
    value: int = 0  # of the conversions, in thousandths

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.trials + other.trials,
            self.successes + other.successes,
            self.sent + other.sent,
            self.opened + other.opened,
            self.converted + other.converted,
            self.value + other.value,
        )

    def __sub__(self, other: "Counts") -> "Counts":
        return Counts(
            self.trials - other.trials,
            self.successes - other.successes,
            self.sent - other.sent,
            self.opened - other.opened,
            self.converted - other.converted,
            self.value - other.value,
        )


OWN = (Group.COMBO, Group.POSTPONED)  # messaged users as the engine saw them
TEACHING = (*OWN, Group.HISTORY)  # whose counts the policies learn from

Told = tuple[str, int]  # who told of a success, and the bucket of its age

NOTHING = Counts()
NOT_REACHED = "not_reached"  # the reason of what was sent and, by the provider's word, never came
_WAITING = Counts(trials=1)
_SENT = Counts(sent=1)
_HELD_OUT = Counts(trials=1)


def group_of(experiment: Experiment) -> Group:
    """Return the group whose counters the experiment adds to."""
    if experiment.held_out:
        return Group.HOLDOUT
    if experiment.replaced_by is not None:
        return Group.REPLACED
    return Group.POSTPONED if experiment.postponed else Group.COMBO


def contribution(experiment: Experiment) -> Counts:
    """Return what the experiment adds to its counters as it stands.

    A trial is what reached its time and was sent or held out, or what a conversion inside the
    window cancelled before; `sent` counts only what the provider accepted, and what it then could
    not deliver is no trial. What still waits is
    counted as the trial it will be, and taken back if it ends in another way: its conversions
    count at once, so without its trials the longest delay would look best (R1).
    """
    if experiment.state in WAITING:
        return _WAITING
    converted = int(experiment.converted_at is not None)
    value = (experiment.value or 0) * converted
    if experiment.state is State.SENT:
        opened = int(experiment.opened_at is not None)
        told = _SENT + Counts(opened=opened, converted=converted)
        if experiment.reason == NOT_REACHED:
            return told  # nobody saw it: it says nothing about what it says (R2)
        return told + Counts(trials=1, successes=converted, value=value)
    if experiment.state is State.HELD_OUT:
        return _HELD_OUT + Counts(successes=converted, converted=converted, value=value)
    if experiment.state is State.CANCELLED and experiment.reason == "converted" and converted:
        return Counts(trials=1, successes=1, value=value)
    return NOTHING


def told_of(experiment: Experiment) -> Told | None:
    """Return who told of the experiment's success and how old its trigger was, if it is one."""
    if experiment.converted_at is None or not contribution(experiment).successes:
        return None
    age = Duration(experiment.converted_at - experiment.triggered_at)
    return experiment.converted_by or "", age_bucket(age)
