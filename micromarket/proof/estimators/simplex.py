"""Least squares over weights that are at least 0 and add up to 1: one problem exactly, or thousands at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

Array = NDArray[np.float64]


def simplex_weights(columns: Array, target: Array, ridge: float = 0.0) -> Array:
    """Weights w on the simplex that minimise ``|columns @ w - target|^2 + ridge |w|^2``, exactly.

    With the sum fixed at 1 the problem is ``min |M w|`` with ``M = columns - target``: homogeneous in w, so the
    non-negative least squares of ``[M; 1] w = [0; 1]`` has the same direction whatever the weight of its last row.

    Parameters
    ----------
    columns : array of shape (periods, units)
    target : array of shape (periods,)
    ridge : float
        In the units of ``columns`` squared.
    """
    units = columns.shape[1]
    if units == 1:
        return np.ones(1)
    m = columns - target[:, None]
    if ridge > 0:
        m = np.vstack([m, np.sqrt(ridge) * np.eye(units)])
    size = float(np.sqrt((m**2).mean())) * np.sqrt(len(m))
    if size <= 0:
        return np.full(units, 1 / units)
    stacked = np.vstack([m / size, np.ones(units)])
    solved = nnls(stacked, np.r_[np.zeros(len(m)), 1.0], maxiter=30 * units)[0]
    total = float(solved.sum())
    return solved / total if total > 0 else np.full(units, 1 / units)


def many_simplex_weights(gram: Array, cross: Array, allowed: NDArray[np.bool_], steps: int = 400) -> Array:
    """The same for many targets over one pool of units: rows minimise ``w' gram w / 2 - cross' w`` over the simplex.

    Accelerated projected gradients on all rows together (Beck & Teboulle 2009, *SIAM J. Imaging Sciences* 2:183-202),
    restarted where a row stops descending (O'Donoghue & Candes 2015).

    Parameters
    ----------
    gram : array of shape (units, units)
        ``columns' columns`` plus any ridge on its diagonal.
    cross : array of shape (problems, units)
        ``columns' target`` of every problem.
    allowed : bool array of shape (problems, units)
        Units that may carry weight; at least one a row.

    Returns
    -------
    array of shape (problems, units)
    """
    step = 1 / max(float(np.linalg.eigvalsh(gram)[-1]), 1e-300)
    w = allowed / allowed.sum(axis=1, keepdims=True)
    ahead, t = w.copy(), np.ones((len(w), 1))
    for turn in range(steps):
        after = _project(ahead - step * (ahead @ gram - cross), allowed)
        uphill = ((ahead - after) * (after - w)).sum(axis=1, keepdims=True) > 0
        t = np.where(uphill, 1.0, t)
        grown = (1 + np.sqrt(1 + 4 * t**2)) / 2
        ahead = after + np.where(uphill, 0.0, (t - 1) / grown) * (after - w)
        moved = float(np.abs(after - w).max())
        w, t = after, grown
        if turn > 20 and moved < 1e-6:
            break
    return w


def _project(x: Array, allowed: NDArray[np.bool_]) -> Array:
    """Nearest points of the simplex, row by row (Duchi et al. 2008, *ICML*)."""
    masked = np.where(allowed, x, -np.inf)
    ordered = -np.sort(-masked, axis=1)
    some = np.isfinite(ordered)
    total = np.cumsum(np.where(some, ordered, 0.0), axis=1) - 1
    rank = np.arange(1, x.shape[1] + 1)
    inside = some & (np.where(some, ordered, 0.0) - total / rank > 0)
    last = inside.sum(axis=1)
    shift = total[np.arange(len(x)), last - 1] / last
    return np.where(allowed, np.maximum(x - shift[:, None], 0.0), 0.0)
