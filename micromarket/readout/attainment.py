"""Attainment on any day of a plan: against targets and forecast, why it is off track, and where it will end."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from micromarket.errors import InputError, Problem
from micromarket.readout.actuals import (
    DAY,
    Actuals,
    Promise,
    joined_markets,
    period_end,
    published,
    read_actuals,
    within,
)
from micromarket.readout.words import in_words
from micromarket.targets.progress import Beliefs, causes, outlook

MEASURES = ("new_customers", "revenue")
CAUSES = ("volume", "conversion", "value")


@dataclass(frozen=True)
class Readout:
    """Attainment to date. Counts of new customers, revenue in the plan's currency.

    Attributes
    ----------
    since, through : date
        First and last day that both the plan and the actuals cover.
    markets, segments, territories, regions : DataFrame
        Indexed by market, segment, ...: ``<measure>_target``, ``<measure>_actual``, ``<measure>_attainment`` (a ratio;
        empty where the target is 0) for the measures ``new_customers`` and, where the actuals have it, ``revenue``.
        With revenue also ``volume``, ``conversion``, ``value`` (money): what actual less target consists of, to the
        cent; and where the run holds its forecast ``band_low``, ``band_high`` (90% range of the forecast to date),
        ``projection``, ``projection_low``, ``projection_high`` (the whole plan), ``plan_target``, ``p_attain`` (odds of
        it now) and ``off_track`` (below, above or empty). Empty where the groups, or actuals by segment, are not known.
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
    segments: pd.DataFrame = field(default_factory=pd.DataFrame)
    territories: pd.DataFrame = field(default_factory=pd.DataFrame)
    names: pd.Series = field(default_factory=lambda: pd.Series(dtype=object))

    def to_text(self, most: int = 10) -> str:
        """For the terminal: the total and why, groups, and the ``most`` markets that are furthest behind."""
        return in_words(self, most)

    def to_frame(self) -> pd.DataFrame:
        """All levels in one table: level, key, name, then the columns of the levels."""
        levels = [("company", self.total.to_frame().T.set_axis(["company"])), ("region", self.regions),
                  ("territory", self.territories), ("segment", self.segments), ("market", self.markets)]  # fmt: skip
        parts = []
        for level, frame in levels:
            if len(frame):
                keys = [str(k) for k in frame.index]
                names = [str(self.names.get(k, k)) if level == "market" else k for k in keys]
                parts.append(
                    pd.DataFrame({"level": level, "key": keys, "name": names}).join(frame.reset_index(drop=True))
                )
        return pd.concat(parts, ignore_index=True)


def readout(
    run: str | Path,
    actuals: Sequence[str | Path],
    regions: pd.Series | None = None,
    through: dt.date | None = None,
) -> Readout:
    """Compares actuals with the targets, and the forecast, of a published run.

    A target counts for the part of its period that the actuals cover, day by day; so do actuals of a week or month
    that begins before the plan or ends after it.

    Parameters
    ----------
    run : str or Path
        Run folder with ``plan.json``, ``manifest.json`` and ``tables/targets.parquet``.
    actuals : sequence of str or Path
        Tables in the format of ``outcomes``: ``market_id, period, new_customers`` and optionally ``revenue``,
        ``segment``, ``leads`` (created in the period).
    regions : Series, optional
        Region by ``market_id``; default: as the run has them.
    through : date, optional
        Last day that the actuals cover, where the last week or month isn't over.

    Returns
    -------
    Readout

    Raises
    ------
    InputError
        With every problem: no run folder, no targets in it, unreadable or invalid actuals, unknown markets, no day
        in common.
    """
    promise = published(Path(run))
    got = read_actuals(
        [Path(a) for a in actuals],
        set(promise.targets["market_id"]),
        set(promise.targets["segment"]),
        joined_markets(Path(run)),
    )
    return attained(promise, got, regions, through, ", ".join(Path(a).name for a in actuals))


def attained(
    promise: Promise,
    got: Actuals,
    regions: pd.Series | None = None,
    through: dt.date | None = None,
    files: str = "actuals",
) -> Readout:
    """As :func:`readout`, with the promise and the actuals at hand.

    Raises
    ------
    InputError
        Where plan and actuals have no day in common, with ``files`` as what is to blame.
    """
    targets = promise.targets
    frame = got.frame
    start, end = (pd.Timestamp(promise.plan["plan"][k]) for k in ("start", "end"))
    after = period_end(frame["period"], got.frequency)
    if through is not None:
        after = after.where(after < pd.Timestamp(through) + DAY, pd.Timestamp(through) + DAY)
        frame, after = frame[after > frame["period"]], after[after > frame["period"]]
    since = max(start, frame["period"].min()) if len(frame) else end + DAY
    until = min(end, after.max() - DAY) if len(frame) else end
    if until < since:
        last = period_end(got.frame["period"], got.frequency).max() - DAY
        days = f"{got.frame['period'].min():%Y-%m-%d} to {last:%Y-%m-%d}"
        raise InputError(
            [Problem(files, f"days within the plan, {start:%Y-%m-%d} to {end:%Y-%m-%d}", "period", value=days)]
        )
    by = ["market_id", "segment"] if "segment" in frame.columns else ["market_id"]
    cells = _cells(promise, frame, after, by, since, until, start, end)
    places = promise.places.copy()
    if regions is not None:
        places["region"] = regions.reindex(places.index)
    measures = [m for m in MEASURES if f"{m}_actual" in cells]
    judged = _Judge(promise, cells, places, by, measures)
    market = cells.index.get_level_values("market_id")
    notes = []
    if since > start:
        notes.append(f"The actuals begin on {since:%Y-%m-%d}; targets before that day are left out.")
    every = targets["market_id"].drop_duplicates()
    silent = int((~every.isin(frame["market_id"])).sum())
    if silent:
        notes.append(f"{silent:,} of {len(every):,} markets have no actuals at all and count as 0.")

    def group(keys: pd.Series | None) -> pd.DataFrame:
        return pd.DataFrame() if keys is None else judged(keys)

    def place(column: str, empty: str) -> pd.Series | None:
        known = places[column].astype(object)
        if not known.notna().any() or (column == "region" and regions is None and known.nunique() < 2):
            return None
        named = known.where(known.notna(), empty).to_dict()
        return pd.Series([named[m] for m in market], index=cells.index, name=column)

    total = judged(pd.Series("company", index=cells.index, name="level")).iloc[0]
    segments = pd.Series(cells.index.get_level_values("segment"), cells.index, name="segment") if len(by) > 1 else None
    names = places["name"].where(places["name"].notna(), places.index.to_series())
    return Readout(
        since.date(), until.date(), str(promise.plan.get("currency", "")),
        judged(pd.Series(market, index=cells.index, name="market_id")), group(place("region", "no region")), total,
        tuple(notes), group(segments), group(place("territory", "no territory")), names,
    )  # fmt: skip


def _cells(
    promise: Promise, frame: pd.DataFrame, after: pd.Series, by: list[str], since: pd.Timestamp, until: pd.Timestamp,
    start: pd.Timestamp, end: pd.Timestamp,
) -> pd.DataFrame:  # fmt: skip
    """Targets to date and of the whole plan, actuals, leads due and created: one row a cell, sorted."""
    targets = promise.targets
    measures = [m for m in MEASURES if m in frame.columns and m in targets.columns]

    def due(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
        begins = table["period"].where(table["period"] > start, start)
        ends = period_end(table["period"], promise.period)
        planned = within(begins, ends.where(ends < end + DAY, end + DAY), since, until)
        return table[columns].mul(planned, axis=0).groupby([table[k] for k in by]).sum()

    wanted = due(targets, measures)
    whole = targets.groupby(by)[measures].sum()
    columns = [*measures, *(["leads"] if "leads" in frame.columns and promise.funnel is not None else [])]
    happened = within(frame["period"], after, since, until)
    came = frame[columns].mul(happened, axis=0).groupby([frame[k] for k in by]).sum().reindex(wanted.index).fillna(0.0)
    cells = pd.DataFrame(index=wanted.index)
    for m in measures:
        cells[f"{m}_target"], cells[f"{m}_actual"], cells[f"{m}_plan"] = wanted[m], came[m], whole[m]
    if "leads" in columns and promise.funnel is not None:
        cells["leads_due"] = due(promise.funnel, ["leads"])["leads"].reindex(wanted.index).fillna(0.0)
        cells["leads_got"] = came["leads"]
    return cells


class _Judge:
    """Sums of the cells by any grouping, with causes of the gap, band and projection."""

    def __init__(
        self, promise: Promise, cells: pd.DataFrame, places: pd.DataFrame, by: list[str], measures: list[str]
    ) -> None:
        self.cells, self.measures, self.limits = cells, measures, promise.limits
        self.beliefs: Beliefs | None = None
        if promise.limits is None or "revenue" not in measures:
            return
        region = places["region"].astype(object)
        self.beliefs = Beliefs.of(promise.limits, region.where(region.notna(), ""), by)
        self.season = (cells["revenue_target"] / cells["revenue_plan"].where(cells["revenue_plan"] > 0)).fillna(0.0)
        mu = self.beliefs.mu
        self.part = float((self.season * mu).sum() / max(mu.sum(), 1e-12))
        weighed = promise.limits.assign(_all=promise.limits["each"] * promise.limits["forecast"])
        sums = weighed.groupby(by, sort=True)[["_all", "forecast"]].sum()
        each = (sums["_all"] / sums["forecast"].where(sums["forecast"] > 0)).fillna(0.0).to_numpy()
        # customers are won evenly, so who has come by now has paid for half of the days so far: a share of the whole
        # plan's (who came evenly over it) that grows with the days
        gap = (cells["revenue_actual"] - cells["revenue_target"]).to_numpy()
        leads = (cells["leads_got"].to_numpy(), cells["leads_due"].to_numpy()) if "leads_due" in cells else None
        self.why = causes(gap, cells["new_customers_actual"].to_numpy(), leads, each * self.part,
                          cells["new_customers_target"].to_numpy())  # fmt: skip

    def __call__(self, keys: pd.Series) -> pd.DataFrame:
        codes, names = pd.factorize(keys, sort=True)
        columns = [f"{m}_{what}" for m in self.measures for what in ("target", "actual")]
        out = pd.DataFrame(
            {c: np.bincount(codes, self.cells[c].to_numpy(float), len(names)) for c in columns},
            index=pd.Index(names, name=keys.name),
        )
        for m in self.measures:
            out[f"{m}_attainment"] = out[f"{m}_actual"] / out[f"{m}_target"].where(out[f"{m}_target"] > 0)
        if self.beliefs is None:
            return out
        for cause in CAUSES[:2]:
            out[cause] = np.round(np.bincount(codes, self.why[cause], len(names)), 2)
        out["value"] = (out["revenue_actual"] - out["revenue_target"]).round(2) - out["volume"] - out["conversion"]
        plan = self.cells["revenue_plan"].to_numpy(float)
        seen = outlook(self.beliefs, self.season.to_numpy() * self.beliefs.mu,
                       self.cells["revenue_actual"].to_numpy(float), self.part, plan, codes)  # fmt: skip
        out["plan_target"] = np.bincount(codes, plan, len(names))
        out[list(seen.columns)] = seen.to_numpy()
        low, high = out["revenue_actual"] < out["band_low"], out["revenue_actual"] > out["band_high"]
        out["off_track"] = np.where(low, "below", np.where(high, "above", ""))
        return out
