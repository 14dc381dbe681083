"""Right-sized markets: those with too few customers are merged into a neighbour, within their region."""

from __future__ import annotations

import heapq

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from micromarket.geography.adjacency import border_lengths, neighbours


def merge_thin(
    markets: pd.DataFrame, customers: pd.Series, minimum: float, within: pd.Series | None = None
) -> pd.Series:
    """Which markets belong together so that each has at least ``minimum`` customers.

    The smallest market first, into the neighbour that it shares the longest border with, a neighbour that is too small
    itself before one that is large enough; where it touches none, into the nearest. Equal data give equal markets,
    whatever the order of rows.

    Parameters
    ----------
    markets : GeoDataFrame
        ``market_id``, geometry, ``x_km``, ``y_km`` (:func:`~micromarket.geography.prepare_markets`).
    customers : Series
        Customers by ``market_id``; a market that is not there has none.
    minimum : float
        Fewest customers of a market.
    within : Series, optional
        Label by ``market_id`` (such as the region) that a merged market may not straddle.

    Returns
    -------
    Series
        Indexed by ``market_id``, in the order of ``markets``: the ``market_id`` of the market's *lead*, the largest
        member of what it is merged into by ``addressable_customers``, area, then id; its own where it stays as it is.
        A market without a place on the map stays as it is, and so does one alone in its region.
    """
    ids = markets["market_id"].astype(str).to_numpy()
    order = np.argsort(ids, kind="stable")  # ranks: everything below is in the order of ids
    frame = markets.iloc[order].reset_index(drop=True)
    ids = ids[order]
    count = pd.Series(ids).map(customers).fillna(0.0).to_numpy(float)
    label = np.zeros(len(ids), dtype=int)
    if within is not None:
        label = pd.factorize(pd.Series(ids).map(within).astype("str").fillna(""), sort=True)[0]
    xy = frame[["x_km", "y_km"]].to_numpy(float)
    placed = np.isfinite(xy).all(axis=1)
    borders = _borders(frame, ids, label, count < minimum)
    root = _merge(count, minimum, label, xy, placed, borders)
    size = np.nan_to_num(frame.get("addressable_customers", pd.Series(0.0, index=frame.index)).to_numpy(float))
    area = np.nan_to_num(frame.get("area_km2", pd.Series(0.0, index=frame.index)).to_numpy(float))
    ranked = np.lexsort((np.arange(len(ids)), -area, -size))
    leads = pd.Series(ranked).groupby(root[ranked], sort=False).first()
    lead = pd.Series(ids[leads.loc[root].to_numpy()], index=pd.Index(ids, name="market_id"), name="lead")
    return lead.reindex(markets["market_id"].astype(str))


def _borders(frame: pd.DataFrame, ids: np.ndarray, label: np.ndarray, thin: np.ndarray) -> list[dict[int, float]]:
    """Neighbours with the same label and the km of common border, for each market; only pairs with a thin one."""
    out: list[dict[int, float]] = [{} for _ in ids]
    pairs = neighbours(frame)
    if pairs.empty:
        return out
    at = pd.Series(np.arange(len(ids)), index=ids)
    a, b = at.loc[pairs["market_id"]].to_numpy(), at.loc[pairs["neighbour_id"]].to_numpy()
    use = (a < b) & (label[a] == label[b]) & (thin[a] | thin[b])
    km = border_lengths(frame, pairs[use]).to_numpy()
    for i, j, length in zip(a[use].tolist(), b[use].tolist(), km.tolist(), strict=True):
        out[i][j] = out[j][i] = length
    return out


def _merge(
    count: np.ndarray,
    minimum: float,
    label: np.ndarray,
    xy: np.ndarray,
    placed: np.ndarray,
    borders: list[dict[int, float]],
) -> np.ndarray:
    """The root of each market's group, shape (markets,)."""
    count = count.copy()
    parent = np.arange(len(count))
    members = [[i] for i in range(len(count))]
    nearest = _Nearest(label, xy, placed)
    queue = [(count[i], i) for i in range(len(count)) if count[i] < minimum]
    heapq.heapify(queue)
    while queue:
        n, i = heapq.heappop(queue)
        if parent[i] != i or n != count[i] or n >= minimum:
            continue
        if borders[i]:
            # a corner is a last resort, then the thin, then the longest border
            into = min(borders[i], key=lambda j: (borders[i][j] <= 0, count[j] >= minimum, -borders[i][j], count[j], j))
        else:
            found = nearest.other(members[i], parent)
            if found is None:
                continue
            into = found
        keep, gone = (i, into) if len(borders[i]) >= len(borders[into]) else (into, i)  # the shorter list moves
        for j, km in borders[gone].items():
            del borders[j][gone]
            if j != keep:
                borders[keep][j] = borders[j][keep] = borders[keep].get(j, 0.0) + km
        borders[gone] = {}
        parent[gone] = keep
        for m in members[gone]:
            parent[m] = keep
        members[keep] += members[gone]
        members[gone] = []
        count[keep] += count[gone]
        if count[keep] < minimum:
            heapq.heappush(queue, (count[keep], keep))
    return parent


class _Nearest:
    """The nearest market of another group with the same label, by the points inside them."""

    def __init__(self, label: np.ndarray, xy: np.ndarray, placed: np.ndarray):
        self._label, self._xy, self._placed = label, xy, placed
        self._trees: dict[int, tuple[np.ndarray, cKDTree]] = {}

    def other(self, members: list[int], parent: np.ndarray) -> int | None:
        """The root of the nearest other group, ``None`` where there is none."""
        mine = [m for m in members if self._placed[m]]
        if not mine:
            return None
        label = int(self._label[mine[0]])
        if label not in self._trees:
            at = np.flatnonzero((self._label == label) & self._placed)
            self._trees[label] = at, cKDTree(self._xy[at])
        at, tree = self._trees[label]
        if len(at) <= len(mine):
            return None
        wanted = min(len(mine) + 1, len(at))
        best: tuple[float, int] | None = None
        for m in mine:
            distance, near = tree.query(self._xy[m], k=wanted)
            for d, j in zip(np.atleast_1d(distance), at[np.atleast_1d(near)], strict=True):
                if parent[j] != parent[m]:
                    best = min(best or (np.inf, 0), (float(d), int(parent[j])))
                    break
        return None if best is None else best[1]
