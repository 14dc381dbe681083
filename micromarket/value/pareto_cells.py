"""Pareto/NBD, and its sibling with Weibull lifetimes, in every market at once."""

from __future__ import annotations

from copy import copy

import numpy as np
from scipy.stats import gamma as gamma_distribution

from micromarket.value.model import Cells
from micromarket.value.models import weibull_terms as terms
from micromarket.value.pooling import CellLikelihood
from micromarket.value.purchase_cells import BOUGHT, MONTH_1, MONTH_13, PATH, YEAR_1, PurchaseCells
from micromarket.value.purchases import Histories, PurchaseModel, within_markets
from micromarket.value.residual_table import _chebyshev, _lagrange

_SCALES, _AGES, _STEPS = 8, 20, 3
_RISKS = (np.arange(48) + 0.5) / 48


class LifetimeCells(PurchaseCells):
    """Customers leave at any time. A rate effect u makes alpha into alpha exp(-u); a leaving effect v makes beta into
    beta exp(-v): lifetimes are shorter by that factor."""

    def __init__(
        self, cells: Cells, histories: Histories, fits: list[PurchaseModel], discount_rate: float, horizon: int
    ):
        super().__init__(cells, histories, fits, discount_rate, horizon)
        found = [{"c": 1.0, **f.parameters()} for f in fits]
        self._r, self._alpha, self._s, self._beta, self._c = (
            np.array([f[name] for f in found]) for name in ("r", "alpha", "s", "beta", "c")
        )
        self._tables: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._known: tuple[np.ndarray, np.ndarray] | None = None  # the last P(alive), often asked for again

    def sharpen(self, variance: np.ndarray) -> LifetimeCells:
        sharper = copy(self)
        sharper._r = np.array([within_markets(r, variance[0]) for r in self._r])
        sharper._alpha = self._alpha * sharper._r / self._r
        # the risk mu of a lifetime is beta^-c: its log spreads c times as much between markets
        pairs = zip(self._s, self._c, strict=True)
        sharper._s = np.array([within_markets(s, c**2 * variance[1]) for s, c in pairs])
        sharper._beta = self._beta * (sharper._s / self._s) ** (1 / self._c)
        sharper._tables, sharper._known = [], None
        return sharper

    def parameters(self, theta: np.ndarray) -> tuple[np.ndarray, ...]:
        """r, alpha, s, beta, c of each cell."""
        s = self.cells.segment
        return (
            self._r[s], self._alpha[s] * np.exp(-theta[:, 0]), self._s[s], self._beta[s] * np.exp(-theta[:, 1]),
            self._c[s],
        )  # fmt: skip

    def _rows(self, theta: np.ndarray) -> tuple[np.ndarray, ...]:
        h = self.histories
        return (*(v[h.cell] for v in self.parameters(theta)), h.x, h.t_x, h.T)

    def likelihood(self) -> CellLikelihood:
        h, total = self.histories, self.cells.total
        n, cell = h.customers, h.cell
        people = total(cell, n)

        def at(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            g, hess = terms.scale_terms(*self._rows(theta))
            r = self._r[self.cells.segment]
            gradient = -np.stack([people * r + total(cell, n * g[0]), total(cell, n * g[1])], axis=1)
            curvature = np.empty((len(theta), 2, 2))
            curvature[:, 0, 0] = -total(cell, n * hess[0, 0])
            curvature[:, 0, 1] = curvature[:, 1, 0] = -total(cell, n * hess[0, 1])
            curvature[:, 1, 1] = -total(cell, n * hess[1, 1])
            return gradient, curvature

        return at

    def prepare(self, theta: np.ndarray, step: float) -> None:
        """What is left to who buys at rate 1 a day depends on log beta and on the age so far; tables over both."""
        h, self._tables = self.histories, []
        days = np.linspace(0.0, self.months[-1] * self.month_days, (len(self.months) - 1) * _STEPS + 1)
        for j in range(len(self.fits)):
            own = theta[self.cells.segment == j, 1]
            rows = h.segment == j
            longest = h.T[rows].max() if rows.any() else 0.0
            low, high = (own.min() - step, own.max() + step) if len(own) else (-step, step)
            scales = _chebyshev(np.log(self._beta[j]) - high, np.log(self._beta[j]) - low, _SCALES)
            ages = _chebyshev(_young(0.0), _young(longest), _AGES)
            s, c = self._s[j], self._c[j]
            beta, age = (v.ravel() for v in np.meshgrid(np.exp(scales), np.maximum(_age(ages), 0.0), indexing="ij"))
            was = terms.survival(s, beta, c, age)
            alive = terms.survival(s, beta[:, None], c, age[:, None] + days) / was[:, None]
            area = (alive[:, 1:] + alive[:, :-1]) / 2 * np.diff(days)
            purchases = np.concatenate([np.zeros((len(beta), 1)), np.cumsum(area, axis=1)], axis=1)[:, ::_STEPS]
            last = self.horizon * _STEPS
            spread = (
                _second_moment(s, beta, c, age, days[: last + 1]) / np.maximum(purchases[:, self.horizon], 1e-9) ** 2
            )
            values = np.concatenate([self.outputs(j, purchases, alive[:, ::_STEPS]), spread[:, None]], axis=1)
            table = np.log(np.maximum(values, 1e-300)).reshape(_SCALES, _AGES, -1)
            self._tables.append((scales, ages, table))

    def _look_up(self, j: int, log_beta: np.ndarray, age: np.ndarray, rate: np.ndarray, outputs: slice) -> np.ndarray:
        scales, ages, table = self._tables[j]
        values = table[:, :, outputs]
        across, along = _lagrange(scales, log_beta), _lagrange(ages, _young(age))
        got = np.empty((len(age), values.shape[2]))
        for i in range(0, len(age), 50_000):  # bounds the memory
            at = np.tensordot(along[i : i + 50_000], values, axes=(1, 1))
            got[i : i + 50_000] = np.exp(np.einsum("nb,nbq->nq", across[i : i + 50_000], at))
        which = np.arange(table.shape[2])[outputs]
        of_purchases = np.isin(which, [BOUGHT, MONTH_1, YEAR_1, MONTH_13])
        of_purchases |= (which >= PATH) & (which < PATH + len(self.months) - 1)
        got[:, of_purchases] *= rate[:, None]
        return got

    def new(self, theta: np.ndarray) -> np.ndarray:
        r, alpha, _, beta, _ = self.parameters(theta)
        size = self._tables[0][2].shape[2] - 1
        result = np.empty((len(theta), size))
        for j in range(len(self._tables)):
            c = np.flatnonzero(self.cells.segment == j)
            result[c] = self._look_up(j, np.log(beta[c]), np.zeros(len(c)), r[c] / alpha[c], slice(0, size))
        return result

    def alive(self, theta: np.ndarray) -> np.ndarray:
        if self._known is None or not np.array_equal(self._known[0], theta):
            self._known = theta.copy(), terms.p_alive(*self._rows(theta))
        return self._known[1]

    def residual(self, theta: np.ndarray, outputs: slice) -> np.ndarray:
        h, c = self.histories, self.histories.cell
        r, alpha, _, beta, _ = self.parameters(theta)
        size = self._tables[0][2].shape[2]
        result = np.empty((len(c), len(range(*outputs.indices(size)))))
        for j in range(len(self._tables)):
            rows = np.flatnonzero(h.segment == j)
            k = c[rows]
            rate = (r[k] + h.x[rows]) / (alpha[k] + h.T[rows])
            result[rows] = self._look_up(j, np.log(beta[k]), h.T[rows], rate, outputs)
        return result

    def residual_variation(self, theta: np.ndarray) -> np.ndarray:
        h, c = self.histories, self.histories.cell
        r = self.parameters(theta)[0][c]
        lifetime = self.residual(theta, slice(-1, None))[:, 0]
        return np.maximum(lifetime * (1 + 1 / (r + h.x)) - 1, 0.0)


_DAYS = 60.0  # below this age tables are finer


def _young(age: np.ndarray | float) -> np.ndarray:
    return np.log1p(np.asarray(age, float) / _DAYS)


def _age(young: np.ndarray) -> np.ndarray:
    return _DAYS * np.expm1(young)


def _second_moment(s: float, beta: np.ndarray, c: float, age: np.ndarray, days: np.ndarray) -> np.ndarray:
    """Mean over customers of ``age`` of the square of the time that one of risk mu will stay up to days[-1]; (n,).

    mu ~ Gamma(s, beta^c + age^c) given that they are there; the time is the integral of exp(-mu ((age + t)^c - age^c)).
    """
    mu = gamma_distribution.ppf(_RISKS, s)[None, :] / (beta**c + age**c)[:, None]
    power = (age[:, None] + days) ** c - age[:, None] ** c
    second = np.zeros(len(beta))
    for j in range(len(_RISKS)):
        there = np.exp(-mu[:, [j]] * power)
        second += ((there[:, 1:] + there[:, :-1]) / 2 * np.diff(days)).sum(axis=1) ** 2 / len(_RISKS)
    return second
