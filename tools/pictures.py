"""The pictures of the explanations, drawn from the engine's own code with a seed.

python -m tools.pictures docs/pictures
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import numpy.typing as npt

from experiment_engine.domain.bandit import policies
from experiment_engine.domain.bandit.delay_curve import DelayCurve, age_bucket
from experiment_engine.domain.bandit.statistics import Floats
from experiment_engine.domain.measurement.confidence_sequence import half_width
from experiment_engine.domain.measurement.interval import Z_95
from experiment_engine.domain.moments import DAY, HOUR, MINUTE, Duration

SEED = 7

_W, _H, _LEFT, _RIGHT, _TOP, _BOTTOM = 820, 420, 60, 200, 56, 50
_COLOURS = ("#1f6feb", "#d1580d", "#1a7f50", "#8250df", "#57606a")


@dataclass(frozen=True)
class Axes:
    """What a picture shows, and between which values."""

    title: str
    note: str
    x: tuple[float, float]
    y: tuple[float, float]
    marks: Mapping[float, str]  # on the vertical axis
    ends: tuple[str, str]  # of the horizontal one

    def at(self, x: float, y: float) -> str:
        """Return where a point lies."""
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (min(max(y, self.y[0]), self.y[1]) - self.y[0]) / (self.y[1] - self.y[0])
        left = _LEFT + across * (_W - _LEFT - _RIGHT)
        return f"{left:.1f},{_H - _BOTTOM - up * (_H - _TOP - _BOTTOM):.1f}"


Lines = Mapping[str, tuple[Sequence[float], Sequence[float]]]


def draw(axes: Axes, lines: Lines) -> str:
    """Return a picture of some lines, each with its name at its end."""
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_W} {_H}" role="img"'
            f' font-family="sans-serif" font-size="13"><title>{escape(axes.title)}</title>'
            f'<rect width="{_W}" height="{_H}" fill="#ffffff"/>'
            f'<text x="{_LEFT}" y="24" font-size="16">{escape(axes.title)}</text>'
            f'<text x="{_LEFT}" y="43" fill="#57606a">{escape(axes.note)}</text>'
            f'<text x="{_LEFT}" y="{_H - 16}">{escape(axes.ends[0])}</text>'
            f'<text x="{_W - _RIGHT}" y="{_H - 16}" text-anchor="end">'
            f"{escape(axes.ends[1])}</text>"
        )
    ]
    for value, text in axes.marks.items():
        ((left, top), (right, _)) = (axes.at(x, value).split(",") for x in axes.x)
        parts.append(
            f'<line x1="{left}" x2="{right}" y1="{top}" y2="{top}" stroke="#d0d7de"/>'
            f'<text x="{_LEFT - 8}" y="{float(top) + 4:.1f}" text-anchor="end">{text}</text>'
        )
    ends = _spread_out([axes.at(across[-1], up[-1]) for across, up in lines.values()])
    for place, ((name, (across, up)), end) in enumerate(zip(lines.items(), ends, strict=True)):
        points = [axes.at(x, y) for x, y in zip(across, up, strict=True)]
        colour = _COLOURS[place % len(_COLOURS)]
        parts.append(
            f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}"'
            f' stroke-width="2"/><text x="{_W - _RIGHT + 8}" y="{end + 4:.1f}"'
            f' fill="{colour}">{escape(name)}</text>'
        )
    return "\n".join([*parts, "</svg>\n"])


def _spread_out(points: Sequence[str]) -> list[float]:
    """Return heights for the names at the ends of lines, none upon another."""
    heights = [float(point.split(",")[1]) for point in points]
    lowest = float("-inf")
    for place in sorted(range(len(heights)), key=heights.__getitem__):
        heights[place] = lowest = max(heights[place], lowest + 16)
    return heights


_SHAPE, _SENDS, _AT_ONCE, _LIVES = (4, 2, 5, 4), 12_000, 200, 6


def learning() -> str:
    """Draw what a message of each policy brings as it learns, in a world that we know."""
    rng = np.random.default_rng(SEED)
    parts = [np.exp(rng.normal(0, 0.35, size)) for size in _SHAPE]
    rates = 0.02 * np.einsum("a,b,c,d->abcd", *parts).ravel()
    sends = [float(count) for count in range(_AT_ONCE, _SENDS + 1, _AT_ONCE)]
    lines: dict[str, tuple[Sequence[float], Sequence[float]]] = {}
    for name in ("factorial_thompson", "epsilon_greedy", "uniform"):
        worth = np.mean([_worth(name, rates, seed) for seed in range(_LIVES)], axis=0)
        lines[name] = (sends, [float(value) for value in worth])
    best = 100 * float(rates.max())
    lines["the best combo"] = ([sends[0], sends[-1]], [best, best])
    axes = Axes(
        "What the next 100 messages bring, as the policy stands",
        f"160 combos whose true rates we chose (seed {SEED}); the mean of {_LIVES} runs",
        (sends[0], sends[-1]),
        (0, best * 1.1),
        {value: f"{value:g}" for value in range(int(best * 1.1) + 1)},
        ("first messages", f"{_SENDS:,} messages"),
    )
    return draw(axes, lines)


def _worth(name: str, rates: Floats, seed: int) -> list[float]:
    """Let a policy live once; return what 100 messages bring before each of its batches."""
    bandit, luck = policies.build(name, _SHAPE, seed=seed), np.random.default_rng(seed)
    nobody = np.zeros((_AT_ONCE, 0), dtype=int)
    worth = []
    for _ in range(_SENDS // _AT_ONCE):
        worth.append(100 * float(bandit.propensities(nobody[:1])[0] @ rates))
        arms, _chances = bandit.choose(nobody, luck)
        bandit.update(nobody, arms, (luck.random(_AT_ONCE) < rates[arms]).astype(float))
    return worth


_PEOPLE, _LOOK_EVERY, _RUNS, _RATE = 20_000, 200, 200, 0.05


@dataclass(frozen=True)
class Looks:
    """Comparisons of two groups without a difference between them, looked at again and again."""

    differences: Floats  # runs x looks
    errors: Floats  # the standard error of each
    people: Floats  # in both groups together, at each look

    @property
    def ordinary(self) -> Floats:
        """Return half the width of the interval that is made for one look."""
        return Z_95 * self.errors

    @property
    def lasting(self) -> Floats:
        """Return half the width of the interval that holds at every look."""
        return np.array(
            [
                [half_width(e * e, n) for e, n in zip(run, self.people, strict=True)]
                for run in self.errors
            ]
        )

    def misled(self, half: Floats) -> npt.NDArray[np.bool_]:
        """Say of each run whether the interval left out the truth at some look."""
        return np.asarray((np.abs(self.differences) > half).any(axis=1), dtype=np.bool_)


def looks() -> Looks:
    """Compare groups of equal rates, often."""
    rng = np.random.default_rng(SEED)
    rewards = rng.random((2, _RUNS, _PEOPLE // 2)) < _RATE
    each = np.arange(_LOOK_EVERY // 2, _PEOPLE // 2 + 1, _LOOK_EVERY // 2)
    rates = np.cumsum(rewards, axis=2)[:, :, each - 1] / each
    errors = np.sqrt((np.maximum(rates, 1 / each) * (1 - rates) / each).sum(axis=0))
    people = np.asarray(2 * each, dtype=np.float64)
    return Looks(rates[0] - rates[1], np.asarray(errors, dtype=np.float64), people)


def looking() -> str:
    """Draw one of these comparisons that would have misled somebody who stops at a good look."""
    found = looks()
    only_ordinary = found.misled(found.ordinary) & ~found.misled(found.lasting)
    run = int(np.flatnonzero(only_ordinary)[0])
    people, half, lasting = list(found.people), found.ordinary[run], found.lasting[run]
    middle = found.differences[run]
    lines = {
        "difference": (people, [100 * float(v) for v in middle]),
        "interval for one look": (people, [100 * float(v) for v in middle - half]),
        "interval for every look": (people, [100 * float(v) for v in middle - lasting]),
        " ": (people, [100 * float(v) for v in middle + lasting]),
        "  ": (people, [100 * float(v) for v in middle + half]),
    }
    share, lasts = found.misled(found.ordinary).mean(), found.misled(found.lasting).mean()
    axes = Axes(
        "Two groups without a difference, looked at every 200 people",
        f"Of {_RUNS} such runs, {share:.0%} left out zero at some look by the interval for one"
        f" look, {lasts:.1%} by ours",
        (float(people[0]), float(people[-1])),
        (-4, 4),
        {value: f"{value:+g}" for value in (-4, -2, 0, 2, 4)},
        ("percentage points", f"{_PEOPLE:,} people"),
    )
    colours = ("#57606a", "#d1580d", "#1f6feb", "#1f6feb", "#d1580d")
    return _recoloured(draw(axes, lines), colours)


def _recoloured(picture: str, colours: Sequence[str]) -> str:
    rows = picture.split("\n")
    for place, colour in enumerate(colours):
        row = len(rows) - 2 - len(colours) + place
        rows[row] = rows[row].replace(_COLOURS[place], colour)
    return "\n".join(rows)


def ripening() -> str:
    """Draw which share of the conversions a cohort expects by each age, with what it has seen."""
    window, rng = Duration(3 * DAY), np.random.default_rng(SEED)
    ages = np.concatenate([[0.0], np.geomspace(MINUTE, window, 200)])
    lines: dict[str, tuple[Sequence[float], Sequence[float]]] = {}
    for number in (0, 30, 1_000):
        came = np.minimum(rng.lognormal(np.log(0.8 * HOUR), 1.0, number), window)
        seen: dict[int, int] = {}
        for age in came:
            bucket = age_bucket(Duration(int(age)))
            seen[bucket] = seen.get(bucket, 0) + 1
        shares = DelayCurve(window, seen).arrived(ages)
        name = f"after {number:,} conversions" if number else "before the first one"
        lines[name] = ([sqrt(float(age)) for age in ages], [100 * float(s) for s in shares])
    axes = Axes(
        "Which share of the conversions has come by an age",
        "A window of 3 days; here half of them come within 48 minutes. Age on a root scale",
        (0, sqrt(float(window))),
        (0, 105),
        {value: f"{value} %" for value in (0, 25, 50, 75, 100)},
        ("the trigger", "3 days"),
    )
    return draw(axes, lines)


PICTURES = {"learning.svg": learning, "looking.svg": looking, "ripening.svg": ripening}


def main() -> None:
    """Draw all of them into a folder."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in PICTURES.items():
        (folder / name).write_text(picture(), encoding="utf-8")


if __name__ == "__main__":
    main()
