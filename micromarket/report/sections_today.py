"""The state of things, for a plan that moves no money: who the customers are and what they are worth."""

from __future__ import annotations

import pandas as pd

from micromarket.formats import count, finite, percent, plural
from micromarket.report import figures, views
from micromarket.report.blocks import Block, Column, Desk, Section, cards, points, table
from micromarket.report.sections_delivery import peer_groups
from micromarket.report.style import label

MOST_MARKETS = 6  # at either end of the order by value


def today(desk: Desk) -> Section | None:
    n = desk.number
    items = []
    for name, value, note in (
        ("Active customers", n("data", "active_customers"), "count"),
        ("Revenue, last year", n("data", "revenue_last_year"), "money"),
        ("Spend, last year", n("data", "spend_last_year"), "money"),
        ("Worth of today's customers", n("value", "customer_equity"), "money"),
        ("Value of a customer", n("value", "clv"), "money"),
    ):
        if finite(value) is not None:
            items.append((name, desk.money(value) if note == "money" else count(value), ""))
    blocks: list[Block] = [cards(items[:4])] if items else []
    blocks += _by_market(desk) + _by_segment(desk)
    if not desk.potential_ranked:
        blocks += peer_groups(desk)
    blocks += _forecast(desk)
    if not blocks:
        return None
    worth = finite(n("value", "clv"))
    title = "Where the company stands"
    if worth is not None:
        title = f"A customer is worth {desk.money(worth)} on average"
        if n("value", "observed"):
            title = f"A customer has brought {desk.money(worth)} of margin on average so far"
    return Section("Today", title, tuple(blocks))


def _by_market(desk: Desk) -> list[Block]:
    """The markets whose customers are worth most and least, with their ranges."""
    frame = desk.frame
    if not desk.value_ranked or not {"clv", "clv_low", "clv_high", "customers"} <= set(frame.columns):
        return []
    known = frame[frame["customers"].notna() & frame["clv"].notna()].sort_index()
    known = known.sort_values("clv", ascending=False, kind="stable")
    if len(known) < 4:
        return []
    ends = known if len(known) <= 2 * MOST_MARKETS else pd.concat([known.head(MOST_MARKETS), known.tail(MOST_MARKETS)])
    shown = ends[["clv", "clv_low", "clv_high"]].set_axis(["value", "low", "high"], axis=1)
    shown.index = views.without_shared_word(pd.Index(ends["name"]))
    first, last = known.iloc[0], known.iloc[-1]
    finding = (
        f"A customer is worth {desk.money(first['clv'])} in {label(first['name'], 40)},"
        f" {desk.money(last['clv'])} in {label(last['name'], 40)}"
    )
    unit = "Value of a customer (dot; bar: 90%)"
    if len(ends) < len(known):
        unit = (
            f"Value of a customer, the {MOST_MARKETS} highest and lowest of {plural(len(known), 'market')} (bar: 90%)"
        )
    svg = figures.dots_on_bars(shown, unit, desk.money, height_mm=13 + 4.6 * len(shown))
    return [desk.figure("values", finding, f"{unit}. {finding}.", svg)]


def _by_segment(desk: Desk) -> list[Block]:
    segments = desk.plan.segments
    if segments is None or len(segments) < 2:
        return []
    by = segments.sort_values(["clv", "segment"], ascending=[False, True]).head(15)
    columns = [
        Column("Segment", width="3fr"),
        Column("Customers", True),
        Column("Value of a customer", True),
        Column("Value of a new one", True),
    ]
    rows = [
        [label(r.segment, 60), count(r.customers), desk.money(r.clv), desk.money(r.new_customer_clv)]
        for r in by.itertuples()
    ]
    best, worst = by.iloc[0], by.iloc[-1]
    finding = (
        f"“{label(best['segment'], 30)}” customers are worth most ({desk.money(best['clv'])}),"
        f" “{label(worst['segment'], 30)}” ones least ({desk.money(worst['clv'])})"
    )
    note = "Discounted margin over the horizon."
    if desk.number("value", "observed"):
        note = "Value as observed so far, not modelled: the purchases carry no dates."
    return [table(finding, columns, rows, note=note)]


def _forecast(desk: Desk) -> list[Block]:
    """How a forecast from earlier data did on what was then known."""
    holdout = desk.number("value", "holdout") or {}
    error = finite(holdout.get("error"))
    predicted, actual = finite(holdout.get("predicted")), finite(holdout.get("actual"))
    if error is None or predicted is None or actual is None:
        return []
    what = label(holdout.get("what") or "purchases", 40)
    words = (
        f"From the data up to {desk.prose(holdout.get('cut'))}, {count(predicted)} {what} were predicted;"
        f" there were {count(actual)} ({percent(error, sign=True)})."
    )
    size = "well" if abs(error) < 0.1 else "fairly" if abs(error) < 0.25 else "poorly"
    return [points([words], f"Tried on a year that the model had not seen, the forecast did {size}")]
