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
    features : array (markets, columns)
        Attributes that may change how well money works; gaps hold the median.
    extra : array (periods, markets, columns)
        Further columns of the company's panel, standardised: they move the outcome with one coefficient.
    periods : array (periods,)
        First days.
    gaps : int
        Periods inside the history for which there are no records; outcome and spend are interpolated there.
    """

    markets: tuple[str, ...]
    channels: tuple[str, ...]
    outcome: Array
    spend: Array
    scale: Array
    room: Array
    unit: Array
    region: NDArray[np.int64] | None
    features: Array
    extra: Array
    periods: NDArray[np.datetime64]
    gaps: int
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


def _features(data: MarketData, markets: pd.Index) -> Array:
    """The market columns that may explain potential; they may explain response too."""
    table = data.markets.set_index("market_id").reindex(markets)
    columns = []
    for name in sorted(data.features):
        if name in table:
            values = pd.to_numeric(table[name], errors="coerce").astype(float)
            values = values.where(np.isfinite(values))
            if values.notna().mean() >= 0.5:
                columns.append(values.fillna(values.median()).to_numpy(float))
    return np.column_stack(columns) if columns else np.zeros((len(markets), 0))


def _interpolated(cube: Array, known: NDArray[np.bool_]) -> Array:
    """Periods that are not ``known`` on a straight line between those beside them."""
    if known.all():
        return cube
    t = np.arange(len(cube))
    right = np.searchsorted(t[known], t).clip(0, int(known.sum()) - 1)
    after = t[known][right]
    before = t[known][np.maximum(np.where(known, right, right - 1), 0)]
    share = np.where(after > before, (t - before) / np.maximum(after - before, 1), 0.0)
    share = share.reshape(-1, *[1] * (cube.ndim - 1))
    return (1 - share) * cube[before] + share * cube[after]


def _cube(frame: pd.DataFrame, column: str, periods: pd.Index, markets: pd.Index) -> Array:
    """(periods, markets) sums of ``column``; 0 where there is no row."""
    out = np.zeros((len(periods), len(markets)))
    t, m = periods.get_indexer(pd.Index(frame["period"])), markets.get_indexer(pd.Index(frame["market_id"]))
    ok = (t >= 0) & (m >= 0)
    values = np.nan_to_num(pd.to_numeric(frame[column], errors="coerce").to_numpy(float))
    np.add.at(out, (t[ok], m[ok]), values[ok])
    return out


def _every(periods: pd.DatetimeIndex, monthly: bool) -> pd.DatetimeIndex:
    """All periods from the first to the last, those without records included."""
    if len(periods) < 3:
        return periods
    if monthly:
        return periods.union(pd.date_range(periods[0], periods[-1], freq="MS").as_unit(periods.unit))
    return periods.union(pd.date_range(periods[0], periods[-1], freq="7D").as_unit(periods.unit))


def build_panel(data: MarketData, scores: pd.DataFrame | None) -> Panel | None:
    """The panel of ``data``, or ``None`` where outcome or spend is missing or never positive.

    Periods without any spend row at either end are no history of nothing spent: they are not known, and left out.
    """
    if data.panel is None or data.spend is None or data.panel.empty or data.spend.empty:
        return None
    markets = pd.Index(sorted(data.markets["market_id"]), name="market_id")
    spend = data.spend[data.spend["amount"].abs() > 0]
    channels = tuple(sorted(spend["channel"].dropna().unique()))
    if not channels or not float(data.panel["new_customers"].sum()) > 0:
        return None
    first, last = spend["period"].min(), spend["period"].max()
    monthly = data.frequency == "month"
    known = pd.DatetimeIndex(sorted(data.panel["period"].unique()))
    known = known[(known >= first) & (known <= last)]
    if not len(known):
        return None
    every = _every(known, monthly)
    recorded = np.asarray(every.isin(known))
    inside = data.panel[data.panel["period"].isin(known)]
    scale, _ = market_scale(data, markets)
    outcome = _interpolated(_cube(inside, "new_customers", every, markets), recorded) / scale
    cube = np.stack([_cube(spend[spend["channel"] == c], "amount", every, markets) for c in channels], axis=-1)
    if not recorded.all():
        cube = _interpolated(cube, recorded | (cube.sum(axis=(1, 2)) > 0))
    np.maximum(cube, 0.0, out=cube)  # refunds of spend are no negative pressure
    cube /= scale[:, None]
    if not cube.any():
        return None
    unit = np.ones(len(channels))
    for k in range(len(channels)):
        used = cube[..., k][cube[..., k] > 0]
        unit[k] = used.mean() if len(used) else 1.0
    cube /= unit
    extra = []
    for name in sorted(set(inside.columns) - {"market_id", "period", "new_customers", "revenue"}):
        if pd.api.types.is_numeric_dtype(inside[name]):
            column = _interpolated(_cube(inside, name, every, markets), recorded)
            if column.std() > 0:
                extra.append((column - column.mean()) / column.std())
    return Panel(
        markets=tuple(markets),
        channels=channels,
        outcome=outcome,
        spend=cube,
        scale=scale,
        room=relative_room(scores, markets, scale),
        unit=unit,
        region=_region(data, markets),
        features=_features(data, markets),
        extra=np.stack(extra, axis=-1) if extra else np.zeros((*outcome.shape, 0)),
        periods=every.to_numpy(),
        gaps=int((~recorded).sum()),
        periods_per_year=12.0 if monthly else 365.25 / 7,
    )
