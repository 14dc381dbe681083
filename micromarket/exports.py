"""What other systems import: quotas by component, territory and period; a list of markets by territory for a CRM.

Formats: ``docs/exports.md``. No row is about a person; the list of leads is :mod:`micromarket.leads`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xlsxwriter

from micromarket.errors import InputError, Problem, did_you_mean, shown
from micromarket.field.published import KEYS, PublishedRun, read_published
from micromarket.workspace import write_atomically

QUOTA = ("Component", "Territory", "Period", "Value", "Unit")
NO_TERRITORY = "No territory"
#: What a spreadsheet would take for a formula at the beginning of a text.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")


def quota_table(run: str | Path) -> pd.DataFrame:
    """Targets by component, territory and period.

    Territories are the company's; without any, its regions; without these, its markets. Sums are the plan's to the
    cent.

    Parameters
    ----------
    run : str or Path
        A finished run folder.

    Returns
    -------
    DataFrame
        Component (Revenue, Margin, New customers), Territory, Period (``2026-07``, ``2026-Q3``, ``2026-W27``), Value,
        Unit (the currency, or ``count``); sorted by these.

    Raises
    ------
    InputError
        No finished run with targets.
    """
    published = read_published(run)
    _, name = _owner(published)
    table = published.targets.assign(Territory=published.targets["market_id"].map(name).fillna(NO_TERRITORY))
    kind = published.manifest["settings"]["targets"].get("period", "month")
    table["Period"] = period_label(pd.to_datetime(table["period"]), kind)
    parts = []
    columns = (("Revenue", "revenue", True), ("Margin", "margin", True), ("New customers", "new_customers", False))
    for component, column, money in columns:
        if table[column].isna().any():
            continue
        units = np.round(table[column].to_numpy(float) * (100 if money else 1)).astype(np.int64)
        sums = table.assign(_units=units).groupby(["Territory", "Period"], sort=True)["_units"].sum().reset_index()
        sums["Value"] = sums["_units"] / 100 if money else sums["_units"].astype(float)
        parts.append(sums.assign(Component=component, Unit=published.currency if money else "count"))
    return pd.concat(parts, ignore_index=True)[list(QUOTA)]


def crm_table(run: str | Path) -> pd.DataFrame:
    """Markets by territory: what to sell there, to whom, with which play, and the leads that come.

    Parameters
    ----------
    run : str or Path
        A finished run folder.

    Returns
    -------
    DataFrame
        Territory, Manager, Region, Market id, Market, Segment, Play, Target revenue, New customers, Odds, Leads due,
        Qualified leads due, From open leads, Customers to win. Columns that the run can't fill are left out; rows by
        territory, the largest target first.

    Raises
    ------
    InputError
        No finished run with targets.
    """
    published = read_published(run)
    _, name = _owner(published)
    units = published.units()
    units["Territory"] = units["market_id"].map(name).fillna(NO_TERRITORY)
    tables = published.folder / "tables"
    funnel = _table(tables / "funnel.parquet")
    if funnel is not None:
        columns = [c for c in ("leads", "sql", "from_pipeline") if c in funnel and funnel[c].notna().any()]
        funnel = funnel.assign(**{k: funnel[k].astype(object).map(str) for k in KEYS})
        sums = funnel.groupby(KEYS)[columns].sum(min_count=1).astype(float).reset_index()
        units = units.merge(sums, on=KEYS, how="left")
    scores = _table(tables / "scores.parquet")
    if scores is not None:
        columns = [c for c in ("play", "headroom") if c in scores]
        scores = scores.assign(market_id=scores["market_id"].astype(object).map(str))
        units = units.merge(scores[["market_id", *columns]], on="market_id", how="left")
    named = {
        "Territory": "Territory", "manager": "Manager", "region": "Region", "market_id": "Market id", "name": "Market",
        "segment": "Segment", "play": "Play", "revenue": "Target revenue", "new_customers": "New customers",
        "p_attain": "Odds", "leads": "Leads due", "sql": "Qualified leads due", "from_pipeline": "From open leads",
        "headroom": "Customers to win in the market",
    }  # fmt: skip
    units = units.sort_values(["Territory", "revenue", *KEYS], ascending=[True, False, True, True], kind="stable")
    table = units[[c for c in named if c in units]].rename(columns=named).reset_index(drop=True)
    for column in ("Manager", "Region", "Play"):
        if column in table:
            table[column] = table[column].astype(object).where(table[column].notna(), "")
    for column in ("Target revenue", "Odds", "From open leads", "Customers to win in the market"):
        if column in table:
            table[column] = table[column].astype(float).round(4 if column == "Odds" else 2)
    return table


def write_table(table: pd.DataFrame, path: str | Path) -> Path:
    """Writes ``.csv`` (UTF-8 with a byte order mark, comma, point) or ``.xlsx`` (one sheet) at once.

    In CSV a text that a spreadsheet would take for a formula gets an apostrophe in front; in xlsx texts are texts.

    Parameters
    ----------
    table : DataFrame
    path : str or Path

    Returns
    -------
    Path
        The file, absolute.

    Raises
    ------
    InputError
        Another suffix; a place inside a run folder, which is never changed.
    """
    path = Path(path).absolute()
    writers: dict[str, Callable[[Path], Any]] = {
        ".csv": lambda p: write_csv(table, p),
        ".xlsx": lambda p: write_xlsx(table, p),
    }
    if path.suffix.lower() not in writers:
        expected = did_you_mean(path.suffix, list(writers))
        raise InputError([Problem(str(path), f"a file name that ends in {expected}", value=shown(path.suffix))])
    refuse_run_folder(path, "a published run is never changed")
    return write_atomically(path, writers[path.suffix.lower()])


def refuse_run_folder(path: Path, why: str) -> None:
    """Raises ``InputError`` where ``path`` lies in a run folder."""
    if any((folder / name).exists() for folder in path.parents for name in ("manifest.json", "plan.json")):
        raise InputError([Problem(str(path), f"a place outside the folder of a plan: {why}")])


def period_label(days: pd.Series, kind: str) -> pd.Series:
    """First days of periods as quota systems name them.

    >>> period_label(pd.Series(pd.to_datetime(["2026-07-01"])), "quarter").tolist()
    ['2026-Q3']
    """
    if kind == "week":
        iso = days.dt.isocalendar()
        return iso["year"].astype(str) + "-W" + iso["week"].astype(str).str.zfill(2)
    if kind == "quarter":
        return days.dt.year.astype(str) + "-Q" + days.dt.quarter.astype(str)
    return days.dt.strftime("%Y-%m")


def _owner(run: PublishedRun) -> tuple[str, pd.Series]:
    """The level that quotas go to, and its name by market."""
    places = run.places.drop_duplicates("market_id").set_index("market_id")
    for level in ("territory", "region", "name"):
        if (places[level] != "").any():
            return level, places[level].where(places[level] != "", NO_TERRITORY)
    return "name", places["name"]


def _table(path: Path) -> pd.DataFrame | None:
    return pd.read_parquet(path) if path.is_file() else None


def plain_text(value: object) -> str:
    """A text as CSV may hold it: printable, and no formula.

    >>> plain_text("=1+1"), plain_text("North")
    ("'=1+1", 'North')
    """
    text = "".join(c for c in str(value) if c.isprintable())
    # judged as it will stand there: what can't be seen is gone, and blanks in front don't stop a spreadsheet
    risky = text.lstrip().startswith(_FORMULA) or str(value).startswith(("\t", "\r", "\n"))
    return f"'{text}" if risky else text


def _is_text(column: pd.Series) -> bool:
    return not pd.api.types.is_numeric_dtype(column)


def write_csv(table: pd.DataFrame, path: Path) -> None:
    shown_as = table.copy()
    for column in table.columns:
        if _is_text(table[column]):
            shown_as[column] = table[column].map(lambda v: "" if pd.isna(v) else plain_text(v))
    path.write_bytes(shown_as.to_csv(index=False, lineterminator="\r\n").encode("utf-8-sig"))


def write_xlsx(table: pd.DataFrame, path: Path) -> None:
    options = {"strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}
    book = xlsxwriter.Workbook(str(path), options)
    book.set_properties({"created": pd.Timestamp("2000-01-01").to_pydatetime()})  # equal tables, equal bytes
    sheet, bold = book.add_worksheet("Import"), book.add_format({"bold": True})
    for at, column in enumerate(table.columns):
        sheet.write_string(0, at, str(column), bold)
        text = _is_text(table[column])
        sheet.set_column(at, at, 24 if text else 14)
        for row, value in enumerate(table[column], start=1):
            if pd.isna(value):
                continue
            if text:
                sheet.write_string(row, at, "".join(c for c in str(value) if c.isprintable())[:32_000])
            else:
                sheet.write_number(row, at, float(value))
    sheet.freeze_panes(1, 0)
    sheet.autofilter(0, 0, len(table), len(table.columns) - 1)
    book.close()
