"""Maps that read at a glance; ranked bars for a company whose markets have no shape."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import ListedColormap, Normalize, TwoSlopeNorm, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.path import Path as MplPath
from matplotlib.ticker import MaxNLocator
from pyproj import CRS

from micromarket.report import callouts as callouts_
from micromarket.report import style
from micromarket.report.callouts import call_out
from micromarket.report.style import DIVERGING, GREY, INK, LAND, LINE, MM, SEQUENTIAL, canvas, label, to_svg

LEGEND_MM = 12.5
FINE_SHAPES = 1_500  # beyond it markets have no border of their own
MOST_VECTOR_SHAPES = 6_000  # beyond it a map is drawn as a picture inside the figure


def project(markets: gpd.GeoDataFrame) -> gpd.GeoSeries:
    """Shapes on an equal-area plane centred on the company (right also across the date line), missing ones dropped.

    Parameters
    ----------
    markets : GeoDataFrame
        WGS 84.
    """
    shapes = gpd.GeoSeries(markets.set_index("market_id")["geometry"], crs=4326)
    shapes = shapes[shapes.notna() & ~shapes.is_empty]
    points = shapes.representative_point()
    lon, lat = np.radians(points.x.to_numpy()), np.radians(points.y.to_numpy())
    x, y, z = (np.cos(lat) * np.cos(lon)).mean(), (np.cos(lat) * np.sin(lon)).mean(), np.sin(lat).mean()
    lon0, lat0 = np.degrees(np.arctan2(y, x)), np.degrees(np.arctan2(z, np.hypot(x, y)))
    # rounded, so that the last bits of another machine's arithmetic change nothing
    crs = CRS.from_proj4(f"+proj=laea +lat_0={lat0:.4f} +lon_0={lon0:.4f} +units=m +ellps=WGS84")
    return shapes.to_crs(crs)


def simplify(shapes: gpd.GeoSeries, resolution: int) -> gpd.GeoSeries:
    """Shapes without detail finer than 1/``resolution`` of the map's larger side; shared borders stay shared."""
    left, bottom, right, top = shapes.total_bounds
    tolerance = max(right - left, top - bottom) / resolution
    geometry = shapely.make_valid(shapes.to_numpy())
    polygonal = np.array([shapely.get_dimensions(g) == 2 for g in geometry])
    geometry = np.array([_areas(g) for g in geometry], dtype=object)
    if polygonal.any():
        try:
            geometry[polygonal] = shapely.coverage_simplify(list(geometry[polygonal]), tolerance)
        except shapely.errors.GEOSException:  # shapes that overlap badly are no coverage
            geometry[polygonal] = shapely.simplify(list(geometry[polygonal]), tolerance)
    return gpd.GeoSeries(geometry, index=shapes.index, crs=shapes.crs)


def dissolve(shapes: gpd.GeoSeries, group: pd.Series) -> gpd.GeoSeries:
    """Outline of every group of shapes (areas only), indexed by group."""
    areas = shapes[[shapely.get_dimensions(g) == 2 for g in shapes]]
    merged = {}
    for name, part in areas.groupby(group.reindex(areas.index)):
        try:
            merged[name] = shapely.coverage_union_all(part.to_numpy())
        except shapely.errors.GEOSException:  # shapes that overlap are no coverage
            merged[name] = shapely.union_all(part.to_numpy())
    return gpd.GeoSeries(merged, crs=shapes.crs)


def _areas(shape: shapely.Geometry) -> shapely.Geometry:
    """Only the areas of a mixed collection; points and lines alone stay as they are."""
    if shape.geom_type != "GeometryCollection":
        return shape
    parts = [g for g in shape.geoms if shapely.get_dimensions(g) == 2]
    return shapely.union_all(parts) if parts else shape


def path_of(shape: shapely.Geometry) -> MplPath | None:
    """Rings of a polygon or multipolygon as one path (holes wind the other way)."""
    vertices, codes = [], []
    for polygon in shapely.get_parts(shape):
        if polygon.geom_type != "Polygon" or polygon.is_empty:
            continue
        polygon = shapely.geometry.polygon.orient(polygon)
        for ring in (polygon.exterior, *polygon.interiors):
            xy = np.asarray(ring.coords)[:, :2]
            vertices.append(xy)
            codes.append([MplPath.MOVETO] + [MplPath.LINETO] * (len(xy) - 2) + [MplPath.CLOSEPOLY])
    return MplPath(np.concatenate(vertices), np.concatenate(codes)) if vertices else None


def _scale(values: pd.Series, diverging: bool) -> Normalize:
    """Colours up to the 97th percentile, so that one huge market doesn't leave the rest pale."""
    finite = values[np.isfinite(values)]
    size = float(finite.abs().quantile(0.97)) if len(finite) else 1.0
    size = size or float(finite.abs().max() if len(finite) else 0.0) or 1.0
    return TwoSlopeNorm(0, -size, size) if diverging else Normalize(0, size)


def choropleth(
    shapes: gpd.GeoSeries,
    values: pd.Series,
    names: pd.Series,
    *,
    unit: str,
    money,
    diverging: bool = True,
    callouts: list[str] | None = None,
    outlines: gpd.GeoSeries | None = None,
    height_mm: float = 96,
    width_mm: float | None = None,
) -> bytes:
    """A map of ``values`` (by market_id) as SVG: white hairlines, a scale below, the named markets called out beside.

    Parameters
    ----------
    shapes : GeoSeries
        Projected and simplified, indexed by market_id.
    unit : str
        What the scale shows.
    money : callable
        Formats a value.
    callouts : list of market_id
        Markets named outside the map; leader lines don't cross.
    outlines : GeoSeries, optional
        Borders of regions, drawn lightly over the markets.
    """
    values = values.reindex(shapes.index).astype("float64")
    full = width_mm or style.TEXT_WIDTH / MM
    left, bottom, right, top = shapes.total_bounds
    # labels stand beside a tall country, above and below a wide one: whichever leaves more to the map
    east, north = max(right - left, 1.0), max(top - bottom, 1.0)
    size_beside = min(full * (1 - 2 * callouts_.SIDE) / east, (height_mm - LEGEND_MM) / north)
    size_above = min(full * 0.98 / east, (height_mm - LEGEND_MM - 2 * callouts_.ROW_MM) / north)
    beside = size_beside > size_above
    side = callouts_.SIDE if callouts and beside else 0.01
    rows_mm = callouts_.ROW_MM if callouts and not beside else 0.0
    height_mm = _height(shapes, height_mm, full * (1 - 2 * side), LEGEND_MM + 2 * rows_mm)
    with canvas(height_mm, width_mm) as figure:
        figure.set_layout_engine("none")
        wide, _ = figure.get_size_inches()
        below = (LEGEND_MM + rows_mm) / height_mm
        axes = figure.add_axes((side, below, 1 - 2 * side, 1 - below - rows_mm / height_mm))
        norm = _scale(values, diverging)
        cmap = DIVERGING if diverging else SEQUENTIAL
        draw(axes, shapes, values, norm, cmap)
        if outlines is not None:
            outline(axes, outlines)
        _legend(figure, norm, cmap, unit, money, wide, height_mm)
        if callouts:
            call_out(figure, axes, shapes, values, names, callouts, money, beside=beside, legend_mm=LEGEND_MM)
        return to_svg(figure)


def draw(axes: Axes, shapes: gpd.GeoSeries, values: pd.Series, norm: Normalize, cmap, nothing: str = LAND) -> None:
    """Shapes coloured by their values (``nothing`` without one), white hairlines between them; points as dots."""
    known = np.isfinite(values.to_numpy(float))
    colours = np.tile(to_rgba(nothing), (len(values), 1))
    colours[known] = cmap(norm(values.to_numpy(float)[known]))
    colour = dict(zip(values.index, colours, strict=True))
    paths, faces, points = [], [], []
    for market, shape in shapes.items():
        path = path_of(shape)
        if path is None:
            points.append((market, shape.centroid))
            continue
        paths.append(path)
        faces.append(colour[market])
    # where markets are smaller than a hairline is wide, white borders would be all there is to see
    fine = len(paths) > FINE_SHAPES
    edges, width = (faces, 0.12) if fine else ("white", 0.35 if len(paths) < 800 else 0.15)
    collection = PathCollection(paths, facecolors=faces, edgecolors=edges, linewidths=width)
    collection.set_rasterized(len(paths) > MOST_VECTOR_SHAPES)
    axes.add_collection(collection)
    if points:
        axes.scatter(
            [p.x for _, p in points],
            [p.y for _, p in points],
            s=max(3, min(30, 3000 / len(points))),
            c=[colour[m] for m, _ in points],
            edgecolors=GREY,
            linewidths=0.25,
        )
    left, bottom, right, top = shapes.total_bounds
    pad = 0.02 * max(right - left, top - bottom, 1.0)
    axes.set_xlim(left - pad, right + pad)
    axes.set_ylim(bottom - pad, top + pad)
    axes.set_aspect("equal")
    axes.axis("off")


def outline(axes: Axes, outlines: gpd.GeoSeries) -> None:
    """Borders of regions, lightly over the markets."""
    paths = [path for shape in outlines if (path := path_of(shape)) is not None]
    axes.add_collection(
        PathCollection(
            paths, facecolors="none", edgecolors=GREY, linewidths=0.4 if len(outlines) > 1 else 0.2, alpha=0.8
        )
    )


def _height(shapes: gpd.GeoSeries, most: float, width: float, below: float) -> float:
    """Millimetres that the map needs at its ``width``, so that a wide country leaves no hole below it."""
    left, bottom, right, top = shapes.total_bounds
    return float(np.clip(1.04 * width * (top - bottom) / max(right - left, 1.0) + below, 62, most))


def _legend(figure: Figure, norm: Normalize, cmap, unit: str, money, wide: float, height_mm: float) -> None:
    width = min(2.2 / wide, 0.6)
    mm = 1 / height_mm
    bar = figure.add_axes((0.5 - width / 2, 4.6 * mm, width, 1.8 * mm))
    bar.imshow(np.linspace(0, 1, 128)[None, :], aspect="auto", cmap=cmap, extent=(0, 1, 0, 1), interpolation="nearest")
    bar.set_axis_off()
    vmin, vmax = float(norm.vmin or 0), float(norm.vmax or 1)
    ticks = [(0, vmin), (0.5, (vmin + vmax) / 2), (1, vmax)]
    for position, value in ticks:
        text = money(value)
        if position == 1 or (position == 0 and vmin < 0):
            text += " or more" if position == 1 else " or less"
        figure.text(0.5 + (position - 0.5) * width, 3.9 * mm, text, ha="center", va="top", fontsize=7, color=GREY)
    figure.text(0.5, 7.4 * mm, unit, ha="center", va="bottom", fontsize=7.5, color=GREY)


def ranked_bars(
    values: pd.Series,
    names: pd.Series,
    *,
    unit: str,
    money,
    diverging: bool = True,
    low: pd.Series | None = None,
    high: pd.Series | None = None,
    most: int = 9,
    height_mm: float = 96,
) -> bytes:
    """The largest and (if ``diverging``) the smallest markets as bars: the map of a company without borders."""
    ordered = values.dropna().sort_index().sort_values(ascending=False, kind="stable")
    if diverging:
        above, below = ordered[ordered > 0].head(most), ordered[ordered < 0].tail(most)
        shown = pd.concat([above, below])
    else:
        shown = ordered.head(2 * most)
    with canvas(height_mm) as figure:
        axes = figure.add_subplot()
        y = np.arange(len(shown))[::-1]
        colours = [style.ACCENT if v >= 0 else style.WARM for v in shown]
        axes.barh(y, shown, color=colours, height=0.66)
        if low is not None and high is not None:
            axes.hlines(y, low.reindex(shown.index), high.reindex(shown.index), color=INK, linewidth=0.8)
        axes.set_yticks(y, [label(names[m], 34) for m in shown.index])
        axes.axvline(0, color=GREY, linewidth=0.6)
        axes.xaxis.set_major_formatter(lambda v, _: money(v))
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.grid(axis="x")
        axes.spines["bottom"].set_color(LINE)
        axes.set_xlabel(unit)
        axes.margins(y=0.01)
        return to_svg(figure)


def categories(
    shapes: gpd.GeoSeries,
    values: pd.Series,
    kinds: dict[str, tuple[str, str]],
    height_mm: float = 80,
    width_mm: float | None = None,
) -> bytes:
    """A map of kinds (value: colour and name); everything else is land."""
    values = values.reindex(shapes.index)
    height_mm = _height(shapes, height_mm, width_mm or style.TEXT_WIDTH / MM, 8)
    with canvas(height_mm, width_mm) as figure:
        figure.set_layout_engine("none")
        axes = figure.add_axes((0.01, 8 / height_mm, 0.98, 1 - 8 / height_mm))
        codes = {kind: float(i) for i, kind in enumerate(kinds)}
        colours = ListedColormap([colour for colour, _ in kinds.values()])
        draw(axes, shapes, values.map(codes).astype("float64"), Normalize(-0.5, len(kinds) - 0.5), colours)
        legend = [Patch(facecolor=c, label=n) for c, n in kinds.values()] + [Patch(facecolor=LAND, label="not in it")]
        figure.legend(handles=legend, loc="lower center", ncols=len(legend), handlelength=1, handleheight=1)
        return to_svg(figure)
