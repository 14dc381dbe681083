"""Purchases without a contract: each customer buys at its own rate until it silently stops."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from micromarket.simulate.customers import Customers, pick
from micromarket.simulate.scenario import Scenario, stream
from micromarket.simulate.value import Value

_REFUNDED = 0.015
_DAYS_A_YEAR = 365.25


@dataclass(frozen=True)
class Buyers:
    """True state of every customer: purchases a year, money a purchase, leaving rate a year, still alive at as_of."""

    orders: np.ndarray
    amount: np.ndarray
    leaving: np.ndarray
    alive: np.ndarray


def draw_purchases(seed: int, scenario: Scenario, value: Value, customers: Customers) -> tuple[Buyers, pd.DataFrame]:
    """The buyers and their purchases: customer (row number), date, amount, margin, product (code); refunds negative."""
    rng = stream(seed, "purchases")
    m, s = customers.market, customers.segment
    segments = scenario.segments
    shape = np.array([g.orders_shape for g in segments])[s]
    orders = rng.gamma(shape, value.orders[m, s] / shape)
    leaving = rng.gamma(np.array([g.life_shape for g in segments])[s], 1 / value.life[m, s])
    taste = 4 / rng.gamma(5, 1, size=len(m))  # mean 1: the gamma-gamma's spread between customers
    as_of = np.datetime64(scenario.as_of)
    age = (as_of - customers.started).astype(int) / _DAYS_A_YEAR
    life = rng.exponential(1 / np.maximum(leaving, 1e-9))
    mean = (value.product * value.price).sum(2)[m, s] * taste
    buyers = Buyers(orders, mean, leaving, life > age)

    repeats = rng.poisson(orders * np.minimum(life, age))
    who = np.repeat(np.arange(len(m)), repeats + 1)
    when = rng.random(len(who)) * np.minimum(life, age)[who]
    when[np.cumsum(repeats + 1) - repeats - 1] = 0.0  # the first one made the customer
    date = customers.started[who] + np.floor(when * _DAYS_A_YEAR).astype(np.int64)
    product = pick(rng, value.product[m, s][who])
    amount = value.price[m[who], s[who], product] * taste[who] * rng.gamma(6, 1 / 6, size=len(who)) / (1 - _REFUNDED)
    amount = np.maximum(np.round(amount, 2), 0.01)
    margin = np.round(amount * scenario.margin_rate * rng.gamma(60, 1 / 60, size=len(who)), 2)

    back = np.flatnonzero(rng.random(len(who)) < _REFUNDED)
    returned = date[back] + rng.integers(2, 25, size=len(back))
    back, returned = back[returned <= as_of], returned[returned <= as_of]
    rows = np.r_[np.arange(len(who)), back]
    sign = np.where(np.arange(len(rows)) < len(who), 1, -1)
    table = pd.DataFrame(
        {
            "customer": who[rows],
            "date": np.r_[date, returned],
            "amount": sign * amount[rows],
            "margin": sign * margin[rows],
            "product": product[rows],
        }
    )
    return buyers, table.sort_values(["customer", "date"], kind="stable").reset_index(drop=True)


def remaining_purchases(scenario: Scenario, buyers: Buyers) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per customer, given its true state: discounted margin over the horizon, revenue of the next twelve months, chance
    to be alive a month later; 0 for who has stopped, whom the company can't tell from the others.
    """

    def expected(months: int, discount: float) -> np.ndarray:
        total = np.zeros(len(buyers.orders))
        for k in range(1, months + 1):
            total += discount ** (k - 0.5) * np.exp(-buyers.leaving * (k - 0.5) / 12)
        return total * buyers.orders / 12 * buyers.amount * buyers.alive

    clv = scenario.margin_rate * expected(scenario.horizon_months, scenario.monthly_discount)
    return clv, expected(12, 1.0), np.exp(-buyers.leaving / 12) * buyers.alive
