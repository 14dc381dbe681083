"""The history that tests are designed on: new customers by market and period, earlier tests taken out."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from micromarket.proof.estimators.relative_control import counterfactual, fit_controls
from micromarket.proof.estimators.simplex import Array

DAYS = {"week": 7.0, "month": 365.25 / 12}


@dataclass(frozen=True)
class History:
    """``counts``: new customers, shape (markets, periods); ``periods``: first days; ``frequency``: week or month."""

    markets: tuple[str, ...]
    periods: pd.DatetimeIndex
    counts: Array
    frequency: str

    @property
    def days(self) -> float:
        return DAYS[self.frequency]

    def take(self, markets: tuple[str, ...]) -> History:
        rows = pd.Index(self.markets).get_indexer(pd.Index(list(markets)))
        counts = np.where((rows >= 0)[:, None], self.counts[rows], 0.0)
        return replace(self, markets=markets, counts=counts)


def read_history(panel: pd.DataFrame, frequency: str, until: dt.date | None = None) -> History:
    """From the artefact ``panel``; a period that ends after ``until`` is left out, as its count is not whole."""
    table = panel.pivot_table(index="market_id", columns="period", values="new_customers", aggfunc="sum").sort_index()
    table.index = table.index.astype(str)
    periods = pd.DatetimeIndex(table.columns)
    if until is not None and len(periods):
        ends = period_ends(periods, frequency)
        whole = np.asarray(ends) <= np.datetime64(until)
        table, periods = table.loc[:, whole], periods[whole]
    counts = np.clip(np.nan_to_num(table.to_numpy(float)), 0.0, None)
    return History(tuple(table.index), periods, counts, frequency)


def period_ends(periods: pd.DatetimeIndex, frequency: str) -> pd.DatetimeIndex:
    """Last days."""
    length = pd.DateOffset(days=7) if frequency == "week" else pd.DateOffset(months=1)
    return pd.DatetimeIndex(periods + length - pd.Timedelta(days=1))


def without_tests(history: History, experiments: pd.DataFrame | None, cool_down: int) -> tuple[History, int]:
    """Windows in which markets were treated, and ``cool_down`` periods after, hold what untreated markets let expect.

    Returns
    -------
    history, cells
        How many market-periods were replaced.
    """
    if experiments is None or experiments.empty or "markets" not in experiments:
        return history, 0
    counts, replaced = history.counts.copy(), 0
    ends = period_ends(history.periods, history.frequency)
    rows = experiments.assign(start=pd.to_datetime(experiments["start"]), end=pd.to_datetime(experiments["end"]))
    for (first_day, last_day), part in rows.dropna(subset=["start", "end"]).groupby(["start", "end"], sort=True):
        start, end = np.datetime64(str(first_day)[:10]), np.datetime64(str(last_day)[:10])
        listed = {m.strip() for text in part["markets"].dropna().astype(str) for m in text.replace(",", ";").split(";")}
        touched = np.isin(np.array(history.markets), sorted(listed))
        inside = np.flatnonzero((np.asarray(ends) >= start) & (np.asarray(history.periods) <= end))
        if not touched.any() or touched.all() or not len(inside):
            continue
        first, last = int(inside[0]), min(int(inside[-1]) + cool_down, counts.shape[1] - 1)
        if first < 4:
            continue
        each = np.zeros((int(touched.sum()), len(touched)), dtype=bool)
        each[np.arange(len(each)), np.flatnonzero(touched)] = True
        banned = np.broadcast_to(touched, each.shape)
        before = counts[:, max(first - 52, 0) : first]
        controls = fit_controls(before, each, last + 1 - first, banned)
        window = history.counts[:, first : last + 1]
        for k, row in enumerate(np.flatnonzero(touched)):
            counts[row, first : last + 1] = np.maximum(counterfactual(controls, window, k), 0.0)
            replaced += last + 1 - first
    return replace(history, counts=counts), replaced
