"""What customers who are still there will do within a horizon: purchases, and months they stay, discounted.

For a million distinct histories at once: by x and age what a purchase model expects is smooth, so it is computed at a
few ages and read off between them.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from micromarket.value.models.sbg import discount_factors
from micromarket.value.models.weibullnbd import WeibullNBD
from micromarket.value.residual_table import _chebyshev, _lagrange
from micromarket.value.summaries import DAYS_PER_MONTH

_POINTS = 20
_STEPS = 16  # of a month


def outlook(
    model: Any, x: np.ndarray, T: np.ndarray, horizon: int, discount_rate: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of customers alive now: purchases, discounted purchases, discounted months alive within ``horizon`` months.

    Parameters
    ----------
    model : BetaGeoNBD, ModifiedBetaGeoNBD, ParetoNBD or WeibullNBD
        Fitted, in days.
    x, T : arrays (n,)
        Repeat purchases; days from the first purchase until now, whole ones.
    discount_rate : float
        Per year; purchases count in the middle of their month.

    Returns
    -------
    three arrays (n,)
    """
    oldest = int(T.max()) + 1
    pairs, index = np.unique(x.astype(np.int64) * oldest + T.astype(np.int64), return_inverse=True)
    px, pT = (pairs // oldest).astype(float), (pairs % oldest).astype(float)
    mid = discount_factors(np.arange(horizon) + 0.5, discount_rate)
    values = (_by_age if isinstance(model, WeibullNBD) else _between_ages)(model, px, pT, mid)
    expected, present, months = values[index].T
    return expected, present, months


def _sums(bought: np.ndarray, there: np.ndarray, mid: np.ndarray) -> np.ndarray:
    """Columns of the result from cumulative purchases and P(alive) at the ends of months, (n, months)."""
    now = np.concatenate([np.ones((len(there), 1)), there[:, :-1]], axis=1)
    return np.stack([bought[:, -1], np.diff(bought, axis=1, prepend=0.0) @ mid, (now + there) / 2 @ mid], axis=1)


def _exact(model: Any, x: np.ndarray, T: np.ndarray, mid: np.ndarray) -> np.ndarray:
    bought, there = model.residual_paths(x, T, np.arange(1, len(mid) + 1) * DAYS_PER_MONTH)
    return _sums(bought, there, mid)


def _between_ages(model: Any, x: np.ndarray, T: np.ndarray, mid: np.ndarray) -> np.ndarray:
    """``x``, ``T`` sorted: a polynomial in log(scale + T) through Chebyshev points for each x of many ages."""
    p = model.parameters()
    scale = min(p["alpha"], p.get("beta", np.inf))
    values = np.empty((len(x), 3))
    for first, last in pairwise(np.flatnonzero(np.diff(x, prepend=-1.0, append=np.inf))):
        ages = T[first:last]
        if len(ages) <= _POINTS:
            values[first:last] = _exact(model, x[first:last], ages, mid)
            continue
        nodes = _chebyshev(np.log(scale + ages[0]), np.log(scale + ages[-1]), _POINTS)
        known = _exact(model, np.full(_POINTS, x[first]), np.exp(nodes) - scale, mid)
        weights = _lagrange(nodes, np.log(scale + ages))
        values[first:last] = np.exp(weights @ np.log(np.maximum(known, 1e-300)))
    return values


def _by_age(model: WeibullNBD, x: np.ndarray, T: np.ndarray, mid: np.ndarray) -> np.ndarray:
    """Lifetimes don't depend on the rate: time alive by age, times each customer's rate (r + x) / (alpha + T)."""
    p = model.parameters()
    ages, index = np.unique(T, return_inverse=True)
    # finer towards 0, where the risk of leaving may rise or fall without bound
    grid = np.linspace(0.0, 1.0, _STEPS + 1) ** 2
    grid = (np.arange(len(mid))[:, None] + grid[:-1]).ravel()
    grid = np.append(grid, len(mid)) * DAYS_PER_MONTH
    alive = model.survival(ages[:, None] + grid) / model.survival(ages)[:, None]
    lived = np.cumsum((alive[:, 1:] + alive[:, :-1]) / 2 * np.diff(grid), axis=1)[:, _STEPS - 1 :: _STEPS]
    months = _sums(lived, alive[:, _STEPS::_STEPS], mid)[index]
    rate = (p["r"] + x) / (p["alpha"] + T)
    return np.stack([rate * months[:, 0], rate * months[:, 1], months[:, 2]], axis=1)
