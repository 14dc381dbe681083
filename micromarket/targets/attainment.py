"""How far forecasts miss, and targets that every unit reaches with the same probability."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import nnls
from scipy.special import ndtr

_PRIOR_COMMON_SD = 0.03  # of company revenue over a year, where history is too short to tell; counts as two past misses
_MOST_SKEW = 1.5  # of a cell


@dataclass(frozen=True)
class Spread:
    """Variance of a cell's revenue ``mu`` (money) over the plan: ``(common² + region² + extra) mu² + unit mu``.

    Attributes
    ----------
    unit : float
        Money: grows with revenue like the noise of a count, so small cells are relatively wider.
    extra : float
        Relative variance that a cell has to itself whatever its size.
    common, region : float
        Relative standard deviations that the whole company, and a region, share.
    source : str
        "backtest" or "assumed".
    skew : float
        Skewness of a cell per unit of its coefficient of variation (gamma: 2, normal: 0).
    """

    unit: float
    extra: float
    common: float
    region: float
    source: str
    skew: float = 0.0

    def own_variance(self, mu: np.ndarray) -> np.ndarray:
        return self.unit * mu + self.extra * mu**2

    def sigma(self, mu: np.ndarray) -> np.ndarray:
        """Standard deviation of every cell, money; at least 0.1% of its mean."""
        variance = self.own_variance(mu) + (self.common**2 + self.region**2) * mu**2
        return np.sqrt(np.maximum(variance, (1e-3 * mu) ** 2))

    def skewness(self, mu: np.ndarray) -> np.ndarray:
        """Skewness of every cell, at most 1.5."""
        return np.minimum(self.skew * self.sigma(mu) / np.maximum(mu, 1e-12), _MOST_SKEW)

    def company_sigma(self, mu: np.ndarray, region: np.ndarray) -> float:
        """Standard deviation of the sum, money: cells are correlated through what they share."""
        by_region = np.bincount(region, mu)
        variance = self.own_variance(mu).sum() + (self.region**2) * (by_region**2).sum()
        return float(np.sqrt(max(variance + (self.common * mu.sum()) ** 2, (1e-3 * mu.sum()) ** 2)))


def fit_spread(actual: np.ndarray, predicted: np.ndarray, region: np.ndarray, company_misses: np.ndarray) -> Spread:
    """Spread of the residuals of a backtest.

    Parameters
    ----------
    actual, predicted : arrays of shape (cells,), money over the same span
    region : int array of shape (cells,)
    company_misses : array
        Relative errors of the company's total at past origins.
    """
    total = predicted.sum()
    common = _common(company_misses)
    if total <= 0 or len(actual) < 4:
        return assumed_spread(predicted, common)
    scaled = np.maximum(predicted * (actual.sum() / total), 1e-9 * total)
    residual = actual - scaled
    relative = residual**2 / scaled**2
    middle = np.median(scaled)
    weight = scaled / (scaled + middle)  # tiny cells have wild relative errors
    design = np.column_stack([1 / scaled, np.ones_like(scaled)]) * weight[:, None]
    scale = design.max(axis=0)
    unit, extra = nnls(design / scale, np.minimum(relative, 25.0) * weight)[0] / scale
    by_region, squares = np.bincount(region, residual), np.bincount(region, residual**2)
    sizes, size_squares = np.bincount(region, scaled), np.bincount(region, scaled**2)
    shared = (sizes**2 - size_squares).sum()
    # residuals add up to 0 by construction, so with one region there is nothing to learn
    several = np.count_nonzero(sizes) > 2 and shared > 0
    between = max(float((by_region**2 - squares).sum() / shared), 0.0) if several else 0.0
    count = len(np.unique(region))
    prior = (_PRIOR_COMMON_SD / 2) ** 2  # counts as three regions
    between = min((3 * prior + count * between) / (3 + count), extra) if several else 0.0
    spread = Spread(float(unit), float(extra - between), common, float(np.sqrt(between)), "backtest")
    return replace(spread, skew=_skew(residual, spread.sigma(scaled), scaled))


def _skew(residual: np.ndarray, sigma: np.ndarray, mu: np.ndarray) -> float:
    """Skewness per unit of variation: third moments regressed on it, shrunk by their noise; never below 0."""
    far = np.clip(residual / sigma, -4, 4)
    far = (far - far.mean()) / max(float(far.std()), 1e-9)
    wide = sigma / mu
    evidence = float(np.sum(wide**2))
    slope = float(np.sum(wide * far**3)) / max(evidence, 1e-12)
    if slope <= 0:
        return 0.0
    noise = 15 / max(evidence, 1e-12)  # variance of a normal's cube
    return min(slope * max(1 - noise / slope**2, 0.0), 4.0)


def assumed_spread(mu: np.ndarray, common: float = 2 * _PRIOR_COMMON_SD) -> Spread:
    """Where there is no year to look back on: 10% for the typical cell, half of it shrinking with size."""
    middle = float(np.median(mu[mu > 0])) if (mu > 0).any() else 1.0
    return Spread(0.5 * 0.10**2 * middle, 0.5 * 0.10**2, common, 0.0, "assumed")


def _common(misses: np.ndarray) -> float:
    misses = np.asarray(misses, dtype=float)
    count = min(len(misses), 1 + len(misses) / 6)  # origins a month apart overlap: six of them count as one
    mean_square = float(np.mean(misses**2)) if len(misses) else 0.0
    return float(np.sqrt((2 * _PRIOR_COMMON_SD**2 + count * mean_square) / (2 + count)))


@dataclass(frozen=True)
class EqualOdds:
    """Targets in money, the common ``z`` and what the bounds allowed: ``total`` may fall short of the goal."""

    targets: np.ndarray
    z: float
    total: float


def equal_probability(
    mu: np.ndarray,
    sigma: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    goal: float,
    skewness: np.ndarray | None = None,
) -> EqualOdds:
    """The one ``z`` with ``sum(clip(mu + z sigma, low, high)) = goal``: every unit inside its bounds has equal odds.

    Where units are skewed the same ``z`` names the same quantile of each (see :func:`quantile`).

    Where the bounds can't hold the goal, all units stand at that bound and ``total`` says what is published.

    Parameters
    ----------
    mu, sigma, low, high : arrays of shape (n,), money; ``sigma > 0`` where a unit may move, ``low <= high``
    goal : float, money
    skewness : array of shape (n,), optional
        At least 0.

    Notes
    -----
    The sum is monotone in z. Without skewness it is piecewise linear: bisection finds the piece, one division the rest.

    Examples
    --------
    >>> r = equal_probability(np.array([10., 20.]), np.array([1., 4.]), np.zeros(2), np.full(2, 99.), 35.)
    >>> r.targets.tolist(), r.z
    ([11.0, 24.0], 1.0)
    """
    lowest, highest = float(low.sum()), float(high.sum())
    if goal <= lowest:
        return EqualOdds(low.copy(), -np.inf, lowest)
    if goal >= highest:
        return EqualOdds(high.copy(), np.inf, highest)
    if skewness is not None and (skewness > 1e-9).any():
        return _by_quantile(mu, sigma, low, high, goal, skewness)
    safe = np.maximum(sigma, 1e-300)
    breaks = np.unique(np.concatenate([(low - mu) / safe, (high - mu) / safe]))
    breaks = breaks[np.isfinite(breaks)]

    def total(z: float) -> float:
        return float(np.clip(mu + z * sigma, low, high).sum())

    left, right = 0, len(breaks) - 1
    while right - left > 1:
        middle = (left + right) // 2
        left, right = (middle, right) if total(breaks[middle]) <= goal else (left, middle)
    z0, z1 = float(breaks[left]), float(breaks[right])
    f0, f1 = total(z0), total(z1)
    z = z0 if f1 <= f0 else z0 + (goal - f0) * (z1 - z0) / (f1 - f0)
    return EqualOdds(np.clip(mu + z * sigma, low, high), float(z), goal)


def _by_quantile(
    mu: np.ndarray, sigma: np.ndarray, low: np.ndarray, high: np.ndarray, goal: float, skewness: np.ndarray
) -> EqualOdds:
    left, right = -1.0, 1.0
    while quantile(mu, sigma, left, skewness, low, high).sum() > goal and left > -1e12:
        left *= 2
    while quantile(mu, sigma, right, skewness, low, high).sum() < goal and right < 1e12:
        right *= 2
    for _ in range(200):
        middle = (left + right) / 2
        if not left < middle < right:
            break
        inside = quantile(mu, sigma, middle, skewness, low, high).sum() <= goal
        left, right = (middle, right) if inside else (left, middle)
    below, above = (quantile(mu, sigma, z, skewness, low, high) for z in (left, right))
    rise = float((above - below).sum())
    part = (goal - float(below.sum())) / rise if rise > 0 else 0.0
    return EqualOdds(np.clip(below + part * (above - below), low, high), left, goal)


def quantile(
    mu: np.ndarray, sigma: np.ndarray, z: float, skewness: np.ndarray, low: np.ndarray | float = -np.inf,
    high: np.ndarray | float = np.inf,
) -> np.ndarray:  # fmt: skip
    """The amount that is reached with the odds with which a standard normal exceeds ``z``, within limits.

    Notes
    -----
    Gamma quantiles by Wilson and Hilferty (1931): ``mu + sigma (2/g) ((1 + g z / 6 - g² / 36)³ - 1)``.
    """
    g = np.maximum(skewness, 1e-9)
    bent = np.where(skewness > 1e-6, 2 / g * ((1 + g * z / 6 - g**2 / 36) ** 3 - 1), z)
    return np.clip(mu + sigma * bent, low, high)


def odds(
    mu: np.ndarray | float,
    sigma: np.ndarray | float,
    target: np.ndarray | float,
    skewness: np.ndarray | float = 0.0,
) -> np.ndarray:
    """Probability that an outcome reaches ``target``: normal, or skewed as in :func:`quantile`."""
    far = (np.asarray(target) - mu) / np.maximum(sigma, 1e-300)
    g = np.maximum(skewness, 1e-9)
    z = np.where(np.asarray(skewness) > 1e-6, 6 / g * (np.cbrt(1 + g * far / 2) - 1) + g / 6, far)
    return ndtr(-z)


def field_round(
    targets: np.ndarray,
    mu: np.ndarray,
    sigma: np.ndarray,
    view: np.ndarray,
    view_sigma: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    region: np.ndarray,
    cap: float = 0.05,
) -> np.ndarray:
    """Targets after the field has spoken: precision-weighted, capped, zero-sum within each region.

    Parameters
    ----------
    targets, mu, sigma, low, high : arrays of shape (n,), money
    view, view_sigma : arrays of shape (n,), money
        The field's own expectation and its standard deviation; NaN: none.
    region : int array of shape (n,)
    cap : float
        Largest change, as a share of the target.
    """
    weight = np.where(np.isnan(view), 0.0, sigma**2 / (sigma**2 + np.nan_to_num(view_sigma) ** 2 + 1e-300))
    wanted = weight * (np.nan_to_num(view) - mu)
    least = np.minimum(np.maximum(-cap * targets, low - targets), 0.0)
    most = np.maximum(np.minimum(cap * targets, high - targets), 0.0)
    change = np.zeros_like(targets)
    for code in np.unique(region[weight > 0]):
        unit = np.flatnonzero(region == code)
        # what one gives up its region's others take over, in proportion to their size
        solved = equal_probability(wanted[unit], np.maximum(targets[unit], 1e-9), least[unit], most[unit], 0.0)
        change[unit] = solved.targets if np.isclose(solved.total, 0.0, atol=1e-6 * targets[unit].sum()) else 0.0
    return targets + change
