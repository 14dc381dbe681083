"""Panels of spend and new customers whose truth is known, in several kinds; used by ``response.py``.

They differ from what the model assumes on purpose: spend that follows demand (in all channels, in one, with randomised
pulses), no response at all, S-shaped response, spillover to neighbours, decay that differs by market, rough demand.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.signal import lfilter

from micromarket.config import Company, Economics, PlanPeriod, Settings
from micromarket.market_data import MarketData

SETTINGS = Settings(
    path=Path("plan.yml"),
    company=Company("Panel", "USD"),
    as_of=dt.date(2026, 6, 28),
    plan=PlanPeriod(dt.date(2026, 7, 1), dt.date(2027, 6, 30)),
    economics=Economics("contractual", margin_rate=0.4),
    data={},
)
CHANNELS = ("Field", "Outdoor", "Search", "Social")
DECAY = np.array([0.35, 0.65, 0.2, 0.45])
HALF = np.array([2.0, 0.8, 1.4, 1.0])  # of the usual weekly spend
PULL = np.array([0.8, 0.6, 1.2, 1.0])
PRICE = np.array([1.5, 0.8, 2.0, 1.2])  # money per head and week where a channel is used


@dataclass(frozen=True)
class Kind:
    """One kind of world. ``elasticity``: about what 1% more spend brings in %; ``follow``: how strongly log spend of
    the channels follows demand; ``hill``: exponent of the saturation; ``near``: share of pressure that goes next door.
    """

    elasticity: float = 0.15
    follow: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    pulsed: float = 0.0
    hill: float = 1.0
    near: float = 0.0
    decay_spread: float = 0.0
    empty: float = 0.0
    shock: float = 0.12
    rho: float = 0.7
    weekly: float = 6.0  # new customers of the median market
    monthly: bool = False
    room: float = 0.5
    flights: tuple[bool, ...] = field(default=(False, True, False, True))


_ALL = (2.5, 2.5, 2.5, 2.5)
KINDS: dict[str, Kind] = {
    "clean": Kind(),
    "follows": Kind(follow=_ALL),
    "follows, one channel": Kind(follow=(0.0, 0.0, 3.0, 0.0)),
    "follows, pulsed": Kind(follow=_ALL, pulsed=0.3),
    "no response": Kind(elasticity=0.0),
    "no response, follows": Kind(elasticity=0.0, follow=_ALL),
    "threshold": Kind(hill=2.0),
    "spillover": Kind(near=0.25),
    "decay by market": Kind(decay_spread=0.8),
    "sparse": Kind(empty=0.5, weekly=2.0),
    "rough demand": Kind(shock=0.3, rho=0.85),
    "monthly": Kind(monthly=True),
}
REGIONS = Kind(weekly=400.0, shock=0.06, room=0.0)  # few, large markets: what peers are made for


@dataclass(frozen=True)
class World:
    """A company's panel and its truth; cells (markets, channels)."""

    data: MarketData
    scores: pd.DataFrame
    value: pd.DataFrame
    experiments: pd.DataFrame | None
    effect: np.ndarray  # new customers of a year at last year's spend
    worth: np.ndarray  # money per new customer (markets,)
    current: np.ndarray
    _brought: tuple

    def brought(self, factor: np.ndarray) -> np.ndarray:
        """New customers of a year, (markets, channels), if last year's spend were multiplied by ``factor``."""
        heads, slope, half, hill, decay, last = self._brought
        return heads[:, None] * _yearly(last * factor[..., None], slope, half, hill, decay)

    def best_factor(
        self, amplitude: np.ndarray, half_spend: np.ndarray, low: float = 0.5, high: float = 2.0
    ) -> np.ndarray:
        """Factors by cell that are best for curves ``amplitude x / (x + half_spend)`` at the same total."""
        x, weight = self.current, amplitude * self.worth[:, None]

        def at(price: float) -> np.ndarray:
            wanted = np.sqrt(np.maximum(weight * half_spend / price, 0.0)) - half_spend
            return np.where(x > 0, np.clip(wanted / np.maximum(x, 1e-12), low, high), 1.0)

        a, b = 1e-12, 1e12
        for _ in range(200):
            price = np.sqrt(a * b)
            a, b = (price, b) if (at(price) * x).sum() > x.sum() else (a, price)
        return at(b)

    def true_best(self, low: float = 0.5, high: float = 2.0) -> np.ndarray:
        grid = np.linspace(low, high, 31)
        gained = np.stack([self.brought(np.full(self.current.shape, g)) * self.worth[:, None] for g in grid])
        a, b = 1e-12, 1e12
        for _ in range(120):
            price = np.sqrt(a * b)
            f = grid[(gained - price * grid[:, None, None] * self.current).argmax(axis=0)]
            a, b = (price, b) if (f * self.current).sum() > self.current.sum() else (a, price)
        return f

    def capture(self, factor: np.ndarray) -> tuple[float, float, float]:
        """True gain of ``factor`` in money, of the best, and their ratio."""
        one = np.ones_like(factor)
        now = (self.brought(one) * self.worth[:, None]).sum()
        real = (self.brought(factor) * self.worth[:, None]).sum() - now
        best = (self.brought(self.true_best()) * self.worth[:, None]).sum() - now
        return float(real), float(best), float(real / best) if best > 1e-9 else float("nan")


def _stock(spend: np.ndarray, decay: np.ndarray) -> np.ndarray:
    """Adstock along the last axis of (markets, channels, weeks); ``decay`` (markets, channels)."""
    level, out = spend[..., :8].mean(axis=-1), np.empty_like(spend)
    for t in range(spend.shape[-1]):
        level = decay * level + (1 - decay) * spend[..., t]
        out[..., t] = level
    return out


def _sat(pressure: np.ndarray, half: np.ndarray, hill: float) -> np.ndarray:
    a = pressure**hill
    return a / (a + (half[..., None]) ** hill)


def _yearly(spend, slope, half, hill, decay) -> np.ndarray:
    """New customers per head and year, counted where the money is spent."""
    return (slope[..., None] * _sat(_stock(spend, decay), half, hill)).sum(axis=-1)


def build(kind: str, markets: int, weeks: int, seed: int, channels: int = 4) -> World:
    """A company of this kind. Equal arguments give equal worlds."""
    k, rng = KINDS.get(kind, REGIONS), np.random.default_rng([seed, *kind.encode()])
    c = channels
    decay, half, pull, price = (a[:c] for a in (DECAY, HALF, PULL, PRICE))
    heads = rng.lognormal(9.0, 0.6, markets)
    side = int(np.ceil(np.sqrt(markets)))
    region = (np.arange(markets) // side) * min(6, side) // side
    room = rng.lognormal(0, 0.5, markets)
    feature = rng.standard_normal(markets)
    level = rng.lognormal(-0.1, 0.4, (markets, 1)) * rng.lognormal(-0.05, 0.3, (markets, c))
    level = np.where(rng.random((markets, c)) < k.empty, 0.0, level)
    shock = rng.standard_normal((markets, weeks))
    shock[:, 1:] *= np.sqrt(1 - k.rho**2)
    shock = k.shock * lfilter([1.0], [1.0, -k.rho], shock, axis=1)
    spend = level[..., None] * np.exp(0.35 * rng.standard_normal((markets, c, weeks)) - 0.06)
    week = np.arange(weeks)
    for i in range(c):
        if k.flights[i]:
            phase = rng.integers(0, 10, markets)
            spend[:, i] *= np.where((week + phase[:, None]) % 10 < 5, 1.7, 0.3)
    spend *= 1 + 0.15 * np.sin(2 * np.pi * week / 52)
    spend *= np.exp(np.array(k.follow[:c])[:, None] * shock[:, None])
    rows = []
    start = pd.Timestamp(SETTINGS.as_of) - pd.Timedelta(days=7 * weeks - 1)
    names = np.array([f"m{i:06d}" for i in range(markets)])
    if k.pulsed:
        for m in np.sort(rng.choice(markets, round(k.pulsed * markets), replace=False)):
            i, first, up = rng.integers(c), int(rng.integers(10, weeks - 12)), rng.random() < 0.5
            spend[m, i, first : first + 8] *= 2.0 if up else 0.2
            rows.append({"channel": CHANNELS[i], "start": start + pd.Timedelta(weeks=first),
                         "end": start + pd.Timedelta(weeks=first + 8, days=-1), "lift": np.nan, "lift_se": np.nan,
                         "markets": names[m]})  # fmt: skip
    own_decay = 1 / (1 + np.exp(-(np.log(decay / (1 - decay)) + k.decay_spread * rng.standard_normal((markets, c)))))
    base = rng.lognormal(np.log(k.weekly / np.exp(9.0)), 0.3, markets)
    cell = 0.35 * rng.standard_normal((markets, c)) + 0.25 * rng.standard_normal((markets, 1))
    cell += 0.1 * rng.standard_normal(6)[region][:, None] + 0.1 * feature[:, None]
    slope = pull * np.exp(cell) * (room**k.room)[:, None] * np.exp(0.3 * rng.standard_normal((markets, 1)))
    halves = np.broadcast_to(half, (markets, c))
    share = _sat(_stock(spend, own_decay), halves, k.hill)
    strength = 2 * k.elasticity * base.mean() / max(float((slope[..., None] * share).sum(axis=1).mean()), 1e-12)
    slope = slope * strength
    pressure = _stock(spend, own_decay)
    if k.near:
        beside = (np.roll(pressure, 1, axis=0) + np.roll(pressure, -1, axis=0)) / 2
        pressure = (1 - k.near) * pressure + k.near * beside
    brought = (slope[..., None] * _sat(pressure, halves, k.hill)).sum(axis=1)
    season = (
        1
        + 0.15 * np.sin(2 * np.pi * week / 52)
        + 0.05 * rng.standard_normal(markets)[:, None] * np.cos(2 * np.pi * week / 52)
    )
    mean = heads[:, None] * (base[:, None] * season * np.exp(shock - k.shock**2 / 2) + brought)
    won = rng.poisson(mean).astype(float)
    last = spend[..., -52:]
    money = spend * price[:, None] * heads[:, None, None]
    data = _tables(names, start, weeks, won, money, heads, region, feature, k.monthly)
    noisy = room * np.exp(0.3 * rng.standard_normal(markets))
    scores = pd.DataFrame({"market_id": names, "headroom": heads * 0.2 * noisy})
    worth = rng.lognormal(5, 0.3, markets)
    value = pd.DataFrame({"market_id": names, "new_customer_clv": worth})
    pieces = (heads, slope, halves, k.hill, own_decay, last)
    effect = heads[:, None] * _yearly(last, slope, halves, k.hill, own_decay)
    current = money[..., -52:].sum(axis=-1) * SETTINGS.plan.years
    experiments = pd.DataFrame(rows) if rows else None
    return World(data, scores, value, experiments, effect, worth, current, pieces)


def _tables(names, start, weeks, won, money, heads, region, feature, monthly) -> MarketData:
    markets, channels = money.shape[:2]
    period = start + pd.to_timedelta(7 * np.arange(weeks), unit="D")
    if monthly:
        period = period.to_period("M").to_timestamp()
    keys = {"market_id": np.repeat(names, weeks), "period": np.tile(period.to_numpy(), markets)}
    panel = pd.DataFrame({**keys, "new_customers": won.ravel(), "revenue": 0.0})
    parts = []
    for i in range(channels):
        parts.append(pd.DataFrame({**keys, "channel": CHANNELS[i], "amount": money[:, i].ravel()}))
    spend = pd.concat(parts, ignore_index=True)
    del parts
    if monthly:
        panel = panel.groupby(["market_id", "period"], as_index=False).sum()
        spend = spend.groupby(["market_id", "period", "channel"], as_index=False).sum()
    spend = spend[spend["amount"] > 0]
    last = won[:, -52:].sum(axis=1)
    current = pd.DataFrame({"market_id": np.repeat(names, channels), "channel": np.tile(CHANNELS[:channels], markets),
                            "current": (money[..., -52:].sum(axis=-1) * SETTINGS.plan.years).ravel()})  # fmt: skip
    table = pd.DataFrame({"market_id": names, "region": [f"R{r}" for r in region], "addressable_customers": heads,
                          "customers": heads * 0.1, "income": feature})  # fmt: skip
    side = np.arange(markets)
    near = pd.DataFrame({"market_id": np.r_[names, names], "neighbour_id": np.r_[names[(side + 1) % markets],
                                                                                 names[side - 1]]})  # fmt: skip
    return MarketData(
        markets=table,
        cells=pd.DataFrame({"market_id": names, "segment": "All", "customers": heads * 0.1,
                            "new_customers_last_year": last, "revenue_last_year": 0.0}),
        history=pd.DataFrame(), neighbours=near, panel=panel, spend=spend, current=current, features=("income",),
        frequency="month" if monthly else "week",
    )  # fmt: skip
