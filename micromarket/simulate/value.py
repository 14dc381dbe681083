"""What a customer is worth in truth: survival and revenue by month, by market x segment x product.

Contracts: the chance to leave at a monthly renewal is beta-distributed over customers (shifted-beta-geometric, Fader
and Hardie 2007), with parameters that differ by market, segment and product. Purchases: Poisson at a gamma-distributed
rate during an exponential lifetime whose rate is gamma-distributed too (Pareto/NBD, Schmittlein et al. 1987); amounts
gamma-gamma. Both become the same two tables: ``alive`` and ``revenue`` by months since the first day.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from micromarket.simulate.country import Country, standard
from micromarket.simulate.scenario import Scenario, stream

MONTHS = 240  # longest age that any table knows


@dataclass(frozen=True)
class Value:
    """True value parameters; axes market (m), segment (s), product (p), months since acquisition (k).

    Attributes
    ----------
    mix : (m, s) share of segments among new customers.
    product : (m, s, p) share of products among new customers of a segment.
    price : (m, s, p) mean money a month (contract) or a purchase.
    alpha, beta : (m, s, p) of the beta of the monthly chance to leave (contract).
    orders : (m, s) mean purchases a year while alive; life : (m, s) gamma rate of the leaving rate, in years.
    alive : (m, s, k) share of new customers still alive at the start of month k.
    revenue : (m, s, k) expected revenue of a new customer in its month k.
    new_clv : (m, s) money, discounted margin over the horizon; month k counts at its start.
    entrant : (m,) bool, where the low-price rival is.
    """

    mix: np.ndarray
    product: np.ndarray
    price: np.ndarray
    alpha: np.ndarray
    beta: np.ndarray
    orders: np.ndarray
    life: np.ndarray
    alive: np.ndarray
    revenue: np.ndarray
    new_clv: np.ndarray
    entrant: np.ndarray


def geometric_survival(alpha: np.ndarray, beta: np.ndarray, months: int) -> np.ndarray:
    """B(alpha, beta + k) / B(alpha, beta) for k = 0 … months - 1, as a new last axis."""
    k = np.arange(months)
    a, b = alpha[..., None], beta[..., None]
    return np.exp(gammaln(b + k) - gammaln(b) - gammaln(a + b + k) + gammaln(a + b))


def lifetime_survival(shape: float, life: np.ndarray, years: np.ndarray) -> np.ndarray:
    """(life / (life + t)) ** shape: share alive after t years."""
    return (life[..., None] / (life[..., None] + years)) ** shape


def build_value(seed: int, scenario: Scenario, country: Country) -> Value:
    """Draws the value of customers: prices rise with income, churn with youth and rivals, plus the market's own."""
    rng = stream(seed, "value")
    f, segments = country.fields, scenario.segments
    m, s = len(country.x), len(segments)
    share = np.log([g.share for g in segments]) + np.outer(f["city"], [g.urban for g in segments])
    share = np.exp(share + 0.15 * rng.normal(size=(m, s)))
    mix = share / share.sum(1, keepdims=True)
    level = 0.11 * f["wealth"] + 0.03 * f["city"] + 0.05 * rng.normal(size=m)
    leave = -0.12 * f["wealth"] + 0.09 * f["young"] + 0.08 * np.maximum(f["rivalry"], -1) + 0.10 * rng.normal(size=m)
    # a low-price rival comes where customers are worth little already, and makes them worth less
    worth = np.log(mix @ [np.dot(g.prices, g.product_shares) / g.churn**0.5 for g in segments]) + level - 0.6 * leave
    entrant = np.zeros(m, dtype=bool)
    poorest = np.argsort(-0.6 * standard(f["entrant"]) + 1.0 * standard(worth), kind="stable")
    entrant[poorest[: round(m * scenario.entrant_share)]] = True
    level = level + scenario.entrant_price * entrant
    leave = (leave + scenario.entrant_churn * entrant)[:, None] + 0.07 * rng.normal(size=(m, s))
    wealth = f["wealth"][:, None, None]
    tilt = np.array([-0.18, 0.0, 0.18]) * (wealth - 1.5 * entrant[:, None, None])
    product = np.log(np.array([g.product_shares for g in segments])) + tilt
    product = np.exp(product) / np.exp(product).sum(2, keepdims=True)
    price = np.exp(level)[:, None, None] * np.array([g.prices for g in segments], dtype=float)

    base = np.array([g.churn for g in segments])
    odds = np.log(base / (1 - base))[None, :, None] + np.array([g.churn_products for g in segments]) + leave[..., None]
    mean = 1 / (1 + np.exp(-odds))
    count = np.array([g.churn_count for g in segments])[None, :, None]
    alpha, beta = mean * count, (1 - mean) * count
    orders = np.array([g.orders for g in segments]) * np.exp(0.08 * f["wealth"] + 0.08 * rng.normal(size=m))[:, None]
    shape = np.array([g.life_shape for g in segments])
    life = np.array([g.life_years for g in segments]) * (shape - 1) * np.exp(-leave)

    k = np.arange(MONTHS)
    if scenario.contractual:
        by_product = geometric_survival(alpha, beta, MONTHS)
        alive = np.einsum("msp,mspk->msk", product, by_product)
        revenue = np.einsum("msp,mspk->msk", product * price, by_product)
    else:
        alive = np.stack([lifetime_survival(g.life_shape, life[:, i], k / 12) for i, g in enumerate(segments)], axis=1)
        middle = np.stack(
            [lifetime_survival(g.life_shape, life[:, i], (k + 0.5) / 12) for i, g in enumerate(segments)], axis=1
        )
        amount = (product * price).sum(2)[..., None]
        revenue = amount * (orders[..., None] / 12 * middle + (k == 0))  # the first purchase makes the customer
    horizon = scenario.horizon_months
    discount = scenario.margin_rate * scenario.monthly_discount ** k[:horizon]
    return Value(mix, product, price, alpha, beta, orders, life, alive, revenue,
                 (revenue[:, :, :horizon] * discount).sum(2), entrant)  # fmt: skip
