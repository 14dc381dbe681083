"""Customers without a contract: histories to the value model of every cell."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from micromarket.notes import Assumption
from micromarket.value.bgnbd import BetaGeoNBD
from micromarket.value.model import CellModel, Cells, LogQuadratic
from micromarket.value.prior_mean import fit_effects
from micromarket.value.purchases import Histories, PurchaseCells, fit_segments
from micromarket.value.quadrature import residual_paths
from micromarket.value.signal import verdict
from micromarket.value.spend import (
    basket_variance,
    margin_ratio,
    money_effects,
    money_signal,
    pool_current,
    population_weights,
)
from micromarket.value.summaries import DAYS_PER_MONTH

_STEP = 0.15
_PAPERS = "Fader, Hardie & Lee 2005 (Marketing Science 24; Journal of Marketing Research 42)"


def model_purchases(
    cells: Cells,
    counts: pd.DataFrame,
    spend: pd.DataFrame,
    X: np.ndarray,
    discount_rate: float,
    horizon: int,
) -> CellModel:
    """From the counts of :mod:`micromarket.value.summaries`; ``X``: market features (markets, p)."""
    histories, counts = Histories.of(counts, cells)
    if not len(counts):
        raise ValueError("no customer has a purchase")
    fits = fit_segments(histories, len(cells.segments))
    world = PurchaseCells(cells, histories, fits, discount_rate, horizon)
    components = [world.signal(), money_signal("money per purchase", counts, cells)]
    fixed = verdict(components)["verdict"] == "none"

    effects, _ = fit_effects(world.likelihood(), cells, X, k=2, fixed=fixed)
    behaviour = effects.posterior_
    sums = {
        c: cells.total(histories.cell, counts[c].to_numpy(float, na_value=0.0))
        for c in ("amount", "margin", "amount2", "margin2", "amount_margin", "customers")
    }
    purchases = cells.total(histories.cell, histories.customers * (histories.x + 1))
    variance = basket_variance(histories, counts, cells)
    money, level, _ = money_effects(cells, sums["amount"], purchases, variance, X, fixed)
    unit = level * np.exp(money.mean[:, 0] + money.covariance[:, 0, 0] / 2)
    margin_rate, margin_sd = margin_ratio(cells, sums, X, fixed)

    theta = behaviour.mean
    tables = world.tables(theta, _STEP)
    centre = world.new(tables, theta, slice(0, None))
    by_segment = world.calibration(horizon * DAYS_PER_MONTH)
    calibration = by_segment[cells.segment]
    months = len(world.months) - 1
    path_count = np.concatenate(
        [np.ones((len(cells), 1)), 1 + calibration[:, None] * centre[:, 5 : 5 + horizon]], axis=1
    )
    path_months = np.concatenate([np.zeros((len(cells), 1)), centre[:, 5 + months : 5 + months + horizon]], axis=1)

    weight, baskets = population_weights(spend, cells, histories)
    own_mean = histories.amount / (histories.x + 1)  # summed over the customers of a row
    from_cell = weight * unit[histories.cell] * histories.customers
    per_row = np.maximum(from_cell + (1 - weight) * own_mean, 0.0)
    n, one = sums["customers"], np.ones(len(cells))

    def current(t: np.ndarray) -> np.ndarray:
        totals = world.current(tables, t, slice(0, 2), (per_row, histories.customers))
        return _per_customer(cells, totals, n, world.new(tables, t, slice(0, 2)) * np.stack([unit, one], 1))

    among = counts["amount2"].to_numpy(float) - histories.amount**2 / histories.customers
    square = per_row**2 / histories.customers + ((1 - weight) / (histories.x + 1)) ** 2 * np.maximum(among, 0.0)
    squares = world.current(tables, theta, slice(0, 2), (square, histories.customers), power=2)
    like_new = centre[:, :2] * np.stack([unit, one], 1)
    income, stay = LogQuadratic.around(current, theta, _STEP)
    income, current_sd = pool_current(cells, income, n, like_new[:, 0], squares[:, 0])
    stay, _ = pool_current(cells, stay, n, like_new[:, 1], squares[:, 1])
    new_count, new_months = LogQuadratic.around(
        lambda t: world.new(tables, t, slice(0, 2)) * np.stack([calibration, one], 1) + np.array([1.0, 0.0]),
        theta,
        _STEP,
    )

    later = world.current(tables, theta, slice(2, 5), (per_row,) * 3)
    later = _per_customer(cells, later, n, centre[:, 2:5])
    # rates of purchase now and in a year; the first month has begun to decline, a second-order matter
    retention = np.clip(later[:, 2] / np.maximum(later[:, 0], 1e-300), 0.0, 1.0) ** (1 / 12)
    share = cells.total(histories.cell, np.maximum(from_cell, 0)) / np.maximum(
        cells.total(histories.cell, per_row), 1e-300
    )
    # a misfit that a factor repairs on average leaves something: a quarter of it counts as uncertainty
    shared = np.hypot([_shared_sd(f, horizon) for f in fits], np.log(by_segment) / 4)
    return CellModel(
        cells=cells,
        behaviour=behaviour,
        money=money,
        new_count=new_count,
        new_months=new_months,
        current_revenue=income,
        current_months=stay,
        unit=unit,
        current_sd=current_sd,
        money_share=np.where(n > 0, np.clip(share, 0, 1), 1.0),
        margin_rate=margin_rate,
        margin_sd=margin_sd,
        first_year_count=1 + calibration * centre[:, 3],
        retention=retention,
        path_count=path_count,
        path_months=path_months,
        shared_sd=shared[cells.segment],
        customers=n,
        models=_models(cells, fits, baskets, n, by_segment),
        components=components,
        warnings=_warnings(cells, fits, baskets, by_segment),
        assumptions=[
            Assumption(
                "Customers buy at their own steady rate until they silently leave; what they spend per purchase doesn't"
                " depend on how often they buy (BG/NBD and Gamma-Gamma).",
                _PAPERS,
            )
        ],
    )


def _per_customer(cells: Cells, totals: np.ndarray, n: np.ndarray, of_new: np.ndarray) -> np.ndarray:
    """Means over each cell's customers; a cell without any gets a new customer's, scaled as in its segment."""
    mean = totals / np.maximum(n, 1e-300)[:, None]
    result = np.empty_like(mean)
    for q in range(mean.shape[1]):
        some = cells.by_segment(totals[:, q])
        like_new = cells.by_segment(n * of_new[:, q])
        scale = np.where(like_new > 0, some / np.maximum(like_new, 1e-300), 1.0)
        result[:, q] = np.where(n > 0, mean[:, q], of_new[:, q] * scale[cells.segment])
    return result


def _shared_sd(fit: BetaGeoNBD, horizon: int) -> float:
    """Standard error of the log expected purchases from the two shapes that markets share (r and a + b), given the
    mean rate and mean dropout, whose uncertainty the market effects carry."""
    along = np.array([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
    covariance = np.linalg.inv(along @ np.linalg.pinv(fit.covariance_) @ along.T)
    base = np.log([fit.r_, fit.alpha_, fit.a_, fit.b_])
    time = np.array([horizon * DAYS_PER_MONTH])

    def log_count(log_parameters: np.ndarray) -> float:
        r, alpha, a, b = np.exp(log_parameters)
        return float(np.log1p(residual_paths(np.array([r]), np.array([alpha]), a, b, time)[0][0, 0]))

    slope = np.array([(log_count(base + 0.01 * d) - log_count(base - 0.01 * d)) / 0.02 for d in along])
    return float(min(np.sqrt(max(slope @ covariance @ slope, 0.0)), 0.5))


def _models(cells: Cells, fits: list, baskets: list, n: np.ndarray, calibration: np.ndarray) -> list[dict[str, Any]]:
    customers = cells.by_segment(n)
    models = []
    for s, segment in enumerate(cells.segments):
        parameters = fits[s].parameters() | (baskets[s].parameters() if s < len(baskets) else {})
        models.append(
            {
                "segment": segment,
                "model": "BG/NBD with Gamma-Gamma",
                "parameters": {**parameters, "unit_of_time": "day"},
                "customers": float(customers[s]),
                "calibration": float(calibration[s]),
                "converged": bool(fits[s].converged_),
                "holdout_error": None,
            }
        )
    return models


def _warnings(cells: Cells, fits: list, baskets: list, calibration: np.ndarray) -> list[str]:
    warnings = []
    odd = sorted({cells.segments[s] for s, f in enumerate(fits) if not f.converged_})
    if odd:
        warnings.append(f"The purchase model did not settle for {', '.join(odd)}: take values there as rough.")
    off = [f"{cells.segments[s]} ({c - 1:+.0%})" for s, c in enumerate(calibration) if abs(np.log(c)) > 0.1]
    if off:
        warnings.append(
            "New customers have bought more or less often than the purchase model says; the value of a new customer was"
            f" corrected to what was seen: {', '.join(off)}."
        )
    if any(b.guarded_ for b in baskets):
        warnings.append(
            "A few very large purchases dominate what customers spend: mean values rest on them, read them with care."
        )
    return warnings
