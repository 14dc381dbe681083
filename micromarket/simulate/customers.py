"""Customers one by one, drawn from the company's flows without a loop over them; contracts and what is left of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from micromarket.simulate.company import Company
from micromarket.simulate.scenario import Scenario, stream
from micromarket.simulate.spending import Spending, Window
from micromarket.simulate.value import MONTHS, Value, geometric_survival

_DAYS_A_MONTH = 365.25 / 12


@dataclass(frozen=True)
class Customers:
    """All customers ever won, oldest first. Integer codes; ``source``: channel that truly won them, -1: none;
    ``recorded``: channel in the books (last touch), -1: stores, -2: referral. ``started``: datetime64[D].
    """

    market: np.ndarray
    segment: np.ndarray
    source: np.ndarray
    recorded: np.ndarray
    started: np.ndarray

    def __len__(self) -> int:
        return len(self.market)


@dataclass(frozen=True)
class Contracts:
    """One contract a customer. ``ended``: last day, NaT where active; ``leaves``: the customer's own chance a month."""

    product: np.ndarray
    monthly_value: np.ndarray
    leaves: np.ndarray
    ended: np.ndarray

    @property
    def active(self) -> np.ndarray:
        return np.isnat(self.ended)


def draw_customers(
    seed: int, scenario: Scenario, company: Company, value: Value, spending: Spending, window: Window
) -> Customers:
    """Poisson counts (with gamma noise by market and week) by source and segment, spread over the days."""
    rng = stream(seed, "customers")
    t = len(window.weeks)
    season = company.season[(-window.before_plan) % len(company.season)]
    noise = rng.gamma(25, 1 / 25, size=(len(company.organic), t))
    demand = np.exp(spending.shock - 0.5 * spending.shock.var()) * noise
    organic = company.organic[:, None] * season * demand * (window.days / 7)
    parts = [  # the window's past first: its times are months
        spread(rng.poisson(company.before[:, None] * value.mix[..., None]), -1),
        spread(rng.poisson(organic[:, None] * value.mix[..., None]), -1),
    ]
    before = len(parts[0][0])
    for c in range(len(scenario.channels)):
        won = (spending.won[:, c] * noise)[:, None] * company.channel_mix[:, c, :, None]
        parts.append(spread(rng.poisson(won), c))
    market, segment, when, source = (np.concatenate(p) for p in zip(*parts, strict=True))
    month = when[:before] - company.before.shape[1]
    day = np.empty(len(market), dtype=np.int64)
    day[:before] = np.minimum(np.floor((month + rng.random(before)) * _DAYS_A_MONTH), -1)
    weeks = when[before:]
    day[before:] = 7 * weeks + np.floor(rng.random(len(weeks)) * window.days[weeks]).astype(np.int64)
    order = np.lexsort((rng.random(len(day)), day))
    started = window.start + day[order]
    market, segment, source = market[order], segment[order], source[order]
    touched = rng.random(len(market))
    channel = pick(rng, touch_shares(scenario, company)[market])
    recorded = np.where(source >= 0, source, np.where(touched < TOUCHED, channel, np.where(touched < 0.75, -1, -2)))
    return Customers(market, segment, source, recorded, started)


TOUCHED = 0.3  # of the customers that come by themselves are booked under a channel


def touch_shares(scenario: Scenario, company: Company) -> np.ndarray:
    """(m, c) channel by which who came by itself is booked: as the market's money is spread."""
    usual = np.array([c.share for c in scenario.channels])
    touch = company.spend + 1e-3 * usual * max(company.spend.mean(), 1e-9)
    return touch / touch.sum(1, keepdims=True)


def recorded_flow(scenario: Scenario, company: Company, value: Value, spending: Spending, window: Window) -> np.ndarray:
    """(m, c, s, t) expected customers of the window's weeks as the books show them by channel."""
    season = company.season[(-window.before_plan) % len(company.season)] * (window.days / 7)
    by_itself = TOUCHED * company.organic[:, None] * touch_shares(scenario, company)
    return (
        spending.won[:, :, None, :] * company.channel_mix[..., None]
        + by_itself[:, :, None, None] * value.mix[:, None, :, None] * season
    )


def spread(counts: np.ndarray, source: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Counts (m, s, t) as one entry a customer: market, segment, time, source."""
    cell = np.repeat(np.arange(counts.size), counts.ravel())
    market, segment, when = np.unravel_index(cell, counts.shape)
    return market, segment, when, np.full(len(cell), source)


def pick(rng: np.random.Generator, shares: np.ndarray) -> np.ndarray:
    """One index a row, drawn with the row's ``shares`` (n, k)."""
    return np.minimum((rng.random((len(shares), 1)) > shares.cumsum(1)).sum(1), shares.shape[1] - 1)


def add_months(days: np.ndarray, months: np.ndarray) -> np.ndarray:
    """The same day of the month, ``months`` later (the last one where the month is shorter)."""
    month = days.astype("datetime64[M]")
    target = month + months
    length = ((target + 1).astype("datetime64[D]") - target.astype("datetime64[D]")).astype(int)
    day = (days - month.astype("datetime64[D]")).astype(int)
    return target.astype("datetime64[D]") + np.minimum(day, length - 1)


def months_since(days: np.ndarray, until: np.datetime64) -> np.ndarray:
    """Whole months from each day to ``until``."""
    months = (until.astype("datetime64[M]") - days.astype("datetime64[M]")).astype(int)
    return np.maximum(months - (add_months(days, months) > until), 0)


def sign_contracts(seed: int, scenario: Scenario, value: Value, customers: Customers) -> Contracts:
    """Product, monthly value and the month each customer leaves in, at its own constant chance."""
    rng = stream(seed, "contracts")
    m, s = customers.market, customers.segment
    product = pick(rng, value.product[m, s])
    money = value.price[m, s, product] * np.exp(0.15 * rng.normal(size=len(m)) - 0.5 * 0.15**2)
    leaves = rng.beta(value.alpha[m, s, product], value.beta[m, s, product])
    stays = np.minimum(rng.geometric(np.maximum(leaves, 1e-9)), 1200)
    ended = add_months(customers.started, stays) - 1
    as_of = np.datetime64(scenario.as_of)
    ended = np.where(ended <= as_of, ended, np.datetime64("NaT"))
    return Contracts(product, np.maximum(np.round(2 * money) / 2, 0.5), leaves, ended)


def remaining_contracts(
    scenario: Scenario, value: Value, customers: Customers, contracts: Contracts
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per customer, given the true parameters and how long it has stayed: discounted margin over the horizon, revenue
    of the next twelve months, and the chance to be there a month later; 0 for who has left.

    The month that runs is paid; the k-th renewal from now is on average k - 1/2 months away.
    """
    until = np.datetime64(scenario.as_of) + 1
    active = np.flatnonzero(contracts.active)
    m, s, p = customers.market[active], customers.segment[active], contracts.product[active]
    age = np.minimum(months_since(customers.started[active], until), MONTHS)
    horizon = scenario.horizon_months
    span = age.max(initial=0) + 1
    survival = geometric_survival(value.alpha, value.beta, int(span + max(horizon, 12) + 1))
    discounted, year = np.zeros((*value.alpha.shape, span)), np.zeros((*value.alpha.shape, span))
    for k in range(1, horizon + 1):
        discounted += scenario.monthly_discount ** (k - 0.5) * survival[..., k : k + span]
    year += 0.5 * (survival[..., :span] + survival[..., 12 : 12 + span])
    for k in range(1, 12):
        year += survival[..., k : k + span]
    at = (m, s, p, age)
    base = survival[..., :span][at]
    out = [np.zeros(len(customers)) for _ in range(3)]
    money = contracts.monthly_value[active]
    out[0][active] = scenario.margin_rate * money * discounted[at] / base
    out[1][active] = money * year[at] / base
    out[2][active] = survival[..., 1 : span + 1][at] / base
    return out[0], out[1], out[2]
