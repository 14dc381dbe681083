"""BG/NBD and MBG/NBD in every market at once."""

from __future__ import annotations

from copy import copy
from functools import partial
from typing import ClassVar

import numpy as np
from scipy.special import digamma

from micromarket.value.model import Cells
from micromarket.value.models import bgnbd, mbgnbd
from micromarket.value.models.gamma_functions import trigamma
from micromarket.value.pooling import CellLikelihood
from micromarket.value.purchase_cells import PurchaseCells
from micromarket.value.purchases import Histories, PurchaseModel, concentration_within_markets, within_markets
from micromarket.value.residual_table import ResidualTable


class DropoutCells(PurchaseCells):
    """Customers leave after a purchase. A rate effect u makes alpha into alpha exp(-u); a dropout effect v moves
    logit(a / (a + b)) at constant a + b."""

    #: 1 where the first purchase, too, may be the last: b becomes b + 1 in all that follows it.
    first: ClassVar[int] = 0

    def __init__(
        self, cells: Cells, histories: Histories, fits: list[PurchaseModel], discount_rate: float, horizon: int
    ):
        super().__init__(cells, histories, fits, discount_rate, horizon)
        found = [f.parameters() for f in fits]
        self._r = np.array([f["r"] for f in found])
        self._alpha = np.array([f["alpha"] for f in found])
        self._kappa = np.array([f["a"] + f["b"] for f in found])
        self._logit = np.log([f["a"] / f["b"] for f in found])
        many = histories.x + self.first > 0  # who has had the occasion to leave
        self._many = many
        pairs, index = np.unique(np.stack([histories.cell[many], histories.x[many]]), axis=1, return_inverse=True)
        self._pair_cell, self._pair_x = pairs[0].astype(int), pairs[1]
        self._pair_n = np.bincount(index.reshape(-1), weights=histories.customers[many], minlength=pairs.shape[1])
        self._tables: list[ResidualTable] = []

    def sharpen(self, variance: np.ndarray) -> DropoutCells:
        sharper = copy(self)
        share = 1 / (1 + np.exp(-self._logit))
        sharper._r = np.array([within_markets(r, variance[0]) for r in self._r])
        sharper._alpha = self._alpha * sharper._r / self._r
        sharper._kappa = np.array(
            [concentration_within_markets(k, p, variance[1]) for k, p in zip(self._kappa, share, strict=True)]
        )
        sharper._tables = []
        return sharper

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
            _, g, hess = bgnbd.time_terms(r[cell1], alpha[cell1], a[cell1], b[cell1] + self.first, x, t_x, T)
            n = total(h.cell, h.customers)
            once = 1 / (alpha[cell0] + T0)
            g_alpha = n * r / alpha - total(cell0, n0 * once) * r + total(cell1, n1 * g[1])
            h_alpha = -n * r / alpha**2 + total(cell0, n0 * once**2) * r + total(cell1, n1 * hess[1, 1])
            pb = b[self._pair_cell]
            stayed = pb + self._pair_x + self.first
            up = total(self._pair_cell, self._pair_n * (digamma(stayed) - digamma(pb)))
            up2 = total(self._pair_cell, self._pair_n * (trigamma(stayed) - trigamma(pb)))
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

    def prepare(self, theta: np.ndarray, step: float) -> None:
        h, self._tables = self.histories, []
        days = self.months * self.month_days
        for s in range(len(self.fits)):
            own = theta[self.cells.segment == s]
            rows = h.segment == s
            longest = h.T[rows].max() if rows.any() else 0.0
            reach = np.abs(own).max(axis=0) + step if len(own) else np.full(2, step)
            scale = (np.log(self._alpha[s]) - reach[0], np.log(self._alpha[s] * np.exp(reach[0]) + longest))
            logit = (self._logit[s] - reach[1], self._logit[s] + reach[1])
            levels = np.concatenate([[0.0], h.x[rows]])
            make = partial(self.outputs, s)
            table = ResidualTable(
                self._r[s], self._kappa[s], levels, scale, logit, days, make, self.horizon, first=self.first
            )
            self._tables.append(table)

    def new(self, theta: np.ndarray) -> np.ndarray:
        s = self.cells.segment
        result: np.ndarray | None = None
        for j, table in enumerate(self._tables):
            c = np.flatnonzero(s == j)
            got = table(np.zeros(len(c)), np.log(self._alpha[j]) - theta[c, 0], self._logit[j] + theta[c, 1], _ALL)
            if result is None:
                result = np.empty((len(s), got.shape[1]))
            result[c] = got
        assert result is not None
        if self.first:  # the tables are of who is still there
            _, _, a, b = self.parameters(theta)
            result *= (b / (a + b))[:, None]
        return result

    def alive(self, theta: np.ndarray) -> np.ndarray:
        h = self.histories
        r, alpha, a, b = self.parameters(theta)
        c, p_alive = h.cell, mbgnbd.p_alive if self.first else bgnbd.p_alive
        return p_alive(r[c], alpha[c], a[c], b[c], h.x, h.t_x, h.T)

    def residual(self, theta: np.ndarray, outputs: slice) -> np.ndarray:
        return self._look_up(theta, outputs)

    def residual_variation(self, theta: np.ndarray) -> np.ndarray:
        return np.maximum(self._look_up(theta, _SPREAD)[:, 0] - 1, 0.0)

    def _look_up(self, theta: np.ndarray, outputs: slice) -> np.ndarray:
        h, c = self.histories, self.histories.cell
        _, alpha, _, _ = self.parameters(theta)
        values: np.ndarray | None = None
        for j, table in enumerate(self._tables):
            rows = np.flatnonzero(h.segment == j)
            scale = np.log(alpha[c[rows]] + h.T[rows])
            got = table(h.x[rows], scale, self._logit[j] + theta[c[rows], 1], outputs)
            if values is None:
                values = np.empty((len(c), got.shape[1]))
            values[rows] = got
        assert values is not None
        return values


class FirstDropoutCells(DropoutCells):
    """Customers leave after a purchase, be it the first (MBG/NBD)."""

    first: ClassVar[int] = 1


_ALL, _SPREAD = slice(0, -1), slice(-1, None)  # the table's last output is the spread
