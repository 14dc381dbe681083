"""Months of a history, months and periods of a plan. A month is the whole number ``12 * year + month - 1``."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np
import pandas as pd

from micromarket.config import PlanPeriod


def month_number(days: pd.Series | pd.DatetimeIndex) -> np.ndarray:
    """Months of dates, as whole numbers that can be subtracted."""
    index = pd.DatetimeIndex(pd.to_datetime(days))
    return (index.year * 12 + index.month - 1).to_numpy(dtype=np.int64)


def first_of_period(days: pd.DatetimeIndex, period: str) -> pd.DatetimeIndex:
    """First day of the week (Monday), month or quarter that holds each day."""
    if period == "week":
        return days - pd.to_timedelta(days.day_of_week, unit="D")
    return days.to_period({"month": "M", "quarter": "Q"}[period]).to_timestamp()


@dataclass(frozen=True)
class Calendar:
    """A plan cut into months and periods.

    Attributes
    ----------
    months : int array of shape (m,)
        Month numbers that the plan touches.
    weights : array of shape (m,)
        Share of each month's days inside the plan.
    periods : DatetimeIndex of length p
        First days of the periods (they may lie before the plan's start).
    month_to_period : array of shape (m, p)
        Share of a month's days in the plan that fall into a period; rows sum to 1.
    """

    months: np.ndarray
    weights: np.ndarray
    periods: pd.DatetimeIndex
    month_to_period: np.ndarray

    @classmethod
    def of(cls, plan: PlanPeriod, period: str) -> Calendar:
        days = pd.date_range(plan.start, plan.end, freq="D")
        number = month_number(days)
        months, month_of_day = np.unique(number, return_inverse=True)
        starts = first_of_period(days, period)
        periods, period_of_day = np.unique(starts.to_numpy(), return_inverse=True)
        table = np.zeros((len(months), len(periods)))
        np.add.at(table, (month_of_day, period_of_day), 1.0)
        inside = table.sum(axis=1)
        lengths = np.array(
            [pd.Period(year=int(m) // 12, month=int(m) % 12 + 1, freq="M").days_in_month for m in months]
        )
        return cls(months, inside / lengths, pd.DatetimeIndex(periods), table / inside[:, None])


def last_whole_month(as_of: dt.date) -> int:
    """Number of the last calendar month that ``as_of`` ends or lies behind."""
    after = as_of + dt.timedelta(days=1)
    return after.year * 12 + after.month - 2
