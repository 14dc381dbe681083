"""Trimmed match: incremental return of pairs of markets, the least alike pairs left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from micromarket.proof.estimators.simplex import Array

MOST_TRIM = 0.25
_WIDEST = 1e6  # standard errors; an interval wider than this is taken for unbounded


@dataclass(frozen=True)
class TrimmedResult:
    """``estimate``: response per unit of money; ``trim``: share of pairs left out at each end; ``trimmed``: which."""

    estimate: float
    error: float
    low: float
    high: float
    trim: float
    trimmed: tuple[int, ...]


def trimmed_match(
    response: Array, cost: Array, level: float = 0.90, trim: float | None = None, most_trim: float = MOST_TRIM
) -> TrimmedResult:
    """Chen & Au (2022), *Annals of Applied Statistics* 16:1 (arXiv 1908.02922): the return at which the trimmed mean of
    ``response - return * cost`` over pairs is 0; interval from its studentised form.

    Parameters
    ----------
    response, cost : arrays of shape (pairs,)
        Treated less control of each pair.
    level : float
        Of the two-sided interval.
    trim : float, optional
        Default: the least whose standard error is close to the smallest.

    Raises
    ------
    ValueError
        Where the pairs differ in no cost, or there are fewer than two.
    """
    pairs = len(response)
    if pairs < 2 or float(np.abs(cost).max(initial=0.0)) < 1e-10:
        raise ValueError("trimmed match needs two pairs or more whose spend differs")
    most = min(0.5 - 1 / pairs, most_trim)
    counts = [round(trim * pairs)] if trim is not None else range(int(np.floor(most * pairs + 1e-9)) + 1)
    pieces = _pieces(response, cost)
    tried = []
    for count in counts:
        estimate = _root(response, cost, count, pieces)
        if estimate is not None:
            tried.append((count, estimate, _error(response, cost, count, estimate)))
    if not tried:
        raise ValueError("no return balances the pairs: the spend of those that are kept does not differ")
    smallest = min(t[2] for t in tried)
    count, estimate, error = next(t for t in tried if t[2] <= (1 + 0.25 / np.sqrt(pairs)) * smallest)
    z = float(norm.ppf(0.5 + level / 2))
    low, high = _interval(response, cost, count, z, pieces)
    if not high - low <= _WIDEST * error:
        low, high = estimate - 3 * z * error, estimate + 3 * z * error
    order = np.argsort(response - estimate * cost, kind="stable")
    left_out = np.r_[order[:count], order[pairs - count :]] if count else np.array([], dtype=int)
    return TrimmedResult(estimate, error, low, high, count / pairs, tuple(sorted(int(i) for i in left_out)))


def _pieces(response: Array, cost: Array) -> tuple[Array, Array]:
    """Returns at which residuals change their order, with an infinity at each end, and one return in between each."""
    i, j = np.triu_indices(len(response), 1)
    apart = np.abs(cost[i] - cost[j]) > 1e-10
    cuts = np.unique((response[i] - response[j])[apart] / (cost[i] - cost[j])[apart])
    if not len(cuts):
        return np.array([-np.inf, np.inf]), np.zeros(1)
    between = np.r_[cuts[0] - 1 - abs(cuts[0]), (cuts[1:] + cuts[:-1]) / 2, cuts[-1] + 1 + abs(cuts[-1])]
    return np.r_[-np.inf, cuts, np.inf], between


def _root(response: Array, cost: Array, count: int, pieces: tuple[Array, Array]) -> float | None:
    bounds, between = pieces
    pairs, found = len(response), []
    for low, high, at in zip(bounds[:-1], bounds[1:], between, strict=True):
        kept = np.argsort(response - at * cost, kind="stable")[count : pairs - count]
        total = float(cost[kept].sum())
        if total != 0:
            value = float(response[kept].sum()) / total
            if low <= value <= high:
                found.append(value)
    if not found:
        return None

    def asymmetry(value: float) -> float:
        e = np.sort(response - value * cost)
        return float(np.abs(e + e[::-1])[count : pairs - count].sum())

    return min(found, key=asymmetry)


def _error(response: Array, cost: Array, count: int, estimate: float) -> float:
    left = response - estimate * cost
    order = np.argsort(left, kind="stable")
    pairs = len(left)
    kept = order[count : pairs - count]
    squares = float((left[kept] ** 2).sum() + count * (left[kept[0]] ** 2 + left[kept[-1]] ** 2))
    return float(np.sqrt(squares) / max(abs(float(cost[kept].sum())), 1e-300))


def _interval(response: Array, cost: Array, count: int, z: float, pieces: tuple[Array, Array]) -> tuple[float, float]:
    """All returns at which the studentised trimmed mean is within ``z``: a quadratic inequality on every piece."""
    bounds, between = pieces
    pairs = len(response)
    wide = z**2 * (pairs - 2 * count) / max(pairs - 2 * count - 1, 1)
    lows, highs = [], []
    for low, high, at in zip(bounds[:-1], bounds[1:], between, strict=True):
        kept = np.argsort(response - at * cost, kind="stable")[count : pairs - count]
        weight = np.ones(len(kept))
        weight[0] += count
        weight[-1] += count
        r, c = response[kept], cost[kept]
        rw, cw = float(weight @ r), float(weight @ c)
        a = wide * (float(weight @ c**2) - cw**2 / pairs) - float(c.sum()) ** 2
        b = wide * (float(weight @ (r * c)) - cw * rw / pairs) - float(c.sum() * r.sum())
        d = wide * (float(weight @ r**2) - rw**2 / pairs) - float(r.sum()) ** 2
        for left, right in _where_positive(a, b, d):
            if max(left, low) <= min(right, high):
                lows.append(max(left, low))
                highs.append(min(right, high))
    return (min(lows), max(highs)) if lows else (np.nan, np.nan)


def _where_positive(a: float, b: float, d: float) -> list[tuple[float, float]]:
    """Where ``a x^2 - 2 b x + d >= 0``."""
    if a == 0:
        if b == 0:
            return [(-np.inf, np.inf)] if d >= 0 else []
        return [(-np.inf, d / (2 * b))] if b > 0 else [(d / (2 * b), np.inf)]
    inner = b * b - a * d
    if inner < 0:
        return [(-np.inf, np.inf)] if a > 0 else []
    one, two = sorted(((b - np.sqrt(inner)) / a, (b + np.sqrt(inner)) / a))
    return [(-np.inf, one), (two, np.inf)] if a > 0 else [(one, two)]
