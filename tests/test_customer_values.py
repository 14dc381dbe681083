"""Every customer's lifetime value: by the customer's own history, adding up to what the plan publishes."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_engine import both_stages, edit, write_company
from tiny import write_tiny

from micromarket.config import read_settings
from micromarket.errors import InputError
from micromarket.load import Dataset, open_dataset
from micromarket.sources import Engine
from micromarket.value.customer_values import COLUMNS, customer_values, write_customer_values
from micromarket.value.models.bgnbd import BetaGeoNBD
from micromarket.value.models.paretonbd import ParetoNBD
from micromarket.value.models.weibullnbd import WeibullNBD
from micromarket.value.outlook import outlook
from micromarket.value.summaries import DAYS_PER_MONTH


@pytest.mark.parametrize("make", [BetaGeoNBD, ParetoNBD, WeibullNBD])
def test_the_outlook_is_the_models_own(make: Any) -> None:
    """Against the estimators' public predictions, month by month, at every age up to ten years."""
    rng = np.random.default_rng(2)
    T = rng.integers(1, 900, 4000)
    x = rng.poisson(rng.gamma(0.6, 1 / 90, 4000) * T * rng.random(4000))
    t_x = np.where(x > 0, np.floor(T * rng.beta(2, 1.5, 4000)), 0)
    model = make(prior_sd=2.0).fit(x, t_x, T)
    ages = np.concatenate([[0, 1, 2], np.arange(5, 3650, 40)])
    some, age = (v.ravel() for v in np.meshgrid([0, 1, 2, 7, 60], ages))
    some = np.where(age == 0, 0, some)
    expected, present, months = outlook(model, some, age, 36, 0.1)
    alive = model.p_alive(some, age, age)
    ends = [model.conditional_expected_purchases(m * DAYS_PER_MONTH, some, age, age) / alive for m in range(1, 37)]
    tolerance = 2e-3 if make is WeibullNBD else 1e-6  # the estimator's own sum over time has 200 steps
    np.testing.assert_allclose(expected, ends[-1], rtol=tolerance)
    gained = np.diff(np.stack([np.zeros(len(some)), *ends]), axis=0)
    np.testing.assert_allclose(present, 1.1 ** (-(np.arange(36) + 0.5) / 12) @ gained, rtol=tolerance)
    assert ((months > 0) & (months < 36)).all()
    stays = model.survival(36 * DAYS_PER_MONTH + 0.0)  # of new customers, whom most leave sooner than old ones
    assert months.max() > 36 * 0.85 * stays


@pytest.fixture(scope="module")
def buyers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Dataset, Any, Any]]:
    plan = write_company(tmp_path_factory.mktemp("buyers"), "non-contractual")
    stages = both_stages(plan)
    with open_dataset(read_settings(plan)) as dataset:
        yield dataset, *stages


def histories(folder: Path, as_of: dt.date) -> pd.DataFrame:
    """x, t_x, T and money of every customer who bought, with pandas."""
    log = pd.read_parquet(folder / "transactions.parquet")
    log["margin"] = log["margin"].fillna(0.4 * log["amount"])
    days = log.groupby(["customer_id", "date"])[["amount", "margin"]].sum().round(6).reset_index()
    days["day"] = pd.to_datetime(days["date"])
    bought = days[days["amount"] > 0].groupby("customer_id")["day"].agg(["min", "max", "count"])
    money = days.groupby("customer_id")[["amount", "margin"]].sum()
    return pd.DataFrame(
        {
            "x": bought["count"] - 1,
            "t_x": (bought["max"] - bought["min"]).dt.days,
            "T": (pd.Timestamp(as_of) - bought["min"]).dt.days,
            "amount": money["amount"],
        }
    ).dropna()


def test_each_customer_is_valued_by_its_own_history(buyers: tuple[Dataset, Any, Any]) -> None:
    dataset, _, _ = buyers
    settings = dataset.settings
    found = customer_values(dataset, settings)
    assert tuple(found.table.columns) == COLUMNS
    frame = found.table.to_pandas().set_index("customer_id").sort_index()
    own = histories(settings.path.parent, settings.as_of)
    assert set(frame.index) == set(own.index)
    own = own.loc[frame.index]
    for segment, models in found.models.items():
        rows = frame["segment"] == segment
        x, t_x, T = (own.loc[rows, c].to_numpy(float) for c in ("x", "t_x", "T"))
        model, baskets = models["purchases"], models["spend"]
        np.testing.assert_allclose(frame.loc[rows, "p_alive"], model.p_alive(x, t_x, T), rtol=1e-9)
        horizon = settings.economics.horizon_months * DAYS_PER_MONTH
        expected = model.conditional_expected_purchases(horizon, x, t_x, T)
        np.testing.assert_allclose(frame.loc[rows, "expected_purchases"], expected, rtol=1e-6)
        level = own.loc[rows, "amount"].sum() / (x + 1).sum()
        weight = baskets.population_weight(x + 1)
        spend = np.maximum(weight * level + (1 - weight) * own.loc[rows, "amount"] / (x + 1), 0)
        np.testing.assert_allclose(frame.loc[rows, "expected_spend"], spend, rtol=1e-9)
    assert np.isfinite(frame[list(COLUMNS[3:])].to_numpy()).all()
    # money: undiscounted purchases at the customer's spend bound the discounted margin from above
    revenue = frame["expected_purchases"] * frame["expected_spend"]
    share = frame["clv"] / revenue.where(revenue > 0)
    assert share.groupby(frame["segment"]).max().lt(1).all()


def test_values_add_up_to_what_the_plan_publishes(buyers: tuple[Dataset, Any, Any]) -> None:
    dataset, data, value = buyers
    frame = customer_values(dataset, dataset.settings, data, value).table.to_pandas()
    summed = frame.groupby(["market_id", "segment"])["clv"].sum()
    published = value.cells.set_index(["market_id", "segment"])
    published = published.loc[published["customers"] > 0, "customer_equity"]
    assert len(published) > 5
    pd.testing.assert_series_equal(
        summed[published.index].sort_index(), published.sort_index(), check_names=False, rtol=1e-9
    )
    servicing = dataclasses.replace(
        dataset.settings, economics=dataclasses.replace(dataset.settings.economics, servicing_cost=0.5)
    )
    frame = customer_values(dataset, servicing, data, value).table.to_pandas()
    assert frame["clv"].sum() == pytest.approx(summed.sum(), rel=1e-6)  # the equity given is after servicing cost


def test_segments_made_from_behaviour_share_a_model(tmp_path: Path) -> None:
    """A company without segments gets them from the data stage; the customers carry them, and all share one fit."""
    plan = write_company(tmp_path, "non-contractual")
    customers = pd.read_parquet(tmp_path / "customers.parquet").drop(columns="segment")
    customers.to_parquet(tmp_path / "customers.parquet")
    data, value = both_stages(plan)
    if data.facts["segmentation"]["source"] != "derived":
        pytest.fail("the world is meant to be segmented by the data stage")
    with open_dataset(read_settings(plan)) as dataset:
        with pytest.raises(ValueError, match="needs the data"):
            customer_values(dataset, dataset.settings, value=value)
        found = customer_values(dataset, dataset.settings, data, value)
        frame = found.table.to_pandas()
    assert list(found.models) == ["All"]
    published = value.cells.set_index(["market_id", "segment"])
    published = published.loc[published["customers"] > 0, "customer_equity"].sort_index()
    assert published.index.get_level_values("segment").nunique() > 1
    summed = frame.groupby(["market_id", "segment"])["clv"].sum()
    pd.testing.assert_series_equal(summed[published.index], published, check_names=False, rtol=1e-9)


def test_contracts_are_valued_by_age_and_own_price(tmp_path: Path) -> None:
    plan = write_company(tmp_path, "contractual")
    data, value = both_stages(plan)
    with open_dataset(read_settings(plan)) as dataset:
        alone = customer_values(dataset, dataset.settings).table.to_pandas()
        scaled = customer_values(dataset, dataset.settings, data, value).table.to_pandas()
    contracts = pd.read_parquet(tmp_path / "subscriptions.parquet")
    running = contracts[contracts["ended_on"].isna()].groupby("customer_id")["monthly_value"].sum()
    frame = alone.set_index("customer_id").sort_index()
    pd.testing.assert_series_equal(frame["expected_spend"], running.sort_index(), check_names=False)
    assert frame["expected_purchases"].between(0, 36, inclusive="neither").all()
    per_margin = frame["clv"] / (0.4 * frame["expected_spend"])
    assert (per_margin < frame["expected_purchases"]).all()  # discounted
    assert per_margin.groupby(frame["expected_purchases"].round(9)).std().fillna(0).max() < 1e-9  # by age alone
    published = value.cells.set_index(["market_id", "segment"])
    published = published.loc[published["customers"] > 0, "customer_equity"].sort_index()
    summed = scaled.groupby(["market_id", "segment"])["clv"].sum()
    pd.testing.assert_series_equal(summed[published.index], published, check_names=False, rtol=1e-9)


def test_a_file_is_made_on_request_and_never_in_a_plans_folder(
    buyers: tuple[Dataset, Any, Any], tmp_path: Path
) -> None:
    dataset, _, _ = buyers
    write_customer_values(dataset, dataset.settings, tmp_path / "crm's values.parquet")
    written = pd.read_parquet(tmp_path / "crm's values.parquet")
    assert tuple(written.columns) == COLUMNS
    assert len(written) == written["customer_id"].nunique() > 200
    (tmp_path / "run" / "tables").mkdir(parents=True)
    (tmp_path / "run" / "plan.json").write_text("{}")
    with pytest.raises(InputError, match="outside the folder of a plan"):
        write_customer_values(dataset, dataset.settings, tmp_path / "run" / "tables" / "values.parquet")


class Bare:
    """A log alone, in an engine."""

    def __init__(self, engine: Engine, log: pd.DataFrame):
        self.engine, self.log = engine, engine.put("transactions", log)
        self.keep, self.put, self.save = engine.keep, engine.put, engine.save

    def has(self, table: str) -> bool:
        return table == "transactions"

    def table(self, table: str) -> Any:
        return self.log.cast({"date": "date"})


@pytest.mark.parametrize("repeats", [0, 1])
def test_a_log_of_very_few_is_valued_soundly(tmp_path: Path, repeats: int) -> None:
    """Nobody bought twice; or one customer did. No history tells much, so none gives an absurd answer."""
    days = [dt.date(2026, 1, 1) + dt.timedelta(i) for i in range(12)]
    log = pd.DataFrame({"customer_id": [f"c{i}" for i in range(12)], "date": days, "amount": 10.0})
    log = pd.concat([log, log.head(repeats).assign(date=dt.date(2026, 5, 1)), log.tail(1).assign(amount=-4.0)])
    settings = read_settings(edit(write_tiny(tmp_path), "relationship: contractual", "relationship: non-contractual"))
    with Engine() as engine:
        frame = customer_values(Bare(engine, log), settings).table.to_pandas().set_index("customer_id")
    assert len(frame) == 12
    assert np.isfinite(frame[list(COLUMNS[3:])].to_numpy()).all()
    assert frame["clv"].between(0, 0.4 * 10 * 36 * 4).all()
    assert frame.loc["c11", "expected_spend"] <= frame.loc["c5", "expected_spend"]
    assert (frame["market_id"] + frame["segment"] == "AllAll").all()


def test_without_money_to_value_it_says_what_is_missing(tmp_path: Path) -> None:
    text = "relationship: non-contractual, margin_rate: 0.4"
    plan = edit(write_tiny(tmp_path), "relationship: contractual, margin_rate: 0.4", text)
    settings = read_settings(plan)
    settings = dataclasses.replace(settings, economics=dataclasses.replace(settings.economics, margin_rate=None))
    log = pd.DataFrame({"customer_id": ["a"], "date": [dt.date(2026, 1, 1)], "amount": [10.0]})
    with Engine() as engine, pytest.raises(InputError, match="margin_rate"):
        customer_values(Bare(engine, log), settings)
    with Engine() as engine, pytest.raises(InputError, match="at least one purchase"):
        customer_values(Bare(engine, log.assign(amount=-1.0)), settings)
