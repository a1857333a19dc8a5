"""Hillstrom's 64,000 e-mails with three campaigns, replayed: `... learning hillstrom [options]`.

Rejection sampling (Li, Chu, Langford and Wang 2011): the log was drawn at random, so the rows in
which a policy chooses what was sent are a fair sample of what it would have met; all others are
passed over. The reward is a visit. The order of the rows is shuffled by the seed.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmarks.learning import datasets
from benchmarks.learning.pages import heading, seeds_of, with_error
from benchmarks.learning.plain import Plain
from benchmarks.learning.regret import JUDGING
from benchmarks.learning.runs import Chooser
from benchmarks.learning.world import Floats, Integers
from experiment_engine.domain.bandit.policies import build
from experiment_engine.domain.bandit.posterior_draws import FLOOR

CAMPAIGNS = ("No E-Mail", "Mens E-Mail", "Womens E-Mail")
FEATURES = ("history_segment", "zip_code", "newbie", "channel", "mens", "womens")
BATCH = 50  # rows between two looks at the outcomes


@dataclass(frozen=True)
class Mailing:
    """The log: who, what was sent at random, and whether a visit followed."""

    contexts: Integers  # (n, G)
    arms: Integers  # (n,)
    visits: Floats  # (n,)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Return the number of levels of each feature."""
        return tuple(int(size) for size in self.contexts.max(axis=0) + 1)

    @classmethod
    def read(cls, folder: Path) -> "Mailing":
        """Read the data set; raise MissingDataSetError if it is not there."""
        rows = datasets.rows(folder, "hillstrom", "hillstrom.csv.gz")
        columns = [
            np.unique([row[feature] for row in rows], return_inverse=True)[1]
            for feature in FEATURES
        ]
        arms = np.array([CAMPAIGNS.index(row["segment"]) for row in rows])
        visits = np.array([float(row["visit"]) for row in rows])
        return cls(np.stack(columns, axis=1), arms, visits)


Maker = Callable[[Mailing, int], Chooser]


def _ours(name: str, **options: float) -> Maker:
    def made(mailing: Mailing, seed: int) -> Chooser:
        return build(name, (len(CAMPAIGNS),), mailing.sizes, seed=float(seed), **options)

    return made


POLICIES: Mapping[str, Maker] = {
    "factorial_thompson": _ours("factorial_thompson"),
    "factorial_thompson, no floor": _ours("factorial_thompson", floor=0.0),
    "thompson": _ours("thompson"),
    "thompson, no floor": _ours("thompson", floor=0.0),
    "epsilon_greedy": _ours("epsilon_greedy"),
    "plain design": lambda _, seed: Plain(seed, arms=len(CAMPAIGNS)),
    "uniform": _ours("uniform"),
}


@dataclass(frozen=True, slots=True)
class Replay:
    """What a policy reached in the rows where it agreed with the log."""

    accepted: int
    visits: float

    @property
    def rate(self) -> float:
        """Return visits for a hundred e-mails."""
        return 100 * self.visits / self.accepted


def replay(mailing: Mailing, chooser: Chooser, seed: int) -> Replay:
    """Play the log in the seed's order."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(mailing.arms))
    accepted, visits = 0, 0.0
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        contexts = mailing.contexts[rows]
        arms, _ = chooser.choose(contexts, rng)
        agree = arms == mailing.arms[rows]
        rewards = mailing.visits[rows[agree]]
        chooser.update(contexts[agree], arms[agree], rewards)
        accepted, visits = accepted + int(agree.sum()), visits + float(rewards.sum())
    return Replay(accepted, visits)


def best_fixed(mailing: Mailing, floor: float = 0.0) -> float:
    """Return the visits for a hundred e-mails of the best campaign for everybody.

    With a floor, that share is spread evenly: the most that such a policy can reach without
    looking at the context, had it known the best campaign from the start.
    """
    by_arm = [mailing.visits[mailing.arms == arm].mean() for arm in range(len(CAMPAIGNS))]
    return 100 * float((1 - floor) * max(by_arm) + floor * np.mean(by_arm))


def main(arguments: Sequence[str]) -> int:
    """Replay the log with every policy and seed, and print a table; say so if it is not there."""
    asked = _options(arguments)
    try:
        mailing = Mailing.read(asked.data)
    except datasets.MissingDataSetError as missing:
        sys.stdout.write(f"\n{missing}\n")
        return 0
    seeds = range(asked.first_seed, asked.first_seed + asked.seeds)
    sys.stdout.write(heading("Hillstrom's e-mails, replayed"))
    sys.stdout.write(
        f"\n{seeds_of(seeds)}; the best campaign for all, known from the start:"
        f" {best_fixed(mailing):.2f} %, with the floor of {FLOOR:g}"
        f" {best_fixed(mailing, FLOOR):.2f} %\n"
    )
    sys.stdout.write("\n| policy | visits % | e-mails accepted |\n| --- | --- | --- |\n")
    for name, maker in POLICIES.items():
        found = [replay(mailing, maker(mailing, seed), seed) for seed in seeds]
        rates, accepted = [one.rate for one in found], [one.accepted for one in found]
        sys.stdout.write(f"| {name} | {with_error(rates, 2)} | {np.mean(accepted):,.0f} |\n")
        if asked.json:
            told = [
                {"policy": name, "seed": seed, **asdict(one)}
                for seed, one in zip(seeds, found, strict=True)
            ]
            with asked.json.open("a") as file:
                file.writelines(json.dumps(one) + "\n" for one in told)
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks learning hillstrom")
    parser.add_argument("--first-seed", type=int, default=JUDGING.start)
    parser.add_argument("--seeds", type=int, default=3, help="how many (3; judged by 10)")
    parser.add_argument("--data", type=Path, default=datasets.usual_folder(), metavar="FOLDER")
    parser.add_argument("--json", type=Path, help="add every run to this file, one a line")
    return parser.parse_args(arguments)
