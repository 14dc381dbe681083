"""Delimited text (CSV, TSV) → a table of texts on the engine. What is wrong in a file is named by its line."""

from __future__ import annotations

import csv
import gzip
import re
from pathlib import Path
from typing import Any

from micromarket.errors import InputError, Problem, shown

DELIMITERS = (",", ";", "\t", "|")
_HEADER_BYTES = 1 << 20
_BLOCK = 1 << 24
_UTF8 = "text in UTF-8 (in Excel: save as “CSV UTF-8”)"


def register_delimited(duck: Any, path: Path, name: str, shown_as: str) -> None:
    """Makes the table ``name`` of a file: every column text, the first line its header, empty records left out.

    The delimiter is the one of ``, ; tab |`` that the header holds most of. Quotes are ``"``, doubled inside quotes.

    Raises
    ------
    InputError
        Other encodings than UTF-8 (with or without byte order mark), repeated column names, records with more or
        fewer values than the header, a quote that is never closed.
    """
    header, delimiter = _header(path, shown_as)
    _refuse_zero_bytes(path, shown_as)
    columns = ", ".join(f"{_quoted(column)}: 'VARCHAR'" for column in header)
    options = (
        f"auto_detect = false, header = true, delim = {_quoted(delimiter)}, quote = '\"', escape = '\"',"
        f" columns = {{{columns}}}, null_padding = false, max_line_size = 10000000"
    )
    if path.suffix.lower() == ".gz":
        options += ", compression = 'gzip'"
    some = ", ".join(f'"{column.replace(chr(34), chr(34) * 2)}"' for column in header)

    def load(strict: bool) -> None:
        # a table, not a view: DuckDB would push later casts down into its CSV reader, which then fails as a whole
        duck.execute(
            f'CREATE TABLE "{name}" AS SELECT * FROM read_csv({_quoted(str(path))}, {options}, strict_mode = {strict})'
            f" WHERE coalesce({some}) IS NOT NULL"
        )

    try:
        try:
            load(strict=True)
        except Exception as error:
            if "invalid state" not in str(error):
                raise
            load(strict=False)  # some lines end otherwise than the others, as in files put together from several
    except Exception as error:
        raise InputError([_problem(str(error), shown_as)]) from error


def _header(path: Path, shown_as: str) -> tuple[list[str], str]:
    try:
        with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb") as stream:
            start = stream.read(_HEADER_BYTES)
    except (OSError, EOFError) as error:
        raise InputError([Problem(shown_as, "a readable file", value=shown(str(error), 160))]) from error
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError([Problem(shown_as, _UTF8, value="UTF-16")])
    line = re.split(rb"\r\n|\n|\r", start.removeprefix(b"\xef\xbb\xbf"), maxsplit=1)[0]
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError([Problem(shown_as, _UTF8, value="another encoding in its first line")]) from error
    bare = re.sub(r'"[^"]*"', "", text)
    delimiter = max(DELIMITERS, key=bare.count)  # the first of equals
    if "\0" in text:
        raise InputError([Problem(shown_as, _UTF8, value="zero bytes, as in UTF-16 or a damaged file")])
    if not bare.strip():
        raise InputError([Problem(shown_as, "the names of the columns in the first line", value=shown(text))])
    names = [column.strip() for column in next(csv.reader([text], delimiter=delimiter))]
    names = [column or f"column{i}" for i, column in enumerate(names, start=1)]
    lower = [column.lower() for column in names]
    twice = next((c for i, c in enumerate(lower) if c in lower[:i]), None)
    if twice is not None:
        column = names[lower.index(twice)]
        raise InputError([Problem(shown_as, "every column once", column=shown(column).strip("'"), value="it twice")])
    return names, delimiter


def _refuse_zero_bytes(path: Path, shown_as: str) -> None:
    """DuckDB takes ``12\\0`` for 12, and ``Sea\\0rch`` for a name of its own."""
    if path.suffix.lower() == ".gz":
        return  # a packed file has a checksum
    lines = 0
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            at = block.find(b"\0")
            if at >= 0:
                row = max(lines + block.count(b"\n", 0, at), 1)
                raise InputError([Problem(shown_as, f"{_UTF8}, without zero bytes", row=row, value="a zero byte")])
            lines += block.count(b"\n")


def _problem(message: str, shown_as: str) -> Problem:
    """DuckDB's message as ours: which record (line less the header), what is wrong with it."""
    line = re.search(r"CSV Error on Line: (\d+)", message)
    row = max(int(line[1]) - 1, 1) if line else None
    if "unicode" in message or "utf-8 encoded" in message:
        return Problem(shown_as, _UTF8, row=row, value="another encoding")
    count = re.search(r"Expected Number of Columns: (\d+) Found: (\d+)", message)
    if count:
        return Problem(shown_as, f"{count[1]} values, as the header has names", row=row, value=f"{count[2]} values")
    if "unterminated quote" in message:
        return Problem(shown_as, 'quotes (") that are closed, and doubled inside quotes', row=row)
    return Problem(shown_as, "a readable file", row=row, value=shown(message.strip().splitlines()[0], 160))


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
