"""The lift interval looked at 200 times in a run: `... learning looks [options]`.

A run is an experiment over `USERS` people in random order, of which some are held out; after each
two-hundredth of the time somebody looks. It errs if at any look the interval leaves out the truth;
where messages do nothing, that is a false alarm. The z test of two rates, looked at as often until
it first says p < 0.05, stands beside it.

In the second world people come back: each has 1 to 20 triggers over the time, and a rate of his
own. The engine counts each user once, by the first trigger; counting every trigger as if it were
somebody else stands beside it.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.learning.pages import heading, seeds_of, share_with_error
from benchmarks.learning.regret import JUDGING
from benchmarks.learning.world import Floats, Integers
from experiment_engine.domain.measurement.lift import TooFew, UserSums, lift

LOOKS = 200
USERS = 50_000
RETURNING_USERS = 20_000  # with 10.5 triggers each on average
MOST_TRIGGERS = 20
CONTROL_RATE = 0.02
_DISPERSION = 8.0  # a user's own rate is Beta with this sum of parameters: most never convert
_Z = 1.959963984540054

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is true, and who is held out."""

    name: str
    holdout: float
    effect: float  # how many times the control's rate the messaged users' is
    returning: bool = False


SCENARIOS = (
    Scenario("one trigger a user", 0.05, 1.0),
    Scenario("one trigger a user", 0.10, 1.0),
    Scenario("one trigger a user", 0.10, 1.25),
    Scenario("one trigger a user", 0.10, 1.5),
    Scenario("1 to 20 triggers a user", 0.05, 1.0, returning=True),
    Scenario("1 to 20 triggers a user", 0.10, 1.0, returning=True),
    Scenario("1 to 20 triggers a user", 0.10, 1.5, returning=True),
)


@dataclass(frozen=True, slots=True)
class Counts:
    """Sums of both groups at each look; all have shape (LOOKS,)."""

    messaged: Floats
    messaged_converted: Floats
    held_out: Floats
    held_out_converted: Floats


@dataclass(frozen=True, slots=True)
class Verdict:
    """What somebody saw who looked at every look of one run."""

    alarm: bool  # the interval left out zero at some look
    covered: bool  # the interval held the truth at every look
    relative_covered: bool  # so did that of the relative lift
    z_alarm: bool  # the z test said p < 0.05 at some look
    width_ratio: float  # the interval's width to that of the z test, at the last look


def verdicts(scenario: Scenario, seeds: Sequence[int]) -> Iterator[tuple[Verdict, Verdict]]:
    """Yield what each run showed: counted by user, and counted by trigger."""
    for seed in seeds:
        rng = np.random.default_rng([seed, 5])
        by_user, by_trigger = (returning if scenario.returning else once)(scenario, rng)
        difference = CONTROL_RATE * (scenario.effect - 1)
        first = judge(by_user, difference, scenario.effect - 1)
        yield first, judge(by_trigger, difference, scenario.effect - 1)


def once(scenario: Scenario, rng: np.random.Generator) -> tuple[Counts, Counts]:
    """Draw a run in which every user has one trigger, whichever way it is counted."""
    held_out = rng.random(USERS) < scenario.holdout
    rates = np.where(held_out, CONTROL_RATE, CONTROL_RATE * scenario.effect)
    looks = np.arange(USERS) * LOOKS // USERS
    counts = _counts(looks, held_out, rng.random(USERS) < rates)
    return counts, counts


def returning(scenario: Scenario, rng: np.random.Generator) -> tuple[Counts, Counts]:
    """Draw a run in which users come back; count users by their first trigger, and triggers."""
    number = rng.integers(1, MOST_TRIGGERS + 1, RETURNING_USERS)
    users = np.repeat(np.arange(RETURNING_USERS), number)
    looks = np.sort(rng.integers(LOOKS, size=len(users)))
    users = rng.permutation(users)  # whoever's triggers they are, in the order of time
    held_out = rng.random(RETURNING_USERS) < scenario.holdout
    shape = _DISPERSION * CONTROL_RATE
    own = rng.beta(shape, _DISPERSION - shape, RETURNING_USERS)
    own = np.where(held_out, own, np.minimum(own * scenario.effect, 1.0))
    converted = rng.random(len(users)) < own[users]
    firsts = np.unique(users, return_index=True)[1]
    by_user = _counts(looks[firsts], held_out[users[firsts]], converted[firsts])
    return by_user, _counts(looks, held_out[users], converted)


def judge(counts: Counts, difference: float, relative: float) -> Verdict:
    """Look at every look."""
    alarm, covered, relative_covered, ratio = False, True, True, float("nan")
    z_errors = _z_half_widths(counts).tolist()
    both = np.stack(
        [counts.messaged, counts.messaged_converted, counts.held_out, counts.held_out_converted]
    ).T.tolist()
    for (messaged, converted, held_out, came_back), z_error in zip(both, z_errors, strict=True):
        seen = lift(UserSums(messaged, converted), UserSums(held_out, came_back))
        if isinstance(seen, TooFew):
            continue
        alarm = alarm or seen.is_settled
        covered = covered and seen.interval.low <= difference <= seen.interval.high
        inside = seen.relative_interval.low <= relative <= seen.relative_interval.high
        relative_covered = relative_covered and inside
        ratio = (seen.interval.high - seen.interval.low) / 2 / z_error
    with np.errstate(invalid="ignore", divide="ignore"):
        gap = counts.messaged_converted / counts.messaged - (
            counts.held_out_converted / counts.held_out
        )
    enough = np.minimum(counts.messaged_converted, counts.held_out_converted) >= 5
    z_alarm = bool((enough & (np.abs(gap) > np.array(z_errors))).any())
    return Verdict(alarm, covered, relative_covered, z_alarm, ratio)


def _counts(looks: Integers, held_out: Flags, converted: Flags) -> Counts:
    def sums(chosen: Flags) -> Floats:
        return np.bincount(looks[chosen], minlength=LOOKS).cumsum().astype(np.float64)

    return Counts(
        sums(~held_out), sums(~held_out & converted), sums(held_out), sums(held_out & converted)
    )


def _z_half_widths(counts: Counts) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        one = counts.messaged_converted / counts.messaged
        two = counts.held_out_converted / counts.held_out
        variance = one * (1 - one) / counts.messaged + two * (1 - two) / counts.held_out
    return np.asarray(_Z * np.sqrt(variance))


def main(arguments: Sequence[str]) -> int:
    """Look at every run of every scenario, and print a table."""
    asked = _options(arguments)
    seeds = range(asked.first_seed, asked.first_seed + asked.runs)
    sys.stdout.write(heading("The lift interval under 200 looks"))
    sys.stdout.write(
        f"\n{asked.runs:,} runs, {seeds_of(seeds)}; {USERS:,} users, or {RETURNING_USERS:,} who"
        f" come back; control {100 * CONTROL_RATE:g} %; shares of runs in %\n\n"
        "| world, counted by | holdout | effect | leaves out no effect | z test does |"
        " holds the truth | relative one does | width / z test's |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- |\n"
    )
    for scenario in SCENARIOS:
        pairs = list(verdicts(scenario, seeds))
        _print_row(scenario, "user", [by_user for by_user, _ in pairs])
        if scenario.returning:
            _print_row(scenario, "trigger", [by_trigger for _, by_trigger in pairs])
        if asked.json:
            with asked.json.open("a") as file:
                for seed, (by_user, by_trigger) in zip(seeds, pairs, strict=True):
                    told = {"by_user": asdict(by_user), "by_trigger": asdict(by_trigger)}
                    row = {"scenario": asdict(scenario), "seed": seed, **told}
                    file.write(json.dumps(row) + "\n")
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks learning looks")
    parser.add_argument("--first-seed", type=int, default=JUDGING.start)
    parser.add_argument(
        "--runs", type=int, default=300, help="of each scenario (300; judged by 1,000)"
    )
    parser.add_argument("--json", type=Path, help="add every run to this file, one a line")
    return parser.parse_args(arguments)


def _print_row(scenario: Scenario, unit: str, told: Sequence[Verdict]) -> None:
    ratio = np.nanmean([one.width_ratio for one in told])
    shares = [
        share_with_error([getattr(one, figure) for one in told])
        for figure in ("alarm", "z_alarm", "covered", "relative_covered")
    ]
    sys.stdout.write(
        f"| {scenario.name}, {unit} | {100 * scenario.holdout:g} % | x {scenario.effect:g} |"
        f" {' | '.join(shares)} | {ratio:.2f} |\n"
    )
    sys.stdout.flush()
