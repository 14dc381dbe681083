"""Pareto/NBD in every market at once."""

from __future__ import annotations

from copy import copy

import numpy as np
from scipy.stats import gamma as gamma_distribution

from micromarket.value.model import Cells
from micromarket.value.paretonbd import p_alive, residual_paths, time_terms
from micromarket.value.pooling import CellLikelihood
from micromarket.value.purchase_cells import BOUGHT, MONTH_1, MONTH_13, PATH, YEAR_1, PurchaseCells
from micromarket.value.purchases import Histories, PurchaseModel, within_markets
from micromarket.value.residual_table import _chebyshev, _lagrange

_POINTS = 24
_NODES = (np.arange(48) + 0.5) / 48


class LifetimeCells(PurchaseCells):
    """Customers leave at any time. A rate effect u makes alpha into alpha exp(-u); a leaving effect v makes beta into
    beta exp(-v)."""

    def __init__(
        self, cells: Cells, histories: Histories, fits: list[PurchaseModel], discount_rate: float, horizon: int
    ):
        super().__init__(cells, histories, fits, discount_rate, horizon)
        found = [f.parameters() for f in fits]
        self._r, self._alpha, self._s, self._beta = (
            np.array([f[name] for f in found]) for name in ("r", "alpha", "s", "beta")
        )
        self._tables: list[tuple[np.ndarray, np.ndarray]] = []

    def sharpen(self, variance: np.ndarray) -> LifetimeCells:
        sharper = copy(self)
        sharper._r = np.array([within_markets(r, variance[0]) for r in self._r])
        sharper._alpha = self._alpha * sharper._r / self._r
        sharper._s = np.array([within_markets(s, variance[1]) for s in self._s])
        sharper._beta = self._beta * sharper._s / self._s
        sharper._tables = []
        return sharper

    def parameters(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """r, alpha, s, beta of each cell."""
        s = self.cells.segment
        return self._r[s], self._alpha[s] * np.exp(-theta[:, 0]), self._s[s], self._beta[s] * np.exp(-theta[:, 1])

    def likelihood(self) -> CellLikelihood:
        h, total = self.histories, self.cells.total
        n, c = h.customers, h.cell
        people = total(c, n)

        def at(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            r, alpha, s, beta = self.parameters(theta)
            _, g, hess = time_terms(r[c], alpha[c], s[c], beta[c], h.x, h.t_x, h.T)
            g_alpha, g_beta = people * r / alpha + total(c, n * g[1]), total(c, n * g[3])
            h_alpha = -people * r / alpha**2 + total(c, n * hess[1, 1])
            gradient = np.stack([-alpha * g_alpha, -beta * g_beta], axis=1)
            curvature = np.empty((len(theta), 2, 2))
            curvature[:, 0, 0] = -(alpha**2 * h_alpha + alpha * g_alpha)
            curvature[:, 0, 1] = curvature[:, 1, 0] = -alpha * beta * total(c, n * hess[1, 3])
            curvature[:, 1, 1] = -(beta**2 * total(c, n * hess[3, 3]) + beta * g_beta)
            return gradient, curvature

        return at

    def prepare(self, theta: np.ndarray, step: float) -> None:
        """What a customer with rate 1 a day buys depends on log(beta + T) only."""
        h, self._tables = self.histories, []
        days = self.months * self.month_days
        for j in range(len(self.fits)):
            own = theta[self.cells.segment == j, 1]
            rows = h.segment == j
            longest = h.T[rows].max() if rows.any() else 0.0
            reach = np.abs(own).max() + step if len(own) else step
            nodes = _chebyshev(
                np.log(self._beta[j]) - reach, np.log(self._beta[j] * np.exp(reach) + longest), _POINTS
            )  # fmt: skip
            one = np.ones(len(nodes))
            purchases, alive = residual_paths(one, one, np.full(len(nodes), self._s[j]), np.exp(nodes), days)
            spread = _second_moment(self._s[j], np.exp(nodes), days[self.horizon]) / purchases[:, self.horizon] ** 2
            values = np.concatenate([self.outputs(purchases, alive), spread[:, None]], axis=1)
            self._tables.append((nodes, np.log(np.maximum(values, 1e-300))))

    def _look_up(self, j: int, log_beta: np.ndarray, rate: np.ndarray, outputs: slice) -> np.ndarray:
        nodes, values = self._tables[j]
        got = np.exp(_lagrange(nodes, log_beta) @ values[:, outputs])
        which = np.arange(values.shape[1])[outputs]
        of_purchases = np.isin(which, [BOUGHT, MONTH_1, YEAR_1, MONTH_13])
        of_purchases |= (which >= PATH) & (which < PATH + len(self.months) - 1)
        got[:, of_purchases] *= rate[:, None]
        return got

    def new(self, theta: np.ndarray) -> np.ndarray:
        r, alpha, _, beta = self.parameters(theta)
        size = self._tables[0][1].shape[1] - 1
        result = np.empty((len(theta), size))
        for j in range(len(self._tables)):
            c = np.flatnonzero(self.cells.segment == j)
            result[c] = self._look_up(j, np.log(beta[c]), r[c] / alpha[c], slice(0, size))
        return result

    def alive(self, theta: np.ndarray) -> np.ndarray:
        h, c = self.histories, self.histories.cell
        r, alpha, s, beta = self.parameters(theta)
        return p_alive(r[c], alpha[c], s[c], beta[c], h.x, h.t_x, h.T)

    def residual(self, theta: np.ndarray, outputs: slice) -> np.ndarray:
        h, c = self.histories, self.histories.cell
        r, alpha, _, beta = self.parameters(theta)
        size = self._tables[0][1].shape[1]
        result = np.empty((len(c), len(range(*outputs.indices(size)))))
        for j in range(len(self._tables)):
            rows = np.flatnonzero(h.segment == j)
            k = c[rows]
            rate = (r[k] + h.x[rows]) / (alpha[k] + h.T[rows])
            result[rows] = self._look_up(j, np.log(beta[k] + h.T[rows]), rate, outputs)
        return result

    def residual_variation(self, theta: np.ndarray) -> np.ndarray:
        h, c = self.histories, self.histories.cell
        r = self.parameters(theta)[0][c]
        lifetime = self.residual(theta, slice(-1, None))[:, 0]
        return np.maximum(lifetime * (1 + 1 / (r + h.x)) - 1, 0.0)


def _second_moment(s: float, beta: np.ndarray, t: float) -> np.ndarray:
    """Mean over customers of the square of (1 - exp(-mu t)) / mu, the time that one leaving at rate mu stays; (n,)."""
    mu = gamma_distribution.ppf(_NODES, s)[None, :] / beta[:, None]
    stay = -np.expm1(-mu * t) / np.maximum(mu, 1e-12 / t)
    return (stay**2).mean(axis=1)
