"""What a plan has brought so far: actuals against the targets of the same days, by market, region and in total."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from micromarket.calendar import frequency_of
from micromarket.config import Source
from micromarket.errors import InputError, Problem, shown
from micromarket.sources import Engine, read_source
from micromarket.validate import check_table, typed

_MEASURES = ("new_customers", "revenue")
_DAY = pd.Timedelta(days=1)


@dataclass(frozen=True)
class Readout:
    """Attainment to date. Counts of new customers, revenue in the plan's currency.

    Attributes
    ----------
    since, through : date
        First and last day that both the plan and the actuals cover.
    markets, regions : DataFrame
        Indexed by market or region: ``<measure>_target``, ``<measure>_actual``, ``<measure>_attainment`` (a ratio;
        empty where the target is 0) for the measures ``new_customers`` and, where the actuals have it, ``revenue``.
        ``regions`` is empty where regions are not known.
    total : Series
        The same for the company.
    notes : tuple of str
    """

    since: dt.date
    through: dt.date
    currency: str
    markets: pd.DataFrame
    regions: pd.DataFrame
    total: pd.Series
    notes: tuple[str, ...] = ()

    def to_text(self, most: int = 10) -> str:
        """For the terminal: the total, regions, and the ``most`` markets that are furthest behind."""
        measures = [m for m in _MEASURES if f"{m}_actual" in self.markets.columns]
        unit = {"new_customers": "new customers", "revenue": f"revenue ({self.currency})"}
        lines = [f"From {self.since} through {self.through}"]
        for m in measures:
            ratio = self.total[f"{m}_attainment"]
            lines.append(
                f"{unit[m]}: {self.total[f'{m}_actual']:,.0f} of {self.total[f'{m}_target']:,.0f} planned to date"
                + (f" ({ratio:.0%})" if np.isfinite(ratio) else "")
            )
        behind = self.markets.assign(
            gap=self.markets[f"{measures[-1]}_target"] - self.markets[f"{measures[-1]}_actual"]
        )
        behind = behind[behind["gap"] > 0].sort_values("gap", ascending=False, kind="stable").head(most)
        for title, frame in (("By region", self.regions), ("Markets furthest behind", behind)):
            if len(frame):
                lines += ["", title, _table(frame, measures)]
        return "\n".join([*lines, *(["", *(f"Note: {n}" for n in self.notes)] if self.notes else [])])


def _table(frame: pd.DataFrame, measures: Sequence[str]) -> str:
    columns = {}
    for m in measures:
        word = m.replace("_", " ")
        columns[f"{word}: target"] = frame[f"{m}_target"].map("{:,.0f}".format)
        columns[f"{word}: actual"] = frame[f"{m}_actual"].map("{:,.0f}".format)
        columns[f"{word}: attained"] = frame[f"{m}_attainment"].map(lambda v: f"{v:.0%}" if np.isfinite(v) else "")
    index = pd.Index([shown(str(i), 30).strip("'") for i in frame.index], name=frame.index.name)
    return pd.DataFrame(columns).set_axis(index).to_string()


def readout(run: str | Path, actuals: Sequence[str | Path], regions: pd.Series | None = None) -> Readout:
    """Compares actuals with the targets of a published run.

    A target counts for the part of its period that the actuals cover, day by day; so do actuals of a week or month
    that begins before the plan or ends after it.

    Parameters
    ----------
    run : str or Path
        Run folder with ``plan.json``, ``manifest.json`` and ``tables/targets.parquet``.
    actuals : sequence of str or Path
        Tables in the format of ``outcomes``: ``market_id, period, new_customers`` and optionally ``revenue``.
    regions : Series, optional
        Region by ``market_id``.

    Raises
    ------
    InputError
        With every problem: no run folder, no targets in it, unreadable or invalid actuals, unknown markets, no day
        in common.
    """
    plan, period, targets = _published(Path(run))
    frame, frequency = _actuals([Path(a) for a in actuals], set(targets["market_id"]), _joined_markets(Path(run)))
    start, end = (pd.Timestamp(plan["plan"][k]) for k in ("start", "end"))
    after = _period_end(frame["period"], frequency)
    since = max(start, frame["period"].min())
    through = min(end, after.max() - _DAY)
    files = ", ".join(Path(a).name for a in actuals)
    if through < since:
        days = f"{frame['period'].min():%Y-%m-%d} to {after.max() - _DAY:%Y-%m-%d}"
        raise InputError(
            [Problem(files, f"days within the plan, {start:%Y-%m-%d} to {end:%Y-%m-%d}", "period", value=days)]
        )
    measures = [m for m in _MEASURES if m in frame.columns and m in targets.columns]
    begins = targets["period"].where(targets["period"] > start, start)
    ends = _period_end(targets["period"], period)
    ends = ends.where(ends < end + _DAY, end + _DAY)
    planned = _within(begins, ends, since, through)
    happened = _within(frame["period"], after, since, through)
    wanted = targets[measures].mul(planned, axis=0).groupby(targets["market_id"]).sum()
    got = frame[measures].mul(happened, axis=0).groupby(frame["market_id"]).sum()
    markets = pd.DataFrame(index=wanted.index)
    for m in measures:
        markets[f"{m}_target"], markets[f"{m}_actual"] = wanted[m], got[m].reindex(wanted.index).fillna(0.0)
    notes = []
    if since > start:
        notes.append(f"The actuals begin on {since:%Y-%m-%d}; targets before that day are left out.")
    silent = len(wanted.index.difference(got.index))
    if silent:
        notes.append(f"{silent:,} of {len(wanted):,} markets have no actuals at all and count as 0.")
    by = pd.DataFrame()
    if regions is not None:
        by = markets.groupby(regions.reindex(markets.index).fillna("no region").rename("region")).sum()
    total = _attainment(markets.sum().to_frame().T, measures).iloc[0]
    return Readout(since.date(), through.date(), str(plan.get("currency", "")), _attainment(markets, measures),
                   _attainment(by, measures) if len(by) else by, total, tuple(notes))  # fmt: skip


def _published(run: Path) -> tuple[dict[str, Any], str, pd.DataFrame]:
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
        targets = pd.read_parquet(run / "tables/targets.parquet")
    except (OSError, ValueError, KeyError) as error:
        raise InputError([Problem(str(run), "a finished run folder", value=shown(str(error)))]) from error
    return plan, period, targets.assign(market_id=targets["market_id"].astype(str), period=_days(targets["period"]))


def _joined_markets(run: Path) -> dict[str, str]:
    """The plan's market by the company's own, where the plan joined some."""
    path = run / "tables/market_map.parquet"
    if not path.is_file():
        return {}
    found = pd.read_parquet(path)
    return dict(zip(found["original_id"].astype(str), found["market_id"].astype(str), strict=True))


def _actuals(paths: Sequence[Path], known: set[str], joined: Mapping[str, str]) -> tuple[pd.DataFrame, str]:
    """``known``: markets of the plan; ``joined``: see :func:`_joined_markets` (actuals may speak of either)."""
    problems, frames = [], []
    for path in paths:
        with Engine() as engine:
            try:
                raw = read_source(engine, Source("outcomes", path=path.absolute(), shown_as=path.name))
                found = check_table(raw, dt.date.max)
                if found:
                    problems += found
                    continue
                frame = typed(raw).to_pandas()
            except InputError as error:
                problems += error.problems
                continue
        frame["market_id"] = frame["market_id"].astype(str)
        unknown = frame.loc[~frame["market_id"].isin(known | set(joined)), "market_id"]
        if len(unknown):
            expected = "a market of the plan"
            first = unknown.index[0] + 1
            problems.append(Problem(path.name, expected, "market_id", first, shown(unknown.iloc[0]), len(unknown) - 1))
        frames.append(frame)
    if problems:
        raise InputError(problems)
    every = pd.concat(frames, ignore_index=True).dropna(axis=1, how="all")
    every["period"] = _days(every["period"])
    twice = every.duplicated(["market_id", "period"])
    if twice.any():
        row = every[twice].iloc[0]
        value = shown(f"{row['market_id']}, {row['period']:%Y-%m-%d}")
        files = ", ".join(p.name for p in paths)
        raise InputError(
            [Problem(files, "one row a market and period", "market_id, period", None, value, int(twice.sum()) - 1)]
        )
    if joined:
        every["market_id"] = every["market_id"].map(joined).fillna(every["market_id"])
        every = every.groupby(["market_id", "period"], as_index=False).sum(min_count=1)
    return every, frequency_of(every["period"].drop_duplicates())[0]


def _days(values: pd.Series) -> pd.Series:
    return pd.to_datetime(values).dt.normalize().astype("datetime64[us]")


def _period_end(starts: pd.Series, period: str) -> pd.Series:
    """First day after each period."""
    if period == "week":
        return starts + 7 * _DAY
    return starts + pd.DateOffset(months={"month": 1, "quarter": 3}[period])


def _within(begins: pd.Series, ends: pd.Series, since: pd.Timestamp, through: pd.Timestamp) -> pd.Series:
    """Share of each span's days from ``since`` up to and including ``through``."""
    last, first = ends.where(ends < through + _DAY, through + _DAY), begins.where(begins > since, since)
    inside = (last - first).dt.days.clip(lower=0)
    return inside / (ends - begins).dt.days.clip(lower=1)


def _attainment(frame: pd.DataFrame, measures: Sequence[str]) -> pd.DataFrame:
    done = frame.copy()
    for m in measures:
        done[f"{m}_attainment"] = done[f"{m}_actual"] / done[f"{m}_target"].where(done[f"{m}_target"] > 0)
    return done
