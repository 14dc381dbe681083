"""What kind of company is simulated: segments, products, channels and the knobs of its world."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace

import numpy as np

from micromarket.config import RELATIONSHIPS
from micromarket.errors import InputError, Problem, did_you_mean


@dataclass(frozen=True)
class Segment:
    """A group of customers. Three ``products`` each; prices are money per month (or per purchase).

    ``churn``: mean monthly chance that a *new* customer leaves, beta-distributed over customers with ``churn_count``
    = alpha + beta; ``churn_products``: log-odds by product. ``orders``: mean purchases a year while alive, gamma
    with shape ``orders_shape``; ``life_years``: mean of the exponential lifetimes' scale, gamma with ``life_shape``
    (both only for purchases without a contract). ``urban``: how strongly its share rises with urban share.
    """

    name: str
    share: float
    products: tuple[str, str, str]
    prices: tuple[float, float, float]
    product_shares: tuple[float, float, float]
    churn: float
    churn_count: float
    churn_products: tuple[float, float, float] = (0.2, 0.0, -0.3)
    urban: float = 0.0
    orders: float = 6.0
    orders_shape: float = 1.2
    life_years: float = 2.5
    life_shape: float = 2.5


@dataclass(frozen=True)
class Channel:
    """A marketing channel.

    ``share`` of the spend; ``decay``: share of a week's stock left a week later; ``saturation``: stock of the median
    market in units of the curve's scale; ``strength``: relative new customers per unit of money; ``always_on``: share
    of money outside flights; flights of ``flight`` weeks, then ``gap`` weeks; ``urban``: tilt of its money;
    ``segments``: relative pull by segment; ``rates``: share of leads that reach MQL, SAL, SQL, won, each of the stage
    before; ``lags``: mean days into each stage.
    """

    name: str
    share: float
    decay: float
    curve: str
    saturation: float
    strength: float
    always_on: float
    flight: int
    gap: int
    urban: float
    segments: tuple[float, ...]
    rates: tuple[float, float, float, float]
    lags: tuple[float, float, float, float]


@dataclass(frozen=True)
class Scenario:
    """A kind of company. Shares and rates are fractions; ``growth`` is of revenue, plan year against last year."""

    company: str
    prefix: str
    segments: tuple[Segment, ...]
    channels: tuple[Channel, ...]
    relationship: str = "contractual"
    currency: str = "USD"
    as_of: dt.date = dt.date(2026, 6, 30)
    margin_rate: float = 0.45
    discount_rate: float = 0.10
    horizon_months: int = 36
    history_years: float = 7.0  # before the weeks that spend is known for
    penetration: float = 0.08
    regions: int = 8
    spend_rate: float = 0.07  # of revenue
    mean_return: float = 1.5  # value of all that spend brings, per unit of money
    growth: float = 0.05  # of revenue if spend stays as it is
    size_spread: float = 0.55
    smallest: float = 0.15  # smallest market, of the mean one
    inefficiency: float = 0.30
    neglect: float = 0.25  # how much less attention wealthier markets get
    entrant_share: float = 0.10  # of markets where a low-price rival has entered
    entrant_price: float = -0.12
    entrant_churn: float = 0.25
    spend_noise: float = 0.40  # spread of the company's allocation rule over markets
    shock: float = 0.10  # spread of the demand shocks of a market's week
    zero_cells: float = 0.03  # share of market x channel cells that get no money
    opportunity_in_best_fifth: float | None = None
    spend_in_lowest_tenth: float | None = None
    spend_in_best_fifth: float | None = None
    endogenous: bool = False
    no_response: bool = False
    sparse: bool = False
    # worlds to hold the planner against
    room_power: float = 0.8  # how far response follows headroom; what is left follows potential
    habit: tuple[float, ...] = ()  # by channel: money over what would suit its curve; none: 1
    pulsed: float = 0.0  # share of markets in which every channel's money was pulsed at random
    spillover: float = 0.0  # share of the customers that money wins who live in neighbouring markets
    decay_spread: float = 0.0  # of the logit of a cell's decay around its channel's

    @property
    def contractual(self) -> bool:
        return self.relationship == "contractual"

    @property
    def monthly_discount(self) -> float:
        return float((1 + self.discount_rate) ** (-1 / 12))


_GENERIC = Scenario(
    company="Sample company",
    prefix="M",
    segments=(
        Segment("Consumer", 0.85, ("Basic", "Plus", "Max"), (14, 24, 39), (0.40, 0.40, 0.20), 0.028, 55, urban=0.1),
        Segment("Small business", 0.15, ("Desk", "Office", "Suite"), (38, 70, 120), (0.45, 0.38, 0.17), 0.019, 80,
                urban=0.5, orders=10, orders_shape=1.8, life_years=3.2),
    ),
    channels=(
        Channel("Search", 0.34, 0.15, "hyperbolic", 0.9, 1.0, 0.75, 6, 5, 0.5, (1.0, 1.0), (0.66, 0.84, 0.75, 0.60),
                (1, 2, 5, 6)),
        Channel("Social", 0.26, 0.35, "exponential", 0.8, 1.1, 0.25, 5, 4, 0.3, (1.1, 0.5), (0.50, 0.76, 0.66, 0.50),
                (2, 3, 7, 8)),
        Channel("Outdoor", 0.22, 0.65, "hyperbolic", 1.0, 0.7, 0.10, 5, 6, 0.1, (1.0, 0.7), (0.56, 0.78, 0.66, 0.52),
                (3, 3, 8, 9)),
        Channel("Field events", 0.18, 0.45, "exponential", 0.6, 1.2, 0.00, 3, 6, -0.4, (0.8, 1.8),
                (0.76, 0.90, 0.80, 0.68), (1, 2, 6, 9)),
    ),
)  # fmt: skip

_TELECOM = replace(
    _GENERIC,
    company="Nusara Telecom",
    prefix="NT",
    regions=7,
    segments=(
        Segment("Postpaid", 0.56, ("Mobile S", "Mobile M", "Home Fibre"), (16, 25, 38), (0.38, 0.40, 0.22), 0.026, 60,
                urban=0.2),
        Segment("Prepaid", 0.30, ("Prepaid 7", "Prepaid 10", "Prepaid 15"), (7, 10, 15), (0.5, 0.3, 0.2), 0.048, 35,
                urban=-0.3),
        Segment("Small business", 0.14, ("Biz Line", "Biz Fibre", "Biz Suite"), (42, 74, 125), (0.48, 0.36, 0.16),
                0.017, 90, urban=0.5),
    ),
    channels=tuple(
        replace(channel, segments=tilt)
        for channel, tilt in zip(
            _GENERIC.channels, ((1.1, 0.9, 0.9), (0.9, 1.5, 0.4), (1.0, 1.1, 0.7), (0.9, 0.8, 1.8)), strict=True
        )
    ),
    growth=0.09,
    spend_rate=0.09,
    neglect=0.7,
    mean_return=1.9,
    entrant_price=-0.28,
    entrant_churn=0.45,
    opportunity_in_best_fifth=0.66,
    spend_in_lowest_tenth=0.205,
    spend_in_best_fifth=0.18,
)  # fmt: skip

PRESETS = {"telecom": _TELECOM}


def scenario_of(
    relationship: str = "contractual",
    preset: str | None = None,
    endogenous: bool = False,
    no_response: bool = False,
    sparse: bool = False,
) -> Scenario:
    """The kind of company that the options describe.

    Raises
    ------
    InputError
        For an unknown relationship or preset.
    """
    problems = []
    if relationship not in RELATIONSHIPS:
        problems.append(
            Problem("simulate", did_you_mean(relationship, RELATIONSHIPS), "relationship", None, relationship)
        )
    if preset is not None and preset not in PRESETS:
        problems.append(Problem("simulate", did_you_mean(preset, tuple(PRESETS)), "preset", None, str(preset)))
    if problems:
        raise InputError(problems)
    scenario = replace(
        PRESETS[preset] if preset else _GENERIC,
        relationship=relationship,
        endogenous=endogenous,
        no_response=no_response,
        sparse=sparse,
    )
    if sparse:
        scenario = replace(scenario, size_spread=1.0, smallest=0.0, zero_cells=0.45, spend_noise=0.7)
    if endogenous:
        scenario = replace(scenario, shock=0.20)
    return scenario


def stream(seed: int, name: str) -> np.random.Generator:
    """Random numbers of one part of the world: a change to one part leaves the others as they were."""
    return np.random.default_rng([seed, *name.encode()])
