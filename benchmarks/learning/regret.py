"""Regret in worlds whose rates are known: `python -m benchmarks learning regret [options]`."""

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.learning.contenders import BASELINE, CONTENDERS, SWEPT
from benchmarks.learning.runs import play
from benchmarks.learning.world import Floats, make

JUDGING = range(2_000, 2_010)  # never used to choose anything
SELECTION = range(100, 103)  # for Vowpal Wabbit's settings
USUAL = ("factorial:2000", "factorial:10000", "contextual:10000")
LONG = ("factorial:50000", "unstructured:10000", "drift:50000", "shock:50000")
_LONG_FROM = 50_000  # from here on peers are too slow, and a world may change
_SLOW = ("vowpalwabbit", "mabwiser", "river")
_WATCHFUL = "change alarm"


@dataclass(frozen=True)
class Row:
    """One contender's run in one world."""

    track: str
    contender: str
    seed: int
    regret: float
    capture: float
    capture_late: float  # in the last fifth
    seconds: float


def main(arguments: Sequence[str]) -> int:
    """Play every contender on every track and seed, and print a table for each track."""
    asked = _options(arguments)
    seeds = list(range(asked.first_seed, asked.first_seed + asked.seeds))
    rows: list[Row] = []
    for track in asked.tracks:
        for row in _played(track, asked.contenders, seeds):
            rows.append(row)
            if asked.json:
                with asked.json.open("a") as file:
                    file.write(json.dumps(asdict(row)) + "\n")
        print("\n".join(table(track, [row for row in rows if row.track == track], seeds)))
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks learning regret")
    parser.add_argument("--tracks", nargs="+", default=list(USUAL), help="such as drift:50000")
    parser.add_argument("--long", action="store_true", help="the long tracks too: about an hour")
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), choices=CONTENDERS)
    parser.add_argument("--first-seed", type=int, default=JUDGING.start)
    parser.add_argument("--seeds", type=int, default=len(JUDGING), help="how many")
    parser.add_argument("--json", type=Path, help="add every run to this file, one a line")
    parser.add_argument("--sweep", action="store_true", help="Vowpal Wabbit's settings instead")
    asked = parser.parse_args(arguments)
    if asked.sweep:
        asked.tracks, asked.contenders = ["factorial:10000"], list(SWEPT)
        asked.first_seed, asked.seeds = SELECTION.start, len(SELECTION)
    if asked.long:
        asked.tracks = [*asked.tracks, *LONG]
    return asked


def _played(track: str, contenders: Iterable[str], seeds: Sequence[int]) -> Iterable[Row]:
    kind, horizon = track.split(":")
    for contender in dict.fromkeys([BASELINE, *contenders]):
        long = int(horizon) >= _LONG_FROM
        if contender.startswith(_SLOW) if long else contender.endswith(_WATCHFUL):
            continue
        for seed in seeds:
            started = time.monotonic()
            chooser = {**CONTENDERS, **SWEPT}[contender](seed, int(horizon))
            run = play(make(kind, seed), chooser, int(horizon), seed)
            late = (run.late_chosen - run.late_even) / (run.late_oracle - run.late_even)
            taken = time.monotonic() - started
            yield Row(track, contender, seed, run.regret, run.capture, late, taken)
        sys.stderr.write(f"{track} {contender}: {time.monotonic() - started:.1f} s a run\n")


def table(track: str, rows: Iterable[Row], seeds: Sequence[int]) -> list[str]:
    """Return the lines of a Markdown table, with standard errors over the seeds."""
    by_name: Mapping[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_name[row.contender].append(row)
    plain = np.array([row.regret for row in by_name[BASELINE]])
    lines = [
        f"\n{track}, seeds {seeds[0]} to {seeds[-1]}\n",
        "| policy | regret / plain design | regret | capture % | in the last fifth % | s |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, told in by_name.items():
        regret = np.array([row.regret for row in told])
        ratio, error = ratio_of_sums(regret, plain)
        capture = [100 * row.capture for row in told]
        late = [100 * row.capture_late for row in told]
        seconds = np.mean([row.seconds for row in told])
        lines.append(
            f"| {name} | {ratio:.2f} ± {error:.2f} | {_with_error(regret, 0)} |"
            f" {_with_error(capture, 1)} | {_with_error(late, 1)} | {seconds:.1f} |"
        )
    return lines


def ratio_of_sums(ours: Floats, theirs: Floats) -> tuple[float, float]:
    """Return the ratio of two paired sums, and its standard error (linearised)."""
    ratio = ours.sum() / theirs.sum()
    off = ours - ratio * theirs
    error = np.sqrt((off**2).sum() / max(1, len(off) - 1) / len(off)) / theirs.mean()
    return float(ratio), float(error)


def _with_error(values: Sequence[float] | Floats, digits: int) -> str:
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return f"{np.mean(values):.{digits}f} ± {error:.{digits}f}"
