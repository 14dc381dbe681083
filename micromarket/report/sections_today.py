"""The state of things, for a plan that moves no money: who the customers are and what they are worth."""

from __future__ import annotations

from micromarket.formats import count, finite
from micromarket.report.blocks import Block, Desk, Section, cards
from micromarket.report.sections_customers import by_market, by_segment, winning
from micromarket.report.sections_delivery import peer_groups


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
    blocks += by_market(desk) + by_segment(desk) + winning(desk)
    if not desk.potential_ranked:
        blocks += peer_groups(desk)
    if not blocks:
        return None
    worth = finite(n("value", "clv"))
    title = "Where the company stands"
    if worth is not None:
        title = f"A customer is worth {desk.money(worth)} on average"
        if n("value", "observed"):
            title = f"A customer has brought {desk.money(worth)} of margin on average so far"
    return Section("Today", title, tuple(blocks))
