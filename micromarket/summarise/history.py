"""What each market and segment holds now and brought in the past, month by month."""

from __future__ import annotations

import datetime as dt
from typing import Any

import ibis
import pandas as pd

from micromarket import calendar as cal
from micromarket.load import Dataset
from micromarket.summarise.contract_months import monthly_totals

HISTORY_MONTHS = 36


def _months(dataset: Dataset) -> pd.DataFrame:
    return cal.whole_months(dataset.settings.as_of, HISTORY_MONTHS)


def market_history(
    dataset: Dataset,
    customers: ibis.Table,
    contracts: ibis.Table | None,
    purchases: ibis.Table | None,
    records_begin: dt.date | None,
) -> pd.DataFrame:
    """Market x segment x month; empty where the company gives no dates."""
    months = _months(dataset)
    known = dataset.engine.put("_months", months)
    by = ["market_id", "segment", "month"]
    frames: list[pd.DataFrame] = []
    won = customers.filter(customers.acquired_on.notnull())
    won = won.mutate(month=won.acquired_on.truncate("M")).semi_join(known, "month")
    frames.append(won.group_by(by).aggregate(new_customers=won.count().cast("float64")).to_pandas())
    first_day = None
    if contracts is not None:
        frames.append(monthly_totals(contracts, months))
        first_day = records_begin or contracts.started_on.min().execute()
    elif purchases is not None:
        p = purchases.mutate(month=purchases.date.truncate("M"))
        monthly = p.semi_join(known, "month").group_by(by).aggregate(
            revenue=p.amount.sum(), active_customers=p.customer_id.nunique(where=p.amount > 0).cast("float64")
        )  # fmt: skip
        frames.append(monthly.to_pandas())
        first_day = purchases.date.min().execute()
    return _complete_history(dataset, customers, frames, first_day)


def _complete_history(
    dataset: Dataset, customers: ibis.Table, frames: list[pd.DataFrame], first_day: Any
) -> pd.DataFrame:
    """All combinations of market, segment and month since the records begin; absent means none."""
    columns = ["market_id", "segment", "month", "new_customers", "active_customers", "revenue"]
    if len(frames) < 2:
        return pd.DataFrame({c: pd.Series(dtype="str" if c in columns[:2] else "float64") for c in columns}).astype(
            {"month": "datetime64[us]"}
        )
    months = _months(dataset)["month"]
    begins = pd.Timestamp(first_day).replace(day=1) if first_day is not None else months.min()
    months = months[months >= begins]
    pairs = customers.select("market_id", "segment").distinct().to_pandas()
    every = pairs.merge(pd.DataFrame({"month": months.astype("datetime64[us]")}), how="cross")
    for frame in frames:
        frame["month"] = pd.to_datetime(frame["month"]).astype("datetime64[us]")
        every = every.merge(frame, on=["market_id", "segment", "month"], how="left")
    return every.fillna(dict.fromkeys(columns[3:], 0.0))[columns].sort_values(columns[:3]).reset_index(drop=True)


def market_cells(
    dataset: Dataset,
    customers: ibis.Table,
    contracts: ibis.Table | None,
    purchases: ibis.Table | None,
    history: pd.DataFrame,
) -> pd.DataFrame:
    """Market x segment now: customers on the books, and what last year brought."""
    by, as_of = ["market_id", "segment"], dataset.settings.as_of
    year_ago = cal.year_before(as_of)
    everyone = customers.group_by(by).aggregate(known=ibis._.count().cast("float64")).to_pandas()
    won = customers.filter((customers.acquired_on > year_ago) & (customers.acquired_on <= as_of))
    parts = [won.group_by(by).aggregate(new_customers_last_year=ibis._.count().cast("float64")).to_pandas()]
    if contracts is not None:
        live = contracts.filter((contracts.started_on <= as_of) & contracts.ended_on.isnull())
        parts.append(live.group_by(by).aggregate(customers=ibis._.customer_id.nunique().cast("float64")).to_pandas())
    elif purchases is not None:
        bought = purchases.filter((purchases.date > year_ago) & (purchases.date <= as_of))
        # without a contract nobody says goodbye: who hasn't bought for a year is off the books
        # … and so is who only sent things back
        buyers = bought.filter(bought.amount > 0).group_by(by)
        parts.append(buyers.aggregate(customers=ibis._.customer_id.nunique().cast("float64")).to_pandas())
        parts.append(bought.group_by(by).aggregate(revenue_last_year=ibis._.amount.sum()).to_pandas())
    else:
        parts.append(everyone.rename(columns={"known": "customers"}))
    if contracts is not None:
        last = history["month"].drop_duplicates().sort_values().tail(12)
        if len(last) == 12:
            year = history[history["month"].isin(last)].groupby(by)["revenue"].sum()
            parts.append(year.rename("revenue_last_year").reset_index())
    cells = everyone[by]
    for part in parts:
        cells = cells.merge(part, on=by, how="left")
    dated = contracts is not None or purchases is not None
    if "revenue_last_year" not in cells:
        cells["revenue_last_year"] = float("nan")
    no_dates = not dated and customers.acquired_on.count().execute() == 0
    filled = [
        "customers",
        *(["revenue_last_year"] if cells["revenue_last_year"].notna().any() else []),
        *([] if no_dates else ["new_customers_last_year"]),
    ]
    cells[filled] = cells[filled].fillna(0.0)
    columns = [*by, "customers", "new_customers_last_year", "revenue_last_year"]
    return cells[columns].sort_values(by).reset_index(drop=True)
