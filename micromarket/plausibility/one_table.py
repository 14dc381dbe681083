"""Holes, outliers, repeated rows, silent weeks and look-alike names inside one table."""

from __future__ import annotations

import datetime as dt
import difflib
import unicodedata
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from micromarket.errors import shown
from micromarket.formats import listed, plural
from micromarket.plausibility.views import View
from micromarket.sources import RawTable
from micromarket.tables import TABLE_SCHEMAS, column_type

#: What a hole in a column that is otherwise filled means for the plan. Columns that may well be empty are not here.
HOLES: dict[str, dict[str, str]] = {
    "customers": {
        "market_id": "they count nowhere",
        "acquired_on": "they count as won in no month, or on their first purchase or contract",
        "segment": "they count as a segment of their own",
        "channel": "no channel is credited with them",
        "acquisition_cost": "what they cost is taken from the others",
    },
    "transactions": {"margin": "margin_rate, or the margin of the others, stands in", "product": "they count as none"},
    "customer_summary": {
        "recency_days": "they are left out where it takes this column",
        "age_days": "they are left out where it takes this column",
    },
    "subscriptions": {"product": "they count as none"},
    "outcomes": {"revenue": "it is left out there"},
    "leads": {
        "market_id": "they count for the company, in no market",
        "segment": "they count in no segment",
        "channel": "no channel is credited with them",
    },
    "prospects": {
        "market_id": "they are rated without a market",
        "segment": "they are rated without a segment",
        "channel": "they are rated without a channel",
        "value": "they are rated without a value",
    },
    "sales_force": {
        "manager": "nobody answers for them",
        "reps": "they count as without sales people",
        "capacity": "nothing limits their targets",
        "last_target": "their targets are set without it",
        "last_actual": "their targets are set without it",
    },
}
_FEWEST = 20  # rows below which nothing is called an outlier
_TIMES, _SHARE = 100.0, 0.2  # an outlier: so many times the mean of the others, and so much of the whole
_NO_TIME = dt.date(1970, 1, 1)
_STALE_DAYS = 62
_BUSY = 8  # rows in a usual week
_LOG_DATES = {"transactions": "date", "spend": "period", "outcomes": "period", "leads": "created_on"}
_NAMES = {"customers": ("segment", "channel"), "spend": ("channel",), "leads": ("segment", "channel"),
          "prospects": ("segment", "channel"), "sales_force": ("territory", "manager"),
          "experiments": ("channel",)}  # fmt: skip
_MOST_NAMES = 500
_REPEATS = {"transactions": 0.02, "subscriptions": 0.0, "field_notes": 0.0, "experiments": 0.0}
_SAMPLE = 2_000_000


def odd_columns(raw: RawTable) -> list[str]:
    """Columns that are not read, though their name is nearly that of one the table lacks."""
    table = raw.source.table
    known = list(TABLE_SCHEMAS[table].columns)
    lacking = {c.lower(): c for c in known if c not in raw.table.columns}
    found = []
    for name in raw.table.columns:
        near = difflib.get_close_matches(name.lower().replace(" ", "_"), list(lacking), n=1, cutoff=0.8)
        if name not in known and near:
            found.append(
                f"{raw.source.shown_as}: the column {shown(name)} is not read; did you mean {lacking[near[0]]}?"
            )
    return found


def odd_in_table(view: View, raw: RawTable, as_of: dt.date) -> list[str]:
    """What is odd in a checked, typed table.

    Parameters
    ----------
    view : View
        As :func:`micromarket.validate.typed` gives it.
    raw : RawTable
        For its name, and its rows as they are.
    as_of : date

    Returns
    -------
    list of str
        Sentences that name file and column.
    """
    name, file = raw.source.table, raw.source.shown_as
    columns = [c for c in view.columns if c in TABLE_SCHEMAS[name].columns]
    numbers = [c for c in columns if column_type(name, c) == "number" and c not in ("longitude", "latitude")]
    dates = [c for c in columns if column_type(name, c) == "date"]
    holes = [c for c in HOLES.get(name, {}) if c in columns]
    wanted = {"_rows": "count(*)"}
    wanted |= {f"hole_{c}": f'count(*) - count("{c}")' for c in holes}
    for c in numbers:
        wanted |= {f"n_{c}": f'count("{c}")', f"sum_{c}": f'sum(abs("{c}"))', f"max_{c}": f'max(abs("{c}"))'}
    wanted |= {f"zero_{c}": f"count(*) FILTER (\"{c}\" = DATE '{_NO_TIME}')" for c in dates}
    got = view.one(wanted)
    rows = int(got["_rows"])
    found = _holes(name, file, holes, got, rows)
    found += [text for c in numbers if (text := _outlier(file, c, got, view)) is not None]
    for c in dates:
        if n := int(got[f"zero_{c}"] or 0):
            found.append(
                f"{file}, column {c}: {_rows(n, rows)} 1970-01-01, the zero of computers' clocks; most likely the"
                " day is not known there."
            )
    if name in _LOG_DATES and _LOG_DATES[name] in dates:
        found += _silences(view, file, _LOG_DATES[name], name, as_of)
    for c in _NAMES.get(name, ()):
        if c in columns:
            found += _look_alikes(view, file, c)
    if name in _REPEATS:
        found += _repeated(view, file, rows, _REPEATS[name])
    if name == "leads":
        found += _steps_out_of_order(view, file)
    return found


def _rows(n: int, of: int) -> str:
    return f"{n:,} of {plural(of, 'row')} {'has' if n == 1 else 'have'}"


def _holes(name: str, file: str, holes: Sequence[str], got: dict[str, Any], rows: int) -> list[str]:
    found = []
    for c in holes:
        n = int(got[f"hole_{c}"] or 0)
        if 0 < n < rows:
            found.append(f"{file}, column {c}: {_rows(n, rows)} no value; {HOLES[name][c]}.")
    return found


def _outlier(file: str, column: str, got: dict[str, Any], view: View) -> str | None:
    """One value that is beyond all others and makes up much of the whole."""
    n, total, largest = int(got[f"n_{column}"] or 0), got[f"sum_{column}"], got[f"max_{column}"]
    if n < _FEWEST or not largest or largest < _SHARE * total:
        return None
    others = (total - largest) / (n - 1)
    if largest < _TIMES * others:
        return None
    at = [c for c in ("market_id", "channel", "period", "date") if c in view.columns]
    some = ", ".join(f'"{c}"' for c in at)
    first = (
        view.rows(f'{some} FROM {{}} WHERE abs("{column}") = {largest!r} ORDER BY {some} LIMIT 1', at)[0] if at else {}
    )
    place = ", ".join(f"{c} {shown(v).strip(chr(39))}" for c, v in first.items())
    return (
        f"{file}, column {column}: one value ({largest:,.6g}{' at ' + place if place else ''}) is"
        f" {largest / others if others else float(n):,.0f} times the mean of the others and {largest / total:.0%} of"
        " the whole; if it is a slip or another unit, mend it: the plan counts it as it is."
    )


def _silences(view: View, file: str, column: str, name: str, as_of: dt.date) -> list[str]:
    """Weeks (months, where the data go by month) without a row, and an end long before ``as_of``."""
    week, known = f"""date_trunc('week', "{column}")::DATE""", f'"{column}" IS NOT NULL'
    query = f"{week} AS week, count(*) AS n FROM {{}} WHERE {known} GROUP BY 1"
    weeks = {row["week"]: int(row["n"]) for row in view.rows(query, ["week", "n"])}
    had = sorted(weeks)
    if not had:
        return []
    usual = sorted(weeks.values())[len(had) // 2]
    found = []
    recent = [w for w in had if w > as_of - dt.timedelta(days=3 * 366)]
    spans = len(recent)
    if spans >= 8 and usual >= _BUSY:  # where little happens, weeks without anything are no news
        every = {recent[0] + dt.timedelta(days=7 * i) for i in range((recent[-1] - recent[0]).days // 7 + 1)}
        gaps = sorted(every - set(recent))
        monthly = len(gaps) > 0.6 * len(every)  # rows by month leave three weeks of four empty
        if monthly:
            days = view.rows(f"""DISTINCT date_trunc('month', "{column}")::DATE AS m FROM {{}}""", ["m"])
            months = {(d["m"].year, d["m"].month) for d in days if d["m"] is not None}
            first, last = min(months), max(months)
            span = (last[0] - first[0]) * 12 + last[1] - first[1] + 1
            lost = [
                (first[0] + (first[1] - 1 + i) // 12, (first[1] - 1 + i) % 12 + 1)
                for i in range(span)
                if (first[0] + (first[1] - 1 + i) // 12, (first[1] - 1 + i) % 12 + 1) not in months
            ]
            if lost and len(lost) < 0.5 * span:
                found.append(
                    _gap(file, column, f"{len(lost)} of {span} months", f"{lost[0][0]}-{lost[0][1]:02d}", name)
                )
        elif gaps and len(gaps) < 0.25 * len(every):
            found.append(_gap(file, column, f"{len(gaps)} of {len(every)} weeks", f"week of {gaps[0]}", name))
    behind = (as_of - had[-1]).days
    if behind > _STALE_DAYS:
        found.append(
            f"{file}, column {column}: the last rows are of the week of {had[-1]}, {behind} days before as_of"
            f" ({as_of}); what came later is not in the plan."
        )
    return found


def _gap(file: str, column: str, what: str, first: str, name: str) -> str:
    meant = "nothing was spent" if name == "spend" else "nothing happened"
    return f"{file}, column {column}: {what} have no row in any market (the first: {first}); they count as if {meant}."


def _look_alikes(view: View, file: str, column: str) -> list[str]:
    """Names that differ only by case, blanks, accents' spelling or characters that nobody sees."""
    query = f'DISTINCT "{column}" AS v FROM {{}} WHERE "{column}" IS NOT NULL LIMIT {_MOST_NAMES + 1}'
    names = sorted(str(row["v"]) for row in view.rows(query, ["v"]))
    if len(names) > _MOST_NAMES:
        return [f"{file}, column {column}: more than {_MOST_NAMES} different names; is it the right column?"]
    return same_to_the_eye(names, file, column)


def same_to_the_eye(names: Sequence[str], file: str, column: str) -> list[str]:
    """One sentence on every group of names that people would take for the same."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(plain_name(name), []).append(name)
    return [
        f"{file}, column {column}: {listed([shown(n) for n in group[:4]])} look the same but are"
        f" {plural(len(group), 'name')}: they count apart."
        for group in groups.values()
        if len(group) > 1
    ]


def plain_name(name: str) -> str:
    """A name without what the eye doesn't tell apart.

    >>> plain_name("Paid  Search\u200b") == plain_name("paid search")
    True
    """
    text = unicodedata.normalize("NFKC", name)
    seen = "".join(c for c in text if unicodedata.category(c) not in ("Cf", "Cc"))
    return " ".join(seen.casefold().split())


def _repeated(view: View, file: str, rows: int, least: float) -> list[str]:
    """Rows that are there more than once, counted on a share of the rows where there are many."""
    parts = max(1, rows // _SAMPLE)
    some = f' WHERE hash("{view.columns[0]}") % {parts} = 0' if parts > 1 else ""
    every = ", ".join(f'"{c}"' for c in view.columns)
    query = f"sum(n) AS r, sum(n - 1) AS more FROM (SELECT count(*) AS n FROM {{}}{some} GROUP BY {every})"
    got = view.rows(query, ["r", "more"])[0]
    share = float(got["more"] or 0) / max(float(got["r"] or 1), 1.0)
    if not share or share <= least:
        return []
    about = "" if parts == 1 else "about "
    return [
        f"{file}: {about}{share * rows:,.0f} of {rows:,} rows repeat another row, value for value; if the file was put"
        " together twice, mend it: the plan counts every row."
    ]


_STEPS = ("mql_on", "sal_on", "sql_on", "won_on")


def _steps_out_of_order(view: View, file: str) -> list[str]:
    """Leads that moved on before they came in, or were won and lost."""
    steps = [c for c in _STEPS[:3] if c in view.columns]
    wanted = {c: f'count(*) FILTER ("{c}" < "created_on")' for c in steps}
    for before, after in pairwise(steps):
        wanted[f"{after}<{before}"] = f'count(*) FILTER ("{after}" < "{before}")'
    if {"won_on", "lost_on"} <= set(view.columns):
        wanted["both"] = 'count(*) FILTER ("won_on" IS NOT NULL AND "lost_on" IS NOT NULL)'
    if not wanted:
        return []
    got = view.one(wanted)
    found = []
    for key, n in got.items():
        if not n:
            continue
        if key == "both":
            found.append(f"{file}, column lost_on: {plural(n, 'lead')} both won and lost.")
        else:
            after, _, before = key.partition("<")
            found.append(f"{file}, column {after}: {plural(n, 'lead')} with a day before {before or 'created_on'}.")
    return found
