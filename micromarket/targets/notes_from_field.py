"""What managers know of single markets, blended into the targets: capped, zero-sum, with a reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from micromarket.config import Settings
from micromarket.errors import shown
from micromarket.targets.attainment import field_round
from micromarket.targets.cells import CellForecast

FIELD_CAP = 0.05  # largest change that the notes may make to a target


def after_notes(
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
