"""Clean, flat WGS 84 shapes of markets, their areas and positions, and what was wrong with them."""

from __future__ import annotations

from collections.abc import Callable

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from pyproj import CRS

WGS84 = "EPSG:4326"
_WIDE = 100.0  # degrees: beyond that an azimuthal projection round the centre distorts too much
_GLOBAL_EQUAL_AREA = "EPSG:6933"


def prepare_markets(markets: pd.DataFrame) -> pd.DataFrame:
    """Markets with valid, flat WGS 84 geometry, ``area_km2``, ``x_km`` and ``y_km``.

    Parameters
    ----------
    markets : DataFrame or GeoDataFrame
        One row a market. A GeoDataFrame without CRS is read as WGS 84 when its coordinates allow it.

    Returns
    -------
    DataFrame or GeoDataFrame
        A copy in the same order. ``area_km2``: area in an equal-area projection (empty for points and lines);
        ``x_km``, ``y_km``: a point inside the market in kilometres east and north of the centre of all markets. All
        three are empty where a market has no usable geometry (see :func:`validate_geometry`); a table without geometry
        stays a plain DataFrame.
    """
    empty = {c: np.full(len(markets), np.nan) for c in ("x_km", "y_km", "area_km2")}
    geometry = usable_geometry(markets)
    if geometry is None:
        return pd.DataFrame(markets.drop(columns="geometry", errors="ignore")).assign(**empty)
    active = markets.geometry.name
    out = gpd.GeoDataFrame(
        pd.DataFrame(markets.drop(columns=active)).assign(**empty), geometry=geometry.to_numpy(), crs=WGS84
    )
    have = geometry.notna().to_numpy()
    if have.any():
        flat = project(geometry[have])
        area = shapely.area(flat) / 1e6
        inside = shapely.point_on_surface(flat)
        out.loc[have, "area_km2"] = np.where(area > 0, area, np.nan)
        out.loc[have, "x_km"] = shapely.get_x(inside) / 1e3
        out.loc[have, "y_km"] = shapely.get_y(inside) / 1e3
    return out


def validate_geometry(markets: pd.DataFrame) -> list[str]:
    """What is wrong with the geometry, in plain words (an empty list: nothing, or no geometry at all).

    None of it stops a plan: markets named here go without map, neighbours and position, or are repaired.
    """
    if not isinstance(markets, gpd.GeoDataFrame) or "geometry" not in _active(markets) or not len(markets):
        return []
    found = []
    geometry = markets.geometry
    ids = markets["market_id"].astype(str) if "market_id" in markets else pd.Series(markets.index.astype(str))
    usable = usable_geometry(markets)
    missing = geometry.isna() | geometry.is_empty
    if geometry.crs is None:
        found.append(
            "the boundaries declare no coordinate system; they are read as longitude and latitude (WGS 84)"
            if usable is not None
            else "the boundaries declare no coordinate system and are not longitude and latitude: they can't be used"
        )
    if missing.any():
        found.append(f"{_count(missing.sum())} no boundary: {_some(ids[missing.to_numpy()])}")
    invalid = ~(geometry.is_valid | missing)
    if invalid.any():
        found.append(
            f"{_count(invalid.sum())} a boundary that crosses itself, repaired: {_some(ids[invalid.to_numpy()])}"
        )
    lines = geometry.geom_type.isin(["LineString", "MultiLineString", "LinearRing"]).to_numpy()
    if lines.any():
        found.append(f"{_count(lines.sum())} a line for a boundary, which holds no area: {_some(ids[lines])}")
    drawn = geometry[~missing & geometry.geom_type.isin(["Polygon", "MultiPolygon"])]
    twice = drawn.to_wkb().duplicated(keep=False).reindex(geometry.index, fill_value=False).to_numpy()
    if twice.any():
        found.append(f"{_count(twice.sum())} the same boundary as another market: {_some(ids[twice])}")
    if usable is not None:
        lost = usable.isna().to_numpy() & ~missing.to_numpy()
        if lost.any():
            found.append(f"{_count(lost.sum())} a boundary that can't be used: {_some(ids[lost])}")
    return found


def _active(markets: gpd.GeoDataFrame) -> list[str]:
    return ["geometry"] if markets._geometry_column_name in markets.columns else []


def usable_geometry(markets: pd.DataFrame) -> gpd.GeoSeries | None:
    """Valid flat WGS 84 geometry (``None`` per market where there is none), or ``None`` where no market has any."""
    if not isinstance(markets, gpd.GeoDataFrame) or not _active(markets) or not len(markets):
        return None
    geometry = gpd.GeoSeries(shapely.force_2d(np.asarray(markets.geometry)), crs=markets.crs)
    if geometry.crs is None:
        west, south, east, north = geometry.total_bounds
        if not (west >= -180 and south >= -90 and east <= 180 and north <= 90):
            return None
        geometry = geometry.set_crs(WGS84)
    values = np.array(geometry)  # a copy: pandas hands out read-only views
    broken = ~(shapely.is_valid(values) | shapely.is_missing(values))
    values[broken] = [_areas_only(g) for g in shapely.make_valid(values[broken])]
    geometry = gpd.GeoSeries(values, crs=geometry.crs).to_crs(WGS84)
    values = _cut_at_date_line(np.array(geometry))
    bounds = shapely.bounds(values)
    sound = np.isfinite(bounds).all(axis=1) & (np.abs(bounds[:, [1, 3]]) <= 90).all(axis=1) & ~shapely.is_empty(values)
    out = np.full(len(values), None, dtype=object)
    out[sound] = values[sound]
    return gpd.GeoSeries(out, crs=WGS84) if sound.any() else None


def _cut_at_date_line(shapes: np.ndarray) -> np.ndarray:
    """Shapes that reach beyond 180 degrees, or are drawn the long way round the globe, in two parts (RFC 7946, 3.1.9).

    An edge of more than 180 degrees that doesn't end on the date line can only be a short one across it.
    """
    bounds = shapely.bounds(shapes)
    beyond = (bounds[:, 2] > 180.0) | (bounds[:, 0] < -180.0)
    wide = np.flatnonzero(bounds[:, 2] - bounds[:, 0] > 180.0)
    if len(wide):
        parts, owner = shapely.get_parts(shapes[wide], return_index=True)
        rings, part = shapely.get_rings(parts, return_index=True)
        xy, ring = shapely.get_coordinates(rings, return_index=True)
        step = np.abs(np.diff(xy[:, 0]))
        jump = (ring[1:] == ring[:-1]) & (step > 180.0) & (step < 359.999)
        # only the parts that jump: the others of the same market lie where they are drawn
        for p in np.unique(part[ring[1:][jump]]):
            parts[p] = shapely.transform(parts[p], _eastward)
        for o in np.unique(owner[part[ring[1:][jump]]]):
            shapes[wide[o]] = shapely.multipolygons(parts[owner == o])
            beyond[wide[o]] = True
    for i in np.flatnonzero(beyond):
        shape = shapes[i] if shapely.is_valid(shapes[i]) else _areas_only(shapely.make_valid(shapes[i]))
        pieces = [
            shapely.transform(shapely.intersection(shape, shapely.box(-180 + turn, -90, 180 + turn, 90)), _turned(turn))
            for turn in (-360, 0, 360)
        ]
        shapes[i] = _areas_only(shapely.union_all([piece for piece in pieces if not piece.is_empty]))
    return shapes


def _eastward(xy: np.ndarray) -> np.ndarray:
    return np.column_stack([np.where(xy[:, 0] < 0, xy[:, 0] + 360, xy[:, 0]), xy[:, 1]])


def _turned(degrees: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda xy: xy - np.array([degrees, 0.0])


def _areas_only(shape: shapely.Geometry) -> shapely.Geometry:
    """Repairing a polygon may leave stray lines and points beside it: keep the areas."""
    if shape.geom_type != "GeometryCollection":
        return shape
    parts = [p for p in shape.geoms if shapely.get_dimensions(p) == 2]
    return shapely.union_all(parts) if parts else shape


def local_crs(geometry: gpd.GeoSeries) -> CRS:
    """Lambert azimuthal equal-area round the markets' centre (EPSG:6933 for markets all over the world)."""
    shapes = np.asarray(geometry)
    bounds = shapely.bounds(shapes)
    cut = bounds[:, 2] - bounds[:, 0] > 180.0  # on both sides of the date line: its bounds go round the globe
    if cut.any():
        bounds = np.vstack([bounds[~cut], shapely.bounds(shapely.get_parts(shapes[cut]))])
    middle = np.radians((bounds[:, 0] + bounds[:, 2]) / 2)
    # markets on both sides of the date line have their centre between them, not at Greenwich
    lon0 = float(np.degrees(np.arctan2(np.sin(middle).mean(), np.cos(middle).mean())))
    lat0 = float((bounds[:, 1].min() + bounds[:, 3].max()) / 2)
    spread = np.abs((np.degrees(middle) - lon0 + 180) % 360 - 180).max()
    if spread > _WIDE or bounds[:, 3].max() - bounds[:, 1].min() > _WIDE:
        return CRS.from_user_input(_GLOBAL_EQUAL_AREA)
    return CRS.from_proj4(f"+proj=laea +lat_0={lat0:.4f} +lon_0={lon0:.4f} +datum=WGS84 +units=m +no_defs")


def project(geometry: gpd.GeoSeries) -> np.ndarray:
    return np.asarray(geometry.to_crs(local_crs(geometry)))


def _count(n: int) -> str:
    return "1 market has" if n == 1 else f"{n:,} markets have"


def _some(ids: pd.Series, most: int = 5) -> str:
    shown = sorted(ids)[:most]
    return ", ".join(shown) + (f" and {len(ids) - most:,} more" if len(ids) > most else "")
