"""All markets' buyers at once: likelihood, expected purchases and lifetimes under market effects."""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import copy

import numpy as np

from micromarket.value.model import Cells
from micromarket.value.pooling import CellLikelihood
from micromarket.value.purchases import FEWEST_CUSTOMERS, FEWEST_REPEATERS, Histories, PurchaseModel
from micromarket.value.sbg import discount_factors
from micromarket.value.signal import Component, analysis_of_variance
from micromarket.value.summaries import DAYS_PER_MONTH

#: Outputs of expected purchases: discounted purchases and months alive within the horizon; purchases in the first
#: month, the first year, the 13th month; then cumulative discounted purchases by month, and months alive by month.
BOUGHT, THERE, MONTH_1, YEAR_1, MONTH_13, PATH = range(6)


class PurchaseCells(ABC):
    """Effects theta on the segment's fit: of the log purchase rate and of the propensity to leave, (cells, 2)."""

    def __init__(
        self, cells: Cells, histories: Histories, fits: list[PurchaseModel], discount_rate: float, horizon: int
    ):
        self.cells, self.histories, self.fits, self.horizon = cells, histories, fits, horizon
        self.months = np.arange(max(horizon, 13) + 1)
        self._mid = np.where(self.months[:-1] < horizon, discount_factors(self.months[:-1] + 0.5, discount_rate), 0.0)
        self.month_days = DAYS_PER_MONTH

    @abstractmethod
    def likelihood(self) -> CellLikelihood:
        """Gradient and curvature of every cell's log-likelihood in theta."""

    @abstractmethod
    def sharpen(self, variance: np.ndarray) -> PurchaseCells:
        """The same with the shapes that customers have within markets: a fit over all markets takes the spread
        between them (``variance``, (2,), of the effects over customers) for one between customers."""

    @abstractmethod
    def prepare(self, theta: np.ndarray, step: float) -> None:
        """Readies the tables that ``new`` and ``current`` read, for effects within ``step`` of theta."""

    @abstractmethod
    def new(self, theta: np.ndarray) -> np.ndarray:
        """Outputs (see above) for a customer of each cell right after the first purchase, (cells, outputs)."""

    @abstractmethod
    def alive(self, theta: np.ndarray) -> np.ndarray:
        """Probability that the customers of each history are still there, (histories,)."""

    @abstractmethod
    def residual(self, theta: np.ndarray, outputs: slice) -> np.ndarray:
        """Outputs of each history's customers given that they are there, (histories, outputs)."""

    @abstractmethod
    def residual_variation(self, theta: np.ndarray) -> np.ndarray:
        """Squared coefficient of variation, over customers of one history who are there, of what they will buy."""

    @property
    def path(self) -> tuple[slice, slice]:
        """Where purchases and months alive by month stand in the outputs."""
        months = len(self.months) - 1
        return slice(PATH, PATH + self.horizon), slice(PATH + months, PATH + months + self.horizon)

    def outputs(self, purchases: np.ndarray, alive: np.ndarray) -> np.ndarray:
        """From purchases up to, and probability to be alive at, each of ``months`` (n, months) to the outputs."""
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

    def totals(self, theta: np.ndarray, outputs: slice, weights: tuple[np.ndarray, ...]) -> np.ndarray:
        """Sums over each cell's customers of P(alive) x output x weight, (cells, outputs): a weight per output."""
        there = self.alive(theta)
        values = self.residual(theta, outputs)
        cell = self.histories.cell
        return np.stack([self.cells.total(cell, there * values[:, q] * w) for q, w in enumerate(weights)], axis=1)

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
            residual = (h.x[rows] - expected) / np.sqrt(expected + expected**2 / fit.parameters()["r"])
            n = h.customers[rows]
            residual = residual - (n @ residual) / n.sum()
            for out, value in ((count, n), (total, n * residual), (square, n * residual**2)):
                out += self.cells.total(h.cell[rows], value)
        m = self.cells.market
        return analysis_of_variance("repeat purchases", *(np.bincount(m, weights=v) for v in (count, total, square)))

    def calibration(self, theta: np.ndarray) -> np.ndarray:
        """Observed over expected repeat purchases since the first one, by segment.

        1 where the model is right. Where it isn't (customers who stop for other reasons than a bad purchase, say) this
        is the factor that makes a new customer's purchases what they have been; customers much older than the horizon
        don't count.
        """
        h, factors = self.histories, np.ones(len(self.fits))
        longest = 1.25 * self.horizon * self.month_days
        months = int(np.ceil(min(longest, h.T.max(initial=1.0)) / self.month_days)) + 1
        plain = copy(self)  # the same, not discounted, as far as customers have been seen
        plain.horizon, plain.months = months, np.arange(max(months, 13) + 1)
        plain._mid = np.where(plain.months[:-1] < months, 1.0, 0.0)
        plain.prepare(theta, 0.01)
        path = plain.new(theta)[:, plain.path[0]]
        path = np.concatenate([np.zeros((len(theta), 1)), path], axis=1)
        at = np.minimum(h.T / self.month_days, months - 1e-6)
        month = at.astype(int)
        expected = path[h.cell, month] + (at - month) * (path[h.cell, month + 1] - path[h.cell, month])
        for s in range(len(self.fits)):
            rows = (h.segment == s) & (h.T > 0)
            rows &= h.T <= max(longest, h.T[rows].min() if rows.any() else 0.0)
            n, x = h.customers[rows], h.x[rows]
            if n.sum() < FEWEST_CUSTOMERS or n[x > 0].sum() < FEWEST_REPEATERS:
                continue
            factors[s] = np.clip((n @ x) / max(n @ expected[rows], 1e-9), 0.5, 2.0)
        return factors
