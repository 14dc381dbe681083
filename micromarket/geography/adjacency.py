"""Which markets are neighbours, and how much of their border they share."""

from __future__ import annotations

import numpy as np
import pandas as pd
import shapely
from scipy.sparse import coo_array, csr_array
from scipy.spatial import cKDTree

from micromarket.geography.shapes import project, usable_geometry

TOUCHING_KM = 0.05
POINT_NEIGHBOURS = 6


def neighbours(markets: pd.DataFrame, *, touching_km: float = TOUCHING_KM, k: int = POINT_NEIGHBOURS) -> pd.DataFrame:
    """Pairs of neighbouring markets, both directions, sorted.

    Polygons are neighbours when they are at most ``touching_km`` apart (digitised borders rarely match exactly); one
    that touches none gets its nearest market. Points and lines are neighbours of their ``k`` nearest.

    Returns
    -------
    DataFrame
        ``market_id``, ``neighbour_id``; no row for markets without geometry.
    """
    geometry = usable_geometry(markets)
    columns = ["market_id", "neighbour_id"]
    if geometry is None or geometry.notna().sum() < 2:
        return pd.DataFrame({c: pd.Series(dtype="str") for c in columns})
    have = geometry.notna().to_numpy()
    ids = markets["market_id"].to_numpy()[have]
    shapes = np.asarray(project(geometry[have]))
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


def border_lengths(markets: pd.DataFrame, pairs: pd.DataFrame) -> pd.Series:
    """Kilometres of border that each pair of markets shares; 0 where they meet in a point or don't touch.

    Edges that both borders draw through the same two points count with their length. A pair that shares none of them
    (borders digitised apart) counts the border of the one within ``TOUCHING_KM`` of the other.

    Parameters
    ----------
    markets : GeoDataFrame
        ``market_id`` and geometry.
    pairs : DataFrame
        ``market_id``, ``neighbour_id``, both in ``markets``.

    Returns
    -------
    Series
        Indexed like ``pairs``, the same in both directions.
    """
    out = pd.Series(0.0, index=pairs.index, name="border_km")
    geometry = usable_geometry(markets)
    if geometry is None or not len(pairs):
        return out
    have = np.flatnonzero(geometry.notna())
    shapes = np.full(len(markets), None, dtype=object)
    shapes[have] = project(geometry.iloc[have])
    ids = pd.Index(markets["market_id"].astype(str))
    a = ids.get_indexer(pd.Index(pairs["market_id"].astype(str)))
    b = ids.get_indexer(pd.Index(pairs["neighbour_id"].astype(str)))
    low, high = np.minimum(a, b), np.maximum(a, b)
    km = np.asarray(_shared_edges(np.asarray(geometry), shapes)[low, high]).ravel() / 1e3
    areas = shapely.get_dimensions(shapes) == 2
    loose = np.flatnonzero((km == 0) & areas[low] & areas[high])
    each, back = np.unique(np.column_stack([low[loose], high[loose]]), axis=0, return_inverse=True)
    if len(each):
        near = 1e3 * TOUCHING_KM
        edge = shapely.boundary(shapes[each[:, 0]])
        shared = shapely.length(shapely.intersection(edge, shapely.buffer(shapes[each[:, 1]], near, quad_segs=2)))
        # reach goes past both ends; two corners that meet lie within it for a few steps, which is no common border
        km[loose] = (np.where(shared > 4 * near, shared - 2 * near, 0.0) / 1e3)[back.ravel()]
    out[:] = km
    return out


def _shared_edges(geometry: np.ndarray, flat: np.ndarray) -> csr_array:
    """Metres of edges drawn alike by two polygons, in the upper triangle of a sparse (markets, markets)."""
    n = len(geometry)
    parts, owner = shapely.get_parts(geometry, return_index=True)
    rings, part = shapely.get_rings(parts, return_index=True)
    degrees, ring = shapely.get_coordinates(rings, return_index=True)
    flat_parts = shapely.get_rings(shapely.get_parts(flat))
    metres = shapely.get_coordinates(flat_parts)
    if not len(degrees):
        return csr_array((n, n))
    follows = ring[1:] == ring[:-1]
    length = np.hypot(*(metres[1:] - metres[:-1])[follows].T)
    fixed = np.round(degrees * 1e7).astype(np.int64)
    start, end = fixed[:-1][follows], fixed[1:][follows]
    turned = (start[:, 0] > end[:, 0]) | ((start[:, 0] == end[:, 0]) & (start[:, 1] > end[:, 1]))
    start, end = np.where(turned[:, None], end, start), np.where(turned[:, None], start, end)
    key = np.zeros(len(start), dtype=np.uint64)
    for column in (start[:, 0], start[:, 1], end[:, 0], end[:, 1]):  # a hash: sorting one column is fast
        key = (key ^ column.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        key ^= key >> np.uint64(29)
    whose = owner[part][ring[:-1][follows]]
    order = np.lexsort((whose, key))
    key, whose, length = key[order], whose[order], length[order]
    same = (key[1:] == key[:-1]) & (whose[1:] != whose[:-1])
    left, right, metre = whose[:-1][same], whose[1:][same], length[1:][same]
    return coo_array((metre, (left, right)), shape=(n, n)).tocsr()


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
