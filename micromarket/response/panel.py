"""The arrays that the response model works on, from the tables of the data stage."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from micromarket.market_data import MarketData
from micromarket.response.transform import Array


@dataclass(frozen=True)
class Panel:
    """Markets in the order of ``markets``, periods in time order, channels in the order of ``channels``.

    Attributes
    ----------
    outcome : array (periods, markets)
        New customers per head of ``scale`` and period.
    spend : array (periods, markets, channels)
        Money per head of ``scale`` and period, in multiples of ``unit``.
    scale : array (markets,)
        Addressable customers, or the best stand-in (count).
    room : array (markets,)
        Headroom per head over the average headroom per head; 1 where unknown.
    unit : array (channels,)
        Mean money per head and period where the channel is used.
    region : array (markets,) or None
        Code of the region.
    """

    markets: tuple[str, ...]
    channels: tuple[str, ...]
    outcome: Array
    spend: Array
    scale: Array
    room: Array
    unit: Array
    region: NDArray[np.int64] | None
    periods_per_year: float


def market_scale(data: MarketData, markets: pd.Index) -> tuple[Array, str]:
    """Size of each market in heads (all positive) and the name of what it is measured by.

    The first of addressable customers, customers of the whole market, own customers and new customers of the last year
    that is known in at least half of the markets; gaps get the median ratio of what is known to own customers.
    """
    table = data.markets.set_index("market_id").reindex(markets)
    new = data.cells.groupby("market_id")["new_customers_last_year"].sum().reindex(markets).fillna(0.0)
    candidates = {c: table[c] for c in ("addressable_customers", "market_customers", "customers") if c in table}
    candidates["new customers of the last year"] = new
    own = candidates.get("customers", new).astype(float).fillna(0.0) + 1.0
    for name, raw in candidates.items():
        column = pd.to_numeric(raw, errors="coerce").astype(float)
        known = (column > 0) & np.isfinite(column)
        if known.mean() >= 0.5:
            guess = own * float((column[known] / own[known]).median())
            return np.asarray(column.where(known, guess).clip(lower=1.0), dtype=np.float64), name.replace("_", " ")
    return np.ones(len(markets)), "market"


def relative_room(scores: pd.DataFrame | None, markets: pd.Index, scale: Array) -> Array:
    """Headroom per head over its average, within 0.1 and 10; 1 where the scores do not say."""
    if scores is None or "headroom" not in scores:
        return np.ones(len(markets))
    headroom = pd.to_numeric(scores.set_index("market_id")["headroom"], errors="coerce").reindex(markets)
    known = headroom.notna().to_numpy()
    total = float(headroom.clip(lower=0).sum())
    if not known.any() or total <= 0:
        return np.ones(len(markets))
    per_head = headroom.clip(lower=0).to_numpy(float) / scale
    room = np.where(known, per_head / (total / scale[known].sum()), 1.0)
    return np.clip(room, 0.1, 10.0)


def _region(data: MarketData, markets: pd.Index) -> NDArray[np.int64] | None:
    """Code of each market's region, ``None`` where there are none."""
    table = data.markets.set_index("market_id").reindex(markets)
    if "region" not in table or not table["region"].notna().any():
        return None
    return np.asarray(pd.factorize(table["region"].astype("string").fillna(""), sort=True)[0], dtype=np.int64)


def build_panel(data: MarketData, scores: pd.DataFrame | None) -> Panel | None:
    """The panel of ``data``, or ``None`` where outcome or spend is missing or never positive."""
    if data.panel is None or data.spend is None or data.panel.empty or data.spend.empty:
        return None
    markets = pd.Index(sorted(data.markets["market_id"]), name="market_id")
    outcome = data.panel.pivot_table(index="period", columns="market_id", values="new_customers", aggfunc="sum")
    outcome = outcome.sort_index().reindex(columns=markets).fillna(0.0)
    spend = data.spend[data.spend["amount"].abs() > 0]
    channels = tuple(sorted(spend["channel"].dropna().unique()))
    # Periods without any spend row at either end are no history of nothing spent: they are not known.
    if not channels or not float(outcome.to_numpy().sum()) > 0:
        return None
    first, last = spend["period"].min(), spend["period"].max()
    outcome = outcome.loc[(outcome.index >= first) & (outcome.index <= last)]
    if outcome.empty:
        return None
    cube = np.zeros((len(outcome), len(markets), len(channels)))
    t = outcome.index.get_indexer(pd.Index(spend["period"]))
    m = markets.get_indexer(pd.Index(spend["market_id"]))
    c = pd.Index(channels).get_indexer(pd.Index(spend["channel"]))
    ok = (t >= 0) & (m >= 0) & (c >= 0)
    np.add.at(cube, (t[ok], m[ok], c[ok]), spend["amount"].to_numpy(float)[ok])
    scale, _ = market_scale(data, markets)
    cube = np.maximum(cube, 0.0) / scale[:, None]  # refunds of spend are no negative pressure
    used = cube > 0
    if not used.any():
        return None
    unit = np.array([cube[..., k][used[..., k]].mean() if used[..., k].any() else 1.0 for k in range(len(channels))])
    return Panel(
        markets=tuple(markets),
        channels=channels,
        outcome=outcome.to_numpy(float) / scale,
        spend=cube / unit,
        scale=scale,
        room=relative_room(scores, markets, scale),
        unit=unit,
        region=_region(data, markets),
        periods_per_year=12.0 if data.frequency == "month" else 365.25 / 7,
    )
