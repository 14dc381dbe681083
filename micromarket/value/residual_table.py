"""Residual purchases of many customers by interpolation: thousands of markets, each with parameters of its own."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from micromarket.value.models.quadrature import beta_nodes, paths_at_nodes, second_moment


class ResidualTable:
    """Logarithms of positive outputs of :func:`.quadrature.residual_paths` on Chebyshev points.

    For each number of repeat purchases x the outputs are smooth in log(alpha + T) and in the logit of the mean dropout
    probability, so a polynomial through 12 x 6 points is exact to about 4 digits and costs no integral per customer.

    Parameters
    ----------
    r, kappa : float
        BG/NBD's r and a + b of the segment.
    levels : array
        The values of x that occur.
    log_scale, logit : (lowest, highest)
        Ranges of log(alpha + T) and logit(a / (a + b)).
    times : array
        Times of the paths.
    outputs : callable
        (purchases, alive), each (n, times) -> (n, q), positive. One more output follows them: the second moment over
        customers of what they will buy up to ``times[horizon]``, over the square of its mean.
    first : int
        1 for MBG/NBD, whose customers have stayed once more than they have bought again.
    """

    def __init__(
        self,
        r: float,
        kappa: float,
        levels: np.ndarray,
        log_scale: tuple[float, float],
        logit: tuple[float, float],
        times: np.ndarray,
        outputs: Callable[[np.ndarray, np.ndarray], np.ndarray],
        horizon: int = -1,
        points: tuple[int, int] = (12, 6),
        first: int = 0,
    ):
        self._scale_nodes = _chebyshev(*log_scale, points[0])
        self._logit_nodes = _chebyshev(*logit, points[1])
        self.levels = np.unique(np.asarray(levels, float))
        share = 1 / (1 + np.exp(-self._logit_nodes))
        scale = np.exp(self._scale_nodes)
        grids = []
        for x in self.levels:
            p, weights = beta_nodes(kappa * share, kappa * (1 - share) + x + first)
            rows = np.repeat(np.arange(points[1]), points[0])
            purchases, alive = paths_at_nodes(
                np.full(len(rows), r + x), np.tile(scale, points[1]), p[rows], weights[rows], times
            )
            second = second_moment(np.full(len(rows), r + x), np.tile(scale, points[1]), p[rows], weights[rows],
                                   times[horizon])  # fmt: skip
            spread = second / np.maximum(purchases[:, horizon], 1e-150) ** 2
            values = np.concatenate([outputs(purchases, alive), spread[:, None]], axis=1)
            grid = np.log(np.maximum(values, 1e-300))
            grids.append(grid.reshape(points[1], points[0], -1))
        self._values = np.stack(grids)  # (levels, logit, scale, outputs)

    def __call__(self, x: np.ndarray, log_scale: np.ndarray, logit: np.ndarray, outputs: slice) -> np.ndarray:
        """Outputs (n, q) for customers with x repeat purchases (a value of ``levels``)."""
        level = np.searchsorted(self.levels, x)
        result = np.empty((len(x), len(range(*outputs.indices(self._values.shape[3])))))
        order = np.argsort(level, kind="stable")
        edges = np.flatnonzero(np.diff(level[order], prepend=-1, append=len(self.levels)))
        for first, last in pairwise(edges):
            for lo in range(first, last, 50_000):  # bounds the memory
                rows = order[lo : min(lo + 50_000, last)]
                along = _lagrange(self._scale_nodes, log_scale[rows])
                across = _lagrange(self._logit_nodes, logit[rows])
                values = self._values[level[rows[0]], :, :, outputs]
                at = np.tensordot(along, values, axes=(1, 1))  # (n, logit, outputs)
                result[rows] = np.exp(np.einsum("nl,nlq->nq", across, at))
        return result


def _chebyshev(low: float | np.floating | np.ndarray, high: float | np.floating | np.ndarray, n: int) -> np.ndarray:
    low, high = float(low), float(high)
    width = max(high - low, 0.05)
    middle = (low + high) / 2
    return middle + width / 2 * 1.02 * np.cos(np.pi * (np.arange(n)[::-1] + 0.5) / n)


def _lagrange(nodes: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Weights (len(at), n) of the values at ``nodes`` (barycentric form; Berrut & Trefethen 2004)."""
    n = len(nodes)
    k = np.arange(n)[::-1]
    weights = (-1.0) ** k * np.sin(np.pi * (k + 0.5) / n)
    at = np.clip(at, nodes[0] - 0.1, nodes[-1] + 0.1)
    away = at[:, None] - nodes[None, :]
    hit = np.abs(away) < 1e-12
    away[hit] = 1e-12
    terms = weights / away
    return terms / terms.sum(axis=1, keepdims=True)
