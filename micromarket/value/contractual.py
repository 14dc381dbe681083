"""Customers with contracts: tenure counts to the value model of every cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from micromarket.notes import Assumption
from micromarket.value.model import CellModel, Cells, LogQuadratic
from micromarket.value.pooling import poisson
from micromarket.value.prior_mean import fit_effects
from micromarket.value.residual_table import _chebyshev, _lagrange
from micromarket.value.sbg import ShiftedBetaGeometric, discount_factors
from micromarket.value.signal import Component, analysis_of_variance, verdict
from micromarket.value.spend import money_effects, money_signal, pool_current, segment_ratio

FEWEST_CUSTOMERS, FEWEST_LOST = 100, 20
_STEP = 0.1
_PAPER = "Fader & Hardie 2007 (Journal of Interactive Marketing 21); 2010 (Marketing Science 29)"


@dataclass(frozen=True)
class Tenures:
    """Rows of :func:`~micromarket.value.summaries.count_contracts` with their cell and segment (ages in months).

    ``last_month``: how much of their last month customers stayed on average: 1/2, on any day; 1, at renewals.
    """

    cell: np.ndarray
    segment: np.ndarray
    entry: np.ndarray
    age: np.ndarray
    gone: np.ndarray
    customers: np.ndarray
    entry_part: np.ndarray
    age_part: np.ndarray
    value: np.ndarray
    last_month: float

    @classmethod
    def of(cls, counts: pd.DataFrame, cells: Cells) -> tuple[Tenures, pd.DataFrame]:
        cell = cells.locate(counts)
        counts, cell = counts[cell >= 0], cell[cell >= 0]
        entry, age, left = (counts[c].to_numpy(int) for c in ("entry", "age", "gone"))
        n, entry_part, age_part, value = (
            counts[c].to_numpy(float) for c in ("customers", "entry_part", "age_part", "value")
        )
        gone = left == 1
        lost = n[gone].sum()
        last_month = float(np.clip(age_part[gone].sum() / lost, 0.5, 1.0)) if lost >= FEWEST_LOST else 0.5
        segment = cells.segment[cell]
        return cls(cell, segment, entry, age, left, n, entry_part, age_part, value, last_month), counts

    @property
    def partial(self) -> float:
        """How much a begun month exposes to leaving, per fraction of it lived: 1 where customers leave at any time,
        0 where they leave at renewals only (at the month's end)."""
        return 2 * (1 - self.last_month)

    def lost_and_stayed(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Customers who left, and who stayed (fractions of months at the ends of observation), at each age."""
        size = int(self.age[rows].max()) + 1
        entry, age, n, gone = self.entry[rows], self.age[rows], self.customers[rows], self.gone[rows] == 1
        lost = np.bincount(age[gone], weights=n[gone], minlength=size)
        change = np.bincount(entry, weights=n, minlength=size + 1) - np.bincount(age, weights=n, minlength=size + 1)
        stayed = np.cumsum(change)[:size]
        stayed += np.bincount(age[~gone], weights=self.partial * self.age_part[rows][~gone], minlength=size)
        late = ~gone | (entry < age)
        stayed -= np.bincount(entry[late], weights=self.partial * self.entry_part[rows][late], minlength=size)
        return lost, np.maximum(stayed, 0.0)


def fit_segments(tenures: Tenures, segments: int) -> list[ShiftedBetaGeometric]:
    """sBG of each segment over all its markets; thin segments share the fit of everyone."""
    everyone: ShiftedBetaGeometric | None = None
    fits = []
    for s in range(segments):
        rows = tenures.segment == s
        n = tenures.customers[rows]
        if n.sum() < FEWEST_CUSTOMERS or n[tenures.gone[rows] == 1].sum() < FEWEST_LOST:
            if everyone is None:
                everyone = ShiftedBetaGeometric(prior_sd=2.0).fit(*tenures.lost_and_stayed(tenures.segment >= 0))
            fits.append(everyone)
        else:
            fits.append(ShiftedBetaGeometric(prior_sd=2.0).fit(*tenures.lost_and_stayed(rows)))
    return fits


class ContractCells:
    """All cells under an effect u on the log rate of leaving: survival over months j at age k is
    exp(-exp(u) (L[k + j] - L[k])), L the segment's cumulative hazard."""

    def __init__(
        self, cells: Cells, tenures: Tenures, fits: list[ShiftedBetaGeometric], discount_rate: float, horizon: int
    ):
        self.cells, self.tenures, self.horizon = cells, tenures, horizon
        self.oldest = int(tenures.age.max()) if len(tenures.age) else 0
        ages = np.arange(self.oldest + max(horizon, 13) + 2)
        self._rate = np.stack([-np.log1p(-f.hazard(ages)) for f in fits])
        self._total = np.concatenate([np.zeros((len(fits), 1)), np.cumsum(self._rate, axis=1)], axis=1)
        self._start = discount_factors(np.arange(horizon), discount_rate)
        self._mid = discount_factors(np.arange(horizon) + 0.5, discount_rate)

    def expected(self) -> np.ndarray:
        """Expected departures of each row's customers at the segment's rate (cumulative hazard while observed)."""
        t, s = self.tenures, self.tenures.segment
        whole = self._total[s, t.age] - self._total[s, t.entry]
        age_part = np.where(t.gone == 1, t.age_part, t.partial * t.age_part)
        parts = self._rate[s, t.age] * age_part - self._rate[s, t.entry] * t.partial * t.entry_part
        return np.maximum(t.customers * whole + parts, 1e-12)

    def signal(self) -> Component:
        """Do markets differ in departures, given segment and tenure? On martingale residuals of customers."""
        t = self.tenures
        expected = self.expected()
        scale = segment_ratio(
            self.cells, self.cells.total(t.cell, t.customers * t.gone), self.cells.total(t.cell, expected)
        )
        residual = t.gone - scale[t.segment] * expected / t.customers
        m = self.cells.market[t.cell]
        size = len(self.cells.market_ids)
        values = (t.customers, t.customers * residual, t.customers * residual**2)
        return analysis_of_variance("churn", *(np.bincount(m, weights=v, minlength=size) for v in values))

    def paid(self, there: np.ndarray, new: bool) -> np.ndarray:
        """Share of each month that is paid, from the shares still there at its start and end (last axis).

        Who leaves pays for ``last_month`` of the month; of a current customer's running month the rest is to come.
        """
        last = self.tenures.last_month if new else 1 - self.tenures.last_month
        return there[..., 1:] + last * (there[..., :-1] - there[..., 1:])

    def new_months(self, there: np.ndarray) -> np.ndarray:
        """Cumulative discounted paid months of new customers; each month is billed at its start."""
        return np.cumsum(self.paid(there, new=True) * self._start, axis=-1)

    def lifetime(self, s: int, ages: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Discounted months within the horizon of current customers, (ages, effects); bills are half a month away."""
        gained = self._total[s][ages[:, None] + np.arange(self.horizon + 1)] - self._total[s][ages][:, None]
        there = np.exp(-np.exp(u)[None, :, None] * gained[:, None, :])
        return self.paid(there, new=False) @ self._mid

    def stay(self, months: int) -> np.ndarray:
        """Cumulative hazard of each row's customers over the next ``months``."""
        t = self.tenures
        return self._total[t.segment, t.age + months] - self._total[t.segment, t.age]

    def tables(self, theta: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Per segment: Chebyshev points of the effect, log lifetimes of (age, point)."""
        out = []
        for s in range(len(self._rate)):
            own = theta[self.cells.segment == s, 0]
            nodes = _chebyshev(own.min() - 2 * _STEP, own.max() + 2 * _STEP, 10)
            ages = np.arange(self.oldest + 1)
            blocks = [self.lifetime(s, ages[i : i + 64], nodes) for i in range(0, len(ages), 64)]
            out.append((nodes, np.log(np.maximum(np.concatenate(blocks), 1e-300))))
        return out

    def lookup(self, tables: list, segment: np.ndarray, age: np.ndarray, u: np.ndarray) -> np.ndarray:
        result = np.empty(len(age))
        for s, (nodes, values) in enumerate(tables):
            rows = np.flatnonzero(segment == s)
            result[rows] = np.exp((_lagrange(nodes, u[rows]) * values[age[rows]]).sum(axis=1))
        return result


def model_contracts(
    cells: Cells,
    counts: pd.DataFrame,
    moments: pd.DataFrame,
    X: np.ndarray,
    margin_rate: float,
    discount_rate: float,
    horizon: int,
) -> CellModel:
    """From the counts of :mod:`micromarket.value.summaries`; ``X``: market features (markets, p)."""
    t, counts = Tenures.of(counts, cells)
    if not len(counts):
        raise ValueError("no customer has a contract")
    fits = fit_segments(t, len(cells.segments))
    world = ContractCells(cells, t, fits, discount_rate, horizon)
    components = [world.signal(), money_signal("monthly value", moments, cells)]
    fixed = verdict(components)["verdict"] == "none"
    lost = cells.total(t.cell, t.customers * t.gone)
    effects, _ = fit_effects(poisson(lost, cells.total(t.cell, world.expected())), cells, X, fixed=fixed)
    behaviour = effects.posterior_

    n, amount = cells.total(t.cell, t.customers), cells.total(t.cell, t.value)
    mean = segment_ratio(cells, amount, n)
    value2 = cells.total(t.cell, counts["value2"].to_numpy(float))
    spread = np.maximum(segment_ratio(cells, value2, n) - mean**2, 0.0)
    money, level, _ = money_effects(cells, amount, n, n * spread[cells.segment], X, fixed)
    recent, recent_value = (cells.total(t.cell, counts[c].to_numpy(float)) for c in ("recent", "recent_value"))
    enough = cells.by_segment(recent) >= 50
    newer = np.where(enough, segment_ratio(cells, recent_value, recent) / np.where(mean > 0, mean, 1.0), 1.0)
    unit = level * newer[cells.segment] * np.exp(money.mean[:, 0] + money.covariance[:, 0, 0] / 2)

    theta = behaviour.mean
    tables = world.tables(theta)
    now = t.gone == 0
    active = cells.total(t.cell[now], t.customers[now])
    value_now = cells.total(t.cell[now], t.value[now])

    months = np.arange(max(horizon, 12) + 1)
    hazards = world._total[cells.segment][:, months]

    def new(u: np.ndarray) -> np.ndarray:
        return world.new_months(np.exp(-np.exp(u) * hazards[:, : horizon + 1]))[:, -1]

    def current(u: np.ndarray) -> np.ndarray:
        """Mean discounted revenue and months over each cell's active customers."""
        left = world.lookup(tables, t.segment[now], t.age[now], u[t.cell[now], 0])
        means = []
        for weight, own in ((t.value[now], new(u) * unit), (t.customers[now], new(u))):
            total = cells.total(t.cell[now], weight * left)
            scale = segment_ratio(cells, total, active * own)[cells.segment]
            means.append(
                np.where(active > 0, total / np.maximum(active, 1e-300), own * np.where(scale > 0, scale, 1.0))
            )
        return np.stack(means, axis=1)

    lived = world.lookup(tables, t.segment[now], t.age[now], theta[t.cell[now], 0]) ** 2
    revenue, stay = LogQuadratic.around(current, theta, _STEP)
    squares = cells.total(t.cell[now], lived * counts["value2"].to_numpy(float)[now])
    revenue, current_sd = pool_current(cells, revenue, active, new(theta) * unit, squares)
    stay, _ = pool_current(cells, stay, active, new(theta), cells.total(t.cell[now], lived * t.customers[now]))

    rate = np.exp(theta[:, 0])
    kept = t.value[now] * np.exp(-rate[t.cell[now]] * world.stay(12)[now])
    kept_share = cells.total(t.cell[now], kept) / np.maximum(value_now, 1e-300)
    survival = np.exp(-rate[:, None] * hazards)
    retention = np.where(value_now > 0, kept_share, survival[:, 12]) ** (1 / 12)
    path = np.concatenate([np.zeros((len(cells), 1)), world.new_months(survival[:, : horizon + 1])], axis=1)
    (lifetimes,) = LogQuadratic.around(lambda u: new(u)[:, None], theta, _STEP)
    return CellModel(
        cells=cells,
        behaviour=behaviour,
        money=money,
        new_count=lifetimes,
        new_months=lifetimes,
        current_revenue=revenue,
        current_months=stay,
        unit=unit,
        current_sd=current_sd,
        money_share=np.where(active > 0, 0.0, 1.0),
        margin_rate=np.full(len(cells), margin_rate),
        margin_sd=np.zeros(len(cells)),
        first_year_count=world.paid(survival[:, :13], new=True).sum(axis=1),
        retention=np.clip(retention, 0.0, 1.0),
        path_count=path,
        path_months=path,
        shared_sd=np.array([_shared_sd(f, horizon, discount_rate) for f in fits])[cells.segment],
        customers=active,
        models=_models(cells, fits, n),
        components=components,
        warnings=_warnings(cells, fits),
        assumptions=[
            Assumption(
                "Each customer leaves at their own constant rate, which differs between customers (sBG).", _PAPER
            )
        ],
    )


def _shared_sd(fit: ShiftedBetaGeometric, horizon: int, discount_rate: float) -> float:
    """Standard error of a log lifetime from the spread of rates (alpha + beta), given the mean rate."""
    information = np.linalg.pinv(fit.covariance_)
    variance = 1 / max(information.sum(), 1e-9)
    ends = []
    for step in (-0.01, 0.01):
        moved = ShiftedBetaGeometric()
        moved.alpha_, moved.beta_ = fit.alpha_ * np.exp(step), fit.beta_ * np.exp(step)
        ends.append(np.log(moved.discounted_lifetime(horizon, discount_rate)))
    return float(min(abs(ends[1] - ends[0]) / 0.02 * np.sqrt(variance), 0.5))


def _models(cells: Cells, fits: list, n: np.ndarray) -> list[dict[str, Any]]:
    customers = cells.by_segment(n)
    return [
        {
            "segment": segment,
            "model": "shifted-beta-geometric",
            "parameters": {**fits[s].parameters(), "unit_of_time": "month"},
            "customers": float(customers[s]),
            "converged": bool(fits[s].converged_),
            "holdout_error": None,
        }
        for s, segment in enumerate(cells.segments)
    ]


def _warnings(cells: Cells, fits: list) -> list[str]:
    odd = [cells.segments[s] for s, f in enumerate(fits) if not f.converged_]
    return [f"The retention model did not settle for {', '.join(odd)}: take values there as rough."] if odd else []
