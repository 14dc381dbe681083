"""Hexagons of the H3 grid as markets, for a company that has points but no markets."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from micromarket.errors import InputError, Problem
from micromarket.geography.points import assign_points
from micromarket.geography.shapes import WGS84, usable_geometry

MOST = 200_000


def _h3() -> Any:
    try:
        return importlib.import_module("h3")
    except ImportError as error:
        expected = "h3 to be installed (pip install 'micromarket[spatial]')"
        raise InputError([Problem("plan.yml", expected, "geography.hexagons", value="not installed")]) from error


def hexagon_of(longitude: pd.Series, latitude: pd.Series, resolution: int) -> pd.Series:
    """The H3 cell that each point (WGS 84 degrees) lies in, indexed like ``longitude``; missing without a place.

    Raises
    ------
    InputError
        Where h3 is not installed.
    """
    cell = _h3().latlng_to_cell
    lon = pd.to_numeric(longitude, errors="coerce").to_numpy(float, na_value=np.nan)
    lat = pd.to_numeric(latitude, errors="coerce").to_numpy(float, na_value=np.nan)
    good = np.isfinite(lon) & np.isfinite(lat) & (np.abs(lon) <= 180) & (np.abs(lat) <= 90)
    found = np.full(len(lon), None, dtype=object)
    found[good] = [cell(y, x, resolution) for x, y in zip(lon[good].tolist(), lat[good].tolist(), strict=True)]
    return pd.Series(pd.array(found, dtype="str"), index=longitude.index, name="market_id")


def cells_within(boundary: gpd.GeoDataFrame, resolution: int) -> list[str]:
    """Hexagons whose centre lies in one of the polygons, sorted.

    Raises
    ------
    InputError
        Where h3 is not installed, or they would be more than 200,000.
    """
    h3 = _h3()
    geometry = usable_geometry(boundary)
    cells: set[str] = set()
    if geometry is None:
        return []
    for shape in shapely.get_parts(np.asarray(geometry[geometry.notna()])):
        if shape.geom_type == "Polygon":
            inside = h3.geo_to_h3shape(shape.__geo_interface__)
            cells.update(h3.h3shape_to_cells(inside, resolution))
        if len(cells) > MOST:
            expected = f"a coarser resolution: at most {MOST:,} hexagons"
            raise InputError([Problem("plan.yml", expected, "geography.hexagons", value=str(resolution))])
    return sorted(cells)


def hexagon_markets(
    cells: Iterable[str], boundary: gpd.GeoDataFrame | None = None, name: str | None = None
) -> gpd.GeoDataFrame:
    """Markets of H3 cells: ``market_id`` (the cell), ``name``, ``region``, geometry (WGS 84), sorted by id.

    A hexagon is named by its centre ("14.57 N 121.06 E"), so that its name never changes. With ``boundary`` and the
    column ``name`` in it, that place comes first ("Pasig 14.57 N 121.06 E") and is the region.
    """
    h3 = _h3()
    ids = sorted(set(cells))
    centres = np.array([h3.cell_to_latlng(c) for c in ids]).reshape(-1, 2)
    shapes = [_polygon(h3.cell_to_boundary(c)) for c in ids]
    names = [_place(y, x, _decimals(h3, ids[0])) for y, x in centres.tolist()]
    out = gpd.GeoDataFrame({"market_id": pd.array(ids, dtype="str"), "name": names}, geometry=shapes, crs=WGS84)
    if boundary is not None and name is not None:
        areas = gpd.GeoDataFrame({"market_id": boundary[name].astype(str)}, geometry=boundary.geometry)
        areas = areas[boundary[name].notna().to_numpy()]
        inside = assign_points(pd.Series(centres[:, 1]), pd.Series(centres[:, 0]), areas)
        out["region"] = inside.fillna("Elsewhere").to_numpy()
        out["name"] = np.where(inside.isna(), out["name"], inside.fillna("").astype(str) + " " + out["name"])
    return out


def _polygon(corners: Iterable[tuple[float, float]]) -> shapely.Polygon:
    ring = np.array([(x, y) for y, x in corners])
    if np.ptp(ring[:, 0]) > 180:  # across the date line: beyond 180 degrees, which ``usable_geometry`` cuts
        ring[:, 0] = np.where(ring[:, 0] < 0, ring[:, 0] + 360, ring[:, 0])
    return shapely.Polygon(ring)


def _decimals(h3: Any, cell: str) -> int:
    """So many that no two centres are written alike."""
    apart = math.sqrt(3) * h3.average_hexagon_edge_length(h3.get_resolution(cell), unit="km") / 111.2
    return max(1, math.ceil(-math.log10(apart / 2)))


def _place(lat: float, lon: float, decimals: int) -> str:
    """Written as on a map.

    >>> _place(14.566, -121.06, 2)
    '14.57 N 121.06 W'
    """
    north, east = ("N" if lat >= 0 else "S"), ("E" if lon >= 0 else "W")
    return f"{abs(lat):.{decimals}f} {north} {abs(lon):.{decimals}f} {east}"
