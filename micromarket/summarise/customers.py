"""Customers, contracts and purchases as engine tables with their market and segment."""

from __future__ import annotations

import datetime as dt

import ibis
import pandas as pd

from micromarket.load import Dataset

NO_SEGMENT = "All"


def read_customers(dataset: Dataset) -> ibis.Table:
    """customer_id, market_id, segment, acquired_on (the first contract or purchase where the company doesn't say)."""
    t = dataset.table("customers")
    segment = t.segment.fill_null("Unknown") if "segment" in t.columns else ibis.literal(NO_SEGMENT)
    acquired = t.acquired_on if "acquired_on" in t.columns else ibis.null("date")
    t = t.select("customer_id", "market_id", segment=segment, acquired_on=acquired)
    first = None
    if dataset.has("subscriptions"):
        s = dataset.table("subscriptions")
        first = s.group_by("customer_id").aggregate(first_on=s.started_on.min())
    elif dataset.has("transactions"):
        s = dataset.table("transactions")
        first = s.group_by("customer_id").aggregate(first_on=s.date.min())
    if first is not None:
        t = t.left_join(first, "customer_id")
        t = t.mutate(acquired_on=t.acquired_on.fill_null(t.first_on)).drop("first_on")
    return _kept(dataset, "customers_", t)


def _kept(dataset: Dataset, name: str, table: ibis.Table) -> ibis.Table:
    """Computed once in the engine, then read many times."""
    dataset.engine.duck.execute(f'CREATE OR REPLACE TABLE "_{name}" AS {ibis.to_sql(table, dialect="duckdb")}')
    return dataset.engine.ibis.table(f"_{name}")


def read_contracts(dataset: Dataset) -> ibis.Table:
    """customer_id, market_id, segment, started_on, ended_on (last day, empty: active), monthly_value."""
    s, c = dataset.table("subscriptions"), dataset.engine.ibis.table("_customers_")
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
    """customer_id, market_id, segment, date, amount, margin (empty where the company doesn't say)."""
    t, c = dataset.table("transactions"), dataset.engine.ibis.table("_customers_")
    margin = t.margin if "margin" in t.columns else ibis.null("float64")
    t = t.select("customer_id", "date", "amount", margin=margin)
    return t.inner_join(c.select("customer_id", "market_id", "segment"), "customer_id")
