"""Why each cell's money changes, in words."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from micromarket.allocation.limits import Cells
from micromarket.config import Budget
from micromarket.formats import money

Array = NDArray[np.float64]


def reasons(cells: Cells, limits: Budget, spend: Array, kept: bool, sure: Array, currency: str) -> list[str]:
    """One sentence a cell: what moves, what speaks for it, how full the channel is there, how sure it is.

    Parameters
    ----------
    kept : bool
        The plan as a whole keeps today's allocation.
    sure : array (cells,)
        Probability that the money does more good this way (see :meth:`.gain.Draws.cells`).

    Notes
    -----
    Reports drop what stands before the colon where columns beside it say the same. Numbers are coarse (saturation in
    steps of 10%, odds of 5%) as nobody knows them better, and a page for the field need not hold each on its own.
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
    names = [_plain(c) for c in cells.channels]
    out = []
    for i, delta in enumerate(change):
        if cells.blocked[i]:
            out.append("Unchanged: the field has blocked changes here.")
        elif cells.held[i] and abs(delta) < 0.005:
            out.append("Stays at 0: nothing is spent here today, and limits are ratios of today's money.")
        elif kept and abs(delta) < 0.005:
            out.append("Unchanged: no move would clearly pay, given how uncertain the effect of spend is.")
        elif abs(delta) < 0.005:
            out.append("Unchanged: the last unit of money brings about as much here as elsewhere.")
        else:
            where = f"{'into' if delta > 0 else 'out of'} {names[cells.channel[i]]}"
            why = _why(delta > 0, worth[i], full[i], pull[i], sure[i])
            bound = _bound(ratio[i], market_ratio[i], limits)
            out.append(f"{money(delta, currency, 2, sign=True)} {where}: {why}{bound}.")
    return out


def _plain(channel: str) -> str:
    """A channel's name as it may stand in a sentence: printable, short, without a colon that would end the lead."""
    text = "".join(c if c.isprintable() else " " for c in str(channel)).replace(":", " ")
    text = " ".join(text.split())
    return text if len(text) <= 40 else text[:39] + "…"


def _why(up: bool, worth: float, full: float, pull: float, sure: float) -> str:
    """What speaks for the move: ratios near 1 are left out, ratios near 0 put in words."""
    said = []
    if (pull >= 1.1) if up else (pull <= 0.9):
        many = "almost no new customers" if pull < 0.05 else f"{_ratio(pull)} the usual new customers"
        said.append(f"the next unit of money wins {many}")
    if (worth >= 1.1) if up else (worth <= 0.9):
        said.append(f"value per new customer {'almost nothing' if worth < 0.05 else f'{_ratio(worth)} the average'}")
    if not said:
        said.append(f"value and response together {'above' if up else 'below'} average")
    said.append(f"saturation {10 * round(10 * full)}%")
    return f"{', '.join(said)}, {_sure(sure)}"


def _sure(odds: float) -> str:
    step = 5 * round(20 * odds)
    return f"sure at {step}%" if 50 < step < 100 else "as good as sure" if step >= 100 else "no better than a toss-up"


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
