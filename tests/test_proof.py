"""The holdout: honest false positives and power on panels with known truth, reserve and pairing respected."""

from __future__ import annotations

import dataclasses
import datetime as dt
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from micromarket import config
from micromarket.formats import day
from micromarket.market_data import MarketData
from micromarket.proof import design_holdout
from micromarket.proof.power import (
    minimum_detectable_effect,
    pair_contrasts,
    paired_test,
    placebo_spread,
    power_at,
    sign_flips,
)
from micromarket.workspace import Workspace

SETTINGS = config.Settings(
    path=Path("plan.yml"),
    company=config.Company("Example"),
    as_of=dt.date(2026, 6, 30),
    plan=config.PlanPeriod(dt.date(2026, 7, 1), dt.date(2027, 6, 30)),
    economics=config.Economics("contractual", margin_rate=0.4),
    data={},
)


def make_counts(markets=120, periods=104, seed=0, rate=20.0, wobble=0.15, ar=0.5, lift=None, weeks=13) -> np.ndarray:
    """Poisson counts around market levels, season and autocorrelated shocks; ``lift``: per market, last weeks."""
    rng = np.random.default_rng(seed)
    level = rate * rng.lognormal(0, 0.7, markets)
    shock = np.zeros((markets, periods))
    for t in range(1, periods):
        shock[:, t] = ar * shock[:, t - 1] + rng.normal(0, wobble, markets)
    mean = level[:, None] * np.exp(shock) * (1 + 0.2 * np.sin(2 * np.pi * np.arange(periods) / 52))
    if lift is not None:
        mean[:, -weeks:] *= 1 + np.asarray(lift)[:, None]
    return rng.poisson(mean)


def make_company(markets=120, lift=0.15, frequency="week", seed=0, share=0.5, **world):
    periods = 104 if frequency == "week" else 36
    counts = make_counts(markets, periods, seed, **world)
    ids = [f"m{i:04d}" for i in range(markets)]
    dates = pd.date_range(end="2026-06-22", periods=periods, freq="W-MON" if frequency == "week" else "MS")
    panel = pd.DataFrame(
        {"market_id": np.repeat(ids, periods), "period": np.tile(dates, markets), "new_customers": counts.ravel()}
    )
    year = counts[:, -(52 if frequency == "week" else 12) :].sum(axis=1)
    rises = np.arange(markets) < share * markets
    budget = pd.DataFrame({
        "market_id": ids, "channel": "tv", "current": 1000.0, "recommended": np.where(rises, 1400.0, 600.0),
        "incremental_customers": np.where(rises, lift * year, -0.05 * year),
        "incremental_value": np.where(rises, 900.0, -90.0),
    })  # fmt: skip
    scores = pd.DataFrame({"market_id": ids, "peer_group": [f"g{i % 3}" for i in range(markets)]})
    empty = pd.DataFrame()
    data = MarketData(pd.DataFrame({"market_id": ids}), empty, empty, panel=panel, frequency=frequency, facts={})
    return data, budget, scores


def with_reserve(reserve: float, **changes) -> config.Settings:
    return dataclasses.replace(SETTINGS, budget=config.Budget(test_reserve=reserve), **changes)


def test_design_is_sound_and_deterministic(tmp_path):
    data, budget, scores = make_company()
    result = design_holdout(data, budget, scores, SETTINGS)
    table, numbers = result.tests, result.notes.numbers
    assert numbers["verdict"] == "run"
    assert numbers["power"] >= 0.8
    assert len(table) == 120
    tested = table[table["arm"] != "none"].merge(scores, on="market_id")
    assert (tested.groupby("pair")["arm"].agg(lambda a: sorted(a)).map(tuple) == ("control", "treat")).all()
    assert (tested.groupby("pair")["peer_group"].nunique() == 1).all()
    assert numbers["treated"] == numbers["control"] == len(tested) // 2 >= 5
    assert set(tested["market_id"]) <= set(budget.loc[budget["recommended"] > 1000, "market_id"])
    assert numbers["money_waiting"] <= 0.05 * budget["recommended"].sum()
    assert table.loc[table["arm"] == "none", ["pair", "test"]].isna().all().all()
    assert all(c.passed for c in result.notes.checks)
    assert day(dt.date.fromisoformat(numbers["end"])) in numbers["text"]
    again = design_holdout(data, budget.sample(frac=1, random_state=1), scores.iloc[::-1], SETTINGS)
    pd.testing.assert_frame_equal(table, again.tests)
    other = design_holdout(data, budget, scores, dataclasses.replace(SETTINGS, seed=2)).tests
    assert (other["arm"] != table["arm"]).any()
    result.write(Workspace(tmp_path))
    assert len(Workspace(tmp_path).read("tests")) == 120


def test_verdicts():
    data, budget, scores = make_company(lift=0.15)
    tight = design_holdout(data, budget, scores, with_reserve(0.0005))
    assert tight.notes.numbers["verdict"] == "run with a larger reserve"
    assert "test_reserve" in tight.notes.numbers["text"]
    data, budget, scores = make_company(lift=0.002)
    hopeless = design_holdout(data, budget, scores, with_reserve(0.5))
    assert hopeless.notes.numbers["verdict"] == "do not run"
    assert (hopeless.tests["arm"] == "none").all()
    assert hopeless.notes.numbers["minimum_detectable_lift"] > 0.002
    few, budget, scores = make_company(markets=12)
    assert design_holdout(few, budget, scores, SETTINGS).notes.numbers["verdict"] == "do not run"


def test_missing_inputs_are_said():
    data, budget, scores = make_company(markets=20)
    assert design_holdout(data, None, scores, SETTINGS).tests is None
    assert design_holdout(dataclasses.replace(data, panel=None), budget, scores, SETTINGS).tests is None
    short = dataclasses.replace(data, panel=data.panel[data.panel["period"] > "2026-05-01"])
    assert "too short" in design_holdout(short, budget, None, with_reserve(0.5)).notes.numbers["text"]
    nothing_moves = budget.assign(recommended=1000.0)
    assert design_holdout(data, nothing_moves, scores, SETTINGS).notes.numbers["verdict"] == "do not run"
    sparse, budget, scores = make_company(markets=60, rate=0.02)
    numbers = design_holdout(sparse, budget, None, with_reserve(0.5)).notes.numbers
    assert numbers["verdict"] == "do not run"
    assert numbers["minimum_detectable_lift"] is None or np.isfinite(numbers["minimum_detectable_lift"])


def test_monthly_panels_work():
    data, budget, scores = make_company(frequency="month", rate=80.0, wobble=0.05, lift=0.3)
    result = design_holdout(data, budget, scores, SETTINGS)
    assert result.notes.numbers["verdict"] == "run"
    assert result.notes.numbers["end"] > "2026-08-28"


@pytest.mark.parametrize(("pairs", "ar", "rate"), [(8, 0.5, 20.0), (30, 0.8, 20.0), (30, 0.5, 1.0)])
def test_false_positives_are_nominal(pairs, ar, rate):
    """Panels without any effect: a test at 10% calls an effect in 7-13% of them."""
    called, size = 0, 600
    flips = sign_flips(pairs, 1)
    for seed in range(size):
        counts = make_counts(2 * pairs, 65, seed, rate=rate, ar=ar)
        order = np.argsort(-counts[:, :52].sum(axis=1), kind="stable").reshape(-1, 2)
        earlier, later, noise = pair_contrasts(counts, order, 52, 52, 13)
        sides = np.random.default_rng(10_000 + seed).choice([-1, 1], size=pairs)
        called += paired_test(earlier, later, 1 / noise, flips, sides).p_value <= 0.10
    assert 0.07 <= called / size <= 0.13


def test_stated_power_is_the_true_power():
    """The power curve from past windows predicts how often a real lift of that size is found."""
    pairs, lift, found, stated = 25, 0.08, 0, []
    flips = sign_flips(pairs, 1)
    for seed in range(250):
        sides = np.random.default_rng(20_000 + seed).choice([-1, 1], size=pairs)
        order = np.arange(2 * pairs).reshape(-1, 2)
        gain = np.zeros(2 * pairs)
        gain[np.where(sides > 0, order[:, 0], order[:, 1])] = lift
        counts = make_counts(2 * pairs, 117, seed, lift=gain)
        spread = placebo_spread(counts[:, :-13], order, 26, 13)
        earlier, later, _ = pair_contrasts(counts, order, 104, 26, 13)
        found += paired_test(earlier, later, spread.weights, flips, sides).p_value <= 0.10
        stated.append(power_at(np.log1p(lift), spread.standard_error(np.arange(pairs)), pairs))
    assert 0.3 < np.mean(stated) < 0.95
    assert found / 250 == pytest.approx(np.mean(stated), abs=0.08)


def test_detectable_lift_shrinks_with_markets_and_time():
    counts = make_counts(400, 156)
    order = np.arange(400).reshape(-1, 2)
    seen = {}
    for after in (4, 13):
        spread = placebo_spread(counts, order, 26, after)
        for pairs in (6, 25, 100, 200):
            error = spread.standard_error(np.arange(pairs))
            seen[after, pairs] = minimum_detectable_effect(error, pairs)
    assert seen[13, 6] > 1.5 * seen[13, 25] > 2 * seen[13, 100] > 2 * seen[13, 200]
    assert seen[4, 100] > 1.2 * seen[13, 100]


def test_power_for_1000_markets_and_156_weeks_is_fast():
    counts = make_counts(1000, 156)
    started = time.perf_counter()
    placebo_spread(counts, np.arange(1000).reshape(-1, 2), 52, 13)
    assert time.perf_counter() - started < 3


def test_geolift_panel_false_positives(shared_data):
    """Random pairs on GeoLift's own panel (40 cities, 90 days): nothing happened, so 10% are called."""
    path = shared_data / "geo" / "geolift_pretest.csv"
    if not path.is_file():
        pytest.skip("geolift_pretest.csv is not here")
    panel = pd.read_csv(path)
    counts = panel.pivot_table(index="location", columns="date", values="Y").to_numpy()
    rng = np.random.default_rng(3)
    called = []
    for _ in range(600):
        chosen = rng.permutation(40)[:20]
        chosen = chosen[np.argsort(-counts[chosen, :75].sum(axis=1))].reshape(-1, 2)
        sides = rng.choice([-1, 1], size=10)
        earlier, later, noise = pair_contrasts(counts, chosen, 75, 60, 15)
        called.append(paired_test(earlier, later, np.ones_like(noise), sign_flips(10, 1), sides).p_value <= 0.10)
    assert 0.07 <= np.mean(called) <= 0.13
