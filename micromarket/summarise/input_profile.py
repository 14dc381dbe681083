"""The shape of the input in a few hundred figures, so that the next run can tell when it has changed.

Sums over whole tables only: rows, means, shares of empty values, shares of categories. No extremes, no ids.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import ibis
import pandas as pd

from micromarket.load import Dataset
from micromarket.tables import TABLE_SCHEMAS, column_type

#: Table -> column with the day of a row. Tables by period are looked at over three months, which hold as many weeks,
#: or months, every time; others over four weeks.
_DAY = {
    "customers": "acquired_on", "transactions": "date", "subscriptions": "started_on", "spend": "period",
    "outcomes": "period", "leads": "created_on",
}  # fmt: skip
_MONEY = {"transactions": "amount", "spend": "amount", "outcomes": "new_customers", "subscriptions": "monthly_value"}
_CATEGORIES = {
    "customers": ("segment", "channel"), "transactions": ("product",), "subscriptions": ("product",),
    "spend": ("channel",), "leads": ("segment", "channel"),
}  # fmt: skip
_MOST_CATEGORIES = 30
_YEAR = 364  # whole weeks
COLUMNS = ("table", "column", "measure", "value")


def input_profile(dataset: Dataset) -> pd.DataFrame:
    """``table, column, measure, value`` of every table.

    ``rows``; ``mean`` and ``empty`` (share) by column; ``share of <category>`` (of groups of ``report.min_cell`` rows
    or more); ``recent`` and ``recent last year``: what the latest weeks brought, and the same weeks a year before
    (rows, or the sum of the column).
    """
    rows: list[tuple[str, str, str, float]] = []
    for table in sorted(dataset.tables):
        if table != "markets":
            rows += _of_table(dataset, table)
    rows += _of_markets(dataset)
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return frame[frame["value"].notna()].sort_values(list(COLUMNS[:3]), kind="stable").reset_index(drop=True)


def _kinds(table: str, columns: Any) -> dict[str, str]:
    known = [c for c in TABLE_SCHEMAS[table].columns if c in columns]
    return {c: column_type(table, c) for c in known if column_type(table, c) != "geometry"}


def _of_table(dataset: Dataset, table: str) -> Iterator[tuple[str, str, str, float]]:
    t, min_cell = dataset.table(table), dataset.settings.report.min_cell
    kinds = _kinds(table, t.columns)
    sums: dict[str, ibis.Value] = {"rows": t.count()}
    named: dict[str, tuple[str, str]] = {"rows": ("", "rows")}
    for number, (column, kind) in enumerate(kinds.items()):
        sums[f"held{number}"] = t[column].count()
        named[f"held{number}"] = (column, "empty")
        if kind == "number":
            sums[f"mean{number}"] = t[column].mean()
            named[f"mean{number}"] = (column, "mean")
    if (day := _DAY.get(table)) in kinds:
        days = 92 if day == "period" else 28
        for when, back in (("recent", 0), ("recent last year", _YEAR)):
            last = dataset.settings.as_of - dt.timedelta(days=back)
            inside = (t[day] <= ibis.literal(last)) & (t[day] > ibis.literal(last - dt.timedelta(days=days)))
            sums[f"rows {when}"], named[f"rows {when}"] = inside.sum(), ("", when)
            if (money := _MONEY.get(table)) in kinds:
                sums[f"sum {when}"] = ibis.ifelse(inside, t[money], 0.0).sum()
                named[f"sum {when}"] = (str(money), when)
    found = t.aggregate(**sums).to_pyarrow().to_pylist()[0]
    count = float(found["rows"])
    for key, (column, measure) in named.items():
        if found[key] is None:
            continue
        value = float(found[key])
        if measure == "mean" and count < min_cell:  # of a handful of rows, a mean says what single ones hold
            continue
        yield table, column, measure, 1 - value / count if measure == "empty" and count else value
    for column in _CATEGORIES.get(table, ()):
        if column in kinds and count:
            groups = t.group_by(column).aggregate(n=t.count())
            groups = groups.filter((groups.n >= min_cell) & groups[column].notnull())
            groups = groups.order_by(groups.n.desc(), groups[column]).limit(_MOST_CATEGORIES)
            for name, n in groups.to_pandas().itertuples(index=False):
                yield table, column, f"share of {name}", float(n) / count


def _of_markets(dataset: Dataset) -> Iterator[tuple[str, str, str, float]]:
    markets = dataset.markets
    yield "markets", "", "rows", float(len(markets))
    for column in [c for c in dict.fromkeys((*_kinds("markets", markets.columns), *dataset.features)) if c in markets]:
        yield "markets", column, "empty", float(markets[column].isna().mean())
        if pd.api.types.is_numeric_dtype(markets[column]) and markets[column].notna().any():
            yield "markets", column, "mean", float(markets[column].mean())


__all__ = ["input_profile"]
