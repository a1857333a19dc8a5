"""Off-policy value of the Open Bandit Dataset's samples, checked: `... learning obd [options]`.

Six logs of 10,000 rows: a campaign's log of one policy says what the other one would have
reached. The known figures are those of obp 0.4.1 itself; beside them stands a computation that
shares no code with the engine's.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import fsum
from pathlib import Path

import numpy as np

from benchmarks.learning import datasets
from benchmarks.learning.pages import heading
from benchmarks.learning.world import Floats
from experiment_engine.domain.measurement.off_policy import WeightSums, ips, snips

DECIMALS = 7
CLOSE = 1e-9

KNOWN = {  # campaign, policy of the log: IPW, SNIPW of the other policy
    ("all", "random"): (0.0045529, 0.0047758),
    ("all", "bts"): (0.0023596, 0.0023337),
    ("men", "random"): (0.0045336, 0.0046042),
    ("men", "bts"): (0.0030086, 0.0031894),
    ("women", "random"): (0.0068135, 0.0068110),
    ("women", "bts"): (0.0074376, 0.0023730),
}


@dataclass(frozen=True, slots=True)
class Check:
    """One estimate: ours, an independent one, and the known figure."""

    campaign: str
    logged_by: str
    estimator: str
    ours: float
    independent: float
    known: float

    @property
    def is_equal(self) -> bool:
        """Say whether ours is the known figure, rounded, and the independent one."""
        rounds = round(self.ours, DECIMALS) == self.known
        return rounds and abs(self.ours - self.independent) <= CLOSE


def checks(folder: Path) -> Iterator[Check]:
    """Estimate everything twice; raise MissingDataSetError if the logs are not there."""
    for (campaign, logged_by), known in KNOWN.items():
        weights, clicks = weighed_log(folder, campaign, logged_by)
        sums = WeightSums.of(weights, clicks)
        ours = (ips(sums).value, snips(sums).value)
        independent = _by_hand(weights.tolist(), clicks.tolist())
        for name, one, two, three in zip(("IPW", "SNIPW"), ours, independent, known, strict=True):
            yield Check(campaign, logged_by, name, one, two, three)


def weighed_log(folder: Path, campaign: str, logged_by: str) -> tuple[Floats, Floats]:
    """Return how much likelier the other policy was to show each row's item, and its click."""
    log = datasets.rows(folder, "obd", f"obd_{logged_by}_{campaign}.csv.gz")
    with np.load(datasets.path(folder, "obd", f"obd_actiondist_bts_{campaign}.npz")) as kept:
        shown_by_bts = next(iter(kept.values()))  # (items, positions)
    items = np.array([int(row["item_id"]) for row in log])
    positions = np.unique([int(row["position"]) for row in log], return_inverse=True)[1]
    propensities = np.array([float(row["propensity_score"]) for row in log])
    clicks = np.array([float(row["click"]) for row in log])
    if logged_by == "random":
        return shown_by_bts[items, positions] / propensities, clicks
    return 1 / len(shown_by_bts) / propensities, clicks


def _by_hand(weights: Sequence[float], clicks: Sequence[float]) -> tuple[float, float]:
    gained = fsum(weight for weight, click in zip(weights, clicks, strict=True) if click)
    return gained / len(weights), gained / fsum(weights)


def main(arguments: Sequence[str]) -> int:
    """Print every estimate beside the known figure; 1 if one is not equal."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks learning obd")
    parser.add_argument("--data", type=Path, default=datasets.usual_folder(), metavar="FOLDER")
    asked = parser.parse_args(arguments)
    try:
        found = list(checks(asked.data))
    except datasets.MissingDataSetError as missing:
        sys.stdout.write(f"\n{missing}\n")
        return 0
    sys.stdout.write(heading("Off-policy value of the Open Bandit Dataset's six logs"))
    sys.stdout.write(
        "\n| campaign | log | estimator | ours | known | off an independent one | equal |\n"
        "| --- | --- | --- | --- | --- | --- | --- |\n"
    )
    for check in found:
        sys.stdout.write(
            f"| {check.campaign} | {check.logged_by} | {check.estimator} | {check.ours:.10f} |"
            f" {check.known:.{DECIMALS}f} | {abs(check.ours - check.independent):.0e} |"
            f" {'yes' if check.is_equal else 'NO'} |\n"
        )
    return 0 if all(check.is_equal for check in found) else 1
