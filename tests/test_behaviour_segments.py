"""A company without a segment column, from its files to targets: segments from behaviour, a plan that sales signs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from micromarket.config import Settings, read_settings
from micromarket.funnel import back_solve
from micromarket.load import open_dataset
from micromarket.market_data import MarketData
from micromarket.simulate import simulate
from micromarket.summarise import summarise
from micromarket.targets import set_targets
from micromarket.value import estimate_value
from micromarket.value.estimate import ValueResult


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> tuple[Settings, MarketData, ValueResult, ValueResult]:
    """40 markets; its value without and with the segments that it has lost."""
    folder = tmp_path_factory.mktemp("shop")
    simulate(folder, markets=40, customers=6000, weeks=104, seed=7, relationship="non-contractual")
    settings = read_settings(folder / "plan.yml")
    with open_dataset(settings) as dataset:
        own = estimate_value(dataset, summarise(dataset), settings)
    path = folder / "customers.parquet"
    customers = pd.read_parquet(path).drop(columns="segment")
    customers.to_parquet(path, index=False)
    # somebody who sent things back last year, and bought nothing since long
    log = pd.read_parquet(folder / "transactions.parquet")
    last = log.groupby("customer_id")["date"].max()
    gone = last[pd.to_datetime(last) < "2025-01-01"].index[:30]
    assert len(gone) == 30
    back = log[log["customer_id"].isin(gone)].drop_duplicates("customer_id").copy()
    back["amount"], back["margin"] = -0.5, -0.2
    back["date"] = pd.Series([settings.as_of] * len(back), index=back.index).astype(log["date"].dtype)
    pd.concat([log, back]).to_parquet(folder / "transactions.parquet", index=False)
    with open_dataset(settings) as dataset:
        data = summarise(dataset)
        derived = estimate_value(dataset, data, settings)
    assert data.facts["segmentation"]["source"] == "derived"
    assert not data.facts["segmentation"]["at_start"]
    return settings, data, own, derived


def test_who_has_gone_is_not_on_the_books_and_lends_value_to_nobody(shop):
    _, data, own, derived = shop
    by = data.cells.groupby("segment")["customers"].sum()
    assert by.get("Lapsed", 0.0) == 0, "a refund is no purchase"
    known = derived.cells[derived.cells["customers"] > 0]
    worth = known.groupby("segment")[["customer_equity", "customers"]].sum()
    per = worth["customer_equity"] / worth["customers"]
    assert per.max() < 20 * per.median()
    # segments say who is worth what, not how much all are worth
    assert derived.notes.numbers["customer_equity"] == pytest.approx(own.notes.numbers["customer_equity"], rel=0.1)
    both = own.markets.set_index("market_id")["clv"], derived.markets.set_index("market_id")["clv"]
    assert np.corrcoef(*both)[0, 1] > 0.9


def test_channels_keep_their_customers_whatever_the_segments(shop):
    _, _, own, derived = shop
    keys = ["level", "basis", "key"]
    cost, known = derived.acquisition.table, own.acquisition.table
    assert not (cost["level"] == "segment").any(), "what a station's customers cost isn't known"
    part = cost[cost["level"].isin(["company", "channel"])].set_index(keys)
    same = known.set_index(keys).loc[part.index]
    assert part["new_customers"].to_numpy() == pytest.approx(same["new_customers"].to_numpy(), rel=1e-6)
    assert part["cac"].to_numpy() == pytest.approx(same["cac"].to_numpy(), rel=1e-6, nan_ok=True)
    assert part["new_customer_clv"].to_numpy() == pytest.approx(same["new_customer_clv"].to_numpy(), rel=0.25)


def test_sales_owes_new_customers_where_customers_are_won(shop):
    settings, data, _, derived = shop
    result = set_targets(data, derived.cells, None, None, settings)
    table, numbers = result.targets, result.notes.numbers
    (entry,) = numbers["entry_segments"]
    assert entry.startswith("New in the last")
    assert set(table.loc[table["new_customers"] > 0, "segment"]) == {entry}
    assert table["new_customers"].sum() == numbers["total"]["new_customers"] > 0
    assert round(100 * table["revenue"].sum()) == round(100 * numbers["published_revenue"])
    bought = data.history[data.history["month"] > data.history["month"].max() - pd.DateOffset(months=12)]
    share = bought.groupby("segment")["revenue"].sum() / bought["revenue"].sum()
    planned = table.groupby("segment")["revenue"].sum() / table["revenue"].sum()
    assert planned.to_numpy() == pytest.approx(share.clip(lower=0).to_numpy(), abs=0.02)

    funnel = back_solve(data, table, None, settings)
    assert set(funnel.funnel.loc[funnel.funnel["leads"] > 0, "segment"]) == {entry}
    assert int(funnel.funnel["won"].sum()) == numbers["total"]["new_customers"]
    assert funnel.notes.numbers["unplaced_share"] < 0.1, "leads name other segments: they count for their market"
    rates = funnel.funnel.groupby("market_id")[["leads", "won"]].sum()
    assert (rates["won"] / rates["leads"]).std() > 0, "a market's own leads count"


def test_bands_of_money_are_worth_what_they_brought_and_markets_are_not_ranked_on_their_mix(tmp_path: Path, shop):
    """Orders without dates: segments are cut by money, their value is what was seen, a market's mix is pooled."""
    data = shop[1]
    rng = np.random.default_rng(3)
    markets = list(data.markets["market_id"])
    n = 4000
    revenue = np.round(np.exp(rng.normal(4.0, 1.0, n)), 2)
    orders = 1 + (rng.random(n) < 0.1)
    people = pd.DataFrame({"customer_id": [f"p{i}" for i in range(n)], "market_id": rng.choice(markets, n)})
    people.to_parquet(tmp_path / "customers.parquet", index=False)
    people[["customer_id"]].assign(orders=orders, revenue=revenue).to_parquet(tmp_path / "s.parquet", index=False)
    data.markets[["market_id", "name", "addressable_customers"]].to_csv(tmp_path / "markets.csv", index=False)
    (tmp_path / "plan.yml").write_text(
        "company: {name: Orders, currency: USD}\nas_of: 2026-06-30\nplan: {start: 2026-07-01, end: 2027-06-30}\n"
        "economics: {relationship: non-contractual, margin_rate: 0.2}\n"
        "data: {markets: markets.csv, customers: customers.parquet, customer_summary: s.parquet}\n"
    )
    plain = read_settings(tmp_path / "plan.yml")
    with open_dataset(plain) as dataset:
        found = summarise(dataset)
        value = estimate_value(dataset, found, plain)
    assert found.facts["segmentation"]["worth"]["by_construction"]
    by = value.cells.groupby("segment")[["customer_equity", "customers"]].sum()
    assert by["customer_equity"].sum() == pytest.approx(0.2 * revenue.sum(), rel=0.03)
    per = (by["customer_equity"] / by["customers"]).sort_values()
    assert per.iloc[-1] > 4 * per.iloc[0]
    assert value.notes.numbers["signal"]["verdict"] == "none", "places were drawn by lot"
    means = value.markets["clv"]
    assert means.std() < 0.02 * means.mean()
    inside = (value.markets["clv_low"] <= means) & (means <= value.markets["clv_high"])
    assert inside.all()
    assert value.markets["customer_equity"].sum() == pytest.approx(0.2 * revenue.sum(), rel=0.03)
