"""Hiding the latest purchases: which purchase model foresees them best, and how far off its level is."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import ibis
import numpy as np
import pandas as pd
from scipy.stats import norm

from micromarket.value import summaries as s
from micromarket.value.bgnbd_cells import DropoutCells, FirstDropoutCells
from micromarket.value.model import Cells
from micromarket.value.pareto_cells import LifetimeCells
from micromarket.value.pooling import MarketEffects
from micromarket.value.purchase_cells import BOUGHT, PurchaseCells
from micromarket.value.purchases import FAMILIES, SIMPLEST, Histories, PurchaseModel, fit_segments
from micromarket.value.season import FEWEST_DAYS, FEWEST_PURCHASES, STEADY, Clock, find_season, purchases_by_day
from micromarket.value.validation import (
    FEWEST_EVENTS,
    Calibration,
    Holdout,
    Window,
    calibrate,
    choose,
    cut_days,
    errors_by_market,
    market_misfit,
)

CELLS: dict[str, type[PurchaseCells]] = {
    "BG/NBD": DropoutCells,
    "MBG/NBD": FirstDropoutCells,
    "Pareto/NBD": LifetimeCells,
    "Weibull/NBD": LifetimeCells,
}
#: Standard deviation of a model's level, as far as the choice between models goes: calibration mends the level.
LEVEL_SD = 0.15


@dataclass(frozen=True)
class _Seen:
    """Histories up to ``cut`` with what their customers bought in the window (sums, sums of squares)."""

    cut: dt.date
    until: dt.date
    histories: Histories
    later: np.ndarray
    later2: np.ndarray
    clock: Clock

    @property
    def days(self) -> float:
        return self.clock.between(self.cut, self.until)

    @property
    def months(self) -> int:
        return max(round(self.days / s.DAYS_PER_MONTH), 1)


def look_back_purchases(
    days: ibis.Table,
    customers: ibis.Table,
    cells: Cells,
    first: dt.date,
    as_of: dt.date,
    clock: Clock = STEADY,
) -> Holdout | None:
    """Purchases in hidden windows, of customers known on their first day; None where too few were seen.

    ``days``: purchase days of all time; ``first``: day of the first purchase; ``clock``: what time is counted in.
    """
    segments = len(cells.segments)
    windows: list[Window] = []
    latest: tuple[_Seen, list[PurchaseModel]] | None = None
    scores: dict[str, float] = {}
    family = SIMPLEST
    for cut, until in cut_days(first, as_of):
        seen = _hide(days, customers, cells, cut, until, clock)
        if seen is None:
            break
        if latest is None:
            fits = {name: fit_segments(seen.histories, segments, name) for name in FAMILIES}
            scores = {name: _score(seen, _predict(seen, f, name, cells)) for name, f in fits.items()}
            family = choose(scores)
            fitted = fits[family]
            latest = seen, fitted
        else:
            fitted = fit_segments(seen.histories, segments, family)
        predicted = _predict(seen, fitted, family, cells)
        h = seen.histories
        variance = seen.later2 - 2 * seen.later * predicted + h.customers * predicted**2
        sums = [
            np.bincount(h.segment, weights=v, minlength=segments)
            for v in (predicted * h.customers, seen.later, np.maximum(variance, 0.0))
        ]
        windows.append(Window(cut, until, *sums))
    if latest is None:
        return None
    return _of_markets(*latest, family, scores, windows, calibrate(windows), cells)


def season_clock(days: ibis.Table, counts: pd.DataFrame, as_of: dt.date) -> Clock:
    """The company's season, from its purchase days and the counts made of them (steady days)."""
    oldest = int(counts["T"].max())
    by_day = purchases_by_day(days) if oldest >= FEWEST_DAYS else pd.DataFrame({"date": [], "purchases": []})
    if by_day["purchases"].sum() < FEWEST_PURCHASES:
        return STEADY
    x, t_x, T, n = (counts[c].to_numpy(float) for c in ("x", "t_x", "T", "customers"))
    expected = FAMILIES[SIMPLEST]().fit(x, t_x, T, n).expected_purchases(np.arange(oldest + 1.0))
    return find_season(by_day, counts.groupby("T", as_index=False)[["customers"]].sum(), expected, as_of)


def _hide(
    days: ibis.Table, customers: ibis.Table, cells: Cells, cut: dt.date, until: dt.date, clock: Clock
) -> _Seen | None:
    known = s.purchase_customers(days.filter(days.date <= ibis.literal(cut, "date")), cut, clock)
    later = s.later_purchases(days, cut, until)
    histories, counts = Histories.of(s.count_purchases(customers, known, later), cells)
    if not len(counts) or counts["later"].sum() < FEWEST_EVENTS:
        return None
    return _Seen(cut, until, histories, counts["later"].to_numpy(float), counts["later2"].to_numpy(float), clock)


def _world(seen: _Seen, fits: list[PurchaseModel], family: str, cells: Cells) -> PurchaseCells:
    world = CELLS[family](cells, seen.histories, fits, 0.0, seen.months)
    # the path in the tables is by month: stretch the month so that it ends on the last day
    world.month_days = seen.days / seen.months
    return world


def _predict(
    seen: _Seen, fits: list[PurchaseModel], family: str, cells: Cells, theta: np.ndarray | None = None
) -> np.ndarray:
    """Expected purchases in the window, per customer of each history."""
    world = _world(seen, fits, family, cells)
    theta = np.zeros((len(cells), 2)) if theta is None else theta
    world.prepare(theta, 0.1)
    return world.alive(theta) * world.residual(theta, slice(BOUGHT, BOUGHT + 1))[:, 0]


def _score(seen: _Seen, predicted: np.ndarray) -> float:
    """Gaussian log score of the purchases of groups of like customers, the common level set apart.

    Groups: segment, number of repeat purchases, how much of their time customers have been silent, age.
    """
    h = seen.histories
    silent = np.minimum((4 * (h.T - h.t_x) / np.maximum(h.T, 1.0)).astype(int), 3)
    age = np.minimum((4 * h.T / max(h.T.max(), 1.0)).astype(int), 3)
    often = np.digitize(h.x, [1, 2, 3, 5, 9])
    group = ((h.segment * 6 + often) * 4 + silent) * 4 + age
    size = int(group.max()) + 1

    def total(v: np.ndarray) -> np.ndarray:
        return np.bincount(group, weights=v, minlength=size)

    n, expected, actual = total(h.customers), total(predicted * h.customers), total(seen.later)
    use = n >= 20
    if not use.any():
        return 0.0
    n, expected, actual = n[use], expected[use], actual[use]
    variance = np.maximum(total(seen.later2)[use] - actual**2 / n, np.maximum(expected, 0.5))
    level = actual.sum() / max(expected.sum(), 1e-9)
    off = ((actual - level * expected) ** 2 / (variance + (0.02 * actual) ** 2)).sum()
    return float(-0.5 * off - 0.5 * (np.log(max(level, 1e-9)) / LEVEL_SD) ** 2)


def _of_markets(
    seen: _Seen,
    fits: list[PurchaseModel],
    family: str,
    scores: dict[str, float],
    windows: list[Window],
    calibration: Calibration,
    cells: Cells,
) -> Holdout:
    h = seen.histories
    effects = MarketEffects().fit(
        _world(seen, fits, family, cells).likelihood(), cells.market, cells.segment, 2
    )  # fmt: skip
    predicted, rows = [], np.empty(0)
    for theta in (effects.posterior_.mean, effects.mean_[cells.segment]):
        rows = _predict(seen, fits, family, cells, theta)
        predicted.append(cells.total(h.cell, rows * h.customers))
    actual = cells.total(h.cell, seen.later)
    (a, p, _), wape, plain = errors_by_market(cells, actual, predicted)
    size = len(p)
    noise = np.maximum(seen.later2 - 2 * seen.later * rows + h.customers * rows**2, 0.0)
    ratio = noise.sum() / max(actual.sum(), 1e-9)  # variance per purchase, as customers differ
    unknown = effects.posterior_.covariance[:, 0, 0]
    fit = np.bincount(cells.market, weights=predicted[0] ** 2 * unknown, minlength=size)
    level = a.sum() / max(p.sum(), 1e-9)
    misfit = market_misfit(a, p * level, ratio * p * level + fit * level**2)
    centre = np.bincount(cells.market, weights=predicted[0] * calibration.factor[cells.segment], minlength=size)
    sd = np.sqrt(ratio * centre + fit + (misfit**2 + float(calibration.sd.mean()) ** 2) * centre**2)
    z = norm.ppf(0.95)
    by_market = pd.DataFrame(
        {"market_id": cells.market_ids, "predicted": p, "calibrated": centre, "actual": a,
         "low": np.maximum(centre - z * sd, 0.0), "high": centre + z * sd}
    )  # fmt: skip
    calibration = Calibration(calibration.factor, calibration.sd, misfit)
    return Holdout("purchases", family, scores, tuple(windows), calibration, cells.segments, by_market, wape, plain)
