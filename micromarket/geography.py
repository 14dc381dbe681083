"""Markets on the map: clean geometry, areas, positions, neighbours, and the market a point lies in.

Everything here copes with markets that have no geometry: it reports them and leaves their cells empty.
"""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from pyproj import CRS
from scipy.spatial import cKDTree

WGS84 = "EPSG:4326"
TOUCHING_KM = 0.05
POINT_NEIGHBOURS = 6
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
    geometry = _usable(markets)
    if geometry is None:
        return pd.DataFrame(markets.drop(columns="geometry", errors="ignore")).assign(**empty)
    active = markets.geometry.name
    out = gpd.GeoDataFrame(
        pd.DataFrame(markets.drop(columns=active)).assign(**empty), geometry=geometry.to_numpy(), crs=WGS84
    )
    have = geometry.notna().to_numpy()
    if have.any():
        flat = _project(geometry[have])
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
    usable = _usable(markets)
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
    if usable is not None:
        lost = usable.isna().to_numpy() & ~missing.to_numpy()
        if lost.any():
            found.append(f"{_count(lost.sum())} a boundary that can't be used: {_some(ids[lost])}")
    return found


def neighbours(markets: pd.DataFrame, *, touching_km: float = TOUCHING_KM, k: int = POINT_NEIGHBOURS) -> pd.DataFrame:
    """Pairs of neighbouring markets, both directions, sorted.

    Polygons are neighbours when they are at most ``touching_km`` apart (digitised borders rarely match exactly); one
    that touches none gets its nearest market. Points and lines are neighbours of their ``k`` nearest.

    Returns
    -------
    DataFrame
        ``market_id``, ``neighbour_id``; no row for markets without geometry.
    """
    geometry = _usable(markets)
    columns = ["market_id", "neighbour_id"]
    if geometry is None or geometry.notna().sum() < 2:
        return pd.DataFrame({c: pd.Series(dtype="str") for c in columns})
    have = geometry.notna().to_numpy()
    ids = markets["market_id"].to_numpy()[have]
    shapes = np.asarray(_project(geometry[have]))
    polygon = shapely.get_dimensions(shapes) == 2
    pairs = []
    if polygon.sum() > 1:
        at = np.flatnonzero(polygon)
        tree = shapely.STRtree(shapes[at])
        # the bounding boxes of neighbours nearly always overlap: dwithin prepares the left side once per polygon
        left, right = tree.query(shapes[at], predicate="dwithin", distance=1e3 * touching_km)
        pairs.append((at[left], at[right]))
    if not polygon.all():
        inside = shapely.point_on_surface(shapes)
        at = np.flatnonzero(~polygon)
        left, right = _nearest_points(inside, at, min(k, len(shapes) - 1))
        pairs.append((left, right))
    left = np.concatenate([p[0] for p in pairs])
    right = np.concatenate([p[1] for p in pairs])
    alone = np.setdiff1d(np.arange(len(shapes)), left[left != right])
    if len(alone):
        island, nearest = _nearest_other(shapes, alone)
        left, right = np.concatenate([left, island]), np.concatenate([right, nearest])
    keep = left != right
    both = np.unique(np.column_stack([np.r_[left[keep], right[keep]], np.r_[right[keep], left[keep]]]), axis=0)
    out = pd.DataFrame({"market_id": ids[both[:, 0]], "neighbour_id": ids[both[:, 1]]})
    return out.sort_values(columns, kind="stable").reset_index(drop=True)


def assign_points(
    longitude: pd.Series, latitude: pd.Series, markets: pd.DataFrame, *, tolerance_km: float = 5.0
) -> pd.Series:
    """The market that each point (WGS 84 degrees) lies in.

    A point in no market belongs to the nearest one within ``tolerance_km`` (coast lines and simplified borders lose
    points), else to none. A point on a shared border belongs to the first market by id. Markets that are points
    themselves take what is within ``tolerance_km`` and nearest to them.

    Returns
    -------
    Series
        ``market_id``, missing where there is none; indexed like ``longitude``.
    """
    lon = pd.to_numeric(longitude, errors="coerce").to_numpy(float)
    lat = pd.to_numeric(latitude, errors="coerce").to_numpy(float)
    out = pd.Series(pd.array([None] * len(lon), dtype="str"), index=longitude.index, name="market_id")
    geometry = _usable(markets)
    good = np.isfinite(lon) & np.isfinite(lat) & (np.abs(lon) <= 180) & (np.abs(lat) <= 90)
    if geometry is None or not geometry.notna().any() or not good.any():
        return out
    have = geometry.notna().to_numpy()
    ids = markets["market_id"].to_numpy()[have].astype(str)
    order = np.argsort(ids, kind="stable")
    ids, shapes = ids[order], np.asarray(geometry[have])[order]
    places, back = np.unique(np.column_stack([lon[good], lat[good]]), axis=0, return_inverse=True)
    points = shapely.points(places)
    # polygons query the tree of points: GEOS prepares the querying side, and polygons are the complex ones
    market, point = shapely.STRtree(points).query(shapes, predicate="intersects")
    found = np.full(len(points), -1)
    found[point[::-1]] = market[::-1]  # the first market by id wins
    lost = np.flatnonzero(found < 0)
    if len(lost) and tolerance_km > 0:
        crs = _local_crs(geometry[have])
        flat = np.asarray(gpd.GeoSeries(shapes, crs=WGS84).to_crs(crs))
        away = np.asarray(gpd.GeoSeries(points[lost], crs=WGS84).to_crs(crs))
        sound = shapely.is_valid(away) & np.isfinite(shapely.get_x(away)) & np.isfinite(shapely.get_y(away))
        a, b = shapely.STRtree(flat).query_nearest(away[sound], max_distance=1e3 * tolerance_km)
        found[lost[sound][a[::-1]]] = b[::-1]
    found = found[back.ravel()]
    out.iloc[np.flatnonzero(good)[found >= 0]] = ids[found[found >= 0]]
    return out


def _active(markets: gpd.GeoDataFrame) -> list[str]:
    return ["geometry"] if markets._geometry_column_name in markets.columns else []


def _usable(markets: pd.DataFrame) -> gpd.GeoSeries | None:
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
    values = np.asarray(geometry)
    bounds = shapely.bounds(values)
    sound = np.isfinite(bounds).all(axis=1) & (np.abs(bounds[:, [1, 3]]) <= 90).all(axis=1) & ~shapely.is_empty(values)
    out = np.full(len(values), None, dtype=object)
    out[sound] = values[sound]
    return gpd.GeoSeries(out, crs=WGS84) if sound.any() else None


def _areas_only(shape: shapely.Geometry) -> shapely.Geometry:
    """Repairing a polygon may leave stray lines and points beside it: keep the areas."""
    if shape.geom_type != "GeometryCollection":
        return shape
    parts = [p for p in shape.geoms if shapely.get_dimensions(p) == 2]
    return shapely.union_all(parts) if parts else shape


def _local_crs(geometry: gpd.GeoSeries) -> CRS:
    """Lambert azimuthal equal-area round the markets' centre (EPSG:6933 for markets all over the world)."""
    bounds = shapely.bounds(np.asarray(geometry))
    middle = np.radians((bounds[:, 0] + bounds[:, 2]) / 2)
    # markets on both sides of the date line have their centre between them, not at Greenwich
    lon0 = float(np.degrees(np.arctan2(np.sin(middle).mean(), np.cos(middle).mean())))
    lat0 = float((bounds[:, 1].min() + bounds[:, 3].max()) / 2)
    spread = np.abs((np.degrees(middle) - lon0 + 180) % 360 - 180).max()
    if spread > _WIDE or bounds[:, 3].max() - bounds[:, 1].min() > _WIDE:
        return CRS.from_user_input(_GLOBAL_EQUAL_AREA)
    return CRS.from_proj4(f"+proj=laea +lat_0={lat0:.4f} +lon_0={lon0:.4f} +datum=WGS84 +units=m +no_defs")


def _project(geometry: gpd.GeoSeries) -> np.ndarray:
    return np.asarray(geometry.to_crs(_local_crs(geometry)))


def _nearest_points(points: np.ndarray, at: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    xy = shapely.get_coordinates(points)
    _, nearest = cKDTree(xy).query(xy[at], k=k + 1)
    left = np.repeat(at, k + 1)
    right = np.asarray(nearest).reshape(len(at), -1).ravel()
    return left, right


def _nearest_other(shapes: np.ndarray, alone: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest market with another shape, for each in ``alone``."""
    a, b = shapely.STRtree(shapes).query_nearest(shapes[alone], exclusive=True, all_matches=False)
    return alone[a], b


def _count(n: int) -> str:
    return "1 market has" if n == 1 else f"{n:,} markets have"


def _some(ids: pd.Series, most: int = 5) -> str:
    shown = sorted(ids)[:most]
    return ", ".join(shown) + (f" and {len(ids) - most:,} more" if len(ids) > most else "")
