"""Targets of a market broken down by segments that customers pass through.

Segments made from behaviour ("New in the last 3 months", "Frequent", "Gone quiet") are stations: nobody is won into
"Frequent", and a new customer's later revenue shows up in another segment than the one it was won into. Means, odds and
limits are therefore set by market; here a market's revenue is split as its purchases were, by the segment that buyers
were in *then*, and its new customers over the segments that customers are won into.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from micromarket.market_data import MarketData
from micromarket.periods import Calendar, month_number
from micromarket.rounding import spread_whole

_PSEUDO_CUSTOMERS = 20.0  # of the company, when the mix of a market is estimated


def pass_through(facts: Mapping[str, Any] | None) -> bool:
    """Whether the segments follow from what customers have done since they were won (see the notes of ``data``)."""
    found = (facts or {}).get("segmentation") or {}
    return found.get("source") == "derived" and not found.get("at_start", True)


def entry_segments(history: pd.DataFrame) -> list[str]:
    """Segments that at least one in a hundred of the last 12 months' new customers were won into, most first."""
    recent = history[history["month"].isin(history["month"].drop_duplicates().nlargest(12))]
    won = recent.groupby("segment", sort=True)["new_customers"].sum().sort_values(ascending=False, kind="stable")
    return [str(s) for s in won.index[won >= 0.01 * max(float(won.sum()), 1e-9)]]


def over_segments(table: pd.DataFrame, data: MarketData, calendar: Calendar) -> pd.DataFrame:
    """``table``: the targets by market and period (segment: any) → the same by market, segment and period.

    Every market and period keeps its sums: whole customers, money to the cent. Odds stay the market's. A segment's part
    of a market's revenue is the company's in the same month of last year, tilted as far as the market's own last year
    (pooled with 20 customers of the company) departs from it.
    """
    table = table.sort_values(["market_id", "period"], kind="stable").reset_index(drop=True)
    markets, periods = table["market_id"].drop_duplicates(), len(calendar.periods)
    segments = sorted(set(data.history["segment"]) | set(data.cells["segment"]))
    last = data.history[data.history["month"].isin(data.history["month"].drop_duplicates().nlargest(12))]
    revenue, active = _sums(last, "revenue", markets, segments), float(data.cells["customers"].sum())
    each = float(revenue.sum()) / max(active, 1.0)
    seasonal = _mix_by_period(last, segments, calendar)
    parts = _tilted(revenue, _PSEUDO_CUSTOMERS * each)[:, None, :] * seasonal[None]
    won = _sums(last, "new_customers", markets, segments)
    entered = np.isin(segments, entry_segments(last))
    mix = _tilted(won * entered, _PSEUDO_CUSTOMERS) * np.maximum(won.sum(axis=0) * entered, 0.0)
    rows = parts.reshape(len(table), len(segments))
    rows = rows / rows.sum(axis=1, keepdims=True)

    wide = table.loc[np.repeat(table.index, len(segments))].reset_index(drop=True)
    wide["segment"] = np.tile(np.array(segments, dtype=object), len(table))
    wide["new_customers"] = spread_whole(table["new_customers"].to_numpy(), np.repeat(mix, periods, axis=0)).ravel()
    for column in ("revenue", "margin"):
        money = table[column].to_numpy(float)
        if np.isfinite(money).all():
            cents = np.round(money * 100).astype(np.int64)
            wide[column] = (np.sign(cents)[:, None] * spread_whole(np.abs(cents), rows)).ravel() / 100
    wide["last_target"] = (table["last_target"].to_numpy(float)[:, None] * rows).ravel()
    return wide.sort_values(["market_id", "segment", "period"], kind="stable").reset_index(drop=True)


def _sums(history: pd.DataFrame, column: str, markets: pd.Series, segments: list[str]) -> np.ndarray:
    """Totals of shape (markets, segments); refunds that outweigh purchases count as nothing."""
    by = history.groupby(["market_id", "segment"], sort=True)[column].sum().unstack("segment")
    found = by.reindex(index=pd.Index(markets), columns=segments).to_numpy(float)
    return np.maximum(np.nan_to_num(found), 0.0)


def _tilted(totals: np.ndarray, pseudo: float) -> np.ndarray:
    """Each market's mix over that of the company, of shape (markets, segments): 1 where nothing tells them apart."""
    company = totals.sum(axis=0)
    mix = company / company.sum() if company.sum() > 0 else np.full(totals.shape[1], 1 / totals.shape[1])
    own = (totals + max(pseudo, 1e-9) * mix) / (totals.sum(axis=1, keepdims=True) + max(pseudo, 1e-9))
    return np.where(mix > 0, own / np.where(mix > 0, mix, 1.0), 0.0)


def _mix_by_period(last: pd.DataFrame, segments: list[str], calendar: Calendar) -> np.ndarray:
    """The company's revenue mix, of shape (periods, segments), in the same months of last year."""
    by = last.assign(number=month_number(last["month"])).groupby(["number", "segment"], sort=True)["revenue"].sum()
    months = by.unstack("segment").reindex(columns=segments).fillna(0.0).clip(lower=0.0)
    overall = months.sum().to_numpy()
    overall = overall / overall.sum() if overall.sum() > 0 else np.full(len(segments), 1 / len(segments))
    same = {int(number) % 12: row for number, row in zip(months.index, months.to_numpy(), strict=True)}
    mixes = []
    for number in calendar.months:
        row = same.get(int(number) % 12)
        mixes.append(overall if row is None or row.sum() <= 0 else row / row.sum())
    weight = calendar.weights[:, None] * calendar.month_to_period
    mix = weight.T @ np.stack(mixes)
    return mix / mix.sum(axis=1, keepdims=True)
