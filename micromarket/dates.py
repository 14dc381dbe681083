"""Days that a schedule can name in words: ``as_of: last full month``, ``plan: {start: next month, months: 12}``.

Words for the day of the data are resolved against today; the plan's dates follow from that day, never from today, so
that a run made again for the same day is the same run.
"""

from __future__ import annotations

import calendar
import datetime as dt
import os
from collections.abc import Callable, Mapping
from typing import Any

from micromarket.errors import did_you_mean

#: Names the day that counts as today, for tests and for running a schedule again.
TODAY = "MICROMARKET_TODAY"
_DAY = dt.timedelta(days=1)


def today() -> dt.date:
    """Today on this machine's calendar, or what the environment variable ``MICROMARKET_TODAY`` says.

    Raises
    ------
    ValueError
        Where the variable holds no day.
    """
    said = os.environ.get(TODAY)
    if not said:
        return dt.date.today()
    try:
        return dt.date.fromisoformat(said)
    except ValueError:
        raise ValueError(f"the environment variable {TODAY} to be a day such as 2026-07-01") from None


def add_months(day: dt.date, months: int) -> dt.date:
    """The same day ``months`` later, or the last of that month where it has no such day.

    >>> add_months(dt.date(2026, 8, 31), 1)
    datetime.date(2026, 9, 30)
    """
    number = day.year * 12 + day.month - 1 + months
    year, month = divmod(number, 12)
    return dt.date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))


def _first_of_quarter(day: dt.date) -> dt.date:
    return dt.date(day.year, 3 * ((day.month - 1) // 3) + 1, 1)


#: Words for the last day of data, from today. Today itself is not over: on the last day of June, the last full month
#: is May.
AS_OF: dict[str, Callable[[dt.date], dt.date]] = {
    "today": lambda day: day,
    "yesterday": lambda day: day - _DAY,
    "last full week": lambda day: day - dt.timedelta(days=day.weekday() + 1),
    "last full month": lambda day: day.replace(day=1) - _DAY,
    "last full quarter": lambda day: _first_of_quarter(day) - _DAY,
    "last full year": lambda day: dt.date(day.year, 1, 1) - _DAY,
}
#: Words for the first day of the plan, from the day of the data.
START: dict[str, Callable[[dt.date], dt.date]] = {
    "next day": lambda day: day + _DAY,
    "next week": lambda day: day + dt.timedelta(days=7 - day.weekday()),
    "next month": lambda day: add_months(day.replace(day=1), 1),
    "month after next": lambda day: add_months(day.replace(day=1), 2),
    "next quarter": lambda day: add_months(_first_of_quarter(day), 3),
    "next year": lambda day: dt.date(day.year + 1, 1, 1),
}
#: Lengths of a plan, in the place of ``plan.end``, with the most that makes sense.
LENGTHS = {"days": 3660, "weeks": 520, "months": 120, "quarters": 40, "years": 10}


def _a_day(value: Any) -> dt.date | None:
    if isinstance(value, dt.datetime):
        return value.date()
    if isinstance(value, dt.date):
        return value
    try:
        return dt.date.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _words(value: Any, known: Mapping[str, Callable[[dt.date], dt.date]]) -> str:
    words = " ".join(value.lower().split()) if isinstance(value, str) else ""
    if words not in known:
        hint = did_you_mean(words, list(known)).partition("one of ")[2]
        raise ValueError(f"a date as YYYY-MM-DD, or one of {hint}")
    return words


def is_relative(value: Any) -> bool:
    """Whether ``as_of`` is given in words."""
    return isinstance(value, str) and _a_day(value) is None


def resolve_as_of(value: Any) -> dt.date:
    """A day, or words for one.

    Raises
    ------
    ValueError
        Saying what was expected.
    """
    return _a_day(value) or AS_OF[_words(value, AS_OF)](today())


def resolve_plan(raw: Mapping[str, Any], as_of: dt.date | None) -> dict[str, Any]:
    """``plan`` of ``plan.yml`` with days for words: ``start`` and ``end`` alone, as dates where they could be told.

    Parameters
    ----------
    raw : mapping
        ``start``: a day or words; and ``end``: a day, or one of ``days``, ``weeks``, ``months``, ``quarters``,
        ``years``: how long the plan is.
    as_of : date or None
        Last day of the data, where it is known.

    Raises
    ------
    ValueError
        Saying what was expected; its first argument is ``(key, value, text)``.
    """
    rest = dict(raw)
    start = rest.get("start")
    if isinstance(start, str) and _a_day(start) is None and as_of is not None:
        try:
            rest["start"] = START[_words(start, START)](as_of)
        except ValueError as error:
            raise ValueError(("start", start, str(error))) from None
    lengths = [key for key in LENGTHS if rest.get(key) is not None]
    if not lengths:
        return {key: value for key, value in rest.items() if key not in LENGTHS}
    key = lengths[0]
    length = rest.pop(key)
    if len(lengths) > 1 or rest.get("end") is not None:
        other = "end" if rest.get("end") is not None else lengths[1]
        raise ValueError((other, raw[other], f"only one of end, {', '.join(LENGTHS)}"))
    if isinstance(length, bool) or not isinstance(length, int) or not 1 <= length <= LENGTHS[key]:
        raise ValueError((key, length, f"a whole number of {key} from 1 to {LENGTHS[key]}"))
    first = _a_day(rest.get("start"))
    if first is None:
        return {**rest, "end": first}
    if key in ("days", "weeks"):
        end = first + length * _DAY * (7 if key == "weeks" else 1)
    else:
        end = add_months(first, length * {"months": 1, "quarters": 3, "years": 12}[key])
    return {**{k: v for k, v in rest.items() if k not in LENGTHS}, "end": end - _DAY}


__all__ = ["AS_OF", "LENGTHS", "START", "TODAY", "add_months", "is_relative", "resolve_as_of", "resolve_plan", "today"]
