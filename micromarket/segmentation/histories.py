"""What is known of every customer on a day, and what it brought after: Ibis expressions, the engine does the work.

A *state* has one row a customer: ``n`` (purchase days; orders; 1 with a contract, else 0), ``cents`` (money so far in
hundredths; revenue a month at the start of the contract), ``tenure`` and ``recency`` (days since the first and the last
purchase or empty), ``product`` (the main one or empty). Money is counted in whole hundredths and time in whole days, so
that sums don't depend on the order of the rows and every engine puts a customer on the same side of a limit.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, Protocol

import ibis

_FAR = "9999-12-31"
DAYS_PER_MONTH = 365.25 / 12


class Tables(Protocol):
    """What this package needs of a :class:`micromarket.load.Dataset`."""

    def has(self, table: str) -> bool: ...

    def table(self, table: str) -> ibis.Table: ...


def members(dataset: Tables) -> ibis.Table:
    """customer_id, market_id, acquired_on (the first contract or purchase where the company doesn't say), start.

    ``start``: the earlier of ``acquired_on`` and the first purchase; empty where nothing is dated.
    """
    t = dataset.table("customers")
    acquired = t.acquired_on if "acquired_on" in t.columns else ibis.null("date")
    t = t.select("customer_id", "market_id", acquired_on=acquired)
    first = None
    if dataset.has("subscriptions"):
        s = dataset.table("subscriptions")
        first = s.group_by("customer_id").aggregate(first_on=s.started_on.min())
    elif dataset.has("transactions"):
        s = dataset.table("transactions")
        first = s.group_by("customer_id").aggregate(first_on=s.date.min())
    if first is None:
        return t.mutate(start=t.acquired_on)
    t = t.left_join(first, "customer_id").drop("customer_id_right")
    acquired = t.acquired_on.fill_null(t.first_on)
    return t.select(
        "customer_id", "market_id", acquired_on=acquired, start=ibis.least(acquired, t.first_on.fill_null(acquired))
    )


def purchase_days(dataset: Tables, margin_rate: float | None) -> ibis.Table:
    """One row a customer and day: cents (revenue, refunds netted), margin (money), bought (0 or 1)."""
    t = dataset.table("transactions")
    margin = t.amount * margin_rate if margin_rate is not None else ibis.literal(0.0)
    if "margin" in t.columns:
        margin = t.margin.fill_null(margin)
    t = t.select("customer_id", "date", cents=(t.amount * 100).round().cast("int64"), margin=margin)
    days = t.group_by("customer_id", "date").aggregate(cents=t.cents.sum().cast("int64"), margin=t.margin.sum())
    return days.mutate(bought=ibis.ifelse(days.cents > 0, 1, 0).cast("int64"))


def piece_of(date: ibis.Value, boundaries: list[dt.date]) -> ibis.Value:
    """How many of the boundaries a date lies after: 0 up to and including the first one."""
    passed = ibis.literal(0)
    for day in boundaries:
        passed = passed + ibis.ifelse(date > ibis.literal(day, "date"), 1, 0)
    return passed.cast("int64")


def purchase_pieces(days: ibis.Table, boundaries: list[dt.date]) -> ibis.Table:
    """The history cut at the days that states are asked for: n, cents, margin, last by customer and piece.

    One pass over the log; what was known on any of the boundaries then comes from these few rows a customer.
    """
    d = days.mutate(piece=piece_of(days.date, boundaries))
    return d.group_by("customer_id", "piece").aggregate(
        n=d.bought.sum().cast("int64"),
        cents=d.cents.sum().cast("int64"),
        margin=d.margin.sum(),
        last=d.date.max(where=d.bought == 1),
    )


def product_pieces(dataset: Tables, boundaries: list[dt.date]) -> ibis.Table | None:
    """cents by customer, product and piece; ``None`` where no product is known."""
    t = dataset.table("transactions")
    if "product" not in t.columns:
        return None
    t = t.filter(t["product"].notnull())
    t = t.select(
        "customer_id", "product", cents=(t.amount * 100).round().cast("int64"), piece=piece_of(t.date, boundaries)
    )
    return t.group_by("customer_id", "product", "piece").aggregate(cents=t.cents.sum().cast("int64"))


def common_products(dataset: Tables, share: float, most: int) -> tuple[str, ...]:
    """Products that at least ``share`` of all buyers have bought, most customers first; ``most`` of them at most."""
    table = "transactions" if dataset.has("transactions") else "subscriptions"
    t = dataset.table(table)
    if "product" not in t.columns:
        return ()
    everyone = single(t.aggregate(n=t.customer_id.nunique()))["n"]
    t = t.filter(t["product"].notnull())
    per = t.group_by("product").aggregate(n=t.customer_id.nunique())
    per = per.filter(per.n >= max(share * everyone, 1)).order_by(ibis.desc("n"), "product").limit(most)
    return tuple(str(row["product"]) for row in per.to_pyarrow().to_pylist())


def main_product(spent: ibis.Table) -> ibis.Table:
    """customer_id, product: where most of the money went (ties: first by name). ``spent``: customer, product, cents."""
    per = spent.group_by("customer_id", "product").aggregate(cents=spent.cents.sum().cast("int64"))
    place = ibis.row_number().over(ibis.window(group_by="customer_id", order_by=[per.cents.desc(), per["product"]]))
    per = per.mutate(place=place)
    return per.filter(per.place == 0).select("customer_id", "product")


def purchase_states(
    people: ibis.Table, pieces: ibis.Table, products: ibis.Table | None, piece: int, until: dt.date
) -> ibis.Table:
    """State of everybody in ``people`` at the end of ``until``, with market_id and start.

    ``pieces``, ``products``: of :func:`purchase_pieces`, :func:`product_pieces`; ``piece``: the last one that counts.
    """
    day = ibis.literal(until, "date")
    p = pieces.filter(pieces.piece <= piece)
    per = p.group_by("customer_id").aggregate(
        n=p.n.sum().cast("int64"), cents=p.cents.sum().cast("int64"), last=p["last"].max()
    )
    t = people.left_join(per, "customer_id").drop("customer_id_right")
    t = t.select(
        "customer_id",
        "market_id",
        "start",
        n=t.n.fill_null(0),
        cents=t.cents.fill_null(0),
        tenure=ibis.ifelse(t.start <= day, day.delta(t.start, unit="day"), None).cast("int64"),
        recency=day.delta(t["last"], unit="day").cast("int64"),
    )
    return _with_product(t, None if products is None else main_product(products.filter(products.piece <= piece)))


def contract_states(dataset: Tables, people: ibis.Table) -> ibis.Table:
    """State at the *start* of each customer's first contract: never changed by staying or leaving."""
    s = dataset.table("subscriptions")
    product = s["product"] if "product" in s.columns else ibis.null("string")
    s = s.select("customer_id", "started_on", product=product, cents=(s.monthly_value * 100).round().cast("int64"))
    s = s.mutate(first_on=s.started_on.min().over(ibis.window(group_by="customer_id")))
    s = s.filter(s.started_on == s.first_on)
    value = s.group_by("customer_id").aggregate(cents=s.cents.sum().cast("int64"))
    t = people.left_join(value, "customer_id").drop("customer_id_right")
    t = t.select(
        "customer_id",
        "market_id",
        "start",
        n=ibis.ifelse(t.cents.notnull(), 1, 0).cast("int64"),
        cents=t.cents.fill_null(0),
        tenure=ibis.null("int64"),
        recency=ibis.null("int64"),
    )
    return _with_product(t, main_product(s.filter(s["product"].notnull()).select("customer_id", "product", "cents")))


def order_states(dataset: Tables, people: ibis.Table) -> ibis.Table:
    """State from customer_summary; ``recency`` is known where both ages are (age less days from first to last)."""
    s = dataset.table("customer_summary")
    recency = ibis.null("int64")
    if {"age_days", "recency_days"} <= set(s.columns):
        recency = ibis.greatest((s.age_days - s.recency_days).round().cast("int64"), 0)
        recency = ibis.ifelse(s.age_days.notnull() & s.recency_days.notnull(), recency, None)
    s = s.select(
        "customer_id",
        orders=s.orders.round().cast("int64"),
        cents=(s.revenue * 100).round().cast("int64"),
        recency=recency,
    )
    t = people.left_join(s, "customer_id").drop("customer_id_right")
    t = t.select(
        "customer_id",
        "market_id",
        "start",
        n=t.orders.fill_null(0),
        cents=t.cents.fill_null(0),
        tenure=ibis.null("int64"),
        recency=t.recency,
    )
    return _with_product(t, None)


def _with_product(states: ibis.Table, products: ibis.Table | None) -> ibis.Table:
    if products is None:
        return states.mutate(product=ibis.null("string"))
    return states.left_join(products, "customer_id").drop("customer_id_right")


def states_at_purchase(people: ibis.Table, days: ibis.Table, products: ibis.Table | None) -> ibis.Table:
    """customer_id, date and the state just *before* each day with a purchase or refund; on the first one, after it.

    So a month's revenue is split by what customers were then, not by what has become of them since.
    """
    before = ibis.window(group_by="customer_id", order_by="date", preceding=(None, 1))
    d = days.mutate(on=ibis.ifelse(days.bought == 1, days.date, ibis.null("date")))
    d = d.mutate(
        n_before=d.bought.sum().over(before).cast("int64"),
        cents_before=d.cents.sum().over(before).cast("int64"),
        last=d.on.max().over(before),
    )
    d = d.inner_join(people.select("customer_id", "start"), "customer_id")
    d = d.mutate(fresh=d.n_before.fill_null(0) == 0)
    t = d.select(
        "customer_id",
        "date",
        n=ibis.ifelse(d.fresh, 1, d.n_before).cast("int64"),
        cents=ibis.ifelse(d.fresh, d.cents, d.cents_before).cast("int64"),
        tenure=ibis.ifelse(d.fresh, 0, d.date.delta(d.start, unit="day")).cast("int64"),
        recency=ibis.ifelse(d.fresh, 0, d.date.delta(d["last"], unit="day")).cast("int64"),
    )
    return _with_product(t, products)


def margin_between(pieces: ibis.Table, after: int, until: int) -> ibis.Table:
    """customer_id, margin: what the pieces after ``after`` up to ``until`` brought (money)."""
    t = pieces.filter((pieces.piece > after) & (pieces.piece <= until))
    return t.group_by("customer_id").aggregate(margin=t.margin.sum())


def contract_margin_after(dataset: Tables, margin_rate: float, after: dt.date, until: dt.date) -> ibis.Table:
    """customer_id, margin billed by the day in (after, until] of whoever had a live contract on ``after`` (money)."""
    s = dataset.table("subscriptions")
    ended = s.ended_on if "ended_on" in s.columns else ibis.null("date")
    s = s.select("customer_id", "started_on", "monthly_value", ended=ended.fill_null(ibis.literal(_FAR).cast("date")))
    begin, stop = ibis.literal(after, "date"), ibis.literal(until, "date")
    live = s.filter((s.started_on <= begin) & (s.ended > begin)).select("customer_id").distinct()
    s = s.filter((s.started_on <= stop) & (s.ended > begin))
    days = ibis.least(s.ended, stop).delta(ibis.greatest(s.started_on, begin), unit="day")
    s = s.mutate(billed=s.monthly_value * days * (margin_rate / DAYS_PER_MONTH))
    return s.semi_join(live, "customer_id").group_by("customer_id").aggregate(margin=s.billed.sum())


def single(table: ibis.Table) -> dict[str, Any]:
    """The only row of an aggregate."""
    return table.to_pyarrow().to_pylist()[0]
