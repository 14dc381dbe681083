"""A goal out of reach: how much is missing, and the cheapest ways to close it, by place and amount."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from micromarket.config import Settings
from micromarket.formats import listed, money, plural
from micromarket.market_data import MarketData
from micromarket.targets.cells import CellForecast

_FARTHEST = 2.0  # times the larger of today's and the recommended money: curves say nothing further out
_SHOWN = 5


@dataclass(frozen=True)
class Ways:
    """What closes a gap, at most ``missing`` money of revenue.

    Attributes
    ----------
    budget : DataFrame
        market_id, channel, amount (money more), customers (new ones), revenue (money in the plan), dearest first by
        amount; empty where no curve is known.
    reps : DataFrame
        market_id, customers (a year's plan, that its reps can't win today), reps (whole persons), revenue.
    """

    missing: float
    budget: pd.DataFrame
    reps: pd.DataFrame


def ways_to_close(
    missing: float, keys: pd.DataFrame, cells: CellForecast, data: MarketData, budget: pd.DataFrame | None,
    curves: pd.DataFrame | None, settings: Settings,
) -> Ways:  # fmt: skip
    """The cheapest further money (over all market x channel cells at one price), and reps where they hold back.

    Parameters
    ----------
    missing : float
        Revenue to be found; money over the plan.
    curves : DataFrame, optional
        market_id, channel, amplitude, half_spend: new customers over the plan from spend x are ``amplitude x / (x +
        half_spend)``.
    """
    markets, names = pd.factorize(keys["market_id"])
    weight = cells.wanted + 1e-9
    each = np.bincount(markets, cells.each * weight) / np.bincount(markets, weight)
    free = np.maximum(cells.cap - cells.new, 0.0)
    room = np.bincount(markets, np.minimum(free, 1e15))
    worth = pd.DataFrame({"market_id": names, "each": each, "room": room})
    extra = _money(missing, worth, budget, curves, settings) if budget is not None and curves is not None else None
    if extra is None:
        extra = pd.DataFrame(columns=["market_id", "channel", "amount", "customers", "revenue"])
    return Ways(missing, extra, _reps(keys, cells, data, settings))


def _money(
    missing: float, worth: pd.DataFrame, budget: pd.DataFrame, curves: pd.DataFrame, settings: Settings
) -> pd.DataFrame | None:
    on = ["market_id", "channel"]
    if not {"current", "recommended"} <= set(budget.columns):
        return None
    found = curves[[*on, "amplitude", "half_spend"]].merge(budget[[*on, "current", "recommended"]], on=on)
    found = found.merge(worth, on="market_id").sort_values(on, kind="stable").reset_index(drop=True)
    start = found["recommended"].to_numpy(float)
    top, half = found["amplitude"].to_numpy(float), found["half_spend"].to_numpy(float)
    each = found["each"].to_numpy(float)
    most = np.maximum(_FARTHEST * np.maximum(start, found["current"].to_numpy(float)), start)
    use = (top > 0) & (half > 0) & (each > 0) & (most > start)
    if not use.any():
        return None
    top, half, each = np.where(use, top, 0.0), np.where(use, half, 1.0), np.where(use, each, 0.0)
    market, _ = pd.factorize(found["market_id"])
    room = found.groupby(market)["room"].first().to_numpy(float)

    def at(price: float) -> tuple[np.ndarray, np.ndarray]:
        """Money and new customers more where a unit of money brings ``price`` of revenue at the margin."""
        spend = np.clip(np.sqrt(top * half * each / price) - half, start, most)
        won = top * (spend / (spend + half) - start / (start + half))
        held = np.minimum(room / np.maximum(np.bincount(market, won), 1e-12), 1.0)[market]
        won = won * held  # reps and potential bound what money can bring
        base = top * start / (start + half) + won
        spend = np.where(held < 1, half * base / np.maximum(top - base, 1e-12), spend)
        return np.where(use, spend - start, 0.0), np.where(use, won, 0.0)

    low, high = -30.0, 30.0  # logarithms of the price
    for _ in range(80):
        middle = (low + high) / 2
        enough = float((at(float(np.exp(middle)))[1] * each).sum()) >= missing
        low, high = (middle, high) if enough else (low, middle)
    spend, won = at(float(np.exp(low)))
    out = found[on].assign(amount=spend.round(2), customers=won, revenue=won * each)
    out = out[out["amount"] > 0.005]
    return out.sort_values(["amount", *on], ascending=[False, True, True], kind="stable").reset_index(drop=True)


def _reps(keys: pd.DataFrame, cells: CellForecast, data: MarketData, settings: Settings) -> pd.DataFrame:
    lost = np.where(cells.capped_by_reps, np.minimum(cells.wanted, cells.cap_potential) - cells.new, 0.0)
    by = pd.DataFrame({"market_id": keys["market_id"], "customers": lost, "revenue": lost * cells.each})
    by = by.groupby("market_id", sort=True).sum().reset_index()
    by = by[by["customers"] > 0.5].reset_index(drop=True)
    markets = data.markets.drop_duplicates("market_id").set_index("market_id")
    reps, capacity = (pd.to_numeric(markets[c]) if c in markets else pd.Series(np.nan, markets.index)
                      for c in ("reps", "capacity"))  # fmt: skip
    total = float(capacity.sum()) / max(float(reps.sum()), 1e-9) * settings.plan.years
    own = (capacity / reps.where(reps > 0)).reindex(by["market_id"]).to_numpy(float) * settings.plan.years
    rate = np.where(np.isfinite(own) & (own > 0), own, total)
    by["reps"] = np.where(rate > 0, np.ceil(by["customers"] / np.maximum(rate, 1e-9) - 1e-9), np.nan)
    return by.sort_values(["revenue", "market_id"], ascending=[False, True], kind="stable").reset_index(drop=True)


def gap_of(
    goal: float, reach: float, published: float, cells: CellForecast, settings: Settings, unit: str, ways: Ways,
    margin_rate: float | None, names: pd.Series, moved: float,
) -> dict[str, Any]:  # fmt: skip
    """The gap as published: ``revenue`` (money), ``text``, and the ways to close it with places and amounts."""
    missing, currency = max(goal - reach, 0.0), settings.company.currency
    words = [
        f"At {settings.targets.attainment:.0%} odds the company can count on {money(reach, currency)};"
        f" {money(missing, currency)} of the goal of {money(goal, currency)} is not covered."
    ]
    weight = cells.new + 1e-9
    each = float((cells.each * weight).sum() / weight.sum())
    if each > 0:
        words.append(
            f"About {int(np.ceil(missing / each)):,} more new customers over the plan, beyond the"
            f" {cells.new.sum():,.0f} forecast, close it."
        )

    def place(market: str) -> str:
        return str(names.get(market, market))

    spend, brings = float(ways.budget["amount"].sum()), float(ways.budget["revenue"].sum())
    first = ways.budget.groupby("market_id", sort=True)["amount"].sum()
    first = first.sort_values(ascending=False, kind="stable").head(_SHOWN)
    if spend > 0:
        where = listed([f"{place(str(m))} ({money(a, currency)})" for m, a in first.head(3).items()])
        part = "closes it" if brings >= 0.995 * missing else f"closes {money(brings, currency)} of it"
        words.append(f"{money(spend, currency)} more budget {part}, most of it in {where}.")
        if margin_rate is not None and brings * margin_rate < spend:
            words.append(
                f"Within the plan it brings only {money(brings * margin_rate, currency)} of margin: worth it only if"
                " the customers stay."
            )
    held = int(cells.capped_by_reps.sum())
    if len(ways.reps):
        top = ways.reps.head(_SHOWN)
        where = listed([
            place(str(r["market_id"])) + (f" ({plural(int(r['reps']), 'rep')})" if np.isfinite(r["reps"]) else "")
            for r in top.head(3).to_dict("records")
        ])  # fmt: skip
        words.append(
            f"{plural(held, unit)} {'is' if held == 1 else 'are'} held back by the capacity of"
            f" {'its' if held == 1 else 'their'} reps: more reps would bring"
            f" {money(float(ways.reps['revenue'].sum()), currency)}, first in {where}."
        )
    if moved > 0:
        words.append(f"Moving reps as proposed adds about {money(moved, currency)} of margin over the horizon.")
    if published < goal:
        words.append(
            f"The limits of the markets hold only {money(published, currency)}: that is what the targets add up to,"
            f" {money(goal - published, currency)} short of the goal."
        )
    return {
        "revenue": round(missing, 2),
        "text": " ".join(words),
        "budget": {
            "amount": round(spend, 2), "revenue": round(brings, 2),
            "markets": [{"market_id": str(m), "amount": round(float(a), 2)} for m, a in first.items()],
        },
        "reps": [
            {"market_id": str(r["market_id"]), "reps": None if not np.isfinite(r["reps"]) else int(r["reps"]),
             "customers": round(float(r["customers"]), 1), "revenue": round(float(r["revenue"]), 2)}
            for r in ways.reps.head(_SHOWN).to_dict("records")
        ],
    }  # fmt: skip
