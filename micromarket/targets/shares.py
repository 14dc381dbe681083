"""Each cell's share of the company in the time to come: own history, pooled over cells of like size."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.linalg import solve_triangular
from scipy.optimize import minimize

_TAILS = 10.0  # degrees of freedom: some cells are far more volatile than others of their size
_MOST_CELLS = 1_200  # that the variances are learnt from, evenly over sizes
_LOOSE = 1.5  # SD of the logarithm of each variance before the data speak


def share_prior(values: np.ndarray, active: np.ndarray, segment: np.ndarray) -> np.ndarray:
    """Prior shares of the company: half the cell's own, half its segment's total spread by customers; sums to 1."""
    own = values.mean(axis=1)
    weight = active.mean(axis=1)
    codes, _ = pd.factorize(segment, sort=True)
    by_customers = np.bincount(codes, own)[codes] * weight / np.maximum(np.bincount(codes, weight)[codes], 1e-12)
    prior = 0.5 * own + 0.5 * np.where(weight > 0, by_customers, own)
    prior = prior + 1e-9 + 1e-4 * prior.mean()  # never exactly 0: a cell without history may still sell
    return prior / prior.sum()


def last_share(values: np.ndarray) -> np.ndarray:
    """Each cell's share of the company over the last 12 months; sums to 1 (all 0 where nothing was sold)."""
    total = values[:, -12:].sum(axis=1)
    return total / total.sum() if total.sum() > 0 else total


def local_shares(values: np.ndarray, prior: np.ndarray, ahead: float) -> np.ndarray:
    """Each cell's share of the company ``ahead`` months after the last one.

    Relative departures from ``prior`` follow level + random walk + slope + own season + noise; noise variance: ``a /
    size + b``. Without the season a summer resort in spring would look like a market in decline. Variances by
    restricted maximum likelihood over all cells (the level is free), under a multivariate t; shares are the best linear
    prediction (kriging; Cressie 1993, *Statistics for Spatial Data*, ch. 3, in time instead of space).

    Parameters
    ----------
    values : array of shape (cells, months), at least 0
    prior : array of shape (cells,)
        Sums to 1.
    ahead : float
        Centre of the span to be predicted, in months after the last one.

    Returns
    -------
    array of shape (cells,), at least 0, sums to 1.
    """
    n = values.shape[1]
    company = values.sum(axis=0)
    used = company > 0
    if n < 6 or used.sum() < 6:
        return prior
    size = prior * company[used].mean()
    expected = prior[:, None] * np.where(used, company, 1.0)
    departure = np.where(used, values / expected - 1, 0.0)
    order = np.argsort(size, kind="stable")
    bins = np.array_split(order, min(24, max(1, len(order) // 8)))
    middle = float(np.median(size))
    t = np.arange(n) - (n - 1) / 2.0
    noise, extra, walk, slope, season = _variances(departure, size / middle, order, t)
    mean_departure = departure.mean(axis=1)
    noise_of = noise * middle / size + extra
    between = float(np.sum(size * (mean_departure**2 - noise_of / n)) / size.sum())
    # the prior holds half of the cell's own mean, which took part of the walk with it: give the level that back
    between = max(between, 0.0) + walk * n / 3 + slope * n**2 / 12 + 1e-6
    covariance = between + _moving(t, walk, slope, season)
    towards = between + walk * (t - t[0]) + slope * t * (t[-1] + ahead)
    predicted = np.empty(len(values))
    for group in bins:  # cells of like size share their weights
        kernel = covariance + float(np.median(noise_of[group])) * np.eye(n)
        predicted[group] = departure[group] @ np.linalg.solve(kernel, towards)
    share = prior * np.clip(1 + predicted, 0.05, None)
    return share / share.sum()


def _moving(t: np.ndarray, walk: float, slope: float, season: float) -> np.ndarray:
    """Covariance of what moves, shape (months, months); the season adds up to 0 over a year."""
    same_month = np.subtract.outer(t, t) % 12 == 0
    return walk * np.minimum.outer(t - t[0], t - t[0]) + slope * np.outer(t, t) + season * (same_month - 1 / 12)


def _variances(departure: np.ndarray, size: np.ndarray, order: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Noise (of a cell of size 1), extra noise, walk (a month), slope (a month, squared), season: variances."""
    n = len(t)
    if len(order) > _MOST_CELLS:
        order = order[np.linspace(0, len(order) - 1, _MOST_CELLS).round().astype(int)]
    bins = np.array_split(order, min(12, max(1, len(order) // 8)))
    inverse = [float(np.median(1 / size[group])) for group in bins]
    typical = float(np.mean(np.median(departure[order] ** 2, axis=0))) + 1e-6
    # an order of magnitude for each: half of a typical departure is noise, a quarter of it a year's walk
    centre = np.log(typical * np.array([0.5, 0.25, 1 / 48, 1 / 14_400, 0.25]))
    fixed = np.array([False, False, False, False, n < 24])  # one year can't tell season from drift

    def loss(found: np.ndarray) -> float:
        a, b, walk, slope, season = np.exp(np.where(fixed, -30.0, found))
        free = 1e3 * typical + _moving(t, walk, slope, season)  # a level that anything may be: contrasts alone count
        total = float((((found - centre) / _LOOSE) ** 2).sum()) / 2
        for group, inv in zip(bins, inverse, strict=True):
            root = np.linalg.cholesky(free + (a * inv + b + 1e-9 * typical) * np.eye(n))
            far = (solve_triangular(root, departure[group].T, lower=True, check_finite=False) ** 2).sum(axis=0)
            total += len(group) * float(np.log(np.diag(root)).sum())
            total += (_TAILS + n) / 2 * float(np.log1p(far / _TAILS).sum())
        return total

    around = [(c - 8, c + 8) for c in centre]
    found = minimize(loss, centre, method="L-BFGS-B", bounds=around, options={"maxiter": 40}).x
    return np.exp(np.where(fixed, -30.0, found))
