"""The value stage on public data and on awkward companies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_value_worlds import AS_OF, MONTH, Tables, contract_world, dates, market_data, settings

from micromarket.artefacts import ARTEFACTS
from micromarket.errors import InputError
from micromarket.notes import plain
from micromarket.summarise.customers import records_begin_on
from micromarket.value import estimate_value
from micromarket.workspace import Workspace


def days(*before: int) -> pd.Series:
    return dates(np.array(before))


def sound(result, unknown: tuple[str, ...] = ("acquisition_cost", "payback_months")) -> None:
    for frame in (result.cells, result.markets):
        numbers = frame.select_dtypes("number").drop(columns=list(unknown), errors="ignore")
        assert np.isfinite(numbers.to_numpy()).all(), numbers.columns[~np.isfinite(numbers).all()].tolist()
    assert (result.markets["clv_low"] <= result.markets["clv"] + 1e-9).all()
    assert (result.markets["clv"] <= result.markets["clv_high"] + 1e-9).all()


@pytest.fixture(scope="module")
def telco(shared_data: Path) -> pd.DataFrame:
    return pd.read_parquet(shared_data / "real" / "telco_churn" / "telco_customer_churn.parquet")


def telco_company(telco: pd.DataFrame, market, segment: bool = True):
    customers = pd.DataFrame({"customer_id": telco["CustomerID"], "market_id": market})
    if segment:
        customers["segment"] = telco["Contract"]
    gone = telco["Churn Value"] == 1
    contracts = pd.DataFrame(
        {
            "customer_id": telco["CustomerID"],
            "started_on": dates((telco["Tenure Months"] * MONTH).round().to_numpy()),
            "ended_on": pd.Series(AS_OF, index=telco.index).where(gone, None),
            "monthly_value": telco["Monthly Charges"],
        }
    )
    active = pd.Series(~gone.to_numpy(), index=telco["CustomerID"])
    return Tables(customers=customers, subscriptions=contracts), market_data(customers, active)


@pytest.mark.parametrize("segment", [True, False])
def test_telco_zips_are_not_ranked(telco: pd.DataFrame, segment: bool) -> None:
    result = estimate_value(*telco_company(telco, telco["Zip Code"], segment), settings("contractual", 0.35))
    sound(result)
    assert result.notes.numbers["signal"]["verdict"] == "none"
    assert result.notes.numbers["spend_share_lowest_decile"] is None
    assert result.cells.groupby("segment")["clv"].std().max() < 1e-6
    assert any("don't rank" in w for w in result.notes.warnings)
    assert any("All contract ends lie between" in w for w in result.notes.warnings)  # a snapshot: said, not hidden
    if segment:
        by_contract = result.cells.groupby("segment")["monthly_retention"].first()
        assert by_contract["Month-to-month"] < by_contract["One year"] < by_contract["Two year"]
        clv = result.cells.groupby("segment")[["clv_low", "clv_high"]].first()
        assert clv.loc["Month-to-month", "clv_high"] < clv.loc["Two year", "clv_low"]
        per_revenue = result.cells.assign(v=lambda c: c["new_customer_clv"] / c["first_year_revenue"])
        worth = per_revenue.groupby("segment")["v"].first()
        assert worth["Two year"] > 1.15 * worth["Month-to-month"]
    # four customers' mix of contracts is chance too: a new customer is worth the same everywhere
    assert result.markets["new_customer_clv"].std() < 1e-6


def test_telco_county_with_real_churn_is_found(telco: pd.DataFrame, shared_data: Path) -> None:
    """IBM planted churn in San Diego, in the companion geography."""
    place = pd.read_parquet(shared_data / "real" / "telco_churn" / "telco_customer_churn_location.parquet")
    place = place.set_index("Customer ID").loc[telco["CustomerID"]]
    area = place["Zip Code"].str[:3].where(place["City"] != "San Diego", "San Diego").to_numpy()
    result = estimate_value(*telco_company(telco, area), settings("contractual", 0.35))
    sound(result)
    assert result.notes.numbers["signal"]["verdict"] == "clear"
    value = result.markets.set_index("market_id")["new_customer_clv"]
    assert value.idxmin() == "San Diego"


def test_superstore_states(shared_data: Path) -> None:
    lines = pd.read_csv(shared_data / "real" / "superstore" / "sample_superstore.csv.gz", dtype={"Postal Code": str})
    lines["id"] = lines["Customer ID"] + "@" + lines["State"]
    customers = lines.groupby("id", as_index=False).agg(market_id=("State", "first"), segment=("Segment", "first"))
    customers = customers.rename(columns={"id": "customer_id"})
    day = pd.to_datetime(lines["Order Date"]) + (pd.Timestamp(AS_OF) - pd.Timestamp("2017-12-30"))
    log = pd.DataFrame(
        {"customer_id": lines["id"], "date": day.dt.date, "amount": lines["Sales"], "margin": lines["Profit"]}
    )
    result = estimate_value(
        Tables(customers=customers, transactions=log), market_data(customers), settings(margin_rate=None)
    )
    sound(result)
    value = result.markets.set_index("market_id")["new_customer_clv"]
    assert value["Texas"] < 0 < value["New York"]  # margins per transaction: Texas loses money on every order
    company = log["margin"].sum() / log["amount"].sum()
    rates = result.cells["new_customer_clv"].mean() / result.cells["first_year_revenue"].mean()
    assert rates == pytest.approx(company, rel=1.0)


def test_olist_value_is_observed(shared_data: Path) -> None:
    people = pd.read_parquet(shared_data / "real" / "olist" / "olist_customer_rfm.parquet")
    people = people[people["payment_value_not_cancelled"].notna()]
    customers = pd.DataFrame(
        {"customer_id": people["customer_unique_id"], "market_id": people["customer_city"] + people["customer_state"]}
    )
    summary = pd.DataFrame(
        {
            "customer_id": people["customer_unique_id"],
            "orders": people["orders_not_cancelled"].astype(float),
            "revenue": people["payment_value_not_cancelled"].astype(float),
        }
    )
    tables = Tables(customers=customers, customer_summary=summary)
    result = estimate_value(tables, market_data(customers), settings(margin_rate=0.2))
    sound(result, ("acquisition_cost", "payback_months", "monthly_retention"))
    numbers = result.notes.numbers
    assert numbers["observed"]
    assert "forecast" in result.notes.warnings[0]
    repeat = next(c for c in numbers["signal"]["components"] if c["name"] == "share of repeat buyers")
    assert repeat["p_value"] > 0.05
    assert numbers["clv"] == pytest.approx(0.2 * summary["revenue"].mean(), rel=0.02)


def test_a_summary_with_ages_is_modelled(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    age = rng.integers(30, 700, 3000).astype(float)
    orders = 1.0 + rng.poisson(age / 200 * rng.gamma(1, 1, 3000))
    summary = pd.DataFrame({"customer_id": [f"c{i}" for i in range(3000)], "orders": orders, "revenue": orders * 20})
    summary["age_days"], summary["recency_days"] = age, np.where(orders > 1, age * rng.random(3000), age)
    customers = pd.DataFrame({"customer_id": summary["customer_id"], "market_id": [f"m{i % 30}" for i in range(3000)]})
    result = estimate_value(Tables(customers=customers, customer_summary=summary), market_data(customers), settings())
    sound(result)
    assert not result.notes.numbers["observed"]
    assert result.notes.numbers["models"][0]["model"].startswith("BG/NBD")
    result.write(Workspace(tmp_path))
    read = Workspace(tmp_path).read("value_cells")
    assert list(read.columns) == list(ARTEFACTS["value_cells"].columns)


def awkward(**changes):
    """Eight buyers in three markets; a fourth market and a ninth customer without anything."""
    customers = pd.DataFrame(
        {"customer_id": [f"c{i}" for i in range(9)], "market_id": ["a", "a", "a", "b", "b", "b", "c", "c", "c"]}
    )
    log = pd.DataFrame(
        {
            "customer_id": ["c0", "c0", "c0", "c1", "c2", "c3", "c3", "c4", "c5", "c6", "c7", "c7"],
            "date": days(300, 300, 100, 200, 50, 400, 390, 0, 700, 20, 90, 80),
            "amount": [10.0, 5.0, 20.0, 15.0, 8.0, 30.0, -30.0, 12.0, 9.0, 1e6, 10.0, -25.0],
        }
    )
    markets = pd.DataFrame({"market_id": ["a", "b", "c", "empty"], "odd": [1.0, np.nan, 1.0, 1.0]})
    for column, value in changes.items():
        log[column] = value
    return Tables(customers=customers, transactions=log), market_data(customers, markets=markets)


@pytest.mark.parametrize("changes", [{}, {"amount": 10.0}, {"margin": -1.0}, {"date": AS_OF}])
def test_a_handful_of_awkward_customers(changes: dict) -> None:
    result = estimate_value(*awkward(**changes), settings(servicing_cost=0.1))
    sound(result)
    assert len(result.markets) == 4
    again = estimate_value(*awkward(**changes), settings(servicing_cost=0.1))
    pd.testing.assert_frame_equal(result.markets, again.markets)
    assert plain(result.notes.to_json()) == plain(again.notes.to_json())


def test_a_days_purchases_are_one_and_refunds_count() -> None:
    from micromarket.value import summaries as s

    tables, _ = awkward()
    buyers = s.purchase_customers(s.purchase_days(tables, 0.4, AS_OF), AS_OF).to_pandas().set_index("customer_id")
    assert buyers.loc["c0", ["x", "t_x", "T", "amount"]].tolist() == [1, 200, 300, 35.0]
    assert buyers.loc["c3", ["x", "amount"]].tolist() == [0, 0.0]  # the refund came on another day
    assert "c8" not in buyers.index


def test_a_customer_stays_while_any_contract_runs() -> None:
    from micromarket.value import summaries as s

    contracts = pd.DataFrame(
        {
            "customer_id": ["a", "a", "b", "b", "c"],
            "started_on": days(1000, 500, 800, 400, 100),
            "ended_on": pd.Series([*days(400, 0)[:1], None, *days(500, 200), AS_OF], dtype=object),
            "monthly_value": [10.0, 20.0, 5.0, 7.0, 3.0],
        }
    )
    got = s.contract_customers(Tables(subscriptions=contracts), AS_OF).to_pandas().set_index("customer_id")
    assert got["gone"].to_dict() == {"a": 0, "b": 1, "c": 1}
    assert got["value"].to_dict() == {"a": 20.0, "b": 7.0, "c": 3.0}


@pytest.mark.parametrize("ended", [None, AS_OF])
def test_contracts_that_all_run_or_all_ended(ended) -> None:
    n = 12
    customers = pd.DataFrame({"customer_id": [f"c{i}" for i in range(n)], "market_id": [f"m{i % 3}" for i in range(n)]})
    contracts = customers[["customer_id"]].assign(
        started_on=days(*range(10, 10 + 40 * n, 40)), ended_on=pd.Series([ended] * n, dtype=object), monthly_value=9.0
    )
    active = pd.Series(ended is None, index=customers["customer_id"])
    tables = Tables(customers=customers, subscriptions=contracts)
    result = estimate_value(tables, market_data(customers, active), settings("contractual"))
    sound(result)
    assert result.markets["customers"].sum() == (n if ended is None else 0)


def test_segments_costs_and_sums() -> None:
    tables, customers, _, active = contract_world(5, markets=60)
    rng = np.random.default_rng(5)
    customers = customers.assign(segment=np.where(rng.random(len(customers)) < 0.7, "Home", "Firm"))
    contracts = tables.table("subscriptions").to_pandas()
    firm = customers.set_index("customer_id").loc[contracts["customer_id"], "segment"].to_numpy() == "Firm"
    contracts["monthly_value"] *= np.where(firm, 3.0, 1.0)
    ids = sorted(customers["market_id"].unique())
    current = pd.DataFrame({"market_id": ids, "channel": "all", "current": 1000.0})
    weeks = pd.DataFrame({"period": pd.date_range(end="2026-06-24", periods=52, freq="7D"), "channel": "all"})
    spend = current.assign(amount=1000 / 52).drop(columns="current").merge(weeks, on="channel")
    data = replace(market_data(customers, active, current), spend=spend)
    tables = Tables(customers=customers, subscriptions=contracts)
    result = estimate_value(tables, data, settings("contractual"))
    sound(result, ("payback_months",))
    by_segment = result.cells.groupby("segment")["new_customer_clv"].mean()
    assert by_segment["Firm"] == pytest.approx(3 * by_segment["Home"], rel=0.15)
    equity = (result.cells["customers"] * result.cells["clv"]).groupby(result.cells["market_id"]).sum()
    pd.testing.assert_series_equal(equity, result.markets.set_index("market_id")["customer_equity"], check_names=False)
    assert result.notes.numbers["customer_equity"] == pytest.approx(equity.sum())
    started = pd.to_datetime(contracts["started_on"]) > pd.Timestamp(AS_OF) - pd.Timedelta(days=364)
    ids = customers.set_index("customer_id")["market_id"].reindex(contracts.loc[started, "customer_id"])
    won = ids.value_counts().reindex(result.markets["market_id"]).fillna(0.5)
    assert result.markets["acquisition_cost"].median() == pytest.approx((1000 / won).median(), rel=0.15)
    assert 0 < result.notes.numbers["spend_share_lowest_decile"] < 1
    dearer = estimate_value(tables, data, settings("contractual", servicing_cost=2.0))
    assert (dearer.markets["clv"] < result.markets["clv"]).all()


def test_ends_that_were_never_recorded_do_not_count_as_loyalty() -> None:
    """Contracts that ended over a year ago were purged: only the time since then is evidence."""
    tables, customers, truth, active = contract_world(6, markets=40, churn_sd=0.1)
    contracts = tables.table("subscriptions").to_pandas()
    gone = pd.to_datetime(contracts["ended_on"])
    keep = gone.isna() | (gone > pd.Timestamp(AS_OF) - pd.Timedelta(days=500))
    tables = Tables(customers=customers, subscriptions=contracts[keep.to_numpy()])
    begin = records_begin_on(tables.table("subscriptions"), AS_OF)  # as the data stage finds it
    data = replace(market_data(customers, active), facts={"records_begin": begin})
    result = estimate_value(tables, data, settings("contractual"))
    assert result.markets["new_customer_clv"].mean() == pytest.approx(truth.mean(), rel=0.06)


def test_no_margin_is_an_input_error() -> None:
    with pytest.raises(InputError, match=r"economics\.margin_rate"):
        estimate_value(*awkward(), settings(margin_rate=None))
