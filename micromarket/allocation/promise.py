"""What a plan promises, in numbers: gain with its range and odds, beside a cautious plan and the free optimum."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from micromarket.allocation.gain import Draws, risk_adjusted
from micromarket.allocation.limits import Cells, round_to_limits, solve, to_cents
from micromarket.allocation.solver import Allocation, allocate
from micromarket.config import Budget
from micromarket.errors import InfeasibleError

Array = NDArray[np.float64]
FRONTIER = (0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3)
# A cautious plan gives up this many units of expected gain per unit of its standard deviation, and moves at most this
# part of what may move.
CAUTION, CAUTIOUS_SHIFT = 1.0, 0.5


def interval(draws: Array, mean: float | None = None, width: float = 1.0) -> dict[str, Any]:
    """Mean, 90% range and odds of being positive.

    Parameters
    ----------
    draws : array (draws,)
    mean : float, optional
        What the mean is known to be.
    width : float
        Part of the spread that is believed; draws without any response stay at 0.
    """
    live = draws != 0
    near = draws.copy()
    if width != 1 and live.any():
        near[live] = draws[live].mean() + width * (draws[live] - draws[live].mean())
    low, high = np.quantile(near, [0.05, 0.95])
    expected = float(draws.mean()) if mean is None else mean
    return {"expected": expected, "low": float(min(low, expected)), "high": float(max(high, expected)),
            "p_positive": float((near > 0).mean())}  # fmt: skip


def best_within(cells: Cells, draws: Draws, limits: Budget, total: float) -> Allocation:
    """The optimum; with risk aversion a fixed point of linearised optima, of which the best is kept."""
    best = solve(cells, limits, total)
    if limits.risk_aversion <= 0:
        return best

    def score(gains: Array) -> float:
        return float(gains.mean() - limits.risk_aversion * gains.std())

    spend = best.spend
    gains = draws.gains(spend)  # of every cell and draw: what takes the time, so once for each spend
    top = score(gains)
    for step in range(12):
        weight = risk_adjusted(cells, draws, limits.risk_aversion, spend, gains)
        found = solve(cells, limits, total, weight)
        spend = spend + (found.spend - spend) * 2 / (step + 2)  # Frank-Wolfe on a concave goal
        gains = draws.gains(spend)
        if score(gains) > top:
            best, top = replace(found, spend=spend), score(gains)
    return best


def cautious_plan(cells: Cells, draws: Draws, limits: Budget, total: float) -> Array:
    """Money in cents of who would rather be sure: risk-averse, moving half of what may move."""
    aversion = max(2 * limits.risk_aversion, CAUTION)
    careful = replace(limits, risk_aversion=aversion, max_shift=CAUTIOUS_SHIFT * limits.max_shift)
    try:
        found = best_within(cells, draws, careful, total)
    except InfeasibleError:  # other limits force more moves than that
        careful = replace(limits, risk_aversion=aversion)
        found = best_within(cells, draws, careful, total)
    return round_to_limits(cells, careful, found.spend, min(round(float(found.spend.sum()), 2), total))


def free_plan(cells: Cells, total: float) -> Array:
    """Money in cents of the optimum without any limit but the total and blocked markets.

    Cells without spend today may get some: their curve is their channel's. It is a bearing, not a plan: most of it lies
    where nobody has spent yet.
    """
    low = np.where(cells.blocked, cells.current, 0.0)
    high = np.where(cells.blocked, cells.current, total)
    if float(low.sum()) > total:
        return cells.current.copy()
    found = allocate(
        cells.value * cells.amplitude,
        cells.half_spend,
        np.ones(len(low)),
        cells.current,
        total=total,
        low=low,
        high=high,
    )
    return to_cents(found.spend, total, low, high)


def frontier(
    cells: Cells, draws: Draws, limits: Budget, total: float, spend: Array, moves: bool, expected: float
) -> list[dict[str, float]]:
    """Value against today's allocation at other totals, under limits that scale with the total.

    ``expected``: what ``spend``, the plan itself, brings.
    """
    out = []
    base = total / max(float(cells.current.sum()), 1e-300)
    for step in FRONTIER:
        if step == 1.0:
            at = spend
        elif not moves:
            at = spend * step
        else:
            try:
                at = solve(cells, limits, total * step, scale=base * step).spend
            except InfeasibleError:  # blocked markets may leave no room at this total
                continue
        found = interval(draws.gains(at), expected if step == 1.0 else None, draws.width)
        out.append({"total": total * step, "value": found["expected"], "low": found["low"], "high": found["high"]})
    return out


def shadow_prices(cells: Cells, plan: Allocation, most: int = 5) -> list[dict[str, Any]]:
    """Value of one more unit of money under each limit that binds, largest first: ``limit``, ``name``, ``value``.

    For upper limits it is what a unit more would bring; for lower ones, below 0, what a unit less would save.
    """
    rows = [{"limit": "total", "name": "all markets", "value": plan.price}]
    if plan.shift_price > 0:
        rows.append({"limit": "max_shift", "name": "all moves", "value": plan.shift_price})
    names = {"market": cells.markets, "channel": cells.channels, "region": cells.regions}
    for family, prices in sorted(plan.prices.items()):
        floor = 1e-4 * max(abs(plan.price), 1e-12)
        order = np.argsort(-np.abs(prices), kind="stable")[:most]
        rows += [
            {"limit": f"{family}_change", "name": str(names[family][i]), "value": float(prices[i])}
            for i in order
            if abs(prices[i]) > floor
        ]
    return rows


def beside(draws: Draws, plans: dict[str, Array], current: Array) -> dict[str, Any]:
    """Moves and gain of every plan that stands beside the recommended one."""
    out: dict[str, Any] = {}
    for name, spend in plans.items():
        moved = float(np.abs(spend - current).sum() / 2)
        gain = interval(draws.gains(spend), width=draws.width)
        if moved == 0:
            gain["p_positive"] = None
        total = max(float(spend.sum()), 1e-300)
        out[name] = {"total": float(spend.sum()), "moved": moved, "moved_share": moved / total, "gain": gain}
    return out
