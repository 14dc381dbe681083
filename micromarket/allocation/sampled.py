"""Curves known at some levels of money only, and cells that have curves of several families."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from micromarket.allocation.curves import Curves, Family

Array = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True)
class Sampled:
    """Curves whose marginal value is known at ``grid`` times ``unit`` and linear between.

    Attributes
    ----------
    unit : array (cells,)
        Money that is 1 on the grid, above 0 (today's money, say).
    grid : array (levels,)
        Rising, from 0.
    slopes : array (cells, levels)
        Marginal value, at least 0; rising up to one level and falling after it (use :meth:`fitted` to see to that).

    See Also
    --------
    fitted : from values at the grid, such as means over the draws of another model's posterior.
    """

    unit: Array
    grid: Array
    slopes: Array

    @classmethod
    def fitted(cls, unit: Array, grid: Array, values: Array) -> Sampled:
        """Curves through ``values`` (cells, levels; the first is taken off), as nearly as unimodal slopes can.

        Slopes at the grid are differences over both sides of a level, made to rise and then fall (never below 0), and
        scaled so that each curve ends where its values do.
        """
        unit = np.asarray(unit, float)
        grid = np.asarray(grid, float)
        rise = np.maximum(np.diff(np.asarray(values, float), axis=1), 0.0)
        step = np.diff(grid)
        mean = rise / step
        inner = (mean[:, :-1] * step[1:] + mean[:, 1:] * step[:-1]) / (step[1:] + step[:-1])
        first = np.maximum(mean[:, :1] + (mean[:, :1] - inner[:, :1]), 0.0)
        last = np.maximum(mean[:, -1:] + (mean[:, -1:] - inner[:, -1:]), 0.0)
        slopes = np.concatenate([first, inner, last], axis=1)
        peak = slopes.argmax(axis=1)[:, None]
        level = np.arange(len(grid))[None]
        up = np.maximum.accumulate(slopes, axis=1)
        # a little steeper where flat: the marginal value then has an inverse
        down = np.minimum.accumulate(np.where(level < peak, np.inf, slopes), axis=1) * (1 - 1e-7 * level / len(grid))
        slopes = np.where(level < peak, up, down)
        end = (step * (slopes[:, 1:] + slopes[:, :-1]) / 2).sum(axis=1)
        slopes = slopes * (rise.sum(axis=1) / np.maximum(end, 1e-300))[:, None]
        return cls(unit, grid, slopes / unit[:, None])

    def __len__(self) -> int:
        return len(self.unit)

    @cached_property
    def _reached(self) -> Array:
        steps = np.diff(self.grid) * (self.slopes[:, 1:] + self.slopes[:, :-1]) / 2
        return np.concatenate([np.zeros((len(self), 1)), np.cumsum(steps, axis=1)], axis=1) * self.unit[:, None]

    def _at(self, x: Array) -> tuple[Index, Index, Array, Array]:
        share = x / self.unit
        k = np.clip(np.searchsorted(self.grid, share, side="right") - 1, 0, len(self.grid) - 2)
        step = self.grid[k + 1] - self.grid[k]
        return np.arange(len(self)), k, np.clip((share - self.grid[k]) / step, 0.0, 1.0), step * self.unit

    def value(self, x: Array) -> Array:
        row, k, part, width = self._at(x)
        first, last = self.slopes[row, k], self.slopes[row, k + 1]
        return self._reached[row, k] + width * part * (first + (last - first) * part / 2)

    def marginal(self, x: Array) -> Array:
        row, k, part, _ = self._at(x)
        return self.slopes[row, k] + (self.slopes[row, k + 1] - self.slopes[row, k]) * part

    def bend(self, x: Array) -> Array:
        row, k, _, width = self._at(x)
        return (self.slopes[row, k] - self.slopes[row, k + 1]) / width

    def demand(self, price: Array) -> Array:
        row, enough = np.arange(len(self)), self.slopes >= price[:, None]
        last = len(self.grid) - 1 - enough[:, ::-1].argmax(axis=1)
        none, k = ~enough.any(axis=1), np.minimum(last, len(self.grid) - 2)
        fall = self.slopes[row, k] - self.slopes[row, k + 1]
        part = np.where(last > k, 1.0, (self.slopes[row, k] - price) / np.where(fall > 0, fall, 1.0))
        wanted = (self.grid[k] + np.clip(part, 0.0, 1.0) * (self.grid[k + 1] - self.grid[k])) * self.unit
        return np.where(price > 0, np.where(none, 0.0, wanted), np.inf)

    @property
    def inflection(self) -> Array:
        return self.grid[self.slopes.argmax(axis=1)] * self.unit

    @property
    def reach(self) -> Array:
        return self.grid[-1] * self.unit

    def take(self, index: Index) -> Sampled:
        return Sampled(self.unit[index], self.grid, self.slopes[index])

    def scaled(self, unit: float, worth: float) -> Sampled:
        return Sampled(self.unit / unit, self.grid, self.slopes * (unit / worth))


@dataclass(frozen=True)
class Mixed:
    """Cells of several families. ``parts``: the families' curves; ``where``: the cells of each, all cells once."""

    parts: tuple[Curves, ...]
    where: tuple[Index, ...]

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def _each(self, name: str, at: Array) -> Array:
        out = np.empty(len(self))
        for part, index in zip(self.parts, self.where, strict=True):
            out[index] = getattr(part, name)(at[index])
        return out

    def value(self, x: Array) -> Array:
        return self._each("value", x)

    def marginal(self, x: Array) -> Array:
        return self._each("marginal", x)

    def bend(self, x: Array) -> Array:
        return self._each("bend", x)

    def demand(self, price: Array) -> Array:
        return self._each("demand", price)

    def _known(self, name: str) -> Array:
        out = np.empty(len(self))
        for part, index in zip(self.parts, self.where, strict=True):
            out[index] = getattr(part, name)
        return out

    @property
    def inflection(self) -> Array:
        return self._known("inflection")

    @property
    def reach(self) -> Array:
        return self._known("reach")

    def take(self, index: Index) -> Mixed:
        place = np.full(len(self), -1, np.int64)
        parts, where = [], []
        for part, own in zip(self.parts, self.where, strict=True):
            place[:] = -1
            place[own] = np.arange(len(own))
            here = place[index]
            parts.append(part.take(here[here >= 0]))
            where.append(np.flatnonzero(here >= 0))
        return Mixed(tuple(parts), tuple(where))

    def scaled(self, unit: float, worth: float) -> Mixed:
        return Mixed(tuple(part.scaled(unit, worth) for part in self.parts), self.where)


def weighted(curves: Curves, weight: Array) -> Curves:
    """``curves`` with every cell's value times its ``weight``, at least 0."""
    if isinstance(curves, Mixed):
        parts = [weighted(part, weight[index]) for part, index in zip(curves.parts, curves.where, strict=True)]
        return Mixed(tuple(parts), curves.where)
    if isinstance(curves, Sampled):
        return replace(curves, slopes=curves.slopes * weight[:, None])
    if not isinstance(curves, Family):
        raise TypeError(f"curves of a known family, not {type(curves).__name__}")
    return replace(curves, amplitude=curves.amplitude * weight)
