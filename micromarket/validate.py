"""Checks a raw table against its declaration, in the engine, and gives it the contract's types.

All problems of a table are found, each with its first place and the number of further ones. Counting runs on the table
as it is; only where something is wrong is it read again with row numbers.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ibis
import ibis.expr.types as ir
import pandera.pandas as pa

from micromarket.errors import Problem, did_you_mean, shown
from micromarket.sources import ROW, RawTable
from micromarket.tables import RULES, TABLE_SCHEMAS, TYPES, check_in_words, column_type


@dataclass(frozen=True)
class _Violation:
    """Rows where ``bad`` is true break ``expected`` in ``column``."""

    column: str
    bad: ir.BooleanValue
    expected: str


def as_text(column: ir.Value) -> ir.StringValue:
    """Text without surrounding blanks; empty is missing; whole floats (ids that a file kept so) lose their ``.0``."""
    kind = column.type()
    if kind.is_nested():
        return _nothing(column, "string")
    if kind.is_floating():
        whole = column.try_cast("int64")
        return ibis.ifelse(column == whole.cast("float64"), whole.cast("string"), column.cast("string"))
    text = column if kind.is_string() else column.cast("string")
    return text.strip().nullif("")


#: How spreadsheets, R, Python and databases write "nothing" where a number or a date belongs (never in ids and names).
NOTHING = ("NA", "N/A", "#N/A", "NaN", "nan", "NULL", "null", "None")


def _without_words(column: ir.Value) -> ir.StringValue:
    text = as_text(column)
    return ibis.ifelse(text.isin(NOTHING), ibis.null("string"), text)


#: Beyond this size a number is a slip, and sums of it lose their cents.
LARGEST = 1e15
#: Days before this one are codes for "not known" (1900-01-01, 0001-01-01) or years of two digits.
FIRST_DAY = dt.date(1920, 1, 1)
LAST_DAY = dt.date(9999, 12, 31)


def _nothing(column: ir.Value, kind: str) -> Any:
    """A column without any value: a bare null is a scalar, which has no sum."""
    return ibis.ifelse(column.isnull(), ibis.null(kind), ibis.null(kind))


def as_number(column: ir.Value) -> ir.FloatingValue:
    """A float; what can't be one, isn't finite or is larger than :data:`LARGEST` is missing."""
    kind = column.type()
    if kind.is_null() or kind.is_boolean() or kind.is_temporal() or kind.is_binary() or kind.is_nested():
        return _nothing(column, "float64")
    number = _without_words(column).try_cast("float64") if kind.is_string() else column.cast("float64")
    return ibis.ifelse(number.isnan() | (number.abs() > LARGEST), ibis.null("float64"), number)


def as_date(column: ir.Value) -> ir.DateValue:
    """A date; timestamps lose their time of day. A text needs its year first, in four digits."""
    kind = column.type()
    if kind.is_date():
        return column
    if kind.is_timestamp():
        return column.date()
    if kind.is_string():
        text = _without_words(column)
        # engines know more than days: "infinity", "epoch", 26-01-05 as the year 26
        dated = ibis.ifelse(text.re_search("^[0-9]{4}[-/]"), text, ibis.null("string"))
        return dated.try_cast("date").fill_null(dated.try_cast("timestamp").date())
    return _nothing(column, "date")


_CAST = {"text": as_text, "number": as_number, "date": as_date}


def is_missing(column: ir.Value, kind_of_column: str) -> ir.BooleanValue:
    """Rows without a value; ``kind_of_column``: text, number or date."""
    kind = column.type()
    if kind.is_string():
        return (as_text(column) if kind_of_column == "text" else _without_words(column)).isnull()
    return (column.isnull() | column.isnan()) if kind.is_floating() else column.isnull()


def _breaks(check: pa.Check, value: ir.Value) -> ir.BooleanValue:
    """Rows that break a pandera check, as an expression for the engine."""
    s = check.statistics or {}
    match check.name:
        case "greater_than_or_equal_to":
            return value < s["min_value"]
        case "greater_than":
            return value <= s["min_value"]
        case "in_range":
            return (value < s["min_value"]) | (value > s["max_value"])
        case "isin":
            return value.notin(list(s["allowed_values"]))
    raise NotImplementedError(f"no engine expression for the check {check.name}")


def _column_violations(raw: ir.Table, table: str, as_of: dt.date) -> list[_Violation]:
    schema, rules = TABLE_SCHEMAS[table], RULES[table]
    found: list[_Violation] = []
    present = [c for c in schema.columns if c in raw.columns and column_type(table, c) != "geometry"]
    typed = {c: _CAST[column_type(table, c)](raw[c]) for c in present}
    for name in present:
        column, value = schema.columns[name], typed[name]
        missing = is_missing(raw[name], column_type(table, name))
        if not column.nullable:
            found.append(_Violation(name, missing, f"{TYPES[column_type(table, name)]}, not nothing"))
        if column_type(table, name) != "text":
            found.append(_Violation(name, ~missing & value.isnull(), TYPES[column_type(table, name)]))
        if column_type(table, name) == "date":
            impossible = (value < ibis.literal(FIRST_DAY)) | (value > ibis.literal(LAST_DAY))
            found.append(_Violation(name, impossible, f"{TYPES['date']}, from {FIRST_DAY} on"))
        if column_type(table, name) == "text":
            found += _text_violations(table, name, value)
        found += [_Violation(name, _breaks(check, value), check_in_words(check)) for check in column.checks]
        if name in rules.until_as_of:
            found.append(_Violation(name, value > ibis.literal(as_of), f"a date on or before as_of ({as_of})"))
    for first, second in rules.ordered:
        if first in typed and second in typed:
            bad = typed[second] < typed[first]
            dated = column_type(table, second) == "date"
            found.append(_Violation(second, bad, f"{'a date on or after' if dated else 'at least'} {first}"))
    return found


#: Longest text of a name or an id, and of a column that holds sentences.
LONGEST, LONGEST_WORDS = 1_000, 20_000
_SENTENCES = ("reason", "rejected_reason", "lost_reason", "markets", "author", "product")
_CONTROLS = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"


def _text_violations(table: str, name: str, value: ir.Value) -> list[_Violation]:
    if name in RULES[table].references:  # what isn't sound is no known id either
        return []
    longest = LONGEST_WORDS if name in _SENTENCES else LONGEST
    return [
        _Violation(name, value.length() > longest, f"a text of at most {longest:,} characters"),
        _Violation(name, value.re_search(_CONTROLS), "a text without control characters"),
    ]


def _row(record: Mapping[str, Any]) -> int | None:
    """The number of a record; ``None`` where the table lives in a database, which keeps no order."""
    return None if record[ROW] is None else int(record[ROW])


def _place(raw: RawTable, violation: _Violation, n: int) -> Problem:
    """The first row that breaks a rule, found on the numbered view."""
    rows = raw.numbered.select(ROW, violation.column, bad=violation.bad).filter(ibis._.bad)
    first = rows.order_by(ROW, violation.column).limit(1).to_pyarrow().to_pylist()[0]
    value = first[violation.column]
    return Problem(
        raw.source.shown_as,
        violation.expected,
        column=violation.column,
        row=_row(first),
        value="nothing" if value is None else shown(value),
        more=n - 1,
    )


def _missing_columns(raw: RawTable, table: str) -> list[Problem]:
    schema, rules = TABLE_SCHEMAS[table], RULES[table]
    have = list(raw.table.columns)
    file = raw.source.shown_as

    def hint(column: str) -> str:
        return f"this column; the file has {did_you_mean(column, have)[len('one of ') :]}"

    problems = [
        Problem(file, hint(name), column=name)
        for name, column in schema.columns.items()
        if column.required and name not in have
    ]
    if rules.one_of and not any(all(c in have for c in group) for group in rules.one_of):
        wanted = " or ".join(" and ".join(group) for group in rules.one_of)
        problems.append(Problem(file, f"{wanted}; the file has {', '.join(have)}", column=rules.one_of[0][0]))
    return problems


def check_table(raw: RawTable, as_of: dt.date) -> list[Problem]:
    """Every problem inside one table: columns, types, ranges, dates, keys.

    Problems with a key's uniqueness are only looked for where its columns are sound.
    """
    table = raw.source.table
    problems = _missing_columns(raw, table)
    if problems:
        return problems
    violations = _column_violations(raw.table, table, as_of)
    counts = raw.table.aggregate(
        _rows=raw.table.count(), **{f"v{i}": v.bad.fill_null(False).sum() for i, v in enumerate(violations)}
    )
    counted = counts.to_pyarrow().to_pylist()[0]
    if counted["_rows"] == 0:
        return [Problem(raw.source.shown_as, "at least one row (or leave the table out of plan.yml)", value="none")]
    broken = {i: n for i in range(len(violations)) if (n := int(counted[f"v{i}"] or 0))}
    if broken:
        numbered = _column_violations(raw.numbered, table, as_of)
        problems += [_place(raw, numbered[i], n) for i, n in broken.items()]
    key = RULES[table].key
    if key and not problems:
        problems += _duplicates(raw, key)
    return problems


def _key(raw: ir.Table, table: str, column: str) -> ir.Value:
    return _CAST[column_type(table, column)](raw[column])


def _duplicates(raw: RawTable, key: tuple[str, ...]) -> list[Problem]:
    table = raw.source.table
    keys = raw.table.select(**{k: _key(raw.table, table, k) for k in key})
    repeated = keys.group_by(list(key)).aggregate(n=ibis._.count()).filter(ibis._.n > 1)
    total = repeated.aggregate(n=(repeated.n - 1).sum()).to_pyarrow().to_pylist()[0]["n"]
    if not total:
        return []
    rows = raw.numbered.select(ROW, **{k: _key(raw.numbered, table, k) for k in key}).semi_join(repeated, list(key))
    second = rows.mutate(_nth=ibis.row_number().over(group_by=list(key), order_by=ROW)).filter(ibis._._nth == 1)
    first = second.order_by(ROW, *key).limit(1).to_pyarrow().to_pylist()[0]
    value = ", ".join(shown(first[k]) for k in key)
    expected = f"one row for each {' x '.join(key)}"
    return [Problem(raw.source.shown_as, expected, column=key[-1], row=_row(first), value=value, more=int(total) - 1)]


def check_references(raw: RawTable, known: Mapping[str, ir.Table]) -> list[Problem]:
    """Values that another table (typed, in ``known``) doesn't have, such as an unknown market."""
    table = raw.source.table
    problems = []
    for column, (other, other_column) in RULES[table].references.items():
        if column not in raw.table.columns or other not in known:
            continue
        ids = known[other].select(_id=ibis._[other_column]).distinct()

        def strangers(rows: ir.Table, column: str = column, ids: ir.Table = ids) -> ir.Table:
            with_id = rows.mutate(_id=_key(rows, table, column))
            return with_id.filter(with_id._id.notnull()).anti_join(ids, "_id")

        n = int(strangers(raw.table).count().execute())
        if n:
            first = strangers(raw.numbered).order_by(ROW, "_id").limit(1).to_pyarrow().to_pylist()[0]
            expected = f"a {column} of the table {other}"
            row, value = _row(first), shown(first["_id"])
            problems.append(Problem(raw.source.shown_as, expected, column=column, row=row, value=value, more=n - 1))
    return problems


def typed(raw: RawTable) -> ir.Table:
    """The contract's columns that the table has, in the contract's types (text, float64, date); others are dropped.

    In ``markets`` the further columns stay as they are: they may be features.
    """
    table = raw.source.table
    columns: dict[str, ir.Value] = {}
    for name in raw.table.columns:
        if name in TABLE_SCHEMAS[table].columns:
            kind = column_type(table, name)
            columns[name] = raw.table[name] if kind == "geometry" else _CAST[kind](raw.table[name])
        elif table == "markets":
            columns[name] = raw.table[name]
    return raw.table.select(**columns)
