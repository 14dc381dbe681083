"""The best legal use of money over concave curves, with a proof that nothing better exists.

Maximises ``sum_i value_i * amplitude_i * x_i / (x_i + half_i)`` over the money x of cells (market x channel), with
bounds on cells, on sums by market, region and channel, on the total, and on how much money changes place. It is a
concave problem; a primal-dual interior-point method (Mehrotra 1992) solves it, with the markets' rows of the Newton
system eliminated one by one, so that a step costs a few passes over the cells. The certificate is the gap to the
Lagrangian bound, which is computed exactly from the prices and holds whatever way they were found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from micromarket.allocation.interior_point import State
from micromarket.errors import InfeasibleError, Problem

Array = NDArray[np.float64]
FAMILIES = ("market", "channel", "region")


@dataclass(frozen=True)
class Group:
    """Bounds on sums over groups of cells. ``code``: group of each cell, 0..n-1; ``low``, ``high``: money by group."""

    code: NDArray[np.int64]
    low: Array
    high: Array
    names: Sequence[str] = ()


@dataclass(frozen=True)
class Certificate:
    """``duality_gap``: upper bound on what the optimum is better by, relative to the objective; ``max_violation``:
    largest breach of a limit, relative to the total; ``iterations`` of the solver."""

    duality_gap: float
    max_violation: float
    iterations: int


@dataclass(frozen=True)
class Allocation:
    """``spend``: money by cell; ``objective``: value; ``price``: value of the last unit of money of the total;
    ``prices``: what each market's, channel's and region's limits add to that price (0: not binding)."""

    spend: Array
    objective: float
    price: float
    prices: dict[str, Array]
    certificate: Certificate


def allocate(
    amplitude: Array,
    half_spend: Array,
    value: Array,
    current: Array,
    *,
    total: float,
    low: Array | None = None,
    high: Array | None = None,
    market: Group | None = None,
    channel: Group | None = None,
    region: Group | None = None,
    max_shift: float | None = None,
    min_return: float | None = None,
    tolerance: float = 1e-10,
    max_iterations: int = 200,
) -> Allocation:
    """The allocation of ``total`` with the greatest value.

    Parameters
    ----------
    amplitude, half_spend, value, current : arrays (cells,)
        Customers at most; money with half of them; money per customer; money now. Negative amplitude x value counts as
        0.
    total : float
        Money to spend: exactly, or at most where ``min_return`` is given.
    low, high : arrays (cells,), optional
        Bounds of each cell (money); default 0 and ``total``. A blocked cell has both at its current money.
    market, channel, region : Group, optional
        Bounds of sums; every cell is in one group of each. Markets may have cells in several regions.
    max_shift : float, optional
        Money: half of the sum of ``|x - current|`` at most.
    min_return : float, optional
        Value that a unit of money must bring; money that brings less stays unspent, as far as lower bounds let it.

    Raises
    ------
    InfeasibleError
        Naming the limits that clash, and by how much money.
    """
    n = len(amplitude)
    weight = np.maximum(np.asarray(amplitude, float) * np.asarray(value, float), 0.0)
    half = np.maximum(np.asarray(half_spend, float), 1e-12)
    now = np.asarray(current, float)
    low = np.zeros(n) if low is None else np.maximum(np.asarray(low, float), 0.0)
    high = np.full(n, float(total)) if high is None else np.asarray(high, float)
    groups = {k: g for k, g in zip(FAMILIES, (market, channel, region), strict=True) if g is not None}
    low, high = _feasible_box(low, high, groups, float(total), min_return is not None)
    problem = _Problem(weight, half, now, low, high, groups, float(total), max_shift, min_return)
    return problem.solve(tolerance, max_iterations)


# --- what can't be
def _infeasible(lines: list[str]) -> InfeasibleError:
    return InfeasibleError([Problem("plan.yml", line, column="budget") for line in lines])


def _feasible_box(low: Array, high: Array, groups: dict[str, Group], total: float, free: bool) -> tuple[Array, Array]:
    """Clashes that sums of bounds already show; slips of rounding between a cell's two bounds are closed."""
    slack = 1e-9 * max(total, 1.0)
    bad = np.flatnonzero(low > high + slack)
    if len(bad):
        text = f"lowest money of a cell at most its highest ({len(bad)} cells, worst by {(low - high)[bad].max():,.2f})"
        raise _infeasible([text])
    high = np.maximum(high, low)
    lines, floor, ceiling = [], float(low.sum()), float(high.sum())
    for family, group in groups.items():
        size = len(group.low)
        least = np.bincount(group.code, low, size)
        most = np.bincount(group.code, high, size)
        for over, what in (
            (least - group.high, f"{family} limits that leave room for the lowest money of its cells"),
            (group.low - most, f"{family} limits that its cells' highest money can reach"),
            (group.low - group.high, f"lowest money of a {family} at most its highest"),
        ):
            worst = int(np.argmax(over)) if size else 0
            if size and over[worst] > slack:
                name = f" (worst: {group.names[worst]})" if len(group.names) else ""
                lines.append(f"{what}: {int((over > slack).sum())} clash by up to {over[worst]:,.2f}{name}")
        floor = max(floor, float(np.maximum(group.low, least).sum()))
        ceiling = min(ceiling, float(np.minimum(group.high, most).sum()))
    if floor > total + slack:
        lines.append(
            f"lowest limits that add up to at most the total of {total:,.2f}: they need {floor - total:,.2f} more"
        )
    if ceiling < total - slack and not free:
        lines.append(f"highest limits that add up to the total of {total:,.2f}: they allow {total - ceiling:,.2f} less")
    if lines:
        raise _infeasible(lines)
    return low, high


# --- the problem, in numbers of moderate size
class _Problem:
    """``x = ref + up - down``; money in units of the mean cell, value in units of the current value."""

    def __init__(
        self,
        weight: Array,
        half: Array,
        now: Array,
        low: Array,
        high: Array,
        groups: dict[str, Group],
        total: float,
        max_shift: float | None,
        min_return: float | None,
    ):
        self.unit = max(total / max(len(now), 1), float(high.max()) * 1e-6 if len(high) else 0.0, 1e-12)
        worth = float((weight * half / (half + np.clip(now, low, high)) ** 2).mean()) * self.unit
        self.worth = worth if worth > 1e-250 else 1.0  # nothing is worth anything: any legal money is best
        scale = 1 / self.unit
        self.weight, self.half = weight / self.worth, half * scale
        self.low, self.high = low * scale, high * scale
        self.capped = max_shift is not None
        # without a cap on moves only the box matters: everything is a move up from the lowest money
        self.ref = now * scale if self.capped else self.low
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
                count += len(groups[family].low)
        if max_shift is not None:
            self.offset["shift"] = count
            rows_low.append(np.array([-np.inf]))
            rows_high.append(np.array([2 * max_shift * scale]))
        self.row_low, self.row_high = np.concatenate(rows_low), np.concatenate(rows_high)

    # rows of the constraint matrix: sums of x (total, groups), then the sum of moves
    def sums(self, x: Array, moves: Array) -> Array:
        parts = [np.array([x.sum()])]
        parts += [np.bincount(g.code, x, len(g.low)) for _, g in self.families()]
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
            price += y[first : first + len(group.low)][group.code]
        return price, float(y[-1]) if self.capped else 0.0

    def solve(self, tolerance: float, max_iterations: int) -> Allocation:
        state = State(self)
        best, stale = None, 0
        for iteration in range(max_iterations):
            x = state.x()
            found = self._finish(x, state.y, iteration)
            worse = max(found.certificate.duality_gap, 10 * found.certificate.max_violation)
            if best is None or worse < best[0]:
                stale = 0 if best is None or worse < 0.5 * best[0] else stale + 1
                best = (worse, found)
            else:
                stale += 1
            if worse < tolerance or stale > 25 or not state.step():
                break
        assert best is not None
        if best[1].certificate.max_violation > 1e-6:
            raise self._explain(best[1])
        return best[1]

    def _finish(self, x: Array, y: Array, iteration: int) -> Allocation:
        """``x`` with its certificate in the prices ``-y``."""
        x = np.clip(x, self.low, self.high)
        moved = np.abs(x - self.ref)
        reached = self.sums(x, moved)
        breach = max(float((self.row_low - reached).max()), float((reached - self.row_high).max()), 0.0)
        price = -y.copy()
        price = np.where(np.isfinite(self.row_high), price, np.minimum(price, 0.0))
        price = np.where(np.isfinite(self.row_low), price, np.maximum(price, 0.0))
        by_cell, by_move = self.spread(price)
        by_cell = by_cell + self.charge
        inner = self._best_response(by_cell, by_move)
        bound = self._value(inner) - float(by_cell @ inner) - by_move * float(np.abs(inner - self.ref).sum())
        upper, lower = price > 0, price < 0
        bound += float(price[upper] @ self.row_high[upper]) + float(price[lower] @ self.row_low[lower])
        objective = self._value(x)
        reference = max(abs(objective), 1e-9 * len(x))
        gap = max(bound - (objective - self.charge * float(x.sum())), 0.0) / reference
        certificate = Certificate(float(gap), breach / max(self.total, 1e-12), iteration)
        prices = {}
        for family, group in self.families():
            first = self.offset[family]
            prices[family] = price[first : first + len(group.low)] * self.worth / self.unit
        total_price = (float(price[0]) + self.charge) * self.worth / self.unit
        return Allocation(x * self.unit, objective * self.worth, total_price, prices, certificate)

    def _value(self, x: Array) -> float:
        return float((self.weight * x / (x + self.half)).sum())

    def _best_response(self, price: Array, by_move: float) -> Array:
        """Money that each cell would take at ``price`` a unit and ``by_move`` a unit of change from the reference."""

        def at(p: Array) -> Array:
            with np.errstate(divide="ignore", invalid="ignore"):
                wanted = np.sqrt(self.weight * self.half / p) - self.half
            return np.where(p > 0, wanted, np.inf)

        more, less = at(price + by_move), at(price - by_move)
        x = np.where(more > self.ref, more, np.where(less < self.ref, less, self.ref))
        return np.clip(x, self.low, self.high)

    def _explain(self, closest: Allocation) -> InfeasibleError:
        """Which limits the least infeasible money still breaks."""
        x = closest.spend / self.unit
        reached = self.sums(x, np.abs(x - self.ref))
        breach = np.maximum(np.maximum(self.row_low - reached, reached - self.row_high), 0.0) * self.unit
        lines = []
        names: dict[str, Any] = {"total": slice(0, 1)}
        for family, group in self.families():
            names[family] = slice(self.offset[family], self.offset[family] + len(group.low))
        if self.capped:
            names["max_shift"] = slice(len(reached) - 1, len(reached))
        for name, rows in names.items():
            worst = float(breach[rows].max())
            if worst > 1e-7 * self.total * self.unit:
                lines.append(f"limits that can hold together: {name} cannot be kept, by {worst:,.2f} at best")
        return _infeasible(lines or ["limits that can hold together"])
