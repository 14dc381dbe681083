"""What each market's customers hold and spend, which products, and how many left: depth and loss of accounts."""

from __future__ import annotations

import datetime as dt
from typing import Any

import ibis
import pandas as pd

from micromarket import calendar as cal
from micromarket.load import Dataset

_KEYS = ["market_id", "segment"]
_ACCOUNTS = [*_KEYS, "customers", "revenue", "revenue_squares", "products", "before", "lost", "lost_over_days"]
_PRODUCTS = [*_KEYS, "product", "customers", "purchases", "revenue"]
_SHORTEST_DAYS = 28


def account_depth(
    dataset: Dataset, customers: ibis.Table, records_begin: dt.date | None
) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
    """The artefacts ``accounts`` and ``products``; ``None`` where purchases and contracts have no date.

    Contracts: who is live at ``as_of``, with twelve times the monthly value. Purchases: who bought in the last 12
    months, with what was paid. Lost: on the books a year ago (or since records of ended contracts begin), gone now.

    Parameters
    ----------
    customers : Table
        customer_id, market_id, segment.
    """
    home = customers.select("customer_id", *_KEYS)
    settings = dataset.settings
    if settings.economics.relationship == "contractual":
        held, lost = _contracts(dataset, records_begin)
    elif dataset.has("transactions"):
        held, lost = _purchases(dataset)
    else:
        return None, None
    has_product = "product" in held.columns
    each = held.group_by("customer_id").aggregate(
        revenue=held.revenue.sum(), products=held["product"].nunique() if has_product else ibis.null("int64")
    )
    each = each.inner_join(home, "customer_id")
    by = each.group_by(_KEYS).aggregate(
        customers=each.count().cast("float64"),
        revenue=each.revenue.sum(),
        revenue_squares=(each.revenue * each.revenue).sum(),
        products=each.products.sum().cast("float64"),
    )
    then = lost.inner_join(home, "customer_id")
    gone = then.group_by(_KEYS).aggregate(
        before=then.count().cast("float64"), lost=then.gone.sum().cast("float64"), lost_over_days=then.days.max()
    )
    accounts = home.select(*_KEYS).distinct().to_pandas()
    accounts = accounts.merge(by.to_pandas(), how="left").merge(gone.to_pandas(), how="left")
    empty = ["customers", "revenue", "revenue_squares", "before", "lost"]
    accounts[empty] = accounts[empty].fillna(0.0)
    if not has_product:
        accounts["products"] = float("nan")
    return _sorted(accounts, _ACCOUNTS, _KEYS), _by_product(held, home) if has_product else None


def _by_product(held: ibis.Table, home: ibis.Table) -> pd.DataFrame | None:
    named = held.filter(held["product"].notnull() & (held["product"].strip() != "")).inner_join(home, "customer_id")
    by = named.group_by(*_KEYS, "product").aggregate(
        customers=named.customer_id.nunique().cast("float64"),
        purchases=named.count().cast("float64"),
        revenue=named.revenue.sum(),
    )
    frame = by.to_pandas()
    return _sorted(frame, _PRODUCTS, [*_KEYS, "product"]) if len(frame) else None


def _sorted(frame: pd.DataFrame, columns: list[str], keys: list[str]) -> pd.DataFrame:
    frame = frame[columns].astype(dict.fromkeys(keys, "str") | {c: "float64" for c in columns if c not in keys})
    return frame.sort_values(keys, kind="stable").reset_index(drop=True)


def _contracts(dataset: Dataset, records_begin: dt.date | None) -> tuple[ibis.Table, ibis.Table]:
    s, as_of = dataset.table("subscriptions"), dataset.settings.as_of
    if "ended_on" not in s.columns:
        s = s.mutate(ended_on=ibis.null("date"))
    live = s.filter((s.started_on <= as_of) & s.ended_on.isnull())
    held = live.mutate(revenue=live.monthly_value * 12)
    start = max(cal.year_before(as_of), records_begin or dt.date.min)
    days = (as_of - start).days
    base = s.filter((s.started_on <= start) & (s.ended_on.isnull() | (s.ended_on > start)))
    if days < _SHORTEST_DAYS:
        base = base.filter(ibis.literal(False))
    return held, _gone(base, live, days)


def _purchases(dataset: Dataset) -> tuple[ibis.Table, ibis.Table]:
    t, as_of = dataset.table("transactions"), dataset.settings.as_of
    year = cal.year_before(as_of)
    bought = t.filter(t.amount > 0)
    last = bought.filter((bought.date > year) & (bought.date <= as_of))
    base = bought.filter((bought.date > cal.year_before(year)) & (bought.date <= year))
    return last.mutate(revenue=last.amount), _gone(base, last, (as_of - year).days)


def _gone(base: ibis.Table, now: ibis.Table, days: int) -> ibis.Table:
    """customer_id, gone (1 or 0), days: those on the books then, and whether they still are."""
    then = base.select("customer_id").distinct()
    still = now.select("customer_id").distinct().mutate(here=ibis.literal(1))
    joined: Any = then.left_join(still, "customer_id")
    return joined.select(
        "customer_id", gone=ibis.ifelse(joined.here.isnull(), 1, 0), days=ibis.literal(float(days), "float64")
    )
