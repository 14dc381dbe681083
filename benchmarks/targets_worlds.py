"""Simulated sales territories whose true odds of any target are known.

A territory has a size, a market potential, reps, an own season and an own drift; growth follows headroom where reps are
there to work it. History is what it sold; the plan year brings a known budget effect and shocks that nobody can foresee
(company, region, own). :meth:`World.odds` gives the true probability of reaching any target.

Variants: ``base``; ``drifting`` (larger own drifts, lasting growth differences); ``skewed`` (few large orders, wide
sizes); ``promoted`` (every year a third of the territories has a promotion that doesn't come back: last growth
regresses to the mean); ``headroom`` (growth follows headroom and coverage strongly); ``calm`` (hardly any drift).
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from micromarket import config
from micromarket.market_data import MarketData

AS_OF = dt.date(2026, 6, 30)
EACH = 60.0  # money of a purchase
DRAWS = 400


@dataclass(frozen=True)
class Variant:
    """Yearly relative SDs unless said otherwise. ``order``: variance of one order over its squared mean."""

    size_sd: float = 0.8
    walk: float = 0.08
    lasting: float = 0.02
    season: float = 0.08
    headroom: float = 0.08  # growth a year per unit of relative headroom x coverage
    order: float = 1.0
    buyers: float = 40.0  # orders a month in a typical territory
    promoted: float = 0.0  # share of territories promoted in a year, by about 30%
    heavy: bool = False
    company: float = 0.03
    region: float = 0.03
    budget: float = 0.05  # of revenue, the largest planned effect


VARIANTS: dict[str, Variant] = {
    "base": Variant(),
    "drifting": Variant(walk=0.12, lasting=0.05),
    "skewed": Variant(size_sd=1.2, order=8.0, buyers=15.0, heavy=True),
    "promoted": Variant(promoted=1 / 3),
    "headroom": Variant(headroom=0.2),
    "calm": Variant(walk=0.02, lasting=0.0, season=0.02),
}


@dataclass(frozen=True)
class World:
    """One company and its truth. Arrays of shape (territories,); money over the plan year.

    ``outcomes`` has shape (draws, territories): what the year may bring; ``mean`` is its expectation, ``path`` the
    same by month, shape (territories, 12).
    """

    data: MarketData
    values: pd.DataFrame
    scores: pd.DataFrame
    budget: pd.DataFrame
    last: np.ndarray
    growth: np.ndarray
    headroom: np.ndarray
    potential: np.ndarray
    mean: np.ndarray
    outcomes: np.ndarray
    path: np.ndarray
    region: np.ndarray
    variant: str

    def odds(self, target: np.ndarray) -> np.ndarray:
        """True probability that each territory reaches its target."""
        return (self.outcomes >= target).mean(axis=0)


def settings_of(growth: float) -> config.Settings:
    return config.Settings(
        path=Path("plan.yml"),
        company=config.Company("Simulated"),
        as_of=AS_OF,
        plan=config.PlanPeriod(dt.date(2026, 7, 1), dt.date(2027, 6, 30)),
        economics=config.Economics("non-contractual", margin_rate=0.4),
        data={},
        targets=config.Targets(growth=growth, split=("market",)),
    )


def make_world(territories: int, seed: int, variant: str = "base", months: int = 36) -> World:
    """A company with ``months`` of history; deterministic by ``territories``, ``seed`` and ``variant``."""
    v = VARIANTS[variant]
    rng = np.random.default_rng([seed, territories, sorted(VARIANTS).index(variant)])
    n, t = territories, np.arange(months)
    size = rng.lognormal(0, v.size_sd, n)
    gap = rng.gamma(4, 0.2, n)  # true headroom, as a share of what is sold today
    coverage = np.clip(rng.normal(1, 0.3, n), 0.3, 1.7)
    region = rng.integers(0, max(4, n // 25), n)
    lasting = 0.03 + rng.normal(0, v.lasting, n)
    potential = size * (1 + gap)  # stays; what is sold drifts below it
    kicks = _kicks(rng, (n, months), v.heavy) * v.walk / np.sqrt(12)
    shared = rng.normal(0, v.company / np.sqrt(12), months)
    by_region = rng.normal(0, v.region / np.sqrt(12), (region.max() + 1, months))
    level, rate = np.log(size), np.empty((n, months))
    for month in t:
        rate[:, month] = np.exp(level)
        drift = lasting + v.headroom * (coverage * (potential / np.exp(level) - 1) - 0.8)
        level = level + np.clip(drift, -0.5, 0.5) / 12 + kicks[:, month] + shared[month] + by_region[region, month]
    phase = rng.uniform(0, 2 * np.pi, n)
    both = 0.15 * np.sin(2 * np.pi * np.arange(months + 12) / 12)
    own = v.season * np.sin(2 * np.pi * np.arange(months + 12) / 12 + phase[:, None])
    season = np.exp(both + own)
    rate *= v.buyers * season[:, :months]
    for year in range(months // 12):  # each year other territories; none is planned
        promoted = rng.random(n) < v.promoted
        rate[:, months - 12 * (year + 1) : months - 12 * year] *= np.where(promoted, rng.normal(1.3, 0.08, n), 1.0)[
            :, None
        ]
    orders = rng.poisson(rate)
    revenue = EACH * orders * _mean_of_orders(rng, orders, v.order)

    ahead = np.arange(12)
    gap = potential / np.exp(level) - 1
    trend = np.clip(lasting + v.headroom * (coverage * gap - 0.8), -0.5, 0.5)
    path = EACH * v.buyers * np.exp(level[:, None] + trend[:, None] * (ahead + 0.5) / 12) * season[:, months:]
    lift = v.budget * rng.beta(1, 2, n)
    mean_path = path * (1 + lift[:, None])
    outcomes = _outcomes(rng, mean_path, region, v)

    ids = np.array([f"t{i:05d}" for i in range(n)])
    month = pd.date_range(end="2026-06-01", periods=months, freq="MS")
    history = pd.DataFrame({
        "market_id": np.repeat(ids, months), "segment": "All", "month": np.tile(month, n),
        "new_customers": rng.binomial(orders, 0.2).ravel(), "active_customers": orders.ravel(),
        "revenue": revenue.round(2).ravel(),
    })  # fmt: skip
    last, before = revenue[:, -12:].sum(axis=1), revenue[:, -24:-12].sum(axis=1)
    customers = np.maximum(orders[:, -12:].sum(axis=1) / 2, 1).round().astype(int)
    cells = pd.DataFrame({
        "market_id": ids, "segment": "All", "customers": customers,
        "new_customers_last_year": history["new_customers"].to_numpy().reshape(n, months)[:, -12:].sum(axis=1),
        "revenue_last_year": last,
    })  # fmt: skip
    seen = 12 * EACH * v.buyers * potential * rng.lognormal(0, 0.15, n)  # as stage 3 would see it: money a year
    markets = pd.DataFrame({
        "market_id": ids, "region": [f"r{r}" for r in region], "reps": coverage * size * 2, "capacity": np.nan,
        "last_target": np.nan, "territory": ids,
    })  # fmt: skip
    values = pd.DataFrame({
        "market_id": ids, "segment": "All", "customers": customers, "first_year_revenue": 2.5 * EACH,
        "monthly_retention": 0.93, "new_customer_clv": 100.0,
    })  # fmt: skip
    counted = seen / (12 * EACH * v.buyers * size.mean()) * customers.mean()
    scores = pd.DataFrame({"market_id": ids, "potential_customers": counted, "headroom": counted - customers})
    # the planned effect as stage 5 states it: its size is known within a third
    bought = lift * path.sum(axis=1) / (2.5 * EACH * 0.55) * rng.lognormal(0, 0.3, n)
    budget = pd.DataFrame({"market_id": ids, "channel": "tv", "incremental_customers": bought})
    data = MarketData(markets, cells, history, facts={})
    growth = last / np.maximum(before, 1e-9) - 1
    return World(data, values, scores, budget, last, growth, gap, seen, mean_path.sum(axis=1), outcomes, mean_path,
                 region, variant)  # fmt: skip


def _kicks(rng: np.random.Generator, shape: tuple[int, ...], heavy: bool) -> np.ndarray:
    """Variance 1; ``heavy``: Student's t with 4 degrees of freedom."""
    return rng.standard_t(4, shape) / np.sqrt(2) if heavy else rng.normal(size=shape)


def _mean_of_orders(rng: np.random.Generator, orders: np.ndarray, variance: float) -> np.ndarray:
    """Mean amount of so many orders, relative to a typical one (gamma: the mean of gammas is a gamma)."""
    shape = np.maximum(orders, 1) / variance
    return rng.gamma(shape, 1 / shape)


def _outcomes(rng: np.random.Generator, path: np.ndarray, region: np.ndarray, v: Variant) -> np.ndarray:
    """Years that may come, of shape (draws, territories): shocks, drifts and the luck of single orders."""
    n, mean = len(path), path.sum(axis=1)
    company = _year(rng, v.company, (DRAWS, 1), False)
    regions = _year(rng, v.region, (DRAWS, region.max() + 1), False)[:, region]
    own = _year(rng, v.walk, (DRAWS, n), v.heavy)
    level = mean * np.exp(company + regions + own - (v.company**2 + v.region**2 + v.walk**2) / 6)
    orders = rng.poisson(level / EACH)
    return EACH * orders * _mean_of_orders(rng, orders, v.order)


def _year(rng: np.random.Generator, sd: float, shape: tuple[int, ...], heavy: bool) -> np.ndarray:
    """Mean over a year of a walk that starts at 0 (variance: a third of the year's end)."""
    return _kicks(rng, shape, heavy) * sd / np.sqrt(3)


def a_year(world: World, seed: int) -> np.ndarray:
    """One year as it may come, money of shape (territories, 12): levels walk month by month."""
    v, rng = VARIANTS[world.variant], np.random.default_rng([seed, 77])

    def walk(sd: float, units: int) -> np.ndarray:
        kicks = _kicks(rng, (units, 12), v.heavy and units == len(world.mean)) * sd / np.sqrt(12)
        return np.cumsum(kicks, axis=1)

    log = walk(v.company, 1) + walk(v.region, int(world.region.max()) + 1)[world.region] + walk(v.walk, len(world.mean))
    orders = rng.poisson(world.path * np.exp(log) / EACH)
    return EACH * orders * _mean_of_orders(rng, orders, v.order)


def at_goal(world: World, target: np.ndarray) -> np.ndarray:
    """A rule's targets scaled to the goal that is as hard as the truth: fairness, not difficulty, is compared."""
    return target * world.mean.sum() / target.sum()


def with_months(world: World, months: int) -> World:
    """The same company known for its last ``months`` months only."""
    month = np.sort(world.data.history["month"].unique())[-months:]
    history = world.data.history[world.data.history["month"].isin(month)]
    return replace(world, data=replace(world.data, history=history))
