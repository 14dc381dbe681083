"""Customers with contracts: tenure counts to the value model of every cell."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
import pandas as pd

from micromarket.notes import Assumption
from micromarket.value.contract_cells import STEP, ContractCells
from micromarket.value.model import CellModel, Cells, LogQuadratic
from micromarket.value.pooling import poisson
from micromarket.value.prior_mean import Surroundings, fit_effects
from micromarket.value.signal import verdict
from micromarket.value.spend import money_effects, money_signal, segment_ratio
from micromarket.value.tenures import SIMPLEST, RetentionModel, Tenures, fit_segments
from micromarket.value.validation import Calibration

_PAPERS = {
    "shifted-beta-geometric": "Fader & Hardie 2007 (Journal of Interactive Marketing 21); 2010 (Marketing Science 29)",
    "beta-discrete-Weibull": "Fader, Hardie, Liu, Davin & Steenburgh 2018 (Journal of Interactive Marketing 43)",
}
_ASSUMED = {
    "shifted-beta-geometric": "Each customer leaves at their own constant rate, which differs between customers (sBG).",
    "beta-discrete-Weibull": "Each customer's rate of leaving rises or falls with their time as a customer, from a"
    " level of their own (BdW).",
}
#: Customers of a segment who came within a year, from which on they tell today's price of a new contract.
FEWEST_NEW = 50


def model_contracts(
    cells: Cells,
    counts: pd.DataFrame,
    moments: pd.DataFrame,
    about: Surroundings,
    margin_rate: float,
    discount_rate: float,
    horizon: int,
    family: str = SIMPLEST,
    calibration: Calibration | None = None,
) -> CellModel:
    """From the counts of :mod:`micromarket.value.summaries`; ``about``: features and neighbours of markets.

    ``family``: the retention model (a key of :data:`~micromarket.value.tenures.FAMILIES`); ``calibration``: of the
    rates of leaving to come, from a look back.
    """
    segments = len(cells.segments)
    t, counts = Tenures.of(counts, cells)
    if not len(counts):
        raise ValueError("no customer has a contract")
    calibration = Calibration.none(segments) if calibration is None else calibration
    fits = fit_segments(t, segments, family)
    world = ContractCells(cells, t, fits, discount_rate, horizon, calibration.factor)
    # money stays as long as the customers who pay it: a retention curve of revenue beside that of heads
    paying = t.weighted_by_value(segments)
    income = ContractCells(
        cells, t, fit_segments(paying, segments, family), discount_rate, horizon, calibration.factor
    )  # fmt: skip
    components = [world.signal(), money_signal("monthly value", moments, cells)]
    fixed = verdict(components)["verdict"] == "none"
    lost = cells.total(t.cell, t.customers * t.gone)
    effects, _ = fit_effects(poisson(lost, cells.total(t.cell, world.expected())), cells, about, fixed=fixed)
    behaviour = effects.posterior_

    n, amount = cells.total(t.cell, t.customers), cells.total(t.cell, t.value)
    mean = segment_ratio(cells, amount, n)
    value2 = cells.total(t.cell, counts["value2"].to_numpy(float))
    spread = np.maximum(segment_ratio(cells, value2, n) - mean**2, 0.0)
    money, level, _ = money_effects(cells, amount, n, n * spread[cells.segment], about, fixed)
    newer = _price_of_new(cells, counts, mean)
    unit = level * newer * np.exp(money.mean[:, 0] + money.covariance[:, 0, 0] / 2)

    theta = behaviour.mean
    tables, revenue_tables = world.tables(theta), income.tables(theta)
    now = t.gone == 0
    active = cells.total(t.cell[now], t.customers[now])
    value_now = cells.total(t.cell[now], t.value[now])

    def new(u: np.ndarray) -> np.ndarray:
        """Discounted paid months of a new customer, of revenue and of heads, (cells, 2)."""
        return np.stack([w.new_months(w.survival(u[:, 0], horizon))[:, -1] for w in (income, world)], axis=1)

    def current(u: np.ndarray) -> np.ndarray:
        """Mean discounted revenue and months over each cell's active customers."""
        of_new = new(u) * np.stack([unit, np.ones(len(cells))], 1)
        means = []
        for q, (w, table, weight) in enumerate(((income, revenue_tables, t.value), (world, tables, t.customers))):
            total = cells.total(
                t.cell[now], weight[now] * w.lookup(table, t.segment[now], t.age[now], u[t.cell[now], 0])
            )
            scale = segment_ratio(cells, total, active * of_new[:, q])[cells.segment]
            means.append(
                np.where(active > 0, total / np.maximum(active, 1e-300), of_new[:, q] * np.where(scale > 0, scale, 1.0))
            )
        return np.stack(means, axis=1)

    revenue, stay = LogQuadratic.around(current, theta, STEP)
    left = income.lookup(revenue_tables, t.segment[now], t.age[now], theta[t.cell[now], 0])
    spread = np.zeros(len(t.age))
    for s, variation in enumerate(income.variation()):
        spread[t.segment == s] = variation[t.age[t.segment == s]]
    squares = cells.total(t.cell[now], left**2 * spread[now] * counts["value2"].to_numpy(float)[now])
    current_sd = np.sqrt(squares) / np.maximum(cells.total(t.cell[now], left * t.value[now]), 1e-300)
    current_sd = np.where(value_now > 0, np.minimum(current_sd, 1.0), 0.0)

    kept = t.value[now] * np.exp(-np.exp(theta[t.cell[now], 0]) * income.stay(12)[now])
    kept_share = cells.total(t.cell[now], kept) / np.maximum(value_now, 1e-300)
    survival = income.survival(theta[:, 0], max(horizon, 12))
    retention = np.where(value_now > 0, kept_share, survival[:, 12]) ** (1 / 12)
    nothing = np.zeros((len(cells), 1))
    heads = world.survival(theta[:, 0], horizon)
    path_count = np.concatenate([nothing, income.new_months(survival[:, : horizon + 1])], axis=1)
    path_months = np.concatenate([nothing, world.new_months(heads)], axis=1)
    paid, months = LogQuadratic.around(new, theta, STEP)
    shared = np.array([_shared_sd(f, horizon, discount_rate) for f in fits])
    # a rate of leaving that is off by a share moves lifetimes by less: the share of them that it costs
    slope = np.abs(paid.slope[:, 0])
    return CellModel(
        cells=cells,
        behaviour=behaviour,
        money=money,
        new_count=paid,
        new_months=months,
        current_revenue=revenue,
        current_months=stay,
        unit=unit,
        current_sd=current_sd,
        money_slope=np.zeros(len(cells)),
        money_share=np.where(active > 0, 0.0, 1.0),
        margin_rate=np.full(len(cells), margin_rate),
        margin_sd=np.zeros(len(cells)),
        first_year_count=income.paid(survival[:, :13], new=True).sum(axis=1),
        retention=np.clip(retention, 0.0, 1.0),
        path_count=path_count,
        path_months=path_months,
        shared_sd=np.hypot(shared[cells.segment], calibration.sd[cells.segment] * slope),
        current_shared_sd=np.hypot(shared[cells.segment], calibration.sd[cells.segment] * np.abs(revenue.slope[:, 0])),
        market_sd=calibration.market_sd * slope,
        customers=active,
        models=_models(cells, fits, n, family, calibration),
        components=components,
        warnings=_warnings(cells, fits),
        assumptions=[Assumption(_ASSUMED[family], _PAPERS[family])],
    )


def _price_of_new(cells: Cells, counts: pd.DataFrame, mean: np.ndarray) -> np.ndarray:
    """Monthly value of customers who came of late over that of all, by cell's segment."""
    n, value = (cells.total(cells.locate(counts), counts[c].to_numpy(float)) for c in ("recent", "recent_value"))
    enough = cells.by_segment(n) >= FEWEST_NEW
    ratio = segment_ratio(cells, value, n) / np.where(mean > 0, mean, 1.0)
    return np.where(enough & (ratio > 0), ratio, 1.0)[cells.segment]


def _shared_sd(fit: RetentionModel, horizon: int, discount_rate: float) -> float:
    """Standard error of a log lifetime from the fit's parameters (delta method)."""
    names = list(fit.parameters())
    ends = []
    for name in names:
        pair = []
        for step in (-0.01, 0.01):
            moved = copy(fit)
            setattr(moved, f"{name}_", fit.parameters()[name] * np.exp(step))
            pair.append(np.log(max(moved.discounted_lifetime(horizon, discount_rate), 1e-12)))
        ends.append((pair[1] - pair[0]) / 0.02)
    slope = np.array(ends)
    return float(min(np.sqrt(max(slope @ fit.covariance_[: len(names), : len(names)] @ slope, 0.0)), 0.5))


def _models(cells: Cells, fits: list, n: np.ndarray, family: str, calibration: Calibration) -> list[dict[str, Any]]:
    customers = cells.by_segment(n)
    return [
        {
            "segment": segment,
            "model": family,
            "parameters": {**fits[s].parameters(), "unit_of_time": "month"},
            "customers": float(customers[s]),
            "calibration": float(calibration.factor[s]),
            "converged": bool(fits[s].converged_),
            "holdout_error": None,
        }
        for s, segment in enumerate(cells.segments)
    ]


def _warnings(cells: Cells, fits: list) -> list[str]:
    odd = [cells.segments[s] for s, f in enumerate(fits) if not f.converged_]
    return [f"The retention model did not settle for {', '.join(odd)}: take values there as rough."] if odd else []
