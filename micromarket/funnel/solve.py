"""What marketing owes sales: the leads behind every targeted customer, by the company's own rates and lag."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from micromarket.config import Settings
from micromarket.disclosure import hidden_groups
from micromarket.funnel.conversion import STAGES, estimate_conversion
from micromarket.funnel.lifetable import life_tables
from micromarket.funnel.pipeline import Projection, coverage, project, through_leads
from micromarket.funnel.service import COLUMNS as SERVICE
from micromarket.funnel.service import lead_channels, rejection_reasons, service_levels
from micromarket.funnel.words import notes_of
from micromarket.market_data import MarketData
from micromarket.notes import Notes
from micromarket.rounding import largest_remainder, spread_whole
from micromarket.workspace import Workspace

_COLUMNS = ("leads", *STAGES)


@dataclass(frozen=True)
class FunnelResult:
    """The table ``funnel`` (``None``: can't be told, the notes say why), what stands behind it, the stage's notes.

    ``won`` equals the target's new customers, row by row. ``leads`` have to be *created*, and ``mql``, ``sal``, ``sql``
    reached, in the period; whole counts, empty for stages that the company does not record. In the notes, ``rates`` are
    shares of leads that reach a stage; ``lag_days`` is the mean time from a lead to its win. ``from_pipeline`` (where
    open leads are known) are the wins expected of the leads open today. ``pipeline``: open leads against the need, with
    service levels; ``channels``: what each channel's leads end in and cost (see the artefacts).
    """

    funnel: pd.DataFrame | None
    notes: Notes
    pipeline: pd.DataFrame | None = None
    channels: pd.DataFrame | None = None

    def write(self, workspace: Workspace) -> None:
        """Leaves the tables, if any, and the notes in ``workspace``."""
        for name, frame in (("funnel", self.funnel), ("pipeline", self.pipeline), ("lead_channels", self.channels)):
            if frame is not None:
                workspace.write(name, frame)
        workspace.write_notes("funnel", self.notes)


def back_solve(
    data: MarketData, targets: pd.DataFrame | None, budget: pd.DataFrame | None, settings: Settings
) -> FunnelResult:
    """Leads, MQL, SAL and SQL that the targets need, per market x segment x period.

    Each stage of a cell is ``won * share of leads that reach the stage / share that are won``, moved earlier by its
    part of the mean lag. The lag runs around the end of the plan: the leads of its last weeks, whose wins fall after
    it, are taken to be as many as those that the pipeline open today still owes its first weeks. So every stage's
    total over the plan is the total that its wins need.

    Parameters
    ----------
    data : MarketData
    targets : DataFrame or None
    budget : DataFrame or None
        Not used yet: the mix of channels is the one of the past.
    settings : Settings

    Returns
    -------
    FunnelResult
        Whole numbers that add up; no table where there are no targets or no leads.
    """
    if targets is None or targets.empty:
        return _nothing("No funnel: there are no targets to work back from.")
    if data.leads is None or data.leads.empty:
        return _nothing("No funnel: there are no leads in the data, so the rates at which they turn into customers are"
                        " unknown. Benchmarks of others are not used in their place.")  # fmt: skip
    targets = targets.sort_values(["market_id", "segment", "period"], kind="stable").reset_index(drop=True)
    cells = targets[["market_id", "segment"]].drop_duplicates().reset_index(drop=True)
    tables = life_tables(data.lead_steps) if data.lead_steps is not None and len(data.lead_steps) else None
    as_of = pd.Timestamp(settings.as_of)
    conversion = estimate_conversion(data.leads, cells, as_of, tables)
    if conversion is None:
        return _nothing("No funnel: none of the leads in the data was won yet, so no rate can be told.")

    periods = len(targets) // len(cells)
    won = targets["new_customers"].to_numpy(dtype=np.int64).reshape(len(cells), periods)
    days = settings.plan.days / periods
    reach = {s: conversion.cells[s].to_numpy(float) for s in conversion.stages}
    counts: dict[str, np.ndarray] = {"won": won}
    later = won
    steps = ["leads", *conversion.stages[:-1]]
    for position in range(len(steps) - 1, -1, -1):
        stage = steps[position]
        lag = conversion.lags[:, position] / days
        part = reach[stage] if stage in reach else np.ones(len(cells))
        needed = won.sum(axis=1) * part / reach["won"]
        whole = np.maximum(largest_remainder(needed), later.sum(axis=1))
        # a period can't hold fewer than the next stage has in it: those first, the rest as the lag has it
        later = later + spread_whole(whole - later.sum(axis=1), _surplus(_earlier(won, lag), whole, later))
        counts[stage] = later
    table = targets[["market_id", "segment", "period"]].copy()
    for column in _COLUMNS:
        table[column] = counts[column].ravel() if column in counts else pd.array([pd.NA] * len(table), dtype="Int64")
        table[column] = table[column].astype("Int64")
    share = through_leads(data.leads, conversion, data.history, as_of)
    channels = lead_channels(
        data.leads, conversion, tables, data.spend, int(table["leads"].sum()), as_of, settings.report.min_cell
    )
    projection, pipeline = None, None
    if tables is not None and data.open_leads is not None:
        projection = project(data.open_leads, tables, conversion, targets, settings, share)
        table["from_pipeline"] = projection.by_period.ravel()
        pipeline = _pipeline(projection, data, settings.report.min_cell)
    reasons = rejection_reasons(data.lead_reasons, settings.report.min_cell)
    notes = notes_of(table, conversion, won, share, channels, pipeline, projection, reasons)
    return FunnelResult(table, notes, pipeline, channels)


def _pipeline(projection: Projection, data: MarketData, min_cell: int) -> pd.DataFrame:
    """Coverage and service level, without counts of few leads."""
    table = coverage(projection, data.markets)
    service = service_levels(data.lead_steps)
    table = table.merge(service, on=["level", "key"], how="left")
    for column in SERVICE:
        table[column] = table[column].astype(float)
    return hide_few(table, data.markets, min_cell)


def hide_few(table: pd.DataFrame, markets: pd.DataFrame, min_cell: int) -> pd.DataFrame:
    """The artefact ``pipeline`` without counts of fewer leads than ``min_cell``, or those that would give them away."""
    shown, within = table.copy(), _adds_up_to(table, markets)
    for column in ("open_leads", "waiting", "overdue"):
        for rows in shown.groupby(within, sort=True).groups.values():
            few = hidden_groups(shown.loc[rows, column], min_cell, zeros=False)
            shown.loc[rows[few], column] = np.nan
    return shown


def _adds_up_to(table: pd.DataFrame, markets: pd.DataFrame) -> pd.Series:
    """What a row's counts are a part of: the company's, or of a territory its region's."""
    within = table["level"].copy()
    if {"region", "territory"} <= set(markets.columns):
        homes = markets.dropna(subset=["region", "territory"]).astype({"region": str, "territory": str})
        home = homes.groupby("territory", sort=True)["region"].agg(lambda r: r.mode().iloc[0])
        of = "territory of " + table["key"].map(home).fillna("")
        within = within.where(table["level"] != "territory", of)
    return within


def _nothing(why: str) -> FunnelResult:
    return FunnelResult(None, Notes(warnings=(why,)))


def _earlier(won: np.ndarray, periods: np.ndarray) -> np.ndarray:
    """``won`` moved ahead in time by a (fractional) number of periods, row by row, around the end; sums are kept."""
    whole = np.floor(periods).astype(int)[:, None]
    part = periods[:, None] - whole
    at = np.arange(won.shape[1])[None, :] + whole
    now, then = (np.take_along_axis(won, (at + k) % won.shape[1], axis=1) for k in (0, 1))
    return (1 - part) * now + part * then


def _surplus(profile: np.ndarray, totals: np.ndarray, floor: np.ndarray) -> np.ndarray:
    """Where the wanted profile exceeds what is there already; the profile itself where it does nowhere."""
    sums = profile.sum(axis=1, keepdims=True)
    wanted = np.where(sums > 0, profile / np.where(sums > 0, sums, 1), 1 / profile.shape[1]) * totals[:, None]
    return np.maximum(wanted - floor, 0.0)


def follow_targets(funnel: pd.DataFrame, targets: pd.DataFrame) -> pd.DataFrame:
    """The funnel of targets that were changed a little (the field round): cells keep their rates and their profile.

    Parameters
    ----------
    funnel : DataFrame
        As :func:`back_solve` made it.
    targets : DataFrame
        The same rows, with other ``new_customers``.

    Returns
    -------
    DataFrame
        Rows as in ``funnel``; ``won`` equals ``new_customers``; cells whose wins don't change are untouched.
    """
    keys = ["market_id", "segment", "period"]
    table = funnel.sort_values(keys, kind="stable").reset_index(drop=True)
    wanted = targets.sort_values(keys, kind="stable").reset_index(drop=True)
    periods = len(table) // max(len(table[keys[:2]].drop_duplicates()), 1)
    shape = (-1, periods)
    before = table["won"].to_numpy(dtype=np.int64).reshape(shape)
    won = wanted["new_customers"].to_numpy(dtype=np.int64).reshape(shape)
    changed = (before != won).any(axis=1)
    later = won
    for stage in reversed(_COLUMNS[:-1]):
        if table[stage].isna().all():
            continue
        old = table[stage].to_numpy(dtype=np.int64).reshape(shape)
        ratio = won.sum(axis=1) / np.maximum(before.sum(axis=1), 1)
        company = old.sum() / max(before.sum(), 1)
        needed = np.where(before.sum(axis=1) > 0, old.sum(axis=1) * ratio, won.sum(axis=1) * company)
        whole = np.maximum(np.round(needed).astype(np.int64), later.sum(axis=1))
        new = later + spread_whole(whole - later.sum(axis=1), _surplus(old.astype(float), whole, later))
        later = np.where(changed[:, None], new, np.maximum(old, later))
        table[stage] = pd.array(later.ravel(), dtype="Int64")
    table["won"] = pd.array(won.ravel(), dtype="Int64")
    return table
