"""The allocation stage: curves, values and limits to a recommended budget with its promised gain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from micromarket.allocation.basis import Response, plan_basis
from micromarket.allocation.budget_notes import MAX_NO_RESPONSE, MIN_ODDS, notes_of
from micromarket.allocation.gain import Draws
from micromarket.allocation.limits import Cells, neutral, round_to_limits
from micromarket.allocation.promise import (
    beside,
    best_within,
    cautious_plan,
    free_plan,
    frontier,
    interval,
    shadow_prices,
)
from micromarket.allocation.reasons import reasons
from micromarket.allocation.segments import by_segment
from micromarket.allocation.solver import Allocation
from micromarket.config import Settings
from micromarket.errors import InfeasibleError, Problem
from micromarket.market_data import MarketData
from micromarket.notes import Notes
from micromarket.workspace import Workspace

Array = NDArray[np.float64]


@dataclass(frozen=True)
class BudgetResult:
    """Table ``budget`` (see :data:`micromarket.artefacts.ARTEFACTS`; ``None`` without response curves) and notes.

    ``beside``: market_id, channel, and money of the plans that stand beside the recommended one: ``cautious`` (less
    risk, half the moves), ``free`` (no limits but the total and blocked markets), ``considered`` (the optimum within
    the limits, whether it was recommended or turned down). Not written: the notes hold what each brings.
    ``segments``: artefact budget_segments, ``None`` where it isn't known whom the channels win.
    """

    budget: pd.DataFrame | None
    notes: Notes
    beside: pd.DataFrame | None = None
    segments: pd.DataFrame | None = None

    def write(self, workspace: Workspace) -> None:
        """Its tables and notes, into ``workspace``."""
        if self.budget is not None:
            workspace.write("budget", self.budget)
        if self.segments is not None:
            workspace.write("budget_segments", self.segments)
        workspace.write_notes("allocation", self.notes)


def plan_budget(
    data: MarketData,
    response: Response,
    value_markets: pd.DataFrame,
    scores: pd.DataFrame | None,
    settings: Settings,
    field_notes: pd.DataFrame | None = None,
    segments: pd.DataFrame | None = None,
) -> BudgetResult:
    """Moves money to where it brings most value within the limits of ``settings.budget``, if that clearly pays.

    The plan is made on the response stage's posterior stacked with simpler accounts of it (:mod:`.stacking`).

    Parameters
    ----------
    data : MarketData
        ``current``: today's money by market and channel; ``markets`` for regions.
    response : ResponseResult
        ``curves`` and ``curve_draws`` over the plan period.
    value_markets : DataFrame
        ``new_customer_clv`` with ``_low`` and ``_high``: money per new customer.
    scores : DataFrame, optional
        ``headroom`` (customers): one account of where money works better.
    settings : Settings
    field_notes : DataFrame, optional
        Markets with an unexpired note of kind ``blocked`` keep their money.
    segments : DataFrame, optional
        Artefact channel_segments: whom each channel wins, and so what its new customers are worth.

    Returns
    -------
    BudgetResult
        Money in cents; ``recommended`` adds up to the total exactly, or to what is worth spending under ``min_return``.
        Where the plan would not clearly pay, today's allocation is kept and the notes say so; ``gain.p_positive`` is
        then ``None``: a plan that changes nothing gains nothing for sure, so there are no odds to state. What was
        turned down, with its odds, is in ``considered``.

    Raises
    ------
    InfeasibleError
        Where the limits contradict one another, or the total is out of their reach.
    """
    if response.curves is None or response.curve_draws is None or data.current is None:
        spent = None if data.current is None else float(data.current["current"].sum())
        why = "Without a response to spend there is nothing to base a reallocation on: no budget is recommended."
        return BudgetResult(None, Notes({"total": None, "current_total": spent}, warnings=(why,)))
    basis = plan_basis(data, response, value_markets, scores, settings, field_notes, segments)
    cells, draws = basis.cells, basis.draws
    limits, current_total = settings.budget, float(cells.current.sum())
    total = round(current_total if limits.total is None else float(limits.total), 2)
    if not current_total > 0:
        raise InfeasibleError(
            [Problem(settings.path.name, "some spend today: limits are ratios of it", column="budget")]
        )
    kept_spend = neutral(cells, limits, total)
    best = best_within(cells, draws, limits, total)
    spent = total if limits.min_return is None else min(round(float(best.spend.sum()), 2), total)
    best_spend = round_to_limits(cells, limits, best.spend, spent)
    none = response.notes.numbers.get("p_no_response")
    # the question is whether moving money pays: against the neutral plan at the same total
    edge = draws.gains(best_spend, kept_spend)
    odds, expected_edge = float((edge > 0).mean()), float(edge.mean())
    pays = odds >= MIN_ODDS and expected_edge > 0 and not (none is not None and none > MAX_NO_RESPONSE)
    moved = float(np.abs(best_spend - kept_spend).sum() / 2)
    spend = best_spend if pays else kept_spend
    table = _table(cells, draws, spend, settings, kept=not pays)
    others = {"cautious": cautious_plan(cells, draws, limits, total) if pays else kept_spend,
              "free": free_plan(cells, total)}  # fmt: skip
    numbers = _numbers(cells, draws, spend, best, settings, table, pays)
    numbers |= beside(draws, others, cells.current)
    numbers["considered"] = interval(edge, width=draws.width) | {"moved": moved}
    numbers["stacking"] = basis.numbers
    notes = notes_of(cells, settings, numbers, best, spend, total, pays or moved == 0, odds, none, basis.blocked)
    keys = table[["market_id", "channel"]]
    return BudgetResult(table, notes, keys.assign(**others, considered=best_spend), by_segment(segments, table))


def _table(cells: Cells, draws: Draws, spend: Array, settings: Settings, kept: bool) -> pd.DataFrame:
    found = draws.cells(spend)
    return pd.DataFrame({
        "market_id": np.array(cells.markets)[cells.market],
        "channel": np.array(cells.channels)[cells.channel],
        "current": cells.current,
        "recommended": spend,
        "change": np.round(spend - cells.current, 2),
        "incremental_customers": found["customers"],
        "incremental_value": found["value"],
        "value_low": np.minimum(found["low"], found["value"]),
        "value_high": np.maximum(found["high"], found["value"]),
        "marginal_return": cells.value * cells.amplitude * cells.half_spend / (spend + cells.half_spend) ** 2,
        "reason": reasons(cells, settings.budget, spend, kept, found["sure"], settings.company.currency),
    })  # fmt: skip


def _numbers(
    cells: Cells, draws: Draws, spend: Array, plan: Allocation, settings: Settings, table: pd.DataFrame, moves: bool
) -> dict[str, Any]:
    change = np.bincount(cells.market, spend - cells.current, len(cells.markets))
    total, current_total = float(spend.sum()), float(cells.current.sum())
    moved = float(np.abs(spend - cells.current).sum() / 2)
    gain = interval(draws.gains(spend), float(table["incremental_value"].sum()), draws.width)
    customers = interval(draws.customers(spend), float(table["incremental_customers"].sum()), draws.width)
    if moved == 0:  # nothing changes: no odds to state
        gain["p_positive"] = None
    customers.pop("p_positive")
    line = frontier(cells, draws, settings.budget, total, spend, moves, gain["expected"])
    certificate = plan.certificate
    return {
        "total": round(total, 2),
        "current_total": round(current_total, 2),
        "moved": moved,
        "moved_share": moved / max(total, 1e-300),
        "markets_up": int((change > 0.005).sum()),
        "markets_down": int((change < -0.005).sum()),
        "gain": gain,
        "customers": customers,
        "certificate": {"duality_gap": certificate.duality_gap, "max_violation": certificate.max_violation},
        "price": plan.price,
        "prices": shadow_prices(cells, plan) if moves else [],
        "frontier": line,
        "kept": not moves,
    }
