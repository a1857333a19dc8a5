"""What messages brought: users who may be written to, against those who are held out."""

from dataclasses import dataclass
from math import exp, log

from experiment_engine.domain.measurement.confidence_sequence import half_width
from experiment_engine.domain.measurement.interval import Interval
from experiment_engine.domain.measurement.sums import Sums

FEWEST = 5  # conversions in each group before a figure is shown


@dataclass(frozen=True, slots=True)
class UserSums(Sums):
    """Users of one group, each counted once when the window of the first trigger has closed."""

    users: float = 0
    converted: float = 0
    value: float = 0  # what their conversions were worth
    value_squares: float = 0

    @property
    def rate(self) -> float:
        """Return the share of users who converted."""
        return self.converted / self.users if self.users else 0.0

    @property
    def mean_value(self) -> float:
        """Return what a user was worth on average."""
        return self.value / self.users if self.users else 0.0


@dataclass(frozen=True, slots=True)
class Lift:
    """A difference between the groups with an interval that holds at every look."""

    absolute: float
    interval: Interval
    relative: float  # of the held-out group's
    relative_interval: Interval

    @property
    def is_settled(self) -> bool:
        """Say whether the interval leaves out that messages change nothing."""
        return not self.interval.low <= 0 <= self.interval.high


@dataclass(frozen=True, slots=True)
class TooFew:
    """Why there is no figure yet."""

    reason: str


def lift(messaged: UserSums, held_out: UserSums) -> Lift | TooFew:
    """Return how much more of the messaged users converted, or why that cannot be said yet.

    The groups are split by a hash of the user, so users are independent of one another, and
    each counts once: repeated triggers of one user do not make the interval too narrow.
    """
    if min(messaged.converted, held_out.converted) < FEWEST:
        return TooFew(
            f"each group needs {FEWEST} conversions: {messaged.converted:.0f} of messaged users,"
            f" {held_out.converted:.0f} of held-out users so far"
        )
    users = messaged.users + held_out.users
    variance = _variance_of_rate(messaged) + _variance_of_rate(held_out)
    absolute = messaged.rate - held_out.rate
    half = half_width(variance, users)
    # The logarithm of a ratio of rates is nearly normal (delta method).
    spread = half_width(_variance_of_log(messaged) + _variance_of_log(held_out), users)
    ratio = log(messaged.rate / held_out.rate)
    return Lift(
        absolute,
        Interval(absolute - half, absolute + half),
        exp(ratio) - 1,
        Interval(exp(ratio - spread) - 1, exp(ratio + spread) - 1),
    )


def value_lift(messaged: UserSums, held_out: UserSums) -> tuple[float, Interval] | TooFew:
    """Return how much more a messaged user was worth, with its interval."""
    if min(messaged.converted, held_out.converted) < FEWEST:
        return TooFew(f"each group needs {FEWEST} conversions")
    difference = messaged.mean_value - held_out.mean_value
    variance = _variance_of_value(messaged) + _variance_of_value(held_out)
    half = half_width(variance, messaged.users + held_out.users)
    return difference, Interval(difference - half, difference + half)


def _variance_of_rate(sums: UserSums) -> float:
    # One conversion and one failure more: a rate of nothing has not a variance of nothing.
    rate = (sums.converted + 1) / (sums.users + 2)
    return rate * (1 - rate) / sums.users


def _variance_of_log(sums: UserSums) -> float:
    return (1 - sums.rate) / sums.converted


def _variance_of_value(sums: UserSums) -> float:
    return max(0.0, sums.value_squares / sums.users - sums.mean_value**2) / sums.users
