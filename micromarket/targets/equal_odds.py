"""Sales targets per market x segment x period that sum exactly to the goal and that all have the same odds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from micromarket.config import Settings
from micromarket.errors import shown
from micromarket.market_data import MarketData
from micromarket.notes import Notes
from micromarket.periods import Calendar
from micromarket.rounding import largest_remainder
from micromarket.targets.attainment import odds
from micromarket.targets.by_behaviour import entry_segments, over_segments, pass_through
from micromarket.targets.capacity import plan_capacity
from micromarket.targets.cells import CellForecast, fill_by_segment, forecast_cells
from micromarket.targets.drivers import NAMES as DRIVERS
from micromarket.targets.forecast import CellHistory
from micromarket.targets.gap import gap_of, ways_to_close
from micromarket.targets.limits import limits, solve
from micromarket.targets.notes_from_field import after_notes
from micromarket.targets.published import limits_by_segment, limits_table, targets_table
from micromarket.targets.scoreboard import build_scoreboard
from micromarket.targets.words import base_source, conflicts_of, notes_of
from micromarket.workspace import Workspace


@dataclass(frozen=True)
class TargetsResult:
    """The table ``targets`` (``None``: can't be set, the notes say why) and the stage's notes.

    ``new_customers`` are whole counts; ``revenue`` and ``margin`` are money in whole cents; ``p_attain`` is the
    probability that the market x segment reaches its target over the *whole plan* (the same in each of its periods);
    ``last_target`` is last year's revenue target of the market, spread by last year's revenue. Where customers pass
    through the segments (:mod:`.by_behaviour`), the odds are the market's, and new customers stand in the segments that
    they are won into. ``limits``, ``capacity``, ``scoreboard``: the artefacts ``target_limits``, ``capacity`` (no reps:
    ``None``) and ``scoreboard`` (no margin: ``None``).
    """

    targets: pd.DataFrame | None
    notes: Notes
    limits: pd.DataFrame | None = None
    capacity: pd.DataFrame | None = None
    scoreboard: pd.DataFrame | None = None

    def write(self, workspace: Workspace) -> None:
        """Leaves the tables that there are, and the notes, in ``workspace``."""
        for name, table in (
            ("targets", self.targets), ("target_limits", self.limits), ("capacity", self.capacity),
            ("scoreboard", self.scoreboard),
        ):  # fmt: skip
            if table is not None:
                workspace.write(name, table)
        workspace.write_notes("targets", self.notes)


def set_targets(
    data: MarketData,
    value_cells: pd.DataFrame | None,
    scores: pd.DataFrame | None,
    budget: pd.DataFrame | None,
    settings: Settings,
    field_notes: pd.DataFrame | None = None,
    curves: pd.DataFrame | None = None,
) -> TargetsResult:
    """Targets by equal probability of attainment.

    Every cell's revenue has a mean (own history, retained base, new customers, the budget's extra customers) and a
    spread (how far a backtest missed cells of its size). One number z, the same for all, gives
    ``target = mean + z * spread`` (where outcomes are skewed: the same quantile) within limits so that the targets
    add up to the goal, to the cent. Limits: 0.9 and 1.3 times last year, what reps can win and what potential leaves;
    one that contradicts the forecast gives way to it, and the notes count how often.

    Parameters
    ----------
    data : MarketData
    value_cells, scores, budget : DataFrame or None
        Tables of the stages value, potential and allocation.
    settings : Settings
    field_notes : DataFrame, optional
        Notes of kind ``target``: ``low`` and ``high`` are the market's revenue over the plan (money), a 90% range.
    curves : DataFrame, optional
        Table of the stage response: what more money would bring, for the ways to close a gap.

    Returns
    -------
    TargetsResult
        Money in cents that adds up to the goal; no table where no revenue has a date.
    """
    through = "segment" in settings.targets.split and pass_through(data.facts)
    whole = through or "segment" not in settings.targets.split
    unit = "market" if whole else "market segment"
    past = _past(data, whole)
    if past is None:
        return TargetsResult(None, Notes(warnings=(
            "No targets: the data hold no revenue by month, so there is no last year to grow from. Purchases or"
            " contracts with dates would give it.",
        )))  # fmt: skip
    calendar = Calendar.of(settings.plan, settings.targets.period)
    regions = data.markets.drop_duplicates("market_id").set_index("market_id")["region"]
    region, _ = pd.factorize(past.cells["market_id"].map(regions).astype(object).fillna(""), sort=True)
    given_values = value_cells
    if whole:
        value_cells = _values_by_market(value_cells)
    billed = settings.economics.relationship == "contractual"
    cells = forecast_cells(data, past, value_cells, scores, budget, calendar, settings.plan.years, billed, region)

    base = float(cells.base.sum())
    if not (base > 0 and np.isfinite(cells.mu).all()):
        nothing = "No targets: the year before the plan brought no revenue, so there is nothing to grow from."
        return TargetsResult(None, Notes(warnings=(nothing,)))
    goal = round((1 + settings.targets.growth) * base, 2)
    sigma, skew = cells.spread.sigma(cells.mu), cells.spread.skewness(cells.mu)
    solved, bounds, gave = solve(cells, limits(cells, billed), goal)
    published = round(solved.total, 2)
    money = solved.targets
    said: list[dict[str, Any]] = []
    if field_notes is not None and len(field_notes):
        money, said = after_notes(
            field_notes, past.cells, cells, money, sigma, bounds.low, bounds.high, region, settings
        )

    cents = largest_remainder(money * 100, round(published * 100))
    needed = np.clip(
        cells.new + np.where(cells.each > 0, (money - cells.mu) / np.maximum(cells.each, 1e-9), 0), 0, None
    )
    needed = np.minimum(needed, np.maximum(cells.cap, cells.new))
    customers = largest_remainder(needed)
    p_cell = odds(cells.mu, sigma, cents / 100, skew)
    table, margin_rate = targets_table(past, cells, calendar, cents, customers, p_cell, data, settings)
    held = limits_table(past.cells, cells, bounds, cents / 100, region)
    each = pd.Series(cells.each, index=pd.MultiIndex.from_frame(past.cells))
    if through:
        full = over_segments(table, data, calendar)
        held = limits_by_segment(held, full)
    else:
        full = table
    worth = _worth(past, cells, value_cells, margin_rate)
    capacity = plan_capacity(data, past.cells, cells, sigma, customers, worth, settings)

    company_sigma = cells.spread.company_sigma(cells.mu, region)
    p_company = float(odds(cells.mu.sum(), company_sigma, goal))
    reach = float(cells.mu.sum() - ndtri(settings.targets.attainment) * company_sigma)
    gap = None
    if p_company < settings.targets.attainment or published < goal:
        reach = min(reach, published)
        ways = ways_to_close(max(goal - reach, 0.0), past.cells, cells, data, budget, curves, settings)
        moved = capacity.numbers.get("gain", 0.0)
        gap = gap_of(goal, reach, published, cells, settings, unit, ways, margin_rate, _names(data), moved)
    numbers = {
        "goal_revenue": goal,
        "base_revenue": round(base, 2),
        "base_source": base_source(past),
        "growth": settings.targets.growth,
        "published_revenue": published,
        "forecast_revenue": round(float(cells.mu.sum()), 2),
        "forecast_new_customers": round(float(cells.new.sum()), 1),
        "total": {
            "new_customers": int(table["new_customers"].sum()),
            "revenue": published,
            "margin": None if margin_rate is None else round(float(table["margin"].sum()), 2),
        },
        "p_company": p_company,
        "p_cell": float(ndtr(-solved.z)),
        "wanted": settings.targets.attainment,
        "gap": gap,
        "floors_gave_way": gave,
        "conflicts": conflicts_of(bounds, cells),
        "held": {k: int(n) for k, n in held["held_by"].value_counts().sort_index().items() if k},
        "backtest": {"months": cells.backtest_months, "error": cells.backtest_error},
        "forecast_weights": dict(zip(("structure", "history", "carried"), map(float, cells.weights), strict=True)),
        "drivers": dict(zip(DRIVERS, map(float, cells.drivers.effects), strict=True)),
        "spread": {
            "company": company_sigma / max(float(cells.mu.sum()), 1e-9),
            "shared": cells.spread.common,
            "region": cells.spread.region,
            "skew": cells.spread.skew,
            "source": cells.spread.source,
        },
        "field_notes": said,
        "set_by": unit,
        "entry_segments": entry_segments(data.history) if through else None,
        "capacity": capacity.numbers or None,
    }
    notes = notes_of(numbers, table, cells, bounds, past, settings, margin_rate, value_cells, budget)
    values = given_values if through else value_cells
    board = build_scoreboard(full, each, data, values, budget, margin_rate, settings)
    return TargetsResult(full, notes, held, capacity.table, board)


def _worth(
    past: CellHistory, cells: CellForecast, value_cells: pd.DataFrame | None, margin_rate: float | None
) -> np.ndarray:
    """Contribution margin of a new customer of each cell (money): its lifetime value, else that inside the plan."""
    inside = cells.each * (1.0 if margin_rate is None else max(margin_rate, 0.0))
    if value_cells is None or "new_customer_clv" not in value_cells:
        return inside
    table = value_cells.set_index(["market_id", "segment"])["new_customer_clv"]
    found = table.reindex(pd.MultiIndex.from_frame(past.cells)).to_numpy(float)
    if not np.isfinite(found).any():
        return inside
    return np.maximum(fill_by_segment(found, past.cells["segment"].to_numpy(), cells.new, 0.0), 0.0)


def _names(data: MarketData) -> pd.Series:
    markets = data.markets.drop_duplicates("market_id").set_index("market_id")
    ids = pd.Series(markets.index, index=markets.index).map(str)
    named = markets["name"].where(markets["name"].notna(), ids) if "name" in markets else ids
    return named.map(lambda text: shown(text, 40).strip("'"))


def _past(data: MarketData, whole: bool) -> CellHistory | None:
    """``whole``: markets with all their segments together."""
    history = data.history
    if history is None or history.empty or not float(np.nansum(history["revenue"].to_numpy(dtype=float))) > 0:
        return None
    cells = history if data.cells is None or data.cells.empty else data.cells
    if whole:
        history, cells = history.assign(segment="All"), cells.assign(segment="All")
    return CellHistory.of(history, cells)


def _values_by_market(value_cells: pd.DataFrame | None) -> pd.DataFrame | None:
    if value_cells is None:
        return None
    columns = [c for c in ("first_year_revenue", "monthly_retention", "new_customer_clv") if c in value_cells]
    weight = value_cells["customers"].fillna(0) + 1e-6
    known = value_cells[columns].notna()
    sums = (value_cells[columns].mul(weight, axis=0)).groupby(value_cells["market_id"]).sum(min_count=1)
    weights = known.mul(weight, axis=0).groupby(value_cells["market_id"]).sum()
    return (sums / weights.where(weights > 0)).reset_index().assign(segment="All")
