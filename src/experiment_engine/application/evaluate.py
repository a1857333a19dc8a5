"""What another policy would have made of the messages that were sent, from the engine's own log.

The other policy lives through the log as it would have lived: the messages of each day are judged
by a model that was fitted to what was known when the day began; conversions that came later teach
later, as with the engine itself. What it would have sent is compared with what was sent by the
logged probabilities, so it can only be judged where the log has tried the same.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from experiment_engine.application.evidence import Logged
from experiment_engine.application.ports import Log
from experiment_engine.domain.bandit.cells import Cells
from experiment_engine.domain.bandit.context import Context, ContextLevels
from experiment_engine.domain.bandit.delay_curve import DelayCurve, age_bucket, weighed_trials
from experiment_engine.domain.bandit.policies import build_policy
from experiment_engine.domain.bandit.statistics import Floats
from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.delivery.experiment import Mode
from experiment_engine.domain.identifiers import ExperimentId
from experiment_engine.domain.measurement.off_policy import (
    NotEnoughOverlap,
    Value,
    WeightSums,
    advantage,
    doubly_robust,
    ips,
    overlap,
    snips,
)
from experiment_engine.domain.moments import DAY, Duration, Instant

AT_ONCE = 2_000  # rows read at a time
GROWTH = 0.05  # the other policy is fitted anew when it knows this much more


@dataclass(frozen=True, slots=True)
class Judged:
    """The estimates of another policy's value, or why there are none."""

    sums: WeightSums
    refused: NotEnoughOverlap | None
    ips: Value | None = None
    snips: Value | None = None
    doubly_robust: Value | None = None
    behind: Value | None = None  # what was reached less what the other policy would have
    left_out: int = 0  # rows in which the other policy had nothing it could have sent

    @property
    def is_worse(self) -> bool:
        """Say whether the other policy is credibly worse than what was done."""
        return self.behind is not None and self.behind.interval.low > 0


def read_log(
    cohort: Cohort, mode: Mode, log: Log, until: Instant, tell: Callable[[int], None]
) -> list[Logged]:
    """Return the cohort's trials whose window closed before `until`, in the order of decisions."""
    rows: list[Logged] = []
    after = ExperimentId("")
    while found := log.logged(mode, cohort.name, after, until, AT_ONCE):
        rows += [row for row in found if row.is_trial]
        after = found[-1].id
        tell(len(rows))
    return rows


def judge(cohort: Cohort, rows: Sequence[Logged], tell: Callable[[int], None]) -> Judged:
    """Estimate what the cohort's policy, as it is configured here, would have reached."""
    life = _Life(cohort, ContextLevels().refreshed([row.named for row in rows]))
    columns = _Columns.empty(len(rows))
    left_out, done = 0, 0
    for begins, day in _days(rows):
        life.wake(begins)
        for row in day:
            share, rates = life.chances(row)
            left_out += int(share.sum() == 0)
            place = row.eligible.index(row.combo_key)
            columns.weights[done] = share[place] / row.propensity
            columns.rewards[done] = row.successes
            columns.predicted[done] = rates[place]
            columns.expected[done] = share @ rates
            done += 1
        life.learn(day)
        tell(done)
    return _judged(columns, left_out)


def _judged(columns: "_Columns", left_out: int) -> Judged:
    sums = WeightSums.of(columns.weights, columns.rewards)
    refused = overlap(sums)
    if refused is not None:
        return Judged(sums, refused, left_out=left_out)
    return Judged(
        sums,
        None,
        ips(sums),
        snips(sums),
        doubly_robust(columns.weights, columns.rewards, columns.predicted, columns.expected),
        advantage(sums),
        left_out,
    )


@dataclass(frozen=True, slots=True)
class _Columns:
    """What the estimates need of every row; shapes (n,)."""

    weights: Floats
    rewards: Floats
    predicted: Floats  # the rate of what was sent, by a plain model
    expected: Floats  # the rate of what would have been sent, by the same

    @classmethod
    def empty(cls, rows: int) -> "_Columns":
        return cls(*(np.zeros(rows) for _ in range(4)))


class _Life:
    """The other policy as it learns from day to day."""

    def __init__(self, cohort: Cohort, levels: ContextLevels) -> None:
        self._places = {key: combo.index for key, combo in cohort.space.by_key.items()}
        self._levels, self._policy = levels, build_policy(cohort)
        self._window, self._prior, self._size = cohort.goal.window, cohort.prior, len(cohort.space)
        self._contexts: list[Context] = []
        self._arms: list[int] = []
        self._decided: list[float] = []
        self._converted: list[float] = []  # never is for ever ahead
        self._fit(np.zeros(0), np.zeros(0))

    def chances(self, row: Logged) -> tuple[Floats, Floats]:
        """Return the probability and the expected rate of each combo that was eligible."""
        context = self._levels.bucket(row.named)
        key = (row.eligible, context if self._policy.uses_context else ())
        if key not in self._known:
            kept = [n for n, combo in enumerate(row.eligible) if combo in self._places]
            there = [self._places[row.eligible[n]] for n in kept]
            share, rates = np.zeros((2, len(row.eligible)))
            if kept:
                share[kept] = self._model.propensities(key[1], there)
                rates[kept] = self._rates[there]
            self._known[key] = (share, rates)
        return self._known[key]

    def wake(self, now: Instant) -> None:
        """Fit anew to what is known by now, if that is noticeably more."""
        decided, converted = np.array(self._decided), np.array(self._converted)
        won = (converted <= now).astype(np.float64)
        young = decided > now - self._window
        whole = (won > 0) & ~young
        took = converted[whole] - decided[whole]
        curve = DelayCurve(self._window, Counter(age_bucket(Duration(int(age))) for age in took))
        share = np.ones(len(won))
        share[young] = curve.arrived(now - decided[young])
        trials = weighed_trials(np.ones(len(won)), won, share)
        if trials.sum() > self._fitted_on * (1 + GROWTH):
            self._fit(trials, won)

    def learn(self, day: Sequence[Logged]) -> None:
        """Add a day; what came of it is known when it comes."""
        for row in day:
            if row.combo_key in self._places:
                self._contexts.append(self._levels.bucket(row.named))
                self._arms.append(self._places[row.combo_key])
                self._decided.append(row.triggered_at)
                self._converted.append(np.inf if row.converted_at is None else row.converted_at)

    def _fit(self, trials: Floats, won: Floats) -> None:
        number, sizes = len(trials), self._levels.sizes
        contexts = np.array(self._contexts, np.int64).reshape(number, len(sizes))
        arms, nothing = np.array(self._arms, np.int64), np.zeros(number, np.bool_)
        cells = Cells(contexts, arms, nothing, trials, won, sizes)
        self._model = self._policy.fit(cells, seed=number)
        weight, sums = self._prior.weight, cells.by_arm(self._size)
        self._rates = (sums.successes + weight * self._prior.rate) / (sums.trials + weight)
        self._known: dict[tuple[Sequence[str], Context], tuple[Floats, Floats]] = {}
        self._fitted_on = float(trials.sum())


def _days(rows: Sequence[Logged]) -> Iterator[tuple[Instant, list[Logged]]]:
    for day, decided in groupby(rows, key=lambda row: row.triggered_at // DAY):
        yield Instant(day * DAY), list(decided)
