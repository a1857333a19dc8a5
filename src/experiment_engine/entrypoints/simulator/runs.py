"""A policy in a synthetic world: it decides, conversions come late, and it learns as they come.

A trial counts as much as it has had time to convert, by the delay curve that is learned from
conversions whose window had closed: the engine's own way of counting.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from experiment_engine.domain.bandit.delay_curve import DelayCurve, age_bucket
from experiment_engine.domain.bandit.learner import Learner
from experiment_engine.domain.bandit.statistics import Floats, Integers
from experiment_engine.domain.moments import HOUR, Duration
from experiment_engine.entrypoints.simulator.world import Users, World

STEPS = 200  # looks of a run
POINTS = 20  # of its curve

_LEAST = 1e-9  # of a trial, so that a conversion can be told with it


@dataclass(frozen=True)
class Run:
    """Expected conversions of one policy with one seed: only choices count, not luck."""

    chosen: float
    oracle: float  # the best combo for every user, at every time
    even: float
    curve: Floats  # chosen to even, in each part of the run, (POINTS,)
    oracle_curve: Floats


def play(world: World, users: Users, learner: Learner | None, tell: Callable[[], None]) -> Run:
    """Let a policy decide about every user; without one, all combos get the same share."""
    number = len(users.at)
    memory = _Memory(world, users)
    choosing = np.random.default_rng([world.seed, 3])
    for rows in steps(number):
        if learner is None:
            arms = choosing.integers(len(world.plan.arms), size=rows.stop - rows.start)
        else:
            memory.teach(learner, float(users.at[rows.start]))
            arms, _ = learner.choose(users.contexts[rows], choosing)
        memory.add(rows, arms)
        tell()
    even = users.rates.mean(axis=1)
    # The even split's own draws are luck as well: its expected conversions are exact.
    chosen = even if learner is None else users.rates[np.arange(number), memory.arms]
    oracle = users.rates.max(axis=1)
    return Run(
        float(chosen.sum()),
        float(oracle.sum()),
        float(even.sum()),
        _parts(chosen) / _parts(even),
        _parts(oracle) / _parts(even),
    )


def steps(number: int) -> list[slice]:
    """Return the rows that are decided on one state of knowledge."""
    bounds = np.linspace(0, number, min(STEPS, number) + 1).astype(int).tolist()
    return [slice(start, stop) for start, stop in pairwise(bounds)]


def _parts(numbers: Floats) -> Floats:
    return np.array([part.sum() for part in np.array_split(numbers, POINTS)])


class _Memory:
    """What has been decided, and how much of it the policy knows."""

    def __init__(self, world: World, users: Users) -> None:
        self._world, self._users = world, users
        self.arms = np.zeros(len(users.at), np.int64)
        self._converted_at = np.full(len(users.at), np.inf)
        self._weight = np.zeros(len(users.at))  # what each trial has counted so far
        self._told = np.zeros(len(users.at), np.bool_)  # its conversion
        self._known, self._decided = 0, 0  # up to here everything is told; is decided

    def add(self, rows: slice, arms: Integers) -> None:
        """Remember what was decided, and what comes of it."""
        self.arms[rows] = arms
        self._converted_at[rows] = self._world.converted_at(self._users, rows, arms)
        self._decided = rows.stop

    def teach(self, learner: Learner, now: float) -> None:
        """Tell the policy what is new: how much older trials have become, and conversions."""
        rows = slice(self._known, self._decided)
        if rows.start == rows.stop:
            return
        ages = (now - self._users.at[rows]) * HOUR
        weight = np.maximum(self._curve(now).arrived(ages), self._weight[rows] + _LEAST)
        came = (self._converted_at[rows] <= now) & ~self._told[rows]
        grown = weight - self._weight[rows]
        learner.update(self._users.contexts[rows], self.arms[rows], came / grown, grown)
        self._weight[rows], self._told[rows] = weight, self._told[rows] | came
        self._known += int((ages > self._world.plan.window).sum())

    def _curve(self, now: float) -> DelayCurve:
        window = self._world.plan.window
        closed = slice(0, self._known)
        late = (self._converted_at[closed] - self._users.at[closed]) * HOUR
        told: dict[int, int] = {}
        for age in late[self._converted_at[closed] <= now].tolist():
            bucket = age_bucket(Duration(round(age)))
            told[bucket] = told.get(bucket, 0) + 1
        return DelayCurve(window, told)
