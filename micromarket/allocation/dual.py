"""The fast way to the best allocation: Newton's method on the prices of limits (:mod:`.dual_prices`).

At given prices every cell knows its money at once (the inverse of its marginal value), so that only prices are sought.
Large problems take their first prices from some of their markets. Where curves have straight parts, money is not a
function of prices; a weak pull towards the last answer makes it one (:class:`~.envelope.Pulled`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from micromarket.allocation.dual_prices import Dual
from micromarket.allocation.envelope import Envelope, Minorant, Pulled
from micromarket.allocation.problem import Allocation, Problem

Array = NDArray[np.float64]
Index = NDArray[np.int64]
FLAT = 1e-13  # marginal value, in the problem's numbers, that counts as none
PASSES = 15
SAMPLE = 6_000  # cells that find the first prices of larger problems


def dual_newton(
    problem: Problem, start: Array | None = None, tolerance: float = 1e-12, steps: int = 60, near: Array | None = None
) -> Allocation | None:
    """The optimum of a concave problem; ``None`` where the method does not get there.

    ``start``: prices by row (see :meth:`Problem.rows_of`). ``tolerance``: of violations, relative to the total.
    ``near``: money that is close to the answer, which straight parts of curves need.
    """
    p = problem
    end, slope = p.curves.line() if isinstance(p.curves, (Envelope, Minorant)) else (p.low, np.zeros(len(p.low)))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        nothing = ~(p.curves.marginal(p.low) > FLAT)
    end, slope = np.where(nothing, np.inf, end), np.where(nothing, 0.0, slope)
    straight = np.flatnonzero((p.high > p.low) & (end > p.low))
    if len(straight):
        return _proximal(p, straight, end[straight], slope[straight], start, tolerance, steps, near)
    return _newton(p, start, tolerance, steps)


def _newton(problem: Problem, start: Array | None, tolerance: float, steps: int) -> Allocation | None:
    if start is None and len(problem.low) > 4 * SAMPLE:
        start = _rough(problem)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return Dual(problem).minimise(start, tolerance, steps)


def _proximal(
    problem: Problem,
    cells: Index,
    end: Array,
    slope: Array,
    start: Array | None,
    tolerance: float,
    steps: int,
    near: Array | None,
) -> Allocation | None:
    """Cells on a straight part of their curve pull weakly towards their last money until none need be pulled.

    The proximal point method, which ends after finitely many passes on straight parts (Rockafellar 1976).
    """
    middle = np.clip(problem.now if near is None else near, problem.low, problem.high)[cells]
    best: Allocation | None = None
    for _ in range(PASSES):
        curves = Pulled(problem.curves, cells, end, slope, np.minimum(middle, end))
        pulled = problem.restricted(curves, problem.low, problem.high)
        found = _newton(pulled, start, tolerance, steps)
        if found is None:
            return best
        start = pulled.rows_of(found)
        x = found.spend / problem.unit
        answer = problem.answer(x, start, found.certificate.iterations)
        if best is None or answer.certificate.duality_gap < best.certificate.duality_gap:
            best = answer
        if answer.certificate.duality_gap < 1e-13 or found.certificate.max_violation > 1e-9:
            break
        middle = x[cells]
    return best


def _rough(problem: Problem) -> Array | None:
    """First prices, from the cells of some markets."""
    n, rng = len(problem.low), np.random.default_rng(0)
    market = problem.groups.get("market")
    if market is None:
        cells = np.sort(rng.choice(n, SAMPLE, replace=False))
    else:
        take = np.zeros(len(market), bool)
        take[rng.choice(len(market), max(SAMPLE * len(market) // n, 1), replace=False)] = True
        cells = np.flatnonzero(take[market.code])
    small = problem.sampled(cells)
    point = Dual(small)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        price = point.descend(None, 1e-6, 25)[0].price
    if market is None:
        return price
    # markets' prices start at 0; the others' at what the sample says
    out = np.zeros(len(problem.row_low))
    first, size, seen = problem.offset["market"], len(market), len(small.groups["market"])
    out[:first], out[first + size :] = price[:first], price[first + seen :]
    return out
