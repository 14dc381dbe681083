"""What can be wrong with a company's files, declared: what is done to which table, and what must happen then.

``refused``: exit status 2, and one problem holds all of ``words`` (file, column, row, value). ``warned``: the input is
taken, and one warning that an undamaged company doesn't have holds all of ``words``. ``harmless``: every table is read
as it is read undamaged, with the same warnings. ``test_mutations.py`` runs them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd
from mutation_companies import (
    Damage,
    as_file,
    attribute,
    attributes,
    both,
    cell,
    column,
    content,
    edit_plan,
    frame,
    gone,
    packed,
    plan_text,
    records,
    shape,
    shapes,
    typed_frame,
)

from micromarket.tables import RULES, TABLE_SCHEMAS, column_type


@dataclass(frozen=True)
class Mutation:
    """``whole``: a whole plan is made of it, not only the input read. ``short``: read in ``make test`` too."""

    name: str
    company: str
    outcome: str
    damage: Damage
    words: tuple[str, ...] = ()
    whole: bool = False
    short: bool = False


#: table -> company that has it as a CSV file
HOME = {
    "customers": "contracts",
    "subscriptions": "contracts",
    "spend": "contracts",
    "outcomes": "contracts",
    "leads": "contracts",
    "prospects": "contracts",
    "sales_force": "contracts",
    "field_notes": "contracts",
    "experiments": "contracts",
    "transactions": "purchases",
    "customer_summary": "summary",
    "markets": "summary",
}
COLUMNS = {
    "markets": "market_id name region addressable_customers market_customers",
    "customers": "customer_id market_id acquired_on segment channel acquisition_cost",
    "transactions": "customer_id date amount margin product",
    "customer_summary": "customer_id orders revenue recency_days age_days",
    "subscriptions": "customer_id started_on ended_on monthly_value product",
    "spend": "market_id period channel amount",
    "outcomes": "market_id period new_customers revenue",
    "leads": "lead_id market_id segment channel created_on mql_on sal_on sql_on won_on lost_on value",
    "prospects": "prospect_id market_id segment channel value",
    "sales_force": "market_id territory manager reps capacity last_target last_actual",
    "field_notes": "market_id author date kind low high reason expires_on",
    "experiments": "channel start end lift lift_se markets spend",
}

NO_NUMBER = {
    "letters": "abc",
    "decimal comma": "12,5",
    "thousands comma": "1,234.5",
    "thousands apostrophe": "1'234",
    "thousands blank": "1 234",
    "dollars": "$1000",
    "euros": "1000 EUR",
    "euro sign": "€5",
    "infinity": "inf",
    "minus infinity": "-inf",
    "1e999": "1e999",
    "1e308": "1e308",
    "hexadecimal": "0x1F",
    "a yes": "true",
    "per cent": "12.5%",
    "accountant's minus": "(12)",
    "Arabic digits": "١٢",
    "full-width digits": "１２",
    "two points": "1.2.3",
    "a spreadsheet's error": "#REF!",
    "division by zero": "#DIV/0!",
    "a dash": "–",
    "a minus behind": "12-",
    "typographic minus": "−12",
    "a formula": "=1+1",
    "a range": "10-20",
    "a unit": "5k",
    "an emoji": "💰",
    "a footnote": "12*",
    "thin blank": "1\u2009234",
    "a question mark": "?",
    "a date": "2026-01-01",
}
NO_DATE = {
    "day first": "31/12/2025",
    "month first": "12/31/2025",
    "30 February": "2025-02-30",
    "month 13": "2025-13-01",
    "no dashes": "20260101",
    "Excel's serial": "46000",
    "two-digit year": "26-01-05",
    "year 26": "0026-01-05",
    "day first, short": "05-01-26",
    "Excel's zero": "1900-01-00",
    "1900": "1900-01-01",
    "MySQL's zero": "0000-00-00",
    "infinity": "infinity",
    "epoch by name": "epoch",
    "before Christ": "44-03-15 (BC)",
    "in words": "5 Jan 2026",
    "a week": "2026-W02",
    "a month": "2026-01",
    "dots": "05.01.2026",
    "year 12026": "12026-01-05",
    "Arabic digits": "٢٠٢٦-٠١-٠٥",
    "an hour too many": "2026-01-05 25:00",
    "1 in text": "yesterday",
    "seconds since 1970": "1767571200",
    "letters behind": "2026-01-05abc",
}
ROW = 2
_FREE = ("expires_on",)  # a day after as_of is right there


def all_mutations() -> list[Mutation]:
    found = [
        *_numbers(),
        *_dates(),
        *_holes(),
        *_ids(),
        *_columns_gone(),
        *_texts(),
        *_bytes(),
        *_files(),
        *_layout(),
        *_formats(),
        *_units(),
        *_outliers(),
        *_time(),
        *_relations(),
        *_names(),
        *_shapes(),
        *_market_sizes(),
        *_plan_values(),
        *_plan_text(),
        *_sources(),
    ]
    names = [m.name for m in found]
    assert len(set(names)) == len(names), sorted({n for n in names if names.count(n) > 1})
    return found


def _file(table: str) -> str:
    return f"{table}.csv"


def _present(kind: str) -> Iterator[tuple[str, str]]:
    for table, names in COLUMNS.items():
        for name in names.split():
            if column_type(table, name) == kind:
                yield table, name


def _numbers() -> Iterator[Mutation]:
    """Every bad number once in spend.amount, and three of them in turn in every other column of numbers."""
    kinds = list(NO_NUMBER)
    for i, (table, name) in enumerate(_present("number")):
        spend = (table, name) == ("spend", "amount")
        chosen = kinds if spend else [kinds[(3 * i + j) % len(kinds)] for j in range(3)]
        for kind in chosen:
            row = 1 if table in ("experiments",) else ROW
            yield Mutation(
                f"{table}.{name}: {kind}",
                HOME[table],
                "refused",
                cell(table, name, row, NO_NUMBER[kind]),
                (_file(table), f"column {name}", f"row {row}", "a number"),
                short=spend and kind in ("decimal comma", "1e308", "dollars"),
            )
        checks = [c.name for c in TABLE_SCHEMAS[table].columns[name].checks]
        if "greater_than_or_equal_to" in checks or "greater_than" in checks:
            row = 1 if table == "experiments" else ROW
            yield Mutation(
                f"{table}.{name}: negative",
                HOME[table],
                "refused",
                cell(table, name, row, "-5"),
                (_file(table), f"column {name}", f"row {row}", "'-5'"),
            )


def _dates() -> Iterator[Mutation]:
    """Every bad date once in transactions.date, and three of them in turn in every other column of dates."""
    kinds = list(NO_DATE)
    for i, (table, name) in enumerate(_present("date")):
        log = (table, name) == ("transactions", "date")
        chosen = kinds if log else [kinds[(3 * i + j) % len(kinds)] for j in range(3)]
        row = 1 if table in ("experiments",) else ROW
        for kind in chosen:
            yield Mutation(
                f"{table}.{name}: {kind}",
                HOME[table],
                "refused",
                cell(table, name, row, NO_DATE[kind]),
                (_file(table), f"column {name}", f"row {row}", "a date as YYYY-MM-DD"),
                short=log and kind in ("two-digit year", "Excel's serial", "infinity"),
            )
        if name not in _FREE and name != "start":
            yield Mutation(
                f"{table}.{name}: in 2999",
                HOME[table],
                "refused",
                cell(table, name, row, "2999-12-31"),
                (_file(table), f"column {name}", f"row {row}", "as_of"),
            )
    for table, name in (("transactions", "date"), ("spend", "period"), ("customers", "acquired_on")):
        for kind, text in (
            ("a slash", "{0}/{1}/{2}"),
            ("a time of day", "{0}-{1}-{2} 12:30:00"),
            ("a zone", "{0}-{1}-{2}T23:30:00-08:00"),
            ("UTC", "{0}-{1}-{2}T00:00:00Z"),
        ):
            yield Mutation(
                f"{table}.{name}: {kind} in every day",
                HOME[table],
                "harmless",
                column(table, name, lambda v, t=text: t.format(*v.split("-"))),
            )
    yield Mutation(
        "customers.acquired_on: day and month swapped",
        "contracts",
        "refused",
        column("customers", "acquired_on", lambda v: "-".join((v[:4], v[8:], v[5:7]))),
        ("customers.csv", "column acquired_on", "a date"),
    )
    yield Mutation(
        "customers.acquired_on: 1970-01-01",
        "contracts",
        "warned",
        cell("customers", "acquired_on", ROW, "1970-01-01"),
        ("customers.csv", "column acquired_on", "1970-01-01"),
        whole=True,
    )


def _holes() -> Iterator[Mutation]:
    from micromarket.plausibility.one_table import HOLES

    for table, names in COLUMNS.items():
        for name in names.split():
            required = TABLE_SCHEMAS[table].columns[name].required
            company, row = HOME[table], 1 if table == "experiments" else ROW
            if required or (table, name) == ("customers", "market_id"):
                outcome = "refused" if required else "warned"
                words = (_file(table), f"column {name}", f"row {row}" if required else "1 of")
                yield Mutation(f"{table}.{name}: a hole", company, outcome, cell(table, name, row, ""), words)
                if required and table in ("spend", "subscriptions", "transactions"):
                    yield Mutation(
                        f"{table}.{name}: NULL as a word",
                        company,
                        "refused",
                        cell(table, name, row, "" if column_type(table, name) == "text" else "NULL"),
                        words,
                    )
            elif name in HOLES.get(table, {}):
                whole = (table, name) in {
                    ("customers", "acquired_on"),
                    ("customers", "segment"),
                    ("sales_force", "reps"),
                    ("transactions", "margin"),
                    ("outcomes", "revenue"),
                    ("leads", "channel"),
                    ("customer_summary", "age_days"),
                    ("customers", "acquisition_cost"),
                }
                yield Mutation(
                    f"{table}.{name}: a hole",
                    company,
                    "warned",
                    cell(table, name, row, ""),
                    (_file(table), f"column {name}", "1 of"),
                    whole=whole,
                    short=(table, name) == ("customers", "segment"),
                )
    for name in ("addressable_customers", "median_income", "region"):
        yield Mutation(
            f"markets.{name}: a hole",
            "contracts",
            "warned",
            attribute(name, 2, None),
            ("markets.geojson", f"column {name}", "1"),
            whole=True,
        )
    yield Mutation(
        "markets.geojson market_id: a hole",
        "contracts",
        "refused",
        attribute("market_id", 2, None),
        ("markets.geojson", "column market_id", "row 3"),
    )


_KEYS = {
    "customers": "customer_id",
    "leads": "lead_id",
    "prospects": "prospect_id",
    "sales_force": "market_id",
    "customer_summary": "customer_id",
    "markets": "market_id",
}


def _ids() -> Iterator[Mutation]:
    for table, key in _KEYS.items():
        yield Mutation(
            f"{table}: a row twice",
            HOME[table],
            "refused",
            records(table, lambda r: [*r, r[3]]),
            (_file(table), f"column {key}", "row ", "one row for each"),
            short=table == "customers",
        )
    for table in ("spend", "outcomes"):
        yield Mutation(
            f"{table}: a row twice",
            HOME[table],
            "refused",
            records(table, lambda r: [*r, r[3]]),
            (_file(table), "row ", "one row for each"),
        )
        yield Mutation(
            f"{table}: a key twice with another amount",
            HOME[table],
            "refused",
            records(table, lambda r: [*r, [*r[3][:-1], "7"]]),
            (_file(table), "row "),
        )
    for table, least in (("transactions", 1.0), ("subscriptions", 0.01), ("field_notes", 0.4), ("experiments", 1.0)):
        yield Mutation(
            f"{table}: rows twice",
            HOME[table],
            "warned",
            records(table, lambda r, s=least: [*r, *r[1 : 1 + max(1, int(s * (len(r) - 1)))]]),
            (_file(table), "repeat another row"),
            whole=table == "transactions",
        )
    strangers = {
        "unknown": "M-999",
        "its case lost": "m-002",
        "a zero lost": "M-02",
        "as a number": "2",
        "a dash lost": "M002",
        "with a zero-width blank": "M-002\u200b",
        "with a no-break blank inside": "M\u00a0002",
        "as a float": "2.0",
    }
    for table in TABLE_SCHEMAS:
        for name, (other, _) in RULES[table].references.items():
            company = HOME[table]
            if (table, company) in (("customers", "purchases"),):
                continue
            if other == "markets":
                kinds = strangers if table in ("customers", "spend") else {"unknown": "M-999"}
            else:
                kinds = {"unknown": "C999999", "its zeros lost": "C2", "its case lost": "c000002"}
            for kind, value in kinds.items():
                yield Mutation(
                    f"{table}.{name}: {kind}",
                    company,
                    "refused",
                    cell(table, name, ROW, value),
                    (_file(table), f"column {name}", f"row {ROW}", f"of the table {other}"),
                    short=(table, kind) == ("spend", "its case lost"),
                )
    for table in ("customers", "spend"):
        yield Mutation(
            f"{table}.market_id: blanks round every id",
            "contracts",
            "harmless",
            column(table, "market_id", lambda v: f" {v}  "),
        )
    yield Mutation(
        "customers.market_id: all ids as numbers",
        "contracts",
        "refused",
        column("customers", "market_id", lambda v: str(int(v[2:]))),
        ("customers.csv", "column market_id", "row 1", "more"),
    )


def _columns_gone() -> Iterator[Mutation]:
    for table, schema in TABLE_SCHEMAS.items():
        for name, declared in schema.columns.items():
            if name not in COLUMNS[table].split():
                continue
            wrong = f"{name}s" if len(name) < 5 else name[:-1]
            required = declared.required or (table, name) == ("customers", "market_id")

            def without(r: list[list[str]], name: str = name) -> list[list[str]]:
                at = r[0].index(name)
                return [[*x[:at], *x[at + 1 :]] for x in r]

            if required:
                yield Mutation(
                    f"{table}: no column {name}",
                    HOME[table],
                    "refused",
                    records(table, without),
                    (_file(table), f"column {name}"),
                    short=(table, name) == ("spend", "amount"),
                )
            else:
                yield Mutation(
                    f"{table}: column {name} misspelt",
                    HOME[table],
                    "warned",
                    records(table, lambda r, n=name, w=wrong: [[w if c == n else c for c in r[0]], *r[1:]]),
                    (_file(table), "did you mean", name),
                )
    yield Mutation(
        "spend: column names in capitals",
        "contracts",
        "refused",
        records("spend", lambda r: [[c.upper() for c in r[0]], *r[1:]]),
        ("spend.csv", "column market_id", "MARKET_ID"),
    )


def _texts() -> Iterator[Mutation]:
    big = "x" * 10_000_000
    for table, name in (
        ("customers", "segment"),
        ("spend", "channel"),
        ("field_notes", "reason"),
        ("sales_force", "territory"),
        ("customers", "customer_id"),
    ):
        yield Mutation(
            f"{table}.{name}: 10 MB in one value", "contracts", "refused", cell(table, name, ROW, big), (_file(table),)
        )
        yield Mutation(
            f"{table}.{name}: 30,000 characters",
            "contracts",
            "refused",
            cell(table, name, ROW, "y" * 30_000),
            (_file(table), f"column {name}", f"row {ROW}", "characters"),
        )
        yield Mutation(
            f"{table}.{name}: an escape character",
            "contracts",
            "refused",
            cell(table, name, ROW, "a\x1b[31mb"),
            (_file(table), f"column {name}", f"row {ROW}", "control characters"),
        )
    yield Mutation(
        "markets.name: a bell",
        "contracts",
        "refused",
        attribute("name", 1, "a\x07b"),
        ("markets.geojson", "column name", "row 2", "control characters"),
    )
    yield Mutation(
        "spend.channel: a NUL byte",
        "contracts",
        "refused",
        content("spend.csv", lambda b: b.replace(b"Search", b"Sea\0rch", 1)),
        ("spend.csv", "row "),
    )
    yield Mutation(
        "spend.amount: a NUL byte",
        "contracts",
        "refused",
        content("spend.csv", lambda b: b[:-3] + b"\0" + b[-3:]),
        ("spend.csv",),
    )
    for kind, words in (
        ("an emoji", "Shop 🛒"),
        ("Chinese", "北京 市场"),
        ("Arabic", "مركز"),
        ("quotes", 'a "b" c'),
        ("a line break", "a\nb"),
        ("a formula", "=1+1"),
        ("markup", "<b>x</b>"),
        ("a comma", "a, b"),
        ("a trailing backslash", "a\\"),
    ):
        yield Mutation(
            f"names: {kind} in a segment everywhere",
            "contracts",
            "renamed",
            both(
                column("customers", "segment", lambda v, w=words: w if v == "Consumer" else v),
                column("leads", "segment", lambda v, w=words: w if v == "Consumer" else v),
                column("prospects", "segment", lambda v, w=words: w if v == "Consumer" else v),
            ),
            (words,),
            whole=kind in ("an emoji", "a line break"),
        )
    for number, seen in enumerate(("\u200b", "\u00a0", "\u2060", "\ufeff")):
        yield Mutation(
            f"spend.channel: an unseen character ({number})",
            "contracts",
            "warned",
            cell("spend", "channel", ROW, f"Sea{seen}rch" if number != 1 else f"Search{seen}x"[:-1] + "\u200b"),
            ("spend.csv", "column channel", "look the same"),
        )
    for value in ("search", "SEARCH", "Ｓearch"):
        yield Mutation(
            f"spend.channel: {value} for Search",
            "contracts",
            "warned",
            cell("spend", "channel", ROW, value),
            ("spend.csv", "column channel", "look the same"),
            whole=value == "search",
        )


_ENCODINGS = {
    "latin-1": "latin-1",
    "Windows-1252": "cp1252",
    "UTF-16": "utf-16",
    "UTF-16 without a mark": "utf-16-le",
    "UTF-32": "utf-32",
    "Shift JIS": "shift_jis",
    "KOI8": "koi8_r",
}


def _bytes() -> Iterator[Mutation]:
    words = {"latin-1": "Außen", "cp1252": "“Außen”", "shift_jis": "市場", "koi8_r": "Рынок"}
    for kind, encoding in _ENCODINGS.items():
        word = words.get(encoding, "Außen")
        yield Mutation(
            f"spend.csv in {kind}",
            "contracts",
            "refused",
            content("spend.csv", lambda b, e=encoding, w=word: b.decode().replace("Search", w).encode(e)),
            ("spend.csv", "UTF-8"),
            short=encoding in ("latin-1", "utf-16"),
        )
    for kind, bad in (
        ("one byte of latin-1", b"Se\xe4rch"),
        ("an overlong byte", b"\xc0\xaf"),
        ("half a character", b"\xe2\x82"),
        ("a surrogate", b"\xed\xa0\x80"),
        ("0xFF", b"\xff"),
    ):
        yield Mutation(
            f"spend.csv with {kind} in row 5",
            "contracts",
            "refused",
            records_bytes("spend.csv", 5, bad),
            ("spend.csv", "row 5", "UTF-8"),
        )
        yield Mutation(
            f"field_notes.csv with {kind} in row 2",
            "contracts",
            "refused",
            records_bytes("field_notes.csv", 2, bad),
            ("field_notes.csv", "row 2", "UTF-8"),
        )
    for table in ("customers", "spend", "leads", "sales_force", "subscriptions"):
        yield Mutation(
            f"{table}.csv with a byte order mark",
            "contracts",
            "harmless",
            content(_file(table), lambda b: b"\xef\xbb\xbf" + b),
        )
        yield Mutation(
            f"{table}.csv with Windows line ends",
            "contracts",
            "harmless",
            content(_file(table), lambda b: b.replace(b"\n", b"\r\n")),
        )
        yield Mutation(
            f"{table}.csv with blank lines",
            "contracts",
            "harmless",
            content(_file(table), lambda b: b.replace(b"\n", b"\n\n", 3) + b"\n\n"),
        )
        yield Mutation(
            f"{table}.csv without its last line end",
            "contracts",
            "harmless",
            content(_file(table), lambda b: b.rstrip(b"\n")),
        )
    yield Mutation(
        "spend.csv with old Mac line ends",
        "contracts",
        "harmless",
        content("spend.csv", lambda b: b.replace(b"\n", b"\r")),
    )
    yield Mutation(
        "spend.csv with mixed line ends",
        "contracts",
        "harmless",
        content("spend.csv", lambda b: b.replace(b"\n", b"\r\n", 40)),
    )
    yield Mutation(
        "spend.csv with two byte order marks",
        "contracts",
        "refused",
        content("spend.csv", lambda b: b"\xef\xbb\xbf\xef\xbb\xbf" + b),
        ("spend.csv", "column market_id"),
    )
    yield Mutation(
        "spend.csv with a mark in the middle",
        "contracts",
        "refused",
        content("spend.csv", lambda b: b.replace(b"\nM-00", b"\n\xef\xbb\xbfM-00", 1)),
        ("spend.csv", "column market_id", "row "),
    )


def records_bytes(file: str, row: int, bad: bytes) -> Damage:
    """Bytes put into the third value of a record."""

    def change(raw: bytes) -> bytes:
        lines = raw.split(b"\n")
        values = lines[row].split(b",")
        values[2] = bad if file != "field_notes.csv" else values[2]
        if file == "field_notes.csv":
            values[1] = bad
        lines[row] = b",".join(values)
        return b"\n".join(lines)

    return content(file, change)


def _files() -> Iterator[Mutation]:
    for table in ("customers", "subscriptions", "spend", "leads", "experiments"):
        file = _file(table)
        yield Mutation(f"{file} is not there", "contracts", "refused", gone(file), (file, "an existing file"))
        yield Mutation(
            f"{file} is empty", "contracts", "refused", content(file, lambda b: b""), (file, "an empty file")
        )
        yield Mutation(
            f"{file} has a header only",
            "contracts",
            "refused",
            content(file, lambda b: b.split(b"\n")[0] + b"\n"),
            (file, "at least one row"),
        )
        yield Mutation(
            f"{file} has no header",
            "contracts",
            "refused",
            content(file, lambda b: b.split(b"\n", 1)[1]),
            (file, "column"),
        )
        yield Mutation(
            f"{file} is an HTML page",
            "contracts",
            "refused",
            content(file, lambda b: b"<!DOCTYPE html>\n<html><body>Sign in</body></html>\n"),
            (file,),
        )
        yield Mutation(
            f"{file} is cut inside a record",
            "contracts",
            "refused",
            content(file, lambda b: b[: b.rindex(b",") - (2 if b.rindex(b",") else 0)].rsplit(b",", 1)[0]),
            (file, "values"),
        )
        yield Mutation(
            f"{file} is a zip file",
            "contracts",
            "refused",
            content(file, lambda b: b"PK\x03\x04" + bytes(200)),
            (file,),
        )
        yield Mutation(f"{file} is zeros", "contracts", "refused", content(file, lambda b: bytes(4096)), (file,))
    yield Mutation(
        "customers.csv ends after a third of its rows",
        "contracts",
        "refused",
        records("customers", lambda r: r[: len(r) // 3]),
        ("subscriptions.csv", "column customer_id", "of the table customers"),
    )
    yield Mutation(
        "subscriptions.csv ends after a third of its rows",
        "contracts",
        "warned",
        records("subscriptions", lambda r: r[: len(r) // 3]),
        ("customers.csv", "no contract"),
        whole=True,
    )


def _layout() -> Iterator[Mutation]:
    for table in ("customers", "spend", "leads"):
        file = _file(table)
        yield Mutation(
            f"{file}: its header again in the middle",
            "contracts",
            "refused",
            records(table, lambda r: [*r[:10], r[0], *r[10:]]),
            (file, "row 10"),
        )
        yield Mutation(
            f"{file}: rows in reverse",
            "contracts",
            "harmless",
            records(table, lambda r: [r[0], *r[:0:-1]]),
            whole=table == "spend",
        )
        yield Mutation(
            f"{file}: columns in reverse",
            "contracts",
            "harmless",
            records(table, lambda r: [x[::-1] for x in r]),
            whole=table == "customers",
        )
        for kind, sign in (("semicolons", ";"), ("tabs", "\t"), ("pipes", "|")):
            yield Mutation(f"{file}: {kind}", "contracts", "harmless", records(table, lambda r: r, delimiter=sign))
        yield Mutation(f"{file}: colons", "contracts", "refused", records(table, lambda r: r, delimiter=":"), (file,))
        yield Mutation(
            f"{file}: every value in quotes", "contracts", "harmless", records(table, lambda r: r, quoting=1)
        )
        yield Mutation(
            f"{file}: a delimiter at every line's end",
            "contracts",
            "harmless",
            records(table, lambda r: [[*x, ""] for x in r]),
        )
        yield Mutation(
            f"{file}: a delimiter too many in a row",
            "contracts",
            "harmless",
            records(table, lambda r: [*r[:7], [*r[7], ""], *r[8:]]),
        )
        yield Mutation(
            f"{file}: a value too many in a row",
            "contracts",
            "refused",
            records(table, lambda r: [*r[:7], [*r[7], "5"], *r[8:]]),
            (file, "row 7", "values"),
        )
        yield Mutation(
            f"{file}: a value too few in a row",
            "contracts",
            "refused",
            records(table, lambda r: [*r[:7], r[7][:-1], *r[8:]]),
            (file, "row 7", "values"),
            short=table == "spend",
        )
        yield Mutation(
            f"{file}: an open quote",
            "contracts",
            "refused",
            content(file, lambda b: b.replace(b"\nM-003", b'\n"M-003', 1).replace(b",Search", b',"Search', 1)),
            (file,),
        )
        yield Mutation(
            f"{file}: a further column",
            "contracts",
            "harmless",
            records(table, lambda r: [[*x, "zzz" if i == 0 else "1"] for i, x in enumerate(r)]),
        )
        sums = records(table, lambda r: [*r, ["Total", *[""] * (len(r[0]) - 2), "99999"]])
        if table == "customers":  # where all but the id may be empty
            yield Mutation(
                f"{file}: a line of sums at the end",
                "contracts",
                "warned",
                sums,
                (file, "column market_id", "no value"),
            )
        else:
            yield Mutation(f"{file}: a line of sums at the end", "contracts", "refused", sums, (file, "row "))
        yield Mutation(
            f"{file}: a title above the header",
            "contracts",
            "refused",
            records(table, lambda r: [["Report of June"], *r]),
            (file,),
        )
        yield Mutation(
            f"{file}: blanks round names and values",
            "contracts",
            "harmless",
            records(table, lambda r: [[f" {v} " for v in x] for x in r]),
        )
        yield Mutation(
            f"{file}: a column's name twice",
            "contracts",
            "refused",
            records(table, lambda r: [[*r[0], r[0][1]], *[[*x, "1"] for x in r[1:]]]),
            (file, "once"),
        )


def _excel(table: pd.DataFrame, path: Path) -> None:
    typed_frame(table).to_excel(path, index=False)


def _formats() -> Iterator[Mutation]:
    for table in ("customers", "spend", "leads", "sales_force"):
        yield Mutation(
            f"{table} as Parquet of texts",
            "contracts",
            "harmless",
            as_file(table, ".parquet", lambda t, p: t.replace("", None).to_parquet(p)),
        )
        yield Mutation(
            f"{table} as typed Parquet",
            "contracts",
            "harmless",
            as_file(table, ".parquet", lambda t, p: typed_frame(t).to_parquet(p)),
            whole=table == "customers",
        )
        yield Mutation(
            f"{table} as Parquet of categories",
            "contracts",
            "harmless",
            as_file(table, ".parquet", lambda t, p: t.replace("", None).astype("category").to_parquet(p)),
        )
        yield Mutation(f"{table} as a workbook", "contracts", "harmless", as_file(table, ".xlsx", _excel))
        yield Mutation(f"{table} packed", "contracts", "harmless", packed(table))
    yield Mutation(
        "spend as Parquet with days in Bangkok's time",
        "contracts",
        "harmless",
        as_file(
            "spend",
            ".parquet",
            lambda t, p: t.assign(period=pd.to_datetime(t["period"]).dt.tz_localize("Asia/Bangkok")).to_parquet(p),
        ),
    )
    yield Mutation("spend as Parquet with decimals", "contracts", "harmless", as_file("spend", ".parquet", _decimals))
    yield Mutation(
        "spend packed and cut",
        "contracts",
        "refused",
        both(packed("spend"), content("spend.csv.gz", lambda b: b[: len(b) // 2])),
        ("spend.csv.gz",),
    )
    yield Mutation(
        "spend as a workbook that is none",
        "contracts",
        "refused",
        as_file("spend", ".xlsx", lambda t, p: p.write_bytes(b"not a workbook")),
        ("spend.xlsx", "readable"),
    )
    yield Mutation(
        "spend as Parquet that is none",
        "contracts",
        "refused",
        as_file("spend", ".parquet", lambda t, p: p.write_bytes(b"PAR1 no PAR1")),
        ("spend.parquet", "readable"),
    )
    yield Mutation(
        "spend as Parquet cut",
        "contracts",
        "refused",
        as_file("spend", ".parquet", _cut_parquet),
        ("spend.parquet", "readable"),
    )
    yield Mutation(
        "spend as Parquet, damaged inside",
        "contracts",
        "refused",
        as_file("spend", ".parquet", _hurt_parquet),
        ("spend.parquet",),
    )
    for value in (float("inf"), float("-inf"), 1e308, float("nan")):
        yield Mutation(
            f"spend as Parquet with {value:g}",
            "contracts",
            "refused",
            as_file(
                "spend",
                ".parquet",
                lambda t, p, v=value: (
                    typed_frame(t).assign(amount=[v, *typed_frame(t)["amount"][1:].astype(float)]).to_parquet(p)
                ),
            ),
            ("spend.parquet", "column amount", "row 1"),
        )
    yield Mutation(
        "spend as Parquet with lists",
        "contracts",
        "refused",
        as_file("spend", ".parquet", lambda t, p: t.assign(amount=[[1.0]] * len(t)).to_parquet(p)),
        ("spend.parquet", "column amount"),
    )
    yield Mutation(
        "spend as Parquet with truth values",
        "contracts",
        "refused",
        as_file("spend", ".parquet", lambda t, p: t.assign(amount=True).to_parquet(p)),
        ("spend.parquet", "column amount", "row 1"),
    )
    yield Mutation(
        "spend as Parquet with bytes",
        "contracts",
        "refused",
        as_file("spend", ".parquet", lambda t, p: t.assign(amount=[b"1"] * len(t)).to_parquet(p)),
        ("spend.parquet", "column amount"),
    )
    yield Mutation(
        "spend as a workbook with a day as a number",
        "contracts",
        "refused",
        as_file("spend", ".xlsx", lambda t, p: typed_frame(t).assign(period=46000).to_excel(p, index=False)),
        ("spend.xlsx", "column period", "row 1"),
    )
    yield Mutation(
        "spend as a file of an unknown kind",
        "contracts",
        "refused",
        as_file("spend", ".ods", lambda t, p: p.write_bytes(b"x")),
        ("spend.ods",),
    )


def _decimals(table: pd.DataFrame, path: Path) -> None:
    from decimal import Decimal

    table.assign(amount=[Decimal(v).quantize(Decimal("0.01")) for v in table["amount"]]).to_parquet(path)


def _cut_parquet(table: pd.DataFrame, path: Path) -> None:
    table.to_parquet(path)
    path.write_bytes(path.read_bytes()[:-20])


def _hurt_parquet(table: pd.DataFrame, path: Path) -> None:
    table.to_parquet(path, compression="gzip")
    raw = bytearray(path.read_bytes())
    raw[40:400] = bytes(360)
    path.write_bytes(bytes(raw))


def _times(factor: float) -> Any:
    return lambda v: "" if v == "" else f"{float(v) * factor:.10g}"


def _units() -> Iterator[Mutation]:
    for kind, table, name, factor, words in (
        ("in thousandths", "spend", "amount", 1e-6, ("spend.csv", "column amount", "unit")),
        ("in cents of cents", "spend", "amount", 1e4, ("spend.csv", "column amount", "unit")),
        ("1000 times last year's revenue", "spend", "amount", 1e5, ("spend.csv", "column amount", "unit")),
        ("by the year", "subscriptions", "monthly_value", 12, ("sales_force.csv", "column last_actual")),
        ("in cents", "subscriptions", "monthly_value", 100, ("outcomes.csv", "column revenue")),
        ("in thousands", "subscriptions", "monthly_value", 1e-3, ("sales_force.csv", "column last_actual")),
        ("in thousands", "outcomes", "revenue", 1e-3, ("outcomes.csv", "column revenue")),
        ("in cents", "outcomes", "revenue", 100, ("outcomes.csv", "column revenue")),
        ("in hundreds", "outcomes", "new_customers", 100, ("outcomes.csv", "column new_customers")),
        ("in thousands", "sales_force", "last_actual", 1e-3, ("sales_force.csv", "column last_actual")),
        ("by the month", "sales_force", "last_target", 1 / 12, ("sales_force.csv", "column last_target")),
        ("in cents", "sales_force", "last_target", 100, ("sales_force.csv", "column last_target")),
        ("in thousands", "sales_force", "capacity", 1e3, ("sales_force.csv", "column capacity")),
        ("upside down", "experiments", "lift", 1e5, ("experiments.csv", "column lift")),
    ):
        yield Mutation(
            f"{table}.{name}: {kind} (x {factor:.3g})",
            "contracts",
            "warned",
            column(table, name, _times(factor)),
            words,
            whole=(table, kind)
            in {("spend", "1000 times last year's revenue"), ("subscriptions", "in cents"), ("outcomes", "in cents")},
        )
    yield Mutation(
        "transactions.margin: a rate",
        "purchases",
        "warned",
        column("transactions", "margin", lambda v: "0.4"),
        ("transactions.csv", "column margin", "rate"),
        whole=True,
    )
    yield Mutation(
        "transactions.margin: above revenue",
        "purchases",
        "warned",
        column("transactions", "margin", _times(4)),
        ("transactions.csv", "column margin", "more than revenue"),
    )
    yield Mutation(
        "transactions.amount: in thousands",
        "purchases",
        "warned",
        column("transactions", "amount", _times(1e-3)),
        ("transactions.csv", "column margin"),
    )
    yield Mutation(
        "markets.addressable_customers: in thousands",
        "contracts",
        "warned",
        attributes("addressable_customers", lambda v: v / 1000),
        ("addressable_customers", "more"),
        whole=True,
    )
    yield Mutation(
        "markets.market_customers: in thousands",
        "contracts",
        "warned",
        attributes("market_customers", lambda v: v / 1e4),
        ("market_customers",),
    )
    yield Mutation(
        "markets.addressable_customers: beyond the earth",
        "contracts",
        "warned",
        attributes("addressable_customers", lambda v: v * 1e8),
        ("addressable_customers", "earth"),
    )
    for name, factor in (("addressable_customers", 1e6), ("median_income", 1e3), ("market_customers", 1e6)):
        yield Mutation(
            f"markets.{name}: one market in another unit",
            "contracts",
            "warned",
            shape(4, lambda f, n=name, x=factor: f["properties"].update({n: f["properties"][n] * x})),
            (f"column {name}", "M-005", "unit"),
            whole=name == "median_income",
        )


def _outliers() -> Iterator[Mutation]:
    for table, name, value in (
        ("spend", "amount", "9000000"),
        ("subscriptions", "monthly_value", "90000000"),
        ("outcomes", "revenue", "900000000"),
        ("outcomes", "new_customers", "5000000"),
        ("leads", "value", "900000000"),
        ("prospects", "value", "900000000"),
        ("transactions", "amount", "90000000"),
        ("transactions", "margin", "90000000"),
        ("customer_summary", "revenue", "900000000"),
        ("customer_summary", "orders", "9000000"),
        ("customers", "acquisition_cost", "9000000"),
    ):
        yield Mutation(
            f"{table}.{name}: one value a million times the others",
            HOME[table],
            "warned",
            cell(table, name, 5, value),
            (_file(table), f"column {name}", "times the mean of the others"),
            whole=(table, name)
            in {
                ("spend", "amount"),
                ("subscriptions", "monthly_value"),
                ("transactions", "amount"),
                ("customer_summary", "revenue"),
            },
            short=(table, name) == ("spend", "amount"),
        )
    yield Mutation(
        "transactions.amount: one refund beyond all sales",
        "purchases",
        "warned",
        cell("transactions", "amount", 5, "-90000000"),
        ("transactions.csv", "column amount", "times"),
        whole=True,
    )
    for code in (-999, -99, 99999):
        yield Mutation(
            f"markets.household_size: {code} for not known",
            "contracts",
            "warned",
            both(attribute("household_size", 3, code), attribute("household_size", 6, code)),
            ("column household_size", "not known"),
        )
    yield Mutation(
        "markets.urban_share: all the same",
        "contracts",
        "warned",
        attributes("urban_share", lambda v: 0.5),
        ("column urban_share", "same value"),
        whole=True,
    )


def _time() -> Iterator[Mutation]:
    def without(table: str, name: str, first: str, last: str) -> Damage:
        def change(r: list[list[str]]) -> list[list[str]]:
            at = r[0].index(name)
            return [r[0], *(x for x in r[1:] if not first <= x[at] < last)]

        return records(table, change)

    for table, name in (("spend", "period"), ("outcomes", "period"), ("transactions", "date")):
        for kind, first, last in (("a week", "2026-02-02", "2026-02-09"), ("six weeks", "2025-11-03", "2025-12-15")):
            yield Mutation(
                f"{table}: {kind} missing",
                HOME[table],
                "warned",
                without(table, name, first, last),
                (_file(table), f"column {name}", "weeks"),
                whole=kind == "six weeks",
            )
        yield Mutation(
            f"{table}: the last half year missing",
            HOME[table],
            "warned",
            without(table, name, "2026-01-01", "2027-01-01"),
            (_file(table), f"column {name}", "before as_of"),
            whole=table == "transactions",
        )
    yield Mutation(
        "leads: the last half year missing",
        "contracts",
        "warned",
        without("leads", "created_on", "2026-01-01", "2027-01-01"),
        ("leads.csv", "before as_of"),
    )
    yield Mutation(
        "subscriptions: ended before started",
        "contracts",
        "refused",
        both(
            cell("subscriptions", "started_on", ROW, "2025-05-01"), cell("subscriptions", "ended_on", ROW, "2025-04-01")
        ),
        ("subscriptions.csv", "column ended_on", "row 2", "after started_on"),
    )
    for step in ("won_on", "lost_on"):
        yield Mutation(
            f"leads: {step} before created_on",
            "contracts",
            "refused",
            cell("leads", step, ROW, "2020-01-01"),
            ("leads.csv", f"column {step}", "row 2", "after created_on"),
        )
    for step in ("mql_on", "sal_on", "sql_on"):
        yield Mutation(
            f"leads: {step} before created_on",
            "contracts",
            "warned",
            cell("leads", step, ROW, "2020-01-01"),
            ("leads.csv", f"column {step}", "before created_on"),
        )
    yield Mutation(
        "leads: won and lost",
        "contracts",
        "warned",
        both(cell("leads", "won_on", ROW, "2026-06-20"), cell("leads", "lost_on", ROW, "2026-06-20")),
        ("leads.csv", "column lost_on", "both won and lost"),
        whole=True,
    )
    yield Mutation(
        "experiments: ended before it started",
        "contracts",
        "refused",
        cell("experiments", "end", 1, "2025-08-01"),
        ("experiments.csv", "column end", "row 1"),
    )
    yield Mutation(
        "subscriptions.ended_on: 9999-12-31 for active",
        "contracts",
        "refused",
        column("subscriptions", "ended_on", lambda v: v or "9999-12-31"),
        ("subscriptions.csv", "column ended_on", "as_of"),
    )
    yield Mutation(
        "spend: all in one period",
        "contracts",
        "warned",
        records("spend", lambda r: [r[0], *{(x[0], x[2]): [x[0], "2026-06-22", x[2], x[3]] for x in r[1:]}.values()]),
        ("Spend covers only",),
        whole=True,
    )


def _relations() -> Iterator[Mutation]:
    yield Mutation(
        "customers: all in one market",
        "contracts",
        "warned",
        column("customers", "market_id", lambda v: "M-004"),
        ("customers.csv", "all customers", "M-004"),
        whole=True,
    )
    yield Mutation(
        "customers: one that bought nothing",
        "contracts",
        "warned",
        records("customers", lambda r: [*r, ["C999999", *r[1][1:]]]),
        ("customers.csv", "1 customer", "no contract"),
    )
    yield Mutation(
        "customers: one that has no summary",
        "summary",
        "warned",
        records("customers", lambda r: [*r, ["C999999", *r[1][1:]]]),
        ("customers.csv", "1 customer", "no purchase"),
    )
    yield Mutation(
        "customers: coordinates swapped",
        "purchases",
        "refused",
        records(
            "customers",
            lambda r: [[{"longitude": "latitude", "latitude": "longitude"}.get(c, c) for c in r[0]], *r[1:]],
        ),
        ("customers.csv", "latitude"),
        short=True,
    )
    yield Mutation(
        "customers: coordinates of another country",
        "purchases",
        "refused",
        column("customers", "longitude", lambda v: f"{float(v) - 100:.5f}"),
        ("customers.csv", "column longitude"),
    )
    yield Mutation(
        "customers: coordinates in metres",
        "purchases",
        "refused",
        column("customers", "longitude", lambda v: f"{float(v) * 111320:.0f}"),
        ("customers.csv", "column longitude", "row 1"),
    )
    yield Mutation(
        "customers: longitude beyond 180",
        "purchases",
        "refused",
        cell("customers", "longitude", ROW, "181"),
        ("customers.csv", "column longitude", "row 2"),
    )
    yield Mutation(
        "customers: latitude beyond 90",
        "purchases",
        "refused",
        cell("customers", "latitude", ROW, "-91"),
        ("customers.csv", "column latitude", "row 2"),
    )
    yield Mutation(
        "customers: one at 0, 0",
        "purchases",
        "warned",
        both(cell("customers", "longitude", ROW, "0"), cell("customers", "latitude", ROW, "0")),
        ("in no market", "left out"),
        whole=True,
    )
    yield Mutation(
        "customers: one coordinate missing",
        "purchases",
        "warned",
        cell("customers", "latitude", ROW, ""),
        ("in no market", "left out"),
    )
    yield Mutation(
        "experiments: an unknown channel",
        "contracts",
        "warned",
        cell("experiments", "channel", 1, "Radio"),
        ("experiments.csv", "column channel", "'Radio'"),
        whole=True,
    )
    yield Mutation(
        "experiments: an unknown market",
        "contracts",
        "warned",
        cell("experiments", "markets", 1, "M-001;M-999"),
        ("experiments.csv", "column markets", "'M-999'"),
    )
    yield Mutation(
        "field_notes: low above high",
        "contracts",
        "refused",
        cell("field_notes", "low", 1, "500"),
        ("field_notes.csv", "column high", "row 1"),
    )
    yield Mutation(
        "field_notes: an unknown kind",
        "contracts",
        "refused",
        cell("field_notes", "kind", 1, "potental"),
        ("field_notes.csv", "column kind", "row 1", "one of"),
    )
    yield Mutation(
        "sales_force: a market without a row",
        "contracts",
        "warned",
        records("sales_force", lambda r: r[:-1]),
        ("sales_force.csv", "1 of 12 markets"),
        whole=True,
    )
    for kind, keep in (("one market", 1), ("two markets", 2)):
        yield Mutation(f"only {kind}", "contracts", "small", _only(keep), (), whole=True)
    yield Mutation("only one customer", "contracts", "small", _one_customer, (), whole=True)


def _only(keep: int) -> Damage:
    def damage(folder: Path) -> None:
        collection = json.loads((folder / "markets.geojson").read_text(encoding="utf-8"))
        collection["features"] = collection["features"][:keep]
        (folder / "markets.geojson").write_text(json.dumps(collection), encoding="utf-8")
        ids = [f["properties"]["market_id"] for f in collection["features"]]
        customers = frame(folder, "customers")
        known = customers[customers["market_id"].isin(ids)]
        known.to_csv(folder / "customers.csv", index=False)
        contracts = frame(folder, "subscriptions")
        contracts[contracts["customer_id"].isin(known["customer_id"])].to_csv(folder / "subscriptions.csv", index=False)
        for table in ("spend", "outcomes", "leads", "prospects", "sales_force", "field_notes"):
            rows = frame(folder, table)
            rows[rows["market_id"].isin(ids)].to_csv(folder / f"{table}.csv", index=False)

    return damage


def _one_customer(folder: Path) -> None:
    contracts = frame(folder, "subscriptions")
    contracts = contracts[contracts["ended_on"] == ""].head(1)
    contracts.to_csv(folder / "subscriptions.csv", index=False)
    customers = frame(folder, "customers")
    customers[customers["customer_id"].isin(contracts["customer_id"])].to_csv(folder / "customers.csv", index=False)


def _names() -> Iterator[Mutation]:
    yield Mutation(
        "markets.name: two alike",
        "contracts",
        "warned",
        both(attribute("name", 0, "Old Town"), attribute("name", 1, "old  town\u200b")),
        ("markets.geojson", "column name", "look the same"),
    )
    yield Mutation(
        "markets.region: its case differs once",
        "contracts",
        "warned",
        shape(0, lambda f: f["properties"].update(region=f["properties"]["region"].upper())),
        ("markets.geojson", "column region", "look the same"),
    )
    yield Mutation(
        "customers.segment: a blank inside once",
        "contracts",
        "warned",
        cell("customers", "segment", ROW, "Small  business"),
        ("customers.csv", "column segment", "look the same"),
    )
    yield Mutation(
        "leads.segment: its case differs",
        "contracts",
        "warned",
        cell("leads", "segment", ROW, "small business"),
        ("leads.csv", "column segment", "look the same"),
    )
    yield Mutation(
        "sales_force.territory: its case differs",
        "contracts",
        "warned",
        cell("sales_force", "territory", 1, "t003"),
        ("sales_force.csv", "column territory", "look the same"),
    )
    yield Mutation(
        "customers.segment: an id in every row",
        "contracts",
        "warned",
        records(
            "customers",
            lambda r: [
                r[0],
                *[
                    [v if n != "segment" else f"S{i}" for n, v in zip(r[0], x, strict=True)]
                    for i, x in enumerate(r[1:])
                ],
            ],
        ),
        ("customers.csv", "column segment", "different names"),
    )


def _ring(*points: tuple[float, float]) -> dict:
    return {"type": "Polygon", "coordinates": [[list(p) for p in points]]}


def _swap(node: Any) -> Any:
    if isinstance(node, list) and node and isinstance(node[0], (int, float)):
        return [node[1], node[0], *node[2:]]
    return [_swap(n) for n in node] if isinstance(node, list) else node


def _scaled(node: Any, x: float, y: float) -> Any:
    if isinstance(node, list) and node and isinstance(node[0], (int, float)):
        return [node[0] * x, node[1] * y]
    return [_scaled(n, x, y) for n in node] if isinstance(node, list) else node


def _shapes() -> Iterator[Mutation]:
    def geometry(number: int, value: Any) -> Damage:
        return shape(number, lambda f: f.update(geometry=value))

    bow = _ring((131.0, 15.0), (131.1, 15.1), (131.1, 15.0), (131.0, 15.1), (131.0, 15.0))
    yield Mutation(
        "a border that crosses itself", "contracts", "warned", geometry(0, bow), ("crosses itself", "M-001"), whole=True
    )
    yield Mutation(
        "a border that is missing", "contracts", "warned", geometry(0, None), ("no boundary", "M-001"), whole=True
    )
    yield Mutation(
        "an empty polygon",
        "contracts",
        "warned",
        geometry(0, {"type": "Polygon", "coordinates": []}),
        ("no boundary", "M-001"),
    )
    yield Mutation(
        "an empty collection",
        "contracts",
        "warned",
        geometry(0, {"type": "GeometryCollection", "geometries": []}),
        ("no boundary", "M-001"),
    )
    yield Mutation(
        "a border without area",
        "contracts",
        "warned",
        geometry(0, _ring((131.0, 15.0), (131.1, 15.0), (131.0, 15.0), (131.0, 15.0))),
        ("M-001",),
    )
    yield Mutation(
        "a line for a border",
        "contracts",
        "warned",
        geometry(0, {"type": "LineString", "coordinates": [[131, 15], [131.1, 15.1]]}),
        ("M-001",),
    )
    yield Mutation(
        "two markets with the same border",
        "contracts",
        "warned",
        shapes(lambda c: c["features"][0].update(geometry=c["features"][1]["geometry"])),
        ("M-001", "M-002", "same"),
    )
    yield Mutation(
        "no border at all",
        "contracts",
        "refused",
        shapes(lambda c: [f.update(geometry=None) for f in c["features"]]),
        ("markets.geojson", "column geometry"),
    )
    yield Mutation(
        "borders in metres",
        "contracts",
        "refused",
        shapes(
            lambda c: [
                f["geometry"].update(coordinates=_scaled(f["geometry"]["coordinates"], 1e5, 1e5)) for f in c["features"]
            ]
        ),
        ("markets.geojson", "column geometry", "row 1", "degrees"),
        short=True,
    )
    yield Mutation(
        "borders with latitude first",
        "contracts",
        "refused",
        shapes(
            lambda c: [f["geometry"].update(coordinates=_swap(f["geometry"]["coordinates"])) for f in c["features"]]
        ),
        ("markets.geojson", "column geometry", "row 1"),
    )
    yield Mutation(
        "one border in metres",
        "contracts",
        "refused",
        geometry(3, _ring((5e5, 4e6), (5.1e5, 4e6), (5.1e5, 4.1e6), (5e5, 4e6))),
        ("markets.geojson", "column geometry", "row 4", "degrees"),
    )
    yield Mutation(
        "another CRS than the numbers",
        "contracts",
        "refused",
        shapes(lambda c: c.update(crs={"type": "name", "properties": {"name": "EPSG:3857"}})),
        ("markets.geojson", "column geometry"),
    )
    yield Mutation(
        "an unknown CRS",
        "contracts",
        "refused",
        shapes(lambda c: c.update(crs={"type": "name", "properties": {"name": "EPSG:999999"}})),
        ("markets.geojson", "coordinate reference system"),
    )
    yield Mutation(
        "a coordinate that is no number",
        "contracts",
        "refused",
        content("markets.geojson", lambda b: b.replace(b"131.", b"NaN, 131.", 1)),
        ("markets.geojson",),
    )
    yield Mutation(
        "heights beside the coordinates",
        "contracts",
        "harmless",
        shapes(
            lambda c: [
                f["geometry"].update(coordinates=[[[*p, 12.5] for p in ring] for ring in f["geometry"]["coordinates"]])
                for f in c["features"]
                if f["geometry"]["type"] == "Polygon"
            ]
        ),
    )
    yield Mutation(
        "features in reverse", "contracts", "harmless", shapes(lambda c: c["features"].reverse()), whole=True
    )
    yield Mutation(
        "a market twice",
        "contracts",
        "refused",
        shapes(lambda c: c["features"].append(c["features"][0])),
        ("markets.geojson", "column market_id", "row 13"),
    )
    yield Mutation("no features", "contracts", "refused", shapes(lambda c: c.update(features=[])), ("markets.geojson",))
    yield Mutation(
        "GeoJSON cut off",
        "contracts",
        "refused",
        content("markets.geojson", lambda b: b[:-200]),
        ("markets.geojson", "readable"),
    )
    yield Mutation(
        "GeoJSON with a mark", "contracts", "harmless", content("markets.geojson", lambda b: b"\xef\xbb\xbf" + b)
    )
    yield Mutation(
        "GeoJSON that is plain JSON",
        "contracts",
        "refused",
        content("markets.geojson", lambda b: b'{"a": 1}'),
        ("markets.geojson",),
    )
    yield Mutation("markets as GeoParquet in metres", "contracts", "near", _geoparquet, ())
    yield Mutation("markets as GeoPackage", "contracts", "near", _geopackage, ())
    yield Mutation(
        "a feature's value as text",
        "contracts",
        "refused",
        attribute("median_income", 2, "6,830"),
        ("markets.geojson", "column median_income", "row 3", "a number"),
    )
    yield Mutation(
        "a feature's value with a currency",
        "contracts",
        "refused",
        attribute("median_income", 2, "$6830"),
        ("markets.geojson", "column median_income", "row 3", "a number"),
    )
    yield Mutation(
        "a feature's value of 1e308",
        "contracts",
        "refused",
        attribute("median_income", 2, 1e308),
        ("markets.geojson", "column median_income", "row 3", "a number"),
    )
    yield Mutation(
        "a feature that is missing",
        "contracts",
        "refused",
        shapes(lambda c: [f["properties"].pop("median_income") for f in c["features"]]),
        ("plan.yml", "features", "median_income"),
    )
    yield Mutation(
        "a feature that is empty everywhere",
        "contracts",
        "refused",
        attributes("median_income", lambda v: None),
        ("markets.geojson", "column median_income"),
    )


def _geoparquet(folder: Path) -> None:
    gpd.read_file(folder / "markets.geojson").to_crs(3857).to_parquet(folder / "markets.parquet")
    plan_text("markets.geojson", "markets.parquet")(folder)


def _geopackage(folder: Path) -> None:
    gpd.read_file(folder / "markets.geojson").to_file(folder / "markets.gpkg")
    plan_text("markets.geojson", "markets.gpkg")(folder)


def _market_sizes() -> Iterator[Mutation]:
    yield Mutation(
        "markets: fewer people than customers",
        "contracts",
        "warned",
        attribute("addressable_customers", 5, 1),
        ("addressable_customers", "more"),
    )
    yield Mutation(
        "markets: nobody lives anywhere",
        "contracts",
        "warned",
        attributes("addressable_customers", lambda v: 0),
        ("addressable_customers",),
        whole=True,
    )
    yield Mutation(
        "markets: negative people",
        "contracts",
        "refused",
        attribute("addressable_customers", 5, -3),
        ("markets.geojson", "column addressable_customers", "row 6", "-3"),
    )
    yield Mutation(
        "markets: more buyers than people",
        "contracts",
        "warned",
        shape(5, lambda f: f["properties"].update(market_customers=f["properties"]["addressable_customers"] * 2)),
        ("market_customers", "addressable_customers"),
    )


_BAD_VALUES: dict[str, dict[str, Any]] = {
    "company": {"name": ["", [], 5], "currency": ["usd", "Dollar", "$", 840]},
    "plan": {"start": ["1/7/2026", "2026-07", "soon", "2028-01-01"], "end": ["2026-02-30", "2020-01-01", 2027]},
    "economics": {
        "relationship": ["contract", "both", ""],
        "margin_rate": [35, -0.1, "35%", "0,35", ".inf", ".nan"],
        "discount_rate": [10, "10%", -1],
        "horizon_months": [0, 36.5, 100000, "three years"],
        "servicing_cost": [-1, "free"],
    },
    "budget": {
        "total": [-5, "all", "1,000,000", 1e300],
        "max_shift": [30, -0.1, "30%"],
        "market_change": [[2.0, 0.5], [0.5], 0.5, [-1, 2], ["a", "b"], [1.5, 2.0]],
        "cell_change": [[0, 0.5], "any"],
        "test_reserve": [5, -0.1],
        "min_return": [-1],
        "risk_aversion": [1000],
        "round_to": [0],
        "min_ticket": [-10],
    },
    "targets": {
        "growth": [10.5, -2, "10%"],
        "split": [["segment"], ["market", "market"], "market", ["city"]],
        "period": ["day", "monthly"],
        "attainment": [1, 0, 60, "60%"],
    },
    "report": {"formats": [["docx"], "pdf", ["pdf", "pdf"]], "min_cell": [0, -1, 2.5, "ten", 1e9]},
}


def _plan_values() -> Iterator[Mutation]:
    for section, keys in _BAD_VALUES.items():
        for key, values in keys.items():
            for value in values:
                yield Mutation(
                    f"plan.yml {section}.{key}: {json.dumps(value)}",
                    "contracts",
                    "refused",
                    edit_plan(section, {key: value}, merge=True),
                    (
                        "plan.yml",
                        f"{section}.{key}" if (section, key) != ("plan", "start") or value != "2028-01-01" else "plan",
                    ),
                    short=(section, key, value) == ("economics", "margin_rate", 35),
                )
    for key, value in (
        ("as_of", "30.06.2026"),
        ("as_of", "2026-13-01"),
        ("as_of", 2026),
        ("seed", -1),
        ("seed", "x"),
        ("locale", "klingon"),
        ("features", "income"),
        ("features", {"a": 1}),
        ("data", []),
        ("data", "customers.csv"),
        ("budget", 5),
        ("company", "Acme"),
        ("engine", "oracle"),
        ("previous_run", "nowhere"),
        ("segments", 5),
        ("geography", "north"),
    ):
        yield Mutation(
            f"plan.yml {key}: {json.dumps(value)}", "contracts", "refused", edit_plan(key, value), ("plan.yml", key)
        )
    for key, near in (("budgets", "budget"), ("as_off", "as_of"), ("Company", "company"), ("econmics", "economics")):
        yield Mutation(f"plan.yml: a key {key}", "contracts", "refused", edit_plan(key, {}), ("plan.yml", key, near))
    for section, key, near in (
        ("economics", "margin", "margin_rate"),
        ("budget", "maxshift", "max_shift"),
        ("targets", "attainement", "attainment"),
        ("report", "mincell", "min_cell"),
        ("data", "subscription", "subscriptions"),
    ):
        yield Mutation(
            f"plan.yml: a key {section}.{key}",
            "contracts",
            "refused",
            edit_plan(section, {key: "1"}, merge=True),
            ("plan.yml", key, near),
        )
    for key in ("company", "as_of", "plan", "economics", "data"):
        yield Mutation(f"plan.yml: no {key}", "contracts", "refused", _without_key(key), ("plan.yml", key))
    for limits, kind in (
        ({"max_shift": 0, "total": 999999999}, "more money than the cells may take"),
        ({"total": 1}, "less money than the cells have to keep"),
    ):
        yield Mutation(
            f"plan.yml budget: {kind}",
            "contracts",
            "infeasible",
            edit_plan("budget", limits, merge=True),
            ("budget",),
            whole=True,
        )


def _without_key(key: str) -> Damage:
    import yaml

    def damage(folder: Path) -> None:
        plan = yaml.load((folder / "plan.yml").read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
        del plan[key]
        (folder / "plan.yml").write_text(yaml.safe_dump(plan), encoding="utf-8")

    return damage


_BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


def _plan_text() -> Iterator[Mutation]:
    def text(kind: str, old: str, new: str, *words: str, outcome: str = "refused") -> Mutation:
        return Mutation(
            f"plan.yml: {kind}", "contracts", outcome, plan_text(old, new), ("plan.yml", *words) if words else ()
        )

    def whole(kind: str, change: Any, *words: str) -> Mutation:
        return Mutation(f"plan.yml: {kind}", "contracts", "refused", content("plan.yml", change), ("plan.yml", *words))

    name = "company:"
    yield text("a Python object", name, "x: !!python/object/apply:os.system ['touch /tmp/owned']\ncompany:", "row")
    yield text("a Python name", name, "x: !!python/name:os.system\ncompany:", "row")
    yield text("a tag of its own", name, "x: !secret abc\ncompany:", "row")
    yield text("a key twice", name, "as_of: 2026-06-29\ncompany:", "as_of", "once")
    yield text("tabs", "  margin_rate", "\tmargin_rate", "row")
    yield text("a curly quote for a key", "company:", "“company”:", "company")
    yield text("an alias without an anchor", name, "x: *nothing\ncompany:", "row")
    yield text("an anchor of itself", name, "x: &x [*x]\ncompany:", "x")
    yield text("a merge key", "  margin_rate", "  <<: {margin_rate: 0.1}\n  xmargin_rate", "margin_rate")
    yield text("an open bracket", name, "x: [1, 2\ncompany:", "row")
    yield text("a control character", name, 'x: "\x01"\ncompany:', "YAML")
    yield text("no after a key that needs a text (Norway)", "currency: USD", "currency: NO", "company.currency")
    yield text("an octal margin", "margin_rate: 0.45", "margin_rate: 010", "economics.margin_rate")
    yield text("a margin in sexagesimal", "margin_rate: 0.45", "margin_rate: 1:30", "economics.margin_rate")
    yield text("a margin as a text", "margin_rate: 0.45", "margin_rate: '0.45'", "economics.margin_rate")
    yield text("yes for a number", "growth: 0.10", "growth: yes", "targets.growth")
    yield text("two documents", "company:", "---\na: 1\n---\ncompany:")
    yield Mutation(
        "plan.yml: a byte order mark", "contracts", "harmless", content("plan.yml", lambda b: b"\xef\xbb\xbf" + b)
    )
    yield whole("a bomb of aliases", lambda b: _BOMB.encode() + b)
    yield whole(
        "a bomb where a value belongs",
        lambda b: (
            b.replace(b"name: Sample company", b"name: *i")
            if False
            else _BOMB.encode() + b.replace(b"name: Sample company", b"name: *i")
        ),
        "company.name",
    )
    yield whole("nothing", lambda b: b"")
    yield whole("a list", lambda b: b"- a\n- b\n")
    yield whole("a text", lambda b: b"hello")
    yield whole("zeros", lambda b: bytes(100))
    yield whole("latin-1", lambda b: b.replace(b"Sample", "Société".encode("latin-1")), "UTF-8")
    yield whole("a thousand open brackets", lambda b: b"x: " + b"[" * 5000 + b"\n" + b)
    yield whole("a number of 5,000 digits", lambda b: b.replace(b"growth: 0.10", b"growth: " + b"9" * 5000))
    yield Mutation(
        "plan.yml: Windows line ends", "contracts", "harmless", content("plan.yml", lambda b: b.replace(b"\n", b"\r\n"))
    )


def _sources() -> Iterator[Mutation]:
    def source(kind: str, table: str, value: Any, *words: str) -> Mutation:
        return Mutation(
            f"data.{table}: {kind}", "contracts", "refused", edit_plan("data", {table: value}, merge=True), words
        )

    yield source("a folder", "spend", ".", "a folder without any")
    yield source("a device", "spend", "/dev/null", "/dev/null")
    yield source("a number", "spend", ["5"], "data.spend")
    yield source(
        "a query that fails", "spend", {"path": "spend.csv", "sql": "select nothing from input"}, "spend.csv", "query"
    )
    yield source("a query that writes", "spend", {"path": "spend.csv", "sql": "drop table input"}, "spend.csv", "query")
    yield source(
        "two queries", "spend", {"path": "spend.csv", "sql": "select * from input; select 1"}, "spend.csv", "query"
    )
    yield source(
        "a path and a connection", "spend", {"path": "a", "connection": "b", "sql": "c"}, "data.spend", "either"
    )
    yield source("an unknown variable", "spend", "${NOT_SET_ANYWHERE}/spend.csv", "data.spend", "NOT_SET_ANYWHERE")
    yield source(
        "a connection that isn't one", "spend", {"connection": "nonsense", "sql": "select 1"}, "spend (database)"
    )
    yield source("an unknown table", "spendings", "spend.csv", "data.spendings", "did you mean spend")
