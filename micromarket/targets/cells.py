"""From a company's history, values and budget to each cell's mean, spread and limits over the plan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import nnls

from micromarket.market_data import MarketData
from micromarket.periods import Calendar
from micromarket.targets.attainment import Spread, assumed_spread, fit_spread
from micromarket.targets.drivers import NAMES, Drivers, driver_columns, fit_drivers
from micromarket.targets.forecast import CellHistory, company_path, forecast_paths

LOWEST, HIGHEST = 0.9, 1.3  # of last year's revenue
POTENTIAL_USED = 0.95  # share of a market's potential customers that a target may count on


@dataclass(frozen=True)
class CellForecast:
    """Arrays of shape (cells,) over the plan unless said otherwise. Money: base, mu, rest; counts: new, cap.

    Attributes
    ----------
    base : last year's revenue over the same months
    path : revenue by plan month, shape (cells, months); sums to ``mu``
    new_path : new customers by plan month, shape (cells, months); sums to ``new``
    each : revenue inside the plan of one new customer, money
    rest : revenue that needs no further new customer: ``mu - new * each``
    cap : most new customers that capacity and potential allow (infinite: no limit known)
    cap_reps, cap_potential : the same by each alone
    wanted : new customers of forecast and budget before those limits
    recent : new customers a year, of late
    capped_by_reps, capped_by_potential : bool arrays, the forecast itself hit the limit
    shared_luck : relative standard deviation of the company's total that single months bring (season included)
    noise : variance of ``mu`` that single months bring and that the next ones don't repeat (money, squared)
    weights : weights of the forecasts from structure, smoothed history and last year carried forward; sum to 1
    """

    base: np.ndarray
    mu: np.ndarray
    path: np.ndarray
    new: np.ndarray
    new_path: np.ndarray
    each: np.ndarray
    rest: np.ndarray
    cap: np.ndarray
    cap_reps: np.ndarray
    cap_potential: np.ndarray
    wanted: np.ndarray
    recent: np.ndarray
    capped_by_reps: np.ndarray
    capped_by_potential: np.ndarray
    weights: np.ndarray
    spread: Spread
    backtest_months: int
    backtest_error: float | None
    drivers: Drivers
    noise: np.ndarray
    shared_luck: float


def fill_by_segment(values: np.ndarray, segment: np.ndarray, weight: np.ndarray, default: float) -> np.ndarray:
    """Missing values replaced by their segment's weighted mean, else the overall one, else ``default``."""
    filled = np.asarray(values, dtype=float).copy()
    known = np.isfinite(filled)
    weight = np.where(known, weight + 1e-9, 0.0)
    overall = float(np.sum(np.nan_to_num(filled) * weight) / weight.sum()) if known.any() else default
    codes, _ = pd.factorize(segment, sort=True)
    sums = np.bincount(codes, np.nan_to_num(np.where(known, filled, 0.0)) * weight)
    weights = np.bincount(codes, weight)
    means = np.where(weights > 0, sums / np.where(weights > 0, weights, 1), overall)
    filled[~known] = means[codes][~known]
    return filled


def cell_values(past: CellHistory, value_cells: pd.DataFrame | None) -> tuple[np.ndarray, np.ndarray, bool]:
    """First-year revenue per new customer (money) and monthly retention per cell; whether they come from the values."""
    segment, weight = past.cells["segment"].to_numpy(), past.active[:, -12:].mean(axis=1)
    count = past.active[:, -12:].sum()
    per_year = float(past.revenue[:, -12:].sum() / count * 12) if count > 0 else 0.0
    if value_cells is None or value_cells.empty:
        return np.full(len(weight), per_year), np.full(len(weight), 0.97), False
    columns = ["first_year_revenue", "monthly_retention"]
    table = value_cells.set_index(["market_id", "segment"])[columns]
    table = table.reindex(pd.MultiIndex.from_frame(past.cells))
    first_year = fill_by_segment(table[columns[0]].to_numpy(float), segment, weight, per_year)
    retention = fill_by_segment(table[columns[1]].to_numpy(float), segment, weight, 0.97)
    return np.maximum(first_year, 0.0), np.clip(retention, 0.0, 1.0), True


def same_span_last_year(past: CellHistory, calendar: Calendar) -> np.ndarray:
    """Revenue per cell in the plan's months one year (or as many as it takes) earlier; money."""
    n, last = len(past.months), past.months[-1]
    base = np.zeros(len(past.cells))
    for month, weight in zip(calendar.months, calendar.weights, strict=True):
        back = month - 12 * max(1, -(-(month - last) // 12))
        at = back - past.months[0]
        base += weight * (past.revenue[:, at] if 0 <= at < n else past.revenue[:, -12:].mean(axis=1))
    return base


def _backtest(
    past: CellHistory, values: tuple[np.ndarray, np.ndarray], billed: bool, region: np.ndarray, prior: np.ndarray,
    potential: np.ndarray | None, reps: np.ndarray | None,
) -> tuple[np.ndarray, Drivers, Spread, int, float]:  # fmt: skip
    """Weights of the three forecasts, drivers, spread, months looked back on, and the error (WAPE) of all that."""
    n = len(past.months)
    months = min(12, n - 12)
    if months < 3:
        return prior, Drivers(np.zeros(len(NAMES))), assumed_spread(past.revenue.sum(axis=1)), 0, np.nan
    paths = forecast_paths(past.until(n - months), months, values[0], values[1], billed)
    tried = np.column_stack([p.sum(axis=1) for p in (paths.structure, paths.history, paths.carried)])
    actual = past.revenue[:, n - months :].sum(axis=1)
    weights = blend_weights(tried, actual, prior)
    predicted = tried @ weights
    first = fit_spread(actual, predicted, region, np.zeros(1))
    columns = driver_columns(past.revenue[:, : n - months], predicted, potential, reps)
    drivers = fit_drivers(columns, actual, predicted, first.sigma(predicted) / np.maximum(predicted, 1e-9))
    predicted = with_drivers(predicted, drivers.factor(columns, months / 12))
    totals = past.revenue.sum(axis=0)
    misses = [actual.sum() / max(predicted.sum(), 1e-9) - 1]
    for origin in range(12, n - months):
        ahead = company_path(totals[:origin], np.arange(1, months + 1)).sum()
        misses.append(totals[origin : origin + months].sum() / max(ahead, 1e-9) - 1)
    spread = fit_spread(actual, predicted, region, np.clip(misses, -0.5, 0.5))
    error = float(np.abs(actual - predicted).sum() / max(actual.sum(), 1e-9))
    return weights, drivers, spread, months, error


def with_drivers(forecast: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Forecasts (money) times their factors; the sum stays, as drivers only tell cells apart."""
    moved = forecast * factor
    return moved * (forecast.sum() / moved.sum()) if moved.sum() > 0 else forecast


def blend_weights(tried: np.ndarray, actual: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Weights, at least 0, sum 1, that fit a past year best, leaning towards ``prior`` with a tenth of the evidence.

    Parameters
    ----------
    tried : array of shape (cells, forecasts), money
    actual : array of shape (cells,), money
    prior : array of shape (forecasts,)
        A forecast with prior weight 0 stays out.

    Notes
    -----
    Stacking (Wolpert 1992; Breiman 1996), errors weighted by 1 / size as the variance of a cell grows with its size.
    """
    use = np.flatnonzero(prior > 0)
    size = 1 / np.sqrt(np.abs(actual) + np.median(np.abs(actual)) + 1e-9)
    design, target = tried[:, use] * size[:, None], actual * size
    differ = design - design.mean(axis=1, keepdims=True)
    evidence = float(np.sum(differ**2)) / len(use)
    lean = np.sqrt(0.1 * evidence + 1e-12) * np.eye(len(use))
    together = 1e3 * np.sqrt(float(np.sum(design**2)) + 1e-12) * np.ones((1, len(use)))
    matrix = np.vstack([design, lean, together])
    found = nnls(matrix, np.concatenate([target, lean @ prior[use], together[:, 0]]))[0]
    weights = np.zeros(len(prior))
    weights[use] = found / found.sum() if found.sum() > 0 else prior[use]
    # the two forecasts from history are close to one another: one year decides half of the choice between them
    weights[1:] = 0.5 * weights[1:] + 0.5 * weights[1:].sum() * prior[1:] / prior[1:].sum()
    return weights


def monthly_luck(revenue: np.ndarray) -> np.ndarray:
    """Relative variance of a single month that the next doesn't repeat: ``a / size + b``, array of shape (cells,).

    From differences of neighbouring months, each relative to the company's.
    """
    recent = revenue[:, -24:]
    company, size = recent.sum(axis=0), recent.mean(axis=1)
    if recent.shape[1] < 3 or (company <= 0).any() or not (size > 0).any():
        return np.zeros(len(revenue))
    safe = np.maximum(size, 1e-6 * size.max())
    level = recent * (company.mean() / company) / safe[:, None]
    own = np.minimum(np.mean(np.diff(level, axis=1) ** 2, axis=1) / 2, 4.0)
    weight = np.sqrt(safe)
    design = np.column_stack([1 / safe, np.ones_like(safe)]) * weight[:, None]
    scale = np.maximum(design.max(axis=0), 1e-300)
    a, b = nnls(design / scale, own * weight)[0] / scale
    return np.minimum(a / safe + b, 4.0)


def company_luck(totals: np.ndarray) -> float:
    """Relative SD of a single month of the company around last year's season: last year's own luck counts too.

    From how far growth over the same month of last year jumps from one month to the next; 0.02 where that isn't known.
    """
    if len(totals) < 18 or (totals <= 0).any():
        return 0.02
    growth = np.log(totals[12:] / totals[:-12])
    return min(float(np.sqrt(np.mean(np.diff(growth) ** 2) / 2)), 0.2)


def _by_cell(
    data: MarketData, scores: pd.DataFrame | None, past: CellHistory
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Potential customers (over a market's segments by their customers) and reps of each cell; None: not known."""
    market = past.cells["market_id"]
    codes, _ = pd.factorize(market)
    size = past.active.mean(axis=1) + 1e-9
    part = size / np.bincount(codes, size)[codes]

    def of(table: pd.DataFrame | None, column: str) -> np.ndarray | None:
        if table is None or column not in table:
            return None
        values = pd.to_numeric(table.drop_duplicates("market_id").set_index("market_id")[column])
        found = values.reindex(market).to_numpy(float) * part
        return found if np.isfinite(found).sum() >= 8 else None

    return of(scores, "potential_customers"), of(data.markets, "reps")


def _limits(
    data: MarketData, scores: pd.DataFrame | None, cells: pd.DataFrame, wanted: np.ndarray,
    recent: np.ndarray, kept_customers: np.ndarray, years: float,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Most new customers over the plan per cell: what reps can win, and what potential leaves (count, inf: unknown).

    Potential binds a market as a whole, reps the territory whose markets they work: what is inside shares what there is
    in proportion to what it wants.
    """
    columns = data.markets.drop_duplicates("market_id").set_index("market_id")
    unknown = pd.Series(np.nan, index=columns.index)

    def shared(codes: np.ndarray, limit: np.ndarray) -> np.ndarray:
        # who won more last year than what is stated has shown that it doesn't bind
        limit = np.where(np.isnan(limit), np.inf, np.maximum(limit, np.bincount(codes, recent) * years))
        asked = np.bincount(codes, wanted)
        tight = limit < asked
        part = (wanted + 1e-9) / np.bincount(codes, wanted + 1e-9)[codes]
        held = wanted * np.where(tight, limit / np.maximum(asked, 1e-12), 1.0)[codes]
        return np.where(tight[codes], held, wanted + part * (limit - asked)[codes])

    markets, names = pd.factorize(cells["market_id"])
    capacity = pd.to_numeric(columns.get("capacity", unknown)).astype(float) * years
    alone = pd.Series([f"market {m}" for m in columns.index], index=columns.index, dtype=object)
    named = columns.get("territory", unknown).astype(object)
    at = ("territory " + named.map(str)).where(named.notna() & capacity.notna(), alone)
    territory, order = pd.factorize(cells["market_id"].map(at))
    reps = shared(territory, capacity.groupby(at).sum(min_count=1).reindex(order).to_numpy(float))
    if scores is None:
        return reps, np.full(len(cells), np.inf)
    potential = pd.to_numeric(scores.set_index("market_id")["potential_customers"]).reindex(names).to_numpy(float)
    return reps, shared(markets, POTENTIAL_USED * potential - np.bincount(markets, kept_customers))


def forecast_cells(
    data: MarketData,
    past: CellHistory,
    value_cells: pd.DataFrame | None,
    scores: pd.DataFrame | None,
    budget: pd.DataFrame | None,
    calendar: Calendar,
    years: float,
    billed: bool,
    region: np.ndarray,
) -> CellForecast:
    """Means, spread and limits of all cells; see :class:`CellForecast`.

    Parameters
    ----------
    years : float
        Length of the plan.
    billed : bool
        Contractual relationship.
    region : int array of shape (cells,)
    """
    first_year, retention, known = cell_values(past, value_cells)
    # without estimated retention the structure is a guess
    prior = np.array([0.5, 0.25, 0.25] if billed and known else [0.1, 0.45, 0.45] if known else [0.0, 0.5, 0.5])
    potential, staff = _by_cell(data, scores, past)
    weights, drivers, spread, months, error = _backtest(
        past, (first_year, retention), billed, region, prior, potential, staff
    )
    ahead = calendar.months - past.months[-1]
    horizon = max(int(ahead.max()), len(ahead))
    paths = forecast_paths(past, horizon, first_year, retention, billed)
    blend = weights[0] * paths.structure + weights[1] * paths.history + weights[2] * paths.carried
    columns = driver_columns(past.revenue, blend.sum(axis=1), potential, staff)
    factor = drivers.factor(columns, years)
    blend = blend * (with_drivers(blend.sum(axis=1), factor) / np.maximum(blend.sum(axis=1), 1e-12))[:, None]
    seen = np.clip(past.revenue.shape[1] - 1 + ahead, 0, None)

    def in_plan(future: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Plan months of a path; months of the plan that are already history stay as they were."""
        at = np.clip(ahead - 1, 0, None)
        return np.where(ahead > 0, future[:, at], known[:, np.minimum(seen, known.shape[1] - 1)]) * calendar.weights

    path, new_path = in_plan(blend, past.revenue), in_plan(paths.new, past.new)
    codes, names = pd.factorize(past.cells["market_id"])
    new = new_path.sum(axis=1)
    smooth = new + 1e-9
    mix = smooth / np.bincount(codes, smooth)[codes]
    when = (new_path + 1e-12) / (new_path + 1e-12).sum(axis=1, keepdims=True)
    pays = np.zeros_like(new_path)  # revenue inside the plan of one customer won in a plan month
    for month in range(len(calendar.months)):
        pays[:, month] = paths.profile[:, : len(calendar.months) - month] @ calendar.weights[month:]
    each = (when * pays).sum(axis=1)

    extra = np.zeros(len(new))
    if budget is not None:
        by_market = budget.groupby("market_id")["incremental_customers"].sum().reindex(names).fillna(0.0)
        extra = by_market.to_numpy(float)[codes] * mix
    recent = past.new[:, -12:].mean(axis=1) * 12
    kept = past.active[:, -1] * retention ** (12 * years)
    wanted = np.maximum(new + extra, 0.0)
    reps, room = _limits(data, scores, past.cells, wanted, recent, kept, years)
    allowed = np.minimum(wanted, np.minimum(reps, room))
    change = allowed - new
    mu_path = np.maximum(path + (each * change)[:, None] * _ramp(when, paths.profile, calendar.weights), 0.0)
    mu = mu_path.sum(axis=1)
    mu_path = np.where(mu[:, None] > 0, mu_path, calendar.weights[None, :] * 1e-12)
    each = np.where(allowed > 0, np.minimum(each, mu / np.maximum(allowed, 1e-12)), each)
    return CellForecast(
        base=same_span_last_year(past, calendar),
        mu=mu,
        path=mu_path,
        new=allowed,
        new_path=when * allowed[:, None],
        each=each,
        rest=np.maximum(mu - allowed * each, 0.0),
        cap=np.minimum(reps, room),
        cap_reps=reps,
        cap_potential=room,
        wanted=wanted,
        recent=recent,
        capped_by_reps=reps < np.minimum(wanted, room) - 1e-9,
        capped_by_potential=room < np.minimum(wanted, reps) - 1e-9,
        weights=weights,
        spread=spread,
        backtest_months=months,
        backtest_error=None if np.isnan(error) else error,
        drivers=drivers,
        shared_luck=company_luck(past.revenue.sum(axis=0)) / np.sqrt(max(float(calendar.weights.sum()), 1.0)),
        noise=mu**2 * monthly_luck(past.revenue) / max(float(calendar.weights.sum()), 1e-9),
    )


def _ramp(when: np.ndarray, profile: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of a plan's new-customer revenue that falls into each plan month; rows sum to 1."""
    months = when.shape[1]
    paid = np.zeros_like(when)
    for month in range(months):
        paid[:, month:] += when[:, month : month + 1] * profile[:, : months - month] * weights[month:]
    total = paid.sum(axis=1, keepdims=True)
    return np.where(total > 0, paid / np.where(total > 0, total, 1), weights / weights.sum())
