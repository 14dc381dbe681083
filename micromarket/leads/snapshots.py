"""Leads as they stood on past days: who was open, how far, for how long, and who was won within the horizon after."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

DATES = ("created_on", "mql_on", "sal_on", "sql_on")
STAGES = ("leads", "mql", "sal", "sql")
#: Known of a lead on the day; a segment, market or channel that is missing is a level of its own.
FEATURES = ("channel", "segment", "market_id", "stage", "days_in_stage", "days")
_LONGEST, _SHORTEST = 365, 28
_MOST = 18  # past days that are looked at
_MOST_ROWS = 400_000


@dataclass(frozen=True)
class Snapshots:
    """Leads that were open on past days.

    Attributes
    ----------
    rows : DataFrame
        ``on`` (the day), ``lead`` (position in the table of leads), the columns of :data:`FEATURES` (``stage``: 0
        created to 3 SQL; days as counts), ``won`` (0 or 1: within the horizon after the day).
    horizon : int
        Days.
    """

    rows: pd.DataFrame
    horizon: int

    @property
    def days(self) -> pd.DatetimeIndex:
        return pd.DatetimeIndex(np.sort(self.rows["on"].unique()))


def prepared(leads: pd.DataFrame) -> pd.DataFrame:
    """The table ``leads`` with every optional column and dates as days; a later stage implies the ones before it."""
    out = pd.DataFrame(index=range(len(leads)))
    for column in ("lead_id", "channel", "segment", "market_id"):
        values = leads[column].to_numpy(object) if column in leads else np.full(len(leads), None, object)
        out[column] = pd.Series(values, dtype=object).where(pd.Series(values, dtype=object).notna(), "")
    for column in (*DATES, "won_on", "lost_on"):
        raw = leads[column].to_numpy() if column in leads else np.full(len(leads), None, object)
        out[column] = pd.to_datetime(pd.Series(raw, dtype=object)).astype("datetime64[s]").to_numpy()
    later = pd.Series(out["won_on"].to_numpy())
    for column in reversed(DATES[1:]):
        out[column] = out[column].where(out[column].notna(), later)
        later = out[column]
    for before, after in pairwise(DATES):
        out[after] = out[after].where(~(out[after] < out[before]), out[before])
    # stages that the company never dates don't exist: they would repeat the next one
    dated = [c for c in DATES[1:] if c in leads and bool(pd.Series(leads[c].to_numpy()).notna().any())]
    for column in DATES[1:]:
        if column not in dated:
            out[column] = pd.NaT
    value = leads["value"].to_numpy(float) if "value" in leads else np.full(len(leads), np.nan)
    return out.assign(value=value)


def as_on(table: pd.DataFrame, day: pd.Timestamp) -> pd.DataFrame:
    """Leads of :func:`prepared` that were open at the end of ``day``, with the columns of :data:`FEATURES`."""
    closed = (table["won_on"] <= day) | (table["lost_on"] <= day)
    here = table[(table["created_on"] <= day) & ~closed]
    reached = np.column_stack([(here[c] <= day).to_numpy() for c in DATES])
    stage = reached.shape[1] - 1 - reached[:, ::-1].argmax(axis=1)
    dates = here[list(DATES)].to_numpy("datetime64[D]")
    since = dates[np.arange(len(here)), stage]
    today = np.datetime64(day, "D")
    return pd.DataFrame(
        {
            "on": day, "lead": here.index.to_numpy(), "channel": here["channel"].to_numpy(object),
            "segment": here["segment"].to_numpy(object), "market_id": here["market_id"].to_numpy(object),
            "stage": stage, "days_in_stage": (today - since).astype(int), "days": (today - dates[:, 0]).astype(int),
        }
    )  # fmt: skip


def horizon_of(table: pd.DataFrame) -> int:
    """Days within which three of four wins come after the lead was created; 28 to 365.

    Longer ones would leave only old days to learn from.
    """
    lag = (table["won_on"] - table["created_on"]).dt.days
    lag = lag[lag >= 0]
    return int(np.clip(np.ceil(lag.quantile(0.75)) if len(lag) else _SHORTEST, _SHORTEST, _LONGEST))


def take_snapshots(leads: pd.DataFrame, as_of: pd.Timestamp, horizon: int | None = None) -> Snapshots | None:
    """Open leads on up to 18 past days whose horizon is over by ``as_of``.

    Only what was known on the day is used: dates after it are not looked at, and ``value`` isn't (it may have been
    filled in when the lead was closed).

    Returns
    -------
    Snapshots or None
        ``None`` where no lead was won, or the history is too short for one day.
    """
    table = prepared(leads)
    table = table[table["created_on"].notna()].reset_index(drop=True)
    if table.empty or not (table["won_on"] <= as_of).any():
        return None
    span = int((as_of - table["created_on"].min()).days)
    wanted = horizon_of(table) if horizon is None else horizon
    wanted = min(wanted, max(span // 3, _SHORTEST))
    latest = as_of - pd.Timedelta(days=wanted)
    first = table["created_on"].min() + pd.Timedelta(days=min(wanted, span // 6))
    room = int((latest - first).days)
    if room < 0:
        return None
    step = max(7, -(-room // (_MOST - 1)))
    parts = []
    for back in range(0, room + 1, step):
        day = latest - pd.Timedelta(days=back)
        part = as_on(table, day)
        won = table["won_on"].to_numpy()[part["lead"].to_numpy()]
        inside = (won > np.datetime64(day)) & (won <= np.datetime64(day + pd.Timedelta(days=wanted)))
        parts.append(part.assign(won=inside.astype(np.int8)))
    rows = pd.concat(parts[::-1], ignore_index=True)
    if len(rows) > _MOST_ROWS:
        rows = rows.iloc[:: -(-len(rows) // _MOST_ROWS)].reset_index(drop=True)
    return Snapshots(rows, wanted) if rows["won"].sum() > 0 else None
