"""Simulated companies, the library's stages on them, and simple rules to beat; used by ``decision.py``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from micromarket.allocation import BudgetResult, plan_budget
from micromarket.allocation.gain import new_customer_value
from micromarket.allocation.limits import Cells, blocked_markets, build_cells, round_to_limits, solve
from micromarket.config import Settings, read_settings
from micromarket.load import open_dataset
from micromarket.market_data import MarketData
from micromarket.notebook import small_table
from micromarket.potential import PotentialResult, estimate_potential
from micromarket.response import ResponseResult, estimate_response
from micromarket.response.panel import build_panel, market_scale
from micromarket.simulate import Truth, scenario_of, simulate
from micromarket.simulate.scenario import Scenario
from micromarket.summarise import summarise
from micromarket.targets import TargetsResult, set_targets
from micromarket.value import ValueResult, estimate_value

CUSTOMERS_PER_MARKET = 200
MANY = {"well pulsed, large": 2_000}  # customers a market, of kinds where it is another number


def _threshold(scenario: Scenario) -> Scenario:
    return replace(scenario, channels=tuple(replace(c, curve="threshold") for c in scenario.channels))


def _mis_set(scenario: Scenario) -> Scenario:
    return replace(scenario, habit=(0.5, 2.4, 0.6, 1.1))


KINDS: dict[str, Scenario] = {
    "clean": scenario_of(),
    "non-contractual": scenario_of("non-contractual"),
    "sparse": scenario_of(sparse=True),
    "endogenous": scenario_of(endogenous=True),
    "pulsed": replace(scenario_of(endogenous=True), pulsed=0.3),
    "well pulsed": replace(scenario_of(), pulsed=1.0),
    "well pulsed, large": replace(scenario_of(), pulsed=1.0),
    "mis-set": _mis_set(scenario_of()),
    "untied": replace(scenario_of(), room_power=0.0),
    "threshold": _threshold(scenario_of()),
    "spillover": replace(scenario_of(), spillover=0.3),
    "local decay": replace(scenario_of(), decay_spread=0.8),
    "no_response": scenario_of(no_response=True),
}
MEANING: Mapping[str, str] = {
    "clean": "contracts; effect follows headroom (power .8); one experiment on one channel",
    "non-contractual": "the same with purchases",
    "sparse": "two channels in few markets only, 45% of cells empty, very unequal markets, no experiment",
    "endogenous": "spend follows demand shocks that the data don't show",
    "pulsed": "endogenous, and every channel pulsed at random in 30% of the markets for eight weeks",
    "well pulsed": "clean, and one round of well-designed pulses: every channel, in every market, up or down by lot",
    "well pulsed, large": "the same with 2,000 customers a market, ten times as many as elsewhere",
    "mis-set": "habit sets whole channels wrong, 0.5 to 2.4 times what suits their curves",
    "untied": "effect follows the size of a market, not its headroom",
    "threshold": "S-shaped: little money does almost nothing (Hill, slope 3)",
    "spillover": "30% of the customers that money wins live in neighbouring markets",
    "local decay": "carry-over differs by market and channel (logit spread .8)",
    "no_response": "money brings nobody",
}


@dataclass(frozen=True)
class Known:
    """What the stages before response found out about one company, and the truth to hold it against."""

    settings: Settings
    data: MarketData
    value: ValueResult
    potential: PotentialResult
    field_notes: pd.DataFrame | None
    experiments: pd.DataFrame | None
    truth: Truth


@dataclass(frozen=True)
class Decided:
    response: ResponseResult
    budget: BudgetResult
    targets: TargetsResult | None


def know(folder: Path, kind: str, markets: int, seed: int) -> Known:
    """Simulates a company of this kind into ``folder`` and runs data, value and potential on its files."""
    each = MANY.get(kind, CUSTOMERS_PER_MARKET)
    simulate(folder, markets=markets, customers=each * markets, seed=seed, scenario=KINDS[kind])
    settings = read_settings(folder / "plan.yml")
    field_notes, experiments = small_table(settings, "field_notes"), small_table(settings, "experiments")
    with open_dataset(settings) as dataset:
        data = summarise(dataset)
        value = estimate_value(dataset, data, settings)
    potential = estimate_potential(data, value.markets, settings, field_notes=field_notes)
    return Known(settings, data, value, potential, field_notes, experiments, Truth.read(folder))


def decide(known: Known, targets: bool = True) -> Decided:
    """Response, budget and targets, as the notebooks call them."""
    k = known
    response = estimate_response(k.data, k.potential.scores, k.value.markets, k.settings, experiments=k.experiments)
    budget = plan_budget(k.data, response, k.value.markets, k.potential.scores, k.settings, field_notes=k.field_notes,
                         segments=k.value.acquisition.segments)  # fmt: skip
    if not targets:
        return Decided(response, budget, None)
    aims = set_targets(k.data, k.value.cells, k.potential.scores, budget.budget, k.settings, field_notes=k.field_notes)
    return Decided(response, budget, aims)


# --- rules to beat, all under the company's own limits
def rules(known: Known) -> dict[str, pd.DataFrame]:
    """market_id, channel, amount of every simple rule, brought within the limits by our own solver."""
    k, limits = known, known.settings.budget
    pooled = _pooled(k)
    markets = pd.Index(sorted(pooled["market_id"].unique()), name="market_id")
    value, _ = new_customer_value(k.value.markets, tuple(markets))
    cells = build_cells(k.data, pooled, value, markets, blocked_markets(k.field_notes, k.settings.as_of))
    total = round(float(cells.current.sum()) if limits.total is None else limits.total, 2)
    scores = k.potential.scores.set_index("market_id").reindex(markets)
    clv = k.value.markets.set_index("market_id")["clv"].reindex(markets)
    heads = pd.Series(market_scale(k.data, markets)[0], index=markets)
    sales = k.data.cells.groupby("market_id")["new_customers_last_year"].sum().reindex(markets)
    best = np.nan_to_num(clv.to_numpy(float))[cells.market]
    huge = 100 * total  # curves so far from saturation are straight lines: money goes to the highest value first
    spend: dict[str, np.ndarray] = {
        "proportional to new customers": _in_proportion(cells, limits, total, sales),
        "proportional to clv x addressable": _in_proportion(cells, limits, total, clv * heads),
        "proportional to headroom x value": _in_proportion(cells, limits, total, scores["headroom"] * value),
        "highest clv first": solve(
            replace(cells, half_spend=np.full(len(best), huge)), limits, total, np.maximum(best, 0) * huge
        ).spend,
        "pooled response": solve(cells, limits, total).spend,
        "unpooled response": solve(replace(cells, amplitude=_unpooled(k, cells)), limits, total).spend,
    }
    keys = {"market_id": np.array(cells.markets)[cells.market], "channel": np.array(cells.channels)[cells.channel]}
    return {
        name: pd.DataFrame({**keys, "amount": round_to_limits(cells, limits, money, total)})
        for name, money in spend.items()
    }


def _in_proportion(cells: Cells, limits: Any, total: float, by: pd.Series) -> np.ndarray:
    """Money by market in proportion to ``by``, by channel within a market as today, as near as the limits allow.

    ``w x / (x + w)`` over cells has its free optimum at x in proportion to w.
    """
    size = np.maximum(np.nan_to_num(by.to_numpy(float)), 0.0)
    wanted = total * size / max(float(size.sum()), 1e-300)
    now = np.bincount(cells.market, cells.current, len(size))
    share = cells.current / np.maximum(now[cells.market], 1e-9)
    w = np.maximum(wanted[cells.market] * share, 1e-6 * total / len(share))
    fair = replace(cells, half_spend=w, value=np.ones(len(w)))
    return solve(fair, limits, total, weight=w).spend


def _pooled(known: Known) -> pd.DataFrame:
    """Curves of one effect per head and channel: our estimator without headroom and without markets' own effects."""
    k = known
    response = estimate_response(k.data, None, k.value.markets, k.settings, experiments=k.experiments)
    assert response.curves is not None
    curves = response.curves.copy()
    markets = pd.Index(sorted(curves["market_id"].unique()), name="market_id")
    heads = pd.Series(market_scale(k.data, markets)[0], index=markets).reindex(curves["market_id"]).to_numpy()
    sums = curves.assign(heads=heads).groupby("channel")[["amplitude", "heads"]].transform("sum")
    curves["amplitude"] = heads * (sums["amplitude"] / sums["heads"])
    return curves


def _unpooled(known: Known, cells: Cells) -> np.ndarray:
    """Amplitudes from one least-squares regression a market on saturated spend, with periods' means taken out.

    Saturation as in ``cells``; negative effects count as 0, as who works market by market would do.
    """
    panel = build_panel(known.data, None)
    assert panel is not None
    years = known.settings.plan.years
    order = [panel.channels.index(c) if c in panel.channels else -1 for c in cells.channels]
    out = cells.amplitude.copy()
    y = panel.outcome - panel.outcome.mean(axis=1, keepdims=True)
    periods = panel.periods_per_year * years
    half = cells.half_spend.reshape(len(cells.markets), -1) / periods / panel.scale[:, None]
    for m in range(len(cells.markets)):
        columns, where = [], []
        for c, at in enumerate(order):
            if at >= 0 and panel.spend[:, m, at].any():
                money = panel.spend[:, m, at] * panel.unit[at]
                columns.append(money / (money + half[m, c]))
                where.append(c)
        if not columns:
            continue
        x = np.column_stack(columns)
        x = x - x.mean(axis=0)
        slope = np.linalg.lstsq(x, y[:, m] - y[:, m].mean(), rcond=1e-6)[0]
        out[m * len(order) + np.array(where)] = np.maximum(slope, 0.0) * panel.scale[m] * periods
    return out
