"""Synthetic companies: the contract's format, equal bytes, and a truth that the data agree with."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from micromarket.config import read_settings
from micromarket.errors import InputError
from micromarket.simulate import Truth, build_world, scenario_of, simulate, true_value
from micromarket.simulate.curves import stock
from micromarket.simulate.customers import add_months, months_since
from micromarket.simulate.outcome import truth_of
from micromarket.tables import RULES, TABLE_SCHEMAS


def _hashes(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


@pytest.fixture(scope="module")
def company(tmp_path_factory) -> Path:
    return simulate(tmp_path_factory.mktemp("company"), markets=80, customers=16_000, weeks=104, seed=5)


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    return simulate(folder, markets=40, customers=6_000, weeks=70, seed=6, relationship="non-contractual")


def _table(settings, name: str) -> pd.DataFrame:
    path = settings.data[name].path
    if path.suffix == ".csv":
        return pd.read_csv(path)
    return gpd.read_file(path) if path.suffix == ".geojson" else pd.read_parquet(path)


@pytest.mark.parametrize("which", ["company", "shop"])
def test_files_keep_the_contract(which, request):
    folder = request.getfixturevalue(which)
    settings = read_settings(folder / "plan.yml")
    as_of = pd.Timestamp(settings.as_of)
    tables = {name: _table(settings, name) for name in settings.data}
    assert {"markets", "customers", "spend", "leads", "sales_force", "field_notes"} < set(tables)
    assert ("subscriptions" if which == "company" else "transactions") in tables
    for name, frame in tables.items():
        schema = TABLE_SCHEMAS[name]
        required = [c for c, column in schema.columns.items() if column.required]
        assert set(required) <= set(frame.columns), name
        for key in [RULES[name].key] if RULES[name].key else []:
            assert not frame.duplicated(list(key)).any(), name
        for column, (table, key) in RULES[name].references.items():
            if column in frame:
                assert frame[column].dropna().isin(tables[table][key]).all(), (name, column)
        for column in RULES[name].until_as_of:
            if column in frame:
                assert pd.to_datetime(frame[column]).max() <= as_of, (name, column)
        for early, late in RULES[name].ordered:
            if {early, late} <= set(frame.columns):
                gap = (pd.to_datetime(frame[late]) - pd.to_datetime(frame[early])).dropna()
                assert (gap >= pd.Timedelta(0)).all(), (name, late)
    assert set(settings.features) <= set(tables["markets"].columns)
    # markets: whole, no overlap, unique names, regions in one piece on each island
    markets = tables["markets"]
    assert markets.geometry.is_valid.all()
    assert shapely.coverage_is_valid(markets.geometry.to_numpy(), gap_width=0)
    assert markets["name"].is_unique
    assert (markets["market_customers"] <= markets["addressable_customers"]).all()
    leads = tables["leads"]
    assert 0.03 < leads["market_id"].isna().mean() < 0.07
    assert (leads["won_on"].isna() & leads["lost_on"].isna()).any(), "some leads are open"
    assert not (leads["won_on"].notna() & leads["lost_on"].notna()).any()


def test_same_seed_same_bytes(tmp_path):
    arguments = {"markets": 15, "customers": 900, "weeks": 20, "preset": "telecom"}
    first = _hashes(simulate(tmp_path / "a", seed=4, **arguments))
    assert first == _hashes(simulate(tmp_path / "b", seed=4, **arguments))
    other = _hashes(simulate(tmp_path / "c", seed=9, **arguments))
    assert first["customers.parquet"] != other["customers.parquet"]


def test_customers_and_new_customers_are_as_asked_and_as_expected(company):
    truth = Truth.read(company)
    customers = pd.read_parquet(company / "customers.parquet")
    contracts = pd.read_parquet(company / "subscriptions.parquet")
    active = contracts["ended_on"].isna().sum()
    assert active == truth.markets["customers"].sum()
    assert abs(active / 16_000 - 1) < 0.15
    won = (pd.to_datetime(customers["acquired_on"]) >= truth.facts["window_start"]).sum()
    expected = truth.facts["new_customers_of_window_expected"]
    # the country-wide demand shock (3%, with a memory of 5 weeks) is the largest part of the noise
    assert abs(won / expected - 1) < 0.05
    counted = truth.markets["customers"]
    z = (counted - truth.markets["expected_customers"]) / np.sqrt(truth.markets["expected_customers"])
    assert 0.7 < z.std() < 1.6  # counts scatter like counts, a little wider for demand shocks


def test_true_churn_is_the_realised_one(company):
    truth = Truth.read(company)
    customers = pd.read_parquet(company / "customers.parquet")
    contracts = pd.read_parquet(company / "subscriptions.parquet")
    frame = customers.merge(contracts, on="customer_id")
    start = pd.to_datetime(frame["started_on"])
    old = frame[start < pd.Timestamp("2026-05-15")]
    month_one = pd.to_datetime(old["started_on"]) + pd.DateOffset(months=1)
    lost = pd.to_datetime(old["ended_on"]) < month_one
    cells = old.assign(lost=lost).groupby(["market_id", "segment"])["lost"].agg(["sum", "size"]).reset_index()
    cells = cells.merge(truth.cells, on=["market_id", "segment"])
    expected = (cells["size"] * cells["first_month_loss"]).sum()
    assert abs(cells["sum"].sum() - expected) < 4 * np.sqrt(expected)
    high = cells["first_month_loss"] > cells["first_month_loss"].median()
    for group in (high, ~high):
        wanted = (cells["size"] * cells["first_month_loss"])[group].sum()
        assert abs(cells["sum"][group].sum() - wanted) < 4 * np.sqrt(wanted)


def test_a_new_customers_value_is_what_cohorts_bring():
    """Margins of 36 months, discounted, of customers old enough to have been seen for all of them."""
    scenario = scenario_of()
    world, contracts, _ = build_world(scenario, 30, 30_000, 60, 8)
    assert contracts is not None
    truth = truth_of(world)
    until = np.datetime64(scenario.as_of) + 1
    horizon = scenario.horizon_months
    seen = months_since(world.customers.started, until) >= horizon
    left = np.where(contracts.active, np.datetime64(scenario.as_of), contracts.ended) + 1
    paid = np.minimum(months_since(world.customers.started, left), horizon)  # payments received
    discount = np.concatenate([[0.0], np.cumsum(scenario.monthly_discount ** np.arange(horizon))])
    value = scenario.margin_rate * contracts.monthly_value * discount[paid]
    s = len(scenario.segments)
    expected = truth.cells["new_customer_clv"].to_numpy()[world.customers.market * s + world.customers.segment]
    for segment in range(s):
        mine = seen & (world.customers.segment == segment)
        error = value[mine].std() / np.sqrt(mine.sum())
        assert abs(value[mine].mean() - expected[mine].mean()) < 4 * error


def test_a_buyers_value_is_what_it_brings():
    scenario = scenario_of("non-contractual")
    world, _, purchases = build_world(scenario, 20, 15_000, 60, 8)
    assert purchases is not None
    truth = truth_of(world)
    started = world.customers.started[purchases["customer"]]
    age = (purchases["date"].to_numpy().astype("datetime64[D]") - started).astype(int) / (365.25 / 12)
    seen = world.customers.started < np.datetime64(scenario.as_of) - 36 * 31
    use = (age < 36) & seen[purchases["customer"]]
    value = purchases["margin"] * scenario.monthly_discount**age
    each = np.bincount(purchases["customer"][use], value[use], len(world.customers))
    s = len(scenario.segments)
    expected = truth.cells["new_customer_clv"].to_numpy()[world.customers.market * s + world.customers.segment]
    assert truth.markets["known_customers"].sum() == len(world.customers)
    assert abs(truth.markets["customers"].sum() / 15_000 - 1) < 0.15
    error = each[seen].std() / np.sqrt(seen.sum())
    assert abs(each[seen].mean() - expected[seen].mean()) < 4 * error + 0.005 * expected[seen].mean()


def test_budgets_answer_as_they_should(company):
    truth = Truth.read(company)
    now = truth.current
    value = truth.value_of(now)
    assert value > 0
    assert truth.value_of(now.assign(amount=0.0)) == 0
    # concave and increasing in all the money
    levels = [truth.value_of(now.assign(amount=now["amount"] * k)) for k in (0.5, 1.0, 1.5, 2.0)]
    assert (np.diff(levels) > 0).all()
    assert (np.diff(levels, 2) < 0).all()
    best = truth.best_budget()
    assert np.isclose(best["amount"].sum(), now["amount"].sum())
    assert (best["amount"] - best["current"]).abs().sum() / 2 <= 0.30 * now["amount"].sum() * (1 + 1e-6)
    by_market = best.groupby("market_id")[["amount", "current"]].sum()
    ratio = (by_market["amount"] / by_market["current"])[by_market["current"] > 0]
    assert ratio.between(0.5 - 1e-6, 2 + 1e-6).all()
    assert (best["amount"] <= 3 * best["current"] + 1e-6).all()
    gain = truth.value_of(best) - value
    assert gain > 0.05 * value
    # no random legal exchange of money between cells beats it
    rng = np.random.default_rng(0)
    amount = best["amount"].to_numpy()
    for _ in range(30):
        a, b = rng.choice(len(amount), 2, replace=False)
        step = 0.01 * min(amount[a], amount[b])
        other = amount.copy()
        other[a], other[b] = other[a] - step, other[b] + step
        moved = np.abs(other - best["current"]).sum() / 2
        market = pd.Series(other).groupby(best["market_id"].to_numpy()).sum() / by_market["current"]
        if moved <= 0.3 * amount.sum() and market.between(0.5, 2).all() and other[b] <= 3 * best["current"][b]:
            assert truth.value_of(other) <= value + gain * 1.001
    told = true_value(company, best.rename(columns={"amount": "recommended"}))
    assert np.isclose(told["gain"], gain)
    assert told["growth"] > truth.growth_of(now)
    with pytest.raises(InputError):
        truth.value_of(pd.DataFrame({"market_id": ["nowhere"], "channel": ["Search"], "amount": [1.0]}))


def test_stock_keeps_the_money():
    x = np.zeros((1, 1, 60))
    x[0, 0, 3] = 100
    assert np.isclose(stock(x, [0.6]).sum(), 100)
    assert stock(x, [0.6])[0, 0, 4] == pytest.approx(24)
    assert stock(np.ones((1, 1, 5)), [0.6], np.ones((1, 1)))[0, 0] == pytest.approx(np.ones(5))


def test_no_response_endogenous_sparse(tmp_path):
    silent = Truth.read(simulate(tmp_path / "n", markets=30, customers=3000, weeks=80, no_response=True))
    assert silent.value_of(silent.current) == 0
    assert silent.value_of(silent.best_budget()) == 0
    assert silent.facts["new_customers_of_window_from_spend"] == 0
    assert silent.facts["experiment_lift"] == 0

    def follows(endogenous: bool) -> float:
        world, *_ = build_world(scenario_of(endogenous=endogenous), 60, 6000, 104, 2)
        money = np.log(world.spending.money.sum(1) + 1)
        money = money - money.mean(1, keepdims=True) - money.mean(0) + money.mean()
        return float(np.corrcoef(money.ravel(), world.spending.shock.ravel())[0, 1])

    assert abs(follows(False)) < 0.05
    assert follows(True) > 0.2
    thin = Truth.read(simulate(tmp_path / "s", markets=60, customers=1500, weeks=80, sparse=True))
    cells = thin.response.assign(used=thin.response["current"] > 0).groupby("channel")["used"].mean()
    assert cells.min() < 0.25
    assert 0.2 < (thin.response["current"] == 0).mean() < 0.9
    assert thin.value_of(thin.best_budget()) >= thin.value_of(thin.current) > 0


def test_smallest_world_and_wrong_numbers(tmp_path):
    assert Truth.read(simulate(tmp_path / "t", markets=2, customers=50, weeks=8)).markets.shape[0] == 2
    with pytest.raises(InputError, match="markets"):
        simulate(tmp_path / "u", markets=0)
    with pytest.raises(InputError, match="telecom"):
        simulate(tmp_path / "u", preset="telekom")
    assert not (tmp_path / "u").exists()


def test_months_are_calendar_months():
    days = np.array(["2024-01-31", "2024-02-29", "2023-12-15"], dtype="datetime64[D]")
    later = add_months(days, np.array([1, 12, 2]))
    assert later.astype(str).tolist() == ["2024-02-29", "2025-02-28", "2024-02-15"]
    assert months_since(later, np.datetime64("2025-02-27")).tolist() == [11, 0, 12]
    assert months_since(later, np.datetime64("2025-02-28")).tolist() == [12, 0, 12]


# --- the sample company ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sample(repo) -> Path:
    return repo / "data" / "sample"


def test_sample_tells_the_story(sample):
    truth = Truth.read(sample)
    story = json.loads((sample / "truth" / "story.json").read_text(encoding="utf-8"))
    lowest = truth.markets.nsmallest(22, "clv")
    spend = truth.current.groupby("market_id")["amount"].sum()
    assert story["spend_share_lowest_decile"] == pytest.approx(spend[lowest["market_id"]].sum() / spend.sum())
    assert 0.19 <= story["spend_share_lowest_decile"] <= 0.21
    opportunity = (truth.markets["headroom"] * truth.markets["new_customer_clv"]).sort_values()
    assert story["opportunity_share_top_fifth"] == pytest.approx(opportunity.tail(44).sum() / opportunity.sum())
    assert 0.62 <= story["opportunity_share_top_fifth"] <= 0.70
    assert truth.growth_of(truth.current) == pytest.approx(story["growth_if_spend_stays"])
    assert 0.05 < story["growth_if_spend_stays"] < 0.09
    assert story["growth_with_best_budget"] > 0.105
    assert 0.05 <= story["spend_of_revenue"] <= 0.15
    assert 1 <= story["return_of_spend"] <= 3
    low, _, high = story["marginal_return_p10_p50_p90"]
    assert high > 10 * low


def test_sample_shows_its_story_in_plain_counts(sample):
    """The lowest tenth is recoverable: monthly value over churn, straight from the files, finds it."""
    contracts = pd.read_parquet(sample / "subscriptions.parquet").merge(
        pd.read_parquet(sample / "customers.parquet"), on="customer_id"
    )
    end = pd.to_datetime(contracts["ended_on"]).fillna(pd.Timestamp("2026-06-30"))
    months = (end - pd.to_datetime(contracts["started_on"])).dt.days / 30.44
    group = contracts["market_id"]
    churn = contracts["ended_on"].notna().groupby(group).sum() / months.groupby(group).sum()
    active = contracts[contracts["ended_on"].isna()]
    worth = active.groupby("market_id")["monthly_value"].mean() / (churn + 0.02)
    lowest = worth.nsmallest(22).index
    spend = pd.read_parquet(sample / "spend.parquet")
    spend = spend[pd.to_datetime(spend["period"]) > "2025-06-30"].groupby("market_id")["amount"].sum()
    assert 0.18 <= spend[spend.index.isin(lowest)].sum() / spend.sum() <= 0.22


def test_sample_is_small_and_made_by_this_code(sample, tmp_path):
    files = _hashes(sample)
    assert sum((sample / f).stat().st_size for f in files) < 3e6
    again = _hashes(simulate(tmp_path, markets=220, customers=40_000, weeks=104, seed=2, preset="telecom"))
    text = {name for name in files if not name.endswith(".parquet")}  # parquet bytes depend on the library's version
    assert files.keys() == again.keys()
    close = Truth.read(tmp_path).story["growth_with_best_budget"]
    assert close == pytest.approx(Truth.read(sample).story["growth_with_best_budget"], abs=1e-6)
    for name in ("sales_force.csv", "experiments.csv", "field_notes.csv", "plan.yml"):
        assert name in text
        assert files[name] == again[name], name
