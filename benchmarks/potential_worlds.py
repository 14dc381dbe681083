"""Markets whose potential is known: six ways in which markets fall short of it; used by ``potential.py``.

Potential is what the library means by it: customers of a market with every lever at its 90th percentile (or where it
stands, if that is better) and nothing else holding it back. Curves are deliberately not those of the library's models.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import expit

from micromarket.market_data import MarketData

SCENARIOS = ("base", "rough", "noisy", "exponential", "none", "endogenous")
VARIANTS = ("sized", "unsized", "category", "part category", "audited", "unsized, audited")
AUDITED = 40
_SIDE_KM = 400.0


@dataclass(frozen=True)
class World:
    """``potential``, ``headroom`` (customers), ``people`` (those who could buy): shape (markets,).

    ``headroom`` is potential less the customers that a market can expect today (not those it happened to get).
    """

    data: MarketData
    potential: np.ndarray
    headroom: np.ndarray
    people: np.ndarray


def make(scenario: str, seed: int, markets: int = 2_000, variant: str = "sized") -> World:
    """A world of ``SCENARIOS``, seen by a company that knows as much as ``variant`` says (of ``VARIANTS``)."""
    rng = np.random.default_rng([seed, SCENARIOS.index(scenario)])
    place = rng.uniform(0, _SIDE_KM, (markets, 2))
    features, attract = _attractiveness(rng, place, rough=scenario == "rough")
    people = np.round(rng.lognormal(5.3 if scenario == "noisy" else 8.7, 0.8, markets)) + 30
    own = 0.15 * rng.standard_normal(markets)  # lasting differences that no column shows
    if scenario == "rough":
        own = 0.1 * rng.standard_normal(markets) + 0.15 * _field(rng, place, 25.0)
    if scenario == "endogenous":
        own = 0.25 * rng.standard_normal(markets)
    short = _shortfall(rng, scenario, markets)
    follow = 0.35 * attract
    if scenario == "endogenous":  # managers know more than the columns, and send people where it goes well
        follow = 0.7 * attract + own
    reps = np.exp(follow + 0.5 * rng.standard_normal(markets))
    spend = np.exp(follow + 0.6 * rng.standard_normal(markets))
    gap = _lost(reps, 0.9, 1.1) + _lost(spend, 0.7, 1.4)
    at_best = -2.1 + attract + own
    potential = people * expit(at_best)
    expected = people * expit(at_best - gap - short)
    customers = rng.binomial(people.astype(int), expected / people)
    frame = pd.DataFrame(features, columns=[f"f{i}" for i in range(features.shape[1])])
    ids = np.array([f"m{i:05d}" for i in range(markets)])
    category = people * expit(at_best + 0.9 + 0.25 * rng.standard_normal(markets))
    category = np.maximum(category, 1.02 * potential).round()
    frame = frame.assign(
        market_id=ids, name=ids, region=[f"r{int(x // 100)}{int(y // 100)}" for x, y in place], x_km=place[:, 0],
        y_km=place[:, 1], area_km2=_SIDE_KM**2 / markets, customers=customers.astype(float),
        reps=reps * people / 3_000, addressable_customers=people, market_customers=np.nan, audited_potential=np.nan,
    )  # fmt: skip
    frame = _seen(frame, variant, potential, np.maximum(category, customers), rng)
    current = pd.DataFrame({"market_id": ids, "channel": "all", "current": spend * people * 2})
    none = pd.DataFrame()
    data = MarketData(frame, none, none, current=current,
                      features=tuple(f"f{i}" for i in range(features.shape[1])))  # fmt: skip
    return World(data, potential, potential - expected, people)


def _seen(
    frame: pd.DataFrame, variant: str, potential: np.ndarray, category: np.ndarray, rng: np.random.Generator
) -> pd.DataFrame:
    """What the company knows of sizes and audits."""
    if variant in ("category", "part category"):
        known = np.ones(len(frame), bool) if variant == "category" else rng.random(len(frame)) < 0.3
        frame = frame.assign(market_customers=np.where(known, category, np.nan))
    if variant.startswith("unsized"):
        # what is left is a column that grows with size, as in most files: inhabitants, roughly
        rough = frame["addressable_customers"] * np.exp(0.25 * rng.standard_normal(len(frame)))
        frame = frame.assign(addressable_customers=np.nan, f6=np.round(rough))
    if variant.endswith("audited"):
        at = rng.choice(len(frame), min(AUDITED, len(frame)), replace=False)
        measured = potential[at] * np.exp(0.08 * rng.standard_normal(len(at)))
        audited = np.full(len(frame), np.nan)
        audited[at] = measured
        frame = frame.assign(audited_potential=audited)
    return frame


def _attractiveness(rng: np.random.Generator, place: np.ndarray, rough: bool) -> tuple[np.ndarray, np.ndarray]:
    """Eight features (markets, 8), two of them without meaning, and the log-odds that the others make."""
    scale = 30.0 if rough else 80.0
    z = np.column_stack([0.7 * _field(rng, place, scale) + 0.7 * rng.standard_normal(len(place)) for _ in range(8)])
    attract = 0.45 * np.tanh(1.5 * z[:, 0]) + 0.3 * z[:, 1] - 0.12 * z[:, 1] ** 2 + 0.25 * np.maximum(z[:, 2], 0)
    attract = attract + 0.15 * z[:, 3] + 0.1 * np.sin(2 * z[:, 4])
    if rough:
        attract = attract + 0.3 * z[:, 0] * (z[:, 2] > 0) + 0.25 * (z[:, 3] * z[:, 5] > 0.3) - 0.2 * np.abs(z[:, 4])
    else:
        attract = attract + 0.2 * z[:, 0] * (z[:, 2] > 0)
    shown = z.copy()
    shown[:, 1] = np.exp(0.8 * z[:, 1])  # incomes and densities are skewed
    shown[:, 3] = 100 * expit(z[:, 3])
    return shown, attract


def _shortfall(rng: np.random.Generator, scenario: str, markets: int) -> np.ndarray:
    """What holds markets back and nobody recorded, log-odds, at least 0: mean 0.28 but in ``none``."""
    if scenario == "none":
        return np.zeros(markets)
    if scenario == "exponential":
        return rng.exponential(0.28, markets)
    return np.abs(rng.normal(0, 0.35, markets))


def _lost(lever: np.ndarray, effect: float, pace: float) -> np.ndarray:
    """Log-odds lost to a lever below its 90th percentile: effect x (1 - exp(-pace x lever)) at best less here."""
    best = np.maximum(lever, np.quantile(lever, 0.9))
    return effect * (np.exp(-pace * lever) - np.exp(-pace * best))


def _field(rng: np.random.Generator, place: np.ndarray, scale: float) -> np.ndarray:
    """A smooth random surface over the map, mean 0 and sd 1 (random Fourier features of a Gaussian kernel)."""
    waves = rng.standard_normal((60, 2)) / scale
    value = np.cos(place @ waves.T + rng.uniform(0, 2 * np.pi, 60)) @ rng.standard_normal(60)
    return (value - value.mean()) / value.std()
