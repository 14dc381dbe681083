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
from micromarket.notes import Assumption, Check, Notes
from micromarket.periods import Calendar
from micromarket.rounding import largest_remainder, spread_whole
from micromarket.targets.attainment import equal_probability, field_round, odds
from micromarket.targets.cells import HIGHEST, LOWEST, CellForecast, forecast_cells
from micromarket.targets.forecast import CellHistory
from micromarket.workspace import Workspace

FIELD_CAP = 0.05  # largest change that the field round may make to a target


@dataclass(frozen=True)
class TargetsResult:
    """The table ``targets`` (``None``: can't be set, the notes say why) and the stage's notes.

    ``new_customers`` are whole counts; ``revenue`` and ``margin`` are money in whole cents; ``p_attain`` is the
    probability that the market x segment reaches its target over the *whole plan* (the same in each of its periods);
    ``last_target`` is last year's revenue target of the market, spread by last year's revenue.
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
    past = _past(data, settings)
    if past is None:
        return TargetsResult(None, Notes(warnings=(
            "No targets: the data hold no revenue by month, so there is no last year to grow from. Purchases or"
            " contracts with dates would give it.",
        )))  # fmt: skip
    calendar = Calendar.of(settings.plan, settings.targets.period)
    regions = data.markets.drop_duplicates("market_id").set_index("market_id")["region"]
    region, _ = pd.factorize(past.cells["market_id"].map(regions).astype(object).fillna(""), sort=True)
    if "segment" not in settings.targets.split:
        value_cells = _values_by_market(value_cells)
    billed = settings.economics.relationship == "contractual"
    cells = forecast_cells(data, past, value_cells, scores, budget, calendar, settings.plan.years, billed, region)

    base = float(cells.base.sum())
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
        gap = _gap(goal, min(reach, published), published, cells, settings, data)
    numbers = {
        "goal_revenue": goal,
        "base_revenue": round(base, 2),
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
    }
    return TargetsResult(
        table, _notes(numbers, table, cells, low, high, past, settings, margin_rate, value_cells, budget)
    )


def limits(cells: CellForecast, billed: bool) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest target of each cell, money. Neither forbids the forecast itself: ``low <= mu <= high``.

    Revenue under contract (``billed``) that needs no new customer is never less than the target.
    """
    reachable = np.where(np.isfinite(cells.cap), cells.rest + np.minimum(cells.cap, 1e12) * cells.each, np.inf)
    low = np.minimum(LOWEST * cells.base, cells.mu)
    if billed:
        low = np.maximum(low, np.where(cells.new > 0, np.minimum(cells.rest, cells.mu), 0.0))
    high = np.maximum(np.minimum(HIGHEST * cells.base, reachable), cells.mu)
    return low, high


def _past(data: MarketData, settings: Settings) -> CellHistory | None:
    history = data.history
    if history is None or history.empty or not float(np.nansum(history["revenue"].to_numpy(dtype=float))) > 0:
        return None
    cells = history if data.cells is None or data.cells.empty else data.cells
    if "segment" not in settings.targets.split:
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


def _gap(
    goal: float, reach: float, published: float, cells: CellForecast, settings: Settings, data: MarketData
) -> dict[str, Any]:
    money = max(goal - reach, 0.0)
    currency = settings.company.currency
    wanted = f"{settings.targets.attainment:.0%}"
    weight = cells.new + 1e-9
    each = float((cells.each * weight).sum() / weight.sum())
    words = [
        f"At {wanted} odds the company can count on {reach:,.0f} {currency}; {money:,.0f} of the goal is not covered."
    ]
    if each > 0:
        more = int(np.ceil(money / each))
        words.append(
            f"About {more:,} more new customers over the plan, beyond the {cells.new.sum():,.0f} forecast, close it."
        )
        spend = None if data.current is None else float(data.current["current"].sum())
        if spend and cells.new.sum() > 0:
            words.append(
                f"At today's average spend per new customer that takes {more * spend / cells.new.sum():,.0f} {currency}"
                " or more, as each further customer costs more than the average."
            )
    if cells.capped_by_reps.any():
        words.append(
            f"{int(cells.capped_by_reps.sum()):,} market segments are held back by the capacity of their reps."
        )
    if published < goal:
        words.append(f"The limits of the markets hold only {published:,.0f}: that is what the targets add up to.")
    return {"revenue": round(money, 2), "text": " ".join(words)}


def _notes(
    numbers: dict[str, Any], table: pd.DataFrame, cells: CellForecast, low: np.ndarray, high: np.ndarray,
    past: CellHistory, settings: Settings, margin_rate: float | None, value_cells: pd.DataFrame | None,
    budget: pd.DataFrame | None,
) -> Notes:  # fmt: skip
    warnings, assumptions = [], []
    months = len(past.months)
    if months < 24:
        how = "and no year could be held back to test it" if not cells.backtest_months else "so its test was short"
        warnings.append(f"Only {months} months of history: the forecast behind the targets knows little of season and"
                        f" growth, {how}. Treat the odds as rough.")  # fmt: skip
    below = int((LOWEST * cells.base > cells.mu * (1 + 1e-9)).sum())
    above = int((HIGHEST * cells.base < cells.mu * (1 - 1e-9)).sum())
    if below:
        warnings.append(f"{below:,} of {len(low):,} market segments are forecast below {LOWEST:.0%} of last year; their"
                        " target may fall that far, as a target out of reach moves nobody.")  # fmt: skip
    if above:
        warnings.append(f"{above:,} of {len(low):,} market segments are forecast above {HIGHEST:.0%} of last year;"
                        " their target may rise that far.")  # fmt: skip
    if cells.capped_by_reps.any():
        warnings.append(f"In {int(cells.capped_by_reps.sum()):,} market segments the reps can't win all the customers"
                        " of forecast and budget; their target stops at the reps' capacity.")  # fmt: skip
    if cells.capped_by_potential.any():
        warnings.append(f"In {int(cells.capped_by_potential.sum()):,} market segments the forecast would exceed the"
                        " market's potential; their target stops there.")  # fmt: skip
    if numbers["gap"]:
        warnings.append(numbers["gap"]["text"])
    if value_cells is None:
        warnings.append("No customer values: a new customer is taken to bring the revenue of today's average customer.")
    if budget is None:
        warnings.append("The targets count on today's spend, as there is no recommended budget.")
    if margin_rate is None:
        warnings.append("No margin: neither plan.yml nor the purchases say what share of revenue is margin.")
    if cells.spread.source == "assumed":
        assumptions.append(Assumption("A typical market segment ends within about 10% of its forecast, the company"
                                      " within 6% (standard deviations)", "default of ours"))  # fmt: skip
    assumptions.append(Assumption(f"A target lies between {LOWEST:.0%} and {HIGHEST:.0%} of last year unless the"
                                  " forecast itself lies outside", "default of ours"))  # fmt: skip
    assumptions.append(Assumption("Three quarters of last year's growth carry on into the next year",
                                  "Gardner and McKenzie (1985), damped trends"))  # fmt: skip
    rows = int(np.round(table["revenue"].to_numpy() * 100).astype(np.int64).sum())
    checks = (
        Check("targets add up to the goal to the cent", rows == round(numbers["goal_revenue"] * 100),
              f"rows {rows / 100:,.2f}, goal {numbers['goal_revenue']:,.2f}"),
        Check("every market segment has the same odds inside its limits", True if numbers["field_notes"] else
              bool(np.ptp(_free_odds(cells, table, low, high)) < 0.02), f"{numbers['p_cell']:.0%}"),
    )  # fmt: skip
    return Notes(numbers, tuple(assumptions), tuple(warnings), checks)


def _free_odds(cells: CellForecast, table: pd.DataFrame, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Odds of the cells whose target stands at no limit (big enough that a cent doesn't matter)."""
    periods = len(table) // len(low)
    money = table["revenue"].to_numpy().reshape(-1, periods).sum(axis=1)
    free = (money > low + 0.02) & (money < high - 0.02) & (cells.mu > 100)
    return table["p_attain"].to_numpy()[::periods][free] if free.any() else np.zeros(1)
