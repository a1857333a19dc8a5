"""How long a decision and a refit take: `python -m benchmarks.learning.decision_speed`.

A decision is what the engine does for each trigger, on one thread: bucket the context, find or
make the distribution, draw. Contexts and eligible sets come at random, so that every
distribution is made once, on the way: misses are among the decisions that are timed.
"""

import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.learning.world import DIMENSIONS
from experiment_engine.domain.bandit.arms import Arms, Belief
from experiment_engine.domain.bandit.cells import Cells
from experiment_engine.domain.bandit.context import FEATURES, ContextLevels
from experiment_engine.domain.bandit.policies import POLICIES
from experiment_engine.domain.bandit.snapshot import PolicyInForce, Snapshot
from experiment_engine.domain.bandit.statistics import Statistics
from experiment_engine.domain.cohorts.cohort import Cohort, Goal, Trigger
from experiment_engine.domain.cohorts.combo import ComboSpace
from experiment_engine.domain.guardrails import Eligibility
from experiment_engine.domain.identifiers import CohortName, EventName, SnapshotId
from experiment_engine.domain.moments import DAY, Instant
from experiment_engine.domain.reasons import Reason

CONTEXTS = (5, 6, 6, 5)  # 900 of them
MASKS = 8
DECISIONS = 20_000
MEDIAN_AIM, P99_AIM = 20, 100  # microseconds


@dataclass(frozen=True)
class DecisionTimes:
    """Microseconds of one policy's decisions, and of those that made a distribution."""

    median: float
    p99: float
    missed_median: float
    missed_p99: float
    misses: int


def decision_times(policy: str, seed: int = 1, decisions: int = DECISIONS) -> DecisionTimes:
    """Time decisions at 160 combos, 900 contexts and 8 eligible sets, on a fitted model."""
    in_force, features = _in_force(policy, seed)
    sets = _eligible_sets(seed)
    rng = np.random.default_rng([seed, 7])
    contexts = rng.integers(0, len(features), decisions).tolist()
    masks = rng.integers(0, MASKS, decisions).tolist()
    taken, known = np.zeros(decisions), set()
    missed = np.zeros(decisions, bool)
    for place, (context, mask) in enumerate(zip(contexts, masks, strict=True)):
        began = time.perf_counter_ns()
        levels, _ = in_force.levels_of(features[context])
        distribution = in_force.distribution(sets[mask], levels)
        distribution.draw(place)
        taken[place] = time.perf_counter_ns() - began
        missed[place] = distribution.id not in known
        known.add(distribution.id)
    taken /= 1_000
    median, p99 = np.percentile(taken, [50, 99])
    missed_median, missed_p99 = np.percentile(taken[missed], [50, 99])
    return DecisionTimes(median, p99, missed_median, missed_p99, int(missed.sum()))


def refit_seconds(policy: str, experiments: int, seed: int = 1) -> tuple[float, int]:
    """Return how long a refit from the counters of so many experiments takes, and their rows."""
    cells = counted(experiments, CONTEXTS, seed)
    made = POLICIES[policy](Arms(DIMENSIONS), Belief(), {})
    began = time.perf_counter()
    made.fit(cells, seed)
    return time.perf_counter() - began, len(cells.arms)


def counted(experiments: int, sizes: tuple[int, ...], seed: int) -> Cells:
    """Return counts of experiments spread evenly over contexts and arms; arms differ."""
    rng = np.random.default_rng([seed, 8])
    shape = (*sizes, int(np.prod(DIMENSIONS)))
    rates = 1 / (1 + np.exp(4 - 0.3 * rng.normal(size=shape[-1])))
    places, trials = np.unique(
        rng.integers(0, int(np.prod(shape)), experiments), return_counts=True
    )
    *levels, arms = np.unravel_index(places, shape)
    successes = rng.binomial(trials, rates[arms])
    late = np.zeros(len(arms), bool)
    return Cells(
        np.stack(levels, axis=1), arms, late, trials.astype(float), successes.astype(float), sizes
    )


def _in_force(policy: str, seed: int) -> tuple[PolicyInForce, Sequence[dict[str, str]]]:
    labels = [
        [f"{name}{n}" for n in range(size)] for name, size in zip("dcao", DIMENSIONS, strict=True)
    ]
    labels[0] = ["2min", "15min", "1h", "6h"]
    trigger, goal = EventName("left"), Goal(event=EventName("paid"), window=DAY)
    space = ComboSpace.of(*labels)
    cohort = Cohort(
        name=CohortName("timed"), trigger=Trigger(event=trigger), goal=goal, space=space
    )
    made = POLICIES[policy](Arms.of(space), Belief(), {})
    names = tuple(
        tuple(f"{feature}-{n}" for n in range(size - 1))
        for feature, size in zip(FEATURES, CONTEXTS, strict=True)
    )
    model = made.fit(counted(20_000, CONTEXTS, seed), seed)
    nothing = Statistics.none(len(space))
    snapshot = Snapshot(SnapshotId("s"), Instant(0), nothing, model, ContextLevels(names))
    values = [(*named, "something else") for named in names]
    features = [
        dict(zip(FEATURES, (values[f][level] for f, level in enumerate(context)), strict=True))
        for context in np.ndindex(CONTEXTS)
    ]
    return PolicyInForce(cohort, snapshot, made.uses_context), features


def _eligible_sets(seed: int) -> list[Eligibility]:
    arms = Arms(DIMENSIONS).levels
    rng = np.random.default_rng([seed, 9])
    sets = []
    for _ in range(MASKS):
        refused = rng.choice(len(arms), rng.integers(0, 80), replace=False).tolist()
        eligible = tuple(sorted(set(range(len(arms))) - set(refused)))
        sets.append(Eligibility(eligible, {Reason.QUIET_HOURS: tuple(refused)}))
    return sets


def main(arguments: Sequence[str] = ()) -> int:
    """Print the table."""
    del arguments
    head = f"{'policy':20} {'median':>8} {'p99':>8} {'miss':>8} {'miss p99':>9}   refit at 1 M"
    lines = [f"{head}\n{'':20} {'us':>8} {'us':>8} {'us':>8} {'us':>9}   s (rows)"]
    for policy in POLICIES:
        times, (seconds, rows) = decision_times(policy), refit_seconds(policy, 1_000_000)
        lines.append(
            f"{policy:20} {times.median:8.1f} {times.p99:8.1f} {times.missed_median:8.1f}"
            f" {times.missed_p99:9.1f}   {seconds:.2f} ({rows})"
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    lines.append(
        f"aims: median {MEDIAN_AIM}, p99 {P99_AIM} us, misses included; a refit within 5 s and"
        f" 500 MB; peak memory here {peak:.0f} MB"
    )
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
