"""Money per purchase, per month or per customer, and margin per unit of it: level by segment, effect by market."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from micromarket.value.model import Cells
from micromarket.value.models.gamma_gamma import GammaGamma
from micromarket.value.pooling import CellLikelihood, Posterior, gamma, normal, poisson
from micromarket.value.prior_mean import Surroundings, fit_effects
from micromarket.value.purchases import FEWEST_CUSTOMERS, Histories
from micromarket.value.signal import Component, analysis_of_variance


def segment_ratio(cells: Cells, above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Sum of ``above`` over sum of ``below`` by segment; the company's ratio where a segment has nothing below."""
    top, bottom = cells.by_segment(above), cells.by_segment(below)
    company = top.sum() / bottom.sum() if bottom.sum() > 0 else 0.0
    return np.where(bottom > 0, top / np.maximum(bottom, 1e-300), company)


def money_effects(
    cells: Cells, amount: np.ndarray, units: np.ndarray, variance: np.ndarray, about: Surroundings, fixed: bool
) -> tuple[Posterior, np.ndarray, bool]:
    """Effects on log money per unit. ``amount``, ``units``: sums by cell; ``variance``: of ``amount``, by cell.

    Returns
    -------
    posterior, level (money per unit in each cell's segment), features_used
    """
    level = np.maximum(segment_ratio(cells, amount, units), 0.0)[cells.segment]
    expected = level * units
    safe = np.maximum(expected, 1e-100)
    size = np.where(expected > 0, safe**2 / np.maximum(variance, 1e-6 * safe**2), 0.0)
    ratio = np.where(expected > 0, amount / safe, 1.0)
    effects, used = fit_effects(_net(ratio, size), cells, about, fixed=fixed)
    return effects.posterior_, level, used


_LOWEST_RATIO = 0.25  # of a cell's money to its segment's, that a gamma mean still describes
_NOTHING = 0.02  # the ratio that stands for nothing or less: effects are on the log scale


def _net(ratio: np.ndarray, size: np.ndarray) -> CellLikelihood:
    """Gamma means; where refunds leave a cell with next to nothing or less, a variance in proportion to the mean.

    No gamma mean is near 0 or below by chance, so one large refund would be certain proof of a worthless market. With
    a variance that falls with the mean only (quasi-Poisson, McCullagh & Nelder 1989, ch. 9) it is weak evidence of a
    poor one, and the market stays near its peers.
    """
    low = ratio < _LOWEST_RATIO
    if not low.any():
        return gamma(ratio, size)
    plain = gamma(np.where(low, 1.0, ratio), size)
    poor = poisson(size * np.maximum(ratio, _NOTHING), size)

    def at(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        (g, h), (g_low, h_low) = plain(theta), poor(theta)
        return np.where(low[:, None], g_low, g), np.where(low[:, None, None], h_low, h)

    return at


def basket_variance(histories: Histories, counts: pd.DataFrame, cells: Cells) -> np.ndarray:
    """Variance of each cell's total amount given its purchases: a n + b n^2 per customer of n purchases, by segment.

    The first part is spread between baskets of one customer, the second between customers (Gamma-Gamma has both).
    """
    n = histories.x + 1
    result = np.zeros(len(cells))
    for s in range(len(cells.segments)):
        rows = histories.segment == s
        if not rows.any():
            continue
        size, w, amount = n[rows], histories.customers[rows], histories.amount[rows]
        level = amount.sum() / (w @ size)
        squares = counts["amount2"].to_numpy(float)[rows] - 2 * level * size * amount + level**2 * size**2 * w
        # least squares of squares / n on a + b n, weighted by customers over n^2 so that heavy buyers don't rule
        weight = w / size**2
        A = np.array(
            [[weight.sum(), (weight * size).sum()], [(weight * size).sum(), (weight * size**2).sum()]]
        )  # fmt: skip
        y = squares / size / np.maximum(w, 1e-300)
        both = np.array([(weight * y).sum(), (weight * size * y).sum()])
        a, b = np.linalg.lstsq(A, both, rcond=None)[0]
        if a < 0 or b < 0:
            a, b = (0.0, both[1] / A[1, 1]) if a < 0 else (both[0] / A[0, 0], 0.0)
        result += cells.total(histories.cell[rows], w * (max(a, 0) * size + max(b, 0) * size**2))
    return result


@dataclass(frozen=True)
class SpendByFrequency:
    """How spend per purchase goes with the number of purchases, by segment; all ratios to the segment's amount per
    purchase. ``slope``: of log mean spend per log purchase; ``first``, ``repeat``: a new customer's first purchase,
    and later ones (busy customers make more of them); ``level``: at one purchase."""

    slope: np.ndarray
    level: np.ndarray
    first: np.ndarray
    repeat: np.ndarray

    def of_next(self, x: np.ndarray, r: np.ndarray, segment: np.ndarray) -> np.ndarray:
        """Expected spend per purchase to come of customers with ``x`` repeat purchases, over the segment's amount per
        purchase; ``r``: gamma shape of purchase rates.

        Among customers of one history the busier ones make the purchases to come: with spend going as rate^g and rate ~
        Gamma(r + x), E[rate^(1 + g)] / (E[rate] E[rate^g]) = (r + x + g) / (r + x).
        """
        g = self.slope[segment]
        busier = np.clip(1 + g / (r + x), 0.3, 3.0)
        return self.level[segment] * (x + 1.0) ** g * busier


def spend_by_frequency(histories: Histories, segments: int) -> SpendByFrequency:
    """Gamma-Gamma takes spend and frequency for independent; where they aren't, the heaviest buyers tell.

    Weighted least squares of the log mean spend of customers with n purchases on log n; a slope that its standard
    error doesn't tell from 0 stays 0.
    """
    out = [np.zeros(segments), np.ones(segments), np.ones(segments), np.ones(segments)]
    for s in range(segments):
        rows = (histories.segment == s) & (histories.customers > 0)
        n, w, amount = histories.x[rows] + 1, histories.customers[rows], histories.amount[rows]
        level = amount.sum() / max(float(w @ n), 1.0)
        if level <= 0:
            continue
        first, repeats = (amount / n).sum() / max(w.sum(), 1e-9), (amount / n * (n - 1)).sum()
        out[2][s] = first / level
        if w @ (n - 1) > 0 and repeats > 0:
            out[3][s] = repeats / float(w @ (n - 1)) / level
        times, index = np.unique(n, return_inverse=True)
        people, money = np.bincount(index, weights=w), np.bincount(index, weights=amount / n)
        use = (people >= 30) & (money > 0)
        if use.sum() < 3:
            continue
        x, y, weight = np.log(times[use]), np.log(money[use] / people[use] / level), people[use]
        x0, y0 = np.average(x, weights=weight), np.average(y, weights=weight)
        sxx = weight @ (x - x0) ** 2
        slope = weight @ ((x - x0) * (y - y0)) / sxx
        error = weight @ (y - y0 - slope * (x - x0)) ** 2 / (use.sum() - 2) / sxx
        if abs(slope) > 3 * np.sqrt(error):
            out[0][s], out[1][s] = np.clip(slope, -0.8, 0.8), np.exp(y0 - slope * x0)
    return SpendByFrequency(*out)


def population_weights(spend: pd.DataFrame, cells: Cells, histories: Histories) -> tuple[np.ndarray, list[GammaGamma]]:
    """How far each history's expected basket leans on its cell's mean (Gamma-Gamma, by segment)."""
    n = histories.x + 1
    weight, models, everyone = np.ones(len(n)), [], None
    for s, segment in enumerate(cells.segments):
        own = spend[spend["segment"] == segment]
        if own["customers"].sum() < FEWEST_CUSTOMERS:
            if everyone is None and len(spend):
                everyone = _baskets(spend)
            model = everyone
        else:
            model = _baskets(own)
        if model is not None:
            rows = histories.segment == s
            weight[rows] = model.population_weight(n[rows])
            models.append(model)
    return weight, models


def _baskets(spend: pd.DataFrame) -> GammaGamma:
    return GammaGamma(prior_sd=2.0).fit(*(spend[c].to_numpy(float) for c in ("n", "mean_spend", "customers")))


def margin_ratio(
    cells: Cells, sums: dict[str, np.ndarray], about: Surroundings, fixed: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Margin per unit of revenue by cell, shrunk to its segment's, and its standard error.

    ``sums`` by cell: amount, margin, amount2, margin2, amount_margin, customers (sums of customers' totals, squares).
    """
    level = segment_ratio(cells, sums["margin"], sums["amount"])
    s = cells.segment
    squares = sums["margin2"] - 2 * level[s] * sums["amount_margin"] + level[s] ** 2 * sums["amount2"]
    spread = cells.by_segment(np.maximum(squares, 0)) / np.maximum(cells.by_segment(sums["amount2"]), 1e-300)
    variance = spread[s] * sums["amount2"] / np.maximum(sums["amount"], 1e-100) ** 2
    if (spread < 1e-10).all():  # one rate for everything
        return level[s], np.zeros(len(cells))
    known = (sums["amount"] > 0) & (variance > 0)
    precision = np.where(known, 1 / np.maximum(variance, 1e-8), 0.0)
    own = sums["margin"] / np.where(known, sums["amount"], 1.0) - level[s]
    posterior = fit_effects(normal(own, precision), cells, about, fixed=fixed)[0].posterior_
    return level[s] + posterior.mean[:, 0], np.sqrt(posterior.covariance[:, 0, 0])


def money_signal(name: str, moments: pd.DataFrame, cells: Cells) -> Component:
    """Analysis of variance of customers' log money between markets, segments taken out."""
    cell = cells.locate(moments)
    moments, cell = moments[cell >= 0], cell[cell >= 0]
    n, total, square = (cells.total(cell, moments[c].to_numpy(float)) for c in ("n", "total", "square"))
    mean = segment_ratio(cells, total, n)[cells.segment]
    square = square - 2 * mean * total + mean**2 * n
    total = total - mean * n
    return analysis_of_variance(name, *(np.bincount(cells.market, weights=v) for v in (n, total, square)))
