"""Time as customers live it: a clock that runs faster in the months in which everybody buys more.

Purchase models take each customer's rate for steady. Where a whole company sells half more in December, who is silent
in June looks lost. A Poisson process whose rate swings with the calendar is steady on the clock that swings with it
(Cox & Lewis 1966, ch. 3.3; time rescaling), so histories are counted on that clock and nothing else changes.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import ibis
import numpy as np
import pandas as pd
from scipy.stats import f as f_distribution

_MONTH_DAYS = np.array([31, 28.25, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
_YEAR = 365.25
#: Two rounds of the calendar, else a season can't be told from growth.
FEWEST_DAYS, FEWEST_PURCHASES = 720, 2000


@dataclass(frozen=True)
class Clock:
    """``index`` (12,): purchases per customer in January to December over the year's mean, mean 1 over a year."""

    index: np.ndarray

    @property
    def steady(self) -> bool:
        return bool(np.allclose(self.index, 1.0))

    def days(self, date: dt.date) -> float:
        """Reading of the clock on a day, in days; differences count."""
        if self.steady:
            return float(date.toordinal())
        start = np.concatenate([[0.0], np.cumsum(self.index * _MONTH_DAYS)])
        return float(date.year * _YEAR + start[date.month - 1] + self.index[date.month - 1] * (date.day - 1))

    def between(self, first: dt.date, last: dt.date) -> float:
        return self.days(last) - self.days(first)

    def column(self, date: ibis.Value) -> ibis.Value:
        """:meth:`days` of a date column."""
        start = np.concatenate([[0.0], np.cumsum(self.index * _MONTH_DAYS)])[:12]
        month = date.month()
        at = ibis.cases(
            *((month == m + 1, float(start[m]) + float(self.index[m]) * (date.day() - 1)) for m in range(12)), else_=0.0
        )
        return date.year().cast("float64") * _YEAR + at


STEADY = Clock(np.ones(12))


def purchases_by_day(days: ibis.Table) -> pd.DataFrame:
    """date, purchases (count of customers who bought that day): from the summaries' purchase days."""
    bought = days.filter(days.bought == 1)
    return bought.group_by("date").aggregate(purchases=bought.bought.sum()).to_pandas().sort_values("date")


def find_season(by_day: pd.DataFrame, first_days: pd.DataFrame, expected: np.ndarray, as_of: dt.date) -> Clock:
    """The clock, or the steady one where two years don't agree on a season.

    Parameters
    ----------
    by_day : DataFrame
        See :func:`purchases_by_day`.
    first_days : DataFrame
        T (days from a customer's first purchase to ``as_of``), customers (count).
    expected : array (days + 1,)
        Repeat purchases of a customer up to 0, 1, ... days after the first, by a model without season.
    as_of : date
        Last day of the data.

    The ratio of actual to expected repeat purchases by calendar month, each year brought to a mean of 1 first (growth
    is no season), shrunk towards 1 by an F test of months against what years disagree on.
    """
    longest = int(first_days["T"].max()) if len(first_days) else 0
    years = min(longest // 365, 3)
    if longest < FEWEST_DAYS or by_day["purchases"].sum() < FEWEST_PURCHASES:
        return STEADY
    years = max(years, 2)
    start = as_of - dt.timedelta(days=longest)
    age = np.bincount(first_days["T"].to_numpy(int), weights=first_days["customers"].to_numpy(float))
    arrived = age[::-1]  # customers who came on day 0, 1, ... after start
    daily = np.diff(expected[: longest + 1], prepend=0.0)
    flow = np.convolve(arrived, daily)[: longest + 1]
    actual = np.zeros(longest + 1)
    at = np.array([(pd.Timestamp(d).date() - start).days for d in by_day["date"]])
    inside = (at >= 0) & (at <= longest)
    actual[at[inside]] = by_day["purchases"].to_numpy(float)[inside]
    actual = actual - arrived
    month = np.array([(start + dt.timedelta(days=int(i))).month - 1 for i in range(longest + 1)])
    a, e = np.zeros((years, 12)), np.zeros((years, 12))
    for y in range(years):
        last = longest - 365 * y
        rows = slice(max(last - 364, 0), last + 1)
        a[y] = np.bincount(month[rows], weights=actual[rows], minlength=12)
        e[y] = np.bincount(month[rows], weights=flow[rows], minlength=12)
    if (e <= 0).any() or (a.sum(axis=1) <= 0).any():
        return STEADY
    e = e * (a.sum(axis=1) / e.sum(axis=1))[:, None]
    index = a.sum(axis=0) / e.sum(axis=0)
    within = ((a - e * index) ** 2 / (e * index)).sum() / (12 * (years - 1))
    between = (e.sum(axis=0) * (index - 1) ** 2).sum() / 11
    f = between / max(within, 1.0)
    if f_distribution.sf(f, 11, 12 * (years - 1)) > 0.01:
        return STEADY
    index = np.clip(1 + (index - 1) * (1 - 1 / f), 0.2, 5.0)
    return Clock(index / (index @ _MONTH_DAYS / _MONTH_DAYS.sum()))
