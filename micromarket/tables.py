"""The contract of every input table, declared once: types, ranges, keys, meaning.

The schemas are pandera's, so that a user can also call ``TABLE_SCHEMAS["spend"].validate(frame)``. Large tables are
checked in the engine against the same declarations (``validate.py``). ``python -m micromarket.tables`` prints the
users' documentation of the tables, kept in ``docs/tables.md``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pandera.pandas as pa

#: Column types of the contract and what a value must look like.
TYPES = {
    "text": "a text",
    "number": "a number with a decimal point, no thousands separator, no currency, of at most 1e15",
    "date": "a date as YYYY-MM-DD",
    "geometry": "a geometry",
}
_DTYPES: dict[str, Any] = {"text": str, "number": float, "date": "datetime64[us]", "geometry": None}


@dataclass(frozen=True)
class Rules:
    """What a column-by-column schema can't say.

    ``references``: column -> (table, column) that must know the value; ``until_as_of``: dates that may not lie after
    ``as_of``; ``ordered``: pairs of dates that may not be in the wrong order; ``one_of``: groups of columns of
    which one must be there whole.
    """

    meaning: str
    key: tuple[str, ...] = ()
    references: dict[str, tuple[str, str]] = field(default_factory=dict)
    until_as_of: tuple[str, ...] = ()
    ordered: tuple[tuple[str, str], ...] = ()
    one_of: tuple[tuple[str, ...], ...] = ()


def _column(kind: str, meaning: str, *checks: pa.Check, required: bool = False, unit: str = "") -> pa.Column:
    return pa.Column(
        _DTYPES[kind],
        checks=list(checks),
        nullable=not required,
        required=required,
        coerce=kind != "geometry",
        description=meaning,
        metadata={"type": kind, "unit": unit},
    )


def _text(meaning: str, *checks: pa.Check, required: bool = False) -> pa.Column:
    return _column("text", meaning, *checks, required=required)


def _date(meaning: str, required: bool = False) -> pa.Column:
    return _column("date", meaning, required=required, unit="ISO 8601")


def _count(meaning: str, required: bool = False) -> pa.Column:
    return _column("number", meaning, pa.Check.ge(0), required=required, unit="count")


def _money(meaning: str, required: bool = False, signed: bool = False) -> pa.Column:
    return _column("number", meaning, *([] if signed else [pa.Check.ge(0)]), required=required, unit="money")


_MARKET = _text("market, as in the table markets", required=True)
_CUSTOMER = _text("customer, as in the table customers", required=True)
_TO_MARKETS = {"market_id": ("markets", "market_id")}
_TO_CUSTOMERS = {"customer_id": ("customers", "customer_id")}

RULES: dict[str, Rules] = {
    "markets": Rules("one row a micromarket; further numeric columns are features", key=("market_id",)),
    "customers": Rules(
        "one row a customer",
        key=("customer_id",),
        references=_TO_MARKETS,
        until_as_of=("acquired_on",),
        one_of=(("market_id",), ("longitude", "latitude")),
    ),
    "transactions": Rules("one row a purchase; refunds are negative", references=_TO_CUSTOMERS, until_as_of=("date",)),
    "customer_summary": Rules(
        "one row a customer, for who has no purchase log; without age_days value is observed, not modelled",
        key=("customer_id",),
        references=_TO_CUSTOMERS,
    ),
    "subscriptions": Rules(
        "one row a contract",
        references=_TO_CUSTOMERS,
        until_as_of=("started_on", "ended_on"),
        ordered=(("started_on", "ended_on"),),
    ),
    "spend": Rules(
        "marketing spend, weekly or monthly; no row: nothing spent",
        key=("market_id", "period", "channel"),
        references=_TO_MARKETS,
        until_as_of=("period",),
    ),
    "outcomes": Rules(
        "what each market brought; default: counted from customers and transactions",
        key=("market_id", "period"),
        references=_TO_MARKETS,
        until_as_of=("period",),
    ),
    "leads": Rules(
        "one row a lead",
        key=("lead_id",),
        references=_TO_MARKETS,
        until_as_of=("created_on", "mql_on", "sal_on", "sql_on", "won_on", "lost_on"),
        ordered=(("created_on", "won_on"), ("created_on", "lost_on")),
    ),
    "prospects": Rules(
        "one row a person or firm that could buy and is no lead yet; only for the restricted list of"
        " `micromarket leads`",
        key=("prospect_id",),
        references=_TO_MARKETS,
    ),
    "sales_force": Rules("sales coverage and last year's targets", key=("market_id",), references=_TO_MARKETS),
    "field_notes": Rules(
        "what the people on the ground know",
        references=_TO_MARKETS,
        until_as_of=("date",),
        ordered=(("low", "high"),),
    ),
    "experiments": Rules("finished geo experiments", until_as_of=("end",), ordered=(("start", "end"),)),
}

_COLUMNS: dict[str, dict[str, pa.Column]] = {
    "markets": {
        "market_id": _text("the market's id; kept as text, zeros and all", required=True),
        "name": _text("the name people use; default: the id"),
        "region": _text("the region it belongs to"),
        "country": _text("the country of the region"),
        "addressable_customers": _count("people or firms that could buy"),
        "market_customers": _count("those who buy from anyone (gives share)"),
        "geometry": _column("geometry", "border or point, in any CRS that the file declares"),
    },
    "customers": {
        "customer_id": _text("the customer's id", required=True),
        "market_id": _text("home market; or give longitude and latitude"),
        "longitude": _column("number", "home, WGS 84", pa.Check.in_range(-180, 180), unit="degrees"),
        "latitude": _column("number", "home, WGS 84", pa.Check.in_range(-90, 90), unit="degrees"),
        "acquired_on": _date("first day as a customer (needed for outcomes, cohorts, acquisition cost)"),
        "segment": _text("marketing segment"),
        "channel": _text("channel that won the customer"),
        "acquisition_cost": _money("what winning the customer cost"),
    },
    "transactions": {
        "customer_id": _CUSTOMER,
        "date": _date("day of the purchase", required=True),
        "amount": _money("revenue; negative for a refund", required=True, signed=True),
        "margin": _money("contribution margin of the purchase", signed=True),
        "product": _text("product bought"),
    },
    "customer_summary": {
        "customer_id": _CUSTOMER,
        "orders": _count("purchases so far", required=True),
        "revenue": _money("revenue so far", required=True, signed=True),
        "recency_days": _column("number", "days from first to last purchase", pa.Check.ge(0), unit="days"),
        "age_days": _column("number", "days from first purchase to as_of", pa.Check.ge(0), unit="days"),
    },
    "subscriptions": {
        "customer_id": _CUSTOMER,
        "started_on": _date("first day of the contract", required=True),
        "ended_on": _column("date", "last day of the contract; empty: active", unit="ISO 8601"),
        "monthly_value": _money("revenue a month", required=True),
        "product": _text("product of the contract"),
    },
    "spend": {
        "market_id": _MARKET,
        "period": _date("first day of the week or month", required=True),
        "channel": _text("marketing channel", required=True),
        "amount": _money("money spent", required=True),
    },
    "outcomes": {
        "market_id": _MARKET,
        "period": _date("first day of the week or month", required=True),
        "new_customers": _count("customers won in the period", required=True),
        "revenue": _money("revenue of the period", signed=True),
    },
    "leads": {
        "lead_id": _text("the lead's id", required=True),
        "market_id": _text("market, where known"),
        "segment": _text("marketing segment"),
        "channel": _text("channel that brought the lead"),
        "created_on": _date("day the lead came in", required=True),
        "mql_on": _date("day it became marketing-qualified"),
        "sal_on": _date("day sales accepted it"),
        "sql_on": _date("day it became sales-qualified"),
        "won_on": _date("day it was won"),
        "lost_on": _date("day it was lost"),
        "value": _money("expected or closed value"),
        "rejected_reason": _text("why sales sent it back"),
        "lost_reason": _text("why it was lost"),
    },
    "prospects": {
        "prospect_id": _text("the prospect's id", required=True),
        "market_id": _text("market, where known"),
        "segment": _text("marketing segment"),
        "channel": _text("channel that would reach it"),
        "value": _money("expected value"),
    },
    "sales_force": {
        "market_id": _MARKET,
        "territory": _text("sales territory", required=True),
        "manager": _text("who answers for the market's target"),
        "reps": _column("number", "full-time sales people", pa.Check.ge(0), unit="persons"),
        "capacity": _column("number", "new customers its reps can win in a year", pa.Check.ge(0), unit="count"),
        "last_target": _money("last year's revenue target"),
        "last_actual": _money("what it brought"),
    },
    "field_notes": {
        "market_id": _MARKET,
        "author": _text("who says so", required=True),
        "date": _date("when", required=True),
        "kind": _text("what it is about", pa.Check.isin(["potential", "target", "blocked", "play"]), required=True),
        "low": _column(
            "number", "lowest likely value: customers (potential), revenue (target)", unit="customers or money"
        ),
        "high": _column(
            "number", "highest likely value: customers (potential), revenue (target)", unit="customers or money"
        ),
        "reason": _text("why", required=True),
        "play": _text("of the kind play: title of a play in plays.yml that the market gets"),
        "expires_on": _column("date", "last day the note counts; empty: no end", unit="ISO 8601"),
    },
    "experiments": {
        "channel": _text("channel that was tested", required=True),
        "start": _date("first day", required=True),
        "end": _date("last day", required=True),
        "lift": _column(
            "number",
            "incremental new customers per unit of money; empty: spend was drawn by lot, the history shows the rest",
            unit="customers/money",
        ),
        "lift_se": _column("number", "standard error of lift", pa.Check.gt(0), unit="customers/money"),
        "markets": _text("treated markets (ids, separated by ;), or their number"),
        "spend": _money("money that the test added; below 0: took away", signed=True),
    },
}

#: One pandera schema a table: ``TABLE_SCHEMAS["spend"].columns["amount"].description``.
TABLE_SCHEMAS: dict[str, pa.DataFrameSchema] = {
    table: pa.DataFrameSchema(
        columns,
        name=table,
        description=RULES[table].meaning,
        unique=list(RULES[table].key) or None,
        strict=False,
    )
    for table, columns in _COLUMNS.items()
}


def column_type(table: str, column: str) -> str:
    """``"text"``, ``"number"``, ``"date"`` or ``"geometry"``."""
    return str((_COLUMNS[table][column].metadata or {})["type"])


def check_in_words(check: pa.Check) -> str:
    """A pandera check as a reader would say it.

    >>> check_in_words(pa.Check.ge(0))
    'at least 0'
    """
    s = check.statistics or {}
    match check.name:
        case "greater_than_or_equal_to":
            return f"at least {s['min_value']:g}"
        case "greater_than":
            return f"more than {s['min_value']:g}"
        case "in_range":
            return f"from {s['min_value']:g} to {s['max_value']:g}"
        case "isin":
            return "one of " + ", ".join(map(str, s["allowed_values"]))
    raise NotImplementedError(check.name)


def documentation() -> str:
    """The tables as Markdown, for ``docs/tables.md``."""
    lines = [
        "# The input tables",
        "",
        "Made from `micromarket/tables.py` by `python -m micromarket.tables`; a test keeps the two alike.",
        "Required columns are bold. Further columns are ignored, except in `markets`, where every further numeric",
        "column is a feature that may explain potential.",
        "",
    ]
    for table, schema in TABLE_SCHEMAS.items():
        rules = RULES[table]
        lines += [f"## {table}", "", f"{rules.meaning[0].upper()}{rules.meaning[1:]}.", ""]
        if rules.key:
            lines += [f"One row for each {' x '.join(f'`{k}`' for k in rules.key)}.", ""]
        lines += ["| column | type | unit | must be | meaning |", "|---|---|---|---|---|"]
        for name, column in schema.columns.items():
            limits = [check_in_words(c) for c in column.checks]
            if name in rules.references:
                limits.append("in `{}.{}`".format(*rules.references[name]))
            if name in rules.until_as_of:
                limits.append("on or before `as_of`")
            since = "on or after" if column_type(table, name) == "date" else "at least"
            limits += [f"{since} `{a}`" for a, b in rules.ordered if b == name]
            shown = f"**{name}**" if column.required else name
            kind, unit = column_type(table, name), (column.metadata or {})["unit"]
            lines.append(f"| {shown} | {kind} | {unit} | {'; '.join(limits)} | {column.description} |")
        lines.append("")
        if rules.one_of:
            groups = [" and ".join(f"`{c}`" for c in group) for group in rules.one_of]
            lines += [f"Either {' or '.join(groups)} must be there.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    print(documentation(), end="")
