"""The tables as they stood at the end of ``as_of``, from files that hold later rows too.

A schedule that plans on the data of the last full month meets files that were written since. What happened later is
left out, and what ended later is still open: a contract that ended afterwards runs, a lead that was won afterwards has
not been won. Tables without dates (markets, customer_summary, sales_force) are taken as they are.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import replace

import ibis
import ibis.expr.types as ir

from micromarket.config import Settings
from micromarket.notes import Assumption
from micromarket.sources import RawTable
from micromarket.validate import as_date, as_text

#: Table -> the day on which a row came to be, and days that come later in its life.
_LIFE: dict[str, tuple[str, tuple[str, ...]]] = {
    "customers": ("acquired_on", ()),
    "transactions": ("date", ()),
    "subscriptions": ("started_on", ("ended_on",)),
    "spend": ("period", ()),
    "outcomes": ("period", ()),
    "leads": ("created_on", ("mql_on", "sal_on", "sql_on", "won_on", "lost_on")),
    "field_notes": ("date", ()),
    "experiments": ("end", ()),
}
_MAY_BE_EMPTY = ("spend", "outcomes", "leads", "field_notes", "experiments")
_OF_CUSTOMERS = ("transactions", "subscriptions", "customer_summary")


def _later(value: ir.Value, as_of: dt.date) -> ir.BooleanValue:
    return (as_date(value) > ibis.literal(as_of)).fill_null(False)  # what is no date is for the checks to find


def _rewound(table: ibis.Table, name: str, as_of: dt.date) -> ibis.Table:
    born, days = _LIFE[name]
    if born in table.columns:
        table = table.filter(~_later(table[born], as_of))
    return table.mutate(
        **{
            day: ibis.cases((_later(table[day], as_of), ibis.null(table[day].type())), else_=table[day])
            for day in days
            if day in table.columns
        }
    )


def _is_empty(table: ibis.Table) -> bool:
    return int(table.limit(1).count().execute()) == 0


def as_it_stood(raw: RawTable, settings: Settings) -> RawTable:
    """One table without what happened after ``as_of``; itself where later rows are refused (``later_rows``)."""
    name = raw.source.table
    if settings.later_rows == "refuse" or name not in _LIFE:
        return raw
    day = settings.as_of
    return replace(raw, table=_rewound(raw.table, name, day), numbered=_rewound(raw.numbered, name, day))


def all_as_they_stood(raws: Mapping[str, RawTable], settings: Settings) -> dict[str, RawTable]:
    """Every table without what happened after ``as_of``, nor rows about customers who were won afterwards."""
    found = {name: as_it_stood(raw, settings) for name, raw in raws.items()}
    if settings.later_rows == "refuse":
        return found
    for name in _MAY_BE_EMPTY:
        if name in found and _is_empty(found[name].table) and not _is_empty(raws[name].table):
            del found[name]  # the company had none on that day
    people = raws.get("customers")
    if people is None or not {"customer_id", "acquired_on"} <= {*people.table.columns}:
        return found
    to_come = people.table.filter(_later(people.table["acquired_on"], settings.as_of))
    strangers = to_come.select(_stranger=as_text(to_come["customer_id"])).distinct()

    def known(table: ibis.Table) -> ibis.Table:
        marked = table.mutate(_stranger=as_text(table["customer_id"]))
        return marked.anti_join(strangers, "_stranger").drop("_stranger")

    for name in _OF_CUSTOMERS:
        raw = found.get(name)
        if raw is not None and raw.source.inside == people.source.inside and "customer_id" in raw.table.columns:
            found[name] = replace(raw, table=known(raw.table), numbered=known(raw.numbered))
    return found


def said_of_later_rows(settings: Settings) -> tuple[Assumption, ...]:
    """What the plan takes as given about rows of later days. No counts: they change with the day the plan is made."""
    if settings.later_rows == "refuse":
        return ()
    text = f"Data as they stood at the end of {settings.as_of}: what came later is left out, what ended later is open."
    return (Assumption(text, "as_of in plan.yml"),)


__all__ = ["all_as_they_stood", "as_it_stood", "said_of_later_rows"]
