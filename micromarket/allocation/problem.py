"""An allocation problem in numbers of moderate size, and the certificate of any answer to it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from micromarket.allocation.curves import Curves

Array = NDArray[np.float64]
Index = NDArray[np.int64]
FAMILIES = ("market", "channel", "region")
SMALL = 120  # cells


def tally(code: Index, weight: Array, size: int) -> Array:
    """Sums of ``weight`` by group."""
    return np.bincount(code, weight, size).astype(float, copy=False)


@dataclass(frozen=True)
class Group:
    """Bounds on sums over groups of cells. ``code``: group of each cell, 0..n-1; ``low``, ``high``: money by group."""

    code: NDArray[np.int64]
    low: Array
    high: Array
    names: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.low)

    def named(self, number: int) -> str:
        return str(self.names[number]) if len(self.names) else f"number {number}"


@dataclass(frozen=True)
class Certificate:
    """``duality_gap``: upper bound on what the optimum is better by, relative to the objective; ``max_violation``:
    largest breach of a limit, relative to the total; ``iterations`` of the solver."""

    duality_gap: float
    max_violation: float
    iterations: int


@dataclass(frozen=True)
class Allocation:
    """The answer and its proof.

    Attributes
    ----------
    spend : array (cells,)
        Money.
    objective : float
        Value of it.
    price : float
        Value of the last unit of money of the total.
    prices : dict of arrays
        What each market's, channel's and region's limits add to that price: positive where an upper limit binds, and
        a unit more of it would bring as much; negative where a lower limit does; 0 where neither.
    shift_price : float
        Value of one more unit of money that may move (0 where the cap does not bind).
    certificate : Certificate
    """

    spend: Array
    objective: float
    price: float
    prices: dict[str, Array]
    certificate: Certificate
    shift_price: float = 0.0


class Problem:
    """``x = ref + up - down``; money in units of the mean cell, value in units of what that money brings at the margin.

    Rows are sums of x (total, markets, channels, regions, as far as given), then the sum of moves where that is capped;
    a price by row is the value of a unit more of its upper limit (positive) or of its lower limit (negative).
    """

    def __init__(
        self,
        curves: Curves,
        now: Array,
        low: Array,
        high: Array,
        groups: dict[str, Group],
        total: float,
        max_shift: float | None = None,
        min_return: float | None = None,
    ):
        self.unit = max(total / max(len(now), 1), float(high.max()) * 1e-6 if len(high) else 0.0, 1e-12)
        with np.errstate(divide="ignore", over="ignore"):
            slope = curves.marginal(np.clip(now, np.maximum(low, 1e-9 * self.unit), high)) * self.unit
        whole = float((curves.value(high) / np.maximum(high / self.unit, 1e-12)).mean()) if len(high) else 0.0
        worth = max(float(slope[np.isfinite(slope)].mean()) if np.isfinite(slope).any() else 0.0, 1e-3 * whole)
        self.worth = worth if worth > 1e-250 else 1.0  # nothing is worth anything: any legal money is best
        scale = 1 / self.unit
        self.curves = curves.scaled(self.unit, self.worth)
        self.low, self.high, self.now = low * scale, high * scale, now * scale
        self.capped = max_shift is not None
        # without a cap on moves only the box matters: everything is a move up from the lowest money
        self.ref = self.now if self.capped else self.low
        self.charge = 0.0 if min_return is None else min_return * self.unit / self.worth
        self.groups = groups
        self.total = total * scale
        rows_low, rows_high = [np.array([-np.inf if min_return is not None else self.total])], [np.array([self.total])]
        self.offset = {}
        count = 1
        for family in FAMILIES:
            if family in groups:
                self.offset[family] = count
                rows_low.append(groups[family].low * scale)
                rows_high.append(groups[family].high * scale)
                count += len(groups[family])
        if max_shift is not None:
            self.offset["shift"] = count
            rows_low.append(np.array([-np.inf]))
            rows_high.append(np.array([2 * max_shift * scale]))
        self.row_low, self.row_high = np.concatenate(rows_low), np.concatenate(rows_high)
        # small problems: the sums as one dense matrix, which is quicker than sparse ones
        self.few: Array | None = None
        if len(now) <= SMALL and count <= SMALL // 2:
            parts = [np.ones((1, len(now)))] + [np.eye(len(g))[:, g.code] for _, g in self.families()]
            self.few = np.concatenate(parts)

    def restricted(self, curves: Curves, low: Array, high: Array) -> Problem:
        """The same limits with other curves (scaled as these) and tighter boxes."""
        out = copy.copy(self)
        out.curves, out.low, out.high = curves, low, high
        if not self.capped:
            out.ref = low
        return out

    def sampled(self, cells: Index) -> Problem:
        """A smaller problem with nearly the same prices: some cells, and as much of each limit as their share."""
        out = copy.copy(self)
        out.few = None
        middle = np.clip(self.now, self.low, np.minimum(self.high, self.low + 10.0)) + 1e-9
        share = self.sums(middle, middle)
        out.curves = self.curves.take(cells)
        out.low, out.high, out.now, out.ref = (v[cells] for v in (self.low, self.high, self.now, self.ref))
        out.groups = {}
        for family, group in self.families():
            out.groups[family] = Group(group.code[cells], group.low, group.high)
        part = out.sums(middle[cells], middle[cells]) / np.maximum(share, 1e-300)
        if "market" in self.groups:  # only markets that are in it
            first, size = self.offset["market"], len(self.groups["market"])
            kept, code = np.unique(out.groups["market"].code, return_inverse=True)
            bounds = self.groups["market"]
            out.groups["market"] = Group(code, bounds.low[kept], bounds.high[kept])
            rows = np.concatenate([np.arange(first), first + kept, np.arange(first + size, len(part))])
            part[first : first + size] = 1.0
            out.offset = {f: o - (size - len(kept) if o > first else 0) for f, o in self.offset.items()}
        else:
            rows = np.arange(len(part))
        with np.errstate(invalid="ignore"):
            out.row_low, out.row_high = self.row_low[rows] * part[rows], self.row_high[rows] * part[rows]
        out.total = float(out.row_high[0])
        return out

    def sums(self, x: Array, moves: Array) -> Array:
        """Rows of the constraint matrix: sums of x (total, groups), then the sum of moves."""
        parts = [np.array([x.sum()])]
        parts += [tally(g.code, x, len(g)) for _, g in self.families()]
        if self.capped:
            parts.append(np.array([moves.sum()]))
        return np.concatenate(parts)

    def families(self) -> list[tuple[str, Group]]:
        return [(f, self.groups[f]) for f in FAMILIES if f in self.groups]

    def spread(self, y: Array) -> tuple[Array, float]:
        """Transpose of :meth:`sums`: price by cell of a unit of x, and of a unit of moves."""
        price = np.full(len(self.low), y[0])
        for family, group in self.families():
            first = self.offset[family]
            price += y[first : first + len(group)][group.code]
        return price, float(y[-1]) if self.capped else 0.0

    def answer(self, x: Array, price: Array, iterations: int) -> Allocation:
        """``x`` in money with its certificate at ``price`` (rows): the Lagrangian bound, exact at any prices."""
        x = np.clip(x, self.low, self.high)
        reached = self.sums(x, np.abs(x - self.ref))
        breach = max(float((self.row_low - reached).max()), float((reached - self.row_high).max()), 0.0)
        price = np.where(np.isfinite(self.row_high), price, np.minimum(price, 0.0))
        price = np.where(np.isfinite(self.row_low), price, np.maximum(price, 0.0))
        objective = float(self.curves.value(x).sum())
        better = self.bound(price) - (objective - self.charge * float(x.sum()))
        gap = max(better, 0.0) / max(abs(objective), 1e-9 * len(x))
        certificate = Certificate(float(gap), breach / max(self.total, 1e-12), iterations)
        rate = self.worth / self.unit
        prices = {}
        for family, group in self.families():
            first = self.offset[family]
            prices[family] = price[first : first + len(group)] * rate
        moves = float(price[-1]) * 2 * rate if self.capped else 0.0
        return Allocation(
            x * self.unit, objective * self.worth, (float(price[0]) + self.charge) * rate, prices, certificate, moves
        )

    def bound(self, price: Array) -> float:
        """No allocation within the limits has a value (less ``charge``) above this, whatever the prices are."""
        by_cell, by_move = self.spread(price)
        by_cell = by_cell + self.charge
        inner = self.response(by_cell, by_move)
        with np.errstate(invalid="ignore", over="ignore"):  # prices that exploded prove nothing, and need not
            worth = float((self.curves.value(inner) - by_cell * inner).sum())
        worth -= by_move * float(np.abs(inner - self.ref).sum()) if by_move else 0.0
        upper, lower = price > 0, price < 0
        return worth + float(price[upper] @ self.row_high[upper]) + float(price[lower] @ self.row_low[lower])

    def response(self, price: Array, by_move: float) -> Array:
        """Money that each cell would take at ``price`` a unit and ``by_move`` a unit of change from the reference."""
        if not by_move:
            return np.clip(self.curves.demand(price), self.low, self.high)
        more, less = self.curves.demand(price + by_move), self.curves.demand(price - by_move)
        x = np.where(more > self.ref, more, np.where(less < self.ref, less, self.ref))
        return np.clip(x, self.low, self.high)

    def rows_of(self, found: Allocation) -> Array:
        """Prices by row, in this problem's numbers, of an answer to a problem of the same rows."""
        rate = self.unit / self.worth
        parts = [np.array([found.price * rate - self.charge])]
        parts += [found.prices.get(f, np.zeros(len(g))) * rate for f, g in self.families()]
        if self.capped:
            parts.append(np.array([found.shift_price / 2 * rate]))
        return np.concatenate(parts)
