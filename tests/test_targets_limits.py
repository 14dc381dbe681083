"""Limits and what they contradict, goals out of reach, sums over any hierarchy, the scoreboard, what drives growth."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy.stats import gamma
from test_targets import cents, make_company, make_settings, make_stations

from micromarket.targets import set_targets
from micromarket.targets.attainment import equal_probability, fit_spread, odds
from micromarket.targets.drivers import fit_drivers
from micromarket.targets.scoreboard import by, odds_by_step


@pytest.mark.parametrize("relationship", ["contractual", "non-contractual"])
@pytest.mark.parametrize("growth", [-0.8, -0.3, -0.12, 0.0])
def test_a_goal_below_the_floors_is_published_as_it_is(relationship: str, growth: float) -> None:
    data, values, *_ = make_company(30)
    result = set_targets(data, values, None, None, make_settings(relationship, growth=growth))
    numbers = result.notes.numbers
    assert numbers["published_revenue"] == numbers["goal_revenue"]
    assert cents(result.targets["revenue"]) == round(numbers["goal_revenue"] * 100)
    if growth < -0.5:
        assert numbers["floors_gave_way"] is not None
        assert any("lower than 90%" in w for w in result.notes.warnings)
    if growth == 0.0:
        assert numbers["floors_gave_way"] is None


@hypothesis_settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 10**6), st.integers(1, 14), st.integers(1, 3), st.integers(1, 4), st.floats(-0.6, 1.0),
    st.sampled_from(["week", "month", "quarter"]), st.booleans(),
)  # fmt: skip
def test_sums_are_exact_at_every_level(
    seed: int, markets: int, segments: int, regions: int, growth: float, period: str, tight: bool
) -> None:
    rng = np.random.default_rng(seed)
    data, values, *_ = make_company(markets, tuple("ABC"[:segments]), months=int(rng.integers(5, 30)), seed=seed)
    places = data.markets
    places["region"] = [f"r{i}" for i in rng.integers(0, regions, markets)]
    places["territory"] = [None if i == 0 else f"t{i}" for i in rng.integers(0, 6, markets)]
    if tight:
        places["capacity"] = rng.uniform(0, 400, markets)
        places["reps"] = rng.integers(0, 4, markets) / 2
    scores = pd.DataFrame({"market_id": places["market_id"], "potential_customers": rng.uniform(0, 900, markets)})
    result = set_targets(data, values, scores if tight else None, None, make_settings(growth=growth, period=period))
    table, total = result.targets, round(result.notes.numbers["published_revenue"] * 100)
    money = np.round(table["revenue"].to_numpy() * 100)
    assert money == pytest.approx(table["revenue"].to_numpy() * 100, abs=1e-6)  # whole cents
    place = places.set_index("market_id").reindex(table["market_id"])
    for level in (table["market_id"], table["segment"], table["period"], place["region"].to_numpy(),
                  place["territory"].fillna("none").to_numpy()):  # fmt: skip
        assert round(pd.Series(money).groupby(np.asarray(level)).sum().sum()) == total
    assert round(money.sum()) == total <= round(result.notes.numbers["goal_revenue"] * 100)
    assert cents(table["margin"]) == round(result.notes.numbers["total"]["margin"] * 100)
    bounds = result.limits.set_index(["market_id", "segment"])
    whole = table.groupby(["market_id", "segment"])["revenue"].sum().reindex(bounds.index)
    assert (whole >= bounds["low"] - 0.011).all()
    assert (whole <= bounds["high"] + 0.011).all()
    assert np.isfinite(bounds.select_dtypes("number").to_numpy()).all()
    assert cents(result.scoreboard["revenue"]) == total
    if result.capacity is not None:
        assert result.capacity["target"].sum() == table["new_customers"].sum()


def test_conflicts_are_named_and_counted() -> None:
    data, values, *_ = make_company(40, ("A",))
    won = data.cells.set_index("market_id")["new_customers_last_year"].to_numpy()
    data.markets["capacity"] = np.where(np.arange(40) < 5, won * 0.5, np.nan)
    data.markets["reps"] = 1.0
    fallen = data.history["market_id"].isin(["m00030", "m00031"]) & (data.history["month"] >= "2026-01-01")
    history = data.history.assign(revenue=np.where(fallen, 0.2, 1.0) * data.history["revenue"])
    budget = pd.DataFrame({
        "market_id": ["m00000"], "channel": "tv", "incremental_customers": 100.0, "current": 10.0, "recommended": 10.0
    })  # fmt: skip
    data = dataclasses.replace(data, history=history)
    result = set_targets(data, values, None, budget, make_settings())
    found = {c["limit"]: c["cells"] for c in result.notes.numbers["conflicts"]}
    bounds = result.limits.set_index("market_id")
    assert bounds.loc["m00000", "conflict"] == bounds.loc["m00000", "held_by"] == "reps"
    base = history[history["month"] >= "2025-07-01"].groupby("market_id")["revenue"].sum().reindex(bounds.index)
    low, high = bounds["forecast"] < 0.9 * base - 0.01, bounds["forecast"] > 1.3 * base + 0.01
    assert low["m00030"]
    assert (bounds.loc[low, "conflict"].isin(["last year", "reps"])).all()
    assert (bounds.loc[high, "conflict"] == "growth").all()
    assert (bounds.loc[~low & ~high, "conflict"].isin(["", "reps"])).all()
    assert found["reps"] == (bounds["conflict"] == "reps").sum() >= 1
    assert found["last year"] >= 1
    assert (bounds["low"] <= bounds["forecast"] + 0.01).all()


def test_a_gap_names_the_cheapest_ways_to_close_it() -> None:
    data, values, *_ = make_company(20, ("A",))
    won = data.cells.set_index("market_id")["new_customers_last_year"].to_numpy()
    data.markets["capacity"] = np.where(np.arange(20) == 7, won * 0.5, np.nan)
    data.markets["reps"] = 2.0
    data.markets["name"] = [f"Town {i}" for i in range(20)]
    ids = data.markets["market_id"]
    # curves differ in how much a unit of money brings: the first market is by far the best place for more
    curves = pd.DataFrame({
        "market_id": ids, "channel": "tv", "amplitude": np.where(np.arange(20) == 0, 4000.0, 400.0), "half_spend": 5e3
    })  # fmt: skip
    budget = pd.DataFrame({
        "market_id": ids, "channel": "tv", "current": 5e3, "recommended": 5e3,
        "incremental_customers": np.where(np.arange(20) == 7, 200.0, 0.0),
    })  # fmt: skip
    result = set_targets(data, values, None, budget, make_settings(growth=0.12), curves=curves)
    gap = result.notes.numbers["gap"]
    assert gap["budget"]["markets"][0]["market_id"] == "m00000"
    assert 0 < gap["budget"]["revenue"] <= gap["revenue"] * 1.001
    assert gap["budget"]["amount"] == pytest.approx(sum(m["amount"] for m in gap["budget"]["markets"]), rel=0.9)
    assert gap["reps"][0]["market_id"] == "m00007"
    assert gap["reps"][0]["reps"] >= 1
    for words in ("Town 0", "Town 7", "more budget"):
        assert words in gap["text"]
    # a small gap is closed exactly, at one price
    small = set_targets(data, values, None, budget, make_settings(growth=0.07), curves=curves).notes.numbers["gap"]
    if small is not None and small["budget"]["revenue"] < 0.99 * small["revenue"]:
        assert small["budget"]["amount"] == pytest.approx(20 * 5e3, rel=0.01)  # all that the curves can say


def test_skewed_odds_are_those_of_a_gamma() -> None:
    rng = np.random.default_rng(0)
    mu, wide = rng.lognormal(5, 1, 300), rng.uniform(0.05, 0.5, 300)
    for goal in (0.9, 1.0, 1.15):
        solved = equal_probability(mu, mu * wide, 0 * mu, 9 * mu, goal * mu.sum(), 2 * wide)
        assert solved.targets.sum() == pytest.approx(goal * mu.sum(), rel=1e-12)
        stated = odds(mu, mu * wide, solved.targets, 2 * wide)
        assert np.ptp(stated) < 1e-9
        true = gamma(1 / wide**2, scale=mu * wide**2).sf(solved.targets)
        assert true == pytest.approx(stated, abs=0.002)
    # the size of the skew is learnt from a backtest, and symmetric misses show none
    mean = rng.lognormal(8, 1, 6000)
    spread = fit_spread(rng.gamma(1 / 0.3**2, mean * 0.3**2), mean, np.arange(6000) % 9, np.array([0.0]))
    assert spread.skew == pytest.approx(2, abs=0.7)
    assert fit_spread(rng.normal(mean, 0.2 * mean), mean, np.arange(6000) % 9, np.array([0.0])).skew < 0.3


def test_drivers_are_learnt_where_they_are_and_left_where_they_are_not() -> None:
    rng = np.random.default_rng(1)
    columns = rng.normal(size=(400, 4))
    sd = np.full(400, 0.1)
    growth = 0.06 * columns[:, 0] - 0.04 * columns[:, 2] + rng.normal(0, sd)
    found = fit_drivers(columns, 100 * np.exp(growth), np.full(400, 100.0), sd).effects
    assert found == pytest.approx([0.06, 0, -0.04, 0], abs=0.015)
    nothing = fit_drivers(columns, 100 * np.exp(rng.normal(0, sd)), np.full(400, 100.0), sd).effects
    assert np.abs(nothing).max() < 0.02
    few = fit_drivers(columns[:10], np.full(10, 120.0), np.full(10, 100.0), sd[:10])
    assert not few.effects.any()
    unknown = np.column_stack([columns[:, :1], np.full((400, 3), np.nan)])
    assert np.isfinite(fit_drivers(unknown, 100 * np.exp(growth), np.full(400, 100.0), sd).effects).all()


def leads_of(segments=("A", "B")) -> pd.DataFrame:
    month = pd.date_range("2024-07-01", "2026-06-01", freq="MS")
    rows = [(s, m, 100, 60, 40, 25, 10 if s == "A" else 2, 20.0) for s in segments for m in month]
    frame = pd.DataFrame(rows, columns=["segment", "month", "leads", "mql", "sal", "sql", "won", "lag_days"])
    return frame.assign(market_id="m00000", channel="web", lost=0)


@pytest.mark.parametrize("stations", [False, True])
def test_both_teams_see_one_contribution(stations: bool) -> None:
    data, values = make_stations(markets=12) if stations else make_company(12)[:2]
    values["new_customer_clv"] = 200.0
    data.markets["reps"] = 1.5
    data = dataclasses.replace(data, leads=leads_of())
    budget = pd.DataFrame({
        "market_id": data.markets["market_id"], "channel": "tv", "incremental_customers": 1.0, "current": 90.0,
        "recommended": 100.0,
    })  # fmt: skip
    result = set_targets(data, values, None, budget, make_settings())
    board = result.scoreboard
    total = board[["new_customers", "revenue", "margin", "spend", "contribution", "reps"]].sum()
    assert total["spend"] == pytest.approx(1200)
    assert total["reps"] == pytest.approx(18)
    assert total["margin"] == pytest.approx(result.notes.numbers["total"]["margin"])
    rebuilt = board["margin"] + board["later_margin"] - board["spend"]
    assert board["contribution"].to_numpy() == pytest.approx(rebuilt.to_numpy())
    assert (board["later_margin"] >= 0).all()
    # a new customer is worth 200: part of it inside the plan, the rest later
    whole = (board["margin_new"] + board["later_margin"]).sum()
    assert whole == pytest.approx(200 * total["new_customers"], rel=0.02)
    steps = board[["lead_value", "mql_value", "sal_value", "sql_value", "win_value"]].iloc[0]
    assert steps.is_monotonic_increasing
    if not stations:
        a = board[board["segment"] == "A"].iloc[0]
        assert a["lead_value"] == pytest.approx(200 * 0.1, rel=0.05)
    for level in ("market_id", "segment"):
        sums = by(board, level)
        assert sums["contribution"].sum() == pytest.approx(total["contribution"])
        assert sums["win_value"].dropna().to_numpy() == pytest.approx(200)
    no_margin = dataclasses.replace(make_settings(), economics=dataclasses.replace(
        make_settings().economics, margin_rate=None))  # fmt: skip
    assert set_targets(data, values, None, budget, no_margin).scoreboard is None


def test_odds_of_a_lead_count_only_those_that_are_decided() -> None:
    settings = make_settings()
    leads = leads_of()
    young = leads["month"] >= "2026-05-01"
    leads.loc[young, "won"] = 0
    found = odds_by_step(leads, ["A", "B", "C"], settings)
    assert found.loc["A", "leads"] == pytest.approx(0.1, abs=0.005)
    assert found.loc["C", "leads"] == pytest.approx(0.06, abs=0.002)  # unknown: the company's
    assert odds_by_step(leads.assign(won=0), ["A"], settings) is None
    assert odds_by_step(None, ["A"], settings) is None
