"""Hiding the latest departures: which retention model foresees them best, and how far off its level is."""

from __future__ import annotations

import datetime as dt
from typing import Any

import ibis
import numpy as np
import pandas as pd
from scipy.stats import norm

from micromarket.value import summaries as s
from micromarket.value.contract_cells import ContractCells
from micromarket.value.model import Cells
from micromarket.value.pooling import MarketEffects, poisson
from micromarket.value.tenures import FAMILIES, RetentionModel, Tenures, fit_segments
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


def look_back_contracts(
    dataset: s.Tables,
    customers: ibis.Table,
    cells: Cells,
    bounds: dict[str, Any],
    as_of: dt.date,
    since: dt.date | None = None,
) -> Holdout | None:
    """Departures in hidden windows, of customers who were there on their first day; None where too few were seen."""
    if not bounds["gone"]:
        return None
    first = max(bounds["first_start"], since) if since is not None else bounds["first_start"]
    seen: list[tuple[Window, Tenures, np.ndarray, dict[str, list[RetentionModel]]]] = []
    for cut, until in cut_days(first, as_of):
        if bounds["first_end"] > cut - (until - cut) / 2:
            break
        contracts = s.contract_customers(dataset, cut)
        later = s.contract_customers(dataset, until)
        t, counts = Tenures.of(s.count_contracts(customers, contracts, cut, since, later), cells)
        left = counts["left"].to_numpy(float)
        if not len(counts) or left.sum() < FEWEST_EVENTS:
            break
        fits = {name: fit_segments(t, len(cells.segments), name) for name in FAMILIES}
        empty = np.zeros(len(cells.segments))
        seen.append((Window(cut, until, empty, empty, empty), t, left, fits))
    if not seen:
        return None
    scores = {name: sum(_log_score(w, t, left, f[name], cells) for w, t, left, f in seen) for name in FAMILIES}
    family = choose(scores)
    windows, elasticity = [], []
    for w, t, left, f in seen:
        leave = _leaving(w, t, f[family], cells)
        predicted = np.bincount(t.segment, weights=leave * _at_risk(t), minlength=len(cells.segments))
        actual = np.bincount(t.segment, weights=left, minlength=len(cells.segments))
        windows.append(Window(w.cut, w.until, predicted, actual, predicted))
        stay = -np.log1p(-np.minimum(leave, 1 - 1e-9))
        slope = (_at_risk(t) * (1 - leave) * stay).sum() / max((_at_risk(t) * leave).sum(), 1e-9)
        elasticity.append(slope)
    share = float(np.clip(np.mean(elasticity), 0.3, 1.0))
    return _of_markets(seen[0], family, scores, windows, calibrate(windows, share), share, cells)


def _of_markets(
    latest: tuple[Window, Tenures, np.ndarray, dict[str, list[RetentionModel]]],
    family: str,
    scores: dict[str, float],
    windows: list[Window],
    calibration: Calibration,
    elasticity: float,
    cells: Cells,
) -> Holdout:
    window, t, left, fits = latest
    world = ContractCells(cells, t, fits[family], 0.0, 1)
    lost = cells.total(t.cell, t.customers * t.gone)
    effects = MarketEffects().fit(poisson(lost, cells.total(t.cell, world.expected())), cells.market, cells.segment, 1)
    predicted = []
    for theta in (effects.posterior_.mean, effects.mean_[cells.segment]):
        leave = _leaving(window, t, fits[family], cells, theta[:, 0])
        predicted.append(cells.total(t.cell, leave * _at_risk(t)))
    actual = cells.total(t.cell, left)
    (a, p, _), wape, plain = errors_by_market(cells, actual, predicted)
    unknown = effects.posterior_.covariance[:, 0, 0]
    fit = np.bincount(cells.market, weights=predicted[0] ** 2 * unknown, minlength=len(p))
    level = a.sum() / max(p.sum(), 1e-9)
    misfit = market_misfit(a, p * level, p * level + fit * level**2)
    sd = np.sqrt(p + fit + (misfit**2 + float(calibration.sd.mean()) ** 2) * p**2)
    z = norm.ppf(0.95)
    factor = np.bincount(
        cells.market, weights=predicted[0] * calibration.factor[cells.segment] ** elasticity, minlength=len(p)
    )
    by_market = pd.DataFrame(
        {"market_id": cells.market_ids, "predicted": p, "calibrated": factor, "actual": a,
         "low": np.maximum(factor - z * sd, 0.0), "high": factor + z * sd}
    )  # fmt: skip
    calibration = Calibration(calibration.factor, calibration.sd, misfit)
    return Holdout("departures", family, scores, tuple(windows), calibration, cells.segments, by_market, wape, plain)


def _at_risk(t: Tenures) -> np.ndarray:
    return np.where(t.gone == 0, t.customers, 0.0)


def _leaving(
    window: Window, t: Tenures, fits: list[RetentionModel], cells: Cells, theta: np.ndarray | None = None
) -> np.ndarray:
    """Probability of each row's customers to leave within the window."""
    months = (window.until - window.cut).days / s.DAYS_PER_MONTH
    whole, part = int(months), months - int(months)
    world = ContractCells(cells, t, fits, 0.0, whole + 2)
    hazard = world.stay(whole) + part * (world.stay(whole + 1) - world.stay(whole))
    return -np.expm1(-hazard * (1.0 if theta is None else np.exp(theta[t.cell])))


def _log_score(window: Window, t: Tenures, left: np.ndarray, fits: list[RetentionModel], cells: Cells) -> float:
    """Log-likelihood of who left and who stayed."""
    leave = np.clip(_leaving(window, t, fits, cells), 1e-9, 1 - 1e-9)
    return float((left * np.log(leave) + (_at_risk(t) - left) * np.log1p(-leave)).sum())
