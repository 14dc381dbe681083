"""How much of the differences in value between customers a segmentation explains: analysis of variance on sums."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import f as f_distribution

from micromarket.formats import percent


@dataclass(frozen=True)
class Explained:
    """``share``: of the variance, corrected for the number of groups (epsilon squared: Kelley 1935, PNAS 21, eq. 7; 0
    where groups explain no more than chance does); ``eta_squared``: uncorrected; ``f``, ``p_value``: of the F test."""

    share: float
    eta_squared: float
    f: float
    p_value: float
    groups: int


@dataclass(frozen=True)
class SegmentWorth:
    """What knowing a customer's segment tells of its value.

    Attributes
    ----------
    measure : str
        What value is here, in words.
    by_construction : bool
        The segments are defined by the very money that they explain: no evidence of worth.
    customers : float
        Customers compared.
    segment, market : Explained
        By segment alone, by market alone.
    beyond : Explained
        What market x segment adds to segment alone (F test of nested means; Scheffé 1959, ch. 2.9).
    text : str
        For leaders.
    """

    measure: str
    by_construction: bool
    customers: float
    segment: Explained
    market: Explained
    beyond: Explained
    text: str

    def numbers(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def explained(n: np.ndarray, total: np.ndarray, square: np.ndarray) -> Explained:
    """One-way analysis of variance from customers, sum and sum of squares by group; empty groups are left out."""
    return _nested(n, total, square, np.zeros(len(n), dtype=int))


def _nested(n: np.ndarray, total: np.ndarray, square: np.ndarray, coarse: np.ndarray) -> Explained:
    """What the rows' means add to the means of the coarser groups (``coarse``: their codes)."""
    used = n > 0
    n, total, square, coarse = n[used], total[used], square[used], np.unique(coarse[used], return_inverse=True)[1]
    size, sums = np.bincount(coarse, n), np.bincount(coarse, total)
    N, k, k0 = float(n.sum()), len(n), len(size)
    if k <= k0 or k >= N or N == 0:
        return Explained(0.0, 0.0, 1.0, 1.0, k)
    whole = square.sum() - sums.sum() ** 2 / N
    before = square.sum() - (sums**2 / size).sum()
    within = max(square.sum() - (total**2 / n).sum(), 0.0)
    if whole <= 1e-12 * max(square.sum(), 1e-300):  # everybody is worth the same
        return Explained(0.0, 0.0, 1.0, 1.0, k)
    eta = float(max(before - within, 0.0) / whole)
    share = float(max(before / (N - k0) - within / (N - k), 0.0) / (whole / (N - 1)))
    if within <= 1e-12 * whole:
        differ = before > 1e-9 * whole
        return Explained(min(share, 1.0), eta, 1e12 if differ else 1.0, 0.0 if differ else 1.0, k)
    f = float(max(before - within, 0.0) / (k - k0) / (within / (N - k)))
    return Explained(min(share, 1.0), eta, f, float(f_distribution.sf(f, k - k0, N - k)), k)


def worth_of(cells: pd.DataFrame, measure: str, *, by_construction: bool, company: bool) -> SegmentWorth:
    """From sums by market and segment.

    Parameters
    ----------
    cells : DataFrame
        market_id, segment, n (customers), total, square (sum and sum of squares of the value measure).
    company : bool
        The segments are the company's own (else: derived).
    """
    n, total, square = (cells[c].to_numpy(float) for c in ("n", "total", "square"))
    segment, segments = pd.factorize(cells["segment"], sort=True)
    market, markets = pd.factorize(cells["market_id"], sort=True)

    def along(code: np.ndarray, k: int) -> Explained:
        return explained(*(np.bincount(code, v, minlength=k) for v in (n, total, square)))

    by_segment, by_market = along(segment, len(segments)), along(market, len(markets))
    beyond = _nested(n, total, square, segment)
    text = _in_words(by_segment, by_market, beyond, measure, n.sum(), by_construction, company)
    return SegmentWorth(measure, by_construction, float(n.sum()), by_segment, by_market, beyond, text)


def _in_words(
    segment: Explained, market: Explained, beyond: Explained, measure: str, n: float, built: bool, company: bool
) -> str:
    whose = "Your own segments" if company else "The segments"
    if n == 0:
        return f"{whose} can't be judged: no customer's value is known yet."
    if built:
        return (
            f"{whose} are cut by the money that customers have brought, so that they differ in it says nothing new;"
            " with dated purchases their worth could be shown."
        )
    if segment.groups < 2:
        return f"{whose} can't be judged: all customers whose value is known are in one of them."
    if segment.p_value >= 0.01 or segment.share < 0.005:
        told = f"{whose} tell next to nothing about what a customer is worth ({measure})"
        advice = ": plan by other segments, or leave segments out (drop the column, and the planner looks for better"
        return told + (f"{advice} ones)." if company else ".")
    text = f"{whose} explain {percent(segment.share)} of the differences in value between customers ({measure})"
    if market.p_value < 0.01 and market.share >= 0.005:
        text += f"; the market a customer lives in explains {percent(market.share)} by itself"
        if beyond.p_value < 0.01 and beyond.share >= 0.005:
            return f"{text} and {percent(beyond.share)} on top of the segments."
        return f"{text} and nothing on top of the segments."
    return f"{text}; the market a customer lives in explains next to nothing."
