"""How leads turn into customers: shares that reach each stage, shrunk to their channel, open leads accounted for."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from micromarket.funnel.lifetable import LifeTables
from micromarket.periods import month_number

STAGES = ("mql", "sal", "sql", "won")
_MONTHS = 24  # leads older than this say little about today's sales team
_DAYS = 365.25 / 12


@dataclass(frozen=True)
class Conversion:
    """Own rates.

    Attributes
    ----------
    stages : tuple of str
        Stages that the company records, in order, the last is ``won``.
    company : dict
        Share of leads that reach each stage in the end.
    cells : DataFrame
        market_id, segment and one column a stage: share of the cell's leads that reach it (0 to 1).
    channels : DataFrame
        channel (sorted), leads (count behind the rates) and one column a stage: share of the channel's leads.
    placed : DataFrame
        market_id, segment (``All`` where leads name none of the plan's), channel and one column a stage: the same of
        the leads of a cell that came through a channel.
    lags : array of shape (cells, stages)
        Mean days to the win, of leads that are won, from the day they are created and from the stages before the
        win; rows as ``cells``.
    lag_days : float
        Mean days from a lead to its win.
    leads, won : int
        What the rates rest on.
    unplaced : float
        Share of leads without a market or a segment; they count for the rates of their channel only.
    """

    stages: tuple[str, ...]
    company: dict[str, float]
    cells: pd.DataFrame
    channels: pd.DataFrame
    placed: pd.DataFrame
    lags: np.ndarray
    lag_days: float
    leads: int
    won: int
    unplaced: float


def _shrink(success: np.ndarray, trials: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Beta-binomial empirical Bayes: the strength of the prior by moments over all units; shares from 0 to 1.

    Kleinman (1973), *Proportions with extraneous variance*. ``trials`` may be fractional (leads that had the time).
    """
    some = trials > 0
    if not some.any():
        return prior
    mean = prior[some]
    excess = float(np.sum((success[some] - trials[some] * mean) ** 2 - trials[some] * mean * (1 - mean)))
    room = float(np.sum(trials[some] * np.maximum(trials[some] - 1, 0) * mean * (1 - mean)))
    within = np.clip(excess / room, 0.0, 0.9) if room > 0 else 0.0  # intraclass correlation
    strength = np.clip((1 - within) / within, 2.0, 1e6) if within > 0 else 1e6
    return np.clip((success + strength * prior) / (trials + strength), 0.0, 1.0)


def _mature_lag(leads: pd.DataFrame, age: np.ndarray) -> float:
    """Mean lag in days; young cohorts only show their fast wins, so cohorts older than three lags are preferred."""
    lag = pd.to_numeric(leads["lag_days"], errors="coerce").to_numpy(float)
    won = np.where(np.isfinite(lag), leads["won"].to_numpy(float), 0.0)
    lag = np.maximum(np.nan_to_num(lag), 0.0)
    if won.sum() <= 0:
        return 0.0
    mean = float((won * lag).sum() / won.sum())
    for _ in range(3):
        old = age >= 3 * mean
        if won[old].sum() < 20:
            break
        mean = float((won * lag)[old].sum() / won[old].sum())
    return mean


def _exponential(age: np.ndarray, lag: float, stages: int) -> np.ndarray:
    """Share (stages + 1, n) of those who ever get to a stage who are there by ``age`` days; the first are all leads."""
    parts = np.arange(1, stages + 1)[:, None] * lag / stages
    return np.vstack([np.ones_like(age), 1 - np.exp(-age / np.maximum(parts, 1e-9))])


def _by_life_table(
    tables: LifeTables, stages: tuple[str, ...], channel: pd.Series, month: pd.Series, as_of: pd.Timestamp
) -> np.ndarray:
    """As :func:`_exponential`, from the life tables: the mean over the days of the month of creation up to today."""
    reached = tables.reached()
    total = reached[:, :, -1:]
    share = np.where(total > 0, reached / np.maximum(total, 1e-300), 1.0)
    row = tables.position(channel)
    at = [0, *(tables.stages.index(s) if s != "won" else len(tables.stages) for s in stages)]
    oldest = np.maximum((as_of - month).dt.days.to_numpy(), 0)
    youngest = np.maximum(oldest - month.dt.days_in_month.to_numpy() + 1, 0)
    out = np.zeros((len(at), len(row)))
    for point in (np.arange(8) + 0.5) / 8:
        step = ((youngest + point * (oldest - youngest)) // tables.width).astype(int)
        out += share[row[None, :], np.array(at)[:, None], np.minimum(step, tables.reach - 1)[None, :]] / 8
    return np.maximum(out, 1e-9)


def estimate_conversion(
    leads: pd.DataFrame, cells: pd.DataFrame, as_of: pd.Timestamp, tables: LifeTables | None = None
) -> Conversion | None:
    """Conversion rates of every cell from the company's own leads.

    Rates shrink from market x segment x channel to channel to company (beta-binomial empirical Bayes); where leads
    name none of the segments in ``cells`` (these may follow from what customers did later), from market x channel. A
    lead created ``a`` days ago counts with the share of leads of its channel that would have got that far by now: by
    the life tables; without them by ``1 - exp(-a / lag)``, the lag to an earlier stage being the same part of the
    whole lag as the stage's place in the funnel.

    Parameters
    ----------
    leads : DataFrame
        The artefact ``leads``: counts by market, segment, channel and month of creation.
    cells : DataFrame
        market_id, segment: the rows wanted.
    as_of : Timestamp
    tables : LifeTables, optional
        Of the same leads.

    Returns
    -------
    Conversion or None
        ``None`` where no lead was ever won (or none exists).
    """
    leads = leads.copy()
    numbers = ["leads", *STAGES]
    leads[numbers] = leads[numbers].apply(pd.to_numeric, errors="coerce").fillna(0.0).clip(lower=0)
    month = pd.to_datetime(leads["month"])
    behind = month_number(pd.DatetimeIndex([as_of]))[0] - month_number(month)
    recent = leads[behind < _MONTHS]
    if recent["won"].sum() < 20 <= leads["won"].sum():
        recent = leads
    leads = recent
    if not leads["leads"].sum() > 0 or not leads["won"].sum() > 0:
        return None
    stages = tuple(s for s in STAGES if s == "won" or leads[s].sum() > 0)
    for earlier, later in reversed(list(pairwise(stages))):
        leads[earlier] = np.maximum(leads[earlier], leads[later])  # whoever was won has passed every stage
    leads["leads"] = np.maximum(leads["leads"], leads[stages[0]])
    known = tables is not None and all(s == "won" or s in tables.stages for s in stages)
    age = np.maximum((as_of - pd.to_datetime(leads["month"])).dt.days.to_numpy(float) - _DAYS / 2, 1.0)
    lag = _mature_lag(leads, age)

    keys = ["market_id", "segment", "channel"]
    asked = cells[["market_id", "segment"]].drop_duplicates()
    cells = asked if leads["segment"].isin(asked["segment"]).any() else asked.assign(segment="All")
    leads["channel"] = leads["channel"].astype(object).where(leads["channel"].notna(), "unknown")
    whole_market = bool((cells["segment"] == "All").all())
    placed = leads["market_id"].notna() & (leads["segment"].notna() | whole_market)
    if whole_market:
        leads["segment"] = "All"
    if tables is not None and known:
        done = _by_life_table(tables, stages, leads["channel"], pd.to_datetime(leads["month"]), as_of)
    else:
        done = _exponential(age, lag, len(stages))
    exposure = {}
    previous = "leads"
    for position, stage in enumerate(stages, start=1):
        # leads that reached the stage before and had the time for this one
        part = np.minimum(done[position] / done[position - 1], 1.0)
        exposure[stage] = np.maximum(leads[previous].to_numpy(float) * part, leads[stage].to_numpy(float))
        previous = stage
    table = leads[[*keys, "leads", *stages]].copy()
    for stage in stages:
        table[f"could_{stage}"] = exposure[stage]
    sums = [c for c in table.columns if c not in keys]
    by_channel = table.groupby("channel", sort=True)[sums].sum()
    by_cell = table[placed].groupby(keys, sort=True)[sums].sum().reset_index()

    company: dict[str, float] = {}
    reach_company, reach_channel, reach_cell = 1.0, np.ones(len(by_channel)), np.ones(len(by_cell))
    for stage in stages:
        rate = min(float(by_channel[stage].sum() / by_channel[f"could_{stage}"].sum()), 1.0)
        reach_company *= rate
        company[stage] = reach_company
        n = len(by_channel)
        channel = _shrink(by_channel[stage].to_numpy(), by_channel[f"could_{stage}"].to_numpy(), np.full(n, rate))
        at = by_channel.index.get_indexer(pd.Index(by_cell["channel"]))
        cell = _shrink(by_cell[stage].to_numpy(), by_cell[f"could_{stage}"].to_numpy(), channel[at])
        reach_channel, reach_cell = reach_channel * channel, reach_cell * cell
        by_channel[f"reach_{stage}"], by_cell[f"reach_{stage}"] = reach_channel, reach_cell

    # a cell's leads come through channels: its own mix, leaning on the company's with the weight of 20 leads
    placed_rates = by_cell[keys].assign(**{s: by_cell[f"reach_{s}"] for s in stages})
    wanted = cells[["market_id", "segment"]].drop_duplicates()
    mix = by_channel["leads"] / by_channel["leads"].sum()
    own = by_cell.assign(extra=by_cell["leads"])
    at_channel = by_channel.index.get_indexer(pd.Index(own["channel"]))
    own["prior"] = mix.to_numpy()[at_channel]
    own_leads = own.groupby(["market_id", "segment"])["leads"].sum()
    row = pd.MultiIndex.from_frame(wanted)
    total = own_leads.reindex(row).fillna(0.0).to_numpy()
    for stage in stages:
        base = float((mix * by_channel[f"reach_{stage}"]).sum())
        of_channel = by_channel[f"reach_{stage}"].to_numpy()[at_channel]
        # the channels that the cell has replace the company's rate of those channels by the cell's own
        part = own["leads"] * own[f"reach_{stage}"] + 20 * own["prior"] * (own[f"reach_{stage}"] - of_channel)
        own_part = part.groupby([own["market_id"], own["segment"]]).sum().reindex(row).fillna(0.0).to_numpy()
        wanted[stage] = np.clip((own_part + 20 * base) / (total + 20), 1e-6, 1.0)
    for earlier, later in reversed(list(pairwise(stages))):
        wanted[earlier] = np.maximum(wanted[earlier], wanted[later])
    # days to the win by channel, and by cell as its wins are mixed
    start = np.array([0, *(tables.stages.index(s) for s in stages[:-1])]) if tables is not None and known else None
    if tables is not None and start is not None:
        days = tables.days_to_win()[tables.position(by_channel.index.to_series())][:, start]
    else:
        days = np.tile(lag * np.arange(len(stages), 0, -1) / len(stages), (len(by_channel), 1))
    wins = (mix * by_channel["reach_won"]).to_numpy()
    average = days.T @ wins / wins.sum() if wins.sum() > 0 else days.mean(axis=0)
    if tables is not None and known:
        lag = float(average[0])
    weight = own["leads"] * own["reach_won"]
    pseudo = 20 * max(float(wins.sum()), 1e-9)
    groups = [own["market_id"], own["segment"]]
    in_cell = weight.groupby(groups).sum().reindex(row).fillna(0.0).to_numpy()
    own_days = [
        (weight * days[at_channel, k]).groupby(groups).sum().reindex(row).fillna(0.0) for k in range(len(stages))
    ]
    wanted_lags = (np.column_stack(own_days) + pseudo * average) / (in_cell + pseudo)[:, None]
    channels = by_channel[["leads"]].assign(**{s: by_channel[f"reach_{s}"] for s in stages}).reset_index()
    wanted = wanted.reset_index(drop=True)
    count, won = float(leads["leads"].sum()), float(leads["won"].sum())
    unplaced = float(leads.loc[~placed, "leads"].sum() / count)
    if cells is not asked:  # leads name none of the plan's segments: a market's rates are those of all its segments
        wanted = wanted.assign(_row=np.arange(len(wanted)))
        wanted = asked.merge(wanted.drop(columns="segment"), on="market_id", how="left")
        wanted_lags = wanted_lags[wanted.pop("_row").to_numpy(int)]
    return Conversion(
        stages, company, wanted.reset_index(drop=True), channels, placed_rates, wanted_lags, lag, round(count),
        round(won), unplaced,
    )  # fmt: skip
