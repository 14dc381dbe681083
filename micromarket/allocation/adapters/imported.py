"""Curves of another model over the window of its data, ready for our solver."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from micromarket.allocation.problem import Allocation
from micromarket.allocation.sampled import Sampled
from micromarket.allocation.solver import optimise

Array = NDArray[np.float64]
GRID = np.concatenate([np.linspace(0.0, 1.0, 17), np.linspace(1.0, 3.0, 17)[1:]])


@dataclass(frozen=True)
class Imported:
    """Another model's curves over the window of its data, cell by cell (markets, then channels).

    Attributes
    ----------
    markets, channels : tuple of str
        Cell ``i`` is market ``i // len(channels)`` and channel ``i % len(channels)``.
    current : array (cells,)
        Money spent over the window.
    grid : array (levels,)
        Multiples of the current money.
    values : array (draws, cells, levels)
        Value that each draw says such money brings over the window (outcome x ``value``).
    """

    markets: tuple[str, ...]
    channels: tuple[str, ...]
    current: Array
    grid: Array
    values: Array

    @property
    def curves(self) -> Sampled:
        """Mean over the draws; cells without money keep none, as no pattern of theirs can be multiplied."""
        unit = np.where(self.current > 0, self.current, 1.0)
        return Sampled.fitted(unit, self.grid, np.maximum(self.values.mean(axis=0), 0.0))

    def allocate(self, total: float | None = None, **limits: Any) -> Allocation:
        """The best allocation of ``total`` (default: the money spent); ``limits`` as in :func:`~.solver.optimise`."""
        high = limits.pop("high", None)
        most = self.current * self.grid[-1]
        limits["high"] = most if high is None else np.minimum(np.asarray(high, float), most)
        return optimise(
            self.curves, self.current, total=float(self.current.sum()) if total is None else total, **limits
        )

    def gains(self, spend: Array) -> Array:
        """Value by draw that ``spend`` (cells,) brings more than the current money."""
        share = np.where(self.current > 0, spend / np.where(self.current > 0, self.current, 1.0), 0.0)
        share = np.clip(share, 0.0, self.grid[-1])
        k = np.clip(np.searchsorted(self.grid, share, side="right") - 1, 0, len(self.grid) - 2)
        part = (share - self.grid[k]) / (self.grid[k + 1] - self.grid[k])
        cells, one = np.arange(len(share)), int(np.searchsorted(self.grid, 1.0))
        at = self.values[:, cells, k] * (1 - part) + self.values[:, cells, k + 1] * part
        return np.asarray((at - self.values[:, :, one] * (self.current > 0)).sum(axis=1))


def imported(
    reached: Callable[[int, float], Array],
    draws: int,
    money: Array,
    names: tuple[tuple[str, ...], tuple[str, ...]],
    grid: Array,
) -> Imported:
    grid = np.asarray(grid, float)
    if grid[0] != 0 or (np.diff(grid) <= 0).any() or 1.0 not in grid:
        raise ValueError("a grid that rises from 0 and holds 1")
    values = np.empty((draws, money.size, len(grid)))
    for d in range(draws):
        for k, factor in enumerate(grid):
            values[d, :, k] = reached(d, float(factor)).reshape(-1)
    return Imported(names[0], names[1], money.reshape(-1), grid, values)


def last(make: Callable[[int], Array]) -> Callable[[int], Array]:
    """``make``, which remembers its last answer: every level of a draw asks for the same."""
    kept: dict[int, Array] = {}

    def get(d: int) -> Array:
        if d not in kept:
            kept.clear()
            kept[d] = make(d)
        return kept[d]

    return get


def carried(x: Array, decay: Array, lags: int, normalise: bool = True) -> Array:
    """Geometric adstock over ``lags`` times: ``x`` (markets, times, channels), ``decay`` ([markets,] channels)."""
    lags = min(lags, x.shape[1])
    decay = np.broadcast_to(decay, (x.shape[0], x.shape[2]))[:, None, :]
    weight = np.ones_like(decay)
    out, total = np.zeros_like(x), np.zeros_like(decay)
    for lag in range(lags):
        out[:, lag:] += weight * x[:, : x.shape[1] - lag]
        total = total + weight
        weight = weight * decay
    return np.asarray(out / total if normalise else out)
