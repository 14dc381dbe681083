"""Event logs to small counts, as Ibis expressions: the engine does the work, pandas sees only aggregates.

The row about a single customer exists only inside the engine's query. What comes back is a count of customers that
share (market, segment, history), which is all that the likelihoods need.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, Protocol

import ibis
import pandas as pd

from micromarket.value.season import STEADY, Clock

NO_SEGMENT, UNKNOWN_SEGMENT = "All", "Unknown"
DAYS_PER_MONTH = 365.25 / 12
#: Money (in any currency) that is less than a purchase.
NOTHING = 1e-5


class Tables(Protocol):
    """What this module needs of a :class:`micromarket.load.Dataset`."""

    def has(self, table: str) -> bool: ...

    def table(self, table: str) -> ibis.Table: ...

    def keep(self, name: str, table: ibis.Table) -> ibis.Table: ...


def customers_of(dataset: Tables) -> ibis.Table:
    """customer_id, market_id, segment; the same segments as in ``MarketData.cells``."""
    t = dataset.table("customers")
    segment = t.segment.fill_null(UNKNOWN_SEGMENT) if "segment" in t.columns else ibis.literal(NO_SEGMENT)
    return t.filter(t.market_id.notnull()).select("customer_id", "market_id", segment=segment)


def purchase_days(dataset: Tables, margin_rate: float | None, until: dt.date) -> ibis.Table:
    """One row per customer and day up to ``until``: amount and margin (money, refunds netted), purchase (0 or 1).

    Several purchases on one day are one; a day that nets to nothing or less is no purchase but its money counts.
    Nothing is what floats leave of a sum that cancels, whose last bits depend on the order an engine adds in.
    Where a transaction has no margin of its own, ``margin_rate`` times its amount stands in.
    """
    t = dataset.table("transactions")
    t = t.filter(t.date <= ibis.literal(until, "date"))
    by = ["customer_id", "date"]
    if "margin" in t.columns:
        stands_in = t.amount * margin_rate if margin_rate is not None else ibis.null("float64")
        days = t.group_by(by).aggregate(amount=t.amount.sum(), margin=t.margin.fill_null(stands_in).sum())
    else:  # one sum a day less, of what may be a hundred million
        days = t.group_by(by).aggregate(amount=t.amount.sum())
        days = days.mutate(margin=days.amount * margin_rate if margin_rate is not None else ibis.null("float64"))
    return days.mutate(bought=ibis.ifelse(days.amount > NOTHING, 1, 0))


def purchase_customers(days: ibis.Table, until: dt.date, clock: Clock = STEADY) -> ibis.Table:
    """One row per buyer: x (repeat purchase days), t_x and T (days since the first one), amount, margin (money).

    ``clock``: the days that t_x and T are counted in, rounded to whole ones.
    """
    # a day without purchase is no day: cheaper than three filters
    days = days.mutate(on=ibis.ifelse(days.bought == 1, days.date, ibis.null("date")))
    per = days.group_by("customer_id").aggregate(
        first=days.on.min(), last=days.on.max(), n=days.on.count(), amount=days.amount.sum(), margin=days.margin.sum()
    )
    per = per.filter(per.n > 0)
    if clock.steady:
        silent = ibis.literal(until, "date").delta(per["last"], unit="day").cast("int32")
        between = per["last"].delta(per["first"], unit="day").cast("int32")
    else:
        last = clock.column(per["last"])
        silent = ibis.greatest(_whole(clock.days(until) - last), 0).cast("int32")
        between = ibis.greatest(_whole(last - clock.column(per["first"])), per.n - 1).cast("int32")
    return per.select(
        "customer_id", "amount", "margin", x=(per.n - 1).cast("int32"), t_x=between, T=(between + silent).cast("int32")
    )


def count_purchases(customers: ibis.Table, buyers: ibis.Table, later: ibis.Table | None = None) -> pd.DataFrame:
    """Customers by market, segment and exact history (days), with sums that the spend models need.

    Columns: market_id, segment, x, t_x, T, customers, amount, margin (sums, money), amount2, margin2, amount_margin
    (sums of squares and products), n, total, square (count, sum and sum of squares of customers' log mean spend per
    purchase, where positive). With ``later`` (see :func:`later_purchases`) also later, later2 (sums of purchases in a
    hidden window and of their squares).
    """
    t = customers.inner_join(buyers, "customer_id")
    hidden = {}
    if later is not None:
        t = t.left_join(later.select("customer_id", "later"), "customer_id").drop("customer_id_right")
        t = t.mutate(later=t.later.fill_null(0).cast("float64"))
        hidden = {"later": t.later.sum(), "later2": (t.later * t.later).sum()}
    positive = t.amount > NOTHING
    log = (ibis.greatest(t.amount, 1e-9) / (t.x + 1)).ln()
    return _sorted(
        t.group_by("market_id", "segment", "x", "t_x", "T").aggregate(
            customers=t.customer_id.count().cast("float64"),
            amount=t.amount.sum(),
            margin=t.margin.sum(),
            amount2=(t.amount * t.amount).sum(),
            margin2=(t.margin * t.margin).sum(),
            amount_margin=(t.amount * t.margin).sum(),
            n=ibis.ifelse(positive, 1.0, 0.0).sum(),
            total=ibis.ifelse(positive, log, 0.0).sum(),
            square=ibis.ifelse(positive, log * log, 0.0).sum(),
            **hidden,
        ),
        ["market_id", "segment", "x", "t_x", "T"],
    )


def count_spend(customers: ibis.Table, buyers: ibis.Table) -> pd.DataFrame:
    """Customers by segment, number of purchases n and mean spend per purchase in steps of 1% (for Gamma-Gamma)."""
    t = customers.inner_join(buyers.filter(buyers.amount > NOTHING), "customer_id")
    t = t.mutate(n=t.x + 1)
    t = t.mutate(step=_whole((t.amount / t.n).ln() * 100))
    by = ["segment", "n", "step"]
    counted = t.group_by(by).aggregate(
        customers=t.customer_id.count().cast("float64"), mean_spend=(t.amount / t.n).mean()
    )
    return _sorted(counted, by)


def later_purchases(days: ibis.Table, after: dt.date, until: dt.date) -> ibis.Table:
    """customer_id, later: purchases (count) on days after ``after`` up to ``until``."""
    hidden = days.filter((days.date > ibis.literal(after, "date")) & (days.date <= ibis.literal(until, "date")))
    hidden = hidden.filter(hidden.bought == 1)
    return hidden.group_by("customer_id").aggregate(later=hidden.bought.sum())


def contract_customers(dataset: Tables, until: dt.date) -> ibis.Table:
    """One row per customer as seen on ``until``: start, end, gone (0 or 1), value (money a month).

    A customer is there from the first contract's start until the last one's end, and still there while any contract
    runs. ``value``: of the contracts running now; for who has gone, of the last day.
    """
    s = dataset.table("subscriptions")
    day = ibis.literal(until, "date")
    ended = s.ended_on if "ended_on" in s.columns else ibis.null("date")
    s = s.filter(s.started_on <= day).select("customer_id", "started_on", "monthly_value", ended=ended)
    s = s.mutate(running=s.ended.isnull() | (s.ended > day))
    s = s.mutate(running=ibis.ifelse(s.running, 1, 0), ended=ibis.ifelse(s.running, ibis.null("date"), s.ended))
    # contracts that end on the same day together, so that it doesn't matter which of them an engine meets first
    ends = s.group_by("customer_id", "ended").aggregate(
        start=s.started_on.min(), running=s.running.sum(), value=s.monthly_value.sum()
    )
    per = ends.group_by("customer_id").aggregate(
        start=ends.start.min(),
        last=ends.ended.max(),
        active=ends.running.sum(),
        value_now=ends.value.sum(where=ends.running > 0),
        value_last=ends.value.argmax(ends.ended),
    )
    gone = per.active == 0
    return per.select(
        "customer_id",
        "start",
        end=ibis.ifelse(gone, ibis.greatest(per["last"], per.start), day),
        gone=ibis.ifelse(gone, 1, 0),
        value=ibis.ifelse(gone, per.value_last, per.value_now).fill_null(0.0),
    )


def count_contracts(
    customers: ibis.Table,
    contracts: ibis.Table,
    until: dt.date,
    since: dt.date | None = None,
    later: ibis.Table | None = None,
) -> pd.DataFrame:
    """Customers by market, segment, whole months of age when first and last observed, and whether they have left.

    Columns: market_id, segment, entry, age (whole months), gone, customers, entry_part, age_part (sums of the
    fractions of a month beyond), value, value2 (sums of monthly value and its square, money), recent (customers who
    started in the last year), recent_value.

    ``since``: the day from which ended contracts are recorded; who started before is observed from then on only.
    With ``later`` (contract_customers on a later day) also left: customers there on ``until`` and gone by then.
    """
    day = ibis.literal(until, "date")
    t = customers.inner_join(contracts, "customer_id")
    hidden = {}
    if later is not None:
        then = later.select("customer_id", gone_later="gone")
        t = t.left_join(then, "customer_id").drop("customer_id_right")
        t = t.mutate(left=ibis.ifelse((t.gone == 0) & (t.gone_later == 1), 1.0, 0.0))
        hidden = {"left": t["left"].sum()}
    if since is not None:
        t = t.filter(t.end >= ibis.literal(since, "date"))
    # a contract that ends when a month is full ends in that month, not in the next
    days = t.end.delta(t.start, unit="day").cast("float64") - ibis.ifelse(t.gone == 1, 0.5, 0.0)
    months = ibis.greatest(days, 0.0) / DAYS_PER_MONTH
    before = ibis.literal(0.0)
    if since is not None:
        before = ibis.greatest(ibis.literal(since, "date").delta(t.start, unit="day").cast("float64"), 0.0)
        before = ibis.least(before / DAYS_PER_MONTH, months)
    recent = ibis.ifelse(t.start > day - ibis.interval(days=365), 1.0, 0.0)
    t = t.mutate(months=months, before=before, recent=recent)
    t = t.mutate(age=t.months.floor().cast("int32"), entry=t.before.floor().cast("int32"))
    by = ["market_id", "segment", "entry", "age", "gone"]
    return _sorted(
        t.group_by(by).aggregate(
            customers=t.customer_id.count().cast("float64"),
            entry_part=(t.before - t.entry).sum(),
            age_part=(t.months - t.age).sum(),
            value=t.value.sum(),
            value2=(t.value * t.value).sum(),
            recent=t.recent.sum(),
            recent_value=(t.recent * t.value).sum(),
            **hidden,
        ),
        by,
    )


def contract_bounds(contracts: ibis.Table) -> dict[str, Any]:
    """first_start, first_end, last_end (dates) and gone (customers)."""
    gone = contracts.gone == 1
    row = contracts.aggregate(
        first_start=contracts.start.min(),
        first_end=contracts.end.min(where=gone),
        last_end=contracts.end.max(where=gone),
        gone=contracts.gone.sum(),
    )
    found = row.to_pyarrow().to_pylist()[0]
    return {**found, "gone": int(found["gone"] or 0)}


def log_value_moments(customers: ibis.Table, contracts: ibis.Table) -> pd.DataFrame:
    """market_id, segment, n, total, square: count, sum and sum of squares of customers' log monthly value."""
    t = customers.inner_join(contracts.filter(contracts.value > 0), "customer_id")
    t = t.mutate(value=t.value.ln())
    by = ["market_id", "segment"]
    moments = t.group_by(by).aggregate(
        n=t.value.count().cast("float64"), total=t.value.sum(), square=(t.value * t.value).sum()
    )
    return _sorted(moments, by)


def observed_value(dataset: Tables, customers: ibis.Table) -> pd.DataFrame:
    """From customer_summary: market_id, segment, customers, orders, amount, amount2 and the log moments of revenue."""
    s = dataset.table("customer_summary").select("customer_id", "orders", "revenue")
    t = customers.inner_join(s, "customer_id")
    log = ibis.ifelse(t.revenue > 0, ibis.greatest(t.revenue, 1e-300).ln(), None)
    t = t.mutate(log=log)
    by = ["market_id", "segment"]
    return _sorted(
        t.group_by(by).aggregate(
            customers=t.customer_id.count().cast("float64"),
            orders=t.orders.sum(),
            amount=t.revenue.sum(),
            amount2=(t.revenue * t.revenue).sum(),
            repeaters=ibis.ifelse(t.orders > 1, 1.0, 0.0).sum(),
            n=t["log"].count().cast("float64"),
            total=t["log"].sum().fill_null(0.0),
            square=(t["log"] * t["log"]).sum().fill_null(0.0),
        ),
        by,
    )


def summary_buyers(dataset: Tables, margin_rate: float | None) -> ibis.Table:
    """customer_summary with ages as buyers (see :func:`purchase_customers`); a missing recency counts as the age."""
    t = dataset.table("customer_summary")
    recency = t.recency_days if "recency_days" in t.columns else ibis.null("float64")
    t = t.filter(t.age_days.notnull() & (t.orders >= 1))
    recency = recency.fill_null(t.age_days)
    T = _whole(t.age_days)
    last = _whole(ibis.greatest(t.age_days - recency, 0.0))
    return t.select(
        "customer_id",
        amount=t.revenue,
        margin=t.revenue * (margin_rate if margin_rate is not None else 1.0),
        x=_whole(t.orders - 1),
        t_x=ibis.ifelse(t.orders > 1, ibis.least(last, T), 0).cast("int32"),
        T=T,
    )


def _whole(value: ibis.Value) -> ibis.Value:
    """The nearest whole number; halves go up (engines' own rounding doesn't agree on them)."""
    return (value + 0.5).floor().cast("int32")


def _sorted(table: ibis.Table, by: list[str]) -> pd.DataFrame:
    return table.to_pandas().sort_values(by, kind="stable").reset_index(drop=True)
