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
    days = t.group_by("customer_id", "date").aggregate(cents=t.cents.sum(), margin=t.margin.sum())
    return days.mutate(bought=ibis.ifelse(days.cents > 0, 1, 0).cast("int64"))


def main_products(dataset: Tables, table: str, until: dt.date) -> ibis.Table | None:
    """customer_id, product: where most of the money went until a day (ties: first by name)."""
    t = dataset.table(table)
    if "product" not in t.columns:
        return None
    if table == "transactions":
        t = t.filter(t["product"].notnull() & (t.date <= ibis.literal(until, "date")))
        money = (t.amount * 100).round().cast("int64")
    else:
        t = t.filter(t["product"].notnull() & (t.started_on <= ibis.literal(until, "date")))
        first = ibis.window(group_by="customer_id")
        t = t.mutate(first_on=t.started_on.min().over(first))
        t = t.filter(t.started_on == t.first_on)
        money = (t.monthly_value * 100).round().cast("int64")
    t = t.select("customer_id", "product", money=money)
    per = t.group_by("customer_id", "product").aggregate(money=t.money.sum())
    place = ibis.row_number().over(ibis.window(group_by="customer_id", order_by=[per.money.desc(), per["product"]]))
    per = per.mutate(place=place)
    return per.filter(per.place == 0).select("customer_id", "product")


def purchase_states(people: ibis.Table, days: ibis.Table, products: ibis.Table | None, until: dt.date) -> ibis.Table:
    """State of everybody in ``people`` at the end of ``until``, with market_id and start."""
    day = ibis.literal(until, "date")
    d = days.filter(days.date <= day)
    per = d.group_by("customer_id").aggregate(
        n=d.bought.sum(), cents=d.cents.sum(), last=d.date.max(where=d.bought == 1)
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
    return _with_product(t, products)


def contract_states(dataset: Tables, people: ibis.Table, until: dt.date) -> ibis.Table:
    """State at the *start* of each customer's first contract: never changed by staying or leaving."""
    s = dataset.table("subscriptions")
    per = ibis.window(group_by="customer_id")
    s = s.select("customer_id", "started_on", cents=(s.monthly_value * 100).round().cast("int64"))
    s = s.mutate(first_on=s.started_on.min().over(per))
    s = s.filter(s.started_on == s.first_on)
    value = s.group_by("customer_id").aggregate(cents=s.cents.sum())
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
    return _with_product(t, main_products(dataset, "subscriptions", until))


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
        n_before=d.bought.sum().over(before), cents_before=d.cents.sum().over(before), last=d.on.max().over(before)
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


def margin_after(days: ibis.Table, after: dt.date, until: dt.date) -> ibis.Table:
    """customer_id, margin: what purchases on days after ``after`` up to ``until`` brought (money)."""
    t = days.filter((days.date > ibis.literal(after, "date")) & (days.date <= ibis.literal(until, "date")))
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
