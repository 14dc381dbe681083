"""The contract's limits as bounds in money, and money in whole cents that keeps to them."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from micromarket.allocation.rounding import CENT, round_to_unit
from micromarket.allocation.solver import Allocation, Group, allocate
from micromarket.config import Budget
from micromarket.market_data import MarketData

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Cells:
    """Cells (market x channel), one entry each, in the order of the tables: markets, then channels, sorted.

    Money over the plan period. ``blocked``: cells of markets that keep their money; ``held``: cells without spend
    today, which stay without (their limits are ratios of today's money).
    """

    market: NDArray[np.int64]
    channel: NDArray[np.int64]
    region: NDArray[np.int64] | None
    markets: tuple[str, ...]
    channels: tuple[str, ...]
    regions: tuple[str, ...]
    current: Array
    amplitude: Array
    half_spend: Array
    value: Array
    blocked: NDArray[np.bool_]

    @property
    def held(self) -> NDArray[np.bool_]:
        return self.current <= 0

    def outcome(self, spend: Array) -> Array:
        """Share of the amplitude that ``spend`` reaches, less what today's money reaches."""
        return spend / (spend + self.half_spend) - self.current / (self.current + self.half_spend)


def blocked_markets(field_notes: pd.DataFrame | None, as_of: dt.date) -> set[str]:
    """Markets with a note of kind ``blocked`` that has not expired at ``as_of``."""
    if field_notes is None or field_notes.empty:
        return set()
    notes = field_notes[field_notes["kind"] == "blocked"]
    if "expires_on" in notes:
        ends = pd.to_datetime(notes["expires_on"])
        notes = notes[ends.isna() | (ends >= pd.Timestamp(as_of))]
    return set(notes["market_id"].astype(str))


def build_cells(data: MarketData, curves: pd.DataFrame, value: Array, markets: pd.Index, blocked: set[str]) -> Cells:
    """Cells from the curves; ``value`` (money per new customer) in the order of ``markets``."""
    assert data.current is not None
    curves = curves.sort_values(["market_id", "channel"], kind="stable")
    channels = pd.Index(sorted(curves["channel"].unique()))
    code = markets.get_indexer(pd.Index(curves["market_id"]))
    money = data.current.groupby(["market_id", "channel"])["current"].sum()
    current = money.reindex(pd.MultiIndex.from_frame(curves[["market_id", "channel"]])).fillna(0.0).clip(lower=0.0)
    region, names = None, pd.Index([])
    table = data.markets.set_index("market_id").reindex(markets)
    if "region" in table and table["region"].notna().any():
        text = table["region"].astype("string").fillna("(no region)")
        names = pd.Index(sorted(str(t) for t in text.unique()))
        region = names.get_indexer(pd.Index(text))[code].astype(np.int64)
    return Cells(
        market=code.astype(np.int64),
        channel=channels.get_indexer(pd.Index(curves["channel"])).astype(np.int64),
        region=region,
        markets=tuple(markets),
        channels=tuple(channels),
        regions=tuple(str(n) for n in names),
        current=to_cents(current.to_numpy(float)),
        amplitude=curves["amplitude"].to_numpy(float),
        half_spend=curves["half_spend"].to_numpy(float),
        value=value[code],
        blocked=np.isin(curves["market_id"].astype(str), sorted(blocked)),
    )


def solve(cells: Cells, limits: Budget, total: float, weight: Array | None = None, scale: float = 1.0) -> Allocation:
    """The best allocation of ``total`` within ``limits``.

    ``weight``: value of each cell's amplitude (default: value x amplitude); ``scale``: ratios are meant against
    today's money times this (the frontier asks what another total would bring under the same freedom to move).
    """
    return allocate(
        cells.value * cells.amplitude if weight is None else weight,
        cells.half_spend,
        np.ones(len(cells.current)),
        cells.current * scale,
        total=total,
        min_return=limits.min_return,
        min_ticket=limits.min_ticket,
        max_shift=_rounding_room(
            _most_moved(limits.max_shift, total, cells.current.sum() * scale), len(cells.current), limits.round_to
        ),
        **_bounds(cells, limits, scale),
    )


def _most_moved(max_shift: float, total: float, current: float) -> float:
    """Half the sum of absolute changes that is allowed, money.

    Where another total alone changes more than that, the limit counts what moves beyond the growth or the cut.
    """
    unavoidable = abs(total - current) / 2
    return max_shift * total + (unavoidable if unavoidable > max_shift * total else 0.0)


def neutral(cells: Cells, limits: Budget, total: float) -> Array:
    """Today's allocation brought to ``total``, in cents: in proportion as far as the limits let it be.

    Equal curves per unit of today's money make proportional money the optimum.
    """
    bands = (limits.market_change, limits.cell_change, limits.channel_change, limits.region_change)
    if abs(total - float(cells.current.sum())) < CENT / 2 and all(b is None or b[0] <= 1 <= b[1] for b in bands):
        return cells.current.copy()
    fair = replace(cells, half_spend=np.maximum(cells.current, CENT), value=np.ones(len(cells.current)))
    found = solve(fair, replace(limits, min_return=None), total, weight=cells.current)
    return round_to_limits(cells, limits, found.spend, total)


def _bounds(cells: Cells, limits: Budget, scale: float) -> dict[str, Any]:
    now = cells.current * scale
    low, high = now * limits.cell_change[0], now * limits.cell_change[1]
    low, high = (np.where(cells.blocked, cells.current, bound) for bound in (low, high))
    # whole cents inside the limits, so that rounding cannot break them
    low, high = np.ceil(low / CENT - 1e-6) * CENT, np.floor(high / CENT + 1e-6) * CENT
    high = np.maximum(high, low)
    bounds: dict[str, Any] = {"low": low, "high": high}
    still = np.where(cells.blocked, cells.current, 0.0)
    wanted = (
        ("market", cells.market, cells.markets, limits.market_change),
        ("channel", cells.channel, cells.channels, limits.channel_change),
        ("region", cells.region, cells.regions, limits.region_change),
    )
    for family, code, names, band in wanted:
        if code is None or band is None:
            continue
        size = len(names)
        base: Any = np.bincount(code, now, size)
        count = np.bincount(code, minlength=size)
        floor, ceiling = base * band[0], base * band[1]
        room = np.minimum(count * CENT, 0.1 * (ceiling - floor))
        floor, ceiling = np.where(floor > 0, floor + room, 0.0), ceiling - room
        if family == "market":  # a blocked market keeps its money whatever the band says
            kept = np.bincount(code, still, size)
            is_blocked = np.bincount(code, cells.blocked, size) > 0
            floor, ceiling = np.where(is_blocked, kept, floor), np.where(is_blocked, kept, ceiling)
        bounds[family] = Group(code, floor, ceiling, names)
    return bounds


def _rounding_room(money: float, count: int, round_to: float | None) -> float:
    if round_to is None:
        return money - min(count * CENT / 2, 1e-3 * money)
    return money - min(count * round_to / 2, 2e-2 * money)


def to_cents(money: Array, total: float | None = None, low: Array | None = None, high: Array | None = None) -> Array:
    """Whole cents that add up to ``total`` (default: the sum, rounded): largest remainder within the bounds."""
    units = money / CENT
    whole = np.floor(units + 1e-6)
    short = round((float(money.sum()) if total is None else total) / CENT) - int(whole.sum())
    rest = units - whole
    step = 1 if short >= 0 else -1
    for _ in range(1000):  # one round does, but for rounding inside tight bounds
        if short == 0:
            break
        after = (whole + step) * CENT
        legal = (after >= (0 if low is None else low - 1e-7)) & (high is None or after <= high + 1e-7)
        legal &= money > 0
        order = np.argsort(-rest * step, kind="stable")
        take = order[legal[order]][: abs(short)]
        if not len(take):
            break
        whole[take] += step
        rest[take] -= step
        short -= step * len(take)
    return np.round(whole * CENT, 2)


def round_to_limits(cells: Cells, limits: Budget, spend: Array, total: float) -> Array:
    """``spend`` in whole cents, or units of ``limits.round_to``, within the limits.

    Cells whose change is no more than the solver's noise keep today's money (in cents, without ``round_to``).
    """
    noise = 2 * CENT + 1e-5 * cells.current
    spend = np.where(np.abs(spend - cells.current) < noise, cells.current, spend)
    bounds = _bounds(cells, limits, 1.0)
    low, high = bounds.pop("low"), bounds.pop("high")
    if limits.min_ticket > 0:  # nothing stays nothing, a ticket stays one
        free = high > low
        some = free & (spend >= limits.min_ticket / 2)
        low, high = np.where(some, np.maximum(low, limits.min_ticket), low), np.where(free & ~some, low, high)
    if limits.round_to is None:
        return to_cents(spend, total, low, high)
    most = _most_moved(limits.max_shift, total, float(cells.current.sum()))
    return round_to_unit(
        spend, limits.round_to, total, low, high, tuple(bounds.values()), current=cells.current, max_shift=most,
        value=lambda x: cells.value * cells.amplitude * x / (x + cells.half_spend),
    )  # fmt: skip
