"""Answers of the field read back from its sheets: columns found by headings, every problem with file, sheet, row."""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openpyxl

from micromarket.errors import InputError, Problem, did_you_mean, shown
from micromarket.field.published import KEYS, PublishedRun
from micromarket.field.sheets import (
    ANSWERED_BY,
    CHANGE,
    COMMENT,
    MARKET,
    OTHER,
    PLAN_KEY,
    REASON,
    REASONS,
    SEGMENT,
    TARGET,
)

_NEEDED = (MARKET, SEGMENT, CHANGE, REASON)
_HEADING_ROWS = 40
_MOST_ROWS = 200_000


@dataclass(frozen=True)
class Answer:
    """One changed target. ``change``: money; ``row``: as the sheet numbers it; ``author``: who answered."""

    market_id: str
    segment: str
    change: float
    reason: str
    comment: str
    author: str
    file: str
    sheet: str
    row: int


@dataclass
class _Sheet:
    """A tab with answers: its values, its formulas, and where its columns are (from 0)."""

    file: str
    name: str
    values: list[tuple[Any, ...]]
    formulas: list[tuple[Any, ...]]
    forms: list[tuple[str, ...]]
    heading: int
    columns: dict[str, int]
    taken: set[tuple[str, str]]

    @property
    def place(self) -> str:
        return f"{self.file}, sheet {shown(self.name, 31)}"

    def cell(self, row: int, heading: str) -> Any:
        column = self.columns.get(heading)
        if column is None or column >= len(self.values[row]):
            return None
        value = self.values[row][column]
        return None if isinstance(value, str) and not value.strip() else value

    def beside(self, label: str) -> str:
        """The text right of the cell that holds ``label``, above the headings."""
        for line in self.values[: self.heading]:
            for i, value in enumerate(line):
                if isinstance(value, str) and value.strip().casefold() == label.casefold():
                    rest = [v for v in line[i + 1 :] if v not in (None, "")]
                    return str(rest[0]).strip() if rest else ""
        return ""


def read_answers(run: PublishedRun, files: Sequence[str | Path]) -> list[Answer]:
    """Every changed target in ``files``, sorted by market and segment.

    Renamed tabs, moved columns and further columns do no harm; tabs without the headings are passed over.

    Raises
    ------
    InputError
        With every problem: files that can't be read or hold no sheet with answers, sheets of another plan, unknown
        markets, changes that are no number, changes without a reason of the list, one target changed twice.
    """
    problems: list[Problem] = []
    answers: list[Answer] = []
    units = {(str(m), str(s)): float(v) for m, s, v in
             run.units()[[*KEYS, "revenue"]].itertuples(index=False, name=None)}  # fmt: skip
    for path in map(Path, files):
        sheets = _sheets(path, problems)
        for sheet in sheets:
            answers += _of_sheet(sheet, run, units, problems)
    first: dict[tuple[str, str], Answer] = {}
    for answer in answers:
        before = first.setdefault((answer.market_id, answer.segment), answer)
        if before is not answer:
            where = f"{answer.file}, sheet {shown(answer.sheet, 31)}"
            expected = (
                f"one answer a market and segment; {before.file}, sheet {shown(before.sheet, 31)}, row {before.row}"
            )
            what = shown(f"{answer.market_id}, {answer.segment}")
            problems.append(Problem(where, f"{expected} has one too", MARKET, answer.row, what))
    if problems:
        raise InputError(problems)
    return sorted(answers, key=lambda a: (a.market_id, a.segment))


def _sheets(path: Path, problems: list[Problem]) -> list[_Sheet]:
    try:
        books = [openpyxl.load_workbook(path, data_only=d) for d in (True, False)]
    except (
        OSError,
        zipfile.BadZipFile,
        KeyError,
        ValueError,
        TypeError,
        openpyxl.utils.exceptions.InvalidFileException,
    ):
        problems.append(Problem(path.name, "a readable .xlsx file", value=None if path.is_file() else "nothing there"))
        return []
    found = []
    for name in books[0].sheetnames:
        value_sheet, formula_sheet = (book[name] for book in books)
        if not hasattr(value_sheet, "iter_rows"):
            continue  # a chart
        rows = list(value_sheet.iter_rows(max_row=min(value_sheet.max_row, _MOST_ROWS)))
        values = [tuple(c.value for c in line) for line in rows]
        heading = _heading(values)
        if heading is None:
            continue
        at, columns = heading
        missing = [h for h in _NEEDED if h not in columns]
        if missing:
            have = [str(v) for v in values[at] if v not in (None, "")]
            for h in missing:
                place = f"{path.name}, sheet {shown(name, 31)}"
                problems.append(
                    Problem(place, f"this column; the sheet has {', '.join(shown(v, 30) for v in have)}", h)
                )
            continue
        formulas = [tuple(c.value for c in line) for line in formula_sheet.iter_rows(max_row=len(rows))]
        forms = [tuple(str(c.number_format) for c in line) for line in rows]
        found.append(_Sheet(path.name, name, values, formulas, forms, at, columns, set()))
    if not found and not any(p.file.startswith(path.name) for p in problems):
        problems.append(Problem(path.name, f"a sheet with the columns {', '.join(_NEEDED)}", value="none"))
    return found


def _heading(values: list[tuple[Any, ...]]) -> tuple[int, dict[str, int]] | None:
    """Row and columns of the headings: the row that names the market and at least one answer."""
    known = {h.casefold(): h for h in (MARKET, SEGMENT, TARGET, CHANGE, REASON, COMMENT)}
    for at, line in enumerate(values[:_HEADING_ROWS]):
        columns: dict[str, int] = {}
        for i, value in enumerate(line):
            name = known.get(re.sub(r"\s+", " ", value).strip().casefold()) if isinstance(value, str) else None
            if name is not None:
                columns.setdefault(name, i)
        if MARKET in columns and (CHANGE in columns or REASON in columns):
            return at, columns
    return None


def _of_sheet(
    sheet: _Sheet, run: PublishedRun, units: dict[tuple[str, str], float], problems: list[Problem]
) -> list[Answer]:
    key = sheet.beside(PLAN_KEY)
    if key and key != run.key:
        problems.append(Problem(sheet.place, f"answers to the plan {run.key}", PLAN_KEY, value=shown(key)))
        return []
    author = sheet.beside(ANSWERED_BY) or sheet.name
    answers = []
    for row in range(sheet.heading + 1, len(sheet.values)):
        market, segment = (_id(sheet.cell(row, h)) for h in (MARKET, SEGMENT))
        if not market:
            continue  # the total, or nothing

        def problem(column: str, value: Any, expected: str, row: int = row) -> None:
            problems.append(Problem(sheet.place, expected, column, row + 1, None if value is None else shown(value)))

        raw, reason, comment = (sheet.cell(row, h) for h in (CHANGE, REASON, COMMENT))
        comment = _formula(sheet, row, COMMENT) if comment is None else comment  # a comment that begins with "="
        if raw is None and _formula(sheet, row, CHANGE) is None:
            if reason is not None:
                problem(CHANGE, None, "a change beside the reason (0: none)")
            continue
        if (market, segment) not in units:
            known = sorted({m for m, _ in units})
            other = market in {m for m, _ in units}
            problem(SEGMENT if other else MARKET, segment if other else market,
                    "a segment of this market's targets" if other else "a market of the plan"
                    if len(known) > 20 else did_you_mean(market, known))  # fmt: skip
            continue
        target = units[market, segment]
        stated = sheet.cell(row, TARGET)
        if isinstance(stated, (int, float)) and abs(float(stated) - target) > 0.005 + 1e-9 * abs(target):
            problem(
                TARGET, stated, f"the target of the run, {target:.2f}: this sheet is of another plan or was changed"
            )
            continue
        change = _number(raw, sheet.forms[row][sheet.columns[CHANGE]], target)
        if change is None:
            expected = "a number, such as -2500" if raw is not None else "a number; the cell's formula has no value"
            problem(CHANGE, raw, expected)
            continue
        if change == 0:
            continue
        code = {r.casefold(): r for r in REASONS}.get(str(reason).strip().casefold()) if reason is not None else None
        if code is None:
            problem(REASON, reason, f"one of {', '.join(REASONS)}")
        elif code == OTHER and comment is None:
            problem(COMMENT, None, f"a comment beside the reason {OTHER}")
        else:
            words = "" if comment is None else "".join(c for c in str(comment) if c.isprintable())[:500]
            answers.append(Answer(market, segment, change, code, words, author[:80], sheet.file, sheet.name, row + 1))
    return answers


def _formula(sheet: _Sheet, row: int, heading: str) -> str | None:
    line, column = sheet.formulas[row], sheet.columns.get(heading)
    value = line[column] if column is not None and column < len(line) else None
    return value if isinstance(value, str) and value.startswith("=") else None


def _id(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def _number(value: Any, form: str, target: float) -> float | None:
    """Money; a cell formatted as a percentage, or a text that ends in %, is a share of the target."""
    share = False
    if isinstance(value, str):
        text = re.sub(r"[\s   '’]", "", value).replace("−", "-").replace("–", "-")
        share = text.endswith("%")
        text = re.sub(r"^([+-]?)[^\d.+-]{1,3}", r"\1", text.removesuffix("%"))  # a sign of currency
        if re.fullmatch(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?", text):
            text = text.replace(",", "")
        if not re.fullmatch(r"[+-]?(\d+(\.\d*)?|\.\d+)", text):
            return None
        number = float(text) / (100 if share else 1)
    elif isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    else:
        number, share = float(value), "%" in form
    if not math.isfinite(number):
        return None
    return round(number * target, 2) if share else round(number, 2)
