"""Where markets do better, or worse, than expected together with their neighbours: more than chance would place there.

Getis-Ord Gi* (Ord and Getis 1995, Geographical Analysis 27, eq. 14) of normal scores, two-sided, its p-values by random
permutation, with the false discovery rate held by Benjamini and Hochberg (1995). Without that control a tenth of pure
noise looks like a hot spot. In worlds with a planted cluster Gi*, which counts the market itself, found a third more of
it than local Moran's I at equal false alarms; normal scores cost nothing where values are normal, and find more than
twice as much where their tails are heavy, as those of residuals are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtri
from scipy.stats import rankdata

from micromarket.geography.spillover import weights

PERMUTATIONS = 99_999
FALSE_DISCOVERIES = 0.05
_SLOT = 2_000_000  # numbers drawn at a time


def getis_ord(
    values: pd.Series, neighbours: pd.DataFrame | None, seed: int, permutations: int = PERMUTATIONS
) -> pd.DataFrame:
    """Gi* of every market, and how rarely chance does as much.

    ``p`` is twice the smaller share of random arrangements of the values over the map in which the mean over the market
    and its neighbours is at least as far out; ``q`` the same after Benjamini-Hochberg over all markets.

    Parameters
    ----------
    values : Series
        Indexed by ``market_id``, such as out-of-fold residuals divided by their standard error (markets of different
        size are then alike but for what is to be found). Missing ones are left out.
    neighbours : DataFrame or None
        ``market_id``, ``neighbour_id``.
    seed : int
    permutations : int
        With *n* markets and *m* in hot spots, ``2 / (permutations + 1)`` must be below ``0.05 m / n``.

    Returns
    -------
    DataFrame
        Indexed like ``values``: ``score`` (normal score of the value), ``z`` (Gi*, in standard deviations), ``p``,
        ``q``. p and q are 1 where nothing can be said: no value, no neighbours, all values equal.
    """
    raw = values.to_numpy(dtype=float, na_value=np.nan)
    out = {"score": np.full(len(raw), np.nan), "z": np.full(len(raw), np.nan)}
    out |= {"p": np.ones(len(raw)), "q": np.ones(len(raw))}
    have = np.flatnonzero(np.isfinite(raw))
    n = len(have)
    if n > 2 and np.ptp(raw[have]) > 1e-12 * max(1.0, np.abs(raw[have]).max()):
        score = ndtri((rankdata(raw[have]) - 0.5) / n)
        w = weights(values.index[have], neighbours)
        count = np.diff(w.indptr) + 1  # the market itself counts
        judged = np.flatnonzero((count > 1) & (count < n))
        out["score"][have] = score
        if len(judged):
            total = (w @ score + score)[judged]
            z, p = _against_chance(score, total, count[judged], seed, permutations)
            at = have[judged]
            out["z"][at], out["p"][at], out["q"][at] = z, p, benjamini_hochberg(p)
    return pd.DataFrame(out, index=values.index)


def hot_spots(
    values: pd.Series,
    neighbours: pd.DataFrame | None,
    seed: int,
    *,
    false_discoveries: float = FALSE_DISCOVERIES,
    permutations: int = PERMUTATIONS,
) -> np.ndarray:
    """``"hot"`` (high among high), ``"cold"`` (low among low) or ``""`` for each market, in the order of ``values``.

    Of the markets named, at most the share ``false_discoveries`` is expected to be chance; in pure noise nearly always
    none is named. Parameters as in :func:`getis_ord`.
    """
    found = getis_ord(values, neighbours, seed, permutations)
    sure = (found["q"] <= false_discoveries).to_numpy()
    score, z = found["score"].to_numpy(), found["z"].to_numpy()
    out = np.full(len(values), "", dtype=object)
    out[sure & (score > 0) & (z > 0)] = "hot"
    out[sure & (score < 0) & (z < 0)] = "cold"
    return out


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """Adjusted p-values (q-values), shape as ``p``: the least false discovery rate at which each is still found."""
    if not len(p):
        return np.asarray(p, dtype=float)
    order = np.argsort(p, kind="stable")
    ranked = np.asarray(p, dtype=float)[order] * len(p) / np.arange(1, len(p) + 1)
    out = np.empty(len(p))
    out[order] = np.minimum(np.minimum.accumulate(ranked[::-1])[::-1], 1.0)
    return out


def _against_chance(
    x: np.ndarray, total: np.ndarray, count: np.ndarray, seed: int, permutations: int
) -> tuple[np.ndarray, np.ndarray]:
    """z and two-sided p of sums of ``count`` values among sums of as many drawn without replacement from ``x``."""
    n = len(x)
    spread = np.sqrt(x.var() * count * (n - count) / (n - 1))
    z = (total - count * x.mean()) / spread
    sums = _sums_of_draws(x, int(count.max()), seed, permutations)
    p = np.ones(len(total))
    slack = 1e-9  # equal arrangements count as equal, whatever the rounding
    for k in np.unique(count):
        here = count == k
        drawn = np.sort(sums[k - 1])
        above = permutations - np.searchsorted(drawn, total[here] - slack, side="left")
        below = np.searchsorted(drawn, total[here] + slack, side="right")
        p[here] = np.minimum(2 * (np.minimum(above, below) + 1) / (permutations + 1), 1.0)
    return z, p


def _sums_of_draws(x: np.ndarray, most: int, seed: int, permutations: int) -> np.ndarray:
    """Sums of the first 1, 2, … ``most`` of values drawn without replacement, shape (most, permutations)."""
    rng: Any = np.random.default_rng(seed)
    n = len(x)
    out = np.empty((most, permutations))
    wide = most * most > n / 4  # repeats are then too common to be drawn again
    step = max(1, _SLOT // (n if wide else most))
    for start in range(0, permutations, step):
        rows = min(step, permutations - start)
        if wide:
            pick = rng.permuted(np.broadcast_to(np.arange(n), (rows, n)), axis=1)[:, :most]
        else:
            pick = rng.integers(n, size=(rows, most))
            while True:
                repeated = (np.diff(np.sort(pick, axis=1), axis=1) == 0).any(axis=1)
                if not repeated.any():
                    break
                pick[repeated] = rng.integers(n, size=(int(repeated.sum()), most))
        out[:, start : start + rows] = np.cumsum(x[pick], axis=1).T
    return out
