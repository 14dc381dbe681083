"""Why each cell's money changes, in words."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from micromarket.allocation.limits import Cells
from micromarket.config import Budget
from micromarket.formats import money

Array = NDArray[np.float64]


def reasons(cells: Cells, limits: Budget, spend: Array, currency: str, kept: bool) -> list[str]:
    """One sentence a cell; ``kept``: the plan as a whole keeps today's allocation."""
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
            out.append(_moved(delta, cells.channels[cells.channel[i]], worth[i], full[i], pull[i], currency)
                       + _bound(ratio[i], market_ratio[i], limits) + ".")  # fmt: skip
    return out


def _moved(delta: float, channel: str, worth: float, full: float, pull: float, currency: str) -> str:
    up = delta > 0
    said = []
    if (worth >= 1.1) if up else (worth <= 0.9):
        said.append(f"a new customer here is worth {worth:.1f}x the average")
    if (pull >= 1.1) if up else (pull <= 0.9):
        said.append(f"the next unit of money wins {pull:.1f}x as many new customers as on average")
    if up and full <= 0.4:
        said.append("spend is far from saturation")
    elif not up and full >= 0.6:
        said.append(f"spend is near saturation ({full:.0%})")
    if not said:
        said.append(f"value and response together put it {'above' if up else 'below'} the average")
    head = f"{money(delta, currency, 2, sign=True)} {'into' if up else 'from'} {channel}: "
    return head + " and ".join(said[:3] if len(said) < 3 else [", ".join(said[:2]), said[2]])


def _bound(ratio: float, market_ratio: float, limits: Budget) -> str:
    near = 2e-3
    if abs(ratio - limits.cell_change[1]) < near or abs(ratio - limits.cell_change[0]) < near:
        return f"; stopped by the cell limit of {ratio:.1f}x"
    if abs(market_ratio - limits.market_change[1]) < near or abs(market_ratio - limits.market_change[0]) < near:
        return f"; the market's money stops at {market_ratio:.1f}x"
    return ""
