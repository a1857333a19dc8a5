"""The picture of a simulation, as SVG drawn by hand: no plotting library at run time."""

from collections.abc import Callable, Mapping, Sequence
from xml.sax.saxutils import escape

_W, _H, _LEFT, _RIGHT, _TOP, _BOTTOM = 820, 440, 60, 190, 56, 50
_COLOURS = ("#1f6feb", "#d1580d", "#1a7f50", "#8250df", "#bf3989", "#57606a")

_STEPS, _MARKS = (0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 25.0), 8  # of the scale

Curve = tuple[Sequence[float], Sequence[float]]  # means and standard errors


def draw(title: str, curves: Mapping[str, Curve], triggers: int) -> str:
    """Return lines of conversions to those of an even split, with bands of one standard error."""
    highest = max(
        mean + error
        for means, errors in curves.values()
        for mean, error in zip(means, errors, strict=True)
    )
    lowest = min(
        mean - error
        for means, errors in curves.values()
        for mean, error in zip(means, errors, strict=True)
    )
    low, high = min(0.95, lowest), max(1.1, highest) * 1.02

    def y(value: float) -> float:
        return round(_TOP + (high - value) / (high - low) * (_H - _TOP - _BOTTOM), 1)

    parts = [_frame(title, triggers), *_scale(low, high, y)]
    ends = _spread_out([y(means[-1]) for means, _ in curves.values()])
    for place, ((name, (means, errors)), end) in enumerate(zip(curves.items(), ends, strict=True)):
        colour = _COLOURS[place % len(_COLOURS)]
        upper = _points([y(m + e) for m, e in zip(means, errors, strict=True)])
        lower = _points([y(m - e) for m, e in zip(means, errors, strict=True)])
        band = " ".join([*upper, *reversed(lower)])
        line = " ".join(_points([y(mean) for mean in means]))
        parts += [
            f'<polygon points="{band}" fill="{colour}" opacity="0.15"/>',
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>',
            (
                f'<text x="{_W - _RIGHT + 10}" y="{end + 4}" fill="{colour}">{escape(name)}'
                f" {means[-1]:.2f}</text>"
            ),
        ]
    return "\n".join([*parts, "</svg>\n"])


def _frame(title: str, triggers: int) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_W} {_H}" role="img"'
        f' font-family="sans-serif" font-size="13"><title>{escape(title)}</title>'
        f'<rect width="{_W}" height="{_H}" fill="#ffffff"/>'
        f'<text x="{_LEFT}" y="24" font-size="16">{escape(title)}</text>'
        f'<text x="{_LEFT}" y="43" fill="#57606a">Conversions to those of an even split;'
        " bands: one standard error over seeds</text>"
        f'<text x="{_LEFT}" y="{_H - 16}">0</text>'
        f'<text x="{_W - _RIGHT}" y="{_H - 16}" text-anchor="end">{triggers:,} triggers</text>'
    )


def _scale(low: float, high: float, y: Callable[[float], float]) -> list[str]:
    step = next((step for step in _STEPS if (high - low) / step <= _MARKS), _STEPS[-1])
    first = int(low / step) + 1
    marks = [step * number for number in range(first, int(high / step) + 1)]
    return [
        f'<line x1="{_LEFT}" x2="{_W - _RIGHT}" y1="{y(mark)}" y2="{y(mark)}" stroke="#d0d7de"/>'
        f'<text x="{_LEFT - 8}" y="{y(mark) + 4}" text-anchor="end">{mark:.2f}</text>'
        for mark in marks
    ]


def _points(heights: Sequence[float]) -> list[str]:
    width = (_W - _LEFT - _RIGHT) / max(1, len(heights) - 1)
    return [f"{_LEFT + width * place:.1f},{height}" for place, height in enumerate(heights)]


def _spread_out(heights: Sequence[float], room: float = 16.0) -> list[float]:
    """Move labels down until none covers another; in their own order."""
    placed = list(heights)
    last = -room
    for place in sorted(range(len(heights)), key=lambda at: heights[at]):
        placed[place] = last = max(heights[place], last + room)
    return placed
