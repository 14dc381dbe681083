"""Target sheets for the field: a workbook a territory, a tab a manager; only the answer cells are open."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import Any

import pandas as pd
import xlsxwriter
from xlsxwriter.utility import xl_rowcol_to_cell
from xlsxwriter.workbook import Workbook

from micromarket.errors import InputError, Problem
from micromarket.field.published import MOST_ROUNDS, PublishedRun, read_published
from micromarket.formats import span
from micromarket.runner.store import slug
from micromarket.workspace import write_atomically

PLAN_KEY, ANSWERED_BY = "Plan key", "Answered by"
MARKET, SEGMENT, TARGET = "Market id", "Segment", "Target"
CHANGE, REASON, COMMENT = "Proposed change", "Reason code", "Comment"
OTHER = "Other"
REASONS = (
    "Large customer won", "Large customer lost", "Competitor", "Site opens or closes", "Staff", "Local economy",
    "Price or product", "Data are wrong", OTHER,
)  # fmt: skip
_FIRST = 6  # row of the headings
_COLUMNS: tuple[tuple[str, str, int, str], ...] = (  # heading, kind, width, meaning
    (MARKET, "text", 14, "The company's own id of the market"),
    ("Market", "text", 26, "Its name"),
    (SEGMENT, "text", 20, "Customer segment"),
    (TARGET, "money", 14, "Revenue to reach over the whole plan"),
    ("Last target", "money", 14, "The target of the same span before, where there was one"),
    ("New customers", "count", 11, "New customers to win over the whole plan"),
    ("Odds", "percent", 8, "Probability that the target is reached"),
    ("Lowest", "money", 14, "The target can't fall below it"),
    ("Highest", "money", 14, "The target can't rise above it"),
    (CHANGE, "money", 14, "Your answer: by how much the target should change, in money; empty: leave it as it is"),
    (REASON, "text", 22, "Your answer: why, from the list; needed with every change"),
    (COMMENT, "text", 44, "Your answer: what you know that the data don't; needed with the reason “Other”"),
    ("Proposed target", "money", 14, "Target plus proposed change"),
    ("Change, %", "percent", 10, "Proposed change as a share of the target"),
    ("Counts as", "money", 14, "What your answer alone moves, before the region's sum is restored"),
)
_OPEN = (CHANGE, REASON, COMMENT)
_FORMS = {"text": "@", "money": "#,##0.00;[Red]-#,##0.00", "count": "#,##0", "percent": "0.0%"}


def export_sheets(run: str | Path, out: str | Path) -> list[Path]:
    """Writes one workbook a territory (a region, where there are no territories; else one) into ``out``.

    Each has a tab a manager of the territory, or one for all of it. Texts from data are stored as texts, never as
    formulas; everything but the answer cells is locked.

    Parameters
    ----------
    run : str or Path
        A finished run folder.
    out : str or Path
        Folder of the sheets; nothing in it is overwritten.

    Returns
    -------
    list of Path

    Raises
    ------
    InputError
        No finished run with targets; both rounds are over; a file of that name is there already (nothing is written).
    """
    published = read_published(run)
    if published.rounds >= MOST_ROUNDS:
        expected = f"a run before its last field round: there are at most {MOST_ROUNDS}"
        raise InputError([Problem(str(published.folder), expected, value=f"{published.rounds} rounds")])
    units = published.units()
    folder = Path(out)
    column = next((c for c in ("territory", "region") if (units[c].fillna("") != "").any()), None)
    owner = units[column].where(units[column] != "", "No territory") if column else pd.Series("Company", units.index)
    names: dict[str, str] = {}
    for name in sorted(owner.unique()):
        stem, number = slug(name), 1
        while (file := stem + (f"-{number}" if number > 1 else "") + ".xlsx") in names.values():
            number += 1
        names[name] = file
    if folder.exists() and not folder.is_dir():
        raise InputError([Problem(str(folder), "a folder, or a name that is free", value="a file")])
    there = [folder / file for file in names.values() if (folder / file).exists()]
    if there:
        raise InputError([Problem(str(there[0]), "no such file yet (nothing is overwritten)", more=len(there) - 1)])
    return [
        write_atomically(folder / file, lambda p, n=name: _workbook(published, units[owner == n], n, p))  # type: ignore[misc]
        for name, file in names.items()
    ]


def tab_name(text: str, taken: set[str]) -> str:
    """A name that a sheet may have: no ``[]:*?/\\``, at most 31 characters, not taken."""
    plain = re.sub(r"[\[\]:*?/\\]", " ", "".join(c for c in text if c.isprintable())).strip(" '") or "Targets"
    name, number = plain[:31].strip(" '"), 2
    while name.casefold() in taken or name.casefold() == "history":  # Excel keeps that one for itself
        tail = f" {number}"
        name, number = plain[: 31 - len(tail)].strip(" '") + tail, number + 1
    taken.add(name.casefold())
    return name


def _workbook(run: PublishedRun, units: pd.DataFrame, territory: str, path: Path) -> None:
    options = {"strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}
    book = xlsxwriter.Workbook(str(path), options)
    created = dt.datetime.combine(dt.date.fromisoformat(run.plan["as_of"]), dt.time())
    book.set_properties({"title": "Targets: your answers", "author": "", "created": created})
    base = {"font_name": "Arial", "font_size": 10, "valign": "top"}
    styles: dict[str, Any] = {k: book.add_format({**base, "num_format": f}) for k, f in _FORMS.items()}
    for kind, form in _FORMS.items():
        open_cell = {**base, "num_format": form, "locked": False, "bg_color": "#FFF8DC", "border": 1}
        styles[f"open {kind}"] = book.add_format({**open_cell, "border_color": "#C8B560", "text_wrap": kind == "text"})
        styles[f"sum {kind}"] = book.add_format({**base, "num_format": form, "bold": True, "top": 1})
    styles["head"] = book.add_format({**base, "bold": True, "font_color": "white", "bg_color": "#1F6E71",
                                      "text_wrap": True})  # fmt: skip
    styles["title"] = book.add_format({**base, "bold": True, "font_size": 14})
    styles["wrap"] = book.add_format({**base, "text_wrap": True})
    taken: set[str] = {"definitions"}
    named = units["manager"].where(units["manager"] != "", territory)
    for manager in sorted(named.unique()):
        _tab(book, run, units[named == manager], territory, manager, tab_name(manager, taken), styles)
    _definitions(book, run, styles)
    book.close()


def _clean(value: object) -> str:
    return "".join(c for c in str(value) if c.isprintable())[:2_000]


def _tab(
    book: Workbook, run: PublishedRun, units: pd.DataFrame, territory: str, manager: str, name: str,
    styles: dict[str, Any],
) -> None:  # fmt: skip
    sheet = book.add_worksheet(name)
    start, end = (dt.date.fromisoformat(run.plan["plan"][k]) for k in ("start", "end"))
    title = f"Targets of {territory}" + (f": {manager}" if manager != territory else "")
    sheet.write_string(0, 0, _clean(title), styles["title"])
    about = f"{run.plan['company']}, {span(start, end)}. Money in {run.currency}, over the whole plan."
    sheet.write_string(1, 0, _clean(about), styles["text"])
    sheet.write_string(2, 0, PLAN_KEY, styles["text"])
    sheet.write_string(2, 1, run.key, styles["text"])
    sheet.write_string(2, 2, f"Round {run.rounds + 1} of {MOST_ROUNDS}", styles["text"])
    sheet.write_string(3, 0, ANSWERED_BY, styles["text"])
    sheet.write_blank(3, 1, None, styles["open text"])
    how = f"Fill in the yellow cells only where you know better. An answer moves a target by {run.rules.weight:.0%} of"
    how += f" the change, at most {run.rules.cap:.0%}; what one gives up the {run.rules.within}'s others take over."
    sheet.write_string(4, 0, how, styles["text"])
    guarded = bool(units[["low", "high"]].notna().any(axis=None))
    columns = [c for c in _COLUMNS if guarded or c[0] not in ("Lowest", "Highest")]
    at = {heading: i for i, (heading, *_) in enumerate(columns)}
    for heading, _, width, _ in columns:
        sheet.set_column(at[heading], at[heading], width)
        sheet.write_string(_FIRST, at[heading], heading, styles["head"])
    fields = {
        MARKET: "market_id", "Market": "name", SEGMENT: "segment", TARGET: "revenue", "Last target": "last_target",
        "New customers": "new_customers", "Odds": "p_attain", "Lowest": "low", "Highest": "high",
    }  # fmt: skip
    first, last = _FIRST + 1, _FIRST + len(units)
    for row, unit in enumerate(units.to_dict("records"), start=first):
        for heading, kind, *_ in columns:
            column = at[heading]
            if heading in _OPEN:
                sheet.write_blank(row, column, None, styles[f"open {kind}"])
            elif heading in fields:
                value = unit[fields[heading]]
                if kind == "text":
                    sheet.write_string(row, column, _clean(value), styles["text"])
                elif pd.notna(value):
                    sheet.write_number(row, column, float(value), styles[kind])
                else:
                    sheet.write_blank(row, column, None, styles[kind])
        target, change = (xl_rowcol_to_cell(row, at[c]) for c in (TARGET, CHANGE))
        money = float(unit["revenue"])
        sheet.write_formula(row, at["Proposed target"], f"={target}+N({change})", styles["money"], money)
        share = f"=IF({target}=0,0,N({change})/{target})"
        sheet.write_formula(row, at["Change, %"], share, styles["percent"], 0)
        cap = f"{run.rules.cap:g}*ABS({target})"
        bounded = f"MAX(-{cap},MIN({cap},{run.rules.weight:g}*N({change})))"
        sheet.write_formula(row, at["Counts as"], f"={bounded}", styles["money"], 0)
    sheet.write_string(last + 1, at["Market"], "Total", styles["sum text"])
    for heading in (TARGET, CHANGE, "Proposed target", "Counts as"):
        top, bottom = (xl_rowcol_to_cell(r, at[heading]) for r in (first, last))
        total = float(units["revenue"].sum()) if heading in (TARGET, "Proposed target") else 0
        sheet.write_formula(last + 1, at[heading], f"=SUM({top}:{bottom})", styles["sum money"], total)
    sheet.data_validation(first, at[CHANGE], last, at[CHANGE], {
        "validate": "decimal", "criteria": "between", "minimum": -1e15, "maximum": 1e15,
        "error_title": "A number", "error_message": "The change in money, such as -2500.",
    })  # fmt: skip
    listed = f"=Definitions!$A$3:$A${2 + len(REASONS)}"
    sheet.data_validation(first, at[REASON], last, at[REASON], {
        "validate": "list", "source": listed, "error_title": "A reason from the list",
        "error_message": "Choose a reason; with “Other”, say more in the comment.",
    })  # fmt: skip
    sheet.freeze_panes(_FIRST + 1, 3)
    sheet.protect("", {"format_columns": True, "format_rows": True, "autofilter": True})
    sheet.set_landscape()
    sheet.fit_to_pages(1, 0)


def _definitions(book: Workbook, run: PublishedRun, styles: dict[str, Any]) -> None:
    sheet = book.add_worksheet("Definitions")
    sheet.set_column(0, 0, 26)
    sheet.set_column(1, 1, 100)
    sheet.write_string(0, 0, "Definitions", styles["title"])
    sheet.write_string(1, 0, REASON, styles["head"])
    sheet.write_string(1, 1, "Means", styles["head"])
    meaning = dict(zip(REASONS, (
        "A customer big enough to move the market was won, or is about to be",
        "A customer big enough to move the market was lost, or is about to be",
        "A competitor enters, leaves or changes its offer", "A shop, plant, housing estate or school opens or closes",
        "A sales position is vacant, newly filled, or its holder on leave", "Work, building or income change locally",
        "Our price or product changes here", "What the plan took for fact is wrong; say what in the comment",
        "Anything else; say what in the comment"), strict=True))  # fmt: skip
    for row, (reason, words) in enumerate(meaning.items(), start=2):
        sheet.write_string(row, 0, reason, styles["text"])
        sheet.write_string(row, 1, words, styles["wrap"])
    row = 3 + len(REASONS)
    sheet.write_string(row, 0, "Column", styles["head"])
    sheet.write_string(row, 1, "Means", styles["head"])
    for heading, _, _, words in _COLUMNS:
        row += 1
        sheet.write_string(row, 0, heading, styles["text"])
        sheet.write_string(row, 1, words, styles["wrap"])
    rules = (
        f"An answer counts with {run.rules.weight:.0%} of the change proposed.",
        f"No target moves by more than {run.rules.cap:.0%} of the plan's first target, over both rounds together.",
        f"The targets of a {run.rules.within} add up to the same sum as before: what one gives up the others take over"
        " in proportion to their size, so what everybody asks for alike changes nothing.",
        "Everything that changes is kept with your name and reason.",
    )
    row += 2
    sheet.write_string(row, 0, "Rules", styles["head"])
    sheet.write_string(row, 1, "", styles["head"])
    for words in rules:
        row += 1
        sheet.write_string(row, 1, words, styles["wrap"])
    sheet.protect("", {"format_columns": True, "format_rows": True})
