"""Companies with known market values, some of which break the purchase model's rules; used by ``value.py``.

Sizes run from 20 to 20,000 customers a market. Half of the variance of a market's traits comes from two features that
the library is shown.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ibis
import numpy as np
import pandas as pd
from scipy.special import gammaincc, gammaln
from scipy.stats import gamma as gamma_distribution

from micromarket.config import Company, Economics, PlanPeriod, Settings
from micromarket.market_data import MarketData
from micromarket.value.models.quadrature import residual_paths
from micromarket.value.models.sbg import discount_factors

AS_OF = dt.date(2026, 6, 30)
MONTH_DAYS = 365.25 / 12
HORIZON, DISCOUNT, MARGIN = 36, 0.10, 0.4


@dataclass(frozen=True)
class World:
    """``new_clv``, ``clv``: true values by market (money); ``customers``: on the books by market (count)."""

    tables: Tables
    data: MarketData
    settings: Settings
    new_clv: np.ndarray
    clv: np.ndarray
    customers: np.ndarray


class Tables:
    """The two methods of a Dataset that the value stage needs, over frames."""

    def __init__(self, **frames: pd.DataFrame):
        self._engine = ibis.duckdb.connect()
        self._names = set(frames)
        for name, frame in frames.items():
            self._engine.con.register("_in", frame)
            dates = ", ".join(
                f"DATE '{AS_OF}' - CAST({c} AS INTEGER) AS {c}"
                for c in ("date", "started_on", "ended_on")
                if c in frame
            )
            replace = f" REPLACE ({dates})" if dates else ""
            self._engine.con.execute(f'CREATE TABLE "{name}" AS SELECT *{replace} FROM _in')
            self._engine.con.unregister("_in")

    def has(self, table: str) -> bool:
        return table in self._names

    def table(self, table: str) -> ibis.Table:
        return self._engine.table(table)

    def keep(self, name: str, table: ibis.Table) -> ibis.Table:
        self._engine.con.execute(f'CREATE OR REPLACE TABLE "_{name}" AS {ibis.to_sql(table, dialect="duckdb")}')
        return self._engine.table(f"_{name}")


def settings(relationship: str) -> Settings:
    return Settings(
        path=Path("plan.yml"),
        company=Company("Benchmark"),
        as_of=AS_OF,
        plan=PlanPeriod(dt.date(2026, 7, 1), dt.date(2027, 6, 30)),
        economics=Economics(relationship, MARGIN, discount_rate=DISCOUNT, horizon_months=HORIZON),
        data={},
    )


def sizes(rng: np.random.Generator, markets: int) -> np.ndarray:
    """Customers ever won, 20 to 20,000 a market, evenly spread on the log scale; a fifth below 80."""
    return np.exp(rng.uniform(np.log(20), np.log(20_000), markets)).astype(int)


def traits(rng: np.random.Generator, X: np.ndarray, sd: list[float]) -> list[np.ndarray]:
    """Departures of markets, half of whose variance the features explain."""
    out = []
    for s in sd:
        slope = rng.normal(size=X.shape[1])
        explained = X @ slope / np.linalg.norm(slope)
        out.append(s * (np.sqrt(0.5) * explained + np.sqrt(0.5) * rng.normal(size=len(X))))
    return out


def purchases(seed: int, markets: int, kind: str) -> World:
    """Without contract.

    ``bgnbd``: the model holds. ``gamma``: people stop by the calendar after gamma-distributed lifetimes (shape 1.6: the
    risk rises), buy by the season (half more in December) and spend more the oftener they buy. ``steady``: a second
    misfit: lifetimes of shape 0.6 (a falling risk), regular buyers (Erlang-2 gaps), spend less the oftener they buy.
    """
    rng = np.random.default_rng([seed, 7])
    X = rng.normal(size=(markets, 2))
    n_m = sizes(rng, markets)
    u, v, z = traits(rng, X, [0.30, 0.35, 0.15])
    m = np.repeat(np.arange(markets), n_m)
    n = len(m)
    born = rng.integers(1, 731, n).astype(float)  # days before as_of of the first purchase
    rate = rng.gamma(0.8, 1 / 45.0, n) * np.exp(u[m])  # purchases a day
    rate = np.maximum(rate, 1e-7)
    grid = np.arange(HORIZON + 1) * MONTH_DAYS
    weights = discount_factors(np.arange(HORIZON) + 0.5, DISCOUNT)
    if kind == "bgnbd":
        logit = np.log(0.8 / 2.5) + v
        share = 1 / (1 + np.exp(-logit))
        drop = rng.beta(3.3 * share[m], 3.3 * (1 - share[m]))
        spend = 30 * np.exp(z[m]) * rng.gamma(4.0, 1 / 4.0, n)
        who, when, alive = _bgnbd_log(rng, rate, drop, born)
        residual = np.where(alive, -np.expm1(-np.outer(drop * rate, grid)).T / drop, 0.0)
        later = (np.diff(residual, axis=0).T @ weights) * spend
        new = _new_bgnbd(u, v, z, weights, grid)
    else:
        shape, power, erlang, swing = (1.6, 0.35, 1, 0.5) if kind == "gamma" else (0.6, -0.25, 2, 0.0)
        scale = 600.0 * np.exp(-v) / shape * 1.0
        life = rng.gamma(shape, scale[m])
        spend = 30 * np.exp(z[m]) * (rate * 56) ** power * rng.gamma(4.0, 1 / 4.0, n)
        who, when = _calendar_log(rng, rate, np.minimum(life, born), born, erlang, swing)
        alive = life > born
        later = np.where(alive, rate * spend * _calendar_time_left(m, born, scale, shape, swing), 0.0)
        new = _new_calendar(u, z, scale, shape, power, erlang)
    log = pd.DataFrame({"customer_id": who, "date": when.astype(np.int32)})
    log["amount"] = np.round(spend[who] * rng.gamma(5.0, 1 / 5.0, len(who)), 2) + 0.01
    return _world(log, "transactions", m, markets, X, later * MARGIN, new * MARGIN, born, "non-contractual", None)


def contracts(seed: int, markets: int, kind: str) -> World:
    """With contract. ``sbg``: the model holds. ``weibull``: people leave ever less (individual shape .8), those who
    pay more leave less, churn differs by product, and prices rose for who came late."""
    rng = np.random.default_rng([seed, 11])
    X = rng.normal(size=(markets, 2))
    n_m = sizes(rng, markets)
    u, z = traits(rng, X, [0.30, 0.12])
    m = np.repeat(np.arange(markets), n_m)
    n = len(m)
    born = rng.integers(1, 1461, n).astype(float)
    value = 50 * np.exp(z[m]) * rng.gamma(8.0, 1 / 8.0, n)
    if kind == "sbg":
        theta = rng.beta(1.2, 30.0, n)  # a month
        hazard, shape = -np.log1p(-theta) * np.exp(u[m]), 1.0
    else:
        hazard = rng.gamma(1.3, 0.03, n) * np.exp(u[m]) * (value / (50 * np.exp(z[m]))) ** -0.5
        shape = 0.8
        value = value * np.exp(-0.05 * born / 365.25)
    life = (rng.exponential(1.0, n) / hazard) ** (1 / shape) * MONTH_DAYS
    gone = life < born
    age = born / MONTH_DAYS
    months = np.arange(HORIZON)
    mid = discount_factors(months + 0.5, DISCOUNT)
    later = np.zeros(n)
    for k in range(HORIZON):
        later += mid[k] * np.exp(-hazard * ((age + k + 0.5) ** shape - age**shape))
    later = np.where(gone, 0.0, later * value)
    # a new customer of each market: as many simulated people as give an error of a tenth of a percent
    draw = 40_000
    if kind == "sbg":
        h, worth = -np.log1p(-rng.beta(1.2, 30.0, draw)), np.full(draw, 50.0)
    else:
        worth = 50 * rng.gamma(8.0, 1 / 8.0, draw)
        h = rng.gamma(1.3, 0.03, draw) * (worth / 50) ** -0.5
    new = np.empty(markets)
    steps = (months + 0.5) ** shape
    for i in range(markets):
        new[i] = np.exp(z[i]) * (worth @ (np.exp(-np.exp(u[i]) * np.outer(h, steps)) @ mid)) / draw
    frame = pd.DataFrame(
        {
            "customer_id": np.arange(n), "started_on": born.astype(np.int32),
            "ended_on": np.where(gone, np.maximum(np.ceil(born - life), 0), np.nan),
            "monthly_value": np.round(value, 2),
        }
    )  # fmt: skip
    return _world(frame, "subscriptions", m, markets, X, later * MARGIN, new * MARGIN, born, "contractual", ~gone)


KINDS: dict[str, Callable[[int, int], World]] = {
    "bgnbd": lambda seed, markets: purchases(seed, markets, "bgnbd"),
    "gamma": lambda seed, markets: purchases(seed, markets, "gamma"),
    "steady": lambda seed, markets: purchases(seed, markets, "steady"),
    "sbg": lambda seed, markets: contracts(seed, markets, "sbg"),
    "weibull": lambda seed, markets: contracts(seed, markets, "weibull"),
}


def _world(
    frame: pd.DataFrame, table: str, m: np.ndarray, markets: int, X: np.ndarray, later: np.ndarray, new: np.ndarray,
    born: np.ndarray, relationship: str, on: np.ndarray | None,
) -> World:  # fmt: skip
    ids = np.array([f"m{i:04d}" for i in range(markets)])
    people = pd.DataFrame({"customer_id": np.arange(len(m)), "market_id": ids[m]})
    if on is None:  # bought in the last 12 months
        last = np.full(len(m), 10_000)
        np.minimum.at(last, frame["customer_id"].to_numpy(), frame["date"].to_numpy())
        on = last < 365
    count = np.bincount(m, weights=on, minlength=markets)
    cells = pd.DataFrame(
        {
            "market_id": ids, "segment": "All", "customers": count,
            "new_customers_last_year": np.bincount(m, weights=born <= 365, minlength=markets), "revenue_last_year": 0.0,
        }
    )  # fmt: skip
    shown = pd.DataFrame({"market_id": ids, "f1": X[:, 0], "f2": X[:, 1]})
    data = MarketData(markets=shown, cells=cells, history=pd.DataFrame(), current=None, features=("f1", "f2"))
    total = np.bincount(m, weights=later, minlength=markets)
    return World(
        Tables(customers=people, **{table: frame}), data, settings(relationship), new,
        total / np.maximum(count, 1e-9), count,
    )  # fmt: skip


def _bgnbd_log(
    rng: np.random.Generator, rate: np.ndarray, drop: np.ndarray, born: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    who, when = [np.arange(len(rate))], [born]
    here, clock, alive = np.arange(len(rate)), np.zeros(len(rate)), np.ones(len(rate), bool)
    while len(here):
        clock = clock + rng.exponential(1 / rate[here])
        inside = clock < born[here]
        here, clock = here[inside], clock[inside]
        who.append(here)
        when.append(np.ceil(born[here] - clock))
        stay = rng.random(len(here)) > drop[here]
        alive[here[~stay]] = False
        here, clock = here[stay], clock[stay]
    return np.concatenate(who), np.concatenate(when), alive


def _season(day: np.ndarray, swing: float) -> np.ndarray:
    """Multiple of the rate, ``day`` days after as_of (negative: before); as_of is mid-year, the top is in December."""
    return 1 + swing * np.cos(2 * np.pi * (day - 175.0) / 365.25)


def _calendar_log(
    rng: np.random.Generator, rate: np.ndarray, until: np.ndarray, born: np.ndarray, erlang: int, swing: float
) -> tuple[np.ndarray, np.ndarray]:
    who, when = [np.arange(len(rate))], [born]
    here, clock = np.arange(len(rate)), np.zeros(len(rate))
    top = 1 + swing
    while len(here):
        clock = clock + rng.gamma(erlang, 1 / (erlang * rate[here] * top))
        inside = clock < until[here]
        here, clock = here[inside], clock[inside]
        bought = rng.random(len(here)) * top < _season(clock - born[here], swing)
        who.append(here[bought])
        when.append(np.ceil(born[here] - clock)[bought])
    return np.concatenate(who), np.concatenate(when)


def _calendar_time_left(m: np.ndarray, born: np.ndarray, scale: np.ndarray, shape: float, swing: float) -> np.ndarray:
    """Discounted days, weighted by the season, that who is there after ``born`` days will be within the horizon."""
    day = np.arange(0.0, HORIZON * MONTH_DAYS, 7.0) + 3.5
    flow = 7.0 * _season(day, swing) * (1 + DISCOUNT) ** (-day / 365.25)
    ages = np.arange(1.0, 731.0)
    out = np.empty(len(m))
    for i in range(len(scale)):
        rows = m == i
        known = np.unique(born[rows])
        left = gammaincc(shape, (known[:, None] + day) / scale[i]) / gammaincc(shape, known / scale[i])[:, None]
        table = np.zeros(len(ages) + 1)
        table[known.astype(int)] = left @ flow
        out[rows] = table[born[rows].astype(int)]
    return out


def _new_calendar(
    u: np.ndarray, z: np.ndarray, scale: np.ndarray, shape: float, power: float, erlang: int
) -> np.ndarray:  # fmt: skip
    day = np.arange(0.0, HORIZON * MONTH_DAYS) + 0.5
    flow = (1 + DISCOUNT) ** (-day / 365.25)  # acquired at any time of the year: season averages out
    out = np.empty(len(u))
    r, b = 0.8, 45.0
    for i in range(len(u)):
        alive = gammaincc(shape, day / scale[i])
        theta = np.exp(u[i]) / b

        def moment(k: float, theta: float = theta) -> float:
            return float(np.exp(gammaln(r + k) - gammaln(r)) * theta**k)

        first = moment(power)
        repeats = moment(1 + power) * (alive @ flow)
        if erlang > 1:  # a renewal process that starts at a purchase falls (erlang - 1) / (2 erlang) purchases short
            q = gamma_distribution.ppf((np.arange(400) + 0.5) / 400, r) * theta
            # the shortfall builds up over the first gaps and needs the person to be alive: exact for Erlang-2
            slow = np.exp(-2 * 2 * np.outer(q, day))  # renewal density of Erlang-2: rate (1 - exp(-4 rate t))
            lost = (q[:, None] * slow) @ (alive * flow)
            repeats -= float(np.mean(q**power * lost))
        out[i] = 30 * np.exp(z[i]) * 56**power * (first + repeats)
    return out


def _new_bgnbd(u: np.ndarray, v: np.ndarray, z: np.ndarray, weights: np.ndarray, grid: np.ndarray) -> np.ndarray:
    share = 1 / (1 + np.exp(-(np.log(0.8 / 2.5) + v)))
    path = residual_paths(np.full(len(u), 0.8), 45.0 * np.exp(-u), 3.3 * share, 3.3 * (1 - share), grid)[0]
    return 30 * np.exp(z) * (1 + np.diff(path, axis=1) @ weights)
