"""Why each cell's money changes, in words."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from micromarket.allocation.limits import Cells
from micromarket.config import Budget
from micromarket.formats import listed

Array = NDArray[np.float64]


def reasons(cells: Cells, limits: Budget, spend: Array, kept: bool) -> list[str]:
    """One sentence a cell; ``kept``: the plan as a whole keeps today's allocation.

    What moves and where to stands in the table's own columns, so it is not said again: a reason starts with the
    direction, once, and says why.
    """
    now, h = cells.current, cells.half_spend
    worth = cells.value / max(float(np.average(cells.value, weights=np.maximum(now, 1e-9))), 1e-300)
    full = now / (now + h)
    # customers per unit of money, today, against the average unit of money
    pull = cells.amplitude * h / (now + h) ** 2
    typical = float(np.average(pull, weights=np.maximum(now, 1e-9)))
    pull = pull / max(typical, 1e-300)
    change = spend - now
    in_market = np.bincount(cells.market, now, len(cells.markets))
    planned = np.bincount(cells.market, spend, len(cells.markets))
    with np.errstate(divide="ignore", invalid="ignore"):
        market_ratio = np.where(in_market > 0, planned / in_market, 1.0)[cells.market]
        ratio = np.where(now > 0, spend / now, 1.0)
    out = []
    for i, delta in enumerate(change):
        if cells.blocked[i]:
            out.append("Unchanged: the field has blocked changes here.")
        elif cells.held[i]:
            out.append("Stays at 0: nothing is spent here today, and limits are ratios of today's money.")
        elif kept and abs(delta) < 0.005:
            out.append("Unchanged: no move would clearly pay, given how uncertain the effect of spend is.")
        elif abs(delta) < 0.005:
            out.append("Unchanged: the last unit of money brings about as much here as elsewhere.")
        else:
            out.append(_moved(delta > 0, worth[i], full[i], pull[i]) + _bound(ratio[i], market_ratio[i], limits) + ".")
    return out


def _moved(up: bool, worth: float, full: float, pull: float) -> str:
    """Only what speaks for the move, two things at most: ratios near 1 are left out, ratios near 0 put in words."""
    said = []
    if (pull >= 1.1) if up else (pull <= 0.9):
        many = "almost no new customers" if pull < 0.05 else f"{_ratio(pull)} the usual new customers"
        said.append(f"the next unit of money wins {many}")
    if (worth >= 1.1) if up else (worth <= 0.9):
        said.append(f"a new customer is worth {'almost nothing' if worth < 0.05 else f'{_ratio(worth)} the average'}")
    if up and full <= 0.4:
        said.append("spend is far from saturation")
    elif not up and full >= 0.6:
        said.append("spend is near saturation")
    if not said:
        said.append(f"value and response together are {'above' if up else 'below'} average")
    return f"{'More' if up else 'Less'} money: {listed(said[:2])}"


def _ratio(ratio: float) -> str:
    return f"{ratio:.1f}x" if ratio < 9.95 else f"{ratio:.0f}x"


def _bound(ratio: float, market_ratio: float, limits: Budget) -> str:
    near = 2e-3
    if ratio < near:
        return "; all of it goes"
    bands = ((ratio, limits.cell_change, "this channel here"), (market_ratio, limits.market_change, "the market"))
    for at, band, whose in bands:
        if abs(at - band[1]) < near or abs(at - band[0]) < near:
            return f"; {whose} is at its limit of {at:.1f}x"
    return ""
