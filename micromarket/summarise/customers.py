"""Customers, contracts and purchases as engine tables with their market and segment."""

from __future__ import annotations

import datetime as dt

import ibis
import pandas as pd

from micromarket.load import Dataset
from micromarket.segmentation import Rules, segmented_customers, segments_at_purchase


def read_customers(dataset: Dataset, rules: Rules | None = None) -> ibis.Table:
    """customer_id, market_id, segment, acquired_on (the first contract or purchase where the company doesn't say).

    ``segment``: see :func:`micromarket.segmentation.segmented_customers`.
    """
    return segmented_customers(dataset, rules)


def customers_in_history(dataset: Dataset, customers: ibis.Table, rules: Rules | None) -> ibis.Table:
    """The customers in the segment that they were won into: what :func:`~.history.market_history` counts by month.

    The same as ``customers`` but where segments follow from behaviour: then a new customer is new, whatever it has
    become since. Segments that nobody is won into keep a row for their markets, without a date.
    """
    if rules is None or rules.basis != "purchases":
        return customers
    then = dataset.kept("purchases_then")
    pairs = then.select("market_id", "segment").union(customers.select("market_id", "segment"), distinct=True)
    bought = dataset.table("transactions")
    firsts = bought.group_by("customer_id").aggregate(date=bought.date.min())
    entered = then.inner_join(firsts, ["customer_id", "date"]).select("customer_id", "segment").distinct()
    won = customers.drop("segment").left_join(entered, "customer_id").drop("customer_id_right")
    won = won.filter(won.segment.notnull()).select("market_id", "segment", "acquired_on")
    others = customers.anti_join(firsts, "customer_id").select("market_id", "segment", "acquired_on")
    return won.union(others).union(pairs.mutate(acquired_on=ibis.null("date")))


def read_contracts(dataset: Dataset) -> ibis.Table:
    """customer_id, market_id, segment, started_on, ended_on (last day, empty: active), monthly_value."""
    s, c = dataset.table("subscriptions"), dataset.kept("segmented_customers")
    if "ended_on" not in s.columns:
        s = s.mutate(ended_on=ibis.null("date"))
    joined = s.inner_join(c.select("customer_id", "market_id", "segment"), "customer_id")
    return joined.select("customer_id", "market_id", "segment", "started_on", "ended_on", "monthly_value")


def records_begin_on(contracts: ibis.Table, as_of: dt.date) -> dt.date | None:
    """First day from which ended contracts are in the records, where earlier ends were clearly not kept.

    A file of "customers of this quarter" holds no one who left before it: its early months would look like growth, and
    its churn like loyalty (left truncation). It shows by contracts that were live long before the first recorded end:
    at the loss rate seen since, at least 20 of them should have ended.
    """
    c = contracts
    first_end = c.ended_on.min().execute()
    if first_end is None or pd.isna(first_end):
        return None
    first = ibis.literal(pd.Timestamp(first_end).date().replace(day=1))
    ends = c.ended_on.fill_null(ibis.literal(as_of))
    before = ibis.greatest(first.delta(c.started_on, unit="day"), 0)
    after = ibis.greatest(ends.delta(ibis.greatest(c.started_on, first), unit="day") + 1, 0)
    found = c.aggregate(before=before.sum(), after=after.sum(), ended=c.ended_on.count()).to_pyarrow().to_pylist()[0]
    expected = found["ended"] / max(found["after"], 1) * found["before"]
    return pd.Timestamp(first_end).date().replace(day=1) if expected >= 20 else None


def read_purchases(dataset: Dataset) -> ibis.Table:
    """customer_id, market_id, segment (today's), date, amount, margin (empty where the company doesn't say)."""
    t, c = dataset.table("transactions"), dataset.kept("segmented_customers")
    margin = t.margin if "margin" in t.columns else ibis.null("float64")
    t = t.select("customer_id", "date", "amount", margin=margin)
    return t.inner_join(c.select("customer_id", "market_id", "segment"), "customer_id")


def purchases_in_history(dataset: Dataset, purchases: ibis.Table | None, rules: Rules | None) -> ibis.Table | None:
    """The purchases in the segment that their buyers were in *then* (see :func:`segments_at_purchase`)."""
    if purchases is None or rules is None or rules.basis != "purchases":
        return purchases
    then = purchases.drop("segment").inner_join(segments_at_purchase(dataset, rules), ["customer_id", "date"])
    return dataset.keep("purchases_then", then)
