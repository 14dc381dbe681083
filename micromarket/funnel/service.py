"""Service levels between marketing and sales, and what each channel's leads end in and cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from micromarket.errors import shown
from micromarket.funnel.conversion import STAGES, Conversion
from micromarket.funnel.lifetable import LifeTables, life_tables
from micromarket.rounding import largest_remainder

COLUMNS = ("acceptance_days", "accepted", "rejected", "waiting", "overdue")
FEWEST = 30  # decided leads behind a service level
_LATE = 0.9


def service_levels(steps: pd.DataFrame | None) -> pd.DataFrame:
    """How sales answers what marketing hands over, for the company and every region.

    Parameters
    ----------
    steps : DataFrame or None
        The artefact ``lead_steps``.

    Returns
    -------
    DataFrame
        level, key and ``acceptance_days`` (median days from MQL to acceptance), ``accepted`` and ``rejected`` (shares
        of MQL in the end), ``waiting`` (MQL neither accepted nor lost) and ``overdue`` (those that wait longer than
        nine in ten accepted ones did). Empty where MQL or SAL are not recorded.
    """
    empty = pd.DataFrame(columns=["level", "key", *COLUMNS])
    if steps is None or not {"mql", "sal"} <= set(steps["stage"]):
        return empty
    handed = steps[steps["stage"] == "mql"].assign(channel="all")
    late = _quantile(handed, _LATE)
    rows = [_level("company", "company", handed, late)]
    if handed["region"].nunique() > 1:
        rows += [_level("region", str(key), group, late) for key, group in handed.groupby("region", sort=True)]
    found = [row for row in rows if row is not None]
    return pd.DataFrame(found) if found else empty


def _quantile(handed: pd.DataFrame, part: float) -> float:
    """Days by which ``part`` of those that are ever accepted were; young leads accounted for."""
    tables = life_tables(handed)
    arrived = np.cumsum(tables.leaving()[-1, 0])
    if not arrived[-1] > 0:
        return float("nan")
    return float(np.searchsorted(arrived, part * arrived[-1] * (1 - 1e-12)) * tables.width)


def _level(level: str, key: str, handed: pd.DataFrame, late: float) -> dict[str, Any] | None:
    if float((handed["moved"] + handed["lost"]).sum()) < FEWEST:
        return None
    tables = life_tables(handed)
    staying = tables.staying()[-1, 0]
    waiting = float(handed["open"].sum())
    overdue = float(handed.loc[handed["day"] > late, "open"].sum()) if np.isfinite(late) else 0.0
    return {
        "level": level, "key": key, "acceptance_days": _quantile(handed, 0.5),
        "accepted": float((staying * tables.moved[-1, 0]).sum()),
        "rejected": float((staying * tables.lost[-1, 0]).sum()), "waiting": waiting, "overdue": overdue,
    }  # fmt: skip


def rejection_reasons(reasons: pd.DataFrame | None, min_cell: int, most: int = 5) -> list[dict[str, Any]]:
    """Why sales sends MQL back, most frequent first: reason, leads, share of those with a reason; none below a cell."""
    if reasons is None or reasons.empty:
        return []
    given = reasons[reasons["stage"] == "mql"].groupby("reason", sort=True)["leads"].sum()
    given = given.sort_values(ascending=False, kind="stable")
    total = float(given.sum())
    return [
        {"reason": shown(str(name), 80).strip("'"), "leads": round(float(n)), "share": float(n) / total}
        for name, n in given[given >= min_cell].head(most).items()
    ]


def lead_channels(
    leads: pd.DataFrame, conversion: Conversion, tables: LifeTables | None, spend: pd.DataFrame | None, due: int,
    as_of: pd.Timestamp, min_cell: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """The artefact ``lead_channels``: last year's leads, what they end in, what they cost, the plan's by today's mix.

    Parameters
    ----------
    leads, spend : DataFrame
        Artefacts.
    due : int
        Leads that the plan needs in all.
    min_cell : int
        Channels with fewer leads than this share one row, with the next smallest where that row would be as small or
        tell of one channel only.
    """
    year = as_of - pd.DateOffset(months=12)
    recent = leads[pd.to_datetime(leads["month"]) > year]
    recent = recent if float(recent["leads"].sum()) > 0 else leads
    named = recent["channel"].astype(object).where(recent["channel"].notna(), "unknown")
    table = recent.groupby(named)["leads"].sum().rename_axis("channel").sort_index().reset_index()
    rates = conversion.channels.set_index("channel").reindex(table["channel"])
    for stage in STAGES:
        known = stage in conversion.stages
        table[stage] = rates[stage].fillna(conversion.company.get(stage, np.nan)).to_numpy() if known else np.nan
    if tables is None:
        table["lag_days"] = conversion.lag_days
    else:
        table["lag_days"] = tables.days_to_win()[tables.position(table["channel"]), 0]
    money = pd.Series(dtype=float)
    if spend is not None and len(spend):
        last = spend[pd.to_datetime(spend["period"]) > pd.to_datetime(spend["period"]).max() - pd.Timedelta(days=364)]
        money = last.groupby("channel")["amount"].sum()
    table["spend"] = table["channel"].map(money).astype(float).to_numpy()
    table = joined(table, min_cell)
    paid = table["spend"] > 0
    table["cost_per_lead"] = (table["spend"] / table["leads"]).where(paid & (table["leads"] > 0))
    wins = table["leads"] * table["won"]
    table["cost_per_won"] = (table["spend"] / wins.where(wins > 0)).where(paid)
    mix = table["leads"].to_numpy(float)
    table["leads_due"] = largest_remainder(due * mix / mix.sum(), due) if mix.sum() > 0 else 0
    return table


def joined(table: pd.DataFrame, min_cell: int) -> pd.DataFrame:
    """Channels with fewer than ``min_cell`` leads in one row, last, with the next smallest where these are too few.

    Rates are over their leads, ``lag_days`` over their wins; leads and money are sums.
    """
    order = table.sort_values(["leads", "channel"], kind="stable").index
    few = int((table["leads"] < min_cell).sum())
    if few == 0:
        return table
    while few < len(order) and (few < 2 or table.loc[order[:few], "leads"].sum() < min_cell):
        few += 1
    part, rest = table.loc[order[:few]], table.drop(order[:few])
    if len(part) < 2:  # the only channel there is: its leads are the company's
        return table
    leads = part["leads"].to_numpy(float)
    wins = leads * part["won"].to_numpy(float)
    one: dict[str, Any] = {"channel": f"{len(part)} smaller channels", "leads": part["leads"].sum()}
    one |= {stage: float((leads * part[stage].to_numpy(float)).sum() / leads.sum()) for stage in STAGES}
    days = part["lag_days"].to_numpy(float)
    one["lag_days"] = float((days * wins).sum() / wins.sum()) if wins.sum() > 0 else float(days.mean())
    one["spend"] = part["spend"].sum(min_count=1)
    return pd.concat([rest, pd.DataFrame([one]).astype(part.dtypes.to_dict())], ignore_index=True)[list(table.columns)]
