"""What winning a customer costs, when it is paid back, and what refunds do to value: known truths and public data."""

from __future__ import annotations

import dataclasses
import datetime as dt
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from test_value_worlds import AS_OF, Tables, buying_world, market_data, settings

from micromarket.artefacts import ARTEFACTS
from micromarket.config import Report
from micromarket.value import estimate_value
from micromarket.value import summaries as s
from micromarket.value.acquisition import AcquisitionResult, acquisition_economics
from micromarket.value.acquisition_cost import dispersion, months_to_repay, pooled_cost, pooled_mean_cost
from micromarket.value.customers_won import customers_acquired
from micromarket.value.model import Cells
from micromarket.value.prior_mean import Surroundings
from micromarket.value.spend import money_effects

FIRST_WEEK = dt.date(2025, 6, 30)  # 52 whole weeks up to AS_OF


# --- the estimators ------------------------------------------------------------------------------------------------
def markets_that_buy(seed: int, markets: int = 400, sd: float = 0.35) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Spend, customers won and the true cost of markets, most of them small."""
    rng = np.random.default_rng(seed)
    cost = 120 * np.exp(rng.normal(0, sd, markets))
    spend = 120 * np.exp(rng.normal(2.0, 1.2, markets))
    return spend, rng.poisson(spend / cost).astype(float), cost


@pytest.mark.parametrize("seed", [1, 2])
def test_pooled_cost_beats_both_extremes_and_its_range_covers(seed: int) -> None:
    spend, won, truth = markets_that_buy(seed)
    found = pooled_cost(spend, won)
    company = spend.sum() / won.sum()
    alone = np.log(spend / np.maximum(won, 0.5))

    def error(guess: np.ndarray) -> float:
        return float(np.sqrt(np.mean((guess - np.log(truth)) ** 2)))

    assert error(np.log(found.mean)) < 0.85 * min(error(np.full(len(truth), np.log(company))), error(alone))
    inside = (found.low <= truth) & (truth <= found.high)
    assert 0.86 <= inside.mean() <= 0.94
    smallest = spend <= np.quantile(spend, 0.2)
    assert inside[smallest].mean() >= 0.82


def test_equal_markets_get_nearly_equal_costs() -> None:
    spend, won, _ = markets_that_buy(3, sd=0.0)
    found = pooled_cost(spend, won).mean
    assert np.log(found).std() < 0.08
    assert np.log(spend / np.maximum(won, 0.5)).std() > 0.4  # what a naive table would show as differences


def test_spending_without_winning_is_dear_not_infinite_and_no_spend_costs_nothing() -> None:
    found = pooled_cost(np.array([1000.0, 1000.0, 500.0, 0.0]), np.array([10.0, 12.0, 0.0, 3.0]))
    assert found.mean[2] > found.mean[:2].max()
    assert np.isfinite(found.high[:3]).all()
    assert found.mean[3] == 0
    nobody = pooled_cost(np.array([100.0, 200.0]), np.zeros(2))
    assert np.isnan(nobody.mean).all()
    alone = pooled_cost(np.array([1000.0]), np.array([20.0]))
    assert alone.mean[0] == pytest.approx(50, rel=0.01)
    assert alone.low[0] < 50 / (1 + 1 / np.sqrt(20)) < alone.high[0]


def test_costs_on_record_without_any_spread() -> None:
    found = pooled_mean_cost(np.array([500.0, 50.0, 0.0]), np.array([10.0, 1.0, 0.0]), np.array([25000.0, 2500.0, 0.0]))
    assert found.mean[:2] == pytest.approx([50, 50], rel=0.02)
    assert np.isnan(found.mean[2])


def test_dispersion_of_counts() -> None:
    rng = np.random.default_rng(5)
    level = rng.uniform(5, 60, (150, 1)) * (1 + 0.5 * np.sin(np.arange(13)))  # a season that all share is no noise
    spend = np.ones((150, 13))
    assert dispersion(rng.poisson(level).astype(float), spend) == pytest.approx(1, abs=0.1)
    lumpy = rng.negative_binomial(level / 2, 1 / 3)  # variance three times the mean
    assert dispersion(lumpy.astype(float), spend) == pytest.approx(3, rel=0.1)
    assert dispersion(np.zeros((0, 13)), np.zeros((0, 13))) == 1


def test_months_to_repay() -> None:
    path = np.array([[0.0, 10, 20, 30], [25.0, 30, 34, 36], [0.0, 20, 40, 30], [0.0, -5, -10, -15], [0.0, 10, 20, 30]])
    found = months_to_repay(path, np.array([15.0, 20, 35, 5, np.nan]))
    assert found[0] == pytest.approx(1.5)
    assert found[1] == 0  # the first purchase has paid it
    assert np.isnan(found[2])  # reached once, lost again to the cost of serving
    assert np.isnan(found[3:]).all()
    assert months_to_repay(path[:1], np.array([30.0]))[0] == pytest.approx(3)  # at the last moment


# --- a company of known cost -----------------------------------------------------------------------------------------
def economics(tables: Tables, data, report: Report | None = None, worth: float | dict[str, float] = 300.0):
    """Through the public function, over a model whose new customers bring ``worth`` evenly over 36 months."""
    pairs = s.customers_of(tables).select("market_id", "segment").distinct().to_pandas().astype(object)
    cells = Cells.of(pairs, [str(m) for m in data.markets["market_id"]])
    by_segment = np.array([worth if isinstance(worth, float) else worth[name] for name in cells.segments])
    each = by_segment[cells.segment]
    months = np.broadcast_to(np.arange(37.0), (len(cells), 37))
    model = SimpleNamespace(cells=cells, unit=each / 36, margin_rate=np.ones(len(cells)), path_count=months,
                            path_months=0 * months, models=[{"model": "sBG"}])  # fmt: skip
    size = np.bincount(cells.market)[cells.market]
    by_cell = pd.DataFrame({"new_customer_clv": each})
    mean = np.bincount(cells.market, weights=each / size)
    by_market = pd.DataFrame({"market_id": cells.market_ids, "new_customer_clv": mean})
    plan = dataclasses.replace(settings("contractual"), report=report or Report())
    weights = SimpleNamespace(of_new=1 / size)
    result = acquisition_economics(tables, data, plan, model, weights, by_cell, by_market, 0.0)  # type: ignore[arg-type]
    assert list(result.table.columns) == list(ARTEFACTS["value_acquisition"].columns)
    assert not result.table.duplicated(["level", "basis", "key"]).any()
    return result


def row(result: AcquisitionResult, level: str, key: str, basis: str = "paid") -> pd.Series:
    t = result.table
    found = t[(t["level"] == level) & (t["key"] == key) & (t["basis"] == basis)]
    assert len(found) == 1, t[t["level"] == level][["basis", "key"]]
    return found.iloc[0]


def company(counts: dict[tuple[str, str, str | None], int], money: dict[tuple[str, str], float], cost=None):
    """``counts`` of customers by market, segment, channel over 52 weeks; ``money`` of a year by market and channel."""
    rows = [key for key, n in counts.items() for _ in range(n)]
    customers = pd.DataFrame(rows, columns=["market_id", "segment", "channel"]).astype(object)
    customers["channel"] = customers["channel"].where(customers["channel"].notna(), None)
    customers.insert(0, "customer_id", [f"c{i}" for i in range(len(customers))])
    day = [FIRST_WEEK + dt.timedelta(days=(i * 11) % 364) for i in range(len(customers))]
    customers["acquired_on"] = pd.Series(day, dtype=object)
    if cost is not None:
        customers["acquisition_cost"] = cost(customers)
    weeks = pd.date_range(FIRST_WEEK, periods=52, freq="7D")
    spend = pd.DataFrame(
        [(m, w, c, amount / 52) for (m, c), amount in money.items() for w in weeks],
        columns=["market_id", "period", "channel", "amount"],
    )
    data = dataclasses.replace(market_data(customers), spend=spend if len(spend) else None, frequency="week")
    return Tables(customers=customers), data


def test_blended_and_paid_are_kept_apart_and_unnamed_money_is_stated() -> None:
    counts = {("a", "Home", "Search"): 300, ("a", "Firm", "Search"): 100, ("a", "Home", None): 200,
              ("b", "Home", "Search"): 200, ("b", "Firm", "Field"): 100, ("b", "Firm", "Referral"): 100}  # fmt: skip
    money = {("a", "search "): 40_000.0, ("b", "search "): 20_000.0, ("b", "Field"): 30_000.0,
             ("a", "TV"): 10_000.0, ("b", "TV"): 10_000.0}  # fmt: skip
    result = economics(*company(counts, money), worth={"Home": 60.0, "Firm": 400.0})
    blended, paid = row(result, "company", "company", "blended"), row(result, "company", "company")
    assert (blended["spend"], blended["new_customers"]) == pytest.approx((110_000, 1000))
    assert blended["cac"] == pytest.approx(110)
    assert (paid["spend"], paid["new_customers"], paid["cac"]) == pytest.approx((90_000, 700, 90_000 / 700))
    assert row(result, "channel", "search")["cac"] == pytest.approx(100, rel=0.02)  # written otherwise in one table
    assert row(result, "channel", "Field")["cac"] == pytest.approx(
        300, rel=0.06
    )  # a hundred customers lean on the rest
    tv = row(result, "channel", "TV", "unclaimed")
    assert tv["spend"] == pytest.approx(20_000)
    assert tv[["cac", "ltv_to_cac", "payback_months"]].isna().all()
    referral = row(result, "channel", "Referral", "unpaid")
    assert referral["new_customers"] == 100
    assert np.isnan(referral["cac"])
    assert referral["new_customer_clv"] == pytest.approx(400)
    # segments share out the paid money to the cent, none of the television's
    segments = result.table[result.table["level"] == "segment"]
    assert segments["spend"].sum() == pytest.approx(90_000)
    assert row(result, "segment", "Firm")["cac"] > row(result, "segment", "Home")["cac"]
    # value over cost and payback: a Firm brings 400 evenly over 36 months
    firm = row(result, "segment", "Firm")
    assert firm["ltv_to_cac"] == pytest.approx(400 / firm["cac"])
    assert firm["payback_months"] == pytest.approx(36 * firm["cac"] / 400)
    home = row(result, "segment", "Home")
    assert home["ltv_to_cac"] < 1
    assert np.isnan(home["payback_months"])
    assert result.numbers["spend_unclaimed"] == pytest.approx(20_000)
    assert result.numbers["unclaimed_channels"] == ["TV"]
    assert any("TV" in w for w in result.warnings)
    assert any("By segment" in w and "Home" in w for w in result.warnings)
    assert len(result.market_cost) == len(result.market_payback) == 2


def test_small_groups_are_not_shown() -> None:
    won = {"a": 60, "b": 4, "c": 50, "d": 15, "e": 20}
    counts = {(market, "Home", "Search"): n for market, n in won.items()}
    money = {(market, "Search"): 100.0 * n for market, n in won.items()}
    result = economics(*company(counts, money), report=Report(min_cell=10))
    hidden = row(result, "market", "b", "blended")
    assert hidden[["new_customers", "cac", "cac_low", "cac_high", "ltv_to_cac", "payback_months"]].isna().all()
    # alone it would be what the company's total leaves over: the next smallest are hidden with it
    shown = {market for market in won if np.isfinite(row(result, "market", market, "blended")["new_customers"])}
    assert shown == {"a", "c"}
    assert np.isfinite(result.market_cost).all()  # the stages after still have the pooled cost


def test_leads_say_who_won_whom_where_customers_do_not() -> None:
    tables, data = company({("a", "Home", None): 300, ("b", "Home", None): 100}, {("a", "Search"): 10_000.0})
    leads = pd.DataFrame({"lead_id": [f"l{i}" for i in range(150)], "channel": ["search"] * 100 + ["Radio"] * 50})
    leads["segment"] = ["Home"] * 90 + [None] * 60
    leads["market_id"] = (["a"] * 60 + ["b"] * 20 + [None] * 20) + ["a"] * 50
    leads["won_on"] = [FIRST_WEEK + dt.timedelta(days=2 * i) for i in range(150)]
    customers = tables.table("customers").to_pandas().drop(columns="channel")
    customers["acquired_on"] = customers["acquired_on"].dt.date
    result = economics(Tables(customers=customers, leads=leads.astype({"market_id": object, "segment": object})), data)
    assert row(result, "channel", "Search")["new_customers"] == pytest.approx(100)
    assert row(result, "channel", "Search")["cac"] == pytest.approx(100, rel=0.02)
    assert row(result, "channel", "Radio", "unpaid")["new_customers"] == pytest.approx(50)
    assert result.numbers["customers_unpaid"] == pytest.approx(300)
    assert any("leads" in w for w in result.warnings)


def test_costs_on_record_where_there_is_no_spend() -> None:
    counts = {("a", "Home", "Search"): 80, ("a", "Home", "Walk-in"): 40, ("b", "Home", "Search"): 80}
    tables, data = company(counts, {}, lambda c: np.where(c["channel"] == "Search", 60.0, 0.0))
    result = economics(tables, data)
    assert result.numbers["source"] == "customers"
    assert row(result, "company", "company", "blended")["cac"] == pytest.approx(160 * 60 / 200, rel=0.02)
    assert row(result, "company", "company")["cac"] == pytest.approx(60, rel=0.02)
    assert row(result, "channel", "Search")["cac"] == pytest.approx(60, rel=0.02)
    assert np.isnan(row(result, "channel", "Walk-in", "unpaid")["cac"])
    assert (
        row(result, "market", "b", "blended")["payback_months"]
        > row(result, "market", "a", "blended")["payback_months"]
    )


def test_an_unknown_cost_is_said_to_be() -> None:
    result = economics(*company({("a", "Home", "Search"): 50}, {}))
    assert result.numbers == {"source": "none"}
    assert result.table.empty
    assert np.isnan(result.market_cost).all()
    assert "unknown" in result.warnings[0]
    # money, but nothing says who won whom: blended only
    result = economics(*company({("a", "Home", None): 50}, {("a", "TV"): 1000.0}))
    assert set(result.table["basis"]) == {"blended", "unknown"}
    assert row(result, "company", "company", "blended")["cac"] == pytest.approx(20)


# --- public data -----------------------------------------------------------------------------------------------------
def test_younger_eats_cost_by_channel(shared_data: Path) -> None:
    """Money (thousands) over acquisitions (thousands) by channel; television, outdoor, promotions and onboarding win
    customers that no channel claims, so they raise the blended cost only."""
    folder = shared_data / "clv"
    money = pd.read_csv(folder / "cac_spend_by_channel.csv", encoding="utf-8-sig").iloc[:12].drop(columns="Month")
    won = pd.read_csv(folder / "cac_acquisitions.csv", encoding="utf-8-sig").drop(columns="Month")
    money = money[[c for c in money if "repeat" not in c and "Account" not in c]]  # the cost of keeping, not of winning
    money.columns = money.columns.str.replace(" (marketing)", "")
    organic = won.columns[-1]
    counts = (won * 1000).round().astype(int)
    month = pd.date_range("2025-07-01", periods=12, freq="MS")
    customers = pd.concat(
        pd.DataFrame({"channel": name, "acquired_on": (month[i] + pd.Timedelta(days=9)).date()}, index=range(n))
        for name in counts for i, n in enumerate(counts[name])
    ).reset_index(drop=True)  # fmt: skip
    customers = customers.astype(object).assign(market_id="US", customer_id=[f"c{i}" for i in range(len(customers))])
    customers["channel"] = customers["channel"].where(customers["channel"] != organic, None)
    spend = (
        money.set_axis(month).rename_axis("period").melt(ignore_index=False, var_name="channel", value_name="amount")
    )
    spend = spend.reset_index().assign(market_id="US", amount=lambda d: 1000 * d["amount"])
    data = dataclasses.replace(market_data(customers), spend=spend, frequency="month")
    result = economics(Tables(customers=customers), data)
    for channel in counts.columns.drop(organic):
        expected = 1000 * money[channel].sum() / counts[channel].sum()
        found = row(result, "channel", channel)
        assert found["cac"] == pytest.approx(expected, rel=0.01)
        assert found["cac_low"] < expected < found["cac_high"]
    assert row(result, "channel", "Google ads for acquisition")["cac"] == pytest.approx(70, rel=0.01)
    total = 1000 * money.to_numpy().sum()
    assert row(result, "company", "company", "blended")["cac"] == pytest.approx(total / counts.to_numpy().sum())
    paid = [c for c in money if c in counts]
    assert result.numbers["spend_unclaimed"] == pytest.approx(total - 1000 * money[paid].to_numpy().sum())
    assert set(result.numbers["unclaimed_channels"]) == set(money.columns) - set(paid)


@pytest.fixture(scope="module")
def startup(shared_data: Path) -> pd.DataFrame:
    log = pd.read_csv(shared_data / "clv" / "startup_transaction_log.csv", encoding="utf-8-sig")
    shift = pd.Timestamp(AS_OF) - pd.Timestamp("2019-03-31")
    log["date"] = (pd.to_datetime(log["order_date"]) + shift).dt.date
    return log.rename(columns={"cust_id": "customer_id", "net_sales": "amount"})[["customer_id", "date", "amount"]]


def test_startup_cost_by_year(startup: pd.DataFrame, shared_data: Path) -> None:
    """Nobody is a customer by a refund: the count is of customers with a first day of positive sales."""
    money = pd.read_csv(shared_data / "clv" / "startup_monthly_marketing_spend.csv")
    money["period"] = pd.date_range(end="2026-06-01", periods=len(money), freq="MS")
    customers = pd.DataFrame({"customer_id": startup["customer_id"].unique(), "market_id": "all"})
    spend = money.assign(market_id="all", channel="All marketing").rename(columns={"total_marketing_spend": "amount"})
    data = dataclasses.replace(market_data(customers), spend=spend[["market_id", "period", "channel", "amount"]],
                               frequency="month")  # fmt: skip
    result = economics(Tables(customers=customers, transactions=startup), data)
    first = startup[startup["amount"] > 0].groupby("customer_id")["date"].min()
    won = (first >= dt.date(2025, 7, 1)).sum()
    blended = row(result, "company", "company", "blended")
    assert blended["new_customers"] == won
    assert blended["cac"] == pytest.approx(money["total_marketing_spend"].tail(12).sum() / won)
    assert blended["cac_low"] < blended["cac"] < blended["cac_high"]
    assert row(result, "channel", "All marketing", "unknown")["spend"] == pytest.approx(blended["spend"])


# --- refunds and margins ---------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def buyers() -> tuple[pd.DataFrame, pd.DataFrame]:
    tables, customers, _ = buying_world(3, markets=40)
    log = tables.table("transactions").to_pandas()
    log["date"] = pd.to_datetime(log["date"]).dt.date
    return customers, log


def value(customers: pd.DataFrame, log: pd.DataFrame, margin_rate: float | None = 0.4):
    result = estimate_value(Tables(customers=customers, transactions=log), market_data(customers),
                            settings(margin_rate=margin_rate))  # fmt: skip
    unknown = ["acquisition_cost", "payback_months"]
    for frame in (result.cells, result.markets.drop(columns=unknown)):
        assert np.isfinite(frame.select_dtypes("number").to_numpy()).all()
    markets = result.markets.set_index("market_id")
    for name in ("clv", "new_customer_clv"):
        assert (markets[f"{name}_low"] <= markets[name] + 1e-9).all()
        assert (markets[name] <= markets[f"{name}_high"] + 1e-9).all()
    return markets


@pytest.fixture(scope="module")
def untouched(buyers) -> pd.DataFrame:
    return value(*buyers)


@pytest.mark.parametrize("days_later", [10, -1])
def test_refunds_lower_value_by_their_share_whenever_they_are_dated(buyers, untouched, days_later: int) -> None:
    customers, log = buyers
    back = log[np.arange(len(log)) % 5 == 0]
    day = [min(d + dt.timedelta(days=days_later), AS_OF) for d in back["date"]]
    after = value(customers, pd.concat([log, back.assign(amount=-back["amount"], date=day)]))
    share = 1 - back["amount"].sum() / log["amount"].sum()
    change = after["new_customer_clv"].sum() / untouched["new_customer_clv"].sum()
    assert change == pytest.approx(share, abs=0.03)


def test_customers_with_refunds_only_are_nobody(buyers, untouched) -> None:
    customers, log = buyers
    more = pd.DataFrame({"customer_id": [f"r{i}" for i in range(500)], "market_id": customers["market_id"].iloc[0]})
    refunds = pd.DataFrame({"customer_id": more["customer_id"], "date": AS_OF - dt.timedelta(days=99), "amount": -30.0})
    tables = Tables(customers=pd.concat([customers, more]), transactions=pd.concat([log, refunds]))
    acquired = customers_acquired(tables)
    assert acquired.filter(acquired.acquired_on.notnull()).count().execute() == log["customer_id"].nunique()
    with_them = value(pd.concat([customers, more]), pd.concat([log, refunds]))
    change = with_them["new_customer_clv"] / untouched["new_customer_clv"]
    assert change.between(0.97, 1.03).all()


def test_a_day_that_nets_to_nothing_is_no_purchase_but_its_money_counts() -> None:
    day, later = dt.date(2026, 1, 5), dt.date(2026, 3, 1)
    log = pd.DataFrame({"customer_id": ["a", "a", "a", "a"], "date": [day, day, later, later],
                        "amount": [50.0, 10.0, 20.0, -35.0], "margin": [20.0, 5.0, 8.0, -30.0]})  # fmt: skip
    customers = pd.DataFrame({"customer_id": ["a"], "market_id": ["m"]})
    tables = Tables(customers=customers, transactions=log)
    found = s.purchase_customers(s.purchase_days(tables, None, AS_OF), AS_OF).to_pandas().iloc[0]
    assert (found["x"], found["t_x"], found["T"]) == (0, 0, (AS_OF - day).days)
    assert (found["amount"], found["margin"]) == (45.0, 3.0)


def test_one_large_refund_does_not_condemn_a_small_market(buyers, untouched) -> None:
    customers, log = buyers
    small = customers["market_id"].value_counts().index[-1]
    mine = customers.loc[customers["market_id"] == small, "customer_id"]
    bought = log.loc[log["customer_id"].isin(mine), "amount"].sum()
    refund = pd.DataFrame({"customer_id": [mine.iloc[0]], "date": [AS_OF], "amount": [-1.3 * bought]})
    after = value(customers, pd.concat([log, refund]))
    change = after["new_customer_clv"] / untouched["new_customer_clv"]
    assert 0.6 < change[small] < 0.98
    assert change.drop(small).median() == pytest.approx(1, abs=0.01)
    assert change.drop(small).between(0.8, 1.25).all()  # its peers only lean on their own money a little more


@pytest.mark.parametrize("times", [1.0, 2.0])
def test_refunds_of_everything_and_more(buyers, times: float) -> None:
    customers, log = buyers
    markets = value(customers, pd.concat([log, log.assign(amount=-times * log["amount"], date=AS_OF)]))
    assert markets["new_customer_clv"].abs().max() < 1e-6  # nothing is earned: worth nothing, not unknown


def test_margins_below_nothing_and_above_the_price(buyers) -> None:
    customers, log = buyers
    losing = value(customers, log.assign(margin=-0.2 * log["amount"]), None)
    assert (losing["new_customer_clv_high"] < 0).all()
    gaining = value(customers, log.assign(margin=1.5 * log["amount"]), None)
    assert (gaining["new_customer_clv"] / losing["new_customer_clv"]).to_numpy() == pytest.approx(-7.5, rel=1e-3)


def test_money_of_cells_without_any() -> None:
    """Company, segment or market whose refunds eat all purchases: finite, near nothing, and no proof of anything."""
    pairs = pd.DataFrame([(f"m{i}", "All") for i in range(30)], columns=["market_id", "segment"])
    cells = Cells.of(pairs, list(pairs["market_id"]))
    units, none = np.full(30, 10.0), Surroundings(np.empty((30, 0)), np.empty((0, 2), int))
    amount = np.where(np.arange(30) == 7, -100.0, 300.0)
    posterior, level, _ = money_effects(cells, amount, units, np.full(30, 9000.0), none, fixed=False)
    assert np.isfinite(posterior.mean).all()
    assert level == pytest.approx(amount.sum() / 300)
    assert posterior.mean[7, 0] < posterior.mean[8, 0]


def test_startup_log_with_a_sixth_of_refunds(startup: pd.DataFrame) -> None:
    customers = pd.DataFrame({"customer_id": startup["customer_id"].unique()})
    customers["market_id"] = customers["customer_id"].str[-1]  # the last digit: markets that differ by nothing
    markets = value(customers, startup)
    net = 0.4 * startup["amount"].sum() / startup.loc[startup["amount"] > 0, "customer_id"].nunique()
    assert markets["new_customer_clv"].mean() == pytest.approx(net, rel=0.5)  # what a customer has brought so far
    assert markets["new_customer_clv"].std() / markets["new_customer_clv"].mean() < 0.05
