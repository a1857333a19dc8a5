"""Geometry only: numbers in, coordinates of SVG out; templates draw them, the stylesheet colours.

Every size is in the units of the drawing's own view box.
"""

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Drawn = dict[str, Any]
Points = Iterable[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps a range of values to a range of places."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the place of a value."""
        share = (value - self.low) / ((self.high - self.low) or 1)
        return round(self.start + share * (self.end - self.start), 2)


@dataclass(frozen=True, slots=True)
class Box:
    """A drawing's size and the room around its plot."""

    width: float
    height: float
    top: float = 14
    right: float = 108
    bottom: float = 28
    left: float = 46

    def edges(self) -> Drawn:
        """Return what templates need of it."""
        return {
            "w": self.width,
            "h": self.height,
            "x0": self.left,
            "x1": self.width - self.right,
            "y0": self.height - self.bottom,
            "y1": self.top,
        }


def ticks(low: float, high: float, number: int = 5) -> list[float]:
    """Return about so many round values between two ends."""
    span = high - low or 1.0
    step = 10 ** math.floor(math.log10(span / number))
    step *= min((1, 2, 5, 10), key=lambda factor: abs(span / number - factor * step))
    first = math.ceil(low / step - 1e-9) * step
    return [
        round(first + place * step, 10) for place in range(int((high - first) / step + 1e-9) + 1)
    ]


def path(points: Points) -> str:
    """Return a line through points."""
    return "M" + "L".join(f"{x:g},{y:g}" for x, y in points)


def band(xs: Sequence[float], low: Sequence[float], high: Sequence[float]) -> str:
    """Return the area between two lines."""
    there = list(zip(xs, high, strict=True))
    return path(there + list(zip(xs, low, strict=True))[::-1]) + "Z"


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Push labels apart that are given from the top down, and keep them inside."""
    out: list[float] = []
    before = low - gap
    for place in places:
        before = max(place, before + gap)
        out.append(before)
    after = high + gap
    for index in range(len(out) - 1, -1, -1):
        after = out[index] = min(out[index], after - gap)
    return out


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart over days, with its band where there is one."""

    name: str  # of its class in the stylesheet
    label: str
    values: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    starts: int = 0  # the place of the first day on which it is known


def lines(
    days: Sequence[int],
    drawn: Sequence[Line],
    *,
    open_from: int | None,
    number: Callable[[float], str],
    label: Callable[[int], str],
    box: Box | None = None,
) -> Drawn:
    """Return the geometry of lines over days; days from place `open_from` on are shaded."""
    box = box or Box(760, 300)
    edges, count = box.edges(), len(days)
    top = max([1.0, *(max(line.high or line.values) for line in drawn)]) * 1.06
    x = Scale(0, max(1, count - 1), edges["x0"], edges["x1"])
    y = Scale(0, top, edges["y0"], edges["y1"])
    xs = [x(place) for place in range(count)]
    heights = {line.name: [y(value) for value in line.values] for line in drawn}
    by_height = sorted(drawn, key=lambda line: heights[line.name][-1])
    at = [heights[line.name][-1] for line in by_height]
    labels = zip(by_height, spread(at, 31, edges["y1"], edges["y0"] - 14), strict=True)
    every = max(1, math.ceil(count / 6))
    return edges | {
        "yticks": [{"y": y(value), "label": number(value)} for value in _whole(ticks(0, top))],
        "xticks": [{"x": xs[i], "label": label(days[i])} for i in range(0, count, every)],
        "open": None
        if open_from is None or open_from >= count
        else {"x": xs[open_from], "w": round(edges["x1"] - xs[open_from], 2)},
        "lines": [
            {
                "name": line.name,
                "d": path(zip(xs[line.starts :], heights[line.name][line.starts :], strict=True)),
                "band": _band_of(line, xs, y),
            }
            for line in drawn
        ],
        "labels": [
            {
                "name": line.name,
                "label": line.label,
                "value": number(line.values[-1]),
                "x": edges["x1"] + 10,
                "y": round(place, 2),
            }
            for line, place in labels
        ],
        "points": [
            {
                "x": xs[i],
                "label": label(days[i]),
                "y": [heights[line.name][max(i, line.starts)] for line in drawn],
                "v": [
                    number(line.values[i]) if i >= line.starts else "\N{EN DASH}" for line in drawn
                ],
            }
            for i in range(count)
        ],
    }


def _whole(values: Sequence[float]) -> list[float]:
    return [value for value in values if value == int(value)]


def _band_of(line: Line, xs: Sequence[float], y: Scale) -> str | None:
    if line.low is None or line.high is None:
        return None
    first = line.starts
    low, high = line.low[first:], line.high[first:]
    return band(xs[first:], [y(value) for value in low], [y(value) for value in high])


def stack(
    days: Sequence[int],
    layers: Sequence[tuple[str, Sequence[float]]],
    *,
    label: Callable[[int], str],
) -> Drawn:
    """Return the geometry of shares over days, one upon another; each day's shares sum to 1."""
    box = Box(330, 268, top=8, right=96, bottom=26, left=36)
    edges, count = box.edges(), len(days)
    x = Scale(0, max(1, count - 1), edges["x0"], edges["x1"])
    y = Scale(0, 1, edges["y0"], edges["y1"])
    xs = [x(place) for place in range(count)]
    if count == 1:  # one day is drawn as a whole width
        xs = [edges["x0"], edges["x1"]]
        layers = [(name, [*shares, *shares]) for name, shares in layers]
    below, made = [0.0] * len(xs), []
    middles: list[float] = []
    for name, shares in layers:
        above = [low + share for low, share in zip(below, shares, strict=True)]
        area = band(xs, [y(v) for v in below], [y(min(1.0, v)) for v in above])
        middles.append(y((below[-1] + above[-1]) / 2))
        made.append({"level": name, "d": area, "now": shares[-1]})
        below = above
    places = spread(middles[::-1], 16, edges["y1"] + 6, edges["y0"] - 2)[::-1]
    for layer, place in zip(made, places, strict=True):
        layer["label_y"] = round(place, 2)
    every = max(1, math.ceil(count / 3))
    return edges | {
        "layers": made,
        "yticks": [{"y": y(value), "v": value} for value in (0, 0.5, 1)],
        "xticks": [{"x": xs[i], "label": label(days[i])} for i in range(0, count, every)],
    }


def smoothed(values: Sequence[float], over: int = 3) -> list[float]:
    """Return the mean of each value and those just before it."""
    return [
        sum(values[max(0, i - over + 1) : i + 1]) / len(values[max(0, i - over + 1) : i + 1])
        for i in range(len(values))
    ]


def bands(quantiles: Sequence[Sequence[float]], reference: float | None = None) -> Drawn:
    """Return the geometry of rows of intervals on one common scale of rates."""
    width, room = 264, 10
    low, high = min(q[0] for q in quantiles), max(q[-1] for q in quantiles)
    if reference is not None:
        low, high = min(low, reference), max(high, reference)
    margin = (high - low) * 0.04
    low, high = max(0.0, low - margin), min(1.0, high + margin)
    x = Scale(low, high, room, width - room)
    return {
        "w": width,
        "ticks": [{"v": value, "x": x(value)} for value in ticks(low, high, 4)],
        "digits": 0 if high - low > 0.03 else 1,  # noqa: PLR2004 - below, whole percents repeat
        "ref": None if reference is None else x(reference),
        "rows": [[x(value) for value in q] for q in quantiles],
    }


def levers(
    rows: Sequence[tuple[str, Sequence[tuple[str, float]]]], clear: Collection[str]
) -> Drawn:
    """Return the geometry of levels' rates, a row a dimension, the largest difference first.

    `clear` names the dimensions whose highest level is told from the lowest.
    """
    width, left, right, height, top, label = 680, 92, 40, 46, 4, 90
    values = [rate for _, levels in rows for _, rate in levels]
    low, high = min(values), max(values)
    margin = (high - low) or 0.01
    x = Scale(max(0, low - margin * 0.06), high + margin * 0.1, left, width - right)
    widest = sorted(rows, key=lambda row: -_span(row[1]))
    bottom = top + height * len(rows) + 4
    made = []
    for place, (dimension, levels) in enumerate(widest):
        ordered = sorted(levels, key=lambda level: level[1])
        made.append(
            {
                "dimension": dimension,
                "y": top + height * place + 18,
                "x0": x(ordered[0][1]),
                "x1": x(ordered[-1][1]),
                "is_clear": dimension in clear,
                "points": [
                    {
                        "x": x(rate),
                        "level": name,
                        "rate": rate,
                        "best": index == len(ordered) - 1,
                        "worst": index == 0 and x(ordered[-1][1]) - x(rate) > label,
                    }
                    for index, (name, rate) in enumerate(ordered)
                ],
            }
        )
    return {
        "w": width,
        "h": bottom + 22,
        "y0": bottom,
        "rows": made,
        "digits": 1 if high - low > 0.002 else 2,  # noqa: PLR2004
        "ticks": [{"v": value, "x": x(value)} for value in ticks(x.low, x.high, 5)],
    }


def _span(levels: Sequence[tuple[str, float]]) -> float:
    rates = [rate for _, rate in levels]
    return max(rates) - min(rates)


def spark(values: Sequence[float], width: float = 96, height: float = 28) -> str | None:
    """Return a small line without axes; None where there are too few values."""
    if len(values) < 2:  # noqa: PLR2004 - one point is no line
        return None
    x = Scale(0, len(values) - 1, 2, width - 2)
    y = Scale(min(values), max(values), height - 2, 2)
    return path((x(i), y(value)) for i, value in enumerate(values))


def bars(stacks: Sequence[Sequence[float]], *, shaded: Sequence[bool], box: Box) -> Drawn:
    """Return the geometry of stacked bars side by side; shaded places get a background."""
    edges, count = box.edges(), len(stacks)
    top = max([1.0, *(sum(parts) for parts in stacks)]) * 1.08
    step = (edges["x1"] - edges["x0"]) / max(1, count)
    y = Scale(0, top, edges["y0"], edges["y1"])
    made = []
    for place, parts in enumerate(stacks):
        below = 0.0
        for part, value in enumerate(parts):
            if value:
                upper, lower = y(below + value), y(below)
                made.append(
                    {
                        "x": round(edges["x0"] + place * step + step * 0.12, 2),
                        "y": upper,
                        "w": round(step * 0.76, 2),
                        "h": round(lower - upper, 2),
                        "part": part,
                        "place": place,
                    }
                )
            below += value
    return edges | {
        "bars": made,
        "step": step,
        "shades": _shades(shaded, edges["x0"], step),
        "yticks": [{"y": y(value), "v": value} for value in _whole(ticks(0, top, 4))],
    }


def _shades(shaded: Sequence[bool], start: float, step: float) -> list[Drawn]:
    """Return the stretches that are shaded, neighbours joined."""
    made: list[Drawn] = []
    for place, dark in enumerate(shaded):
        if dark and place and shaded[place - 1]:
            made[-1]["w"] = round(made[-1]["w"] + step, 2)
        elif dark:
            made.append({"x": round(start + place * step, 2), "w": round(step, 2)})
    return made
