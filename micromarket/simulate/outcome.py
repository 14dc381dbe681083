"""From a finished world to its truth tables: value, headroom, response, revenue of last year and of the plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from micromarket.simulate.company import Company, share_of_best
from micromarket.simulate.country import Country
from micromarket.simulate.curves import WEEKS, steady_stock, weekly_customers
from micromarket.simulate.customers import TOUCHED, Customers
from micromarket.simulate.leads import STAGES, stage_rates
from micromarket.simulate.scenario import Scenario
from micromarket.simulate.spending import Spending, Window
from micromarket.simulate.truth import Truth
from micromarket.simulate.value import Value

PLAN_DAYS = 365


@dataclass(frozen=True)
class World:
    """Everything that was drawn. ``remaining``: per customer discounted margin, revenue of the plan year, chance to
    stay a month; ``on_books``: per customer; ``money_rate``: revenue a month now (contract) or of last year / 12.
    """

    scenario: Scenario
    seed: int
    country: Country
    value: Value
    company: Company
    window: Window
    spending: Spending
    customers: Customers
    on_books: np.ndarray
    remaining: tuple[np.ndarray, np.ndarray, np.ndarray]
    money_rate: np.ndarray
    revenue_last_year: np.ndarray  # per customer


def last_year_spend(world: World) -> np.ndarray:
    """(m, c) money of the weeks that begin in the year up to as_of."""
    recent = world.window.weeks > np.datetime64(world.scenario.as_of) - PLAN_DAYS
    years = min(1.0, world.window.days[recent].sum() / PLAN_DAYS)
    return world.spending.money[:, :, recent].sum(2) / max(years, 1 / WEEKS)


def _by_cell(world: World, weight: np.ndarray) -> np.ndarray:
    """(m, s) sums over customers."""
    m, s = world.value.mix.shape
    return np.bincount(world.customers.market * s + world.customers.segment, weight, m * s).reshape(m, s)


def _revenue_until_end(value: Value) -> np.ndarray:
    """(m, s, 52) revenue within the plan year of a customer won in the middle of each of its weeks."""
    months = 12 * (1 - (np.arange(WEEKS) + 0.5) / WEEKS)
    whole = months.astype(int)
    total = np.concatenate([np.zeros((*value.mix.shape, 1)), value.revenue[:, :, :13].cumsum(2)], axis=2)
    return total[:, :, whole] + (months - whole) * value.revenue[:, :, whole]


def truth_of(world: World) -> Truth:
    """The truth tables and the story of a world."""
    scenario, value, company, frame = world.scenario, world.value, world.company, world.country.frame
    m, s = value.mix.shape
    channels = scenario.channels
    curves, decay = [c.curve for c in channels], company.decay if scenario.decay_spread else company.decay[0]
    ids, regions = frame["market_id"].to_numpy(), frame["region"].to_numpy()

    plan_weeks = PLAN_DAYS / 7
    season = company.season[(-world.window.before_plan) % WEEKS] * world.window.days / 7
    current = last_year_spend(world)
    stock = steady_stock(current[..., None] / plan_weeks * company.pattern[2], decay)
    weekly = weekly_customers(company.amplitude, company.scale, stock, curves)
    total = weekly.sum(2, keepdims=True)
    profile = np.divide(weekly, total, out=np.full_like(weekly, 1 / WEEKS), where=total > 0)
    living = total[..., 0] if company.lives is None else company.lives.T @ total[..., 0]
    # segments of all who are won: by themselves and by the current money
    won_mix = company.organic[:, None] * value.mix + np.einsum("mc,mcs->ms", living / WEEKS, company.channel_mix)
    won_mix /= won_mix.sum(1, keepdims=True)

    alive = _by_cell(world, world.on_books.astype(float))
    # without a contract nobody knows who has stopped: value is per customer that the company knows
    books = alive if scenario.contractual else _by_cell(world, np.ones(len(world.customers)))
    stay = world.money_rate * world.remaining[2]
    clv_sum = _by_cell(world, world.remaining[0] * world.on_books)
    new_clv = (won_mix * value.new_clv).sum(1)
    cell_clv = np.divide(clv_sum, books, out=value.new_clv.copy(), where=books > 0)
    clv = np.divide(clv_sum.sum(1), books.sum(1), out=new_clv.copy(), where=books.sum(1) > 0)
    headroom = np.maximum(company.potential - company.customers, 0)
    money = _by_cell(world, world.money_rate * world.on_books)
    cells = pd.DataFrame(
        {
            "market_id": np.repeat(ids, s),
            "segment": np.tile([g.name for g in scenario.segments], m),
            "customers": alive.ravel(),
            "known_customers": books.ravel(),
            "clv": cell_clv.ravel(),
            "new_customer_clv": value.new_clv.ravel(),
            "new_customer_share": won_mix.ravel(),
            "first_year_revenue": value.revenue[:, :, :12].sum(2).ravel(),
            "monthly_retention": np.divide(
                _by_cell(world, stay * world.on_books), money, out=value.alive[:, :, 1].copy(), where=money > 0
            ).ravel(),
            "first_month_loss": (1 - value.alive[:, :, 1]).ravel(),
            "organic_customers_a_week": (company.organic[:, None] * value.mix).ravel(),
        }
    )

    until_end = _revenue_until_end(value)
    worth = np.einsum("mcs,ms->mc", company.channel_mix, value.new_clv)
    revenue = np.einsum("mcs,msw,mcw->mc", company.channel_mix, until_end, profile)
    if company.lives is not None:
        worth, revenue = company.lives @ worth, company.lives @ revenue
    response = pd.DataFrame(
        {
            "market_id": np.repeat(ids, len(channels)),
            "channel": np.tile([c.name for c in channels], m),
            "current": current.ravel(),
            "amplitude": company.amplitude.ravel(),
            "scale": company.scale.ravel(),
            "value_per_customer": worth.ravel(),
            "revenue_per_customer": revenue.ravel(),
            "incremental_customers": (total[..., 0] * plan_weeks / WEEKS).ravel(),
        }
    )
    if scenario.decay_spread:
        response["decay"] = company.decay.ravel()
    calendar = pd.DataFrame(
        {
            "region": np.repeat(pd.unique(regions), len(channels) * WEEKS),
            "channel": np.tile(np.repeat([c.name for c in channels], WEEKS), len(pd.unique(regions))),
            "week": np.tile(np.arange(WEEKS), len(pd.unique(regions)) * len(channels)),
            "multiple": np.concatenate(
                [company.pattern[2][np.argmax(regions == r)].ravel() for r in pd.unique(regions)]
            ),
        }
    )
    organic_revenue = (
        np.einsum("m,ms,msw,w->", company.organic, value.mix, until_end, company.season) * plan_weeks / WEEKS
    )
    rates = pd.DataFrame({"market_id": np.repeat(ids, len(channels)), "channel": response["channel"]})
    drawn = stage_rates(world.seed, scenario, m)
    for i, stage in enumerate(STAGES):
        rates[stage] = drawn[:, :, i].ravel()
    markets = pd.DataFrame(
        {
            "market_id": ids,
            "region": regions,
            "customers": alive.sum(1),
            "known_customers": books.sum(1),
            "expected_customers": company.customers,
            "potential_customers": company.potential,
            "headroom": headroom,
            "clv": clv,
            "new_customer_clv": new_clv,
            "opportunity": headroom * new_clv,
            "entrant": value.entrant,
            **{
                f"gap_{cause}": company.causes[:, i]
                for i, cause in enumerate(("coverage", "attention", "rival", "own"))
            },
            "organic_customers": company.organic * plan_weeks,
            "retained_revenue": np.bincount(world.customers.market, world.remaining[1], m),
            "revenue_last_year": np.bincount(world.customers.market, world.revenue_last_year, m),
            "spend": current.sum(1),
        }
    )
    facts: dict[str, Any] = {
        "seed": world.seed,
        "relationship": scenario.relationship,
        "channels": {
            c.name: {
                "decay": c.decay,
                "curve": c.curve,
                "rates": dict(zip(STAGES, c.rates, strict=True)),
                "lag_days": dict(zip(STAGES, c.lags, strict=True)),
            }
            for c in channels
        },
        "plan_weeks": plan_weeks,
        "revenue_last_year": float(world.revenue_last_year.sum()),
        "plan_revenue_without_spend": float(markets["retained_revenue"].sum() + organic_revenue),
        "new_customers_of_window_expected": float(world.spending.won.sum() + company.organic.sum() * season.sum()),
        "new_customers_of_window_from_spend": float(world.spending.won.sum()),
        "window_start": str(world.window.start),
        "booked_under_a_channel_without_it": TOUCHED,
        "experiment_lift": world.spending.experiment_truth,
        "endogenous": scenario.endogenous,
        "no_response": scenario.no_response,
        "sparse": scenario.sparse,
    }
    return Truth(markets, cells, response, calendar, rates, facts, {})


def story_of(truth: Truth) -> dict[str, Any]:
    """The company's story in numbers: where the money sits, where the opportunity is, what a better plan brings."""
    markets = truth.markets
    lowest = markets.sort_values(["clv", "market_id"]).head(max(1, round(len(markets) / 10)))
    best_fifth = markets.sort_values(["opportunity", "market_id"]).tail(max(1, round(len(markets) / 5)))
    spend = float(markets["spend"].sum())
    now, best = truth.current, truth.best_budget()
    value_now, value_best = truth.value_of(now), truth.value_of(best)
    effect = truth.response["current"].to_numpy()
    step = truth.incremental_customers(effect * 1.01)["customers"] - truth.incremental_customers(effect)["customers"]
    spent = effect > 0
    marginal = (step * truth.response["value_per_customer"]).to_numpy()[spent] / (0.01 * effect[spent])
    spread = np.quantile(marginal, [0.1, 0.5, 0.9]) if spent.any() else np.zeros(3)
    brought = truth.incremental_customers(now)["customers"].sum()
    return {
        "markets": len(markets),
        "customers": float(markets["customers"].sum()),
        "spend_last_year": spend,
        "spend_of_revenue": spend / truth.facts["revenue_last_year"],
        "spend_share_lowest_decile": float(lowest["spend"].sum() / spend) if spend else None,
        "customers_share_lowest_decile": float(lowest["customers"].sum() / markets["customers"].sum()),
        "clv_lowest_decile_to_mean": float(lowest["clv"].mean() / markets["clv"].mean()),
        "opportunity": float(markets["opportunity"].sum()),
        "opportunity_share_top_fifth": share_of_best(markets["opportunity"].to_numpy()),
        "spend_share_top_fifth": float(best_fifth["spend"].sum() / spend) if spend else None,
        "potential_customers": float(markets["potential_customers"].sum()),
        "headroom": float(markets["headroom"].sum()),
        "new_customers_a_year": float(markets["organic_customers"].sum() + brought),
        "new_customers_a_year_from_spend": float(brought),
        "return_of_spend": value_now / spend if spend else None,
        "marginal_return_p10_p50_p90": [float(q) for q in spread],
        "revenue_last_year": truth.facts["revenue_last_year"],
        "revenue_if_spend_stays": truth.revenue_of(now),
        "growth_if_spend_stays": truth.growth_of(now),
        "revenue_with_best_budget": truth.revenue_of(best),
        "growth_with_best_budget": truth.growth_of(best),
        "value_of_current_budget": value_now,
        "value_of_best_budget": value_best,
        "gain_of_best_budget": value_best - value_now,
        "moved_by_best_budget": float((best["amount"] - best["current"]).abs().sum() / 2 / spend) if spend else None,
    }
