"""What is not response: markets' own level and season, autocorrelated errors, count noise; and how it is taken out."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from micromarket.response.transform import Array

# A market's own squared residuals are weighed against a count-noise law worth this many periods.
LAW_PERIODS = 10


@dataclass(frozen=True)
class Whitening:
    """Takes autocorrelation, and each market's own level and season, out of (periods, markets, …) arrays.

    Attributes
    ----------
    periods : int
        Length of the panel before the first periods go with the autocorrelation.
    periods_per_year : float or None
        Every market has its own yearly season from 1.5 years on: spend has a season too, and without this, markets
        whose demand swings more would seem to answer more.
    rho : array
        Coefficients of the autoregression of the errors, the same in all markets.
    """

    periods: int
    periods_per_year: float | None
    rho: Array = field(default_factory=lambda: np.zeros(0))

    @property
    def left(self) -> int:
        return self.periods - len(self.rho)

    @property
    def basis(self) -> Array:
        """Orthonormal columns (periods left, level and season)."""
        columns = [np.ones(self.left)]
        if self.periods_per_year is not None and self.left >= 1.5 * self.periods_per_year:
            angle = 2 * np.pi * np.arange(self.left) / self.periods_per_year
            columns += [np.sin(angle), np.cos(angle)]
        return np.linalg.qr(np.column_stack(columns))[0]

    def apply(self, a: Array) -> Array:
        """Whitened and centred; the first periods are lost to the lags (Cochrane & Orcutt 1949)."""
        order = len(self.rho)
        out = a[order:]
        for lag, rho in enumerate(self.rho, start=1):
            out = out - rho * a[order - lag : len(a) - lag]
        basis = self.basis
        return out - np.tensordot(basis, np.tensordot(basis, out, axes=(0, 0)), axes=(1, 0))


def autocorrelation(residual: Array, fitted: int, weight: Array) -> Array:
    """Coefficients of an autoregression that all markets share (Yule-Walker); none where there is nothing to take out.

    Markets count by ``weight``, their precision: what large ones share is demand, what small ones show is count noise.

    Sample autocorrelations of demeaned series are too low by about (1 + 2 sum r) / periods (Kendall 1954), and
    once more for each further column ``fitted`` by market; put right.
    """
    periods = len(residual)
    order = min(4, periods // 20)
    e = residual - residual.mean(axis=0) - residual.mean(axis=1, keepdims=True) + residual.mean()
    e = e / np.maximum(e.std(axis=0), 1e-12)
    share = weight / weight.sum()
    r = np.array([float((e[k:] * e[: periods - k]).mean(axis=0) @ share) for k in range(1, order + 1)])
    r = r + fitted * (1 + 2 * np.clip(r, 0, None).sum()) / periods
    if order == 0 or r[0] < 0.03:
        return np.zeros(0)
    r = np.concatenate([[1.0], np.clip(r, -0.9, 0.95)])
    lags = np.abs(np.subtract.outer(np.arange(order), np.arange(order)))
    rho = np.linalg.solve(r[lags] + 1e-3 * np.eye(order), r[1:])
    return rho if 0 < rho.sum() < 0.95 else np.array([min(r[1], 0.9)])


@dataclass(frozen=True)
class NoiseLaw:
    """Variance of a market's errors per head: ``slope * expected + level``.

    ``expected``: mean outcome per head over heads, as Poisson counts per head have variance mean / heads.
    """

    slope: float
    level: float
    least: float

    @classmethod
    def of(cls, own: Array, expected: Array) -> NoiseLaw:
        """Weighted least squares of markets' own variances ``own`` on ``expected``; both parts at least 0."""
        own = np.maximum(own, 1e-12)
        weight = 1 / np.maximum(expected, 1e-12)
        middle = float(np.median(expected))
        design = np.column_stack([expected, np.full_like(expected, middle)])
        fit = np.maximum(np.linalg.lstsq(design * weight[:, None], own * weight, rcond=None)[0], 0.0)
        return cls(float(fit[0]), float(fit[1] * middle), 0.05 * float(np.median(own)))

    def pooled(self, own: Array, expected: Array, periods: int) -> Array:
        """Each market's own variance, weighed by its periods, with the law."""
        law = np.maximum(self.slope * expected + self.level, self.least)
        return np.maximum((periods * np.maximum(own, 1e-12) + LAW_PERIODS * law) / (periods + LAW_PERIODS), 1e-9)


def own_variance(residual: Array, keep_trace: NDArray[np.float64], lost: int) -> Array:
    """Variance by market of ``residual`` (periods, markets) after ``lost`` and its own slopes' degrees of freedom."""
    return np.asarray((residual**2).sum(axis=0) / np.maximum(len(residual) - lost - keep_trace, 1.0))
