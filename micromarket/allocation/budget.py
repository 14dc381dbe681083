"""The allocation stage: curves, values and limits to a recommended budget with its promised gain."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from micromarket.allocation.gain import Draws, joint_draws, new_customer_value, risk_adjusted
from micromarket.allocation.limits import (
    Cells,
    blocked_markets,
    build_cells,
    neutral,
    round_to_limits,
    solve,
)
from micromarket.allocation.reasons import reasons
from micromarket.allocation.solver import Allocation
from micromarket.config import Settings
from micromarket.errors import InfeasibleError, Problem
from micromarket.formats import money
from micromarket.market_data import MarketData
from micromarket.notes import Assumption, Check, Notes
from micromarket.workspace import Workspace

Array = NDArray[np.float64]
# Money moves only where the odds are at least this that it brings more than today's allocation.
MIN_ODDS = 0.8
MAX_NO_RESPONSE = 0.5
FRONTIER = (0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3)


class Response(Protocol):
    """What is needed of the response stage's result."""

    @property
    def curves(self) -> pd.DataFrame | None: ...

    @property
    def curve_draws(self) -> pd.DataFrame | None: ...

    @property
    def notes(self) -> Notes: ...


@dataclass(frozen=True)
class BudgetResult:
    """Table ``budget`` (see :data:`micromarket.artefacts.ARTEFACTS`; ``None`` without response curves) and notes."""

    budget: pd.DataFrame | None
    notes: Notes

    def write(self, workspace: Workspace) -> None:
        if self.budget is not None:
            workspace.write("budget", self.budget)
        workspace.write_notes("allocation", self.notes)


def plan_budget(
    data: MarketData,
    response: Response,
    value_markets: pd.DataFrame,
    scores: pd.DataFrame | None,
    settings: Settings,
    field_notes: pd.DataFrame | None = None,
) -> BudgetResult:
    """Moves money to where it brings most value within the limits of ``settings.budget``, if that clearly pays.

    Parameters
    ----------
    response : ResponseResult
        ``curves`` and ``curve_draws`` over the plan period.
    value_markets : DataFrame
        ``new_customer_clv`` with ``_low`` and ``_high``: money per new customer.
    field_notes : DataFrame, optional
        Markets with an unexpired note of kind ``blocked`` keep their money.

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
    del scores  # headroom acts through the response curves
    if response.curves is None or response.curve_draws is None or data.current is None:
        spent = None if data.current is None else float(data.current["current"].sum())
        why = "Without a response to spend there is nothing to base a reallocation on: no budget is recommended."
        return BudgetResult(None, Notes({"total": None, "current_total": spent}, warnings=(why,)))
    markets = pd.Index(sorted(response.curves["market_id"].unique()), name="market_id")
    value, _ = new_customer_value(value_markets, tuple(markets))
    blocked = blocked_markets(field_notes, settings.as_of)
    cells = build_cells(data, response.curves, value, markets, blocked)
    limits, current_total = settings.budget, float(cells.current.sum())
    total = round(current_total if limits.total is None else float(limits.total), 2)
    if not current_total > 0:
        raise InfeasibleError(
            [Problem(settings.path.name, "some spend today: limits are ratios of it", column="budget")]
        )
    draws = joint_draws(cells, response.curve_draws, value_markets, settings.seed)
    kept_spend = neutral(cells, limits, total)
    best = _optimise(cells, draws, settings, total)
    spent = total if limits.min_return is None else min(round(float(best.spend.sum()), 2), total)
    best_spend = round_to_limits(cells, limits, best.spend, spent)
    none = response.notes.numbers.get("p_no_response")
    # the question is whether moving money pays: against the neutral plan at the same total
    edge = draws.gains(cells.outcome(best_spend) - cells.outcome(kept_spend))
    odds, expected_edge = float((edge > 0).mean()), float(edge.mean())
    pays = odds >= MIN_ODDS and expected_edge > 0 and not (none is not None and none > MAX_NO_RESPONSE)
    moved_at_all = float(np.abs(best_spend - kept_spend).sum()) > 0
    spend = best_spend if pays else kept_spend
    table = _table(cells, draws, spend, settings, kept=not pays)
    numbers = _numbers(cells, draws, spend, best, settings, table, pays)
    numbers["considered"] = _interval(edge) | {"moved": float(np.abs(best_spend - kept_spend).sum() / 2)}
    notes = _notes(cells, settings, numbers, best, spend, total, pays or not moved_at_all, odds, none, blocked)
    return BudgetResult(table, notes)


def _optimise(cells: Cells, draws: Draws, settings: Settings, total: float) -> Allocation:
    """The optimum; with risk aversion a fixed point of linearised optima, of which the best is kept."""
    limits = settings.budget
    best = solve(cells, limits, total)
    if limits.risk_aversion <= 0:
        return best

    def score(spend: Array) -> float:
        gains = draws.gains(cells.outcome(spend))
        return float(gains.mean() - limits.risk_aversion * gains.std())

    spend, top = best.spend, score(best.spend)
    for step in range(12):
        weight = risk_adjusted(cells, draws, limits.risk_aversion, cells.outcome(spend))
        found = solve(cells, limits, total, weight)
        spend = spend + (found.spend - spend) * 2 / (step + 2)  # Frank-Wolfe on a concave goal
        candidate = replace(found, spend=spend)
        if score(spend) > top:
            best, top = candidate, score(spend)
    return best


def _table(cells: Cells, draws: Draws, spend: Array, settings: Settings, kept: bool) -> pd.DataFrame:
    reached = cells.outcome(spend)
    customers = cells.amplitude * reached
    low, high = draws.interval(reached)
    value = customers * cells.value
    return pd.DataFrame({
        "market_id": np.array(cells.markets)[cells.market],
        "channel": np.array(cells.channels)[cells.channel],
        "current": cells.current,
        "recommended": spend,
        "change": np.round(spend - cells.current, 2),
        "incremental_customers": customers,
        "incremental_value": value,
        "value_low": np.minimum(low, value),
        "value_high": np.maximum(high, value),
        "marginal_return": cells.value * cells.amplitude * cells.half_spend / (spend + cells.half_spend) ** 2,
        "reason": reasons(cells, settings.budget, spend, kept),
    })  # fmt: skip


def _interval(draws: Array, mean: float | None = None) -> dict[str, Any]:
    low, high = np.quantile(draws, [0.05, 0.95])
    return {"expected": float(draws.mean()) if mean is None else mean, "low": float(low), "high": float(high),
            "p_positive": float((draws > 0).mean())}  # fmt: skip


def _numbers(
    cells: Cells, draws: Draws, spend: Array, plan: Allocation, settings: Settings, table: pd.DataFrame, moves: bool
) -> dict[str, Any]:
    reached = cells.outcome(spend)
    change = np.bincount(cells.market, spend - cells.current, len(cells.markets))
    total, current_total = float(spend.sum()), float(cells.current.sum())
    moved = float(np.abs(spend - cells.current).sum() / 2)
    gain = _interval(draws.gains(reached), float(table["incremental_value"].sum()))
    customers = _interval(draws.customers(reached), float(table["incremental_customers"].sum()))
    if moved == 0:  # nothing changes: no odds to state
        gain["p_positive"] = None
    customers.pop("p_positive")
    frontier = _frontier(cells, draws, settings, total, spend, moves)
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
        "frontier": frontier,
        "kept": not moves,
    }


def _frontier(
    cells: Cells, draws: Draws, settings: Settings, total: float, spend: Array, moves: bool
) -> list[dict[str, float]]:
    """Value against today's allocation at other totals, under limits that scale with the total."""
    out = []
    base = total / max(float(cells.current.sum()), 1e-300)
    for step in FRONTIER:
        if step == 1.0:
            at = spend
        elif not moves:
            at = spend * step
        else:
            try:
                at = solve(cells, settings.budget, total * step, scale=base * step).spend
            except InfeasibleError:  # blocked markets may leave no room at this total
                continue
        reached = cells.outcome(at)
        low, high = np.quantile(draws.gains(reached), [0.05, 0.95])
        expected = float((cells.value * cells.amplitude * reached).sum())
        out.append({"total": total * step, "value": expected, "low": float(low), "high": float(high)})
    return out


def _notes(
    cells: Cells,
    settings: Settings,
    numbers: dict[str, Any],
    plan: Allocation,
    spend: Array,
    total: float,
    pays: bool,
    odds: float,
    none: float | None,
    blocked: set[str],
) -> Notes:
    warnings, limits = [], settings.budget
    if not pays:
        why = f"the odds that moving money beats it are {odds:.0%}, below the {MIN_ODDS:.0%} we ask for"
        if none is not None and none > MAX_NO_RESPONSE:
            why = f"the odds that new customers do not respond to spend at all are {none:.0%}"
        warnings.append(f"Today's allocation is kept: {why}. A test of spend would settle it.")
    if cells.held.any() and not cells.held.all():
        warnings.append(
            f"{int(cells.held.sum()):,} of {len(spend):,} cells (market and channel) have no spend today and get none,"
            " as limits are ratios of today's money."
        )
    here = blocked & set(cells.markets)
    if here:
        warnings.append(
            f"{_plural(len(here), 'market keeps', 'markets keep')} today's money: the field has blocked changes there."
        )
    if not (cells.value > 0).all():
        count = len(set(np.array(cells.markets)[cells.market][cells.value <= 0]))
        warnings.append(
            f"In {_plural(count, 'market', 'markets')} a new customer is worth nothing or less: no money is moved in."
        )
    left = round(total - float(spend.sum()), 2)
    if left > 0.005:
        unspent = money(left, settings.company.currency)
        warnings.append(f"{unspent} stays unspent: it would bring less than {limits.min_return:g} per unit of money.")
    beyond = int((spend > 2 * np.maximum(cells.current, 1e-9)).sum()) if not cells.held.all() else 0
    if beyond and pays:
        warnings.append(
            f"{_plural(beyond, 'cell gets', 'cells get')} more than twice today's money: what that brings is"
            " read off the curve's shape, not seen in the past."
        )
    market, cell = limits.market_change, limits.cell_change
    assumptions = (
        Assumption(
            f"At most {limits.max_shift:.0%} of the money changes place; a market gets {market[0]:g} to {market[1]:g}"
            f" times, a cell (market and channel) {cell[0]:g} to {cell[1]:g} times today's money.",
            settings.path.name,
        ),
        Assumption(
            "The promised gain is the average over many draws of response and value, all shrunk towards their averages"
            " before the plan is made; it is not the estimate at which the plan looks best.",
            "default",
        ),
    )
    exact = abs(float(spend.sum()) - numbers["total"]) < 0.005
    gap, worst = plan.certificate.duality_gap, plan.certificate.max_violation
    checks = (
        Check("no better allocation exists within the limits", gap < 1e-6, f"gap {gap:.1e}"),
        Check("every limit is kept", worst < 1e-6, f"worst {worst:.1e}"),
        Check("the money adds up to the cent", exact, f"{spend.sum():,.2f}"),
    )
    return Notes(numbers, assumptions, tuple(warnings), checks)


def _plural(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"
