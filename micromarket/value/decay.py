"""Which markets really lose customers: trends of all markets at once, so that noise is not called decay.

A market's active customers by month are compared with the company's in the same months, which takes out season and
common ups and downs. Slopes are pooled by empirical Bayes; how far months wander by chance alone (counts of separate
months, and customers who stay or go for good) is learnt from all markets by a variogram (Cressie 1993, ch. 2). Markets
are called decaying so that the expected share of false alarms among them is held (Efron 2010, ch. 5).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import nnls
from scipy.stats import chi2, norm

from micromarket.value.groups import Z90, pooled_groups
from micromarket.value.pooling import CellLikelihood, normal

MONTHS, FEWEST_MONTHS, FEWEST_MARKETS = 24, 12, 5
MATERIAL = -0.03  # a year: a smaller loss is not called decay
FALSE_ALARMS = 0.10
_LOWEST_SPREAD = 0.1


@dataclass(frozen=True)
class MarketTrends:
    """Attributes
    ----------
    table : DataFrame
        market_id; active (customers, mean of the last 12 months); trend, trend_low, trend_high (change of active
        customers a year, fractions, 90%); against_company (the same, less the company's own change); p_falls
        (probability that they fall by more than 3% a year); decays (bool); spend_trend, spend_trend_low,
        spend_trend_high (revenue per active customer against the company's, a year). Worst first; markets of fewer
        than ``min_cell`` active customers are left out.
    company : float or None
        Change of the company's active customers, last 12 months against the 12 before (fraction); ``None`` with less
        than two years: trends are then against the company.
    p_value : float
        That markets' trends differ by chance only.
    months : int
    left_out : int
        Markets too small to be shown.
    text : str
        The finding, in a sentence.
    """

    table: pd.DataFrame
    company: float | None
    p_value: float
    months: int
    left_out: int
    text: str


def market_trends(history: pd.DataFrame, min_cell: int = 10) -> MarketTrends | None:
    """From the artefact ``history``; ``None`` with under a year of months or fewer than five markets with customers."""
    if history.empty:
        return None
    months = np.sort(history["month"].unique())[-MONTHS:]
    recent = history[history["month"].isin(months)]
    by = recent.groupby(["market_id", "month"], observed=True)[["active_customers", "revenue"]].sum()
    active = by["active_customers"].unstack(fill_value=0).sort_index()
    money = by["revenue"].unstack(fill_value=0).reindex_like(active)
    active = active[active.sum(axis=1) > 0]
    if len(months) < FEWEST_MONTHS or len(active) < FEWEST_MARKETS:
        return None
    y = active.to_numpy(float)
    slope, sd, p_value = _active_slopes(y)
    company = float(np.log(y[:, -12:].sum() / y[:, :12].sum())) if len(months) == MONTHS else None
    ends = slope + (company or 0.0)
    falls = norm.cdf((np.log1p(MATERIAL) - ends) / sd)
    decays = _certain(1 - falls) if p_value < 0.05 else np.zeros(len(y), bool)
    spend, spend_sd = _spend_slopes(money.loc[active.index].to_numpy(float), y)
    table = pd.DataFrame(
        {
            "market_id": active.index.astype(str),
            "active": y[:, -12:].mean(axis=1),
            "trend": np.expm1(ends),
            "trend_low": np.expm1(ends - Z90 * sd),
            "trend_high": np.expm1(ends + Z90 * sd),
            "against_company": np.expm1(slope),
            "p_falls": falls,
            "decays": decays,
            "spend_trend": np.expm1(spend),
            "spend_trend_low": np.expm1(spend - Z90 * spend_sd),
            "spend_trend_high": np.expm1(spend + Z90 * spend_sd),
        }
    )
    shown = table[table["active"] >= min_cell].sort_values(["p_falls", "market_id"], ascending=[False, True])
    left_out = len(table) - len(shown)
    return MarketTrends(
        shown.reset_index(drop=True),
        None if company is None else float(np.expm1(company)),
        p_value,
        len(months),
        left_out,
        _text(shown, p_value, company, len(months)),
    )


def _text(table: pd.DataFrame, p_value: float, company: float | None, months: int) -> str:
    n = int(table["decays"].sum())
    measure = "" if company is not None else " against the company"
    if p_value >= 0.05:
        return f"Over {months} months, markets' trends do not differ beyond chance: no market stands out as decaying."
    if n == 0:
        return f"Markets' trends differ, but none surely loses more than 3% of its active customers a year{measure}."
    kept = table.loc[table["decays"], "active"].sum() / table["active"].sum()
    return (
        f"{n:,} of {len(table):,} markets lose active customers{measure}, more than 3% a year, beyond what chance"
        f" explains; they hold {kept:.0%} of the active customers."
    )


def _certain(doubt: np.ndarray) -> np.ndarray:
    """The largest set whose mean probability of being a false alarm is at most ``FALSE_ALARMS``."""
    order = np.argsort(doubt, kind="stable")
    mean = np.cumsum(doubt[order]) / np.arange(1, len(doubt) + 1)
    chosen = np.zeros(len(doubt), bool)
    chosen[order[: int((mean <= FALSE_ALARMS).sum())]] = True
    return chosen


def _years(months: int) -> np.ndarray:
    u = np.arange(months) / 12.0
    return u - u.mean()


def _tilt(y: np.ndarray, spread: float) -> CellLikelihood:
    """A market's customers over months are the company's, tilted by exp(slope x years); given the market's total.

    Multinomial, with variance ``spread`` times as large (quasi-likelihood).
    """
    u, shape, n = _years(y.shape[1]), np.log(np.maximum(y.sum(0), 1e-9)), y.sum(1)
    seen = y @ u

    def at(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        log = shape + np.clip(theta, -5, 5) * u
        p = np.exp(log - log.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        mean = p @ u
        variance = p @ u**2 - mean**2
        return ((seen - n * mean) / spread)[:, None], (n * variance / spread)[:, None, None]

    return at


def _active_slopes(y: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Slopes against the company (log, a year), their standard deviations, p-value of no difference."""
    expected = y.sum(1, keepdims=True) * y.sum(0) / y.sum()
    spread = _wandering(y / np.maximum(expected, 1e-9), y.mean(axis=1))
    likelihood = _tilt(y, spread)
    gradient, curvature = likelihood(np.zeros((len(y), 1)))
    score = (gradient[:, 0] ** 2 / np.maximum(curvature[:, 0, 0], 1e-12)).sum()
    slope, sd = pooled_groups(likelihood, len(y))
    return slope, sd, float(chi2.sf(score, len(y) - 1))


def _spend_slopes(money: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slopes of revenue per active customer against the company's (log, a year), standard deviations."""
    u, some = _years(y.shape[1]), (y > 0) & (money > 0)
    if not some.any():
        return np.zeros(len(y)), np.zeros(len(y))
    company = np.maximum(np.where(some, money, 0.0).sum(0), 1e-9) / np.maximum(np.where(some, y, 0.0).sum(0), 1e-9)
    ratio = np.where(some, np.log(np.where(some, money / np.maximum(y, 1e-9), 1.0) / company), 0.0)
    weight = np.where(some, y, 0.0)
    total = np.maximum(weight.sum(1), 1e-9)
    ratio = np.where(some, ratio - ((weight * ratio).sum(1) / total)[:, None], 0.0)
    spread = _wandering(1 + ratio, np.where(some.all(axis=1), y.mean(axis=1), 0.0))
    about = u - ((weight @ u) / total)[:, None]
    size = (weight * about**2).sum(1)
    own = (weight * about * ratio).sum(1) / np.maximum(size, 1e-9)
    return pooled_groups(normal(own, size / spread), len(y))


def _wandering(relative: np.ndarray, size: np.ndarray) -> float:
    """Variance of a slope's numerator, in units of what separate Poisson counts would give.

    The squared change over k months of ``relative`` (a market's series over what is expected of it), times the
    market's ``size``, is 2 r + k q plus k^2 times the spread of true slopes: r is noise of single months, q the steps
    of a random walk (customers who stay or go for good). Weighted non-negative least squares over markets and k.
    """
    use = size >= 3
    if use.sum() < FEWEST_MARKETS:
        return 2.0
    e, a = relative[use], size[use]
    months = e.shape[1]
    rows, target, weight = [], [], []
    for k in range(1, min(12, months - 1) + 1):
        moved = a * ((e[:, k:] - e[:, :-k]) ** 2).mean(axis=1)
        typical = max(float(np.median(moved)), 1e-9)
        rows.append(np.stack([np.full(len(a), 2.0), np.full(len(a), float(k)), a * k**2 / 144.0], axis=1))
        target.append(np.minimum(moved, 20 * typical))
        weight.append(np.full(len(a), np.sqrt((months - k) / k) / typical))
    w = np.concatenate(weight)
    (r, q, _), _ = nnls(np.concatenate(rows) * w[:, None], np.concatenate(target) * w)
    u, t = _years(months), np.arange(1, months + 1)
    walk = float(u @ np.minimum(t[:, None], t) @ u / (u @ u))
    return max(float(r + q * walk), _LOWEST_SPREAD)
