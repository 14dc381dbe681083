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
from micromarket.rounding import largest_remainder, spread_whole
from micromarket.targets.attainment import equal_probability, field_round, odds
from micromarket.targets.by_behaviour import entry_segments, over_segments, pass_through
from micromarket.targets.cells import HIGHEST, LOWEST, CellForecast, forecast_cells
from micromarket.targets.forecast import CellHistory
from micromarket.targets.words import base_source, gap_of, notes_of
from micromarket.workspace import Workspace

FIELD_CAP = 0.05  # largest change that the field round may make to a target


@dataclass(frozen=True)
class TargetsResult:
    """The table ``targets`` (``None``: can't be set, the notes say why) and the stage's notes.

    ``new_customers`` are whole counts; ``revenue`` and ``margin`` are money in whole cents; ``p_attain`` is the
    probability that the market x segment reaches its target over the *whole plan* (the same in each of its periods);
    ``last_target`` is last year's revenue target of the market, spread by last year's revenue. Where customers pass
    through the segments (:mod:`.by_behaviour`), the odds are the market's, and new customers stand in the segments that
    they are won into.
    """

    targets: pd.DataFrame | None
    notes: Notes

    def write(self, workspace: Workspace) -> None:
        """Leaves the table, if any, and the notes in ``workspace``."""
        if self.targets is not None:
            workspace.write("targets", self.targets)
        workspace.write_notes("targets", self.notes)


def set_targets(
    data: MarketData,
    value_cells: pd.DataFrame | None,
    scores: pd.DataFrame | None,
    budget: pd.DataFrame | None,
    settings: Settings,
    field_notes: pd.DataFrame | None = None,
) -> TargetsResult:
    """Targets by equal probability of attainment.

    Every cell's revenue has a mean (own history, retained base, new customers, the budget's extra customers) and a
    spread (how far a backtest missed cells of its size). One number z, the same for all, gives
    ``target = mean + z * spread`` within limits so that the targets add up to the goal, to the cent. Limits: 0.9 and
    1.3 times last year, what reps can win and what potential leaves; a limit that contradicts the forecast gives
    way to it, and the notes count how often.

    Parameters
    ----------
    data : MarketData
    value_cells, scores, budget : DataFrame or None
        Tables of the stages value, potential and allocation.
    settings : Settings
    field_notes : DataFrame, optional
        Notes of kind ``target``: ``low`` and ``high`` are the market's revenue over the plan (money), a 90% range.

    Returns
    -------
    TargetsResult
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
    if whole:
        value_cells = _values_by_market(value_cells)
    billed = settings.economics.relationship == "contractual"
    cells = forecast_cells(data, past, value_cells, scores, budget, calendar, settings.plan.years, billed, region)

    base = float(cells.base.sum())
    if not (base > 0 and np.isfinite(cells.mu).all()):
        nothing = "No targets: the year before the plan brought no revenue, so there is nothing to grow from."
        return TargetsResult(None, Notes(warnings=(nothing,)))
    goal = round((1 + settings.targets.growth) * base, 2)
    sigma = cells.spread.sigma(cells.mu)
    low, high = limits(cells, billed)
    solved = equal_probability(cells.mu, sigma, low, high, goal)
    published = round(solved.total, 2)
    money = solved.targets
    said: list[dict[str, Any]] = []
    if field_notes is not None and len(field_notes):
        money, said = _field(field_notes, past.cells, cells, money, sigma, low, high, region, settings)

    cents = largest_remainder(money * 100, round(published * 100))
    needed = np.clip(
        cells.new + np.where(cells.each > 0, (money - cells.mu) / np.maximum(cells.each, 1e-9), 0), 0, None
    )
    needed = np.minimum(needed, np.maximum(cells.cap, cells.new))
    customers = largest_remainder(needed)
    p_cell = odds(cells.mu, sigma, cents / 100)
    table, margin_rate = _table(past, cells, calendar, cents, customers, p_cell, data, settings)

    company_sigma = cells.spread.company_sigma(cells.mu, region)
    p_company = float(odds(cells.mu.sum(), company_sigma, goal))
    reach = float(cells.mu.sum() - ndtri(settings.targets.attainment) * company_sigma)
    gap = None
    if p_company < settings.targets.attainment or published < goal:
        gap = gap_of(goal, min(reach, published), published, cells, settings, data, unit)
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
        "backtest": {"months": cells.backtest_months, "error": cells.backtest_error},
        "forecast_weights": dict(zip(("structure", "history", "carried"), map(float, cells.weights), strict=True)),
        "spread": {"company": company_sigma / max(float(cells.mu.sum()), 1e-9), "source": cells.spread.source},
        "field_notes": said,
        "set_by": unit,
        "entry_segments": entry_segments(data.history) if through else None,
    }
    notes = notes_of(numbers, table, cells, low, high, past, settings, margin_rate, value_cells, budget)
    return TargetsResult(over_segments(table, data, calendar) if through else table, notes)


def limits(cells: CellForecast, billed: bool) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest target of each cell, money. Neither forbids the forecast itself: ``low <= mu <= high``.

    Revenue under contract (``billed``) that needs no new customer is never less than the target.
    """
    reachable = np.where(np.isfinite(cells.cap), cells.rest + np.minimum(cells.cap, 1e12) * cells.each, np.inf)
    sigma = cells.spread.sigma(cells.mu)
    low = np.maximum(np.minimum(LOWEST * cells.base, cells.mu - sigma), 0.0)
    if billed:
        low = np.maximum(low, np.where(cells.new > 0, np.minimum(cells.rest, cells.mu), 0.0))
    high = np.maximum(np.minimum(np.maximum(HIGHEST * cells.base, cells.mu + sigma), reachable), cells.mu)
    return low, high


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
    columns = ["first_year_revenue", "monthly_retention"]
    weight = value_cells["customers"].fillna(0) + 1e-6
    known = value_cells[columns].notna()
    sums = (value_cells[columns].mul(weight, axis=0)).groupby(value_cells["market_id"]).sum(min_count=1)
    weights = known.mul(weight, axis=0).groupby(value_cells["market_id"]).sum()
    return (sums / weights.where(weights > 0)).reset_index().assign(segment="All")


def _field(
    notes: pd.DataFrame, keys: pd.DataFrame, cells: CellForecast, money: np.ndarray, sigma: np.ndarray,
    low: np.ndarray, high: np.ndarray, region: np.ndarray, settings: Settings,
) -> tuple[np.ndarray, list[dict[str, Any]]]:  # fmt: skip
    """Targets after the field round, and what it changed, market by market."""
    today = pd.Timestamp(settings.as_of)
    notes = notes[(notes["kind"] == "target") & notes["market_id"].isin(keys["market_id"])].copy()
    expires = pd.to_datetime(notes["expires_on"] if "expires_on" in notes else pd.Series(pd.NaT, index=notes.index))
    notes = notes[(expires.isna() | (expires >= today)) & notes[["low", "high"]].notna().any(axis=1)]
    notes = notes.sort_values(["market_id", "author", "date"], kind="stable").drop_duplicates(
        ["market_id", "author"], keep="last"
    )
    if notes.empty:
        return money, []
    codes, names = pd.factorize(keys["market_id"])
    mu, spread = np.bincount(codes, cells.mu), np.bincount(codes, sigma)
    view, width = np.full(len(names), np.nan), np.full(len(names), np.nan)
    position = {name: i for i, name in enumerate(names)}
    for market, group in notes.groupby("market_id", sort=True):
        i = position[market]
        # a one-sided note only says that the forecast is too low, or too high
        lows = group["low"].fillna(np.minimum(2 * mu[i] - group["high"], group["high"]))
        highs = group["high"].fillna(np.maximum(2 * mu[i] - group["low"], group["low"]))
        view[i] = float(((lows + highs) / 2).mean())
        width[i] = max(float((highs - lows).abs().mean()) / 3.29, 0.02 * mu[i], 0.1 * spread[i])
    part = np.where(mu[codes] > 0, cells.mu / np.maximum(mu[codes], 1e-12), 0.0)
    after = field_round(money, cells.mu, sigma, view[codes] * part, width[codes] * part, low, high, region, FIELD_CAP)
    change = np.bincount(codes, after - money)
    said = [
        {"market_id": str(n.market_id), "author": shown(n.author), "reason": shown(n.reason, 120),
         "revenue_change": round(float(change[position[n.market_id]]), 2)}
        for n in notes.itertuples()
    ]  # fmt: skip
    return after, said


def _table(
    past: CellHistory, cells: CellForecast, calendar: Calendar, cents: np.ndarray, customers: np.ndarray,
    p_cell: np.ndarray, data: MarketData, settings: Settings,
) -> tuple[pd.DataFrame, float | None]:  # fmt: skip
    revenue_share = cells.path @ calendar.month_to_period
    # new customers above or below the forecast come when the cell wins its customers
    customer_share = (cells.new_path + 1e-12 * calendar.weights) @ calendar.month_to_period
    revenue = spread_whole(cents, revenue_share)
    won = spread_whole(customers, customer_share)
    count, periods = len(cents), len(calendar.periods)
    table = past.cells.loc[np.repeat(np.arange(count), periods)].reset_index(drop=True)
    table["period"] = np.tile(calendar.periods.to_numpy(), count)
    table["new_customers"] = won.ravel()
    table["revenue"] = revenue.ravel() / 100
    rate = settings.economics.margin_rate
    if rate is None:
        rate = (data.facts or {}).get("margin_rate_observed")
    if rate is None:
        table["margin"] = np.nan
    elif rate >= 0:
        table["margin"] = largest_remainder(revenue.ravel() * rate, round(int(cents.sum()) * rate)) / 100
    else:
        table["margin"] = np.round(revenue.ravel() * rate) / 100
    table["p_attain"] = np.repeat(p_cell, periods)
    last = data.markets.drop_duplicates("market_id").set_index("market_id").get("last_target")
    per_market = np.full(count, np.nan) if last is None else past.cells["market_id"].map(last).to_numpy(dtype=float)
    codes, _ = pd.factorize(past.cells["market_id"])
    base = cells.base + 1e-9
    per_cell = per_market * settings.plan.years * base / np.bincount(codes, base)[codes]
    share = revenue_share / revenue_share.sum(axis=1, keepdims=True)
    table["last_target"] = (per_cell[:, None] * share).ravel()
    return table, rate
