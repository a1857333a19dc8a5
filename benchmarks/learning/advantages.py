"""The interval of a policy's advantage over an even split, looked at 100 times: `... advantages`.

The engine estimates from its own log, whose propensities move as it learns. What the policy truly
reached up to a look, less what an even split of the same users would have, is known here; a run
errs if at any look the interval leaves it out. Looks at which the engine would withhold the figure
do not count. In the world where messages do nothing, every claim of an advantage is a false alarm.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.learning.pages import heading, seeds_of, share_with_error, with_error
from benchmarks.learning.regret import JUDGING
from benchmarks.learning.world import ARMS, DIMENSIONS, FEATURES, World, make
from experiment_engine.domain.bandit.policies import build
from experiment_engine.domain.measurement.off_policy import WeightSums, advantage, overlap

TRIGGERS, BATCH = 30_000, 300  # with fewer, `thompson` has too thin an overlap to be shown
KINDS = ("factorial", "null")
POLICIES = ("thompson", "epsilon_greedy")  # the factorial one takes fifty times as long


@dataclass(frozen=True, slots=True)
class Seen:
    """What somebody saw who looked after every batch of one run."""

    shown: bool  # the figure was shown at some look
    covered: bool  # whenever it was shown, the interval held the truth
    claimed: bool  # at some look the interval left out that there is no advantage
    width: float  # of the last interval, to the even split's rate
    truth: float  # the advantage in the end, to the even split's rate


def look(world: World, policy: str, seed: int) -> Seen:
    """Let the policy learn, and look at its estimated advantage after every batch."""
    rng = np.random.default_rng([seed, 11])
    chooser = build(policy, DIMENSIONS, FEATURES, seed=float(seed), growth=0.05)
    sums, truth, even = WeightSums(), 0.0, 0.0
    shown, covered, claimed, width = False, True, False, float("nan")
    for end in range(BATCH, TRIGGERS + 1, BATCH):
        contexts = world.contexts(BATCH, rng)
        arms, propensities = chooser.choose(contexts, rng)
        rates = world.rates_of(contexts, 0.0)
        reached = rates[np.arange(BATCH), arms]
        rewards = (rng.random(BATCH) < reached).astype(np.float64)
        chooser.update(contexts, arms, rewards)
        sums = sums + WeightSums.of(1 / ARMS / propensities, rewards)
        truth += float(reached.sum() - rates.mean(axis=1).sum())
        even += float(rates.mean(axis=1).sum())
        if overlap(sums) is not None:
            continue
        interval = advantage(sums).interval
        shown = True
        covered = covered and bool(interval.low <= truth / end <= interval.high)
        claimed = claimed or not interval.low <= 0 <= interval.high
        width = (interval.high - interval.low) / (even / end)
    return Seen(shown, covered, claimed, width, truth / even)


def main(arguments: Sequence[str]) -> int:
    """Look at every run, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks learning advantages")
    parser.add_argument("--first-seed", type=int, default=JUDGING.start)
    parser.add_argument("--runs", type=int, default=20, help="of each (20; judged by 200)")
    asked = parser.parse_args(arguments)
    seeds = range(asked.first_seed, asked.first_seed + asked.runs)
    sys.stdout.write(heading("The interval of the advantage over an even split under 100 looks"))
    sys.stdout.write(
        f"\n{TRIGGERS:,} messages, {seeds_of(seeds)}; of runs in which a figure was shown\n\n"
        "| world, policy | runs | true advantage % | says there is one % | holds the truth % |"
        " last width, points |\n"
        "| --- | --- | --- | --- | --- | --- |\n"
    )
    for kind in KINDS:
        for policy in POLICIES:
            told = [look(make(kind, seed), policy, seed) for seed in seeds]
            _print_row(f"{kind}, {policy}", [one for one in told if one.shown])
    return 0


def _print_row(name: str, told: Sequence[Seen]) -> None:
    if not told:
        sys.stdout.write(f"| {name} | 0 | | | | |\n")
        return
    sys.stdout.write(
        f"| {name} | {len(told)} | {with_error([100 * one.truth for one in told], 0)} |"
        f" {share_with_error([one.claimed for one in told])} |"
        f" {share_with_error([one.covered for one in told])} |"
        f" {with_error([100 * one.width for one in told], 0)} |\n"
    )
    sys.stdout.flush()
