"""A look back: hide the end of the history, predict it, report how far off the prediction was."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import ibis
import numpy as np
import pandas as pd

from micromarket.value import contractual
from micromarket.value import summaries as s
from micromarket.value.model import Cells
from micromarket.value.pooling import CellLikelihood, MarketEffects, poisson
from micromarket.value.purchases import Histories, PurchaseCells, fit_segments

FEWEST_EVENTS = 30


@dataclass(frozen=True)
class Holdout:
    """``error``: predicted over actual less 1, all together; ``by_segment`` the same; ``wape``: sum of absolute errors
    by market over the actual total, of the pooled markets and (``wape_no_markets``) of the segments' models alone."""

    cut: dt.date
    what: str
    predicted: float
    actual: float
    by_segment: dict[str, float | None]
    wape: float
    wape_no_markets: float

    @property
    def error(self) -> float:
        return self.predicted / self.actual - 1


def cut_day(first: dt.date, as_of: dt.date) -> dt.date | None:
    """Where the last quarter of the history begins; at most a year is hidden; none for under four months."""
    days = (as_of - first).days
    return as_of - dt.timedelta(days=min(days // 4, 365)) if days >= 120 else None


def hide_purchases(
    dataset: s.Tables, customers: ibis.Table, cells: Cells, first: dt.date, as_of: dt.date
) -> Holdout | None:
    """Purchases of known customers after the cut."""
    cut = cut_day(first, as_of)
    if cut is None:
        return None
    days = s.purchase_days(dataset, None, as_of)
    known = s.purchase_customers(s.purchase_days(dataset, None, cut), cut)
    histories, counts = Histories.of(s.count_purchases(customers, known), cells)
    later = s.later_purchases(customers, days, known, cut)
    if not len(counts) or later["purchases"].sum() < FEWEST_EVENTS:
        return None
    fits = fit_segments(histories, len(cells.segments))
    months = max(round((as_of - cut).days / s.DAYS_PER_MONTH), 1)
    world = PurchaseCells(cells, histories, fits, 0.0, months)
    # the path in the table is by month: stretch the month so that it ends on the last day
    world.month_days = (as_of - cut).days / months
    effects = _fit(world.likelihood(), cells, 2)
    predicted = []
    for theta in (effects.posterior_.mean, effects.mean_[cells.segment]):
        tables = world.tables(theta, 0.1)
        predicted.append(world.current(tables, theta, slice(0, 1), (histories.customers,))[:, 0])
    return _compare(cells, cut, "purchases", predicted, later, "purchases")


def hide_departures(
    dataset: s.Tables, customers: ibis.Table, cells: Cells, bounds: dict, as_of: dt.date
) -> Holdout | None:
    """Departures, after the cut, of customers who were there on it."""
    first = bounds["first_start"]
    cut = cut_day(first, as_of) if bounds["gone"] else None
    if cut is None or bounds["first_end"] > cut - (as_of - cut) / 2:
        return None
    contracts = s.contract_customers(dataset, cut)
    t, counts = contractual.Tenures.of(s.count_contracts(customers, contracts, cut), cells)
    later = s.later_departures(customers, contracts, s.contract_customers(dataset, as_of))
    if not len(counts) or later["departures"].sum() < FEWEST_EVENTS:
        return None
    fits = contractual.fit_segments(t, len(cells.segments))
    months = (as_of - cut).days / s.DAYS_PER_MONTH
    world = contractual.ContractCells(cells, t, fits, 0.0, int(np.ceil(months)) + 1)
    lost = cells.total(t.cell, t.customers * t.gone)
    likelihood = poisson(lost, cells.total(t.cell, world.expected()))
    effects = _fit(likelihood, cells, 1)
    whole, part = int(months), months - int(months)
    at_risk = world.stay(whole) + part * (world.stay(whole + 1) - world.stay(whole))
    predicted = []
    for theta in (effects.posterior_.mean, effects.mean_[cells.segment]):
        leave = -np.expm1(-np.exp(theta[t.cell, 0]) * at_risk)
        predicted.append(cells.total(t.cell, np.where(t.gone == 0, t.customers * leave, 0.0)))
    return _compare(cells, cut, "departures", predicted, later, "departures")


def _fit(likelihood: CellLikelihood, cells: Cells, k: int) -> MarketEffects:
    return MarketEffects().fit(likelihood, cells.market, cells.segment, k)


def _compare(
    cells: Cells, cut: dt.date, what: str, predicted: list[np.ndarray], later: pd.DataFrame, column: str
) -> Holdout:
    at = cells.locate(later)
    actual = cells.total(at[at >= 0], later[column].to_numpy(float)[at >= 0])
    markets = len(cells.market_ids)
    by_market = [np.bincount(cells.market, weights=v, minlength=markets) for v in (actual, *predicted)]
    mine, total = cells.by_segment(predicted[0]), cells.by_segment(actual)
    return Holdout(
        cut=cut,
        what=what,
        predicted=float(predicted[0].sum()),
        actual=float(actual.sum()),
        by_segment={
            name: float(mine[i] / total[i] - 1) if total[i] >= FEWEST_EVENTS else None
            for i, name in enumerate(cells.segments)
        },
        wape=float(np.abs(by_market[1] - by_market[0]).sum() / actual.sum()),
        wape_no_markets=float(np.abs(by_market[2] - by_market[0]).sum() / actual.sum()),
    )
