"""The best legal use of money over response curves, with a proof that nothing better exists.

Maximises the sum of curves over the money x of cells (market x channel), with bounds on cells, on sums by market,
region and channel, on the total, and on how much money changes place. Concave problems go to Newton's method on the
prices (:mod:`.dual`), and where that does not reach its tolerance to an interior-point method (:mod:`.interior_point`);
S-shaped curves and minimum tickets to :mod:`.branching`. The certificate is the gap to the Lagrangian bound, which is
computed exactly from the prices and holds whatever way they were found.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from micromarket.allocation.branching import solve_nonconcave
from micromarket.allocation.clashes import check_sums, explain
from micromarket.allocation.curves import Curves, Hyperbolic
from micromarket.allocation.dual import dual_newton
from micromarket.allocation.interior_point import interior_point
from micromarket.allocation.problem import FAMILIES, Allocation, Certificate, Group, Problem

__all__ = ["Allocation", "Certificate", "Group", "allocate", "optimise"]

Array = NDArray[np.float64]


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
    min_ticket: float = 0.0,
    tolerance: float = 1e-10,
    max_iterations: int = 200,
    start: Allocation | None = None,
) -> Allocation:
    """The allocation of ``total`` with the greatest value, over curves ``value x amplitude x / (x + half_spend)``.

    Parameters
    ----------
    amplitude, half_spend, value : arrays (cells,)
        Customers at most; money with half of them; money per customer. Negative amplitude x value counts as 0.
    current, total, low, high, market, channel, region, max_shift, min_return, min_ticket, tolerance, max_iterations, \
start
        As in :func:`optimise`.

    Returns
    -------
    Allocation
        With the certificate that no other one is better.

    Raises
    ------
    InfeasibleError
        Naming the limits that clash, and by how much money.
    """
    weight = np.maximum(np.asarray(amplitude, float) * np.asarray(value, float), 0.0)
    curves = Hyperbolic(weight, np.maximum(np.asarray(half_spend, float), 1e-12))
    return optimise(
        curves, current, total=total, low=low, high=high, market=market, channel=channel, region=region,
        max_shift=max_shift, min_return=min_return, min_ticket=min_ticket, tolerance=tolerance,
        max_iterations=max_iterations, start=start,
    )  # fmt: skip


def optimise(
    curves: Curves,
    current: Array,
    *,
    total: float | None,
    low: Array | None = None,
    high: Array | None = None,
    market: Group | None = None,
    channel: Group | None = None,
    region: Group | None = None,
    max_shift: float | None = None,
    min_return: float | None = None,
    min_ticket: float = 0.0,
    tolerance: float = 1e-10,
    max_iterations: int = 200,
    start: Allocation | None = None,
) -> Allocation:
    """The allocation of ``total`` with the greatest value, over curves of any family.

    Parameters
    ----------
    curves : Curves
        Value of money by cell; see :mod:`micromarket.allocation.curves`. S-shaped ones may be among them.
    current : array (cells,)
        Money now.
    total : float or None
        Money to spend: exactly, or at most where ``min_return`` is given. ``None`` (with ``min_return``): as much as
        the other limits let pay.
    low, high : arrays (cells,), optional
        Bounds of each cell (money); default 0 and ``total``. A blocked cell has both at its current money. Money
        beyond what the curves are known for (``curves.reach``) is never given.
    market, channel, region : Group, optional
        Bounds of sums; every cell is in one group of each. Markets may have cells in several regions.
    max_shift : float, optional
        Money: half of the sum of ``|x - current|`` at most.
    min_return : float, optional
        Value that a unit of money must bring; money that brings less stays unspent, as far as lower bounds let it.
    min_ticket : float
        A cell gets nothing or at least this much money; cells whose two bounds are equal (blocked) are exempt.
    tolerance : float
        Wanted duality gap, relative to the value. Where S-shaped curves or tickets leave more, the certificate says so.
    max_iterations : int
        Of the interior-point method.
    start : Allocation, optional
        The answer to a like problem (same groups, other total, say): its prices are a head start.

    Returns
    -------
    Allocation
        Deterministic; ``certificate.duality_gap`` bounds what any allocation within the limits could be better by.

    Raises
    ------
    InfeasibleError
        Naming the limits that clash, by how much money, and what would put it right at the least.
    """
    problem = _problem(curves, current, total, low, high, (market, channel, region), max_shift, min_return, min_ticket)
    ticket = min_ticket / problem.unit
    prices = None if start is None or not _alike(problem, start) else problem.rows_of(start)
    if ticket > 0 or (problem.curves.inflection > problem.low).any():
        found = solve_nonconcave(problem, ticket, tolerance, prices)
        if found is None:
            raise explain(problem, min_ticket)
        return found
    found = solve_concave(problem, tolerance, max_iterations, prices)
    if found.certificate.max_violation > 1e-6:
        raise explain(problem)
    return found


def solve_concave(
    problem: Problem, tolerance: float = 1e-10, max_iterations: int = 200, prices: Array | None = None
) -> Allocation:
    """The fast way, then the sure one; the better of the two answers."""
    first = dual_newton(problem, prices)
    if first is not None and _worst(first) < tolerance:
        return first
    second = interior_point(problem, tolerance, max_iterations)
    return second if first is None or _worst(second) <= _worst(first) else first


def _worst(found: Allocation) -> float:
    worst = max(found.certificate.duality_gap, 10 * found.certificate.max_violation)
    return worst if np.isfinite(worst) else np.inf


def _alike(problem: Problem, start: Allocation) -> bool:
    families = {f: len(g) for f, g in problem.families()}
    return families == {f: len(p) for f, p in start.prices.items()}


def _problem(
    curves: Curves,
    current: Array,
    total: float | None,
    low: Array | None,
    high: Array | None,
    groups: tuple[Group | None, ...],
    max_shift: float | None,
    min_return: float | None,
    min_ticket: float,
) -> Problem:
    n, now = len(curves), np.asarray(current, float)
    if len(now) != n:
        raise ValueError(f"current has {len(now)} cells, curves have {n}")
    if total is None and min_return is None:
        raise ValueError("a total, or a min_return that says how much is worth spending")
    low = np.zeros(n) if low is None else np.maximum(np.asarray(low, float), 0.0)
    if high is None:
        high = np.full(n, np.inf if total is None else float(total))
    high = np.minimum(np.asarray(high, float), np.maximum(curves.reach, low))
    if total is None:
        if not np.isfinite(high).all():
            raise ValueError("without a total every cell needs a highest money")
        total = float(high.sum())
    high = np.minimum(high, max(float(total), 0.0) + low)
    named = {k: g for k, g in zip(FAMILIES, groups, strict=True) if g is not None}
    low, high = check_sums(low, high, named, float(total), min_return is not None, min_ticket)
    return Problem(curves, now, low, high, named, float(total), max_shift, min_return)
