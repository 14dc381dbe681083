"""All markets' contracts at once: survival, residual lifetimes and departures under market effects."""

from __future__ import annotations

import numpy as np

from micromarket.value.model import Cells
from micromarket.value.models.quadrature import beta_nodes
from micromarket.value.models.sbg import discount_factors
from micromarket.value.residual_table import _chebyshev, _lagrange
from micromarket.value.signal import Component, analysis_of_variance
from micromarket.value.spend import segment_ratio
from micromarket.value.tenures import RetentionModel, Tenures, shape_of

STEP = 0.1  # of the effect, in the differences that LogQuadratic takes


class ContractCells:
    """All cells under an effect u on the log rate of leaving: survival over months j at age k is
    exp(-exp(u) (L[k + j] - L[k])), L the segment's cumulative hazard."""

    def __init__(
        self,
        cells: Cells,
        tenures: Tenures,
        fits: list[RetentionModel],
        discount_rate: float,
        horizon: int,
        level: np.ndarray | None = None,
    ):
        """``level`` (segments,): factor on the rates of leaving to come, from a look back (none: 1)."""
        self.cells, self.tenures, self.fits, self.horizon = cells, tenures, fits, horizon
        self.level = np.ones(len(fits)) if level is None else level
        self.oldest = int(tenures.age.max()) if len(tenures.age) else 0
        ages = np.arange(self.oldest + max(horizon, 13) + 2)
        self._rate = np.stack([-np.log1p(-np.minimum(f.hazard(ages), 1 - 1e-9)) for f in fits])
        self._total = np.concatenate([np.zeros((len(fits), 1)), np.cumsum(self._rate, axis=1)], axis=1)
        self._start = discount_factors(np.arange(horizon), discount_rate)
        self._mid = discount_factors(np.arange(horizon) + 0.5, discount_rate)

    def expected(self) -> np.ndarray:
        """Expected departures of each row's customers at the segment's rate (cumulative hazard while observed)."""
        t, s = self.tenures, self.tenures.segment
        whole = self._total[s, t.age] - self._total[s, t.entry]
        age_part = np.where(t.gone == 1, t.age_part, t.partial * t.age_part)
        parts = self._rate[s, t.age] * age_part - self._rate[s, t.entry] * t.partial * t.entry_part
        return np.maximum(t.customers * whole + parts, 1e-12)

    def signal(self) -> Component:
        """Do markets differ in departures, given segment and tenure? On martingale residuals of customers."""
        t = self.tenures
        expected = self.expected()
        scale = segment_ratio(
            self.cells, self.cells.total(t.cell, t.customers * t.gone), self.cells.total(t.cell, expected)
        )
        residual = t.gone - scale[t.segment] * expected / t.customers
        m = self.cells.market[t.cell]
        size = len(self.cells.market_ids)
        values = (t.customers, t.customers * residual, t.customers * residual**2)
        return analysis_of_variance("churn", *(np.bincount(m, weights=v, minlength=size) for v in values))

    def paid(self, there: np.ndarray, new: bool) -> np.ndarray:
        """Share of each month that is paid, from the shares still there at its start and end (last axis).

        Who leaves pays for ``last_month`` of the month; of a current customer's running month the rest is to come.
        """
        last = self.tenures.last_month if new else 1 - self.tenures.last_month
        return there[..., 1:] + last * (there[..., :-1] - there[..., 1:])

    def new_months(self, there: np.ndarray) -> np.ndarray:
        """Cumulative discounted paid months of new customers; each month is billed at its start."""
        return np.cumsum(self.paid(there, new=True) * self._start, axis=-1)

    def lifetime(self, s: int, ages: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Discounted months within the horizon of current customers, (ages, effects); bills are half a month away."""
        gained = self._total[s][ages[:, None] + np.arange(self.horizon + 1)] - self._total[s][ages][:, None]
        there = np.exp(-self.level[s] * np.exp(u)[None, :, None] * gained[:, None, :])
        return self.paid(there, new=False) @ self._mid

    def survival(self, theta: np.ndarray, months: int) -> np.ndarray:
        """Share of each cell's new customers still there after 0, 1, ... ``months`` months; theta (cells,)."""
        s = self.cells.segment
        rate = (self.level[s] * np.exp(theta))[:, None]
        return np.exp(-rate * self._total[s][:, : months + 1])

    def variation(self, nodes: int = 24) -> list[np.ndarray]:
        """By segment and age: squared coefficient of variation, over customers, of the lifetime that is left.

        The model says how customers' own rates of leaving spread (Beta); the mean of few customers inherits it.
        """
        out = []
        steps = np.arange(self.horizon + 1)
        for s, fit in enumerate(self.fits):
            alpha, beta, c = shape_of(fit)
            ages = np.arange(self.oldest + 1, dtype=float)
            rate, weight = beta_nodes(np.full(len(ages), alpha), beta + ages**c, nodes)
            hazard = -np.log1p(-np.minimum(rate, 1 - 1e-12)) * self.level[s]
            power = (ages[:, None] + steps) ** c - ages[:, None] ** c
            left = np.stack(
                [self.paid(np.exp(-hazard[:, [j]] * power), new=False) @ self._mid for j in range(nodes)], axis=1
            )
            mean = (weight * left).sum(axis=1)
            out.append(np.maximum((weight * left**2).sum(axis=1) / np.maximum(mean, 1e-300) ** 2 - 1, 0.0))
        return out

    def stay(self, months: int) -> np.ndarray:
        """Cumulative hazard of each row's customers over the next ``months``."""
        t = self.tenures
        return self.level[t.segment] * (self._total[t.segment, t.age + months] - self._total[t.segment, t.age])

    def tables(self, theta: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Per segment: Chebyshev points of the effect, log lifetimes of (age, point)."""
        out = []
        for s in range(len(self._rate)):
            own = theta[self.cells.segment == s, 0]
            nodes = _chebyshev(own.min() - 2 * STEP, own.max() + 2 * STEP, 10)
            ages = np.arange(self.oldest + 1)
            blocks = [self.lifetime(s, ages[i : i + 64], nodes) for i in range(0, len(ages), 64)]
            out.append((nodes, np.log(np.maximum(np.concatenate(blocks), 1e-300))))
        return out

    def lookup(self, tables: list, segment: np.ndarray, age: np.ndarray, u: np.ndarray) -> np.ndarray:
        result = np.empty(len(age))
        for s, (nodes, values) in enumerate(tables):
            rows = np.flatnonzero(segment == s)
            result[rows] = np.exp((_lagrange(nodes, u[rows]) * values[age[rows]]).sum(axis=1))
        return result
