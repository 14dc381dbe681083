"""Does the model keep up with what customers did? Actual against expected by month, by frequency, by age.

The models are fitted here to what was known on a day (``cut``) and followed through the months after it: the tracking
plot of Fader, Hardie & Lee 2005 (Marketing Science 24, fig. 3-4). Everything is counted in the engine.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ibis
import numpy as np
import pandas as pd

from micromarket.value import summaries as s
from micromarket.value.groups import Z90
from micromarket.value.purchases import FAMILIES as PURCHASE_MODELS
from micromarket.value.tenures import FAMILIES as RETENTION_MODELS

FEWEST = 200
MOST_MONTHS = 48


def model_of(models: Sequence[Mapping[str, Any]], known: Mapping[str, Callable[[], Any]]) -> Callable[[], Any]:
    """Maker of the model that the value stage's notes name; the first of ``known`` where they name none of them."""
    names = [str(m.get("model", "")) for m in models]
    found = next((make for name, make in known.items() if any(n.startswith(name) for n in names)), None)
    return found or next(iter(known.values()))


def default_cut(first: dt.date, as_of: dt.date) -> dt.date:
    """The end of the last whole month before the last quarter of the history (at most a year)."""
    cut = as_of - dt.timedelta(days=min((as_of - first).days // 4, 365) - 1)
    return cut.replace(day=1) - dt.timedelta(days=1)


def _month(day: ibis.Value) -> ibis.Value:
    return (day.year() * 12 + day.month() - 1).cast("int64")


def _month_ends(first: dt.date, as_of: dt.date) -> tuple[np.ndarray, list[dt.date]]:
    """Numbers of the whole months from ``first``'s on, and the day after each."""
    numbers = np.arange(first.year * 12 + first.month - 1, as_of.year * 12 + as_of.month)
    after = [dt.date(int(m + 1) // 12, int(m + 1) % 12 + 1, 1) for m in numbers]
    whole = [i for i, day in enumerate(after) if day - dt.timedelta(days=1) <= as_of]
    return numbers[whole], [after[i] for i in whole]


def _frame(numbers: np.ndarray, actual: np.ndarray, expected: np.ndarray, cut: dt.date) -> pd.DataFrame:
    months = pd.to_datetime([f"{m // 12}-{m % 12 + 1:02d}-01" for m in numbers])
    frame = pd.DataFrame({"month": months, "actual": actual, "expected": expected})
    frame["hidden"] = frame["month"] > pd.Timestamp(cut)
    return frame.tail(MOST_MONTHS).reset_index(drop=True)


def track_purchases(
    dataset: s.Tables, as_of: dt.date, models: Sequence[Mapping[str, Any]], cut: dt.date | None = None
) -> pd.DataFrame | None:
    """Repeat purchases by month of the customers won up to ``cut``, and what the model fitted on that day expects.

    Parameters
    ----------
    models
        From the notes of the value stage: says which model.

    Returns
    -------
    DataFrame or None
        month, actual, expected (purchases), hidden (months that the model has not seen). ``None`` where fewer than 200
        customers are known by then, or under four months of history.
    """
    customers = s.customers_of(dataset)
    days = s.purchase_days(dataset, None, as_of)
    bought = days.filter(days.bought == 1).select("customer_id", "date")
    bought = bought.semi_join(customers, "customer_id")
    begin = bought.date.min().execute()
    if begin is None or pd.isna(begin) or (as_of - pd.Timestamp(begin).date()).days < 120:
        return None
    first_day = pd.Timestamp(begin).date()
    cut = cut or default_cut(first_day, as_of)
    known = s.purchase_customers(s.purchase_days(dataset, None, cut), cut)
    counts = s.count_purchases(customers, known)
    if counts["customers"].sum() < FEWEST:
        return None
    firsts = bought.group_by("customer_id").aggregate(began=bought.date.min())
    firsts = firsts.filter(firsts.began <= ibis.literal(cut, "date"))
    repeats = bought.inner_join(firsts, "customer_id")
    repeats = repeats.filter(repeats.date > repeats.began)
    repeats = repeats.mutate(at=_month(repeats.date))
    actual = repeats.group_by("at").aggregate(n=repeats["at"].count().cast("float64")).to_pandas().set_index("at")["n"]
    numbers, after = _month_ends(first_day, as_of)
    ends = np.array([(day - cut).days - 1.0 for day in after])
    expected = np.zeros(len(ends))
    for part, model in _fits(counts, model_of(models, PURCHASE_MODELS)):
        expected += _cumulative(model, part["T"].to_numpy(float), part["customers"].to_numpy(float), ends)
    monthly = np.diff(expected, prepend=0.0)
    return _frame(numbers, actual.reindex(numbers).fillna(0.0).to_numpy(float), monthly, cut)


def _cumulative(model: Any, age: np.ndarray, n: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Expected repeat purchases up to each of ``ends`` (days after the cut) of customers ``age`` days old on it."""
    ages, index = np.unique(age, return_inverse=True)
    lag = np.maximum(ages[:, None] + ends, 0.0)
    lags, where = np.unique(lag, return_inverse=True)
    path = np.asarray(model.expected_purchases(lags), float)
    return np.bincount(index, weights=n) @ path[where.reshape(lag.shape)]


def _fits(counts: pd.DataFrame, make: Callable[[], Any]) -> list[tuple[pd.DataFrame, Any]]:
    """A model a segment; thin segments share everyone's."""
    everyone: Any = None
    fits = []
    for _, part in counts.groupby("segment", sort=True):
        n, repeaters = part["customers"].sum(), part.loc[part["x"] > 0, "customers"].sum()
        columns = ("x", "t_x", "T", "customers")
        if n >= FEWEST and repeaters >= 30 and n < counts["customers"].sum():
            fits.append((part, make().fit(*(part[c].to_numpy(float) for c in columns))))
        else:
            if everyone is None:
                everyone = make().fit(*(counts[c].to_numpy(float) for c in columns))
            fits.append((part, everyone))
    return fits


def purchase_frequencies(
    dataset: s.Tables, as_of: dt.date, models: Sequence[Mapping[str, Any]], up_to: int = 7
) -> pd.DataFrame | None:
    """Customers by their number of repeat purchases, actual and as the fitted model has it.

    Columns: repeats (0 … ``up_to``, the last one "or more"), actual, expected (customers). ``None`` under 200 customers
    in all, or where the model that was chosen has no such formula (Weibull lifetimes).
    """
    known = s.purchase_customers(s.purchase_days(dataset, None, as_of), as_of)
    counts = s.count_purchases(s.customers_of(dataset), known)
    if counts["customers"].sum() < FEWEST:
        return None
    x = np.minimum(counts["x"].to_numpy(int), up_to)
    actual = np.bincount(x, weights=counts["customers"].to_numpy(float), minlength=up_to + 1)
    expected = np.zeros(up_to + 1)
    for part, model in _fits(counts, model_of(models, PURCHASE_MODELS)):
        if not hasattr(model, "expected_frequencies"):
            return None
        expected += model.expected_frequencies(part["T"].to_numpy(float), part["customers"].to_numpy(float), up_to)
    return pd.DataFrame({"repeats": np.arange(up_to + 1), "actual": actual, "expected": expected})


# --- contracts -------------------------------------------------------------------------------------------------------
def _losses(counts: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Customers at risk in, lost in and known to have stayed through each month of age, (months,) each.

    Who is watched for a part of a month counts half in ``at_risk`` (actuarial estimate, Cutler & Ederer 1958).
    """
    entry, age, n = (counts[c].to_numpy() for c in ("entry", "age", "customers"))
    entry, age, n, gone = entry.astype(int), age.astype(int), n.astype(float), counts["gone"].to_numpy() == 1
    size = int(age.max()) + 2
    begins = np.cumsum(np.bincount(entry, weights=n, minlength=size))[:size]
    past = np.cumsum(np.bincount(age, weights=n, minlength=size))[:size]
    there = begins - np.concatenate([[0.0], past[:-1]])
    lost = np.bincount(age[gone], weights=n[gone], minlength=size)
    halves = np.bincount(age[~gone], weights=n[~gone], minlength=size)
    late = entry > 0
    halves = halves + np.bincount(entry[late], weights=n[late], minlength=size)
    at_risk = np.maximum(there - halves / 2, lost)
    return at_risk, lost, np.maximum(at_risk - lost, 0.0)


def survival(
    dataset: s.Tables,
    as_of: dt.date,
    models: Sequence[Mapping[str, Any]],
    since: dt.date | None = None,
    min_cell: int = 10,
) -> pd.DataFrame | None:
    """Share of customers still there by age, observed (life table, with 90% range) and as the fitted model has it.

    Columns: segment, month (of age), at_risk (customers watched in the month before), there, low, high, model
    (fractions). A curve ends where fewer than ``min_cell`` customers are watched. ``None`` without contracts.
    """
    contracts = s.contract_customers(dataset, as_of)
    counts = s.count_contracts(s.customers_of(dataset), contracts, as_of, since)
    if not len(counts):
        return None
    make = model_of(models, RETENTION_MODELS)
    frames = []
    for segment, part in counts.groupby("segment", sort=True):
        at_risk, lost, stayed = _losses(part)
        begins = int(part["entry"].min())
        ends = begins + int(np.argmax(np.append(at_risk[begins:], 0.0) < max(min_cell, 1)))
        if ends - begins < 2:
            continue
        rate = lost[begins:ends] / at_risk[begins:ends]
        there = np.concatenate([[1.0], np.cumprod(1 - rate)])
        room = np.maximum(at_risk[begins:ends] - lost[begins:ends], 0.5)
        greenwood = np.concatenate([[0.0], np.cumsum(rate / room)])
        inside = np.clip(there, 1e-6, 1 - 1e-6)
        width = Z90 * np.sqrt(greenwood) / np.abs(np.log(inside))  # on the log-log scale: stays within 0 and 1
        model = make().fit(lost, stayed)
        kept = np.cumprod(1 - model.hazard(np.arange(begins, ends)))
        frames.append(
            pd.DataFrame(
                {
                    "segment": segment,
                    "month": np.arange(begins, ends + 1),
                    "at_risk": np.concatenate([at_risk[begins : begins + 1], at_risk[begins:ends]]).round(),
                    "there": there,
                    "low": inside ** np.exp(width),
                    "high": inside ** np.exp(-width),
                    "model": np.concatenate([[1.0], kept]),
                }
            )
        )
    return pd.concat(frames, ignore_index=True) if frames else None


def track_departures(
    dataset: s.Tables,
    as_of: dt.date,
    models: Sequence[Mapping[str, Any]],
    since: dt.date | None = None,
    cut: dt.date | None = None,
) -> pd.DataFrame | None:
    """Departures by month of the customers won up to ``cut``, and what the model fitted on that day expects.

    ``since``: first day from which ended contracts are recorded. Columns as in :func:`track_purchases`; departures.
    """
    customers = s.customers_of(dataset)
    now = s.contract_customers(dataset, as_of).semi_join(customers, "customer_id")
    first_day = s.contract_bounds(now)["first_start"]
    if first_day is None:
        return None
    begin = max(first_day, since) if since is not None else first_day
    if (as_of - begin).days < 120:
        return None
    cut = cut or default_cut(begin, as_of)
    counts = s.count_contracts(customers, s.contract_customers(dataset, cut), cut, since)
    if counts["customers"].sum() < FEWEST or counts.loc[counts["gone"] == 1, "customers"].sum() < 20:
        return None
    make = model_of(models, RETENTION_MODELS)
    now = now.filter(now.start <= ibis.literal(cut, "date"))
    if since is not None:
        now = now.filter(now.end >= ibis.literal(since, "date"))
    joined = now.inner_join(customers, "customer_id")
    left = joined.filter(joined.gone == 1)
    left = left.mutate(at=_month(left.end))
    actual = left.group_by("at").aggregate(n=left["at"].count().cast("float64")).to_pandas().set_index("at")["n"]
    started = joined.group_by("segment", "start").aggregate(n=joined.start.count().cast("float64")).to_pandas()
    age = (pd.Timestamp(begin) - pd.to_datetime(started["start"])).dt.days.to_numpy(float)
    numbers, after = _month_ends(begin, as_of)
    ends = np.array([(day - begin).days for day in after], float)
    expected = np.zeros(len(ends))
    for segment, part in counts.groupby("segment", sort=True):
        rows = (started["segment"] == segment).to_numpy()
        lost, stayed = _losses(part)[1:]
        if lost.sum() < 20:
            lost, stayed = _losses(counts)[1:]
        expected += _departures(make().fit(lost, stayed), age[rows], started["n"].to_numpy(float)[rows], ends)
    return _frame(
        numbers, actual.reindex(numbers).fillna(0.0).to_numpy(float), np.diff(expected, prepend=0.0), cut
    )  # fmt: skip


def _departures(model: Any, age: np.ndarray, n: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Cumulative departures by each of ``ends`` (days) of customers ``age`` days old on day 0 (or to come)."""
    oldest = int(np.ceil((max(age.max(), 0.0) + ends.max()) / s.DAYS_PER_MONTH)) + 2
    hazard = np.concatenate([[0.0], np.cumsum(-np.log1p(-np.clip(model.hazard(np.arange(oldest)), 0.0, 1 - 1e-12)))])
    # between whole months customers leave evenly
    months = np.arange(oldest + 1)

    def at(days: np.ndarray) -> np.ndarray:
        return np.interp(np.maximum(days, 0.0) / s.DAYS_PER_MONTH, months, hazard)

    begun = at(age)
    return np.array([float(n @ -np.expm1(begun - at(age + day))) for day in ends])
