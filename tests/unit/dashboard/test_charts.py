"""Geometry: places inside the drawing, in order, and labels that do not lie on each other."""

import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from experiment_engine.entrypoints.dashboard import charts, labels

values = st.floats(0, 1e6, allow_nan=False)
shares = st.lists(st.floats(0.001, 1.0), min_size=2, max_size=5)


def places(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"(-?[\d.e+-]+),(-?[\d.e+-]+)", path)]


@given(st.lists(values, min_size=1, max_size=40), st.integers(0, 10))
def test_lines_stay_inside_and_go_from_left_to_right(counts: list[float], starts: int) -> None:
    days = list(range(len(counts)))
    starts = min(starts, len(counts) - 1)
    other = charts.Line("even", "Even", counts, counts, counts, starts)
    drawn = charts.lines(
        days,
        [charts.Line("engine", "Engine", counts), other],
        open_from=None,
        number=labels.number,
        label=labels.day,
    )
    for line in drawn["lines"]:
        points = places(line["d"])
        assert [x for x, _ in points] == sorted(x for x, _ in points)
        assert all(drawn["x0"] <= x <= drawn["x1"] for x, _ in points)
        assert all(drawn["y1"] - 1 <= y <= drawn["y0"] + 1 for _, y in points)
    assert len(places(drawn["lines"][1]["d"])) == len(counts) - starts
    assert len(drawn["points"]) == len(counts)


@given(st.lists(st.floats(0, 300), max_size=6), st.floats(1, 40))
def test_labels_keep_their_distance_wherever_there_is_room(ys: list[float], gap: float) -> None:
    ys = sorted(ys)
    spread = charts.spread(ys, gap, 0, 300)
    if gap * len(ys) <= 300:
        assert all(-1e-6 <= y <= 300 + 1e-6 for y in spread)
        assert all(b - a >= gap - 1e-6 for a, b in pairwise(spread))


@given(st.lists(shares, min_size=1, max_size=10))
def test_layers_of_shares_fill_the_whole_height(days: list[list[float]]) -> None:
    number = min(len(day) for day in days)
    each = [[share / sum(day[:number]) for share in day[:number]] for day in days]
    layers = [(f"level {n}", [day[n] for day in each]) for n in range(number)]
    drawn = charts.stack(list(range(len(days))), layers, label=labels.day)
    ys = [y for layer in drawn["layers"] for _, y in places(layer["d"])]
    assert abs(min(ys) - drawn["y1"]) < 0.1
    assert abs(max(ys) - drawn["y0"]) < 0.1


@given(st.lists(st.lists(st.floats(0, 1), min_size=7, max_size=7), min_size=1, max_size=20))
def test_bands_lie_in_order_on_one_scale(quantiles: list[list[float]]) -> None:
    drawn = charts.bands([sorted(row) for row in quantiles], 0.5)
    for row in drawn["rows"]:
        assert row == sorted(row)
        assert all(0 <= x <= drawn["w"] for x in row)


def test_neighbouring_shades_are_one() -> None:
    drawn = charts.bars(
        [[0, 0]] * 6,
        shaded=[True, True, False, False, True, False],
        box=charts.Box(600, 100, left=0, right=0),
    )
    assert [(shade["x"], shade["w"]) for shade in drawn["shades"]] == [(0, 200), (400, 100)]


@given(st.floats(-1e5, 1e5), st.floats(1e-3, 1e5))
def test_ticks_are_round_and_between_the_ends(low: float, span: float) -> None:
    found = charts.ticks(low, low + span)
    assert 2 <= len(found) <= 12
    assert all(low - span * 1e-6 <= tick <= low + span * (1 + 1e-6) for tick in found)


def test_names_of_levels_are_not_written_over_each_other() -> None:
    """Where the highest and the lowest level lie close, only the highest is named."""
    far, close = (("Angle", [("a", 0.1), ("b", 0.2)]), ("Channel", [("c", 0.150), ("d", 0.151)]))

    drawn = charts.levers([far, close], clear={"Angle"})

    named = {row["dimension"]: row["points"][0]["worst"] for row in drawn["rows"]}
    assert named == {"Angle": True, "Channel": False}
    assert [row["is_clear"] for row in drawn["rows"]] == [True, False]
