"""What every market x segment will sell if nothing new is asked of it: monthly mean paths from its own history.

Three forecasts are made and blended by how well they did on the last year: *structure* (today's revenue, retained month
by month, plus what new customers bring), *history* (the company's seasonal path times a smoothed share: a Gaussian
process with size-dependent noise) and *carried* (the same path times last year's share as it was).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from micromarket.periods import month_number
from micromarket.targets.shares import last_share, local_shares, share_prior

_GROWTH_DAMPING = 0.75  # of last year's growth that carries on; Gardner, McKenzie (1985): damped trends win on average


@dataclass(frozen=True)
class CellHistory:
    """History as arrays of shape (cells, months): new customers, active customers (counts), revenue (money).

    ``cells``: market_id, segment (sorted); ``months``: month numbers, one after the other.
    """

    cells: pd.DataFrame
    months: np.ndarray
    new: np.ndarray
    active: np.ndarray
    revenue: np.ndarray

    @classmethod
    def of(cls, history: pd.DataFrame, cells: pd.DataFrame) -> CellHistory:
        """``cells`` gives the rows (cells without history get zeros); months before the first sale are dropped."""
        cells = cells[["market_id", "segment"]].drop_duplicates().sort_values(["market_id", "segment"])
        cells = cells.reset_index(drop=True)
        row = pd.MultiIndex.from_frame(cells).get_indexer(pd.MultiIndex.from_frame(history[["market_id", "segment"]]))
        number = month_number(history["month"])
        months = np.arange(number.min(), number.max() + 1)
        known = row >= 0
        arrays = []
        for column in ("new_customers", "active_customers", "revenue"):
            table = np.zeros((len(cells), len(months)))
            values = history[column].to_numpy(dtype=float, na_value=0.0)
            np.add.at(table, (row[known], number[known] - months[0]), np.nan_to_num(values[known]))
            arrays.append(table)
        started = np.flatnonzero(arrays[2].sum(axis=0) > 0)
        first = started[0] if len(started) else 0
        return cls(cells, months[first:], *(a[:, first:] for a in arrays))

    def until(self, n: int) -> CellHistory:
        """The first ``n`` months only."""
        return CellHistory(self.cells, self.months[:n], self.new[:, :n], self.active[:, :n], self.revenue[:, :n])


def company_path(totals: np.ndarray, horizon: np.ndarray) -> np.ndarray:
    """The company's months ahead: the same month of last year, times a damped part of last year's growth.

    Parameters
    ----------
    totals : array of shape (n,)
        Monthly totals, oldest first.
    horizon : int array
        Months ahead, 1 for the month after the last one; values below 1 return what happened.
    """
    n = len(totals)
    if n < 12:
        level = float(totals[-min(n, 6) :].mean()) if n else 0.0
        return np.where(horizon < 1, totals[np.clip(n - 1 + horizon, 0, n - 1)], level)
    growth = 0.0
    if n > 14:
        span = min(12, n - 12)
        before = totals[n - 12 - span : n - 12].sum()
        after = totals[n - span :].sum()
        # a whole year's growth counts in full, before the damping; of a few months' only their part of a year
        growth = float(np.clip(after / before - 1, -0.5, 1.0)) * span / 12 if before > 0 else 0.0
    years = np.maximum(np.ceil(horizon / 12), 0).astype(int)
    carried = _GROWTH_DAMPING * (1 - _GROWTH_DAMPING**years) / (1 - _GROWTH_DAMPING)
    return totals[np.clip(n - 1 + horizon - 12 * years, 0, n - 1)] * (1 + growth) ** carried


def own_season(values: np.ndarray, share: np.ndarray, months: np.ndarray) -> np.ndarray:
    """Each cell's departure from the company's season: ratios of shape (cells, 12), column = calendar month.

    Shrunk by how well one year's pattern repeats in the next (covariance of two years over the same cells and months);
    all 1 with less than two years of history.
    """
    n = values.shape[1]
    ratio = np.ones((len(values), 12))
    if n < 24:
        return ratio
    company = values.sum(axis=0)[-24:]
    if (company <= 0).any():
        return ratio
    years = []
    for part in (slice(0, 12), slice(12, 24)):
        block = values[:, -24:][:, part]
        level = block.sum(axis=1, keepdims=True) / company[part].sum()
        with np.errstate(invalid="ignore", divide="ignore"):
            years.append(np.where(level > 0, block / (level * company[part]) - 1, 0.0))
    weight = share[:, None]
    signal = float(np.sum(weight * years[0] * years[1]) / 12)
    if signal <= 0:
        return ratio
    noise = np.mean((years[0] - years[1]) ** 2, axis=1, keepdims=True) / 2  # of one year, per cell
    shrunk = (years[0] + years[1]) / 2 * signal / (signal + noise / 2)
    calendar = months[-12:] % 12
    ratio[:, calendar] = np.clip(1 + shrunk, 0.2, 5.0)
    typical = np.zeros(12)
    typical[calendar] = company[:12] + company[12:]
    return ratio / ((ratio * typical).sum(axis=1, keepdims=True) / typical.sum())


def new_customer_profile(
    first_year_revenue: np.ndarray, retention: np.ndarray, months: int, billed: bool
) -> np.ndarray:
    """Revenue of one new customer in the months since it was won, shape (cells, months); money.

    ``billed``: revenue flows evenly from the day of the contract, so the first calendar month holds half of one.
    Otherwise the first purchase is the acquisition itself. The first 12 months add up to ``first_year_revenue``.
    """
    age = np.arange(months)
    shape = retention[:, None] ** np.maximum(age, 0)
    year = retention[:, None] ** np.arange(12)
    if billed:
        shape = np.where(age == 0, 0.5, 1.0) * shape
        year = np.where(np.arange(12) == 0, 0.5, 1.0) * year
        year = np.hstack([year, 0.5 * retention[:, None] ** 12])
    return first_year_revenue[:, None] * shape / year.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class Paths:
    """Monthly means per cell, shape (cells, months ahead): revenue (money) and new customers (count).

    ``structure``, ``history``, ``carried``: the revenue forecasts; ``profile``: a new customer's revenue by month.
    """

    structure: np.ndarray
    history: np.ndarray
    carried: np.ndarray
    new: np.ndarray
    profile: np.ndarray


def forecast_paths(
    past: CellHistory, horizon: int, first_year_revenue: np.ndarray, retention: np.ndarray, billed: bool
) -> Paths:
    """Paths for the ``horizon`` months after the last one of ``past``.

    Parameters
    ----------
    past : CellHistory
    horizon : int
    first_year_revenue : array of shape (cells,)
        Money per new customer in its first 12 months.
    retention : array of shape (cells,)
        Monthly share of revenue that stays, 0 to 1.
    billed : bool
        Contractual: revenue is billed every month and has no season of its own.
    """
    ahead = np.arange(1, horizon + 1)
    segment = past.cells["segment"].to_numpy()
    calendar = (past.months[-1] + ahead) % 12
    centre = (1 + horizon) / 2

    def by_cell(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        share = local_shares(values, share_prior(values, past.active, segment), centre)
        return share, company_path(values.sum(axis=0), ahead), own_season(values, share, past.months)[:, calendar]

    new_share, new_company, new_season = by_cell(past.new)
    new = (new_share + last_share(past.new))[:, None] / 2 * new_company * new_season
    share, company, season = by_cell(past.revenue)
    history = share[:, None] * company * season
    carried = last_share(past.revenue)[:, None] * company * season

    totals = past.revenue.sum(axis=0)
    profile = new_customer_profile(first_year_revenue, retention, horizon, billed)
    recent = min(len(totals), 12)
    if billed:
        # what is billed at the end of the last month: customers won in it have paid for half a month so far
        level = share * totals[-1] + past.new[:, -1] * profile[:, 0]
        kept = level[:, None] * retention[:, None] ** ahead
    else:
        kept = share[:, None] * (totals[-recent:].mean() if recent else 0.0) * retention[:, None] ** ahead
        if len(totals) >= 12:
            last = totals[-12:]
            kept = kept * season * (last / last.mean())[(ahead - 1) % 12]
    structure = kept.copy()
    for month in range(horizon):  # customers won in one month pay in all months after it
        structure[:, month:] += new[:, month : month + 1] * profile[:, : horizon - month]
    return Paths(structure, history, carried, new, profile)
