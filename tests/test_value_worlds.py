"""Known truth: simulated companies whose market effects are known; pooled values must beat both extremes."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import ibis
import numpy as np
import pandas as pd
import pytest

from micromarket.config import Company, Economics, PlanPeriod, Settings
from micromarket.market_data import MarketData
from micromarket.value import estimate_value
from micromarket.value.quadrature import residual_paths
from micromarket.value.sbg import ShiftedBetaGeometric, discount_factors

AS_OF = dt.date(2026, 6, 30)
MONTH = 365.25 / 12


class Tables:
    """The two methods of a Dataset that the value stage needs, over frames."""

    def __init__(self, **frames: pd.DataFrame):
        self._engine = ibis.duckdb.connect()
        self._names = set(frames)
        for name, frame in frames.items():
            self._engine.con.register("_in", frame)
            dated = [c for c in ("date", "started_on", "ended_on") if c in frame]
            casts = ", ".join(f'CAST("{c}" AS DATE) AS "{c}"' for c in dated)
            replace = f" REPLACE ({casts})" if dated else ""
            self._engine.con.execute(f'CREATE TABLE "{name}" AS SELECT *{replace} FROM _in')

    def has(self, table: str) -> bool:
        return table in self._names

    def table(self, table: str) -> ibis.Table:
        return self._engine.table(table)

    def keep(self, name: str, table: ibis.Table) -> ibis.Table:
        self._engine.con.execute(f'CREATE OR REPLACE TABLE "_{name}" AS {ibis.to_sql(table, dialect="duckdb")}')
        return self._engine.table(f"_{name}")


def settings(relationship: str = "non-contractual", margin_rate: float | None = 0.4, **economics: float) -> Settings:
    return Settings(
        path=Path("plan.yml"),
        company=Company("Test"),
        as_of=AS_OF,
        plan=PlanPeriod(dt.date(2026, 7, 1), dt.date(2027, 6, 30)),
        economics=Economics(relationship, margin_rate, **{"discount_rate": 0.1, "horizon_months": 36, **economics}),
        data={},
    )


def market_data(
    customers: pd.DataFrame, active: pd.Series | None = None, current: pd.DataFrame | None = None, markets=None
) -> MarketData:
    """Cells as the data stage leaves them; ``active``: True for customers on the books (default: all)."""
    frame = customers.assign(segment=customers.get("segment", "All"))
    frame["on"] = 1.0 if active is None else frame["customer_id"].map(active).fillna(False).astype(float)
    frame["new"] = 1.0
    cells = frame.groupby(["market_id", "segment"], as_index=False).agg(
        customers=("on", "sum"), new_customers_last_year=("new", "sum")
    )
    if markets is None:
        markets = pd.DataFrame({"market_id": sorted(customers["market_id"].unique())})
    features = tuple(c for c in markets.columns if c != "market_id")
    cells["revenue_last_year"] = 0.0
    return MarketData(markets=markets, cells=cells, history=pd.DataFrame(), current=current, features=features)


def dates(days_before: np.ndarray) -> pd.Series:
    return pd.Series(pd.Timestamp(AS_OF) - pd.to_timedelta(days_before.astype(int), unit="D")).dt.date


def buying_world(seed: int, markets: int = 200, rate_sd: float = 0.3, drop_sd: float = 0.4, spend_sd: float = 0.2):
    """BG/NBD buyers over two years; purchase rate, dropout and basket differ by market. Returns tables and truth."""
    rng = np.random.default_rng(seed)
    sizes = np.clip(np.exp(rng.normal(5.0, 1.2, markets)), 10, 4000).astype(int)
    u, v, z = rng.normal(0, [rate_sd, drop_sd, spend_sd], (markets, 3)).T
    r, alpha, kappa, logit = 0.6, 40.0, 3.3, np.log(0.8 / 2.5)
    share = 1 / (1 + np.exp(-(logit + v)))
    a, b = kappa * share, kappa * (1 - share)
    m = np.repeat(np.arange(markets), sizes)
    n = len(m)
    rate = rng.gamma(r, 1 / alpha, n) * np.exp(u[m])
    drop = rng.beta(a[m], b[m])
    born = rng.integers(1, 730, n).astype(float)
    own_spend = 30 * np.exp(z[m]) * rng.gamma(4.0, 1 / 4.0, n)
    who, when = [np.arange(n)], [born]
    here, clock = np.arange(n), np.zeros(n)
    while len(here):
        clock = clock + rng.exponential(1 / rate[here])
        alive = clock < born[here]
        here, clock = here[alive], clock[alive]
        who.append(here)
        when.append(np.ceil(born[here] - clock))
        stay = rng.random(len(here)) > drop[here]
        here, clock = here[stay], clock[stay]
    who, when = np.concatenate(who), np.concatenate(when)
    log = pd.DataFrame({"customer_id": who, "date": dates(when)})
    log["amount"] = own_spend[who] * rng.gamma(5.0, 1 / 5.0, len(who))
    log["customer_id"] = "c" + log["customer_id"].astype(str)
    names = np.array([f"m{i:04d}" for i in range(markets)])
    customers = pd.DataFrame({"customer_id": [f"c{i}" for i in range(n)], "market_id": names[m]})
    days = np.arange(37) * MONTH
    path = residual_paths(np.full(markets, r), alpha * np.exp(-u), a, b, days)[0]
    count = 1 + np.diff(path, axis=1) @ discount_factors(np.arange(36) + 0.5, 0.1)
    truth = pd.Series(count * 30 * np.exp(z) * 0.4, index=names)
    return Tables(customers=customers, transactions=log), customers, truth


def contract_world(seed: int, markets: int = 200, churn_sd: float = 0.3, value_sd: float = 0.1):
    """sBG contracts started over four years; churn and price differ by market. Returns tables and truth."""
    rng = np.random.default_rng(seed)
    sizes = np.clip(np.exp(rng.normal(4.5, 1.2, markets)), 5, 4000).astype(int)
    u, z = rng.normal(0, [churn_sd, value_sd], (markets, 2)).T
    m = np.repeat(np.arange(markets), sizes)
    n = len(m)
    fit = ShiftedBetaGeometric()
    fit.alpha_, fit.beta_ = 1.2, 30.0
    hazard = -np.log1p(-fit.hazard(np.arange(200)))
    total = np.concatenate([[0.0], np.cumsum(hazard)])
    lived = np.interp(rng.exponential(1.0, n) / np.exp(u[m]), total, np.arange(201.0), right=1e6) * MONTH
    born = rng.integers(1, 1460, n).astype(float)
    gone = lived < born
    customers = pd.DataFrame(
        {"customer_id": [f"c{i}" for i in range(n)], "market_id": np.array([f"m{i:04d}" for i in m])}
    )
    contracts = customers[["customer_id"]].assign(
        started_on=dates(born),
        ended_on=dates(np.where(gone, np.maximum(born - lived, 0), 0)).where(gone, None),
        monthly_value=50 * np.exp(z[m]) * rng.gamma(8.0, 1 / 8.0, n),
    )
    months = np.exp(-np.exp(u)[:, None] * total[:37])
    lifetime = ((months[:, 1:] + months[:, :-1]) / 2) @ discount_factors(np.arange(36) + 0.5, 0.1)
    truth = pd.Series(lifetime * 50 * np.exp(z) * 0.4, index=[f"m{i:04d}" for i in range(markets)])
    on = pd.Series(~gone, index=customers["customer_id"])
    return Tables(customers=customers, subscriptions=contracts), customers, truth, on


def score(result: pd.DataFrame, truth: pd.Series) -> dict[str, float]:
    got = result.set_index("market_id").loc[truth.index]
    error = np.log(got["new_customer_clv"] / truth)
    covered = (got["new_customer_clv_low"] <= truth) & (truth <= got["new_customer_clv_high"])
    pooled = np.log(np.average(truth, weights=np.ones(len(truth))) / truth)
    return {"error": error.abs().mean(), "pooled": pooled.abs().mean(), "covered": covered.mean(), "bias": error.mean()}


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch):
    """The same estimate with hardly any pooling: every market by itself."""

    def run(*args):
        from micromarket.value import pooling

        keep = pooling.MarketEffects._update
        with monkeypatch.context() as patch:
            patch.setattr(
                pooling.MarketEffects,
                "_update",
                lambda self, info, curvature, mean, V, W, prior, several: (
                    keep(self, info, curvature, mean, V, W, prior, several)[0], np.eye(len(V)) * 9.0, W
                ),
            )  # fmt: skip
            return estimate_value(*args).markets

    return run


def test_pooled_purchases_beat_both_extremes(alone) -> None:
    tables, customers, truth = buying_world(1)
    args = tables, market_data(customers), settings()
    result = estimate_value(*args)
    mine, by_itself = score(result.markets, truth), score(alone(*args), truth)
    assert mine["error"] < 0.75 * mine["pooled"]
    assert mine["error"] < 0.95 * by_itself["error"]
    assert 0.80 <= mine["covered"] <= 0.97
    assert result.notes.numbers["signal"]["verdict"] == "clear"
    holdout = result.notes.numbers["holdout"]
    assert abs(holdout["error"]) < 0.1
    assert holdout["wape"] < holdout["wape_without_markets"]


def test_pooled_contracts_beat_both_extremes(alone) -> None:
    tables, customers, truth, on = contract_world(2)
    args = tables, market_data(customers, on), settings("contractual")
    result = estimate_value(*args)
    mine, by_itself = score(result.markets, truth), score(alone(*args), truth)
    assert mine["error"] < 0.75 * mine["pooled"]
    assert mine["error"] < 0.95 * by_itself["error"]
    assert 0.80 <= mine["covered"] <= 0.97
    assert result.notes.numbers["signal"]["verdict"] == "clear"
    assert abs(result.notes.numbers["holdout"]["error"]) < 0.1


def test_equal_markets_are_not_ranked() -> None:
    tables, customers, truth = buying_world(3, markets=80, rate_sd=0, drop_sd=0, spend_sd=0)
    result = estimate_value(tables, market_data(customers), settings())
    assert result.notes.numbers["signal"]["verdict"] == "none"
    assert result.markets["clv"].max() - result.markets["clv"].min() < 1e-6 * result.markets["clv"].mean()
    assert result.markets["new_customer_clv"].iloc[0] == pytest.approx(truth.iloc[0], rel=0.05)


def test_a_process_that_is_not_the_model() -> None:
    """Pareto/NBD buyers (they stop by the calendar, not by a purchase): a new customer's level is still right."""
    rng = np.random.default_rng(8)
    n, years = 20_000, 5.0
    rate, leave = rng.gamma(1.2, 5.0, n), rng.gamma(2.0, 0.4, n)
    age = rng.random(n) * years
    lived = np.minimum(rng.exponential(1 / leave), age)
    repeats = rng.poisson(rate * lived)
    who = np.repeat(np.arange(n), repeats + 1)
    since = rng.random(len(who)) * lived[who]
    since[np.cumsum(repeats + 1) - 1] = 0.0
    log = pd.DataFrame({"customer_id": who.astype(str), "date": dates(np.round((age[who] - since) * 365.25))})
    log["amount"] = 10.0
    customers = pd.DataFrame({"customer_id": np.arange(n).astype(str), "market_id": (np.arange(n) % 40).astype(str)})
    result = estimate_value(Tables(customers=customers, transactions=log), market_data(customers), settings())
    # E[rate] E[exp(-leave t)] = 6 (1 + 0.4 t)^-2 purchases a year, at the middle of 36 months
    t = (np.arange(36) + 0.5) / 12
    truth = 10 * 0.4 * (1 + (6.0 / 12 * (1 + 0.4 * t) ** -2.0) @ discount_factors(12 * t, 0.1))
    assert result.notes.numbers["new_customer_clv"] == pytest.approx(truth, rel=0.06)
    assert result.notes.numbers["models"][0]["model"].startswith("Pareto/NBD")  # chosen by what it foresaw


def test_contracts_that_end_at_renewals() -> None:
    """Monthly renewals, the last month paid in full: the textbook sum of S(k) discounted from the start of month k."""
    rng = np.random.default_rng(9)
    n = 20_000
    leave = rng.beta(1.5, 40.0, n)
    months, born = rng.geometric(leave), rng.integers(0, 1400, n)
    days = np.floor(months * MONTH).astype(int) - 1
    gone = days <= born
    customers = pd.DataFrame({"customer_id": np.arange(n).astype(str), "market_id": (np.arange(n) % 40).astype(str)})
    contracts = customers[["customer_id"]].assign(
        started_on=dates(born), ended_on=dates(np.where(gone, born - days, 0)).where(gone, None), monthly_value=10.0
    )
    on = pd.Series(~gone, index=customers["customer_id"])
    tables = Tables(customers=customers, subscriptions=contracts)
    result = estimate_value(tables, market_data(customers, on), settings("contractual"))
    model = ShiftedBetaGeometric()
    model.alpha_, model.beta_ = 1.5, 40.0
    truth = 10 * 0.4 * (model.survival(35) @ discount_factors(np.arange(36), 0.1))
    assert result.notes.numbers["new_customer_clv"] == pytest.approx(truth, rel=0.01)
    fitted = result.notes.numbers["models"][0]["parameters"]
    assert fitted["alpha"] / (fitted["alpha"] + fitted["beta"]) == pytest.approx(1.5 / 41.5, rel=0.04)
