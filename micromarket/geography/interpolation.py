"""Areal interpolation: what is known of one set of areas (census tracts, counties, a grid), for another (markets).

Area weighting (Goodchild and Lam 1980): a count is shared out over a source area evenly, a rate is averaged. A source
that reaches beyond the markets keeps what lies outside: counts add up to what was shared out, no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from scipy.sparse import coo_array, csr_array

from micromarket.geography.points import assign_points
from micromarket.geography.shapes import local_crs, usable_geometry

LEAST_COVERED = 0.5
_SLOPPY = 0.01  # areas that share more than this part of themselves are no neighbours with sloppy borders


@dataclass(frozen=True)
class Interpolated:
    """Variables of the source areas by market.

    Attributes
    ----------
    values : DataFrame
        Indexed by ``market_id``: a column a variable, in its own unit. Missing where less than half of the market is
        covered by areas that have a value (never 0 for want of data).
    coverage : Series
        Share of each market's area that the source covers, from 0 to 1 (points: 1 with a point in it, else 0).
    totals : DataFrame
        A row an extensive variable: ``source`` (its total), ``placed`` (in markets with a value), ``blanked`` (in
        markets too thinly covered to have one), ``outside`` (in no market); these three add up to the first.
        ``cut_off``: the part of ``outside`` that belongs to areas which reach into some market.
    warnings : tuple of str
        What a reader should know, in plain words.
    """

    values: pd.DataFrame
    coverage: pd.Series
    totals: pd.DataFrame
    warnings: tuple[str, ...] = ()


def interpolate(
    source: gpd.GeoDataFrame,
    markets: gpd.GeoDataFrame,
    *,
    extensive: Sequence[str] = (),
    intensive: Sequence[str] = (),
    weight: str | None = None,
    least_covered: float = LEAST_COVERED,
) -> Interpolated:
    """Variables of ``source`` for ``markets``, whatever the two coordinate systems.

    Parameters
    ----------
    source : GeoDataFrame
        Polygons, or points that stand for places (a block's centre, a grid's).
    markets : GeoDataFrame
        ``market_id`` and geometry. A market that is a point gets the rates of the area it lies in, and no counts.
    extensive : sequence of str
        Counts and amounts (people, shops, money): shared out by area, totals conserved.
    intensive : sequence of str
        Rates, means and densities: averaged, by overlapping area or by ``weight``.
    weight : str, optional
        A count of the source, such as its households, that intensive variables are averaged by instead of area.
    least_covered : float
        Share of a market's area under which its value is missing.

    Raises
    ------
    KeyError
        Where a variable is no column of ``source``.
    ValueError
        Where no variable is asked for, one is both extensive and intensive, or ``weight`` is negative somewhere.
    """
    names = [*extensive, *intensive]
    if not names or len(set(names)) < len(names):
        raise ValueError("each variable once, as extensive or as intensive")
    missing = [c for c in [*names, *([weight] if weight else [])] if c not in source.columns]
    if missing:
        raise KeyError(f"no column {', '.join(missing)} in the source")
    ids = pd.Index(markets["market_id"], name="market_id")
    overlap = _overlap(source, markets)
    numbers = {c: pd.to_numeric(source[c], errors="coerce").to_numpy(float, na_value=np.nan) for c in source.columns
               if c in {*names, weight}}  # fmt: skip
    numbers = {c: np.where(np.isfinite(v), v, np.nan) for c, v in numbers.items()}
    if weight is not None and (numbers[weight] < 0).any():
        raise ValueError(f"weight {weight}: at least 0 everywhere")
    warnings = list(overlap.warnings)
    values, totals = {}, []
    for name in extensive:
        known = np.isfinite(numbers[name])
        covered = overlap.covered(known)
        amount = np.where(known, numbers[name], 0.0)
        placed = np.where(overlap.countable, overlap.share @ amount, 0.0)
        good = overlap.countable & (covered >= least_covered)
        outside = float(amount @ (1.0 - overlap.inside))
        total = float(amount.sum())
        scale = max(float(np.abs(amount).sum()), 1e-300)
        assert abs(placed.sum() + outside - total) <= 1e-9 * scale, f"{name}: total not conserved"
        values[name] = np.where(good, placed, np.nan)
        cut_off = float((amount * (1.0 - overlap.inside))[overlap.inside > 0].sum())
        totals.append((name, total, float(placed[good].sum()), float(placed[~good].sum()), outside, cut_off))
    for name in intensive:
        known = np.isfinite(numbers[name])
        by = overlap.area if weight is None else overlap.share * np.nan_to_num(numbers[weight])[None, :]
        mean = _mean(by, numbers[name], known)
        if weight is not None:  # nobody lives there: by area
            mean = np.where(np.isfinite(mean), mean, _mean(overlap.area, numbers[name], known))
        values[name] = np.where(overlap.covered(known) >= least_covered, mean, np.nan)
    columns = ["variable", "source", "placed", "blanked", "outside", "cut_off"]
    coverage = pd.Series(overlap.covered(np.ones(len(source), dtype=bool)), index=ids, name="coverage")
    if overlap.countable.any() and extensive and not overlap.countable.all():
        n = int((~overlap.countable).sum())
        warnings.append(f"{n:,} markets are points or have no border: they get no counts ({', '.join(extensive)}).")
    return Interpolated(
        values=pd.DataFrame(values, index=ids),
        coverage=coverage.clip(upper=1.0),
        totals=pd.DataFrame(totals, columns=columns).set_index("variable"),
        warnings=tuple(warnings),
    )


@dataclass(frozen=True)
class _Overlap:
    """Sparse (markets, areas). ``area``: of the overlap in km2 (points in a market: 1); ``share``: of the source area.

    ``size``: area of each market; ``inside``: share of each source area that lies in markets (at most 1);
    ``countable``: markets that can be given counts.
    """

    area: csr_array
    share: csr_array
    size: np.ndarray
    inside: np.ndarray
    countable: np.ndarray
    points: bool
    warnings: tuple[str, ...] = ()

    def covered(self, known: np.ndarray) -> np.ndarray:
        """Share of each market that source areas with a value cover."""
        found = self.area @ known.astype(float)
        return (found > 0).astype(float) if self.points else found / np.where(self.size > 0, self.size, np.inf)


def _mean(weights: csr_array, values: np.ndarray, known: np.ndarray) -> np.ndarray:
    total = weights @ known.astype(float)
    summed = weights @ np.where(known, values, 0.0)
    return np.where(total > 0, summed / np.where(total > 0, total, 1.0), np.nan)


def _overlap(source: gpd.GeoDataFrame, markets: gpd.GeoDataFrame) -> _Overlap:
    shape = (len(markets), len(source))
    from_source, from_markets = usable_geometry(source), usable_geometry(markets)
    none = csr_array(shape)
    if from_source is None or from_markets is None:
        zero = np.zeros(shape[0])
        return _Overlap(
            none, none, zero, np.zeros(shape[1]), zero > 0, False, ("The two maps have no place in common.",)
        )
    dimension = shapely.get_dimensions(np.asarray(from_source[from_source.notna()]))
    if (dimension == 0).all():
        return _of_points(from_source, markets, shape)
    crs = local_crs(from_markets[from_markets.notna()])
    left = np.array(from_markets.to_crs(crs))
    right = np.array(from_source.to_crs(crs))  # copies: pandas hands out read-only views
    right[~np.isfinite(shapely.bounds(right)).all(axis=1)] = None  # at the far side of the globe
    broken = ~(shapely.is_valid(right) | shapely.is_missing(right))
    right[broken] = shapely.make_valid(right[broken])
    m, s, km2 = _pieces(left, right)
    point = np.asarray(shapely.get_dimensions(left) < 2) & ~shapely.is_missing(left)
    size = np.where(point, 1.0, np.nan_to_num(shapely.area(left) / 1e6))
    area = coo_array((km2, (m, s)), shape=shape).tocsr()
    whole = np.nan_to_num(shapely.area(right) / 1e6)
    share = coo_array((np.where(point[m], 0.0, km2) / np.where(whole[s] > 0, whole[s], np.inf), (m, s)), shape=shape)
    share = share.tocsr()
    warnings = []
    split, pairs = _overlap_one_another(left, size)
    if pairs:
        share = csr_array(share * split[:, None])
        warnings.append(f"{pairs:,} pairs of markets overlap: what lies in both is split between them.")
    inside = np.minimum(np.asarray(share.sum(axis=0)).ravel(), 1.0)
    twice = np.asarray(area.sum(axis=1)).ravel() > (1 + _SLOPPY) * np.where(size > 0, size, np.inf)
    if twice.any():
        warnings.append(
            f"Areas of the source overlap one another in {int(twice.sum()):,} markets: what they count counts twice."
        )
    countable = ~point & (size > 0)
    return _Overlap(area, share, size, inside, countable, False, tuple(warnings))


def _overlap_one_another(shapes: np.ndarray, km2: np.ndarray) -> tuple[np.ndarray, int]:
    """What is left of each market's claim where markets lie on one another (1: all), and how many pairs do."""
    claim = np.ones(len(shapes))
    solid = np.flatnonzero(shapely.get_dimensions(shapes) == 2)
    # of two that overlap, one at least has edges inside the other: few have, and only they are cut
    odd = np.flatnonzero(~shapely.is_empty(shapely.coverage_invalid_edges(shapes[solid])))
    o, other = shapely.STRtree(shapes[solid]).query(shapes[solid[odd]])
    each = np.unique(np.sort(np.column_stack([odd[o], other]), axis=1), axis=0)
    a, b = solid[each[each[:, 0] < each[:, 1]]].T
    box_a, box_b = shapely.bounds(shapes[a]), shapely.bounds(shapes[b])
    sides = np.minimum(box_a[:, 2:], box_b[:, 2:]) - np.maximum(box_a[:, :2], box_b[:, :2])
    near = sides.prod(axis=1) / 1e6 > _SLOPPY * np.minimum(km2[a], km2[b])  # boxes share at least what shapes share
    a, b = a[near], b[near]
    both = shapely.area(shapely.intersection(shapes[a], shapes[b])) / 1e6
    real = both > _SLOPPY * np.minimum(km2[a], km2[b])
    for one in (a[real], b[real]):
        np.add.at(claim, one, both[real] / km2[one])
    return 1.0 / claim, int(real.sum())


def _of_points(source: gpd.GeoSeries, markets: gpd.GeoDataFrame, shape: tuple[int, int]) -> _Overlap:
    have = source.notna().to_numpy()
    points = np.asarray(source[have])
    found = assign_points(pd.Series(shapely.get_x(points)), pd.Series(shapely.get_y(points)), markets, tolerance_km=0.0)
    at = pd.Index(markets["market_id"].astype(str)).get_indexer(found.astype(object))
    columns = np.flatnonzero(have)[at >= 0]
    matrix = csr_array((np.ones(len(columns)), (at[at >= 0], columns)), shape=shape)
    inside = np.asarray(matrix.sum(axis=0)).ravel()
    return _Overlap(matrix, matrix, np.ones(shape[0]), inside, np.ones(shape[0], dtype=bool), True)


def _pieces(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Overlapping pairs and their area in km2 (1 for a point in an area); whole ones are never cut."""
    tree = shapely.STRtree(right)
    m, s = tree.query(left, predicate="intersects")
    km2 = np.zeros(len(m))
    shapely.prepare(right)
    within = shapely.covers(right[s], left[m])
    km2[within] = shapely.area(left[m[within]]) / 1e6
    rest = ~within
    shapely.prepare(left)
    around = rest.copy()
    around[rest] = shapely.covers(left[m[rest]], right[s[rest]])
    km2[around] = shapely.area(right[s[around]]) / 1e6
    cut = rest & ~around
    km2[cut] = shapely.area(shapely.intersection(left[m[cut]], right[s[cut]])) / 1e6
    point = shapely.get_dimensions(left[m]) < 2
    km2[point] = within[point]
    keep = km2 > 0
    return m[keep], s[keep], km2[keep]
