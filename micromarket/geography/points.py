"""The market that a point lies in."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from micromarket.geography.shapes import WGS84, local_crs, usable_geometry


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
    return locate_points(longitude, latitude, markets, tolerance_km=tolerance_km)["market_id"]


def locate_points(
    longitude: pd.Series, latitude: pd.Series, markets: pd.DataFrame, *, tolerance_km: float = 5.0
) -> pd.DataFrame:
    """:func:`assign_points`, and how far off each point is.

    Returns
    -------
    DataFrame
        ``market_id`` and ``distance_km`` (0 inside, missing without a market), indexed like ``longitude``.
    """
    lon = pd.to_numeric(longitude, errors="coerce").to_numpy(float)
    lat = pd.to_numeric(latitude, errors="coerce").to_numpy(float)
    out = pd.DataFrame(
        {"market_id": pd.array([None] * len(lon), dtype="str"), "distance_km": np.nan}, index=longitude.index
    )
    geometry = usable_geometry(markets)
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
    distance = np.zeros(len(points))
    lost = np.flatnonzero(found < 0)
    if len(lost) and tolerance_km > 0:
        crs = local_crs(geometry[have])
        flat = np.asarray(gpd.GeoSeries(shapes, crs=WGS84).to_crs(crs))
        away = np.asarray(gpd.GeoSeries(points[lost], crs=WGS84).to_crs(crs))
        sound = shapely.is_valid(away) & np.isfinite(shapely.get_x(away)) & np.isfinite(shapely.get_y(away))
        (a, b), metres = shapely.STRtree(flat).query_nearest(
            away[sound], max_distance=1e3 * tolerance_km, return_distance=True
        )
        found[lost[sound][a[::-1]]] = b[::-1]
        distance[lost[sound][a[::-1]]] = metres[::-1] / 1e3
    found, distance = found[back.ravel()], distance[back.ravel()]
    at = np.flatnonzero(good)[found >= 0]
    out.iloc[at, 0] = ids[found[found >= 0]]
    out.iloc[at, 1] = distance[found >= 0]
    return out
