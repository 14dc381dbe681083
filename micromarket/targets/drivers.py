"""What history alone misses: growth that follows headroom, coverage, size, or that gives back last year's jump.

A backtest's misses are regressed on what was known at its start; the same is then known today. With few cells, or where
nothing helps, the coefficients shrink to 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_PRIOR_SD = 0.06  # of each driver's effect on a typical cell's year, before the data speak
_FAR, _CUT = 2.5, 4.0  # robust standard deviations beyond which a driver, and a miss, count no further
NAMES = ("headroom", "headroom x coverage", "last growth", "size")


@dataclass(frozen=True)
class Drivers:
    """Effects of standardised drivers on the logarithm of a cell's revenue over a year; columns as in :data:`NAMES`."""

    effects: np.ndarray

    def factor(self, columns: np.ndarray, years: float) -> np.ndarray:
        """What forecasts are multiplied by, array of shape (cells,); ``years``: length of the span forecast."""
        return np.exp(standard(columns) @ self.effects * min(years, 1.0))


def standard(columns: np.ndarray) -> np.ndarray:
    """Robustly centred, scaled and cut at 2.5; a column that hardly varies, or is not known, is 0."""
    out = np.zeros(columns.shape)
    for j, x in enumerate(columns.T):
        known = np.isfinite(x)
        if known.sum() < 8:
            continue
        middle = float(np.median(x[known]))
        wide = 1.4826 * float(np.median(np.abs(x[known] - middle)))
        if wide <= 1e-6 < float(np.std(x[known])):  # more than half at one value
            middle, wide = float(np.mean(x[known])), float(np.std(x[known]))
        if wide > 1e-6:
            out[known, j] = np.clip((x[known] - middle) / wide, -_FAR, _FAR)
    return out


def driver_columns(
    revenue: np.ndarray, forecast: np.ndarray, potential: np.ndarray | None, reps: np.ndarray | None
) -> np.ndarray:
    """What is known at the start of a span, array of shape (cells, 4); NaN: not known.

    Parameters
    ----------
    revenue : array of shape (cells, months)
        History up to the start; money.
    forecast : array of shape (cells,)
        Money over the span.
    potential, reps : arrays of shape (cells,), optional
        In any unit; only their proportions count. NaN where not known.
    """
    unknown = np.full(len(forecast), np.nan)
    headroom = unknown if potential is None else _log_ratio(potential, forecast)
    both = unknown
    if potential is not None and reps is not None:
        cover = _log_ratio(reps, potential)
        both = standard(headroom[:, None])[:, 0] * standard(cover[:, None])[:, 0]
        both = np.where(np.isfinite(headroom) & np.isfinite(cover), both, np.nan)
    n = revenue.shape[1]
    span = min(12, n - 12)
    growth = unknown
    if span >= 6:
        growth = _log_ratio(revenue[:, n - span :].sum(axis=1), revenue[:, n - 12 - span : n - 12].sum(axis=1))
    return np.column_stack([headroom, both, growth, _log_ratio(forecast, np.ones_like(forecast))])


def fit_drivers(columns: np.ndarray, actual: np.ndarray, predicted: np.ndarray, relative_sd: np.ndarray) -> Drivers:
    """Ridge regression of the backtest's misses (relative, cut at 4 SD) on the drivers.

    Parameters
    ----------
    columns : array of shape (cells, 4), see :func:`driver_columns`
    actual, predicted : arrays of shape (cells,), money
    relative_sd : array of shape (cells,)
        Expected relative miss of each cell; the variance is scaled to what is seen.

    Notes
    -----
    The posterior mean under normal effects of SD 6% each (Hoerl and Kennard 1970): nothing to learn, nothing changed.
    """
    use = (actual > 0) & (predicted > 0)
    if use.sum() < 20:
        return Drivers(np.zeros(columns.shape[1]))
    x = standard(columns)[use]
    miss = actual[use] / predicted[use] - 1  # not the logarithm: its mean falls with noise, so small cells would shrink
    sd = np.maximum(relative_sd[use], 1e-3)
    sd = sd * max(1.4826 * float(np.median(np.abs(miss - np.median(miss)) / sd)), 1e-3)
    weight = 1 / (sd**2 + np.median(sd) ** 2)  # small cells are noisy, yet what holds for them has to be learnt there
    middle = float(np.sum(weight * miss) / weight.sum())
    miss = np.clip(miss - middle, -_CUT * sd, _CUT * sd)
    x = x - np.average(x, weights=weight, axis=0)
    effects = np.linalg.solve((x * weight[:, None]).T @ x + np.eye(x.shape[1]) / _PRIOR_SD**2, x.T @ (weight * miss))
    return Drivers(effects)


def _log_ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    fine = np.isfinite(above) & np.isfinite(below) & (above > 0) & (below > 0)
    return np.where(fine, np.log(np.where(fine, above, 1.0) / np.where(fine, below, 1.0)), np.nan)
