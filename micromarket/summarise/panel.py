"""New customers and spend by market and week (or month): the two sides of response."""

from __future__ import annotations

import datetime as dt

import ibis
import pandas as pd

from micromarket import calendar as cal
from micromarket.load import Dataset

PANEL_DAYS = 3 * 365


def frequency_and_anchor(dataset: Dataset) -> tuple[str, dt.date | None]:
    """``week`` or ``month``, the coarser of spend and outcomes, and a day on which weeks begin."""
    found = []
    for table in ("spend", "outcomes"):
        if dataset.has(table):
            days = dataset.table(table).select("period").distinct().order_by("period").to_pandas()["period"]
            found.append(cal.frequency_of(days))
    if not found:
        return "week", None
    frequency = "month" if any(f == "month" for f, _ in found) else "week"
    return frequency, next((a for f, a in found if f == frequency), None)


def spend_by_period(dataset: Dataset, frequency: str, anchor: dt.date | None) -> pd.DataFrame | None:
    if not dataset.has("spend"):
        return None
    t = dataset.table("spend")
    periods = t.mutate(period=cal.floor_expression(t.period, frequency, anchor))
    grouped = periods.group_by(["market_id", "period", "channel"]).aggregate(amount=ibis._.amount.sum())
    spend = grouped.to_pandas()
    spend["period"] = pd.to_datetime(spend["period"]).astype("datetime64[us]")
    first = pd.Timestamp(dataset.settings.as_of) - pd.Timedelta(days=PANEL_DAYS)
    whole = cal.period_end(spend["period"], frequency) <= pd.Timestamp(dataset.settings.as_of)
    keys = ["market_id", "period", "channel"]
    return spend[(spend["period"] >= first) & whole].sort_values(keys).reset_index(drop=True)


def market_panel(
    dataset: Dataset,
    customers: ibis.Table,
    purchases: ibis.Table | None,
    frequency: str,
    anchor: dt.date | None,
    spend: pd.DataFrame | None,
    records_begin: dt.date | None,
) -> pd.DataFrame | None:
    """Market x period; given by ``outcomes``, else counted. ``None`` where there are no dates."""
    by = ["market_id", "period"]
    if dataset.has("outcomes"):
        t = dataset.table("outcomes")
        revenue = t.revenue if "revenue" in t.columns else ibis.null("float64")
        t = t.mutate(period=cal.floor_expression(t.period, frequency, anchor), revenue=revenue)
        counted = (
            t.group_by(by).aggregate(new_customers=ibis._.new_customers.sum(), revenue=ibis._.revenue.sum()).to_pandas()
        )
        first = counted["period"].min()
    else:
        dated = customers.filter(customers.acquired_on.notnull())
        t = dated.mutate(period=cal.floor_expression(dated.acquired_on, frequency, anchor))
        counted = t.group_by(by).aggregate(new_customers=ibis._.count().cast("float64")).to_pandas()
        if counted.empty:
            return None
        if purchases is not None:
            p = purchases.mutate(period=cal.floor_expression(purchases.date, frequency, anchor))
            money = p.group_by(by).aggregate(revenue=ibis._.amount.sum()).to_pandas()
            counted = counted.merge(money, on=by, how="outer")
        else:
            counted["revenue"] = float("nan")
        first = counted["period"].min()
    counted["period"] = pd.to_datetime(counted["period"]).astype("datetime64[us]")
    as_of = pd.Timestamp(dataset.settings.as_of)
    begin = max(pd.Timestamp(first), as_of - pd.Timedelta(days=PANEL_DAYS))
    if records_begin is not None and not dataset.has("outcomes"):
        begin = max(begin, pd.Timestamp(records_begin))
    if spend is not None and len(spend) and not dataset.has("outcomes"):
        begin = max(begin, spend["period"].min())  # before the first spend record, spend is unknown, not zero
    periods = cal.periods(begin, as_of, frequency, anchor)
    if not len(periods):
        return None
    every = pd.MultiIndex.from_product([sorted(dataset.markets["market_id"]), periods], names=by).to_frame(index=False)
    panel = every.merge(counted, on=by, how="left")
    panel["new_customers"] = panel["new_customers"].fillna(0.0)
    if panel["revenue"].notna().any():
        panel["revenue"] = panel["revenue"].fillna(0.0)
    return panel.sort_values(by).reset_index(drop=True)


def current_spend(
    dataset: Dataset, markets: pd.DataFrame, spend: pd.DataFrame | None, frequency: str
) -> tuple[pd.DataFrame | None, int]:
    """Last year's spend scaled to the plan's length, to the cent, every market x channel; and the days it covers."""
    if spend is None or spend.empty:
        return None, 0
    ends = cal.period_end(spend["period"], frequency)
    last = ends.max()
    first = max(last - pd.Timedelta(days=364 if frequency == "week" else 366), spend["period"].min())
    year = spend[spend["period"] >= first]
    covered = (last - year["period"].min()).days + 1
    scale = dataset.settings.plan.days / covered
    cells = year.groupby(["market_id", "channel"])["amount"].sum().mul(scale).round(2)
    every = pd.MultiIndex.from_product(
        [sorted(markets["market_id"]), sorted(spend["channel"].unique())], names=["market_id", "channel"]
    )
    return cells.reindex(every, fill_value=0.0).rename("current").reset_index(), covered
