"""A sheet of an Excel workbook → a frame, as people meant it: dates, ids with their zeros, no error passed over."""

from __future__ import annotations

import datetime as dt
import re
import zipfile
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
from openpyxl.utils import column_index_from_string

from micromarket.errors import InputError, Problem, did_you_mean, shown

#: A formula without a calculated value: libraries that write workbooks don't calculate.
_UNCALCULATED = re.compile(
    rb'<c r="([A-Z]+)(\d+)"((?:(?! t="str")[^>])*)><f[^>]*?(?:/>|>[^<]*</f>)(?:<v\s*/>|<v></v>)?</c>'
)
_ZEROS = re.compile(r"0{2,}")


#: A workbook of a million full rows unpacks to about a gigabyte.
_MOST_UNPACKED = 4 << 30


def _refuse_bomb(path: Path, shown_as: str) -> None:
    """A few kilobytes can be packed so that they unpack to more than any memory."""
    with zipfile.ZipFile(path) as packed:
        size = sum(part.file_size for part in packed.infolist())
    if size > _MOST_UNPACKED:
        expected = "a workbook of ordinary size, or the table as CSV or Parquet"
        raise InputError([Problem(shown_as, expected, value=f"one that unpacks to {size / (1 << 30):,.1f} GiB")])


def read_sheet(path: Path, sheet: str | None, shown_as: str) -> tuple[pd.DataFrame, str]:
    """The records of a sheet below its header, the first row that holds anything.

    Columns of numbers, of days and of times keep their types; all others become text: a number as it is shown (with
    the leading zeros of a format such as ``00000``), a day as ``2026-06-30``. Empty rows are left out.

    Parameters
    ----------
    path : Path
    sheet : str or None
        Name of the sheet; default: the first one that is visible.
    shown_as : str
        The file's name in messages.

    Returns
    -------
    DataFrame
    str
        How the sheet is named in messages.

    Raises
    ------
    InputError
        No such sheet, repeated column names, cells that show an error (#N/A, #REF!, …), formulas that were never
        calculated; each with its record's number.
    """
    _refuse_bomb(path, shown_as)
    book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    try:
        found = _chosen(book, sheet, shown_as)
        if len(book.sheetnames) > 1:
            shown_as = f"{shown_as}, sheet {found.title}"
        found.reset_dimensions()  # some programs write a wrong one
        numbered = enumerate(found.iter_rows(), 1)
        rows = ((number, row) for number, row in numbered if any(cell.value is not None for cell in row))
        header_row, header = next(rows, (0, ()))
        names = _names(header, shown_as)
        records = list(rows)
        at = {row: record for record, (row, _) in enumerate(records, 1)}
        problems = [*_errors(records, names, shown_as), *_uncalculated(path, found, names, at, header_row, shown_as)]
    finally:
        book.close()
    if problems:
        raise InputError(problems)
    columns = {name: _column([row[i] if i < len(row) else None for _, row in records]) for name, i in names.items()}
    return pd.DataFrame(columns, index=range(len(records))), shown_as


def _chosen(book: Any, sheet: str | None, shown_as: str) -> Any:
    if sheet is None:
        return next((s for s in book.worksheets if s.sheet_state == "visible"), book.worksheets[0])
    titles = [s.title for s in book.worksheets]
    if sheet not in titles:
        raise InputError([Problem(shown_as, f"a sheet, {did_you_mean(sheet, titles)}", value=shown(sheet))])
    return book[sheet]


def _names(header: Any, shown_as: str) -> dict[str, int]:
    """Column names with their positions; columns without a name have none."""
    names: dict[str, int] = {}
    for i, cell in enumerate(header):
        name = "" if cell.value is None else str(cell.value).strip()
        if not name:
            continue
        if name.lower() in {n.lower() for n in names}:
            raise InputError([Problem(shown_as, "every column once", column=shown(name).strip("'"), value="it twice")])
        names[name] = i
    if not names:
        raise InputError([Problem(shown_as, "the names of the columns in the first row", value="an empty sheet")])
    return names


def _errors(records: list[tuple[int, Any]], names: dict[str, int], shown_as: str) -> list[Problem]:
    problems = []
    for name, i in names.items():
        bad = [(n, row[i].value) for n, (_, row) in enumerate(records, 1) if i < len(row) and row[i].data_type == "e"]
        if bad:
            expected = "a value, or an empty cell"
            problems.append(Problem(shown_as, expected, name, bad[0][0], shown(bad[0][1]), len(bad) - 1))
    return problems


def _uncalculated(
    path: Path, sheet: Any, names: dict[str, int], at: dict[int, int], header_row: int, shown_as: str
) -> list[Problem]:
    with zipfile.ZipFile(path) as archive:
        xml = archive.read(sheet._worksheet_path.lstrip("/"))
    if b"<f" not in xml:
        return []
    place = {i + 1: name for name, i in names.items()}
    bad: dict[str, list[int]] = {}
    for letters, row, _ in _UNCALCULATED.findall(xml):
        name = place.get(column_index_from_string(letters.decode()))
        if name is not None and int(row) > header_row:
            bad.setdefault(name, []).append(at.get(int(row), int(row) - header_row))
    expected = "the formula's value: open the workbook in Excel and save it"
    return [
        Problem(shown_as, expected, name, min(found), "a formula never calculated", len(found) - 1)
        for name, found in bad.items()
    ]


def _column(cells: list[Any]) -> pd.Series:
    values = [None if c is None else c.value for c in cells]
    present = [v for v in values if v is not None]
    padded = any(isinstance(c.value, int) and _ZEROS.fullmatch(c.number_format or "") for c in cells if c is not None)
    if present and not padded and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in present):
        whole = all(float(v).is_integer() and abs(v) < 2**53 for v in present)
        return pd.Series(values, dtype="Int64" if whole else "Float64")
    if present and all(isinstance(v, (dt.datetime, dt.date)) for v in present):
        return pd.Series(pd.to_datetime(pd.Series(values, dtype=object)), dtype="datetime64[us]")
    return pd.Series([_text(c) for c in cells], dtype="str")


def _text(cell: Any) -> str | None:
    value = None if cell is None else cell.value
    if value is None:
        return None
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, int) and _ZEROS.fullmatch(cell.number_format or ""):
        return str(value).zfill(len(cell.number_format))
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, dt.datetime):
        return value.date().isoformat() if value.time() == dt.time() else value.isoformat(sep=" ")
    return str(value)
