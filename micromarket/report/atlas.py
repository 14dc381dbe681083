"""A map as a picture that stands alone: its finding above, names beside, keys below."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch, Rectangle

from micromarket.report import callouts, maps, style
from micromarket.report.callouts import call_out, far_apart
from micromarket.report.style import GREY, INK, LAND, MM, canvas, label

Show = Callable[[float], str]
_MOST_REGIONS = 40
_MOST_VECTOR, _DPI = 2_000, 220  # a notebook of many maps stays small: beyond it they are pictures inside the figure
_LEGEND_MM, _LINE_MM = 12.5, 4.4
_WIDTH_MM = style.TEXT_WIDTH / MM
_TITLE_WIDTH = 102


@dataclass(frozen=True)
class Ground:
    """Where the markets lie and what they are called; indexed by ``market_id``.

    ``shapes``, ``outlines`` (borders of regions, or of the whole): projected and simplified; ``None`` for a company
    without borders, which gets bars instead of maps. ``regions``: missing where a market has none.
    """

    names: pd.Series
    regions: pd.Series
    shapes: gpd.GeoSeries | None = None
    outlines: gpd.GeoSeries | None = None


def ground(markets: pd.DataFrame) -> Ground:
    """The ground of the artefact ``markets``; a map needs the place of at least half of them.

    Parameters
    ----------
    markets : DataFrame or GeoDataFrame
        ``market_id``, and where known ``name``, ``region``, ``geometry`` (WGS 84).
    """
    by = markets.set_index("market_id")
    ids = by.index.to_series().astype(str)
    names = ids if "name" not in by else by["name"].where(by["name"].notna(), ids).astype(str)
    regions = by["region"] if "region" in by else pd.Series(None, index=by.index, dtype=object)
    if "geometry" not in by or by["geometry"].notna().mean() < 0.5:
        return Ground(names, regions)
    # the more markets there are, the less of each can be seen
    shapes = maps.simplify(maps.project(gpd.GeoDataFrame(markets)), 1400 if len(markets) < 2000 else 900)
    if not len(shapes):
        return Ground(names, regions)
    region = regions.reindex(shapes.index)
    outlines = None
    if 2 <= region.nunique() <= _MOST_REGIONS:
        outlines = maps.dissolve(shapes, region)
    elif len(shapes) > maps.FINE_SHAPES:
        outlines = maps.dissolve(shapes, pd.Series(0, index=shapes.index))
    return Ground(names, regions, shapes, outlines)


def biggest(place: Ground, values: pd.Series, most: int, taken: Sequence[str] = ()) -> list[str]:
    """Markets to name on a map: the largest values above 0, none so near another that their labels would fight."""
    if place.shapes is None:
        return []
    ordered = values[values > 0].sort_index().sort_values(ascending=False, kind="stable").index
    return far_apart(place.shapes, [m for m in ordered if m in place.shapes.index], most, taken)


@dataclass(frozen=True)
class Sheet:
    """An open map: ``axes`` on the map's plane; a place on the sheet is given in millimetres from its lower left."""

    figure: Figure
    axes: Axes
    place: Ground
    beside: bool
    legend_mm: float
    title_mm: float

    @property
    def shapes(self) -> gpd.GeoSeries:
        assert self.place.shapes is not None
        return self.place.shapes

    def at(self, x_mm: float, y_mm: float, wide_mm: float, high_mm: float) -> tuple[float, float, float, float]:
        wide, high = (inches / MM for inches in self.figure.get_size_inches())
        return x_mm / wide, y_mm / high, wide_mm / wide, high_mm / high

    def text(self, x_mm: float, y_mm: float, words: str, **options) -> None:
        x, y, _, _ = self.at(x_mm, y_mm, 0, 0)
        self.figure.text(x, y, words, **{"fontsize": 7, "color": GREY, **options})

    def box(self, x_mm: float, y_mm: float, wide_mm: float, high_mm: float, colour: str, hatch: str = "") -> None:
        x, y, wide, high = self.at(x_mm, y_mm, wide_mm, high_mm)
        self.figure.add_artist(
            Rectangle(
                (x, y),
                wide,
                high,
                facecolor=colour,
                hatch=hatch or None,
                linewidth=0,
                edgecolor=GREY if hatch else "none",
                transform=self.figure.transFigure,
            )
        )

    def paint(self, values: pd.Series, norm: Normalize, cmap: Colormap, nothing: str = LAND) -> None:
        """Markets in the colours of their values (``nothing``: without one), and the borders of regions."""
        values = values.reindex(self.shapes.index).astype("float64")
        maps.draw(self.axes, self.shapes, values, norm, cmap, nothing)
        if len(self.shapes) > _MOST_VECTOR:
            self.figure.set_dpi(_DPI)
            for drawn in self.axes.collections:
                drawn.set_rasterized(True)
        if self.place.outlines is not None:
            maps.outline(self.axes, self.place.outlines)

    def land(self) -> None:
        """Plain ground: markets where they can be told apart, else regions."""
        fine = len(self.shapes) > maps.FINE_SHAPES
        base = self.place.outlines if fine and self.place.outlines is not None else self.shapes
        maps.draw(self.axes, base, pd.Series(np.nan, base.index), Normalize(0, 1), style.SEQUENTIAL)
        if self.place.outlines is not None:
            maps.outline(self.axes, self.place.outlines)

    def hatch(self, markets: Sequence[str], pattern: str, colour: str) -> None:
        """One hatched area over all of ``markets`` (points get a cross)."""
        shapes = self.shapes[self.shapes.index.isin(list(markets))]
        if not len(shapes):
            return
        for shape in maps.dissolve(shapes, pd.Series(0, index=shapes.index)):
            path = maps.path_of(shape)
            if path is not None:
                self.axes.add_patch(PathPatch(path, facecolor="none", edgecolor=colour, hatch=pattern, linewidth=0))
        points = shapes[[maps.path_of(s) is None for s in shapes]]
        if len(points):
            self.axes.scatter(points.x, points.y, marker="x", s=9, color=colour, linewidth=0.6, zorder=3)

    def name(self, values: pd.Series, show: Show, markets: Sequence[str], colour: Show | None = None) -> None:
        """Names and values of the ``markets`` outside the map, with leader lines that don't cross."""
        call_out(
            self.figure,
            self.axes,
            self.shapes,
            values,
            self.place.names,
            markets,
            show,
            beside=self.beside,
            legend_mm=self.legend_mm,
            top_mm=self.title_mm,
            colour=colour,
        )

    def scale(
        self, x_mm: float, wide_mm: float, norm: Normalize, cmap: Colormap, unit: str, show: Show, *, open_low: bool
    ) -> None:
        """A colour bar; both ends hold what is beyond them (the lower one only if ``open_low``)."""
        bar = self.figure.add_axes(self.at(x_mm, 4.6, wide_mm, 1.8))
        bar.imshow(np.linspace(0, 1, 128)[None, :], aspect="auto", cmap=cmap, extent=(0, 1, 0, 1))
        bar.set_axis_off()
        low, high = float(norm.vmin or 0), float(norm.vmax or 0)
        for part, value in ((0.0, low), (0.5, (low + high) / 2), (1.0, high)):
            words = show(value) + (" or more" if part == 1 else " or less" if part == 0 and open_low else "")
            self.text(x_mm + part * wide_mm, 3.9, words, ha="center", va="top")
        self.text(x_mm + wide_mm / 2, 7.4, unit, ha="center", va="bottom", fontsize=7.5)

    def swatches(self, kinds: Sequence[tuple[str, str, str]], y_mm: float = 3.4) -> None:
        """A row of (colour, hatch, words), centred below the map; in two rows where it is too long for one."""
        widths = [5.0 + 1.25 * len(words) + 4 for _, _, words in kinds]
        half = len(kinds) if sum(widths) <= _WIDTH_MM else (len(kinds) + 1) // 2
        for row, part in enumerate((range(half), range(half, len(kinds)))):
            x = (_WIDTH_MM - sum(widths[i] for i in part)) / 2
            for i in part:
                colour, hatch, words = kinds[i]
                y = y_mm - 4.0 * row + (2.0 if half < len(kinds) else 0.0)
                self.box(x, y, 3.2, 2.6, colour, hatch)
                self.text(x + 4.4, y + 1.2, words, va="center", fontsize=7.5)
                x += widths[i]

    def circles(self, x_mm: float, sizes: Sequence[tuple[float, str]], unit: str, colour: str) -> None:
        """Circles of the given diameters (mm) with what they stand for."""
        self.text(x_mm, 9.6, unit, ha="left", va="bottom", fontsize=7.5)
        high = 4.6
        for diameter, words in sizes:
            at = self.at(x_mm + diameter / 2, high, 0, 0)[:2]
            dot = Line2D(
                [at[0]],
                [at[1]],
                transform=self.figure.transFigure,
                marker="o",
                linestyle="none",
                markersize=diameter * MM * 72,
                color=colour,
                alpha=0.7,
                markeredgecolor="white",
            )
            self.figure.add_artist(dot)
            self.text(x_mm + diameter + 1.2, high, words, va="center")
            x_mm += diameter + 3.5 + 1.4 * len(words)


@contextmanager
def sheet(
    place: Ground, title: str, *, named: bool = True, height_mm: float = 118, legend_mm: float = _LEGEND_MM
) -> Iterator[Sheet]:
    """A sheet with the finding above (none: no title) and room for a map, for names (``named``) and for keys below."""
    shapes = place.shapes
    assert shapes is not None
    words = textwrap.fill(label(title.rstrip(".")), _TITLE_WIDTH)
    title_mm = 2.5 + _LINE_MM * (words.count("\n") + 1) if words else 0.0
    left, bottom, right, top = shapes.total_bounds
    east, north = max(right - left, 1.0), max(top - bottom, 1.0)
    room = height_mm - legend_mm - title_mm
    # labels stand beside a map, where leader lines are short, unless it were much larger with labels above and below
    size_beside = min(_WIDTH_MM * (1 - 2 * callouts.SIDE) / east, room / north)
    size_above = min(_WIDTH_MM * 0.98 / east, (room - 2 * callouts.ROW_MM) / north)
    beside = not named or size_beside > 0.75 * size_above
    side = callouts.SIDE if named and beside else 0.01
    rows = 0.0 if beside else callouts.ROW_MM
    needed = 1.04 * _WIDTH_MM * (1 - 2 * side) * north / east
    height_mm = float(np.clip(needed + legend_mm + title_mm + 2 * rows, 66, height_mm))
    with canvas(height_mm) as figure:
        figure.set_layout_engine("none")
        figure.text(
            0.004,
            1 - 1 / height_mm,
            words,
            ha="left",
            va="top",
            fontsize=9.5,
            fontweight=600,
            color=INK,
            linespacing=1.2,
        )
        below, above = legend_mm + rows, title_mm + rows
        axes = figure.add_axes((side, below / height_mm, 1 - 2 * side, 1 - (below + above) / height_mm))
        yield Sheet(figure, axes, place, beside, legend_mm, title_mm)


NOT_KNOWN = (LAND, "", "not known")
__all__ = ["NOT_KNOWN", "Ground", "Sheet", "biggest", "ground", "sheet"]
