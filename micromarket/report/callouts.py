"""Names outside a map, tied to their markets by leader lines that don't cross."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import geopandas as gpd
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from micromarket.report import style
from micromarket.report.style import FAINT, INK, label

SIDE = 0.17  # part of the width that labels take on either side
ROW_MM = 13.0  # height that a row of labels takes above or below
_COLUMN_MM, _LINE_MM = 35.0, 7.6
Spot = tuple[float, float, str]


def call_out(
    figure: Figure,
    axes: Axes,
    shapes: gpd.GeoSeries,
    values: pd.Series,
    names: pd.Series,
    markets: Sequence[str],
    money: Callable[[float], str],
    *,
    beside: bool,
    legend_mm: float,
    top_mm: float = 0.0,
    colour: Callable[[float], str] | None = None,
) -> None:
    """Writes name and value of the ``markets`` left and right of the map (``beside``), or above and below it.

    ``top_mm``: height that a title takes above; ``colour``: of a value (default: by its sign).
    """
    axes.apply_aspect()  # fixes the transform of an equal-aspect axes
    to_figure = axes.transData + figure.transFigure.inverted()
    spots: list[Spot] = []
    for market in markets:
        if market in shapes.index:
            point = shapes[market].representative_point()
            x, y = to_figure.transform((point.x, point.y))
            spots.append((float(x), float(y), market))
    write = _Writer(figure, values, names, money, colour or _by_sign)
    wide_mm, high_mm = (inches / style.MM for inches in figure.get_size_inches())
    centre = axes.get_position()
    if beside:
        most = int((high_mm - legend_mm - top_mm - 6) / _LINE_MM) + 1
        for left, part in zip((True, False), _halves(sorted(spots), centre.x0 + centre.width / 2, most), strict=True):
            part = sorted(part, key=lambda s: -s[1])
            heights = spread(
                [s[1] for s in part], _LINE_MM / high_mm, (legend_mm + 4) / high_mm, 1 - (top_mm + 4) / high_mm
            )
            for (x, y, market), at in zip(part, heights, strict=True):
                edge = SIDE - 0.012 if left else 1 - SIDE + 0.012
                write.text(edge, at, market, "right" if left else "left", (SIDE - 0.014) * wide_mm)
                sign = 1 if left else -1
                write.line([edge + 0.006 * sign, edge + 0.018 * sign, x], [at, at, y])
        return
    most = int(wide_mm / _COLUMN_MM)
    by_height = sorted((y, x, market) for x, y, market in spots)
    low, high = _halves(by_height, float(pd.Series([s[0] for s in by_height]).median()), most)
    for below, part in ((True, low), (False, high)):
        part = sorted(((x, y, market) for y, x, market in part), key=lambda s: -s[0])
        gap = _COLUMN_MM / wide_mm
        places = spread([s[0] for s in part], gap, gap / 2, 1 - gap / 2)
        at = (legend_mm + 4.5) / high_mm if below else 1 - (top_mm + 4.5) / high_mm
        for (x, y, market), place in zip(part, places, strict=True):
            write.text(place, at, market, "center", _COLUMN_MM - 2)
            near = at + (4.2 if below else -4.2) / high_mm
            write.line([place, x], [near, y])


def far_apart(shapes: gpd.GeoSeries, order: Sequence[str], most: int, taken: Sequence[str] = ()) -> list[str]:
    """The first ``most`` markets of ``order`` whose labels would not fight with each other's or those of ``taken``."""
    left, bottom, right, top = shapes.total_bounds
    apart = 0.09 * max(right - left, top - bottom)
    chosen = list(taken)
    for market in order[: 5 * most]:
        if len(chosen) == len(taken) + most:
            break
        place = shapes[market].representative_point()
        if all(place.distance(shapes[other].representative_point()) >= apart for other in chosen):
            chosen.append(market)
    return chosen[len(taken) :]


def _by_sign(value: float) -> str:
    return style.ACCENT if value >= 0 else style.WARM


class _Writer:
    def __init__(
        self, figure: Figure, values: pd.Series, names: pd.Series, money: Callable[[float], str],
        colour: Callable[[float], str],
    ):  # fmt: skip
        self.figure, self.values, self.names, self.money, self.colour = figure, values, names, money, colour
        self.mm = style.MM / figure.get_size_inches()[1]

    def text(self, x: float, y: float, market: str, align: str, room_mm: float) -> None:
        name = style.fit(label(self.names[market]), room_mm * style.MM * 72, 7.5)
        value = self.values[market]
        colour = self.colour(value)
        self.figure.text(x, y + 0.3 * self.mm, name, ha=align, va="bottom", fontsize=7.5, fontweight=600, color=INK)
        self.figure.text(x, y - 0.3 * self.mm, self.money(value), ha=align, va="top", fontsize=7.5, color=colour)

    def line(self, xs: list[float], ys: list[float]) -> None:
        at = self.figure.transFigure
        self.figure.add_artist(Line2D(xs, ys, transform=at, color=FAINT, linewidth=0.5, solid_joinstyle="round"))
        dot = Line2D([xs[-1]], [ys[-1]], transform=at, marker="o", markersize=2.6, color=INK, linestyle="none")
        dot.set(markeredgecolor="white", markeredgewidth=0.5)
        self.figure.add_artist(dot)


def _halves(spots: list[Spot], middle: float, most: int) -> tuple[list[Spot], list[Spot]]:
    """Spots (sorted by their first coordinate) on either side of ``middle``, at most ``most`` on one.

    >>> _halves([(0.1, 0, "a"), (0.2, 0, "b"), (0.3, 0, "c")], 0.9, 2)
    ([(0.1, 0, 'a'), (0.2, 0, 'b')], [(0.3, 0, 'c')])
    """
    cut = sum(s[0] < middle for s in spots)
    cut = max(min(cut, most), len(spots) - most)
    return spots[:cut], spots[cut:]


def spread(wanted: list[float], gap: float, low: float, high: float) -> list[float]:
    """Places near the wanted ones (given from the top down), at least ``gap`` apart, between ``low`` and ``high``.

    >>> [round(y, 2) for y in spread([0.5, 0.5, 0.1], 0.1, 0.2, 0.9)]
    [0.5, 0.4, 0.2]
    """
    placed: list[float] = []
    for y in wanted:
        placed.append(min(y, high if not placed else placed[-1] - gap))
    floor = low
    for i in range(len(placed) - 1, -1, -1):
        placed[i] = max(placed[i], floor)
        floor = placed[i] + gap
    return placed
