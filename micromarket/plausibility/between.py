"""Tables that don't fit together: amounts in another unit, customers without purchases, everybody in one market."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ibis
import ibis.expr.types as ir
import pandas as pd

from micromarket import calendar as cal
from micromarket.errors import shown
from micromarket.formats import count, plural
from micromarket.sources import RawTable

_SAMPLE = 2_000_000
_YEAR = 365.25


@dataclass(frozen=True)
class _Sums:
    """Company totals of the last year before ``as_of``; ``None`` where a table says nothing."""

    revenue: float | None
    won: float | None


def odd_between_tables(
    tables: Mapping[str, ir.Table],
    raws: Mapping[str, RawTable],
    markets: pd.DataFrame,
    as_of: dt.date,
    contractual: bool,
    here: bool,
) -> list[str]:
    """Sentences that name file and column.

    Parameters
    ----------
    tables : mapping of str to Table
        Checked and typed.
    raws : mapping of str to RawTable
        For the files' names.
    markets : DataFrame
        As :attr:`micromarket.load.Dataset.markets`.
    as_of : date
    contractual : bool
        Whether revenue comes from contracts.
    here : bool
        Customers' tables are in DuckDB.
    """
    file = {t: raw.source.shown_as for t, raw in raws.items()}
    year = cal.year_before(as_of)
    revenue = _revenue(tables, as_of, year, contractual)
    customers = tables["customers"]
    won = None
    if "acquired_on" in customers.columns:
        won = float(customers.filter((customers.acquired_on > year)).count().execute())
    sums = _Sums(revenue, won)
    found = _shares_of_revenue(tables, file, year, sums)
    found += _outcomes(tables, file, year, sums)
    found += _sales_force(tables, file, sums)
    found += _purchases(tables, file)
    found += _one_market(tables, file, markets)
    found += _experiments(tables, file, markets, sums, year)
    for log in ("subscriptions",) if contractual else ("transactions", "customer_summary"):
        if log in tables and here:
            found += _without_purchase(tables, file, log)
    return found


def _one(table: ir.Table, **what: Any) -> dict[str, Any]:
    return dict(table.aggregate(**what).to_pyarrow().to_pylist()[0])


def _revenue(tables: Mapping[str, ir.Table], as_of: dt.date, year: dt.date, contractual: bool) -> float | None:
    if contractual and "subscriptions" in tables:
        s = tables["subscriptions"]
        live = s.filter(s.ended_on.isnull()) if "ended_on" in s.columns else s
        return float(_one(live, a=live.monthly_value.sum())["a"] or 0.0) * 12
    if not contractual and "transactions" in tables:
        t = tables["transactions"]
        got = _one(t.filter((t.date > year) & (t.date <= as_of)), a=ibis._.amount.sum())
        return float(got["a"] or 0.0)
    return None


def _shares_of_revenue(
    tables: Mapping[str, ir.Table], file: Mapping[str, str], year: dt.date, sums: _Sums
) -> list[str]:
    if "spend" not in tables or not sums.revenue or sums.revenue <= 0:
        return []
    s = tables["spend"].filter(ibis._.period > year)
    got = _one(s, a=s.amount.sum(), first=s.period.min(), last=s.period.max(), n=s.count())
    if not got["n"] or not got["a"]:
        return []
    days = max((got["last"] - got["first"]).days + 7, 28)
    share = got["a"] * max(_YEAR / days, 1.0) / sums.revenue
    if 5e-4 <= share <= 2.0:
        return []
    much = f"{share:.3%}" if share < 1 else f"{share:,.1f} times"
    return [
        f"{file['spend']}, column amount: a year's spend is {much} of a year's revenue ({sums.revenue:,.0f}); is it in"
        " the same unit (cents, thousands) and currency?"
    ]


def _outcomes(tables: Mapping[str, ir.Table], file: Mapping[str, str], year: dt.date, sums: _Sums) -> list[str]:
    if "outcomes" not in tables:
        return []
    o = tables["outcomes"]
    last = o.filter(o.period > year)
    wanted = {"n": last.new_customers.sum(), "first": last.period.min(), "last": last.period.max()}
    if "revenue" in o.columns:
        wanted["r"] = last.revenue.sum()
    got = _one(last, **wanted)
    if got["first"] is None:
        return []
    scale = max(_YEAR / max((got["last"] - got["first"]).days + 7, 28), 1.0)
    found = []
    for key, column, other, what in (
        ("n", "new_customers", sums.won, "customers won by acquired_on"),
        ("r", "revenue", sums.revenue, "revenue of purchases and contracts"),
    ):
        value = got.get(key)
        if value and other and other > 0 and not 0.2 <= value * scale / other <= 5:
            found.append(
                f"{file['outcomes']}, column {column}: a year adds up to {value * scale / other:,.3g} times the"
                f" {what}; the two should be of a size."
            )
    return found


def _sales_force(tables: Mapping[str, ir.Table], file: Mapping[str, str], sums: _Sums) -> list[str]:
    if "sales_force" not in tables:
        return []
    s = tables["sales_force"]
    columns = [c for c in ("last_actual", "last_target", "capacity", "reps") if c in s.columns]
    got = _one(s, **{c: s[c].sum() for c in columns}) if columns else {}
    found = []
    for column, other, what in (
        ("last_actual", sums.revenue, "a year's revenue"),
        ("last_target", sums.revenue, "a year's revenue"),
        ("capacity", sums.won, "the customers won in a year"),
    ):
        value, most = got.get(column), 5.0 if column != "capacity" else 100.0
        if value and other and other > 0 and not 1 / most <= value / other <= most:
            found.append(
                f"{file['sales_force']}, column {column}: adds up to {value / other:,.3g} times {what}; is it a year's,"
                " in the same unit?"
            )
    return found


def _purchases(tables: Mapping[str, ir.Table], file: Mapping[str, str]) -> list[str]:
    if "transactions" not in tables or "margin" not in tables["transactions"].columns:
        return []
    t = tables["transactions"]
    got = _one(t.filter(t.margin.notnull()), m=ibis._.margin.sum(), a=ibis._.amount.sum())
    if not got["a"] or got["a"] <= 0:
        return []
    rate = got["m"] / got["a"]
    if rate > 1:
        return [f"{file['transactions']}, column margin: adds up to more than revenue; margin is money, after costs."]
    if 0 < rate < 0.01:
        return [
            f"{file['transactions']}, column margin: adds up to {rate:.2%} of revenue; is it a rate rather than money,"
            " or in another unit?"
        ]
    return []


def _one_market(tables: Mapping[str, ir.Table], file: Mapping[str, str], markets: pd.DataFrame) -> list[str]:
    customers = tables["customers"]
    if "market_id" not in customers.columns or len(markets) < 5:
        return []
    by = customers.group_by("market_id").aggregate(n=ibis._.count()).to_pandas()
    total, most = float(by["n"].sum()), float(by["n"].max()) if len(by) else 0.0
    if not total or most < 0.9 * total:
        return []
    where = by.sort_values(["n", "market_id"], ascending=[False, True])["market_id"].iloc[0]
    share = "all" if most == total else f"{most / total:.0%} of"
    return [
        f"{file['customers']}, column market_id: {share} customers are in {shown(str(where))}, one of"
        f" {count(len(markets))} markets; there is next to nothing to compare."
    ]


def _experiments(
    tables: Mapping[str, ir.Table], file: Mapping[str, str], markets: pd.DataFrame, sums: _Sums, year: dt.date
) -> list[str]:
    if "experiments" not in tables or "spend" not in tables:
        return []
    spend = tables["spend"]
    frame = tables["experiments"].to_pandas()
    known = set(spend.select("channel").distinct().to_pandas()["channel"])
    found = []
    strangers = sorted({str(c) for c in frame["channel"]} - known)
    if strangers:
        found.append(
            f"{file['experiments']}, column channel: {shown(strangers[0])} is no channel of {file['spend']}; its"
            " experiments teach nothing."
        )
    paid = float(_one(spend.filter(spend.period > year), a=ibis._.amount.sum())["a"] or 0.0)
    lifts = pd.to_numeric(frame["lift"], errors="coerce").abs() if "lift" in frame else pd.Series(dtype=float)
    if paid and sums.won and len(lifts.dropna()) and float(lifts.max()) * paid > 100 * sums.won:
        found.append(
            f"{file['experiments']}, column lift: {lifts.max():,.4g} new customers per unit of money would make a year's"
            " spend bring more than 100 times the customers that were won; is it money per customer?"
        )
    if "markets" in frame:
        ids = set(markets["market_id"].astype(str))
        lost = [str(p).strip() for text in frame["markets"].dropna().astype(str) if ";" in text for p in text.split(";")
                if str(p).strip() and str(p).strip() not in ids]  # fmt: skip
        if lost:
            found.append(
                f"{file['experiments']}, column markets: {shown(lost[0])} is no market"
                + (f", nor are {len(lost) - 1} more" if len(lost) > 1 else "")
                + "; left out."
            )
    return found


def _without_purchase(tables: Mapping[str, ir.Table], file: Mapping[str, str], log: str) -> list[str]:
    """Customers that the log doesn't know, counted on a share of them where there are many."""
    customers, bought = tables["customers"], tables[log]
    total = int(customers.count().execute())
    parts = max(1, total // _SAMPLE)

    def some(table: ir.Table) -> ir.Table:
        ids = table.select("customer_id")
        return ids.filter((ids.customer_id.hash() % parts) == 0) if parts > 1 else ids

    n = int(some(customers).anti_join(some(bought).distinct(), "customer_id").count().execute()) * parts
    if not n:
        return []
    about = "" if parts == 1 else "about "
    what = "contract" if log == "subscriptions" else "purchase"
    verb = "has" if n == 1 else "have"
    return [
        f"{file['customers']}, column customer_id: {about}{plural(n, 'customer')} of {total:,} {verb} no {what} in"
        f" {file[log]}; they bring nothing."
    ]
