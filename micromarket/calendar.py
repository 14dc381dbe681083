"""Weeks and months: whole periods up to a day, and how a table's periods are spaced."""

from __future__ import annotations

import datetime as dt

import ibis
import ibis.expr.types as ir
import pandas as pd

_MONDAY = dt.date(2000, 1, 3)


def year_before(day: dt.date) -> dt.date:
    """The same day a year before (28 February for 29)."""
    try:
        return day.replace(year=day.year - 1)
    except ValueError:
        return day.replace(year=day.year - 1, day=28)


def whole_months(as_of: dt.date, count: int) -> pd.DataFrame:
    """The last ``count`` calendar months that are over by the end of ``as_of``.

    Returns
    -------
    DataFrame
        ``month`` (first day), ``after`` (first day of the next month), ``days``; oldest first.
    """
    last = pd.Period(pd.Timestamp(as_of), freq="M")
    if last.end_time.date() > as_of:
        last -= 1
    months = pd.period_range(end=last, periods=count, freq="M")
    frame = pd.DataFrame({"month": months.start_time, "after": (months + 1).start_time})
    frame["days"] = (frame["after"] - frame["month"]).dt.days.astype("float64")
    return frame.astype({"month": "datetime64[s]", "after": "datetime64[s]"})


def frequency_of(days: pd.Series) -> tuple[str, dt.date]:
    """``"week"`` or ``"month"`` from the distinct days on which periods begin, and a day on which a period begins.

    Daily and weekly records are weeks; anything sparser is months. Daily records begin on Mondays.
    """
    days = pd.Series(pd.to_datetime(days)).sort_values()
    gaps = days.diff().dt.days.dropna()
    monthly = bool((days.dt.day == 1).all()) and (gaps.empty or gaps.median() > 20)
    if monthly or (len(gaps) and gaps.median() > 20):
        return "month", days.iloc[0].date()
    same_weekday = days.dt.day_of_week.nunique() == 1
    return "week", days.iloc[0].date() if same_weekday else _MONDAY


def floor_expression(column: ir.DateValue, frequency: str, anchor: dt.date | None) -> ir.DateValue:
    """First day of the period that holds a date, in the engine."""
    if frequency == "month":
        return column.truncate("M")
    start = ibis.literal(_week_anchor(anchor))
    days = column.delta(start, unit="day")
    weeks = (days.cast("float64") / 7).floor().cast("int64")
    return (start + (weeks * 7).as_interval("D")).cast("date")


def _week_anchor(anchor: dt.date | None) -> dt.date:
    return _MONDAY + dt.timedelta(days=(anchor.weekday() if anchor else 0))


def period_end(start: pd.Series, frequency: str) -> pd.Series:
    """Last day of each period."""
    if frequency == "month":
        return (start + pd.offsets.MonthEnd(0)).astype("datetime64[us]")
    return start + pd.Timedelta(days=6)


def periods(first: pd.Timestamp, as_of: pd.Timestamp, frequency: str, anchor: dt.date | None) -> pd.DatetimeIndex:
    """First days of the whole periods that begin on or after ``first`` and are over by ``as_of``."""
    if frequency == "month":
        found = pd.date_range(first, as_of, freq="MS")
    else:
        start = pd.Timestamp(_week_anchor(anchor))
        weeks = -((start - first).days // 7)
        found = pd.date_range(start + pd.Timedelta(days=7 * weeks), as_of, freq="7D")
    ends = period_end(pd.Series(found), frequency)
    return pd.DatetimeIndex(found[(ends <= as_of).to_numpy()]).as_unit("us")
