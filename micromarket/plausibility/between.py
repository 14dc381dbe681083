"""Tables that don't fit together: amounts in another unit, customers without purchases, everybody in one market."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from micromarket import calendar as cal
from micromarket.errors import shown
from micromarket.formats import count, plural
from micromarket.plausibility.views import View

_SAMPLE = 2_000_000
_YEAR = 365.25


@dataclass(frozen=True)
class _Sums:
    """Company totals of the last year before ``as_of``; ``None`` where a table says nothing."""

    revenue: float | None
    won: float | None


def odd_between_tables(
    views: Mapping[str, View],
    file: Mapping[str, str],
    markets: pd.DataFrame,
    as_of: dt.date,
    contractual: bool,
) -> list[str]:
    """Sentences that name file and column.

    Parameters
    ----------
    views : mapping of str to View
        Checked and typed tables; without ``customers`` (they stay in another engine) nothing is said.
    file : mapping of str to str
        The files' names.
    markets : DataFrame
        As :attr:`micromarket.load.Dataset.markets`.
    as_of : date
    contractual : bool
        Whether revenue comes from contracts.
    """
    if "customers" not in views:
        return []
    year = cal.year_before(as_of)
    won = None
    if "acquired_on" in views["customers"].columns:
        won = float(views["customers"].one({"n": "count(*)"}, f"acquired_on > DATE '{year}'")["n"])
    sums = _Sums(_revenue(views, as_of, year, contractual), won)
    found = _shares_of_revenue(views, file, year, sums)
    found += _outcomes(views, file, year, sums)
    found += _sales_force(views, file, sums, markets)
    found += _purchases(views, file)
    found += _one_market(views, file, markets)
    found += _experiments(views, file, markets, sums, year)
    for log in ("subscriptions",) if contractual else ("transactions", "customer_summary"):
        if log in views:
            found += _without_purchase(views, file, log)
    return found


def _revenue(views: Mapping[str, View], as_of: dt.date, year: dt.date, contractual: bool) -> float | None:
    if contractual and "subscriptions" in views:
        live = "ended_on IS NULL" if "ended_on" in views["subscriptions"].columns else ""
        return float(views["subscriptions"].one({"a": "sum(monthly_value)"}, live)["a"] or 0.0) * 12
    if not contractual and "transactions" in views:
        within = f"\"date\" > DATE '{year}' AND \"date\" <= DATE '{as_of}'"
        return float(views["transactions"].one({"a": "sum(amount)"}, within)["a"] or 0.0)
    return None


def _shares_of_revenue(views: Mapping[str, View], file: Mapping[str, str], year: dt.date, sums: _Sums) -> list[str]:
    if "spend" not in views or not sums.revenue or sums.revenue <= 0:
        return []
    wanted = {"a": "sum(amount)", "first": "min(period)", "last": "max(period)"}
    got = views["spend"].one(wanted, f"period > DATE '{year}'")
    if not got["a"]:
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


def _outcomes(views: Mapping[str, View], file: Mapping[str, str], year: dt.date, sums: _Sums) -> list[str]:
    if "outcomes" not in views:
        return []
    wanted = {"n": "sum(new_customers)", "first": "min(period)", "last": "max(period)"}
    if "revenue" in views["outcomes"].columns:
        wanted["r"] = "sum(revenue)"
    got = views["outcomes"].one(wanted, f"period > DATE '{year}'")
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


def _sales_force(views: Mapping[str, View], file: Mapping[str, str], sums: _Sums, markets: pd.DataFrame) -> list[str]:
    if "sales_force" not in views:
        return []
    columns = [c for c in ("last_actual", "last_target", "capacity") if c in views["sales_force"].columns]
    got = views["sales_force"].one({"rows": "count(*)"} | {c: f"sum({c})" for c in columns})
    found = []
    lost = len(markets) - int(got["rows"])
    if lost > 0:
        found.append(
            f"{file['sales_force']}, column market_id: {lost:,} of {plural(len(markets), 'market')} without a row;"
            " nobody answers for them."
        )
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


def _purchases(views: Mapping[str, View], file: Mapping[str, str]) -> list[str]:
    if "transactions" not in views or "margin" not in views["transactions"].columns:
        return []
    wanted = {"m": "sum(margin)", "a": "sum(amount)", "most": "max(abs(margin))", "mean": "avg(abs(amount))"}
    got = views["transactions"].one(wanted, "margin IS NOT NULL")
    if not got["a"] or got["a"] <= 0:
        return []
    rate = got["m"] / got["a"]
    if rate > 1:
        return [f"{file['transactions']}, column margin: adds up to more than revenue; margin is money, after costs."]
    if 0 < rate < 0.01 or (got["most"] <= 1 and got["mean"] > 5):
        return [
            f"{file['transactions']}, column margin: adds up to {rate:.2%} of revenue; is it a rate rather than money,"
            " or in another unit?"
        ]
    return []


def _one_market(views: Mapping[str, View], file: Mapping[str, str], markets: pd.DataFrame) -> list[str]:
    if "market_id" not in views["customers"].columns or len(markets) < 5:
        return []
    by = views["customers"].rows("market_id, count(*) FROM {} GROUP BY 1 ORDER BY 2 DESC, 1", ["market_id", "n"])
    total, most = float(sum(row["n"] for row in by)), float(by[0]["n"]) if by else 0.0
    if not total or most < 0.9 * total:
        return []
    where = by[0]["market_id"]
    share = "all" if most == total else f"{most / total:.0%} of"
    return [
        f"{file['customers']}, column market_id: {share} customers are in {shown(str(where))}, one of"
        f" {count(len(markets))} markets; there is next to nothing to compare."
    ]


def _experiments(
    views: Mapping[str, View], file: Mapping[str, str], markets: pd.DataFrame, sums: _Sums, year: dt.date
) -> list[str]:
    if "experiments" not in views or "spend" not in views:
        return []
    spend, names = views["spend"], list(views["experiments"].columns)
    rows = views["experiments"].rows("* FROM {}", names)
    frame = pd.DataFrame(rows, columns=names)
    known = {row["channel"] for row in spend.rows("DISTINCT channel FROM {}", ["channel"])}
    found = []
    strangers = sorted({str(c) for c in frame["channel"]} - known)
    if strangers:
        found.append(
            f"{file['experiments']}, column channel: {shown(strangers[0])} is no channel of {file['spend']}; its"
            " experiments teach nothing."
        )
    paid = float(spend.one({"a": "sum(amount)"}, f"period > DATE '{year}'")["a"] or 0.0)
    lifts = pd.to_numeric(frame["lift"], errors="coerce").abs() if "lift" in frame else pd.Series(dtype=float)
    if paid and sums.won and len(lifts.dropna()) and float(lifts.max()) * paid > 100 * sums.won:
        found.append(
            f"{file['experiments']}, column lift: {lifts.max():,.4g} new customers per unit of money would make a"
            " year's spend bring more than 100 times the customers that were won; is it money per customer?"
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


def _without_purchase(views: Mapping[str, View], file: Mapping[str, str], log: str) -> list[str]:
    """Customers that the log doesn't know, counted on a share of them where there are many."""
    total = int(views["customers"].one({"n": "count(*)"})["n"])
    parts = max(1, total // _SAMPLE)
    some = f"WHERE hash(customer_id) % {parts} = 0" if parts > 1 else ""
    bought = f'(SELECT DISTINCT customer_id FROM "{views[log].name}" {some})'
    query = f"count(*) FROM (SELECT customer_id FROM {{}} {some}) AS c ANTI JOIN {bought} AS b USING (customer_id)"
    n = int(views["customers"].rows(query, ["n"])[0]["n"]) * parts
    if not n:
        return []
    about = "" if parts == 1 else "about "
    what = "contract" if log == "subscriptions" else "purchase"
    verb = "has" if n == 1 else "have"
    return [
        f"{file['customers']}, column customer_id: {about}{plural(n, 'customer')} of {total:,} {verb} no {what} in"
        f" {file[log]}; they bring nothing."
    ]
