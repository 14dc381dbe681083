"""A starter for one's own company: ``plan.yml`` with every key explained, a template of every table, the plays."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path

from micromarket.errors import InputError, Problem
from micromarket.tables import TABLE_SCHEMAS
from micromarket.workspace import write_atomically

PLAN = """\
# What the plan is made from. Relative paths are relative to this file. Check it with: micromarket check plan.yml
# Keys that are commented out show their default.

company:
  name: Example Company
  currency: USD                  # every amount of money, in and out, is in this currency

as_of: 2026-06-30                # data count up to and including this day; or: last full month, see docs/operation.md
plan:
  start: 2026-07-01              # first and last day of the plan, both included
  end: 2027-06-30

economics:
  relationship: non-contractual  # contractual: customers have contracts (data.subscriptions); else non-contractual
  margin_rate: 0.35              # contribution margin per unit of revenue; may be left out where transactions have one
  # discount_rate: 0.10          # per year
  # horizon_months: 36           # how far ahead a customer's margin counts
  # servicing_cost: 0.0          # money per customer and month, taken off the margin

# A table is a file (CSV, Parquet, Excel, GeoJSON, GeoPackage, GeoParquet, Shapefile), a file seen through SQL,
#   transactions: {path: orders.csv, sql: "select client as customer_id, day as date, total as amount from input"}
# or a query to a database; secrets belong in the environment, never in this file:
#   customers: {connection: "postgres://${DB_USER}:${DB_PASSWORD}@host/shop", sql: customers.sql}
data:
__DATA__
# geography: null                # what maps can add, see docs/geography.md, such as one of these or several:
# geography: {merge: {minimum_customers: 100, within: region}}  # thin markets join a neighbour
# geography: {hexagons: 7}       # markets from where customers live, instead of data.markets (3: region, 9: block)
# geography: {census: {path: counties.geojson, extensive: [population], intensive: [income]}}  # counts; rates
# features: [median_income]      # columns of markets that may explain potential; default: every numeric one

# budget:
#   total: current               # or an amount of money for the plan period
#   max_shift: 0.30              # largest share of the total that may change place
#   market_change: [0.5, 2.0]    # lowest and highest ratio of a market's money to its current money
#   cell_change: [0.0, 3.0]      # the same for a market's money in one channel
#   channel_change: null         # the same for a channel's money in all markets
#   region_change: null          # the same for a region's money
#   min_return: null             # least value that the next unit of money must bring
#   risk_aversion: 0.0           # 0: the best expected gain; higher: surer gains first
#   test_reserve: 0.05           # share of the total that may be used to prove that the moves work
#   min_ticket: 0                # a market gets nothing in a channel, or at least this much money
#   round_to: null               # money in multiples of this much, such as 100; sums are kept

# targets:
#   growth: 0.10                 # company revenue over the plan period against the same span before
#   split: [market, segment]
#   period: month                # week, month or quarter
#   attainment: 0.6              # odds that a target should have
#   objective: acquire           # new customers; or deepen (cross-sell), retain, or weights {acquire: 1, retain: 0.5}

#   field_round: {cap: 0.10, weight: 0.5, within: region}  # how far the field's answers move a target
#   reps: {max_moves: 0.10, within: region, ramp_months: 3}  # how many sales people may change territory, and where to

# tests:                         # what the randomised test that comes with the plan may be
#   run: where it pays           # or always: the test that teaches most, whatever it costs
#   channels: null               # only these channels may be tested, such as [Search]
#   force_in: []                 # markets that must take part (chance still decides who is treated)
#   force_out: []                # markets that must not
#   most_markets: null           # most markets that are treated; below 8: a few against a synthetic control
#   cells: 3                     # most things tried beside one another, with a shared control
#   most_volume: 0.6             # largest share of new customers in tested markets
#   buffer: null                 # true: no two tested markets touch (default: where spend works across borders)

# report:
#   formats: [pdf, html, xlsx]
#   min_cell: 10                 # groups of fewer customers than this are not shown

# segments: auto                # made from what customers buy where customers.csv has no segment; none: no split
# previous_run: reports          # a finished run, or the folder of runs: peer groups stay as they were in the last one
# engine: duckdb                 # counts here, out of core; or spark, or {connection: URL}, see docs/engine.md
# write_back: null               # the published tables into a database: {connection: URL, schema: plans}
# locale: en_GB                  # how numbers, dates and currencies are written (de_DE, en_IN, …); words stay English
# seed: 1                        # equal seeds and equal data give equal plans
"""
_PLAYS = Path(__file__).parent / "potential" / "plays.yml"
_REQUIRED = ("markets", "customers", "transactions")


def starter_files() -> dict[str, str]:
    """Name and text of every file of the starter."""
    lines = []
    for table, schema in TABLE_SCHEMAS.items():
        entry = f"{table}: {table}.csv"
        mark = "" if table in _REQUIRED else "# "
        lines.append(f"  {mark}{entry:<40} # {schema.description}".rstrip())
    lines.append("  # markets with their borders: give a GeoJSON, GeoPackage or GeoParquet file instead of the CSV")
    files = {"plan.yml": PLAN.replace("__DATA__", "\n".join(lines))}
    for table, schema in TABLE_SCHEMAS.items():
        names = [name for name, column in schema.columns.items() if (column.metadata or {}).get("type") != "geometry"]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(names)
        files[f"{table}.csv"] = text.getvalue()
    files["plays.yml"] = _PLAYS.read_text(encoding="utf-8")
    return files


def write_starter(directory: str | Path) -> list[Path]:
    """Writes the starter; returns its files.

    Raises
    ------
    InputError
        Naming the files that are there already; nothing is written then.
    """
    folder = Path(directory)
    files = starter_files()
    if folder.exists() and not folder.is_dir():
        raise InputError([Problem(str(folder), "a folder, or a name that is free", value="a file")])
    there = [Problem(str(folder / name), "no such file yet (nothing is overwritten)") for name in files
             if (folder / name).exists()]  # fmt: skip
    if there:
        raise InputError(there)
    return [
        write_atomically(folder / name, lambda p, text=text: p.write_text(text, encoding="utf-8"))  # type: ignore[misc]
        for name, text in files.items()
    ]


def copy_notebooks(directory: str | Path, plan: str | Path | None = None) -> list[Path]:
    """Copies the notebooks, the explorers among them, to look into a run or to change them; returns the copies.

    Parameters
    ----------
    directory : str or Path
        Folder of the copies; made if need be.
    plan : str or Path, optional
        The ``plan.yml`` that their parameters then name; ``run_dir`` becomes the folder ``reports`` beside it.

    Raises
    ------
    InputError
        Naming the files that are there already, or a ``plan`` that is not; nothing is written then.
    """
    from micromarket.runner.pipeline import notebooks_folder

    folder = Path(directory).absolute()
    sources = sorted(notebooks_folder().glob("*.ipynb"))
    problems = [Problem(str(folder / s.name), "no such file yet (nothing is overwritten)") for s in sources
                if (folder / s.name).exists()]  # fmt: skip
    if folder.exists() and not folder.is_dir():
        problems.append(Problem(str(folder), "a folder, or a name that is free", value="a file"))
    if plan is not None and not Path(plan).is_file():
        problems.append(Problem(str(plan), "an existing file", value="nothing there"))
    if problems:
        raise InputError(problems)
    copies = []
    for source in sources:
        book = json.loads(source.read_text(encoding="utf-8"))
        if plan is not None:
            values = {"plan": Path(plan).absolute(), "run_dir": Path(plan).absolute().parent / "reports"}
            for cell in book["cells"]:
                if "parameters" in cell["metadata"].get("tags", ()):
                    cell["source"] = [_with_value(line, values) for line in cell["source"]]
        text = json.dumps(book, ensure_ascii=False, indent=1) + "\n"
        copies.append(write_atomically(folder / source.name, lambda p, t=text: p.write_text(t, encoding="utf-8")))  # type: ignore[misc]
    return copies


def _with_value(line: str, values: Mapping[str, Path]) -> str:
    """A line of a cell of parameters such as ``plan: str = "…"  # what it is`` with another value."""
    found = re.match(r'(\w+)(: str = )"[^"]*"', line)
    if found is None or found[1] not in values:
        return line
    return f"{found[1]}{found[2]}{json.dumps(str(values[found[1]]), ensure_ascii=False)}{line[found.end() :]}"
