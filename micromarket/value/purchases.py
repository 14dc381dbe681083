"""Purchases without a contract: BG/NBD by segment, effects by market, expected purchases of every cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import digamma, polygamma

from micromarket.value.bgnbd import BetaGeoNBD, p_alive, time_terms
from micromarket.value.model import Cells
from micromarket.value.pooling import CellLikelihood
from micromarket.value.residual_table import ResidualTable
from micromarket.value.sbg import discount_factors
from micromarket.value.signal import Component, analysis_of_variance
from micromarket.value.summaries import DAYS_PER_MONTH

#: A segment with fewer customers, or fewer repeat buyers, shares the fit of all segments.
FEWEST_CUSTOMERS, FEWEST_REPEATERS = 200, 30


@dataclass(frozen=True)
class Histories:
    """Compressed histories with their cell and segment: arrays over distinct (cell, x, t_x, T), times in days."""

    cell: np.ndarray
    segment: np.ndarray
    x: np.ndarray
    t_x: np.ndarray
    T: np.ndarray
    customers: np.ndarray
    amount: np.ndarray

    @classmethod
    def of(cls, counts: pd.DataFrame, cells: Cells) -> tuple[Histories, pd.DataFrame]:
        """From :func:`~micromarket.value.summaries.count_purchases`; also the rows of ``counts`` that were used."""
        cell = cells.locate(counts)
        counts = counts[cell >= 0]
        cell = cell[cell >= 0]
        x, t_x, T, n, amount = (
            counts[c].to_numpy(float, na_value=np.nan) for c in ("x", "t_x", "T", "customers", "amount")
        )
        return cls(cell, cells.segment[cell], x, t_x, T, n, amount), counts


def fit_segments(histories: Histories, segments: int) -> list[BetaGeoNBD]:
    """BG/NBD of each segment over all its markets; thin segments share the fit of everyone."""
    everyone: BetaGeoNBD | None = None
    fits = []
    for s in range(segments):
        rows = histories.segment == s
        n = histories.customers[rows]
        thin = n.sum() < FEWEST_CUSTOMERS or n[histories.x[rows] > 0].sum() < FEWEST_REPEATERS
        if (thin or segments == 1) and everyone is None:
            everyone = BetaGeoNBD(prior_sd=2.0).fit(histories.x, histories.t_x, histories.T, histories.customers)
        if thin or segments == 1:
            assert everyone is not None
            fits.append(everyone)
        else:
            fits.append(BetaGeoNBD(prior_sd=2.0).fit(histories.x[rows], histories.t_x[rows], histories.T[rows], n))
    return fits


class PurchaseCells:
    """All cells under effects theta on their segment's fit: log purchase rate, logit of the mean dropout probability.

    A rate effect u makes alpha into alpha exp(-u); a dropout effect v moves logit(a / (a + b)) at constant a + b.
    """

    def __init__(self, cells: Cells, histories: Histories, fits: list[BetaGeoNBD], discount_rate: float, horizon: int):
        self.cells, self.histories, self.fits = cells, histories, fits
        self._r = np.array([f.r_ for f in fits])
        self._alpha = np.array([f.alpha_ for f in fits])
        self._kappa = np.array([f.a_ + f.b_ for f in fits])
        self._logit = np.log([f.a_ / f.b_ for f in fits])
        self.months = np.arange(max(horizon, 13) + 1)
        self._mid = np.where(self.months[:-1] < horizon, discount_factors(self.months[:-1] + 0.5, discount_rate), 0.0)
        self.month_days = DAYS_PER_MONTH
        many = histories.x > 0
        self._many = many
        pairs, index = np.unique(np.stack([histories.cell[many], histories.x[many]]), axis=1, return_inverse=True)
        self._pair_cell, self._pair_x = pairs[0].astype(int), pairs[1]
        self._pair_n = np.bincount(index.reshape(-1), weights=histories.customers[many], minlength=pairs.shape[1])

    def parameters(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """r, alpha, a, b of each cell."""
        s = self.cells.segment
        share = 1 / (1 + np.exp(-(self._logit[s] + theta[:, 1])))
        return self._r[s], self._alpha[s] * np.exp(-theta[:, 0]), self._kappa[s] * share, self._kappa[s] * (1 - share)

    def likelihood(self) -> CellLikelihood:
        h, many = self.histories, self._many
        cell1, cell0 = h.cell[many], h.cell[~many]
        x, t_x, T, n1 = h.x[many], h.t_x[many], h.T[many], h.customers[many]
        T0, n0 = h.T[~many], h.customers[~many]
        total = self.cells.total

        def at(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            r, alpha, a, b = self.parameters(theta)
            _, g, hess = time_terms(r[cell1], alpha[cell1], a[cell1], b[cell1], x, t_x, T)
            n = total(h.cell, h.customers)
            once = 1 / (alpha[cell0] + T0)
            g_alpha = n * r / alpha - total(cell0, n0 * once) * r + total(cell1, n1 * g[1])
            h_alpha = -n * r / alpha**2 + total(cell0, n0 * once**2) * r + total(cell1, n1 * hess[1, 1])
            pb = b[self._pair_cell]
            up = total(self._pair_cell, self._pair_n * (digamma(pb + self._pair_x) - digamma(pb)))
            up2 = total(self._pair_cell, self._pair_n * (polygamma(1, pb + self._pair_x) - polygamma(1, pb)))
            g_drop = total(cell1, n1 * (g[2] - g[3])) - up
            h_drop = total(cell1, n1 * (hess[2, 2] - 2 * hess[2, 3] + hess[3, 3])) + up2
            h_cross = total(cell1, n1 * (hess[1, 2] - hess[1, 3]))
            share = a / (a + b)
            slope = (a + b) * share * (1 - share)
            gradient = np.stack([-alpha * g_alpha, slope * g_drop], axis=1)
            curvature = np.empty((len(theta), 2, 2))
            curvature[:, 0, 0] = -(alpha**2 * h_alpha + alpha * g_alpha)
            curvature[:, 0, 1] = curvature[:, 1, 0] = alpha * slope * h_cross
            curvature[:, 1, 1] = -(slope**2 * h_drop + slope * (1 - 2 * share) * g_drop)
            return gradient, curvature

        return at

    def signal(self) -> Component:
        """Do markets differ in repeat purchases per customer, given segment and time since the first purchase?"""
        h = self.histories
        total, square, count = (np.zeros(len(self.cells)) for _ in range(3))
        for s, fit in enumerate(self.fits):
            rows = np.flatnonzero(h.segment == s)
            if not len(rows):
                continue
            times, index = np.unique(h.T[rows], return_inverse=True)
            expected = np.maximum(fit.expected_purchases(times), 1e-9)[index]
            residual = (h.x[rows] - expected) / np.sqrt(expected + expected**2 / fit.r_)
            n = h.customers[rows]
            residual = residual - (n @ residual) / n.sum()
            for out, value in ((count, n), (total, n * residual), (square, n * residual**2)):
                out += self.cells.total(h.cell[rows], value)
        m = self.cells.market
        return analysis_of_variance("repeat purchases", *(np.bincount(m, weights=v) for v in (count, total, square)))

    def calibration(self, horizon_days: float) -> np.ndarray:
        """Observed over expected repeat purchases since the first one, by segment.

        1 where the model is right. Where it isn't (customers who stop for other reasons than a bad purchase, say) this
        is the factor that makes a new customer's purchases what they have been; customers much older than the horizon
        don't count.
        """
        h, factors = self.histories, np.ones(len(self.fits))
        for s, fit in enumerate(self.fits):
            age = h.T
            rows = (h.segment == s) & (age > 0)
            longest = max(1.25 * horizon_days, age[rows].min() if rows.any() else 0.0)
            rows &= age <= longest
            n, x = h.customers[rows], h.x[rows]
            if n.sum() < FEWEST_CUSTOMERS or n[x > 0].sum() < FEWEST_REPEATERS:
                continue
            times, index = np.unique(h.T[rows], return_inverse=True)
            expected = np.bincount(index, weights=n) @ fit.expected_purchases(times)
            factors[s] = np.clip((n @ x) / max(expected, 1e-9), 0.5, 2.0)
        return factors

    def tables(self, theta: np.ndarray, step: float) -> list[ResidualTable]:
        """Per segment: outputs 0, 1 discounted purchases and months alive in the horizon; 2, 3, 4 purchases in the
        first month, the first year, the 13th month; then cumulative discounted purchases and months alive by month."""
        h, tables = self.histories, []
        days = self.months * self.month_days

        def outputs(purchases: np.ndarray, alive: np.ndarray) -> np.ndarray:
            bought = np.cumsum(np.diff(purchases, axis=1) * self._mid, axis=1)
            there = np.cumsum((alive[:, :-1] + alive[:, 1:]) / 2 * self._mid, axis=1)
            first = [
                bought[:, -1],
                there[:, -1],
                purchases[:, 1],
                purchases[:, 12],
                purchases[:, 13] - purchases[:, 12],
            ]
            return np.concatenate([np.stack(first, axis=1), bought, there], axis=1)

        for s, fit in enumerate(self.fits):
            own = theta[self.cells.segment == s]
            rows = h.segment == s
            longest = h.T[rows].max() if rows.any() else 0.0
            reach = np.abs(own).max(axis=0) + step if len(own) else np.full(2, step)
            scale = (np.log(fit.alpha_) - reach[0], np.log(fit.alpha_ * np.exp(reach[0]) + longest))
            logit = (self._logit[s] - reach[1], self._logit[s] + reach[1])
            levels = np.concatenate([[0.0], h.x[rows]])
            tables.append(ResidualTable(fit.r_, self._kappa[s], levels, scale, logit, days, outputs))
        return tables

    def new(self, tables: list[ResidualTable], theta: np.ndarray, outputs: slice) -> np.ndarray:
        """Outputs for a customer of each cell right after the first purchase, (cells, q)."""
        s = self.cells.segment
        parts = [np.flatnonzero(s == j) for j in range(len(tables))]
        got = [
            tables[j](
                np.zeros(len(c)), np.log(self._alpha[j]) - theta[c, 0], self._logit[j] + theta[c, 1], outputs
            )
            for j, c in enumerate(parts)
        ]  # fmt: skip
        result = np.empty((len(s), max(g.shape[1] for g in got)))
        for c, g in zip(parts, got, strict=True):
            result[c] = g
        return result

    def current(
        self,
        tables: list[ResidualTable],
        theta: np.ndarray,
        outputs: slice,
        weights: tuple[np.ndarray, ...],
        power: int = 1,
    ) -> np.ndarray:
        """Sums over each cell's customers of (p_alive x output)^power x weight, (cells, q): a weight per output."""
        h = self.histories
        r, alpha, a, b = self.parameters(theta)
        c = h.cell
        there = p_alive(r[c], alpha[c], a[c], b[c], h.x, h.t_x, h.T)
        values = np.zeros((len(c), len(weights)))
        for j, table in enumerate(tables):
            rows = np.flatnonzero(h.segment == j)
            if len(rows):
                scale = np.log(alpha[c[rows]] + h.T[rows])
                values[rows] = table(h.x[rows], scale, self._logit[j] + theta[c[rows], 1], outputs)
        sums = [self.cells.total(c, (there * values[:, q]) ** power * w) for q, w in enumerate(weights)]
        return np.stack(sums, axis=1)
