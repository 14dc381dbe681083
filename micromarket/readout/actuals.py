"""Actuals as the company has them, and the published targets that they are held against."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pandas as pd

from micromarket.calendar import frequency_of
from micromarket.config import Source
from micromarket.errors import InputError, Problem, shown
from micromarket.sources import Engine, RawTable, read_source
from micromarket.validate import as_date, as_number, as_text, check_table

DAY = pd.Timedelta(days=1)
_BETWEEN = "\x1f"  # market and segment, while the table is checked


@dataclass(frozen=True)
class Actuals:
    """``frame``: market_id, period, new_customers and, where the company has them, segment, revenue, leads;
    ``frequency``: day, week or month."""

    frame: pd.DataFrame
    frequency: str


@dataclass(frozen=True)
class Promise:
    """What a run published: ``plan.json``, period of the targets, targets; where the run has them, limits with the
    forecast, and the funnel; who answers for a market (indexed by market_id: name, region, territory)."""

    plan: dict[str, Any]
    period: str
    targets: pd.DataFrame
    limits: pd.DataFrame | None
    funnel: pd.DataFrame | None
    places: pd.DataFrame


def published(run: Path) -> Promise:
    """Reads a finished run folder.

    Raises
    ------
    InputError
        Naming what is missing or can't be read.
    """
    problems = []
    for inside, why in (
        ("plan.json", "a finished run folder"),
        ("manifest.json", "a finished run folder"),
        ("tables/targets.parquet", "a run with targets"),
    ):
        if not (run / inside).is_file():
            problems.append(Problem(str(run / inside), why, value="nothing there"))
    if problems:
        raise InputError(problems)
    try:
        plan = json.loads((run / "plan.json").read_text(encoding="utf-8"))
        period = json.loads((run / "manifest.json").read_text(encoding="utf-8"))["settings"]["targets"]["period"]
        tables = {
            name: pd.read_parquet(path) if (path := run / f"tables/{name}.parquet").is_file() else None
            for name in ("targets", "target_limits", "funnel", "territories")
        }
    except (OSError, ValueError, KeyError) as error:
        raise InputError([Problem(str(run), "a finished run folder", value=shown(str(error)))]) from error
    for table in tables.values():
        for column in ("market_id", "segment"):
            if table is not None and column in table:
                table[column] = table[column].astype(str)
        if table is not None and "period" in table:
            table["period"] = days_of(table["period"])
    targets, places = tables["targets"], tables["territories"]
    assert targets is not None
    ids = pd.Index(sorted(set(targets["market_id"])), name="market_id")
    known = pd.DataFrame(index=ids, columns=["name", "region", "territory"], dtype=object)
    if places is not None:
        known = places.drop_duplicates("market_id").set_index("market_id").reindex(ids)[["name", "region", "territory"]]
    return Promise(plan, period, targets, tables["target_limits"], tables["funnel"], known)


def joined_markets(run: Path) -> dict[str, str]:
    """The plan's market by the company's own, where the plan joined some."""
    path = run / "tables/market_map.parquet"
    if not path.is_file():
        return {}
    found = pd.read_parquet(path)
    return dict(zip(found["original_id"].astype(str), found["market_id"].astype(str), strict=True))


def read_actuals(paths: Sequence[Path], known: set[str], segments: set[str], joined: Mapping[str, str]) -> Actuals:
    """Every file, checked; all problems at once.

    Parameters
    ----------
    paths : sequence of Path
        Tables in the format of ``outcomes``, with ``segment`` and ``leads`` if the company has them.
    known, segments : set of str
        Of the plan.
    joined : mapping
        See :func:`joined_markets`; actuals may speak of either market.
    """
    problems: list[Problem] = []
    frames = []
    for path in paths:
        with Engine() as engine:
            try:
                raw = read_source(engine, Source("outcomes", path=path.absolute(), shown_as=path.name))
                frame = _one(raw, path.name, problems)
            except InputError as error:
                problems += error.problems
                continue
        if frame is None:
            continue
        for column, allowed, expected in (
            ("market_id", known | set(joined), "a market of the plan"), ("segment", segments, "a segment of the plan"),
        ):  # fmt: skip
            if column not in frame:
                continue
            unknown = frame.loc[~frame[column].isin(allowed), column]
            if len(unknown):
                first = unknown.index[0] + 1
                problems.append(Problem(path.name, expected, column, first, shown(unknown.iloc[0]), len(unknown) - 1))
        frames.append(frame)
    files = ", ".join(p.name for p in paths)
    if not problems and len({"segment" in f for f in frames}) > 1:
        problems.append(Problem(files, "a segment in every file, or in none", "segment"))
    if problems:
        raise InputError(problems)
    every = pd.concat(frames, ignore_index=True).dropna(axis=1, how="all")
    every["period"] = days_of(every["period"])
    keys = ["market_id", *(["segment"] if "segment" in every else []), "period"]
    twice = every.duplicated(keys)
    if twice.any():
        row = every[twice].iloc[0]
        value = shown(", ".join([*(str(row[k]) for k in keys[:-1]), f"{row['period']:%Y-%m-%d}"]))
        expected = "one row a market and period" if len(keys) == 2 else "one row a market, segment and period"
        raise InputError([Problem(files, expected, ", ".join(keys), None, value, int(twice.sum()) - 1)])
    if joined:
        every["market_id"] = every["market_id"].map(joined).fillna(every["market_id"])
        every = every.groupby(keys, as_index=False).sum(min_count=1)
    days = every["period"].drop_duplicates().sort_values()
    daily = len(days) > 1 and float(days.diff().dt.days.median()) <= 1
    return Actuals(every, "day" if daily else frequency_of(days)[0])


def _one(raw: RawTable, name: str, problems: list[Problem]) -> pd.DataFrame | None:
    """A table of the contract's ``outcomes`` and its further columns ``segment`` and ``leads``; None: problems."""
    columns = set(raw.table.columns)
    extra = [c for c in ("segment", "leads") if c in columns]
    if "segment" in extra and "market_id" in columns:  # a market may then stand in one row a segment

        def paired(table: ibis.Table) -> ibis.Table:
            both = as_text(table["market_id"]) + _BETWEEN + as_text(table["segment"]).fill_null("")
            return table.mutate(market_id=both)

        raw = dataclasses.replace(raw, table=paired(raw.table), numbered=paired(raw.numbered))
    found = check_table(raw, dt.date.max)
    if found:
        problems += [dataclasses.replace(p, value=_plain(p.value)) for p in found]
        return None
    casts = {"market_id": as_text, "period": as_date, "new_customers": as_number, "revenue": as_number,
             "leads": as_number}  # fmt: skip
    frame = raw.table.select(**{c: cast(raw.table[c]) for c, cast in casts.items() if c in columns}).to_pandas()
    frame["market_id"] = frame["market_id"].astype(str)
    if "leads" in extra:
        bad = ~(frame["leads"] >= 0)
        if bad.any():
            problems.append(Problem(name, "a number of at least 0", "leads", int(np.flatnonzero(bad)[0]) + 1, None,
                                    int(bad.sum()) - 1))  # fmt: skip
            return None
    if "segment" in extra:
        frame[["market_id", "segment"]] = frame["market_id"].str.split(_BETWEEN, n=1, expand=True).to_numpy()
    return frame


def _plain(value: str | None) -> str | None:
    return None if value is None else value.replace("\\x1f", ", ").replace(_BETWEEN, ", ")


def days_of(values: pd.Series) -> pd.Series:
    return pd.to_datetime(values).dt.normalize().astype("datetime64[us]")


def period_end(starts: pd.Series, period: str) -> pd.Series:
    """First day after each period."""
    if period in ("day", "week"):
        return starts + {"day": 1, "week": 7}[period] * DAY
    return starts + pd.DateOffset(months={"month": 1, "quarter": 3}[period])


def within(begins: pd.Series, ends: pd.Series, since: pd.Timestamp, through: pd.Timestamp) -> pd.Series:
    """Share of each span's days from ``since`` up to and including ``through``."""
    last, first = ends.where(ends < through + DAY, through + DAY), begins.where(begins > since, since)
    inside = (last - first).dt.days.clip(lower=0)
    return inside / (ends - begins).dt.days.clip(lower=1)
