"""How long decisions and learning take, beside peers: `... learning times [options]`.

Everybody is asked through the same two verbs, on one thread, one trigger at a time, in the
factorial world: choose an arm for one user; learn 50 outcomes, up to the moment in which the next
decision rests on them (ours fits all counts anew for that, peers go on from where they are). It is
processor time, so that whatever else the machine does counts little. The second table has the
engine's own path, as a webhook meets it, and refits from the counters of many experiments.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.learning.contenders import CONTENDERS
from benchmarks.learning.decision_speed import decision_times, refit_seconds
from benchmarks.learning.pages import heading
from benchmarks.learning.runs import Chooser
from benchmarks.learning.world import Integers, World, make
from experiment_engine.domain.bandit.policies import POLICIES

BATCH = 50
SEED = 2_000
_REFITS = (10_000, 50_000, 1_000_000)


@dataclass(frozen=True, slots=True)
class Times:
    """What one contender needs, after it has learned a number of outcomes."""

    median_us: float
    p99_us: float
    in_force_ms: float  # from 50 new outcomes to a decision that rests on them, median


def timed(chooser: Chooser, world: World, *, learned: int, decisions: int) -> Times:
    """Let it learn, then time single decisions and batches of outcomes."""
    rng = np.random.default_rng([SEED, 10])
    for _ in range(0, learned, BATCH):
        _learn_one_batch(chooser, world, rng)
    in_force = [_learn_one_batch(chooser, world, rng) for _ in range(10)]
    contexts = world.contexts(decisions, rng)
    taken = np.zeros(decisions)
    arms = np.zeros(decisions, np.int64)
    for place in range(decisions):
        began = time.thread_time()
        arms[place] = chooser.choose(contexts[place : place + 1], rng)[0][0]
        taken[place] = time.thread_time() - began
    median, p99 = np.percentile(taken * 1e6, [50, 99])
    return Times(float(median), float(p99), float(np.median(in_force)) * 1e3)


def _learn_one_batch(chooser: Chooser, world: World, rng: np.random.Generator) -> float:
    """Decide about a batch, learn what comes of it and decide once more; seconds of the latter."""
    contexts: Integers = world.contexts(BATCH, rng)
    arms, _ = chooser.choose(contexts, rng)
    rates = world.rates_of(contexts, 0.0)[np.arange(BATCH), arms]
    rewards = (rng.random(BATCH) < rates).astype(np.float64)
    began = time.thread_time()
    chooser.update(contexts, arms, rewards)
    # What the next batch begins with; peers that pair their decisions with outcomes forget it.
    propensities = getattr(chooser, "propensities", None)
    if propensities:
        propensities(contexts[:1])
    return time.thread_time() - began


def main(arguments: Sequence[str]) -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks learning times")
    parser.add_argument("--learned", type=int, default=2_000, help="outcomes known before (2000)")
    parser.add_argument("--decisions", type=int, default=400, help="how many are timed (400)")
    asked = parser.parse_args(arguments)
    sys.stdout.write(heading("Times of decisions and of learning, one thread"))
    sys.stdout.write(
        f"\nThrough the public interface, processor time, after {asked.learned:,} outcomes\n\n"
        "| policy | a decision: median us | p99 us | 50 outcomes in force after ms |\n"
        "| --- | --- | --- | --- |\n"
    )
    for name, maker in CONTENDERS.items():
        if "," in name:  # a variant of the one before it
            continue
        told = timed(
            maker(SEED, asked.learned + asked.decisions),
            make("factorial", SEED),
            learned=asked.learned,
            decisions=asked.decisions,
        )
        sys.stdout.write(
            f"| {name} | {told.median_us:,.0f} | {told.p99_us:,.0f} | {told.in_force_ms:.1f} |\n"
        )
    refits = " | ".join(f"refit at {number:,} s" for number in _REFITS)
    sys.stdout.write(
        "\nIn the engine: 160 combos, 900 contexts, 8 eligible sets, misses included\n\n"
        f"| policy | a decision: median us | p99 us | {refits} |\n"
        f"| --- | --- | --- |{' --- |' * len(_REFITS)}\n"
    )
    for policy in POLICIES:
        decided = decision_times(policy)
        refit = " | ".join(f"{refit_seconds(policy, number)[0]:.2f}" for number in _REFITS)
        sys.stdout.write(f"| {policy} | {decided.median:.1f} | {decided.p99:.1f} | {refit} |\n")
    return 0
