"""Which markets are neighbours, and how much of their border they share."""

from __future__ import annotations

import numpy as np
import pandas as pd
import shapely
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
