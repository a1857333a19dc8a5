"""Conversions that come late, and where messages do nothing: `... learning delays [options]`."""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.learning.late import (
    FAST,
    SEND_HOURS,
    SLOW,
    WINDOW,
    EvenSplit,
    Maker,
    Ours,
    Pace,
    PlainDesign,
    play,
)
from benchmarks.learning.pages import heading, seeds_of, with_error
from benchmarks.learning.regret import JUDGING, ratio_of_sums
from benchmarks.learning.world import Floats, make
from experiment_engine.domain.bandit.policies import POLICIES

WAYS = ("age", "mature", "flip")
NULL_WAYS = (*WAYS, "sent")
BASELINE = "plain design, mature"


def contenders(policies: Sequence[str], ways: Sequence[str]) -> Mapping[str, Maker]:
    """Return makers of our policies with each way to count, and of what they are compared to."""
    ours = {f"{policy}, {way}": partial(Ours, policy, way) for policy in policies for way in ways}
    return {BASELINE: PlainDesign, "even split": EvenSplit, **ours}


def chance(shares: Floats, *, draws: int = 20_000) -> float:
    """Return how often chance alone favours some delay as much: shares (seeds, delays).

    Where delays are alike, their names can be exchanged within every seed; the statistic is the
    sum of squares of the mean shares' distances from an even split.
    """
    rng = np.random.default_rng(8)
    seen = ((shares.mean(axis=0) - 1 / shares.shape[1]) ** 2).sum()
    mixed = rng.permuted(np.tile(shares, (draws, 1, 1)), axis=2)
    at_random = ((mixed.mean(axis=1) - 1 / shares.shape[1]) ** 2).sum(axis=1)
    return float((1 + (at_random >= seen - 1e-15).sum()) / (1 + draws))


@dataclass(frozen=True, slots=True)
class Row:
    """One contender's run."""

    world: str
    pace: str
    contender: str
    seed: int
    regret: float
    gain: float
    first_day_gain: float
    shares_of_delays: list[float]


def main(arguments: Sequence[str]) -> int:
    """Play every contender at both paces, then where messages do nothing; print tables."""
    asked = _options(arguments)
    seeds = range(asked.first_seed, asked.first_seed + asked.seeds)
    null_seeds = range(asked.first_seed, asked.first_seed + asked.null_seeds)
    writes = partial(_noted, to=asked.json)
    sys.stdout.write(heading("Conversions that come late"))
    if seeds:
        makers = contenders(asked.policies, WAYS)
        for pace in (SLOW, FAST):
            rows = [writes(row) for row in _played("factorial", pace, makers, seeds)]
            sys.stdout.write("\n".join([*_delayed_table(pace, rows, seeds), ""]))
    if null_seeds:
        makers = contenders(asked.policies, NULL_WAYS)
        rows = [writes(row) for row in _played("null", FAST, makers, null_seeds)]
        sys.stdout.write("\n".join([*_null_table(rows, null_seeds), ""]))
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks learning delays")
    parser.add_argument(
        "--policies", nargs="+", default=["factorial_thompson"], choices=list(POLICIES)
    )
    parser.add_argument("--first-seed", type=int, default=JUDGING.start)
    parser.add_argument("--seeds", type=int, default=2, help="how many (2; judged by 10; 0: none)")
    parser.add_argument(
        "--null-seeds", type=int, default=4, help="where messages do nothing (4; judged by 20)"
    )
    parser.add_argument("--json", type=Path, help="add every run to this file, one a line")
    return parser.parse_args(arguments)


def _noted(row: Row, *, to: Path | None) -> Row:
    if to:
        with to.open("a") as file:
            file.write(json.dumps(asdict(row)) + "\n")
    return row


def _played(
    kind: str, pace: Pace, makers: Mapping[str, Maker], seeds: Sequence[int]
) -> Iterator[Row]:
    for name, maker in makers.items():
        for seed in seeds:
            run = play(make(kind, seed), maker(seed), pace, seed, null=kind == "null")
            yield Row(
                kind,
                pace.name,
                name,
                seed,
                run.regret(),
                run.gain(),
                run.gain(pace.first_day),
                run.shares_of_delays().tolist(),
            )
        sys.stderr.write(f"{kind}, {pace.name}: {name}\n")


def _delayed_table(pace: Pace, rows: Sequence[Row], seeds: Sequence[int]) -> list[str]:
    plain = np.array([row.regret for row in rows if row.contender == BASELINE])
    lines = [
        f"\n{pace.name}, window {WINDOW:.0f} h, {seeds_of(seeds)}\n",
        "| policy, way to count | regret / plain design | regret | x even split | first day |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name in dict.fromkeys(row.contender for row in rows):
        told = [row for row in rows if row.contender == name]
        regret = np.array([row.regret for row in told])
        ratio, error = ratio_of_sums(regret, plain)
        lines.append(
            f"| {name} | {ratio:.2f} ± {error:.2f} | {with_error(regret, 0)} |"
            f" {with_error([row.gain for row in told], 2)} |"
            f" {with_error([row.first_day_gain for row in told], 3)} |"
        )
    return lines


def _null_table(rows: Sequence[Row], seeds: Sequence[int]) -> list[str]:
    hours = ", ".join(f"{hours:g} h" for hours in SEND_HOURS)
    lines = [
        f"\nMessages do nothing, conversions fade: {FAST.name}, {seeds_of(seeds)}\n",
        f"| policy, way to count | share of the delays {hours} (%) | by chance as uneven, p |",
        "| --- | --- | --- |",
    ]
    for name in dict.fromkeys(row.contender for row in rows):
        shares = np.array([row.shares_of_delays for row in rows if row.contender == name])
        each = ", ".join(with_error(100 * column, 1) for column in shares.T)
        by_chance = chance(shares)
        written = "< 0.001" if by_chance < 0.001 else f"{by_chance:.3f}"
        lines.append(f"| {name} | {each} | {written} |")
    return lines
