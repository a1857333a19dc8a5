"""Decisions whose conversions come late, and ways to count them.

Triggers come evenly over time. A message goes out 15 minutes, 2, 12 or 24 hours after its trigger,
as its delay says; who converts does so some time after the message: log-normal with a median of
4 hours and a spread of 1.4 in log units, inside the window of 72 hours from the trigger, which is
what the world's rates count. Where messages do nothing, conversions fade with the time since the
trigger instead, whatever was sent.

`age`: the engine's way: a trial counts as much as it has had time to convert, by the delay curve
that is learned from conversions whose window had closed. `mature`: a trial counts when its window
has closed. `flip`: a trial is a failure at once and turns into a success when it converts.
`sent`: as `flip`, but what converts before its message goes out is taken out of the counts, as
engines do that count from the send: it flatters short delays.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from scipy.special import ndtr, ndtri

from benchmarks.learning.plain import Plain
from benchmarks.learning.world import ARMS, DIMENSIONS, FEATURES, Floats, Integers, World
from experiment_engine.domain.bandit.arms import Arms, Belief
from experiment_engine.domain.bandit.cells import Cells
from experiment_engine.domain.bandit.delay_curve import DelayCurve, age_bucket, weighed_trials
from experiment_engine.domain.bandit.policies import POLICIES
from experiment_engine.domain.bandit.policy import Model
from experiment_engine.domain.moments import HOUR, Duration

WINDOW = 72.0  # hours from the trigger
SEND_HOURS = np.array([0.25, 2.0, 12.0, 24.0])  # by the level of the delay
MEDIAN_HOURS, SPREAD = 4.0, 1.4

_DELAY_OF_ARM = np.unravel_index(np.arange(ARMS), DIMENSIONS)[0]
_GROWTH = 0.03  # fitted anew when there are this many more triggers than at the last fit


@dataclass(frozen=True, slots=True)
class Pace:
    """How many triggers there are, over how many days, and how many between two fits at least."""

    name: str
    triggers: int
    days: float
    batch: int = 50

    @property
    def first_day(self) -> int:
        """Return how many triggers the first day has."""
        return round(self.triggers / self.days)


SLOW = Pace("10,000 triggers in 90 days", 10_000, 90)
FAST = Pace("10,000 triggers in 5 days", 10_000, 5)


@dataclass(frozen=True, slots=True)
class Log:
    """What was decided so far; all arrays have shape (n,) but `contexts`, (n, G)."""

    at: Floats  # hours
    contexts: Integers
    arms: Integers
    converted_at: Floats  # hours; infinity if never inside the window


@dataclass(frozen=True, slots=True)
class Run:
    """Expected conversions for every trigger of one run, and what was chosen."""

    arms: Integers
    chosen: Floats
    oracle: Floats
    even: Floats

    def regret(self, triggers: int | None = None) -> float:
        """Return what was lost against the contextual oracle in the first triggers, or in all."""
        return float((self.oracle - self.chosen)[:triggers].sum())

    def gain(self, triggers: int | None = None) -> float:
        """Return the expected conversions to those of an even split."""
        return float(self.chosen[:triggers].sum() / self.even[:triggers].sum())

    def shares_of_delays(self) -> Floats:
        """Return the share of all messages that each delay got."""
        counts = np.bincount(_DELAY_OF_ARM[self.arms], minlength=DIMENSIONS[0])
        return np.asarray(counts / len(self.arms), np.float64)


class Learning(Protocol):
    """Something that learns from a log at a moment, and decides."""

    def learn(self, log: Log, now: float) -> None:
        """Take up what is known now."""

    def choose(self, contexts: Integers, rng: np.random.Generator) -> Integers:
        """Draw an arm for each context."""


Maker = Callable[[int], Learning]  # from a seed


class Ours(Learning):
    """A policy of the engine, fitted as the engine does it, with one way to count."""

    def __init__(self, name: str, way: str, seed: int) -> None:
        self._policy = POLICIES[name](Arms(DIMENSIONS), Belief(), {})
        self._sizes = FEATURES if self._policy.uses_context else ()
        self._way, self._seed = way, seed
        self._model: Model = self._policy.fit(Cells.none(self._sizes), seed)
        self._fitted_on = 0

    def learn(self, log: Log, now: float) -> None:
        """Fit anew, if the log has grown enough."""
        if len(log.at) - self._fitted_on > _GROWTH * self._fitted_on:
            seed = self._seed * 1_000_003 + len(log.at)  # every fit draws anew
            self._model = self._policy.fit(self._cells(log, now), seed)
            self._fitted_on = len(log.at)

    def choose(self, contexts: Integers, rng: np.random.Generator) -> Integers:
        """Draw an arm for each context."""
        known = contexts if self._sizes else contexts[:, :0]
        unique, places = np.unique(known, axis=0, return_inverse=True)
        every = range(ARMS)
        table = [self._model.propensities(tuple(row), every) for row in unique.tolist()]
        bounds = np.stack(table).cumsum(axis=1)[places.reshape(-1)]
        points = rng.random(len(contexts)) * bounds[:, -1]
        arms: Integers = np.minimum((bounds < points[:, None]).sum(axis=1), ARMS - 1)
        return arms

    def _cells(self, log: Log, now: float) -> Cells:
        trials, successes = counted(self._way, log, now)
        contexts = log.contexts if self._sizes else log.contexts[:, :0]
        postponed = np.zeros(len(log.at), np.bool_)
        return Cells(contexts, log.arms, postponed, trials, successes, self._sizes)


class PlainDesign(Learning):
    """The plain design on trials whose window has closed."""

    def __init__(self, seed: int) -> None:
        self._plain = Plain(seed)
        self._counted = 0

    def learn(self, log: Log, now: float) -> None:
        """Count what has matured since the last time."""
        until = int(np.searchsorted(log.at, now - WINDOW, side="right"))
        rows = slice(self._counted, until)
        rewards = np.isfinite(log.converted_at[rows]).astype(np.float64)
        self._plain.update(log.contexts[rows], log.arms[rows], rewards)
        self._counted = max(self._counted, until)

    def choose(self, contexts: Integers, rng: np.random.Generator) -> Integers:
        """Draw an arm for each context."""
        arms, _ = self._plain.choose(contexts, rng)
        return arms


class EvenSplit(Learning):
    """Learns nothing."""

    def __init__(self, seed: int) -> None:
        del seed

    def learn(self, log: Log, now: float) -> None:
        """Look away."""

    def choose(self, contexts: Integers, rng: np.random.Generator) -> Integers:
        """Draw an arm for each context."""
        return rng.integers(ARMS, size=len(contexts))


def counted(way: str, log: Log, now: float) -> tuple[Floats, Floats]:
    """Return what each trigger of the log counts as now: trials and successes, shape (n,)."""
    successes = (log.converted_at <= now).astype(np.float64)
    trials = np.ones(len(log.at))
    if way == "age":
        return _weighed(log, successes, now), successes
    if way == "mature":
        closed = (log.at <= now - WINDOW).astype(np.float64)
        return trials * closed, successes * closed
    if way == "sent":
        sent = log.converted_at > log.at + SEND_HOURS[_DELAY_OF_ARM[log.arms]]
        return trials * sent, successes * sent
    return trials, successes


def _weighed(log: Log, successes: Floats, now: float) -> Floats:
    """Weigh trials as the engine does: by the hour of the trigger, arm and context."""
    closed = (log.at <= now - WINDOW) & (successes > 0)
    ages = (log.converted_at - log.at)[closed] * HOUR
    told: dict[int, int] = {}
    for age in ages.tolist():
        bucket = age_bucket(Duration(round(age)))
        told[bucket] = told.get(bucket, 0) + 1
    curve = DelayCurve(Duration(round(WINDOW * HOUR)), told)
    hours, which = np.unique(np.floor(log.at), return_inverse=True)
    share = curve.arrived((now - hours - 0.5) * HOUR)[which]
    return weighed_trials(np.ones(len(log.at)), successes, share)


def conversion_hours(arms: Integers, places: Floats, *, null: bool = False) -> Floats:
    """Return how long after the trigger each one converts that does; `places` are in (0, 1)."""
    sent = np.zeros(len(arms)) if null else SEND_HOURS[_DELAY_OF_ARM[arms]]
    inside = ndtr(np.log((WINDOW - sent) / MEDIAN_HOURS) / SPREAD)
    return np.asarray(sent + MEDIAN_HOURS * np.exp(SPREAD * ndtri(places * inside)))


@dataclass
class _Written:
    """The log as it grows."""

    size: int
    at: Floats = field(init=False)
    contexts: Integers = field(init=False)
    arms: Integers = field(init=False)
    converted_at: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.at, self.converted_at = np.zeros(self.size), np.zeros(self.size)
        self.contexts = np.zeros((self.size, len(FEATURES)), np.int64)
        self.arms = np.zeros(self.size, np.int64)

    def until(self, end: int) -> Log:
        """Return what was written before the row `end`."""
        return Log(self.at[:end], self.contexts[:end], self.arms[:end], self.converted_at[:end])


def play(world: World, learning: Learning, pace: Pace, seed: int, *, null: bool = False) -> Run:
    """Let it decide about every trigger, as its conversions come in."""
    rng = np.random.default_rng([seed, 6])  # the same users and luck for everybody
    choosing = np.random.default_rng([seed, 7])
    size = pace.triggers
    contexts = world.contexts(size, rng)
    luck, places = rng.random(size), rng.random(size)
    log = _Written(size)
    log.at[:] = np.arange(size) * (pace.days * 24 / size)
    log.contexts[:] = contexts
    rates = world.rates_of(contexts, 0.0)
    for start in range(0, size, pace.batch):
        rows = slice(start, start + pace.batch)
        now = float(log.at[start])
        learning.learn(log.until(start), now)
        arms = learning.choose(contexts[rows], choosing)
        log.arms[rows] = arms
        converts = luck[rows] < rates[rows][np.arange(len(arms)), arms]
        hours = conversion_hours(arms, places[rows], null=null)
        log.converted_at[rows] = np.where(converts, log.at[rows] + hours, np.inf)
    chosen = rates[np.arange(size), log.arms]
    return Run(log.arms, chosen, rates.max(axis=1), rates.mean(axis=1))
