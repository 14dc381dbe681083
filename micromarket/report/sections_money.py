"""Where the money and the opportunity are, what moves and what that brings."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd

from micromarket.formats import compact, count, finite, listed, percent, plural
from micromarket.report import figures, maps, views
from micromarket.report.blocks import HALF_MM, Block, Column, Desk, Section, beside, lead, table
from micromarket.report.style import label

CALLOUTS = 3
NEAR_TOP = 15  # only markets among the first so many of their direction are named on a map
COVER_MM = 128


def _callouts(shapes: gpd.GeoSeries, values: pd.Series, diverging: bool) -> list[str]:
    """Markets to name: the biggest of each direction, none so near another that their labels would fight."""
    ordered = values.reindex(shapes.index).dropna().sort_index().sort_values(ascending=False, kind="stable")
    up, down = list(ordered[ordered > 0].index), list(ordered[ordered < 0].index[::-1])
    left, bottom, right, top = shapes.total_bounds
    apart = 0.09 * max(right - left, top - bottom)
    places = shapes.representative_point()
    chosen: list[str] = []
    for candidates, most in ((up, CALLOUTS if diverging else 2 * CALLOUTS), (down if diverging else [], CALLOUTS)):
        taken = 0
        for market in candidates[:NEAR_TOP]:
            if taken < most and all(places[market].distance(places[other]) >= apart for other in chosen):
                chosen.append(market)
                taken += 1
    return chosen


def map_or_bars(
    desk: Desk,
    name: str,
    values: pd.Series,
    title: str,
    unit: str,
    show,
    *,
    diverging: bool = True,
    height_mm: float = 96,
    note: str = "",
    low: pd.Series | None = None,
    high: pd.Series | None = None,
) -> Block:
    """A map of ``values`` where the company has borders, otherwise the ranked markets."""
    names = desk.frame["name"]
    ordered = values.dropna().sort_index().sort_values(ascending=False, kind="stable")
    best = listed([f"{label(names[m], 40)} ({show(values[m])})" for m in ordered.index[:3]])
    alt = f"{unit} by market. Highest: {best}."
    if diverging and len(ordered):
        worst = listed([f"{label(names[m], 40)} ({show(values[m])})" for m in ordered.index[::-1][:3]])
        alt += f" Lowest: {worst}."
    if desk.shapes is not None and len(desk.shapes):
        svg = maps.choropleth(
            desk.shapes,
            values,
            names,
            unit=unit,
            money=show,
            diverging=diverging,
            callouts=_callouts(desk.shapes, values, diverging),
            height_mm=height_mm,
        )
    else:
        svg = maps.ranked_bars(
            values, names, unit=unit, money=show, diverging=diverging, low=low, high=high, height_mm=height_mm
        )
    return desk.figure(name, title, alt, svg, note)


def cover(desk: Desk) -> list[Block]:
    """The picture under the headline: money moved, else opportunity, else customers."""
    frame = desk.frame
    if "change" in frame and float(frame["change"].abs().sum()) > 0:
        return [
            map_or_bars(
                desk,
                "cover",
                frame["change"],
                "",
                "Change of money by market over the plan period",
                desk.signed,
                height_mm=COVER_MM,
            )
        ]
    if "opportunity" in frame and desk.number("potential", "signal", "verdict") != "none":
        return [
            map_or_bars(
                desk,
                "cover",
                frame["opportunity"],
                "",
                "Opportunity by market: margin still to be won",
                desk.money,
                diverging=False,
                height_mm=COVER_MM,
            )
        ]
    segments = desk.plan.segments
    if desk.number("value", "signal", "verdict") == "none" and segments is not None and len(segments) > 1:
        by = segments.set_index("segment").sort_values("clv", ascending=False)
        shown = pd.DataFrame({"value": by["clv"], "low": np.nan, "high": np.nan}).head(12)
        svg = figures.dots_on_bars(shown, "Lifetime value of a customer, by segment", desk.money)
        alt = (
            f"Lifetime value by segment: {listed([f'{label(s)} {desk.money(v)}' for s, v in shown['value'].items()])}."
        )
        return [desk.figure("cover", "Value differs between segments, not between markets", alt, svg)]
    if "customers" in frame and frame["customers"].notna().any():
        return [
            map_or_bars(
                desk,
                "cover",
                frame["customers"],
                "",
                "Active customers by market",
                count,
                diverging=False,
                height_mm=COVER_MM,
            )
        ]
    return []


def where_money_is(desk: Desk) -> Section | None:
    frame, blocks = desk.frame, []
    by = views.tenths(desk.plan, frame)
    astray = views.misplaced(frame)
    title = "Where the money is, and where the opportunity is"
    if astray is not None and desk.number("potential", "signal", "verdict") != "none":
        amount, total = float(astray.clip(lower=0).sum()), float(frame["current"].sum())
        title = f"{percent(amount / total)} of the spend is not where the opportunity is"
    if by is not None:
        step = "tenth" if len(by) == 10 else "fifth"
        low, high = by.iloc[0], by.iloc[-1]
        finding = (
            f"The {step} of markets worth least gets {percent(low['spend_share'])} of the spend and holds"
            f" {percent(low['opportunity_share'])} of the opportunity; the {step} worth most gets"
            f" {percent(high['spend_share'])} and holds {percent(high['opportunity_share'])}"
        )
        blocks.append(
            desk.figure(
                "tenths",
                finding,
                f"Bars of the share of spend and of opportunity by {step}. {finding}.",
                figures.tenths(by),
                "Opportunity: customers still to be won times what a new customer is worth.",
            )
        )
    if astray is not None and desk.number("potential", "signal", "verdict") != "none":
        finding = f"{desk.money(amount)} would sit elsewhere if spend followed the opportunity"
        shown = -astray  # as everywhere: teal gets more, orange gets less
        blocks.append(
            map_or_bars(
                desk,
                "astray",
                shown,
                finding,
                "Money missing (+) or too much (−) against the opportunity",
                desk.signed,
                height_mm=116,
                note="A yardstick, not the plan: the plan also asks how well spend works and what limits hold.",
            )
        )
    elif "opportunity" in frame and float(frame["opportunity"].sum()) > 0:
        share = finite(desk.number("potential", "opportunity_share_top_fifth"))
        ranked = desk.number("potential", "signal", "verdict") != "none"
        title = f"{desk.money(frame['opportunity'].sum())} of margin is still to be won"
        if ranked and share is not None:
            finding = f"The best fifth of markets holds {percent(share)} of the opportunity"
            alt = f"Cumulative share of opportunity over markets. {finding}."
            blocks.append(desk.figure("concentration", finding, alt, figures.share_line(frame["opportunity"], 62)))
    if not blocks:
        return None
    return Section("Money and opportunity", title, tuple(blocks))


def moves(desk: Desk) -> Section | None:
    if "budget" not in desk.plan.tables:
        return None
    up, down = views.moves(desk.plan)
    moved, total = finite(desk.number("allocation", "moved")), finite(desk.number("allocation", "total"))
    if up.empty and down.empty:
        return Section(
            "Where the money moves",
            "No money moves",
            (
                lead(
                    "Within the limits set, no move would bring more than it costs, given how uncertain its effect is."
                ),
            ),
        )
    blocks: list[Block] = []
    n_up, n_down = desk.number("allocation", "markets_up"), desk.number("allocation", "markets_down")
    title = f"{desk.money(moved)} changes place" if moved is not None else "Where the money moves"
    if moved and total:
        blocks.append(
            lead(
                f"That is {percent(moved / total)} of {desk.money(total)}. {plural(n_up, 'market')} get more,"
                f" {plural(n_down, 'market')} get less."
            )
        )
    columns = [
        Column("Market", width="1.7fr"),
        Column("Channel", width="1.2fr"),
        Column("Now", True),
        Column("Plan", True),
        Column("Change", True, signed=True),
        Column("Why", width="5.4fr"),
    ]
    for part, name in ((up, "rises"), (down, "cuts")):
        if part.empty:
            continue
        rows = [
            (
                label(r.name, 60),
                channel_name(r.channel),
                desk.money(r.current),
                desk.money(r.recommended),
                desk.signed(r.change),
                _why(r.reason),
            )
            for r in part[["name", "channel", "current", "recommended", "change", "reason"]].itertuples(
                index=False, name="Row"
            )
        ]
        which = "The biggest " + name if len(part) > 1 else f"The biggest {name[:-1]}"
        sum_text = f"{which}: {desk.signed(part['change'].sum())} in {plural(len(part), 'move')}"
        blocks.append(table(sum_text, columns, rows, dense=True))
    return Section("Where the money moves", title, tuple(blocks))


def shifts(desk: Desk) -> Section | None:
    """By channel and by region, what the moves bring, and what another total would bring."""
    if "budget" not in desk.plan.tables:
        return None
    blocks: list[Block] = []
    budget = desk.plan.tables["budget"]
    sums = ["current", "recommended"]
    by_channel = views.grouped(budget.assign(channel=budget["channel"].map(channel_name)), "channel", sums, 10)
    groups = {"channel": by_channel}
    column = views.group_column(desk.plan)
    if column:
        groups[column] = views.grouped(desk.frame, column, sums, 10)
    rows = max(len(by) for by in groups.values())
    blocks.append(beside(*(_from_to(desk, by, what, rows, len(groups)) for what, by in groups.items())))
    gain = desk.number("allocation", "gain") or {}
    expected, low, high = (finite(gain.get(k)) for k in ("expected", "low", "high"))
    title = "What the moves bring"
    if expected is not None:
        title = f"The moves should bring {desk.signed(expected)} of margin"
        if low is not None and high is not None:
            title += f" (90%: {desk.money_range(low, high)})"
    best = (
        desk.frame[desk.frame["gain"].abs() > 0]
        .sort_index()
        .sort_values("gain", ascending=False, kind="stable")
        .head(7)
    )
    if len(best) and float(best["gain"].iloc[0]) > 0:
        ranges = pd.DataFrame({"value": best["gain"], "low": best["gain_low"], "high": best["gain_high"]})
        ranges.index = pd.Index(best["name"])
        share = float(best["gain"].clip(lower=0).sum() / desk.frame["gain"].clip(lower=0).sum())
        finding = f"{plural(len(best), 'market')} bring {percent(share)} of what the rises earn"
        alt = f"Margin gained by market with its 90% range. {finding}, first {label(best['name'].iloc[0], 40)}."
        svg = figures.dots_on_bars(ranges, "Margin gained against today's allocation (dot; bar: 90%)", desk.money)
        blocks.append(desk.figure("gains", finding, alt, svg))
    last = [*_frontier(desk), *response(desk)]
    if last:
        blocks.append(beside(*last))
    return Section("What it brings", title, tuple(blocks))


def _from_to(desk: Desk, by: pd.DataFrame, what: str, rows: int, abreast: int) -> Block:
    by = by.set_axis(by.index.astype(str))
    change = by["recommended"] - by["current"]
    most, least = str(change.idxmax()), str(change.idxmin())
    finding = f"By {what}: "
    if float(change.abs().max()) <= 1e-6 * float(by["current"].sum()):
        finding += "nothing changes"
    elif change[least] >= 0:
        finding += f"{label(most, 30)} gains most ({desk.signed(change[most])})"
    elif change[most] <= 0:
        finding += f"{label(least, 30)} gives most ({desk.signed(change[least])})"
    else:
        finding += (
            f"{label(most, 30)} gains most ({desk.signed(change[most])}),"
            f" {label(least, 30)} gives most ({desk.signed(change[least])})"
        )
    told = [
        f"{label(n, 30)} {desk.money(r.current)} to {desk.money(r.recommended)}"
        for n, r in zip(by.index, by.itertuples(), strict=True)
    ]
    svg = figures.from_to(by, desk.money, 15 + 5.6 * rows, None if abreast == 1 else HALF_MM)
    return desk.figure(f"by_{what}", finding, f"{finding}. {listed(told)}.", svg)


def _frontier(desk: Desk) -> list[Block]:
    raw, total = desk.number("allocation", "frontier"), finite(desk.number("allocation", "total"))
    if not raw or total is None:
        return []
    frame = pd.DataFrame(list(raw))
    frame = (
        frame[[c for c in ("total", "value", "low", "high") if c in frame]]
        .astype(float)
        .dropna(subset=["total", "value"])
    )
    if len(frame) < 3:
        return []
    for bound in ("low", "high"):
        frame[bound] = frame[bound].fillna(frame["value"]) if bound in frame else frame["value"]
    frame = frame.sort_values("total", kind="stable").drop_duplicates("total")
    if not frame["total"].iloc[0] <= total <= frame["total"].iloc[-1]:
        return []
    price = finite(desk.number("allocation", "price"))
    finding = "What another total budget would bring"
    if price is not None:
        finding = f"At this total, one more unit of money brings {compact(price, 2)} of margin"
    alt = f"Margin gained against the total budget. {finding}."
    return [desk.figure("frontier", finding, alt, figures.frontier(frame, total, desk.money, 56, HALF_MM))]


def response(desk: Desk) -> list[Block]:
    """How strongly new customers answer to each channel."""
    raw = desk.number("response", "channels")
    if not raw or "response" not in desk.plan.tables:
        return []
    frame = pd.DataFrame(list(raw))
    if not {"channel", "elasticity"} <= set(frame.columns):
        return []
    for bound in ("elasticity_low", "elasticity_high"):
        if bound not in frame:
            frame[bound] = np.nan
    frame = frame.sort_values(["elasticity", "channel"], ascending=[False, True], kind="stable").head(12)
    shown = pd.DataFrame(
        {"value": frame["elasticity"], "low": frame["elasticity_low"], "high": frame["elasticity_high"]}
    )
    shown = shown.astype(float)
    shown.index = pd.Index([channel_name(c) for c in frame["channel"]])
    best = shown.index[0]
    assumed = desk.number("response", "source") == "assumed"
    more = percent(shown["value"].iloc[0] * 0.1, 1)
    kind = "Assumed" if assumed else "Strongest"
    title = f"{kind}: {label(best, 30)}, where 10% more money brings {more} more new customers"
    # as tall as the frontier beside it
    unit = "% more customers for 1% more spend (bar: 90%)"
    svg = figures.dots_on_bars(shown, unit, lambda v: f"{v:.2f}", height_mm=56, width=16, width_mm=HALF_MM)
    alt = listed([f"{label(n, 30)} {v:.2f}" for n, v in shown["value"].items()])
    return [desk.figure("elasticity", title, f"{title}. Elasticities: {alt}.", svg)]


def _why(reason: object) -> str:
    """The reason without the amount that the columns before it already show.

    >>> _why("+$7.7k into Search: a new customer here is worth more."), _why("Full: no room"), _why(None)
    ('A new customer here is worth more.', 'Full: no room', '')
    """
    words = label(reason) if isinstance(reason, str) else ""
    before, colon, after = words.partition(": ")
    if colon and after and before[:1] in "+-−":
        words = after[0].upper() + after[1:]
    return words


def channel_name(channel: object) -> str:
    """``retail_promotion`` as people write it. Capitals and other signs stay as the company has them."""
    words = label(channel, 40)
    if words.replace("_", "").isalnum() and words.islower():
        words = words.replace("_", " ")
        return words.upper() if len(words) <= 3 else words.capitalize()
    return words
