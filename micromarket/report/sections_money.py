"""Where the money and the opportunity are, what moves and what that brings."""

from __future__ import annotations

import numpy as np
import pandas as pd

from micromarket.formats import compact, count, decimal, finite, listed, money, numbers_in, percent, plural
from micromarket.plan.direction import Direction, direction
from micromarket.report import figures, views
from micromarket.report.blocks import HALF_MM, Block, Column, Desk, Section, beside, lead, table
from micromarket.report.sections_cover import map_or_bars
from micromarket.report.style import label

_OBJECTIVES = {
    "acquire": "customers still to be won, at what a new one is worth",
    "deepen": "what customers would bring more at their peers' level",
    "retain": "the value at risk of customers expected to leave",
}


def where_money_is(desk: Desk) -> Section | None:
    """Spend against opportunity; without spend, where the opportunity is. Nothing where its order isn't supported."""
    frame, blocks = desk.frame, []
    if not desk.potential_ranked or "opportunity" not in frame or not float(frame["opportunity"].sum()) > 0:
        return None
    by = views.tenths(desk.plan, frame)
    astray = views.misplaced(frame)
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
                _opportunity_words(desk),
            )
        )
    if astray is not None:
        amount, total = float(astray.clip(lower=0).sum()), float(frame["current"].sum())
        title = f"{percent(amount / total)} of the spend is not where the opportunity is"
        blocks.append(
            map_or_bars(
                desk,
                "astray",
                -astray,  # as everywhere: teal gets more, orange gets less
                f"{desk.money(amount)} would sit elsewhere if spend followed the opportunity",
                "Money missing (+) or too much (−) against the opportunity",
                desk.signed,
                height_mm=124,
                note="A yardstick, not the plan: the plan also asks how well spend works and what limits hold.",
            )
        )
        return Section("Money and opportunity", title, tuple(blocks))
    return _opportunity(desk, blocks)


def _opportunity_words(desk: Desk) -> str:
    """What counts as opportunity in this plan."""
    weights = desk.number("potential", "objective", "weights") or {}
    counted = [words for key, words in _OBJECTIVES.items() if weights.get(key)]
    if not counted or counted == [_OBJECTIVES["acquire"]]:
        return "Opportunity: customers still to be won times what a new customer is worth."
    return f"Opportunity, by the plan's objectives: {listed(counted)}."


def _opportunity(desk: Desk, blocks: list[Block]) -> Section:
    """For a plan without spend: how concentrated the opportunity is, and where most customers can still be won."""
    frame = desk.frame
    best = frame.sort_index().sort_values("opportunity", ascending=False, kind="stable").head(12)
    share = float(best["opportunity"].sum() / frame["opportunity"].clip(lower=0).sum())
    about = "perhaps " if desk.number("potential", "signal", "verdict") == "weak" else ""
    title = f"{plural(len(best), 'market')} of {count(len(frame))} hold {about}{percent(share)} of the opportunity"
    fifth = finite(desk.number("potential", "opportunity_share_top_fifth"))
    pictures = []
    if fifth is not None and len(frame) >= 20:
        finding = f"The best fifth of markets holds {percent(fifth)} of the opportunity"
        alt = f"Cumulative share of opportunity over markets. {finding}."
        svg = figures.share_line(frame["opportunity"], 54, HALF_MM)
        pictures.append(desk.figure("concentration", finding, alt, svg))
    # what is held today follows from the published potential and headroom
    held = best["potential_customers"] - best["headroom"]
    ranges = pd.DataFrame(
        {
            "value": best["headroom"],
            "low": (best["potential_low"] - held).clip(lower=0),
            "high": best["potential_high"] - held,
        }
    ).set_axis(views.without_shared_word(pd.Index(best["name"])))
    first = label(best["name"].iloc[0], 40)
    finding = f"{first} has room for {count(best['headroom'].iloc[0])} more customers"
    if len(best) > 1 and best["headroom"].idxmax() != best.index[0]:
        finding = f"Most opportunity: {first}, {desk.money(best['opportunity'].iloc[0])}"
    unit = "Customers still to be won (dot; bar: 90%)"
    svg = figures.dots_on_bars(
        ranges, unit, compact, height_mm=54 if pictures else None, width=18, width_mm=HALF_MM if pictures else None
    )
    alt = f"{finding}. " + listed([f"{label(n, 30)} {count(v)}" for n, v in ranges["value"].head(5).items()])
    pictures.append(desk.figure("room", finding, alt, svg))
    return Section("Where the opportunity is", title, (*blocks, beside(*pictures)), newpage=False)


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
    way = direction(desk.plan.tables, value_ranked=desk.value_ranked, potential_ranked=desk.potential_ranked)
    n_up, n_down = way.up, way.down
    title = f"{plural(n_up, 'market')} get more money, {plural(n_down, 'market')} get less"
    if moved and total:
        share = percent(moved / total)
        title = f"{share} of the money moves: {plural(n_up, 'market')} get more, {count(n_down)} less"
        blocks.append(
            lead(f"{desk.money(moved)} of {desk.money(total)} moves between markets and channels. {_way(way)}".strip())
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
                label(desk.name_of(str(r.market_id), str(r.name)), 60),
                channel_name(r.channel),
                desk.money(r.current),
                desk.money(r.recommended),
                desk.signed(r.change),
                why(r.reason),
            )
            for r in part[["market_id", "name", "channel", "current", "recommended", "change", "reason"]].itertuples(
                index=False, name="Row"
            )
        ]
        which = "The biggest " + name if len(part) > 1 else f"The biggest {name[:-1]}"
        sum_text = f"{which}: {desk.signed(part['change'].sum())} in {plural(len(part), 'move')}"
        blocks.append(table(sum_text, columns, rows, dense=True))
    return Section("Where the money moves", title, tuple(blocks))


def _way(way: Direction) -> str:
    """What the headline's words mean, in figures."""
    said = []
    if way.under_served:
        said.append(
            f"{count(way.under_served)} of the {count(way.up)} that get more are under-served: their share of the"
            f" opportunity is larger than their share of today's money. They take {percent(way.to_under_served)} of"
            " what is added."
        )
    if way.from_worst is not None:
        said.append(f"The third of markets worth least gives {percent(way.from_worst)} of what is taken.")
    return " ".join(said)


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
    by = by.set_axis(views.without_shared_word(by.index))
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
        one = money(1, desk.plan.currency)
        finding = f"The next {one} of budget would bring {money(price, desk.plan.currency, 2)} of margin"
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
    svg = figures.dots_on_bars(shown, unit, lambda v: decimal(v, 2), height_mm=56, width=16, width_mm=HALF_MM)
    alt = listed([f"{label(n, 30)} {decimal(v, 2)}" for n, v in shown["value"].items()])
    return [desk.figure("elasticity", title, f"{title}. Elasticities: {alt}.", svg)]


def why(reason: object) -> str:
    """The reason without the amount that the columns before it already show.

    >>> why("+$7.7k into Search: a new customer here is worth more."), why("Full: no room"), why(None)
    ('A new customer here is worth more.', 'Full: no room', '')
    """
    words = label(reason) if isinstance(reason, str) else ""
    before, colon, after = words.partition(": ")
    if colon and after and before[:1] in "+-−":
        words = after[0].upper() + after[1:]
    return numbers_in(words)


def channel_name(channel: object) -> str:
    """``retail_promotion`` as people write it. Capitals and other signs stay as the company has them."""
    words = label(channel, 40)
    if words.replace("_", "").isalnum() and words.islower():
        words = words.replace("_", " ")
        return words.upper() if len(words) <= 3 else words.capitalize()
    return words
