"""All markets' buyers at once: likelihood, expected purchases and lifetimes under market effects."""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import copy

import numpy as np

from micromarket.value.aging import Aging, fit_aging
from micromarket.value.model import Cells
from micromarket.value.models.sbg import discount_factors
from micromarket.value.pooling import CellLikelihood
from micromarket.value.purchases import Histories, PurchaseModel
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
        self.tilt = np.zeros(len(fits))  # see aging.py: per month, on the log scale

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

    def outputs(self, s: int, purchases: np.ndarray, alive: np.ndarray) -> np.ndarray:
        """From purchases up to, and probability to be alive at, each of ``months`` (n, months) to the outputs, of
        segment ``s``."""
        fade = np.exp(np.clip(self.tilt[s] * (self.months[:-1] + 0.5), -3.0, 3.0))
        flow = np.diff(purchases, axis=1) * fade
        bought = np.cumsum(flow * self._mid, axis=1)
        there = np.cumsum((alive[:, :-1] + alive[:, 1:]) / 2 * fade * self._mid, axis=1)
        first = [bought[:, -1], there[:, -1], flow[:, 0], flow[:, :12].sum(axis=1), flow[:, 12]]
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

    def aging(self, theta: np.ndarray) -> Aging:
        """Level and tilt of each segment's path, from customers of all ages up to a quarter beyond the horizon."""
        h, segments = self.histories, len(self.fits)
        found = Aging.none(segments)
        longest = min(1.25 * self.horizon * self.month_days, h.T.max(initial=1.0))
        months = int(np.ceil(longest / self.month_days)) + 1
        plain = copy(self)  # the same, not discounted, as far as customers have been seen
        plain.horizon, plain.months = months, np.arange(max(months, 13) + 1)
        plain._mid, plain.tilt = np.where(plain.months[:-1] < months, 1.0, 0.0), np.zeros(segments)
        plain.prepare(theta, 0.01)
        gained = np.diff(plain.new(theta)[:, plain.path[0]], axis=1, prepend=0.0)
        at = h.T / self.month_days
        month = np.minimum(at.astype(int), months - 1)
        for s in range(segments):
            rows = (h.segment == s) & (h.T > 0) & (longest >= h.T)
            if not rows.any():
                continue
            cell, age, n = h.cell[rows], month[rows], h.customers[rows]
            own, index = np.unique(cell, return_inverse=True)
            people = np.zeros((months, len(own)))
            np.add.at(people, (age, index), n)
            part = np.bincount(age, weights=n * (at[rows] - age), minlength=months)
            heads = people.sum(axis=1)
            flow = people @ gained[own] / np.maximum(heads, 1e-300)[:, None]
            lived = np.tril(np.ones((months, months)), -1) + np.diag(part / np.maximum(heads, 1e-300))
            fit = fit_aging(age, n, h.x[rows], flow * lived)
            if fit is not None:
                (found.level[s], found.tilt[s], found.start[s]), found.covariance[s] = fit[0], fit[1][:2, :2]
        return found
