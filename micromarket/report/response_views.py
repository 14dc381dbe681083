"""What the notebooks on response and allocation show, as tables: curves beside data, returns, plans side by side."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from micromarket.formats import finite, percent
from micromarket.market_data import MarketData
from micromarket.notes import Notes
from micromarket.response.panel import build_panel
from micromarket.response.transform import adstock

MULTIPLES = np.linspace(0, 3, 61)
BINS = np.array([0.0, 0.1, 0.35, 0.65, 0.9, 1.1, 1.4, 1.8, 2.3, 3.0])
LEAST = 200  # market-weeks behind a point


def curve_lines(curves: pd.DataFrame, draws: pd.DataFrame, current: pd.DataFrame) -> pd.DataFrame:
    """What a channel brings in all markets if each spends ``multiple`` times today's money.

    Returns
    -------
    DataFrame
        channel, multiple, customers, low, high (new customers over the plan period, 90% range), marginal (of today's
        marginal effect, a fraction), share (of the ceiling).
    """
    table = curves.merge(current, on=["market_id", "channel"], how="left").sort_values(["market_id", "channel"])
    drawn = draws.sort_values(["market_id", "channel"]).drop(columns=["market_id", "channel"]).to_numpy(float)
    x, half = table["current"].fillna(0.0).to_numpy(float), table["half_spend"].to_numpy(float)
    out = []
    for channel, rows in table.reset_index(drop=True).groupby("channel", sort=True).groups.items():
        i = np.asarray(rows)[x[np.asarray(rows)] > 0]
        if not len(i):
            continue
        reached = MULTIPLES[:, None] * x[i] / (MULTIPLES[:, None] * x[i] + half[i])
        by = reached @ drawn[i]
        slope = (x[i] * half[i] / (MULTIPLES[:, None] * x[i] + half[i]) ** 2) @ drawn[i].mean(axis=1)
        now = float(slope[np.argmin(np.abs(MULTIPLES - 1))])
        ceiling = float(drawn[i].sum(axis=0).mean())
        low, high = np.quantile(by, [0.05, 0.95], axis=1)
        out.append(pd.DataFrame({
            "channel": channel, "multiple": MULTIPLES, "customers": by.mean(axis=1), "low": low, "high": high,
            "marginal": slope / max(now, 1e-300), "share": by.mean(axis=1) / max(ceiling, 1e-300),
        }))  # fmt: skip
    columns = ["channel", "multiple", "customers", "low", "high", "marginal", "share"]
    return pd.concat(out, ignore_index=True) if out else pd.DataFrame(columns=columns)


def curve_points(
    data: MarketData, scores: pd.DataFrame | None, curves: pd.DataFrame, decay: dict[str, float], years: float
) -> pd.DataFrame:
    """What history shows beside the curves: new customers where pressure was so many times today's.

    Component-plus-residual points (Wood 1973): what the curve says of a market's week plus what the week had beyond it,
    markets' levels and weeks' means taken out, summed over the market-weeks of equal pressure and put in relation to
    what today's money brings there.

    Returns
    -------
    DataFrame
        channel, multiple, customers, low, high (over the plan period; 90% range from differences between markets),
        weeks (market-weeks behind it). Empty where there is no history.
    """
    columns = ["channel", "multiple", "customers", "low", "high", "weeks"]
    panel = build_panel(data, scores)
    if panel is None or data.current is None:
        return pd.DataFrame(columns=columns)
    money = data.current.groupby(["market_id", "channel"])["current"].sum()
    table = curves.set_index(["market_id", "channel"])
    periods = panel.periods_per_year * years
    signal, parts = np.zeros_like(panel.outcome), {}
    for c, channel in enumerate(panel.channels):
        if finite(decay.get(channel)) is None:
            continue
        rows = table.xs(channel, level="channel").reindex(list(panel.markets))
        today = money.xs(channel, level="channel").reindex(list(panel.markets)).fillna(0.0).to_numpy() / periods
        pressure = adstock(panel.spend[:, :, c : c + 1], np.array([decay[channel]]))[..., 0]
        pressure *= panel.unit[c] * panel.scale
        half, top = rows["half_spend"].to_numpy(float) / periods, rows["amplitude"].to_numpy(float) / periods
        parts[channel] = (pressure, top * pressure / (pressure + half), today, top * today / (today + half))
        signal += parts[channel][1] / panel.scale
    left = panel.outcome - signal
    left = (left - left.mean(axis=0) - left.mean(axis=1, keepdims=True) + left.mean()) * panel.scale
    out = []
    for channel, (pressure, brought, today, now) in parts.items():
        used = (today > 0) & np.isfinite(now)
        multiple = np.divide(pressure, today, out=np.full_like(pressure, np.nan), where=today > 0)
        for low, high in pairwise(BINS):
            inside = (multiple >= low) & (multiple < high) & used
            if inside.sum() < LEAST:
                continue
            base = float((inside * now).sum())
            rest = np.where(inside, left, 0.0).sum(axis=0)
            middle = (float(brought[inside].sum()) + float(rest.sum())) / base
            spread = 1.6449 * float(np.sqrt((rest**2).sum())) / base
            whole = float(now[used].sum()) * periods
            out.append((channel, float(multiple[inside].mean()), whole * middle, whole * (middle - spread),
                        whole * (middle + spread), int(inside.sum())))  # fmt: skip
    return pd.DataFrame(out, columns=columns)


def channel_returns(curves: pd.DataFrame, draws: pd.DataFrame, current: pd.DataFrame, value: pd.Series) -> pd.DataFrame:
    """Margin from the next unit of money in each channel, all its markets together; ``value``: money by market_id.

    Returns
    -------
    DataFrame
        Indexed by channel: value, low, high (money per unit of money, 90% range), odds (that it returns more than the
        average unit of today's money), saturation (share of the ceiling, today), halves (multiple of today's money at
        which the next unit returns half as much as now), swing (money: how far what one more tenth of its budget
        brings may be off, half the range).
    """
    table = curves.merge(current, on=["market_id", "channel"], how="left").sort_values(["market_id", "channel"])
    drawn = draws.sort_values(["market_id", "channel"]).drop(columns=["market_id", "channel"]).to_numpy(float)
    x, half = table["current"].fillna(0.0).to_numpy(float), table["half_spend"].to_numpy(float)
    worth = value.reindex(table["market_id"]).fillna(value.median() if value.notna().any() else 1.0).to_numpy(float)
    slope = (worth * x * half / (x + half) ** 2)[:, None] * drawn
    usual = slope.sum(axis=0) / max(float(x.sum()), 1e-300)
    out = {}
    for channel, rows in table.reset_index(drop=True).groupby("channel", sort=True).groups.items():
        i = np.asarray(rows)
        money = float(x[i].sum())
        if not money > 0:
            continue
        by = slope[i].sum(axis=0) / money
        low, high = np.quantile(by, [0.05, 0.95])
        mean = drawn[i].mean(axis=1)
        better = np.where(np.isclose(by, usual), 0, np.sign(by - usual))
        full = float((mean * x[i] / (x[i] + half[i])).sum() / max(float(mean.sum()), 1e-300))
        steep = (mean * x[i] * half[i] / (MULTIPLES[:, None] * x[i] + half[i]) ** 2).sum(axis=1)
        now = float((mean * x[i] * half[i] / (x[i] + half[i]) ** 2).sum())
        past = np.flatnonzero(steep <= 0.5 * now)
        out[channel] = {
            "value": float(by.mean()), "low": float(low), "high": float(high),
            "saturation": full, "odds": 0.5 + 0.5 * float(better.mean()),
            "halves": float(MULTIPLES[past[0]]) if len(past) else np.nan, "swing": 0.1 * money * float(high - low) / 2,
        }  # fmt: skip
    return pd.DataFrame.from_dict(out, orient="index")


def plans_beside(notes: Notes) -> pd.DataFrame:
    """Gain of the recommended, cautious and free plan: value, low, high, moved (money), odds; by name."""
    numbers = notes.numbers
    plans: list[tuple[str, dict[str, Any]]] = [("Recommended", dict(numbers))]
    plans += [(name, numbers[key]) for key, name in (("cautious", "Cautious"), ("free", "No limits")) if key in numbers]
    columns = ["value", "low", "high", "moved", "odds"]
    kept = [(name, plan["gain"], plan["moved"]) for name, plan in plans if plan.get("gain")]
    rows = [(g["expected"], g["low"], g["high"], moved, g["p_positive"]) for _, g, moved in kept]
    return pd.DataFrame(rows, index=[name for name, *_ in kept], columns=columns).astype(float)


def saturation_table(returns: pd.DataFrame) -> pd.DataFrame:
    """:func:`channel_returns` as people read it: how full a channel is, where it halves, what the next unit brings."""
    halves = ["beyond 3x" if np.isnan(v) else f"{v:.1f}x" for v in returns["halves"]]
    ranges = [f"{low:.2f} to {high:.2f}" for low, high in zip(returns["low"], returns["high"], strict=True)]
    return pd.DataFrame(
        {"Saturation today": [percent(v) for v in returns["saturation"]], "Halves at": halves,
         "Margin from the next unit": [f"{v:.2f}" for v in returns["value"]], "90% range": ranges},
        index=returns.index,
    ).sort_index()  # fmt: skip


def stakes_table(returns: pd.DataFrame, tested: set[str], show: Callable[[float], str]) -> pd.DataFrame:
    """Channels by what not knowing their effect costs; ``tested``: those that an experiment informs."""
    ordered = returns.sort_values("swing", ascending=False, kind="stable")
    return pd.DataFrame(
        {"Margin at stake": [show(v) for v in ordered["swing"]],
         "Backed by a test": ["yes" if c in tested else "no" for c in ordered.index]},
        index=ordered.index,
    )  # fmt: skip


def price_table(notes: Notes, markets: pd.DataFrame) -> pd.DataFrame:
    """Shadow prices of the limits that bind; ``markets``: the artefact, for names."""
    names = markets.set_index("market_id")["name"].dropna().to_dict() if "name" in markets else {}
    rows = notes.numbers.get("prices") or []
    return pd.DataFrame(
        [(row["limit"], names.get(row["name"], row["name"]), round(row["value"], 2)) for row in rows],
        columns=["Limit", "Where", "Margin from one unit more"],
    )


def segment_table(segments: pd.DataFrame, money: Callable[[float], str]) -> pd.DataFrame:
    """What the plan brings more than today's, by segment; ``segments``: the artefact budget_segments."""
    by = segments.groupby("segment")[["incremental_customers", "incremental_value"]].sum()
    by = by.sort_values("incremental_value", ascending=False, kind="stable")
    return pd.DataFrame(
        {
            "Segment": by.index,
            "New customers more": [f"{n:+,.0f}" for n in by["incremental_customers"]],
            "Margin gained": [money(v) for v in by["incremental_value"]],
        }
    )
