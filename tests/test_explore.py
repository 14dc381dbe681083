"""What people explore: who is best, cohorts, decay, tracking, and the pictures and the notebook that show them."""

from __future__ import annotations

import datetime as dt
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from test_value_worlds import AS_OF, Tables, buying_world, contract_world, settings

from micromarket.report import value_cost_figures as cost_figures
from micromarket.report import value_figures, value_trust_figures
from micromarket.report.style import Picture
from micromarket.value import decay, explore, explore_tracking
from micromarket.value.groups import pooled_groups
from micromarket.value.pooling import poisson


# --- groups ----------------------------------------------------------------------------------------------------------
def test_few_groups_that_are_known_well_are_known_well() -> None:
    """Two large channels far apart: each one's range is its own, whatever the spread between them."""
    events = np.array([4000.0, 400.0])
    mean, sd = pooled_groups(poisson(events, np.array([1000.0, 1000.0])), 2)
    assert mean == pytest.approx(np.log(events / 1000), abs=0.01)
    assert sd == pytest.approx(1 / np.sqrt(events), rel=0.05)


# --- who -------------------------------------------------------------------------------------------------------------
def shop(amounts: list[float], **columns) -> Tables:
    n = len(amounts)
    customers = pd.DataFrame({"customer_id": [f"c{i}" for i in range(n)], "market_id": "m"} | columns)
    log = pd.DataFrame(
        {"customer_id": customers["customer_id"], "date": AS_OF - dt.timedelta(days=30), "amount": amounts}
    )
    return Tables(customers=customers, transactions=log)


def test_concentration_of_known_values() -> None:
    """Ten buy for 91 and ninety for 1: the best tenth bring 910 of 1,000."""
    found = explore.concentration(explore.customer_value(shop([91.0] * 10 + [1.0] * 90), settings()))
    assert found is not None
    assert (found.customers, found.total) == (100, pytest.approx(400))
    assert found.top_tenth == pytest.approx(0.91)
    assert found.deciles.sum() == pytest.approx(1)
    assert found.curve["value"].is_monotonic_increasing
    alike = explore.concentration(explore.customer_value(shop([5.0] * 40), settings()))
    assert alike is not None
    assert alike.deciles.to_numpy() == pytest.approx(np.full(10, 0.1))  # ties are shared out, not cut by accident


def test_losses_come_last_and_nothing_is_no_ranking() -> None:
    found = explore.concentration(explore.customer_value(_with_refunds(), settings()))
    assert found is not None
    assert found.curve["value"].max() > 1
    assert found.curve["value"].iloc[-1] == pytest.approx(1)
    assert explore.concentration(explore.customer_value(shop([-5.0] * 5), settings())) is None


def _with_refunds() -> Tables:
    tables = shop([50.0] * 20 + [10.0] * 20)
    log = tables.table("transactions").to_pandas()
    log["date"] = pd.to_datetime(log["date"]).dt.date
    back = pd.DataFrame({"customer_id": [f"c{i}" for i in range(30, 40)], "date": AS_OF, "amount": -25.0})
    return Tables(customers=tables.table("customers").to_pandas(), transactions=pd.concat([log, back]))


def test_best_customers_by_group_and_small_groups_unseen() -> None:
    segment = ["Firm"] * 100 + ["Home"] * 895 + ["Tiny"] * 5
    amounts = [300.0 + i for i in range(100)] + [10.0 + i / 100 for i in range(900)]
    tables = shop(amounts, segment=segment)
    values = explore.customer_value(tables, settings())
    found = explore.concentration(values)
    best = explore.best_customers(tables, settings(), values, found).set_index("name")
    assert set(best.index) == {"Firm", "Home"}  # five customers are nobody's business
    assert best.loc["Firm", "best"] == pytest.approx(100, abs=1)
    assert best.loc["Firm", "index"] == pytest.approx(10, rel=0.02)
    assert np.isnan(best.loc["Home", "best"])  # fewer than ten of them
    assert best.loc["Home", "index_high"] < 0.1
    assert (best["index_low"] <= best["index"]).all()


# --- cohorts ---------------------------------------------------------------------------------------------------------
def test_cohorts_of_purchases() -> None:
    customers = pd.DataFrame({"customer_id": [f"c{i}" for i in range(30)], "market_id": "m"})
    won, again = dt.date(2025, 8, 15), dt.date(2026, 2, 1)
    log = pd.DataFrame({"customer_id": customers["customer_id"], "date": [won] * 30, "amount": 10.0})
    more = log.iloc[:12].assign(date=again, amount=20.0)
    refund = log.iloc[20:21].assign(date=again, amount=-10.0)
    old = pd.DataFrame({"customer_id": ["z"], "date": [dt.date(2025, 1, 2)], "amount": [1.0]})
    customers = pd.concat([customers, pd.DataFrame({"customer_id": ["z"], "market_id": ["m"]})])
    found = explore.cohorts(Tables(customers=customers, transactions=pd.concat([log, more, refund, old])), settings())
    assert found is not None
    mine = found[found["cohort"] == "2025 Q3"].set_index("age")
    assert mine.index.tolist() == [0, 1, 2, 3]  # up to the quarter that ends on as_of
    assert mine["customers"].unique().tolist() == [30]
    assert mine["active"].tolist() == [30, 0, 12, 0]
    assert mine["revenue"].tolist() == pytest.approx([300, 0, 230, 0])  # the refund's money counts, its day does not
    assert mine["margin"].tolist() == pytest.approx([120, 0, 92, 0])
    assert found.loc[found["cohort"] == "2025 Q1", "active"].isna().all()  # one customer


def test_cohorts_of_contracts_hold_every_customer_and_every_cent() -> None:
    customers = pd.DataFrame({"customer_id": [f"c{i}" for i in range(40)], "market_id": "m"})
    contracts = pd.DataFrame({"customer_id": customers["customer_id"], "started_on": dt.date(2025, 4, 1),
                              "monthly_value": 10.0})  # fmt: skip
    contracts["ended_on"] = [dt.date(2025, 12, 31)] * 15 + [dt.date(2026, 5, 15)] * 5 + [None] * 20
    found = explore.cohorts(Tables(customers=customers, subscriptions=contracts), settings("contractual"))
    assert found is not None
    assert found["active"].tolist() == [40, 40, 25, 25, 20]
    expected = [1200, 1200, 1200, 750, 600 + 5 * 10 * 45 / 30.4375]
    assert found["revenue"].tolist() == pytest.approx(expected, rel=0.02)
    since = explore.cohorts(Tables(customers=customers, subscriptions=contracts), settings("contractual"),
                            records_begin=dt.date(2025, 6, 1))  # fmt: skip
    assert since is None  # only survivors of that cohort are on record


# --- decay -----------------------------------------------------------------------------------------------------------
def history(y: np.ndarray, seed: int = 0) -> pd.DataFrame:
    markets, months = y.shape
    noise = np.exp(np.random.default_rng(seed).normal(0, 0.05, y.size))
    return pd.DataFrame(
        {
            "market_id": np.repeat([f"m{i:03d}" for i in range(markets)], months),
            "month": np.tile(pd.date_range("2024-07-01", periods=months, freq="MS"), markets),
            "segment": "All",
            "active_customers": y.ravel(),
            "revenue": y.ravel() * 30 * noise,
        }
    )


def stocks(seed: int, sd: float, markets: int = 200, months: int = 24) -> tuple[pd.DataFrame, np.ndarray]:
    """Contracts: customers stay or go for good, so that months wander; true change a year of each market."""
    rng = np.random.default_rng(seed)
    size, slope = np.exp(rng.normal(4.5, 1.2, markets)) + 5, rng.normal(0, sd, markets)
    there, y = np.floor(size), np.zeros((markets, months))
    for t in range(months):
        y[:, t] = there
        won = size * np.exp(slope * t / 12) * (0.03 + slope / 12) * (1 + 0.2 * np.sin(t / 12 * 2 * np.pi))
        there = there - rng.binomial(there.astype(int), 0.03) + rng.poisson(np.maximum(won, 0))
    return history(y), np.expm1(slope)


def buyers_by_month(seed: int, sd: float, markets: int = 120, months: int = 24) -> tuple[pd.DataFrame, np.ndarray]:
    """Purchases: customers of very different rates buy in a month or not, more of them in season."""
    rng = np.random.default_rng(seed)
    slope, y = rng.normal(0, sd, markets), np.zeros((markets, months))
    t = np.arange(months)
    for m, n in enumerate(3 * np.exp(rng.normal(4.3, 1.1, markets))):
        rate = rng.beta(0.6, 2.0, int(n) + 5)[:, None]
        chance = np.clip(rate * (1 + 0.3 * np.sin(t / 12 * 2 * np.pi)) * np.exp(slope[m] * t / 12), 0, 1)
        y[m] = (rng.random(chance.shape) < chance).sum(axis=0)
    return history(y), np.expm1(slope)


@pytest.mark.parametrize("world", [stocks, buyers_by_month])
def test_noise_is_not_called_decay_and_decay_is_found(world) -> None:
    noise = decay.market_trends(world(1, 0.0)[0], min_cell=1)
    assert noise is not None
    assert not noise.table["decays"].any()
    assert "do not differ beyond chance" in noise.text
    false, called, power, inside = [], [], [], []
    for seed in (2, 3):
        frame, truth = world(seed, 0.12)
        found = decay.market_trends(frame, min_cell=1)
        assert found is not None
        table = found.table.set_index("market_id").sort_index()
        mine = table["decays"].to_numpy(bool)
        false.append((truth[mine] > decay.MATERIAL).sum())
        called.append(mine.sum())
        power.append(mine[truth < -0.15].mean())
        inside.append(((table["trend_low"] <= truth) & (truth <= table["trend_high"])).mean())
    assert sum(false) / sum(called) <= 0.15
    assert np.mean(power) > 0.5
    assert 0.85 <= np.mean(inside) <= 0.98


def test_trends_need_a_year_markets_and_customers() -> None:
    frame, _ = stocks(4, 0.1, markets=30, months=24)
    assert decay.market_trends(frame[frame["month"] < "2025-05-01"]) is None
    assert decay.market_trends(frame[frame["market_id"] < "m004"]) is None
    assert decay.market_trends(frame.iloc[:0]) is None
    short = decay.market_trends(frame[frame["month"] < "2026-01-01"])  # 18 months: no season to take out of the level
    assert short is not None
    assert short.company is None
    with_empty = frame.assign(active_customers=frame["active_customers"].where(frame["market_id"] != "m001", 0.0))
    found = decay.market_trends(with_empty)
    assert found is not None
    assert "m001" not in set(found.table["market_id"])
    assert np.isfinite(found.table.select_dtypes("number")).all().all()
    assert (found.table["active"] >= 10).all()


# --- tracking --------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def buyers() -> Tables:
    return buying_world(1, markets=30)[0]


@pytest.fixture(scope="module")
def subscribers() -> Tables:
    return contract_world(1, markets=40)[0]


def test_tracking_of_purchases_counts_every_repeat_and_foresees_hidden_months(buyers: Tables) -> None:
    cut = dt.date(2025, 12, 31)
    found = explore_tracking.track_purchases(buyers, AS_OF, [{"model": "BG/NBD with Gamma-Gamma"}], cut)
    assert found is not None
    log = buyers.table("transactions").to_pandas()
    day = pd.to_datetime(log["date"])
    first = day.groupby(log["customer_id"]).transform("min")
    days = pd.DataFrame({"id": log["customer_id"], "day": day})[(first <= "2025-12-31") & (day > first)]
    whole = days.drop_duplicates()
    assert found["actual"].sum() == len(whole)
    hidden = found[found["hidden"]]
    assert hidden["month"].tolist() == pd.date_range("2026-01-01", periods=6, freq="MS").tolist()
    assert hidden["expected"].sum() == pytest.approx(hidden["actual"].sum(), rel=0.08)
    assert explore_tracking.track_purchases(shop([5.0] * 300), AS_OF, []) is None  # a month of history


def test_frequencies_and_survival_of_the_true_model(buyers: Tables, subscribers: Tables) -> None:
    frequencies = explore_tracking.purchase_frequencies(buyers, AS_OF, [{"model": "BG/NBD with Gamma-Gamma"}])
    assert frequencies is not None
    assert frequencies["expected"].sum() == pytest.approx(frequencies["actual"].sum())
    assert (frequencies["expected"] - frequencies["actual"]).abs().sum() < 0.05 * frequencies["actual"].sum()
    curve = explore_tracking.survival(subscribers, AS_OF, [{"model": "shifted-beta-geometric"}])
    assert curve is not None
    early = curve[curve["month"] <= 24]
    assert (early["there"] - early["model"]).abs().max() < 0.02
    assert early["there"].is_monotonic_decreasing
    assert ((curve["low"] <= curve["there"] + 1e-9) & (curve["there"] <= curve["high"] + 1e-5)).all()
    assert (curve["at_risk"] >= 10).all()


def test_tracking_of_departures(subscribers: Tables) -> None:
    found = explore_tracking.track_departures(subscribers, AS_OF, [], cut=dt.date(2025, 12, 31))
    assert found is not None
    hidden = found[found["hidden"]]
    assert len(hidden) == 6
    assert hidden["expected"].sum() == pytest.approx(hidden["actual"].sum(), rel=0.12)
    assert found.loc[~found["hidden"], "expected"].sum() == pytest.approx(
        found.loc[~found["hidden"], "actual"].sum(), rel=0.05
    )


# --- pictures --------------------------------------------------------------------------------------------------------
def money(value: float) -> str:
    return f"${value:,.0f}"


def pictures() -> dict[str, Picture | None]:
    """Every picture, over data with hostile names and gaps."""
    rng = np.random.default_rng(1)
    nasty = ["<b>A&B</b> $x$", "\u202eevil\x00", "A very long name of a place that goes on and on"]
    ids = [f"m{i}" for i in range(30)]
    names = dict(zip(ids, nasty * 10, strict=True))
    clv = np.sort(rng.gamma(4, 50, 30))
    markets = pd.DataFrame(
        {"market_id": ids, "customers": 50.0, "clv": clv, "clv_low": clv * 0.8, "clv_high": clv * 1.2}
    )
    cells = pd.concat([markets.assign(segment=s, clv=clv * f) for s, f in (("Home", 0.7), (nasty[0], 1.4))])
    trends = decay.market_trends(stocks(2, 0.2, markets=30)[0])
    assert trends is not None
    worth = list(zip(ids, clv, strict=True))
    economics = pd.DataFrame(
        [
            ("segment", "paid", nasty[0], 5e3, 90.0, 55.0, 50.0, 60.0, 40.0, 40 / 55, np.nan),
            ("segment", "paid", "Home", 9e3, 200.0, 45.0, 40.0, 50.0, 90.0, 2.0, 11.2),
            ("channel", "unpaid", nasty[1], 0.0, 50.0, np.nan, np.nan, np.nan, 80.0, np.nan, np.nan),
            ("channel", "unclaimed", "TV", 4e3, 0.0, *[np.nan] * 6),
            *[("market", "blended", m, 1e3, 20.0, 50.0, 40.0, 62.0, v, v / 50, 9.0) for m, v in worth],
        ],
        columns=["level", "basis", "name", "spend", "new_customers", "cac", "cac_low", "cac_high", "new_customer_clv",
                 "ltv_to_cac", "payback_months"],
    )  # fmt: skip
    best = pd.DataFrame({"trait": "segment", "name": nasty, "customers": [99.0, 500.0, 80.0],
                         "best": [30.0, np.nan, 11.0], "share": 0.3, "share_of_best": 0.3, "index": [3.0, 0.0001, 1.1],
                         "index_low": [2.2, 1e-9, 0.6], "index_high": [4.0, 0.002, 1.9]})  # fmt: skip
    months = pd.date_range("2024-01-01", periods=30, freq="MS")
    track = pd.DataFrame({"month": months, "actual": 100.0, "expected": 95.0, "hidden": months > "2025-06-01"})
    held = pd.DataFrame({"market_id": ids, "predicted": 9.0, "actual": np.arange(30.0), "low": 4.0, "high": 15.0})
    grid = [(q, a) for q in range(8100, 8106) for a in range(8106 - q)]
    cohorts = pd.DataFrame(grid, columns=["quarter", "age"]).assign(customers=40.0)
    cohorts = cohorts.assign(active=40.0 * 0.8 ** cohorts["age"], cohort=cohorts["quarter"].map(explore.quarter_name))
    cohorts.loc[3, "active"] = np.nan
    curve = pd.DataFrame({"segment": nasty[0], "month": range(20), "at_risk": 100.0, "there": 0.95 ** np.arange(20)})
    curve = curve.assign(low=curve["there"] * 0.9, high=np.minimum(curve["there"] * 1.1, 1), model=curve["there"])
    shape = pd.DataFrame({"customers": np.linspace(0, 1, 11), "value": np.linspace(0, 1, 11) ** 0.5})
    return {
        "concentration": value_figures.concentration_curve(shape, 0.32, "margin"),
        "profile": value_figures.profile(best, "segment"),
        "no profile": value_figures.profile(best, "product"),
        "cohorts": value_figures.cohort_heat(cohorts, True),
        "cost by segment": cost_figures.cost_and_value(economics, "segment", money, 36),
        "cost by channel": cost_figures.cost_and_value(economics, "channel", money, 36),
        "cost by market": cost_figures.markets_cost_and_value(economics, money),
        "value": value_figures.value_by_market(markets, cells, names, money, signal="clear"),
        "no signal": value_figures.value_by_market(markets, cells, names, money, signal="none"),
        "decay": value_figures.decaying(trends.table, names, trends.text, True),
        "tracking": value_trust_figures.tracking(track, "departures"),
        "holdout": value_trust_figures.predicted_and_actual(held, "departures"),
        "frequencies": value_trust_figures.frequencies(
            pd.DataFrame({"repeats": [0, 1, 2], "actual": [9.0, 5, 3], "expected": [8.5, 5.5, 3]})
        ),
        "survival": value_trust_figures.survival_curves(curve),
        "ladder": value_trust_figures.signal_ladder(markets, 200.0, money, signal="weak", text="Some differ."),
        "flat ladder": value_trust_figures.signal_ladder(
            markets, 200.0, money, signal="none", text="Markets do not differ beyond chance."
        ),
    }


def test_pictures_say_what_they_found_and_stay_sound_with_hostile_names() -> None:
    made, again = pictures(), pictures()
    assert made.pop("no profile") is None
    again.pop("no profile")
    for name, picture in made.items():
        assert picture is not None, name
        ET.fromstring(picture.svg)
        assert b"<b>" not in picture.svg, name
        assert picture.alt, name
        assert len(picture.title) > 20, name
        assert "nan" not in picture.title.lower().split(), name
        assert picture.svg == again[name].svg, name  # equal data, equal bytes
    assert "order here means nothing" in made["no signal"].title
    assert made["flat ladder"].title == "Markets do not differ beyond chance"
    assert "costs more than they bring" in made["cost by segment"].title
    assert "hidden from the model" in made["tracking"].svg.decode()
    assert "few of 500" in made["profile"].svg.decode()
    shown = value_figures.show(made["profile"], "").data
    assert "<svg" in shown
    assert 'aria-label="&lt;b&gt;' in shown
    assert value_figures.show(None, "Nothing.").data == "Nothing."


def test_cost_table_in_words() -> None:
    empty = cost_figures.cost_table(None, money)
    assert empty.empty
    assert "cost of one" in empty.columns
    columns = ["level", "basis", "name", "spend", "new_customers", "cac", "cac_low", "cac_high", "new_customer_clv",
               "ltv_to_cac", "payback_months"]  # fmt: skip
    rows = [
        ("channel", "unclaimed", "TV", 4e3, 0.0, *[np.nan] * 6),
        ("company", "blended", "company", 9e3, 90.0, 100.0, 90.0, 112.0, 250.0, 2.5, 7.4),
        ("market", "blended", "m", *[1.0] * 8),
    ]
    table = pd.DataFrame(rows, columns=columns)
    found = cost_figures.cost_table(table, money)
    assert found.index.tolist() == ["company", "channel: TV"]
    assert found.loc["company", ["cost of one", "repaid"]].tolist() == ["$100 ($90 to $112)", "in 7 months"]
    assert found.loc["channel: TV", ["spend", "cost of one"]].tolist() == ["$4,000", "–"]
