"""What the leads open today still bring, held against what the plan's first weeks need of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

from micromarket.config import Settings
from micromarket.funnel.conversion import Conversion
from micromarket.funnel.lifetable import LifeTables

Z90 = 1.645
_LEAST_WEEKS = 4.0  # the weekly need is a mean over at least so many weeks
_KEYS = ["market_id", "segment"]


@dataclass(frozen=True)
class Projection:
    """Arrays over the cells (market x segment) of the targets, in their order.

    Attributes
    ----------
    cells : DataFrame
        market_id, segment.
    by_period : array of shape (cells, periods)
        Wins expected of the leads open today, by period of the plan (count).
    expected, variance : arrays of shape (cells,)
        The same over the plan, and the variance of the number of wins.
    needed : array of shape (cells,)
        Wins that the plan needs from leads that exist today: a win in ``t`` days comes from one of them as often as
        leads take longer than ``t``.
    weekly : array of shape (cells,)
        Wins from leads that the plan needs in a week, mean over the first weeks.
    open_leads : array of shape (cells,)
        Leads open today (count); those of a market without one of its segments are spread over them.
    unplaced : float
        Open leads without a market; what they bring is spread over the cells as the need is.
    """

    cells: pd.DataFrame
    by_period: np.ndarray
    expected: np.ndarray
    variance: np.ndarray
    needed: np.ndarray
    weekly: np.ndarray
    open_leads: np.ndarray
    unplaced: float


def through_leads(leads: pd.DataFrame, conversion: Conversion, history: pd.DataFrame, as_of: pd.Timestamp) -> float:
    """Share of new customers that come through a lead: wins of last year's leads over last year's new customers.

    1 where the history holds none.
    """
    year = as_of - pd.DateOffset(months=12)
    recent = leads[pd.to_datetime(leads["month"]) > year]
    named = recent["channel"].astype(object).where(recent["channel"].notna(), "unknown")
    rates = conversion.channels.set_index("channel")["won"]
    wins = float((recent["leads"] * named.map(rates).fillna(conversion.company["won"])).sum())
    months = 12.0
    if history is None or history.empty or "new_customers" not in history:
        return 1.0
    dated = pd.to_datetime(history["month"])
    won = float(history.loc[dated > dated.max() - pd.DateOffset(months=12), "new_customers"].sum())
    months = min(12.0, float(dated.nunique()))
    return float(np.clip(wins / (won * 12.0 / months), 0.05, 1.0)) if won > 0 and wins > 0 else 1.0


def project(
    open_leads: pd.DataFrame, tables: LifeTables, conversion: Conversion, targets: pd.DataFrame, settings: Settings,
    share: float,
) -> Projection:  # fmt: skip
    """Wins expected of open leads and wins needed of them.

    Parameters
    ----------
    open_leads : DataFrame
        The artefact.
    targets : DataFrame
        Sorted by market, segment, period; every cell has every period.
    share : float
        Part of the targets' new customers that come through leads.
    """
    as_of, start, end = (pd.Timestamp(d) for d in (settings.as_of, settings.plan.start, settings.plan.end))
    cells = targets[_KEYS].drop_duplicates().reset_index(drop=True)
    periods = pd.DatetimeIndex(targets["period"].iloc[: len(targets) // len(cells)])
    days = pd.date_range(start, end, freq="D")
    period_of_day = np.searchsorted(periods.to_numpy(), days.to_numpy(), side="right") - 1
    first = (days - as_of).days.to_numpy() - 1  # the first day to come is step 0
    ahead = int(first[-1]) // tables.width + 1
    step_of_day = first // tables.width
    overlap = np.zeros((len(periods), ahead))
    np.add.at(overlap, (np.maximum(period_of_day, 0), step_of_day), 1.0)
    per_period = overlap / np.maximum(overlap.sum(axis=1, keepdims=True), 1e-9)
    in_plan = overlap.sum(axis=0) / tables.width  # part of each step inside the plan
    to_period = overlap / np.maximum(overlap.sum(axis=0, keepdims=True), 1e-9)

    need = share * targets["new_customers"].to_numpy(float).reshape(len(cells), -1) @ per_period
    company = tables.to_win()[-1, 0]
    later = 1 - np.concatenate([[0.0], np.cumsum(company)]) / max(company.sum(), 1e-12)
    from_today = np.clip(later[np.minimum(np.arange(ahead), len(later) - 1)], 0.0, 1.0)
    needed = need @ from_today
    lag = float(tables.days_to_win()[-1, 0])
    window = (np.arange(ahead) * tables.width < (first[0] + max(lag, 7 * _LEAST_WEEKS))) & (in_plan > 0)
    days_in = float((in_plan * tables.width)[window].sum())
    weekly = need[:, window].sum(axis=1) / max(days_in / 7, 1e-9)

    known = open_leads[open_leads["stage"].isin(tables.stages)]
    stage = known["stage"].map({s: i for i, s in enumerate(tables.stages)}).to_numpy(int)
    named = known["channel"].astype(object).where(known["channel"].notna(), "unknown")
    odds = tables.wins_of_open(tables.position(named), stage, known["day"].to_numpy(int), ahead)
    odds = odds * _own(known.assign(channel=named), conversion)[:, None]
    odds /= np.maximum(odds.sum(axis=1, keepdims=True), 1.0)
    odds = odds * np.minimum(in_plan, 1.0)
    count = known["leads"].to_numpy(float)
    brought = odds * count[:, None]
    sums = odds.sum(axis=1)
    uncertain = count * sums * (1 - sums)
    place = pd.MultiIndex.from_frame(cells).get_indexer(pd.MultiIndex.from_frame(known[_KEYS]))
    markets, of_cell = np.unique(cells["market_id"].to_numpy(object).astype(str), return_inverse=True)
    home = pd.Index(markets).get_indexer(known["market_id"].astype(object).where(known["market_id"].notna(), ""))
    here = place >= 0
    inside = ~here & (home >= 0)  # of a market, but of none of its segments: spread over these as the need is
    wins = _summed(brought, place, here, len(cells))
    variance = _summed(uncertain, place, here, len(cells))
    there = _summed(count, place, here, len(cells))
    weight = needed if needed.sum() > 0 else there + 1.0 / len(cells)
    total = np.bincount(of_cell, weight, len(markets))[of_cell]
    cells_in = np.bincount(of_cell, minlength=len(markets))[of_cell]
    part = np.where(total > 0, weight / np.where(total > 0, total, 1.0), 1 / cells_in)
    wins += part[:, None] * _summed(brought, home, inside, len(markets))[of_cell]
    variance = variance + part * _summed(uncertain, home, inside, len(markets))[of_cell]
    there = there + part * _summed(count, home, inside, len(markets))[of_cell]
    rest = ~here & ~inside  # of no market at all: over the company
    whole = weight / weight.sum() if weight.sum() > 0 else np.full(len(cells), 1 / len(cells))
    wins += whole[:, None] * brought[rest].sum(axis=0)
    variance = variance + whole * uncertain[rest].sum()
    return Projection(
        cells, wins @ to_period.T, wins.sum(axis=1), variance, needed, weekly, there, float(count[rest].sum())
    )


def _own(known: pd.DataFrame, conversion: Conversion) -> np.ndarray:
    """What the rest of the way is worth in a lead's own cell, against its channel: a ratio, 1 where not known."""
    placed, channels = conversion.placed, conversion.channels.set_index("channel")
    keys = ["market_id", "segment", "channel"]
    whole = bool((placed["segment"] == "All").all()) if len(placed) else True
    asked = known[keys].assign(segment="All") if whole else known[keys]
    own = asked.merge(placed, on=keys, how="left")
    of_channel = channels.reindex(known["channel"])
    ratio = np.ones(len(known))
    for stage in ("leads", *conversion.stages[:-1]):
        here = (known["stage"] == stage).to_numpy()
        mine, theirs = own["won"].to_numpy(float), of_channel["won"].to_numpy(float)
        if stage != "leads":
            mine, theirs = mine / own[stage].to_numpy(float), theirs / of_channel[stage].to_numpy(float)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = mine / theirs
        ratio = np.where(here & np.isfinite(found), found, ratio)
    return ratio


def _summed(values: np.ndarray, at: np.ndarray, rows: np.ndarray, size: int) -> np.ndarray:
    """Sums of ``values`` (one row a group of leads) by position ``at``, over the chosen ``rows``."""
    member = sparse.csr_matrix((np.ones(int(rows.sum())), (at[rows], np.flatnonzero(rows))), shape=(size, len(rows)))
    return np.asarray(member @ values)


def coverage(projection: Projection, markets: pd.DataFrame) -> pd.DataFrame:
    """Rows of the artefact ``pipeline`` (without the service level), for the company, regions and territories."""
    p = projection
    home = markets.drop_duplicates("market_id").set_index("market_id").reindex(p.cells["market_id"])
    groups = [pd.Series("company", index=range(len(p.cells)))]
    levels = ["company"]
    for level in ("region", "territory"):
        named = home[level].reset_index(drop=True) if level in home else pd.Series(dtype=object)
        if named.notna().any() and (level != "region" or named.nunique() > 1):
            groups.append(named)
            levels.append(level)
    rows = []
    for level, group in zip(levels, groups, strict=True):
        for key in sorted(group.dropna().astype(str).unique()):
            here = (group.astype(object) == key).to_numpy()
            expected, needed, weekly = (float(x[here].sum()) for x in (p.expected, p.needed, p.weekly))
            reach = Z90 * float(np.sqrt(p.variance[here].sum()))
            count = float(p.open_leads[here].sum()) + (p.unplaced if level == "company" else 0.0)
            weeks = [x / weekly if weekly > 0 else np.nan for x in (expected, needed)]
            rows.append({
                "level": level, "key": key, "open_leads": count, "expected_wins": expected,
                "expected_low": max(expected - reach, 0.0), "expected_high": expected + reach, "needed": needed,
                "weekly_need": weekly, "weeks_covered": weeks[0], "weeks_needed": weeks[1],
                "weeks_short": weeks[1] - weeks[0],
            })  # fmt: skip
    return pd.DataFrame(rows)
