"""``field_round.xlsx``: the targets after the round and who changed what, for the people who answered."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pandas as pd
import xlsxwriter
from xlsxwriter.workbook import Workbook

from micromarket.field.published import KEYS, PublishedRun

_MONEY, _COUNT, _PERCENT = "#,##0.00;[Red]-#,##0.00", "#,##0", "0.0%"
_CHANGES = {
    "round": ("Round", _COUNT), "market_id": ("Market id", ""), "name": ("Market", ""), "segment": ("Segment", ""),
    "region": ("Region", ""), "territory": ("Territory", ""), "author": ("Who", ""), "reason": ("Why", ""),
    "comment": ("Comment", ""), "proposed": ("Proposed change", _MONEY), "before": ("Before", _MONEY),
    "after": ("After", _MONEY), "change": ("Change", _MONEY), "customers_before": ("New customers before", _COUNT),
    "customers_after": ("New customers after", _COUNT), "outcome": ("Outcome", ""), "file": ("File", ""),
    "sheet": ("Sheet", ""), "row": ("Row", _COUNT),
}  # fmt: skip
_TARGETS = {
    "market_id": ("Market id", ""), "name": ("Market", ""), "segment": ("Segment", ""), "region": ("Region", ""),
    "territory": ("Territory", ""), "manager": ("Manager", ""), "revenue": ("Target", _MONEY),
    "new_customers": ("New customers", _COUNT), "p_attain": ("Odds", _PERCENT),
}  # fmt: skip


def write_results(run: PublishedRun, targets: pd.DataFrame, audit: pd.DataFrame, text: str, path: Path) -> Path:
    """Writes the workbook; texts are stored as texts, never as formulas."""
    options = {"strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}
    book = xlsxwriter.Workbook(str(path), options)
    book.set_properties({"title": "Field round", "created": dt.datetime.fromisoformat(run.plan["as_of"])})
    by = targets.groupby(KEYS, sort=True)
    units = by[["revenue", "new_customers"]].sum().join(by["p_attain"].mean()).reset_index()
    _sheet(book, "Targets", units.merge(run.places, on="market_id", how="left"), _TARGETS, text)
    words = "Every answer, and every target that moved because others of the same sum gave something up."
    _sheet(book, "Changes", audit, _CHANGES, words)
    book.close()
    return path


def _sheet(book: Workbook, name: str, frame: pd.DataFrame, columns: dict[str, tuple[str, str]], text: str) -> None:
    sheet = book.add_worksheet(name)
    base = {"font_name": "Arial", "font_size": 10}
    head = book.add_format({**base, "bold": True, "font_color": "white", "bg_color": "#1F6E71", "text_wrap": True})
    sheet.write_string(0, 0, text, book.add_format({**base, "bold": True}))
    for at, (column, (heading, form)) in enumerate(columns.items()):
        sheet.write_string(2, at, heading, head)
        sheet.set_column(at, at, 14 if form else 22)
        style = book.add_format({**base, "num_format": form or "@"})
        for row, value in enumerate(frame[column], start=3):
            if form == "":
                sheet.write_string(row, at, "".join(c for c in str(value) if c.isprintable())[:32_000], style)
            elif pd.notna(value) and np.isfinite(float(value)) and not (column == "row" and value < 0):
                sheet.write_number(row, at, float(value), style)
    sheet.autofilter(2, 0, 2 + len(frame), len(columns) - 1)
    sheet.freeze_panes(3, 2)
