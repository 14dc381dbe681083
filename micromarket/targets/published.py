"""The tables that the stage publishes: targets by period, and the limits that the field round works within."""

from __future__ import annotations

import numpy as np
import pandas as pd

from micromarket.config import Settings
from micromarket.market_data import MarketData
from micromarket.periods import Calendar
from micromarket.rounding import largest_remainder, spread_whole
from micromarket.targets.cells import CellForecast
from micromarket.targets.forecast import CellHistory
from micromarket.targets.limits import Limits


def targets_table(
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


def limits_table(
    keys: pd.DataFrame, cells: CellForecast, bounds: Limits, money: np.ndarray, region: np.ndarray
) -> pd.DataFrame:
    """The artefact ``target_limits``: cells as they were set (markets, or market segments).

    Parameters
    ----------
    keys : DataFrame
        market_id, segment of the cells.
    money : array of shape (cells,)
        Targets.
    region : int array of shape (cells,)
        -1 or one code everywhere: no region shares anything apart from the company.
    """
    mu, spread = cells.mu, cells.spread
    sigma = spread.sigma(mu)
    noise = np.minimum(cells.noise, 0.9 * spread.own_variance(mu) + 1e-12)
    return keys.reset_index(drop=True).assign(
        low=np.round(np.minimum(bounds.low, money), 2),
        high=np.round(np.maximum(bounds.high, money), 2),
        forecast=np.round(mu, 2),
        sd=sigma,
        skew=spread.skewness(mu),
        sd_company=spread.common * mu,
        sd_region=spread.region * mu,
        sd_luck=np.sqrt(np.maximum(noise, 0.0)),
        sd_luck_company=np.minimum(cells.shared_luck, 0.7 * spread.common) * mu,
        each=cells.each,
        held_by=bounds.held_by(money),
        conflict=bounds.conflict,
    )


def limits_by_segment(limits: pd.DataFrame, targets: pd.DataFrame) -> pd.DataFrame:
    """Limits of markets over the segments of ``targets``, in proportion to these: odds stay the market's."""
    by = targets.groupby(["market_id", "segment"], sort=True)["revenue"].sum().reset_index()
    total = by.groupby("market_id")["revenue"].transform("sum")
    count = by.groupby("market_id")["revenue"].transform("size")
    by["_part"] = np.where(total > 0, by["revenue"] / total.where(total > 0), 1 / count)
    out = by.drop(columns="revenue").merge(limits.drop(columns="segment"), on="market_id", how="left")
    for column in ("low", "high", "forecast", "sd", "sd_company", "sd_region", "sd_luck_company"):
        out[column] = out[column] * out["_part"]
    out["sd_luck"] = out["sd_luck"] * np.sqrt(out["_part"])  # of cells that are lucky one by one
    out["sd_luck"] = np.minimum(out["sd_luck"], out["sd"])
    out[["low", "high", "forecast"]] = out[["low", "high", "forecast"]].round(2)
    return out.drop(columns="_part")
