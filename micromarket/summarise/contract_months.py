"""Revenue and active customers by month from contracts, without a row per contract and month.

A contract is two events, a start and an end; each changes the monthly totals from its month on. The engine sums the
events of a month, and their cumulative sum is the history: one pass over the contracts, whatever the number of months.
"""

from __future__ import annotations

import ibis
import numpy as np
import pandas as pd

_BY = ["market_id", "segment", "month"]


def monthly_totals(contracts: ibis.Table, months: pd.DataFrame) -> pd.DataFrame:
    """Market x segment x month: ``revenue`` (money, billed by the day) and ``active_customers`` at the month's end.

    Parameters
    ----------
    contracts : Table
        customer_id, market_id, segment, started_on, ended_on (last day; empty: runs on), monthly_value.
    months : DataFrame
        ``month``, ``after``: first days of consecutive months and of the months after them.
    """
    first, after = months["month"].min().date(), months["after"].max().date()
    begin, stop = ibis.literal(first, "date"), ibis.literal(after, "date")

    def within(intervals: ibis.Table) -> ibis.Table:
        return intervals.filter(
            (intervals.started_on < stop) & (intervals.ended_on.isnull() | (intervals.ended_on >= begin))
        )

    inside = within(contracts)
    value = inside.monthly_value
    started = _events(inside, ibis.greatest(inside.started_on, begin), value, stays_from_day=True)
    closing = inside.filter(inside.ended_on.notnull() & (inside.ended_on < stop))
    ended = _events(closing, closing.ended_on, -closing.monthly_value, stays_from_day=False)
    there = within(_without_overlap(contracts))
    arrived = _counts(there, ibis.greatest(there.started_on, begin), 1.0)
    leaving = there.filter(there.ended_on.notnull() & (there.ended_on < stop))
    left = _counts(leaving, leaving.ended_on, -1.0)
    events = pd.concat([started, ended, arrived, left], ignore_index=True).fillna(0.0)
    if events.empty:
        return pd.DataFrame(columns=[*_BY, "revenue", "active_customers"])
    return _accumulate(events, months)


def _events(table: ibis.Table, day: ibis.Value, value: ibis.Value, *, stays_from_day: bool) -> pd.DataFrame:
    """Sums by month of the events on ``day``: ``now``, the part of ``value`` for the rest of that month, and ``full``.

    ``stays_from_day``: the day itself counts (a first day), or only the days after it (a last day).
    """
    month = day.truncate("M")
    length = (month + ibis.interval(months=1)).cast("date").delta(month.cast("date"), unit="day").cast("float64")
    rest = length - day.day() + (1 if stays_from_day else 0)
    t = table.select("market_id", "segment", month=month, full=value, now=value * rest / length)
    return t.group_by(_BY).aggregate(now=t["now"].sum(), full=t["full"].sum()).to_pandas()


def _counts(table: ibis.Table, day: ibis.Value, sign: float) -> pd.DataFrame:
    t = table.select("market_id", "segment", month=day.truncate("M"))
    return t.group_by(_BY).aggregate(customers=t.count().cast("float64") * sign).to_pandas()


def _without_overlap(contracts: ibis.Table) -> ibis.Table:
    """One row per uninterrupted time as a customer: overlapping and touching contracts become one interval."""
    far = ibis.literal("9999-12-31").cast("date")
    t = contracts.select(
        "customer_id", "market_id", "segment", "started_on", ended_on=contracts.ended_on.fill_null(far)
    )
    per = ibis.window(group_by="customer_id", order_by=["started_on", "ended_on"])
    seen = ibis.window(group_by="customer_id", order_by=["started_on", "ended_on"], preceding=(None, 1))
    t = t.mutate(covered=t.ended_on.max().over(seen))
    fresh = t.covered.isnull() | (t.started_on > t.covered + ibis.interval(days=1))
    t = t.mutate(fresh=ibis.ifelse(fresh, 1, 0))
    t = t.mutate(spell=t.fresh.sum().over(per))
    merged = t.group_by(["customer_id", "market_id", "segment", "spell"]).aggregate(
        started_on=t.started_on.min(), ended_on=t.ended_on.max()
    )
    return merged.mutate(ended_on=merged.ended_on.nullif(far))


def _accumulate(events: pd.DataFrame, months: pd.DataFrame) -> pd.DataFrame:
    pairs = pd.MultiIndex.from_frame(events[["market_id", "segment"]])
    cells = pairs.unique().sort_values()
    code = cells.get_indexer(pairs)
    starts = months["month"].to_numpy("datetime64[us]")
    at = np.searchsorted(starts, pd.to_datetime(events["month"]).to_numpy("datetime64[us]"))
    revenue, active = np.zeros((2, len(cells), len(starts) + 1))
    now, full = events["now"].to_numpy(float), events["full"].to_numpy(float)
    np.add.at(revenue, (code, at), now)
    np.add.at(revenue, (code, at + 1), full - now)
    np.add.at(active, (code, at), events["customers"].to_numpy(float))
    n = len(starts)
    # sums of sums leave dust where nothing is left
    money = np.maximum(np.round(np.cumsum(revenue, axis=1)[:, :n], 6), 0.0)
    return pd.DataFrame(
        {
            "market_id": np.repeat(cells.get_level_values(0).to_numpy(), n),
            "segment": np.repeat(cells.get_level_values(1).to_numpy(), n),
            "month": np.tile(starts, len(cells)),
            "revenue": money.ravel(),
            "active_customers": np.cumsum(active, axis=1)[:, :n].round().ravel(),
        }
    )
