"""Who the best customers are and how cohorts fare: aggregates for people to look at, counted in the engine.

Value here is what customers brought, not a forecast: margin of the last twelve months (purchases), of a year at today's
contracts, or to date where a customer table is all there is. Nothing returned describes a single customer.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import ibis
import numpy as np
import pandas as pd

from micromarket import calendar as cal
from micromarket.config import Settings
from micromarket.value import summaries as s
from micromarket.value.customers_won import customers_acquired
from micromarket.value.groups import Z90, pooled_groups
from micromarket.value.pooling import poisson

_OFFSET = 1_000_000  # keeps steps of positive values above 0 and of negative ones below
_CENT = 0.005
LONGEST_COHORTS = 16


def kind_of(dataset: s.Tables, settings: Settings) -> str:
    """``contracts``, ``purchases`` or ``summary``: which table the value stage reads."""
    if dataset.has("subscriptions") and settings.economics.relationship == "contractual":
        return "contracts"
    return "purchases" if dataset.has("transactions") else "summary"


def value_words(dataset: s.Tables, settings: Settings) -> str:
    """What a customer's value means in this module, for a caption."""
    return {
        "contracts": "margin of a year at today's contracts",
        "purchases": "margin of the last 12 months",
        "summary": "margin to date",
    }[kind_of(dataset, settings)]


def customer_value(dataset: s.Tables, settings: Settings) -> ibis.Table:
    """customer_id, market_id, segment, channel and value (margin, money) of every customer now on the books."""
    rate, kind = settings.economics.margin_rate, kind_of(dataset, settings)
    if kind == "contracts":
        there = s.contract_customers(dataset, settings.as_of)
        there = there.filter(there.gone == 0)
        worth = there.select("customer_id", value=there.value * 12.0 * (rate or 1.0))
    elif kind == "purchases":
        days = s.purchase_days(dataset, rate, settings.as_of)
        days = days.filter(days.date > ibis.literal(cal.year_before(settings.as_of), "date"))
        per = days.group_by("customer_id").aggregate(value=days.margin.sum(), n=days.bought.sum())
        worth = per.filter(per.n > 0).select("customer_id", "value")
    else:
        table = dataset.table("customer_summary")
        worth = table.select("customer_id", value=table.revenue * (rate or 1.0))
    who = customers_acquired(dataset).select("customer_id", "market_id", "segment", "channel")
    joined = who.inner_join(worth, "customer_id")
    value = joined.value.fill_null(0.0)
    size = ibis.greatest(value.abs(), _CENT).ln() * 100
    step = ibis.ifelse(value > _CENT, size.round() + _OFFSET, ibis.ifelse(value < -_CENT, -size.round() - _OFFSET, 0.0))
    return joined.select("customer_id", "market_id", "segment", "channel", value=value, step=step.cast("int64"))


@dataclass(frozen=True)
class Concentration:
    """``curve``: share of customers, best first, and the share of value that they hold (fractions; points enough for a
    line); ``deciles``: share of value by tenth of the customers, best first. ``total``: their value (money)."""

    customers: float
    total: float
    curve: pd.DataFrame
    deciles: pd.Series
    threshold: int
    at_threshold: float

    @property
    def top_tenth(self) -> float:
        """Share of value that the best tenth of the customers hold."""
        return float(self.deciles.iloc[0])


def concentration(values: ibis.Table, best: float = 0.1) -> Concentration | None:
    """Of value over customers, from counts in steps of 1% of value; ``None`` without customers or without value.

    Losses (negative value) come last, so the curve may rise above 1 before it ends there.
    """
    steps = values.group_by("step").aggregate(n=values.step.count().cast("float64"), value=values.value.sum())
    frame = steps.to_pandas().sort_values("step", ascending=False).reset_index(drop=True)
    n, value = frame["n"].to_numpy(float), frame["value"].to_numpy(float)
    if not len(frame) or value.sum() <= 0:
        return None
    share = np.concatenate([[0.0], np.cumsum(n) / n.sum()])
    held = np.concatenate([[0.0], np.cumsum(value) / value.sum()])
    edges = np.interp(np.linspace(0, 1, 11), share, held)
    at = int(np.searchsorted(share[1:], best - 1e-12))
    part = (best - share[at]) / max(share[at + 1] - share[at], 1e-300)
    points = np.unique(np.concatenate([np.linspace(0, 1, 201), share[share < 0.02]]))
    return Concentration(
        customers=float(n.sum()),
        total=float(value.sum()),
        curve=pd.DataFrame({"customers": points, "value": np.interp(points, share, held)}),
        deciles=pd.Series(np.diff(edges), index=range(1, 11), name="share"),
        threshold=int(frame["step"].iloc[at]),
        at_threshold=float(np.clip(part, 0.0, 1.0)),
    )


def best_customers(
    dataset: s.Tables, settings: Settings, values: ibis.Table, found: Concentration, names: pd.Series | None = None
) -> pd.DataFrame:
    """Where the best tenth of the customers are found: segments, markets, products and channels against all customers.

    Parameters
    ----------
    values, found
        From :func:`customer_value` and :func:`concentration`.
    names : Series
        Names of markets by ``market_id``.

    Returns
    -------
    DataFrame
        trait (segment, market, product, channel), name, customers, best (counts), share and share_of_best (fractions),
        index (share_of_best over share, drawn towards 1 as far as groups differ by chance), index_low, index_high
        (90%). Best first within a trait. Groups of fewer than ``report.min_cell`` customers are left out; best and
        share_of_best are empty where fewer of them are among the best.
    """
    top = ibis.ifelse(values.step > found.threshold, 1.0, 0.0)
    border = ibis.ifelse(values.step == found.threshold, 1.0, 0.0)
    marked = values.mutate(best=top + border * found.at_threshold)
    sources = {"segment": marked, "market": marked.mutate(market=marked.market_id), "channel": marked}
    bought = _products(dataset, settings)
    if bought is not None:
        sources["product"] = marked.inner_join(bought, "customer_id")
    frames = []
    for trait, table in sources.items():
        table = table.filter(table[trait].notnull())
        counted = table.group_by(trait).aggregate(customers=table.best.count().cast("float64"), best=table.best.sum())
        frame = counted.to_pandas().rename(columns={trait: "name"}).astype({"name": object})
        frame = frame.sort_values("name").reset_index(drop=True)
        if len(frame) > 1:
            frames.append(_indexed(frame, found, settings.report.min_cell).assign(trait=trait))
    columns = ["trait", "name", "customers", "best", "share", "share_of_best", "index", "index_low", "index_high"]
    if not frames:
        return pd.DataFrame({c: pd.Series(dtype="str" if c in columns[:2] else "float64") for c in columns})
    out = pd.concat(frames, ignore_index=True)[columns]
    if names is not None:
        market = out["trait"] == "market"
        out.loc[market, "name"] = out.loc[market, "name"].map(names).fillna(out.loc[market, "name"])
    return out.sort_values(["trait", "index", "name"], ascending=[True, False, True]).reset_index(drop=True)


def _products(dataset: s.Tables, settings: Settings) -> ibis.Table | None:
    """customer_id, product: what customers now on the books have, or bought in the last 12 months."""
    kind = kind_of(dataset, settings)
    table = {"contracts": "subscriptions", "purchases": "transactions"}.get(kind)
    if table is None or "product" not in dataset.table(table).columns:
        return None
    t, day = dataset.table(table), ibis.literal(settings.as_of, "date")
    if kind == "contracts":
        live = t.started_on <= day
        t = t.filter(live & (t.ended_on.isnull() | (t.ended_on > day)) if "ended_on" in t.columns else live)
    else:
        t = t.filter((t.date > ibis.literal(cal.year_before(settings.as_of), "date")) & (t.amount > 0))
    return t.select("customer_id", "product").distinct()


def _indexed(frame: pd.DataFrame, found: Concentration, min_cell: int) -> pd.DataFrame:
    expected = frame["customers"].to_numpy(float) * 0.1
    theta, sd = pooled_groups(poisson(frame["best"].to_numpy(float), expected), len(frame))
    frame = frame.assign(
        share=frame["customers"] / found.customers,
        share_of_best=frame["best"] / (found.customers * 0.1),
        index=np.exp(theta),
        index_low=np.exp(theta - Z90 * sd),
        index_high=np.exp(theta + Z90 * sd),
    )
    frame.loc[frame["best"] < min_cell, ["best", "share_of_best"]] = np.nan
    return frame[frame["customers"] >= min_cell]


# --- cohorts ---------------------------------------------------------------------------------------------------------
def _quarter(day: ibis.Value) -> ibis.Value:
    return (day.year() * 4 + day.quarter() - 1).cast("int64")


def quarter_name(number: int) -> str:
    """
    >>> quarter_name(2025 * 4 + 2)
    '2025 Q3'
    """
    return f"{number // 4} Q{number % 4 + 1}"


def _first_day(number: int) -> dt.date:
    return dt.date(number // 4, number % 4 * 3 + 1, 1)


def cohorts(dataset: s.Tables, settings: Settings, records_begin: dt.date | None = None) -> pd.DataFrame | None:
    """Customers won in a quarter, and what is left of them and comes from them quarter by quarter.

    Parameters
    ----------
    records_begin : date
        First day from which ended contracts are recorded: earlier cohorts hold survivors only and are left out.

    Returns
    -------
    DataFrame or None
        cohort (text), quarter (number of the acquisition quarter, year * 4 + 0…3), age (quarters since), customers (the
        cohort's), active (contracts: there at the quarter's end; purchases: bought in it), revenue and margin (money
        in that quarter); whole quarters only, at most the last 16 cohorts. Active counts, revenue and margin under
        ``report.min_cell`` customers of the cohort are empty. ``None`` where nothing is dated.
    """
    kind = kind_of(dataset, settings)
    if kind == "summary":
        return None
    acquired = customers_acquired(dataset)
    acquired = acquired.filter(acquired.acquired_on <= ibis.literal(settings.as_of, "date"))
    acquired = acquired.select("customer_id", cohort=_quarter(acquired.acquired_on))
    sizes = acquired.group_by("cohort").aggregate(customers=acquired.cohort.count().cast("float64")).to_pandas()
    after = pd.Timestamp(settings.as_of) + pd.Timedelta(days=1)
    last = after.year * 4 + after.quarter - 2  # the last quarter that is over
    make = _contract_quarters if kind == "contracts" else _purchase_quarters
    table, first = make(dataset, settings, acquired, last)
    if records_begin is not None:
        first = max(first, records_begin.year * 4 + (records_begin.month + 1) // 3)
    sizes = sizes[(sizes["cohort"] >= max(first, last - LONGEST_COHORTS + 1)) & (sizes["cohort"] <= last)]
    if sizes.empty:
        return None
    every = sizes.merge(pd.DataFrame({"at": np.arange(sizes["cohort"].min(), last + 1)}), how="cross")
    every = every[every["at"] >= every["cohort"]].merge(table, on=["cohort", "at"], how="left")
    every[["active", "revenue", "margin"]] = every[["active", "revenue", "margin"]].fillna(0.0)
    every.loc[every["customers"] < settings.report.min_cell, ["active", "revenue", "margin"]] = np.nan
    every = every.assign(
        cohort=every["cohort"].map(quarter_name), quarter=every["cohort"], age=every["at"] - every["cohort"]
    )
    columns = ["cohort", "quarter", "age", "customers", "active", "revenue", "margin"]
    return every[columns].sort_values(["quarter", "age"]).reset_index(drop=True)


def _purchase_quarters(
    dataset: s.Tables, settings: Settings, acquired: ibis.Table, last: int
) -> tuple[pd.DataFrame, int]:
    days = s.purchase_days(dataset, settings.economics.margin_rate, settings.as_of)
    days = days.mutate(at=_quarter(days.date))
    per = days.group_by("customer_id", "at").aggregate(
        amount=days.amount.sum(), margin=days.margin.sum(), bought=days.bought.max()
    )
    t = acquired.inner_join(per, "customer_id")
    t = t.mutate(at=ibis.greatest(t.at, t.cohort))  # a purchase before the first day on record belongs to that quarter
    summed = t.group_by("cohort", "at").aggregate(
        active=t.bought.sum().cast("float64"), revenue=t.amount.sum(), margin=t.margin.sum()
    )
    first = pd.Timestamp(days.date.min().execute())
    begins = first.year * 4 + first.quarter - 1
    # a log that begins in mid-quarter misses some of that quarter's purchases
    return summed.to_pandas(), begins if first.date() <= _first_day(begins) + dt.timedelta(days=7) else begins + 1


def _contract_quarters(
    dataset: s.Tables, settings: Settings, acquired: ibis.Table, last: int
) -> tuple[pd.DataFrame, int]:
    """From counts by quarter of start and of end: a customer pays in full in the quarters between, in part in both."""
    there = s.contract_customers(dataset, settings.as_of)
    there = there.mutate(begin=_quarter(there.start), stop=_quarter(there.end))
    t = acquired.inner_join(there, "customer_id")
    year, quarter = t.start.year(), t.start.quarter()
    into = t.start.delta(ibis.date(year, quarter * 3 - 2, 1), unit="day").cast("float64")
    stop_into = t.end.delta(ibis.date(t.end.year(), t.end.quarter() * 3 - 2, 1), unit="day").cast("float64") + 1
    t = t.mutate(late=t.value * into / s.DAYS_PER_MONTH, early=t.value * stop_into / s.DAYS_PER_MONTH)
    counted = t.group_by("cohort", "begin", "stop", "gone").aggregate(
        n=t.cohort.count().cast("float64"), value=t.value.sum(), late=t.late.sum(), early=t.early.sum()
    ).to_pandas()  # fmt: skip
    rate = settings.economics.margin_rate or 1.0
    rows = []
    for at in range(int(counted["begin"].min()) if len(counted) else last, last + 1):
        c = counted[(counted["begin"] <= at) & ((counted["stop"] >= at) | (counted["gone"] == 0))]
        ends = (c["stop"] == at) & (c["gone"] == 1)
        revenue = np.where(ends, c["early"], 3 * c["value"]) - np.where(c["begin"] == at, c["late"], 0.0)
        part = pd.DataFrame(
            {"cohort": c["cohort"], "active": c["n"].where(~ends, 0.0), "revenue": np.maximum(revenue, 0)}
        )
        rows.append(part.groupby("cohort", as_index=False).sum().assign(at=at))
    table = pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=["cohort", "active", "revenue", "at"])
    table = table.assign(cohort=np.minimum(table["cohort"], table["at"]), margin=rate * table["revenue"])
    table = table.groupby(["cohort", "at"], as_index=False).sum()
    return table, int(counted["cohort"].min()) if len(counted) else last
