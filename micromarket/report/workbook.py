"""``plan.xlsx``: every published table, filterable, with definitions; nothing in it is ever a formula from data."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import xlsxwriter
from xlsxwriter.utility import xl_range_abs, xl_rowcol_to_cell
from xlsxwriter.workbook import Workbook
from xlsxwriter.worksheet import Worksheet

from micromarket.formats import day, excel_date, finite, prose, span
from micromarket.plan.assembly import Plan
from micromarket.report import cautions
from micromarket.report.sections_customers import foresight_in_words
from micromarket.report.style import ACCENT, ACCENT_DARK, ACCENT_PALE, GREY, label
from micromarket.report.workbook_words import COLUMNS, OTHERS, SHEETS, WINNING

MOST_ROWS = 60_000  # beyond it a sheet sums over segments: people filter it, programs read tables/*.parquet
MOST_SHEET_ROWS = 1_048_575
_FORMATS = {
    "money": "#,##0;[Red]-#,##0",
    "count": "#,##0.0",
    "percent": "0.0%",
    "ratio": "0.00",
    "date": "yyyy-mm-dd",
    "text": "@",
}


UNSUPPORTED = (
    "The data don't support an order of the markets by these figures. They are there so that the table is whole:"
    " don't rank or choose markets by them."
)


def unsupported_value(plan: Plan) -> bool:
    """Whether the data don't support an order of markets by what customers are worth."""
    return bool(plan.number("value", "signal", "verdict") == "none")


def unsupported(plan: Plan) -> frozenset[str]:
    """Columns whose order the data don't support: shown in grey."""
    grey: set[str] = set()
    if plan.number("potential", "signal", "verdict") == "none":
        grey |= {"potential_customers", "potential_low", "potential_high", "headroom", "opportunity",
                 "opportunity_share", "quadrant", "play", "headroom_low", "headroom_high", "top_fifth",
                 "quadrant_odds", "opportunity_acquire", "cause", "value",
                 *(f"{c}_gap" for c in ("coverage", "spend", "price", "rivals", "unexplained"))}  # fmt: skip
    if unsupported_value(plan):
        grey |= {"clv", "clv_low", "clv_high", "new_customer_clv", "customer_equity"}
    return frozenset(grey)


def write_workbook(plan: Plan, path: str | Path) -> Path:
    """Writes the workbook: a read-me with headline numbers and definitions, then one sheet a published table.

    Equal plans give equal bytes (dated ``as_of``). Texts from data are stored as texts, never as formulas or links.
    """
    path = Path(path)
    options = {"strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False,
               "nan_inf_to_errors": False}  # fmt: skip
    book = xlsxwriter.Workbook(str(path), options)
    created = dt.datetime.combine(plan.as_of, dt.time())
    book.set_properties(
        {"title": f"{label(plan.company)}: micromarket plan", "author": label(plan.company), "created": created}
    )
    styles = _styles(book)
    _read_me(plan, book, styles)
    names = plan.markets.set_index("market_id")[["name", "region", "territory"]]
    names = names.loc[:, names.notna().any()]
    for table, title in SHEETS.items():
        if table in plan.tables:
            frame = over_segments(plan.tables[table]).dropna(axis="columns", how="all")
            if "market_id" in frame.columns:
                frame = frame.join(names, on="market_id")
                first = ["market_id", *names.columns]
                frame = frame[[*first, *(c for c in frame.columns if c not in first)]]
            grey = unsupported(plan) if table in ("scores", "causes") else frozenset()
            _sheet(book, title, frame, styles, grey, COLUMNS | OTHERS.get(table, {}))
    if plan.segments is not None and len(plan.segments) > 1:
        _sheet(book, "Segments", plan.segments.dropna(axis="columns", how="all"), styles, frozenset())
    if plan.acquisition is not None:
        _winning(plan, plan.acquisition, book, styles)
    book.close()
    return path


def _winning(plan: Plan, costs: pd.DataFrame, book: Workbook, styles: Mapping[str, Any]) -> None:
    """What winning customers costs: company, channels and segments on one sheet, markets on another."""
    costs = costs.rename(columns={"new_customers": "won"})
    of_market = costs["level"] == "market"
    _sheet(book, "Winning customers", costs.loc[~of_market, list(WINNING)], styles, frozenset(), WINNING)
    markets = costs[of_market & (costs["basis"] == "blended")].rename(columns={"key": "market_id"})
    if len(markets):
        grey = frozenset(WINNING) & {"ltv_to_cac", "payback_months", *unsupported(plan)}
        columns = ["market_id", *(c for c in WINNING if c not in ("level", "basis"))]
        _sheet(book, "Winning by market", markets[columns], styles, grey if unsupported_value(plan) else frozenset(),
               COLUMNS | WINNING)  # fmt: skip


def over_segments(frame: pd.DataFrame) -> pd.DataFrame:
    """A table of more than :data:`MOST_ROWS` rows by market and period only; odds are means weighted by revenue."""
    if len(frame) <= MOST_ROWS or "segment" not in frame.columns:
        return frame
    keys, sums = (
        ["market_id", "period"],
        [c for c in frame.columns if c not in ("market_id", "segment", "period", "p_attain")],
    )
    by = frame.groupby(keys, as_index=False)[sums].sum(min_count=1)
    if "p_attain" in frame.columns:
        weight = frame["revenue"].where(frame["p_attain"].notna(), 0.0)
        odds = (
            frame[keys]
            .assign(weight=weight, odds=frame["p_attain"].fillna(0) * weight)
            .groupby(keys)[["weight", "odds"]]
        )
        totals = odds.sum().reset_index(drop=True)
        by["p_attain"] = totals["odds"] / totals["weight"].where(totals["weight"] > 0)
    return by


def _styles(book: Workbook) -> dict[str, Any]:
    base = {"font_name": "Arial", "font_size": 10, "valign": "top"}
    forms = {**_FORMATS, "date": excel_date()}
    styles = {kind: book.add_format({**base, "num_format": fmt}) for kind, fmt in forms.items()}
    for kind, form in forms.items():
        styles[f"grey {kind}"] = book.add_format({**base, "num_format": form, "font_color": "#A0A8B0"})
    styles["head"] = book.add_format(
        {**base, "bold": True, "font_color": "white", "bg_color": ACCENT, "text_wrap": True}
    )
    styles["title"] = book.add_format(
        {**base, "bold": True, "font_size": 16, "font_color": ACCENT_DARK, "text_wrap": True}
    )
    styles["strong"] = book.add_format({**base, "bold": True})
    styles["wrap"] = book.add_format({**base, "text_wrap": True})
    styles["grey"] = book.add_format({**base, "font_color": GREY, "text_wrap": True})
    styles["band"] = book.add_format({**base, "bold": True, "bg_color": ACCENT_PALE, "font_color": ACCENT_DARK})
    return styles


@lru_cache(maxsize=200_000)
def _clean(text: str) -> str:
    return "".join(c for c in text if c.isprintable() or c == "\n")[:32_000]


def _text(sheet: Worksheet, row: int, column: int, value: object, style: Any) -> None:
    sheet.write_string(row, column, _clean(str(value)), style)


def totals(plan: Plan) -> list[tuple[str, str, str, float]]:
    """(Name for formulas, words, kind of number, value) of what the plan states as totals."""
    found: list[tuple[str, str, str, Any]] = [
        ("Budget_now", "Budget, as spent today", "money", plan.totals.get("budget", {}).get("current")),
        ("Budget_plan", "Budget, plan", "money", plan.totals.get("budget", {}).get("recommended")),
        ("Money_that_moves", "Money that moves", "money", plan.number("allocation", "moved")),
        *(
            (f"Gain_{part}", f"Margin it should add, {words}", "money", plan.number("allocation", "gain", part))
            for part, words in (("expected", "expected"), ("low", "low (5%)"), ("high", "high (95%)"))
        ),
        ("Revenue_target", "Revenue target", "money", plan.totals.get("targets", {}).get("revenue")),
        ("New_customers_target", "New customers, target", "count", plan.totals.get("targets", {}).get("new_customers")),
        ("Margin_target", "Margin on that revenue", "money", plan.totals.get("targets", {}).get("margin")),
        ("Odds_of_the_goal", "Odds of the goal", "percent", plan.number("targets", "p_company")),
        ("Leads_due", "Leads due", "count", plan.totals.get("funnel", {}).get("leads")),
        ("Customers_to_win", "Customers still to be won", "count", plan.totals.get("scores", {}).get("headroom")),
        ("Opportunity_total", "Opportunity, in margin", "money", plan.totals.get("scores", {}).get("opportunity")),
    ]
    return [(n, w, k, number) for n, w, k, v in found if (number := finite(v)) is not None]


def _read_me(plan: Plan, book: Workbook, styles: Mapping[str, Any]) -> None:
    sheet = book.add_worksheet("Read me")
    _printed(sheet)
    sheet.hide_gridlines(2)
    sheet.set_column(0, 0, 30)
    sheet.set_column(1, 1, 22)
    sheet.set_column(2, 2, 90)
    sheet.set_row(0, 44)
    sheet.merge_range(0, 0, 0, 2, "", styles["title"])
    _text(sheet, 0, 0, plan.headline, styles["title"])
    period, until = span(plan.start, plan.end), day(plan.as_of)
    about = f"{plan.company}. Plan for {period}. Data up to {until}. Money in {plan.currency}."
    _text(sheet, 1, 0, about, styles["text"])
    _text(sheet, 2, 0, plan.subline, styles["text"])
    row = 4

    def band(title: str) -> int:
        for column in range(3):
            _text(sheet, row, column, title if column == 0 else "", styles["band"])
        return row + 1

    row = band("Headline numbers")
    for card in plan.cards:
        _text(sheet, row, 0, card.label, styles["strong"])
        _text(sheet, row, 1, card.value, styles["text"])
        _text(sheet, row, 2, card.note, styles["grey"])
        row += 1
    row += 1
    row = band("Totals to calculate with")
    for name, words, kind, value in totals(plan):
        _text(sheet, row, 0, words, styles["strong"])
        sheet.write_number(row, 1, value, styles[kind])
        _text(sheet, row, 2, f"  Name in formulas: {name}", styles["grey"])
        book.define_name(name, f"='Read me'!{xl_rowcol_to_cell(row, 1, True, True)}")
        row += 1
    main, rest = cautions.cautions(plan)
    what, seen = foresight_in_words(plan)
    for title, lines in (
        ("What could be wrong", [(touches, prose(text, plan.currency)) for touches, text in [*main, *rest]]),
        ("Assumptions", [(a.source, prose(a.text, plan.currency)) for _, a in plan.assumptions]),
        ("What this plan can't say yet", list(plan.missing.items())),
        (
            "How well value was foreseen",
            [(what if i == 0 else "", prose(t, plan.currency)) for i, t in enumerate(seen)],
        ),
        ("Columns in grey", [("Markets", UNSUPPORTED)] if unsupported(plan) else []),
    ):
        if lines:
            row += 1
            row = band(title)
            for source, text in lines:
                _text(sheet, row, 0, source, styles["grey"])
                sheet.merge_range(row, 1, row, 2, "", styles["wrap"])
                _text(sheet, row, 1, text, styles["wrap"])
                sheet.set_row(row, 14 * (1 + max(len(str(text)) // 115, len(str(source)) // 32)))
                row += 1
    row += 1
    row = band("What the columns mean")
    shown = {c for t in plan.tables.values() for c in t.columns} | {"name", "region", "territory"}
    meanings = [*COLUMNS.items()]
    if plan.segments is not None and plan.segments["definition"].notna().any():
        shown.add("definition")
    for table, own in OTHERS.items():
        if table in plan.tables:
            title = SHEETS[table]
            meanings += [
                (c, (f"{title}: {h}", k, d)) for c, (h, k, d) in own.items() if c in plan.tables[table].columns
            ]
    if plan.acquisition is not None:
        meanings += [(c, m) for c, m in WINNING.items() if c not in COLUMNS]
        shown |= set(WINNING)
    for column, (heading, _, definition) in meanings:
        if column in shown:
            _text(sheet, row, 0, heading, styles["strong"])
            _text(sheet, row, 1, column, styles["grey"])
            _text(sheet, row, 2, definition, styles["wrap"])
            sheet.set_row(row, 14 * (1 + len(definition) // 100))
            row += 1
    summed = [SHEETS[t] for t, f in plan.tables.items() if "segment" in f.columns and len(f) > MOST_ROWS]
    if summed:
        words = f"{' and '.join(summed)}: summed over segments to stay handy; every row is in tables/."
        _text(sheet, row + 1, 0, words, styles["text"])
        row += 1
    if plan.suppressed:
        _text(
            sheet,
            row + 1,
            0,
            f"Figures of markets with fewer than {plan.min_cell} customers are blank.",
            styles["text"],
        )


def _printed(sheet: Worksheet) -> None:
    """On A4 across, every column on the page, pages numbered."""
    sheet.set_landscape()
    sheet.set_paper(9)
    sheet.fit_to_pages(1, 0)
    sheet.set_footer("&L&A&R&P / &N")


def _sheet(
    book: Workbook, title: str, frame: pd.DataFrame, styles: Mapping[str, Any], grey: frozenset[str],
    known: Mapping[str, tuple[str, str, str]] = COLUMNS,
) -> None:  # fmt: skip
    sheet = book.add_worksheet(title)
    _printed(sheet)
    sheet.repeat_rows(0)
    frame = frame.head(MOST_SHEET_ROWS)
    frozen = 1 + ("name" in frame.columns)
    sheet.freeze_panes(1, frozen)
    sheet.set_row(0, 30)
    for j, column in enumerate(frame.columns):
        heading, kind, _ = known.get(column, (column, "text", ""))
        style = styles[f"grey {kind}" if column in grey else kind]
        values = frame[column].tolist()
        _text(sheet, 0, j, heading, styles["head"])
        widest = len(heading) * 0.75
        for i, value in enumerate(values, start=1):
            if value is None or value is pd.NA or value is pd.NaT or value != value:
                continue
            if kind == "date":
                sheet.write_datetime(i, j, dt.datetime.combine(pd.Timestamp(value).date(), dt.time()), style)
                continue
            number = finite(value) if kind != "text" and not isinstance(value, str) else None
            if number is not None:
                sheet.write_number(i, j, number, style)
            else:
                _text(sheet, i, j, value, style)
                widest = max(widest, min(len(str(value)), 60))
        sheet.set_column(j, j, {"text": min(max(widest + 2, 10), 50)}.get(kind, max(12, widest + 2)))
    rows, last = len(frame), len(frame.columns) - 1
    sheet.autofilter(0, 0, max(rows, 1), last)
    for column in ("change", "opportunity", "money_change", "contribution"):
        if column in frame.columns and rows and column not in grey:
            j = list(frame.columns).index(column)
            bar = {"type": "data_bar", "bar_color": "#A9D3D3", "bar_solid": True, "bar_negative_color": "#F0CFB8",
                   "data_bar_2010": True}  # fmt: skip
            sheet.conditional_format(1, j, rows, j, bar)
    book.define_name(f"{title.replace(' ', '_')}_table", f"='{title}'!{xl_range_abs(0, 0, max(rows, 1), last)}")
