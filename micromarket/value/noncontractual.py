"""Customers without a contract: histories to the value model of every cell."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from micromarket.notes import Assumption
from micromarket.value.aging import Aging
from micromarket.value.look_back_purchases import CELLS
from micromarket.value.model import CellModel, Cells, LogQuadratic
from micromarket.value.pooling import Posterior
from micromarket.value.prior_mean import Surroundings, fit_effects
from micromarket.value.purchase_cells import BOUGHT, MONTH_1, MONTH_13, THERE, YEAR_1, PurchaseCells
from micromarket.value.purchases import SIMPLEST, Histories, fit_segments
from micromarket.value.signal import verdict
from micromarket.value.spend import (
    basket_variance,
    margin_ratio,
    money_effects,
    money_signal,
    population_weights,
    spend_by_frequency,
)
from micromarket.value.validation import Calibration

_STEP = 0.15
_PAPERS = {
    "BG/NBD": "Fader, Hardie & Lee 2005 (Marketing Science 24; Journal of Marketing Research 42)",
    "MBG/NBD": "Batislam, Denizel & Filiztekin 2007 (International Journal of Research in Marketing 24); Hoppe & Wagner"
    " 2007 (Marketing ZFP 29)",
    "Pareto/NBD": "Schmittlein, Morrison & Colombo 1987 (Management Science 33); Fader, Hardie & Lee 2005 (Journal of"
    " Marketing Research 42)",
}
_PAPERS["Weibull/NBD"] = "after Bemmaor & Glady 2012 (Management Science 58), with Weibull lifetimes"
_LEAVE = {
    "BG/NBD": "until they silently leave after one of their purchases",
    "MBG/NBD": "until they silently leave after one of their purchases, be it the first",
    "Pareto/NBD": "until they silently leave, at any time",
    "Weibull/NBD": "until they silently leave; the risk of it rises or falls with their time as a customer",
}


def model_purchases(
    cells: Cells,
    counts: pd.DataFrame,
    spend: pd.DataFrame,
    about: Surroundings,
    discount_rate: float,
    horizon: int,
    family: str = SIMPLEST,
    calibration: Calibration | None = None,
) -> CellModel:
    """From the counts of :mod:`micromarket.value.summaries`; ``about``: features and neighbours of markets.

    ``family``: the purchase model (a key of :data:`~micromarket.value.purchases.FAMILIES`); ``calibration``: of what
    known customers will buy, from a look back.
    """
    segments = len(cells.segments)
    histories, counts = Histories.of(counts, cells)
    if not len(counts):
        raise ValueError("no customer has a purchase")
    calibration = Calibration.none(segments) if calibration is None else calibration
    fits = fit_segments(histories, segments, family)
    world = CELLS[family](cells, histories, fits, discount_rate, horizon)
    components = [world.signal(), money_signal("money per purchase", counts, cells)]
    fixed = verdict(components)["verdict"] == "none"

    world, behaviour = _behaviour(world, cells, about, fixed)
    sums = {
        c: cells.total(histories.cell, counts[c].to_numpy(float, na_value=0.0))
        for c in ("amount", "margin", "amount2", "margin2", "amount_margin", "customers")
    }
    purchases = cells.total(histories.cell, histories.customers * (histories.x + 1))
    variance = basket_variance(histories, counts, cells)
    money, level, _ = money_effects(cells, sums["amount"], purchases, variance, about, fixed)
    unit = level * np.exp(money.mean[:, 0] + money.covariance[:, 0, 0] / 2)
    margin_rate, margin_sd = margin_ratio(cells, sums, about, fixed)

    weight, baskets = population_weights(spend, cells, histories)
    own_mean = histories.amount / (histories.x + 1)  # summed over the customers of a row
    by_frequency = spend_by_frequency(histories, segments)
    shape = np.array([f.parameters()["r"] for f in fits])[histories.segment]
    typical = unit[histories.cell] * by_frequency.of_next(histories.x, shape, histories.segment)
    from_cell = weight * typical * histories.customers
    per_row = np.maximum(from_cell + (1 - weight) * own_mean, 0.0)

    theta = behaviour.mean
    aging = world.aging(theta)
    world.tilt, level_seen = aging.tilt, np.exp(aging.level)[cells.segment]
    world.prepare(theta, _STEP)
    centre = world.new(theta)
    bought, there = world.path
    first = (by_frequency.first + by_frequency.repeat * np.maximum(aging.start, -0.5))[cells.segment]
    repeat = by_frequency.repeat[cells.segment] * level_seen
    nothing = np.zeros((len(cells), 1))
    path_count = first[:, None] + np.concatenate([nothing, repeat[:, None] * centre[:, bought]], axis=1)
    path_months = np.concatenate([nothing, centre[:, there]], axis=1)

    n, one = sums["customers"], np.ones(len(cells))
    factor = calibration.factor[cells.segment]

    def current(t: np.ndarray) -> np.ndarray:
        totals = world.totals(t, slice(BOUGHT, THERE + 1), (per_row, histories.customers))
        of_new = world.new(t)[:, : THERE + 1] * np.stack([unit, one], 1)
        return _per_customer(cells, totals, n, of_new) * np.stack([factor, one], 1)

    def new(t: np.ndarray) -> np.ndarray:
        outputs = world.new(t)
        return np.stack([first + repeat * outputs[:, BOUGHT], outputs[:, THERE]], axis=1)

    income, stay = LogQuadratic.around(current, theta, _STEP)
    new_count, new_months = LogQuadratic.around(new, theta, _STEP)
    among = counts["amount2"].to_numpy(float) - histories.amount**2 / histories.customers
    square = per_row**2 / histories.customers + ((1 - weight) / (histories.x + 1)) ** 2 * np.maximum(among, 0.0)
    current_sd = _luck_of_few(world, theta, per_row, square, _spend_variation(baskets, histories, segments))

    later = world.totals(theta, slice(MONTH_1, MONTH_13 + 1), (per_row,) * 3)
    later = _per_customer(cells, later, n, centre[:, MONTH_1 : MONTH_13 + 1])
    # rates of purchase now and in a year; the first month has begun to decline, a second-order matter
    retention = np.clip(later[:, 2] / np.maximum(later[:, 0], 1e-300), 0.0, 1.0) ** (1 / 12)
    share = cells.total(histories.cell, np.maximum(from_cell, 0)) / np.maximum(
        cells.total(histories.cell, per_row), 1e-300
    )
    gained = np.diff(path_count, axis=1)
    month = np.arange(horizon) + 0.5
    by_tilt = gained @ month
    of_new = aging.sd(cells.segment, 1 - first / path_count[:, -1], by_tilt / path_count[:, -1])
    # months that nobody has been seen in yet: the look back's error stands in for what is not known of them
    oldest = np.quantile(histories.T, 0.98) / world.month_days
    beyond = gained[:, month > oldest].sum(axis=1) / path_count[:, -1]
    of_new = np.hypot(of_new, beyond * calibration.sd[cells.segment])
    repeats = np.maximum(gained.sum(axis=1), 1e-300)
    of_current = aging.sd(cells.segment, 0.0 * one, by_tilt / repeats)
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
        money_slope=by_frequency.slope[cells.segment],
        money_share=np.where(n > 0, np.clip(share, 0, 1), 1.0),
        margin_rate=margin_rate,
        margin_sd=margin_sd,
        first_year_count=first + repeat * centre[:, YEAR_1],
        retention=retention,
        path_count=path_count,
        path_months=path_months,
        shared_sd=of_new,
        current_shared_sd=np.hypot(of_current, calibration.sd[cells.segment]),
        market_sd=np.full(len(cells), calibration.market_sd),
        customers=n,
        models=_models(cells, fits, baskets, n, aging, calibration, family),
        components=components,
        warnings=_warnings(cells, fits, baskets, aging, calibration),
        assumptions=[Assumption(_assumed(family), _PAPERS[family])],
    )


def _assumed(family: str) -> str:
    return (
        f"Customers buy at their own steady rate {_LEAVE[family]}; what they spend per purchase goes with how often"
        f" they buy as it has ({family} and Gamma-Gamma)."
    )


def _behaviour(world: PurchaseCells, cells: Cells, about: Surroundings, fixed: bool) -> tuple[PurchaseCells, Posterior]:
    """Market effects twice: the first time tells how much of the customers' spread lies between markets."""
    effects, _ = fit_effects(world.likelihood(), cells, about, k=2, fixed=fixed)
    if fixed:
        return world, effects.posterior_
    n = cells.total(world.histories.cell, world.histories.customers)
    theta = effects.posterior_.mean
    away = (
        theta
        - np.stack([cells.by_segment(n * t) / np.maximum(cells.by_segment(n), 1e-9) for t in theta.T], 1)[cells.segment]
    )
    world = world.sharpen((n[:, None] * away**2).sum(axis=0) / n.sum())
    effects, _ = fit_effects(world.likelihood(), cells, about, k=2, start=effects)
    return world, effects.posterior_


def _spend_variation(baskets: list, histories: Histories, segments: int) -> np.ndarray:
    """Squared coefficient of variation of a customer's mean spend, given the history (Gamma-Gamma), by row."""
    out = np.zeros(len(histories.x))
    for s in range(min(len(baskets), segments)):
        rows = histories.segment == s
        shape = baskets[s].p_ * (histories.x[rows] + 1) + baskets[s].q_
        out[rows] = 1 / np.maximum(shape - 2, 0.5)
    return out


def _luck_of_few(
    world: PurchaseCells, theta: np.ndarray, per_row: np.ndarray, square: np.ndarray, of_spend: np.ndarray
) -> np.ndarray:
    """Standard error of a cell's log current revenue from which customers, still there or not, it happens to have.

    Each customer's expected revenue is P(alive) x purchases x spend, all three known up to what the models say of
    customers with the same history; ``square``: sums over the row's customers of squared spend.
    """
    there = world.alive(theta)
    bought = world.residual(theta, slice(BOUGHT, BOUGHT + 1))[:, 0]
    spread = (1 + world.residual_variation(theta)) * (1 + of_spend)
    variance = square * bought**2 * there * np.maximum(spread - there, 0.0)
    total = world.cells.total
    mean = total(world.histories.cell, there * bought * per_row)
    sd = np.sqrt(total(world.histories.cell, variance)) / np.maximum(mean, 1e-300)
    # on the log scale, of a positive quantity with this coefficient of variation
    return np.where(mean > 0, np.sqrt(np.log1p(np.minimum(sd, 2.0) ** 2)), 0.0)


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


def _models(
    cells: Cells,
    fits: list,
    baskets: list,
    n: np.ndarray,
    aging: Aging,
    calibration: Calibration,
    family: str,
) -> list[dict[str, Any]]:
    customers = cells.by_segment(n)
    models = []
    for s, segment in enumerate(cells.segments):
        parameters = fits[s].parameters() | (baskets[s].parameters() if s < len(baskets) else {})
        models.append(
            {
                "segment": segment,
                "model": f"{family} with Gamma-Gamma",
                "parameters": {**parameters, "unit_of_time": "day"},
                "customers": float(customers[s]),
                "calibration": float(calibration.factor[s]),
                "aging": {"level": float(np.exp(aging.level[s])), "tilt_per_year": float(12 * aging.tilt[s])},
                "converged": bool(fits[s].converged_),
                "holdout_error": None,
            }
        )
    return models


def _warnings(cells: Cells, fits: list, baskets: list, aging: Aging, calibration: Calibration) -> list[str]:
    warnings = []
    odd = sorted({cells.segments[s] for s, f in enumerate(fits) if not f.converged_})
    if odd:
        warnings.append(f"The purchase model did not settle for {', '.join(odd)}: take values there as rough.")
    after = np.exp(aging.level + 12 * aging.tilt)
    off = [f"{cells.segments[s]} ({c - 1:+.0%})" for s, c in enumerate(after) if abs(np.log(c)) > 0.1]
    if off:
        warnings.append(
            "Customers of a year's age have bought more or less often than the purchase model says; the path of a new"
            f" customer follows what was seen: {', '.join(off)}."
        )
    off = [f"{cells.segments[s]} ({c - 1:+.0%})" for s, c in enumerate(calibration.factor) if abs(np.log(c)) > 0.1]
    if off:
        warnings.append(
            "Hidden purchases of known customers were more or fewer than the model foresaw; what they will still buy"
            f" was corrected accordingly: {', '.join(off)}."
        )
    if any(b.guarded_ for b in baskets):
        warnings.append(
            "A few very large purchases dominate what customers spend: mean values rest on them, read them with care."
        )
    return warnings
