"""Adding up what has matured: lift, value against an even split, and sample ratios.

A step goes through experiments whose window has closed, in the order of their ids, and adds to
sums that reports read. It reads and adds up outside of every transaction; what it found is kept
in a small one, only if nobody has gone the same step, so each experiment counts once.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiment_engine.application.evidence import Drawn, Matured, Outcome
from experiment_engine.application.held import held_of
from experiment_engine.application.ports import Evidence, Keeping, Measuring
from experiment_engine.domain.bandit.delay_curve import DelayCurve
from experiment_engine.domain.bandit.reward import Group, contribution, group_of
from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.cohorts.combo import DIMENSIONS
from experiment_engine.domain.delivery.experiment import WAITING, Experiment, Mode
from experiment_engine.domain.identifiers import (
    CohortName,
    ExperimentId,
    UserId,
    is_erased_id,
)
from experiment_engine.domain.measurement.lift import UserSums
from experiment_engine.domain.measurement.off_policy import WeightSums
from experiment_engine.domain.measurement.sample_ratio import RatioSums
from experiment_engine.domain.measurement.silence import Held
from experiment_engine.domain.moments import DAY, HOUR, Duration, Instant
from experiment_engine.domain.rules import Rules

AT_ONCE = 500  # experiments in one transaction
GRACE = Duration(HOUR)  # for conversions that are told late

LOST_AT_MOST = 0.02  # of a user's conversions, by the prior curve

EVEN, EVEN_VALUE, RATIO = "even", "even_value", "ratio"  # prefixes of names
LIFT = {False: "lift.messaged", True: "lift.held_out"}
HELD_OUT = "held_out"


@dataclass(frozen=True, slots=True)
class Step:
    """What one step found, and from where to where it went."""

    mode: Mode
    cohort: CohortName
    after: str
    upto: str
    sums: Mapping[tuple[int, str], float]
    outcomes: Sequence[Outcome]
    more: bool

    @property
    def name(self) -> str:
        """Return under what name the step's progress is kept."""
        return _name(self.mode, self.cohort)


def measure(
    cohort: Cohort, mode: Mode, rules: Rules, measuring: Evidence, now: Instant
) -> Step | None:
    """Add up what has matured since the last step; None if nothing has.

    While a source of conversions is silent, and while late ones may come, no window closes of
    which a part was not told; users of whom too much was never told are left out of both groups.
    """
    after = measuring.progress(_name(mode, cohort.name))
    held = held_of(cohort, mode, measuring, now)
    until = Instant((held.waits_from or now) - cohort.goal.window - GRACE)
    found = measuring.matured(mode, cohort.name, ExperimentId(after), until, AT_ONCE)
    if not found:
        return None
    drawn = measuring.drawn_from({one.distribution_id for one in found})
    sums = _Sums(cohort, {})
    for one in found:
        sums.take(one, drawn[one.distribution_id])
    told = [one for one in found if not _is_lost(one.experiment, held, cohort)]
    for one in told:
        sums.take_value(one, drawn[one.distribution_id])
    outcomes = _outcomes(cohort, mode, told, measuring)
    sums.take_outcomes(outcomes, rules.holdout_share)
    upto, more = found[-1].experiment.id, len(found) == AT_ONCE
    return Step(mode, cohort.name, after, upto, sums.by_day, outcomes, more)


def keep(step: Step, keeping: Keeping) -> None:
    """Add a step's sums, unless another process has gone the same step."""
    if keeping.progress(step.name) != step.after:
        return
    keeping.add_outcomes(step.mode, step.cohort, step.outcomes)
    keeping.add_measured(step.mode, step.cohort, step.sums)
    keeping.set_progress(step.name, step.upto)


def _is_lost(made: Experiment, held: Held, cohort: Cohort) -> bool:
    """Say whether more of its conversions than can be neglected was never told."""
    if not held.overlaps(made.triggered_at, made.window_ends_at):
        return False
    usual = DelayCurve(cohort.goal.window, {})
    triggered = np.array([float(made.triggered_at)])
    return float(held.seen(usual, triggered, made.window_ends_at)[0]) < 1 - LOST_AT_MOST


def _name(mode: Mode, cohort: CohortName) -> str:
    return f"measure:{mode.value}:{cohort}"


@dataclass(slots=True)
class _Sums:
    """The sums of one step, by day of the trigger and name."""

    cohort: Cohort
    by_day: dict[tuple[int, str], float]

    def take(self, one: Matured, drawn: Drawn) -> None:
        """Add what one experiment says of sample ratios."""
        made = one.experiment
        counts = contribution(made)
        if made.combo_key not in self.cohort.space.by_key or made.state in WAITING:
            return
        self._take_ratios(made, drawn, "decided")
        if counts.trials and not made.held_out:
            self._take_ratios(made, drawn, "counted")

    def take_value(self, one: Matured, drawn: Drawn) -> None:
        """Add what one experiment says of value, if it is a trial."""
        made = one.experiment
        counts = contribution(made)
        if made.combo_key not in self.cohort.space.by_key or made.state in WAITING:
            return
        if counts.trials and group_of(made) is Group.COMBO:
            weight = np.array([1 / drawn.number / one.propensity])
            reward = np.array([float(counts.successes)])
            self._add(made, EVEN, WeightSums.of(weight, reward).named)
            worth = np.array([counts.value / 1_000])
            self._add(made, EVEN_VALUE, WeightSums.of(weight, worth).named)

    def take_outcomes(self, outcomes: Iterable[Outcome], holdout_share: float) -> None:
        """Add what came of users' first triggers."""
        for outcome in outcomes:
            value = outcome.value / 1_000
            sums = UserSums(1, float(outcome.converted), value, value**2)
            self._add_at(outcome.entered_at, LIFT[outcome.held_out], sums.named)
            variance = holdout_share * (1 - holdout_share)
            split = RatioSums(float(outcome.held_out), holdout_share, variance)
            self._add_at(outcome.entered_at, f"{RATIO}.users.{HELD_OUT}", split.named)

    def _take_ratios(self, made: Experiment, drawn: Drawn, point: str) -> None:
        levels = self.cohort.space.by_key[made.combo_key].levels()
        for dimension in DIMENSIONS:
            for level, share in drawn.shares[dimension].items():
                sums = RatioSums(float(levels[dimension] == level), share, share * (1 - share))
                self._add(made, f"{RATIO}.{point}.{dimension}={level}", sums.named)

    def _add(self, made: Experiment, prefix: str, named: "_Named") -> None:
        self._add_at(made.triggered_at, prefix, named)

    def _add_at(self, at: Instant, prefix: str, named: "_Named") -> None:
        day = at // DAY
        for name, value in named(prefix).items():
            if value:
                self.by_day[day, name] = self.by_day.get((day, name), 0.0) + value


_Named = Callable[[str], Mapping[str, float]]


def _outcomes(
    cohort: Cohort, mode: Mode, found: Sequence[Matured], measuring: Measuring
) -> Sequence[Outcome]:
    """Return what came of users whose first trigger this is; who is erased is left out."""
    firsts: dict[UserId, Experiment] = {}
    for made, _, _ in found:
        if contribution(made).trials and not made.manual and not is_erased_id(made.user_id):
            firsts.setdefault(made.user_id, made)
    for user_id in measuring.entered(mode, cohort.name, firsts):
        del firsts[user_id]
    reached = measuring.reached(cohort.goal.event, firsts)
    return [_outcome(made, reached.get(user_id, ())) for user_id, made in firsts.items()]


def _outcome(made: Experiment, moments: Sequence[tuple[Instant, int]]) -> Outcome:
    inside = [worth for at, worth in moments if made.window_holds(at)]
    return Outcome(
        made.user_id, made.triggered_at, made.held_out, bool(inside), max(inside, default=0)
    )
