"""Whole numbers that add up: largest remainder (Hamilton) and systematic rounding."""

from __future__ import annotations

import numpy as np

_GOLDEN = 0.6180339887498949  # fractional parts of its multiples fill [0, 1) evenly (Weyl)


def largest_remainder(values: np.ndarray, total: int | None = None) -> np.ndarray:
    """Whole numbers next to ``values`` with an exact sum.

    Parameters
    ----------
    values : array of shape (n,), finite and at least 0
    total : int, optional
        Wanted sum; default: the rounded sum of ``values``. Values are scaled to it first where the two differ by more
        than rounding can mend.

    Returns
    -------
    int64 array of shape (n,); equal remainders go to the earlier position, so results are deterministic.

    Raises
    ------
    ValueError
        For negative or non-finite values, and for a positive total of values that are all 0.

    References
    ----------
    Balinski, Young (2001), *Fair Representation*: Hamilton's method.

    Examples
    --------
    >>> largest_remainder(np.array([0.5, 1.5, 2.5]), 4).tolist()
    [1, 1, 2]
    """
    values = np.asarray(values, dtype=float)
    if not np.isfinite(values).all() or (values < 0).any():
        raise ValueError("values have to be finite and at least 0")
    if total is None:
        total = round(float(values.sum()))
    floor = np.floor(values)
    short = total - int(floor.sum())
    if not 0 <= short <= len(values):
        scale = values.sum()
        if scale <= 0:
            raise ValueError(f"nothing to spread {total} over")
        values = values * (total / scale)
        floor = np.floor(values)
        short = total - int(floor.sum())
    whole = floor.astype(np.int64)
    while short != 0:  # one round, or a second one where floating point put a whole number just off
        order = np.argsort(-(values - whole), kind="stable")
        step = 1 if short > 0 else -1
        order = order if step > 0 else order[::-1]
        if step < 0:
            order = order[whole[order] > 0]
        take = order[: abs(short)]
        whole[take] += step
        short = total - int(whole.sum())
    return whole


def spread_whole(totals: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Spreads whole row totals over columns: rows exact, columns within a fraction of their expected sums.

    Largest remainder row by row would put every small row's unit into the same best column. Systematic rounding
    (floor of the cumulated share, with an offset that differs evenly from row to row) doesn't.

    Parameters
    ----------
    totals : int array of shape (n,)
    shares : array of shape (n, k), at least 0; rows are normalised, a row of zeros is spread evenly

    Returns
    -------
    int64 array of shape (n, k) whose rows sum to ``totals``; every entry is within 1 of its exact share.
    """
    totals = np.asarray(totals, dtype=np.int64)
    shares = np.asarray(shares, dtype=float)
    sums = shares.sum(axis=1, keepdims=True)
    shares = np.where(sums > 0, shares / np.where(sums > 0, sums, 1), 1 / shares.shape[1])
    cumulated = np.cumsum(shares, axis=1) * totals[:, None]
    cumulated[:, -1] = totals
    offset = (np.arange(len(totals)) * _GOLDEN + 0.5) % 1.0
    steps = np.floor(cumulated + offset[:, None]).astype(np.int64)
    steps[:, -1] = totals  # floor(total + offset) with offset < 1
    np.minimum(steps, totals[:, None], out=steps)
    return np.diff(steps, axis=1, prepend=0)
