"""Segments: everybody in exactly one, the same ones next month, found where they are real and only there."""

from __future__ import annotations

import dataclasses
import datetime as dt
from pathlib import Path

import ibis
import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy.stats import f_oneway

from micromarket.config import read_settings
from micromarket.load import Dataset, open_dataset
from micromarket.notes import plain
from micromarket.segmentation import (
    Rules,
    describe_segments,
    read_segments,
    segment_rules,
    segmented_customers,
    segments_at_purchase,
)
from micromarket.segmentation.worth import explained, worth_of
from micromarket.summarise import summarise

AS_OF = dt.date(2026, 6, 30)
FIRST = dt.date(2022, 1, 1)


def company(folder: Path, relationship: str = "non-contractual", **tables: pd.DataFrame) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in tables.items():
        frame.to_parquet(folder / f"{name}.parquet", index=False)
    markets = sorted(tables["customers"]["market_id"].unique())
    pd.DataFrame({"market_id": markets}).to_csv(folder / "markets.csv", index=False)
    plan = {
        "company": {"name": "Test", "currency": "USD"},
        "as_of": str(AS_OF),
        "plan": {"start": "2026-07-01", "end": "2027-06-30"},
        "economics": {"relationship": relationship, "margin_rate": 0.4},
        "data": {"markets": "markets.csv", **{name: f"{name}.parquet" for name in tables}},
    }
    (folder / "plan.yml").write_text(yaml.safe_dump(plan))
    return folder / "plan.yml"


def on(dataset: Dataset, day: dt.date) -> Dataset:
    """The same company as it was on an earlier day."""
    t, c = dataset.table("transactions"), dataset.table("customers")
    bought = t.filter(t.date <= ibis.literal(day, "date"))
    tables = {**dataset.tables, "transactions": bought, "customers": c.semi_join(bought, "customer_id")}
    settings = dataclasses.replace(dataset.settings, as_of=day)
    return dataclasses.replace(dataset, settings=settings, tables=tables, _kept={})


def labels(dataset: Dataset, rules: Rules | None = None) -> pd.Series:
    return segmented_customers(dataset, rules).to_pandas().set_index("customer_id")["segment"].sort_index()


def buyers(seed: int, n: int = 4000, alike: bool = False) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Customers who buy at their own rate and for their own money until they stop; some never buy at all."""
    rng = np.random.default_rng(seed)
    days = (AS_OF - FIRST).days
    born = rng.integers(0, days, n)
    often = rng.random(n) < 0.3
    rate = np.full(n, 4.0) if alike else np.where(often, 12.0, 2.0) * rng.gamma(8, 1 / 8, n)
    basket = np.full(n, 40.0) if alike else np.where(rng.random(n) < 0.4, 90.0, 20.0) * rng.gamma(20, 1 / 20, n)
    stays = np.full(n, 1e6) if alike else rng.exponential(900, n)
    rows = []
    for i in range(n):
        left = int(min(days - born[i], stays[i]))
        repeats = rng.integers(0, max(left, 1), rng.poisson(rate[i] * left / 365)) if left > 0 else []
        rows += [(i, born[i] + d) for d in {0, *(int(r) for r in repeats)}]
    who, when = np.array(rows).T
    log = pd.DataFrame(
        {"customer_id": [f"c{i:05d}" for i in who], "date": pd.to_datetime(FIRST) + pd.to_timedelta(when, "D")}
    )
    log["date"] = log["date"].dt.date
    log["amount"] = np.round(basket[who] * rng.gamma(10, 1 / 10, len(who)), 2) + 0.01
    log["product"] = np.where(rng.random(len(log)) < 0.5, "Tea", "Coffee")
    people = pd.DataFrame({"customer_id": [f"c{i:05d}" for i in range(n + 40)]})
    people["market_id"] = [f"m{i % 7}" for i in range(len(people))]
    return people, log


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    people, log = buyers(1)
    return company(tmp_path_factory.mktemp("company"), customers=people, transactions=log)


@pytest.fixture(scope="module")
def dataset(plan: Path):
    with open_dataset(read_settings(plan)) as opened:
        yield opened


@pytest.fixture(scope="module")
def rules(dataset: Dataset) -> Rules:
    found = segment_rules(dataset)
    assert found is not None
    return found


def by_hand(people: pd.DataFrame, log: pd.DataFrame, rules: Rules) -> pd.Series:
    """The definitions as a person would apply them in a spreadsheet."""
    days = log.groupby(["customer_id", "date"], as_index=False)["amount"].sum()
    per = days.groupby("customer_id").agg(
        n=("date", "size"), first=("date", "min"), last=("date", "max"), amount=("amount", "sum")
    )
    per = per.reindex(people["customer_id"])
    since = per["first"].map(lambda d: (AS_OF - d).days if isinstance(d, dt.date) else np.nan)
    silent = per["last"].map(lambda d: (AS_OF - d).days if isinstance(d, dt.date) else np.inf)
    often = np.where(per["n"] / np.maximum(since, 365) * 365 >= rules.frequency, "Frequent", "Occasional")
    size = (
        np.where(per["amount"] / per["n"] >= rules.value[0], "large baskets", "small baskets") if rules.value else None
    )
    names = []
    for i in range(len(per)):
        if since.iloc[i] <= (rules.new_days or -1):
            names.append("New in the last 3 months")
        elif rules.lapsed_days and silent.iloc[i] > rules.lapsed_days:
            names.append("Lapsed")
        elif rules.quiet_days and silent.iloc[i] > rules.quiet_days:
            names.append("Gone quiet")
        else:
            split = rules.value and rules.value_within in ("all", often[i].lower())
            names.append(f"{often[i]}, {size[i]}" if split else often[i])
    return pd.Series(names, index=per.index, name="segment").sort_index()


def test_everybody_is_in_exactly_one_segment_as_defined(dataset: Dataset, rules: Rules) -> None:
    people, log = buyers(1)
    found = labels(dataset, rules)
    assert found.index.is_unique
    assert set(found.index) == set(people["customer_id"])
    assert rules.new_days == 91
    assert rules.lapsed_days == 365
    assert rules.frequency
    assert rules.value
    pd.testing.assert_series_equal(found, by_hand(people, log, rules), check_dtype=False, check_index_type=False)
    described = describe_segments(dataset, segmented_customers(dataset, rules), rules)
    numbers = plain(described.numbers())
    assert described.source == "derived"
    assert not described.at_start
    assert 3 <= len(numbers["segments"]) <= 6
    assert sum(s["customers"] for s in numbers["segments"]) == len(people)
    assert all(
        s["customers"] >= 30 and s["share"] > 0.01 and s["definition"].endswith(".") for s in numbers["segments"]
    )
    assert numbers["worth"]["segment"]["share"] > 0.3
    assert "explain" in numbers["worth"]["text"]
    assert not numbers["worth"]["by_construction"]
    entry = described.entry.set_index("segment")
    old = by_hand(people, log, rules)[
        log.groupby("customer_id")["date"].min().le(AS_OF - dt.timedelta(days=365))[lambda x: x].index
    ]
    assert entry["customers"].to_dict() == old.value_counts().astype(float).to_dict()
    known = log[log["customer_id"].isin(old.index)]
    assert entry["margin"].sum() == pytest.approx(0.4 * known["amount"].sum())


def test_the_limits_found_are_the_ones_planted(rules: Rules) -> None:
    """Buyers come about 2 or about 12 times a year, for about 20 or about 90 dollars."""
    assert 3 <= rules.frequency <= 8
    assert 30 <= rules.value[0] <= 70


def test_the_same_twice_and_in_any_order_of_rows(dataset: Dataset, rules: Rules, tmp_path: Path) -> None:
    people, log = buyers(1)
    again = company(
        tmp_path, customers=people.sample(frac=1, random_state=3), transactions=log.sample(frac=1, random_state=4)
    )
    with open_dataset(read_settings(again)) as other:
        assert segment_rules(other) == rules
        pd.testing.assert_series_equal(labels(other), labels(dataset, rules))


def test_rules_stay_from_month_to_month(dataset: Dataset, rules: Rules) -> None:
    months = [dt.date(2025, 11, 30), dt.date(2025, 12, 31), dt.date(2026, 2, 28), dt.date(2026, 3, 31)]
    found = [segment_rules(on(dataset, day)) for day in months]
    assert found[1] == found[2] == found[3] == rules, "reviewed on 1 January only"
    assert dataclasses.replace(found[0], decided_on=None) == dataclasses.replace(rules, decided_on=None)
    before, after = (labels(on(dataset, day), rules) for day in (dt.date(2026, 5, 31), AS_OF))
    assert (after[before.index] != before).mean() < 0.15  # who changes has changed: a month without a purchase, or one


def test_history_is_split_by_the_segment_of_the_day(dataset: Dataset, rules: Rules) -> None:
    _people, log = buyers(1)
    data = summarise(dataset)
    year = log[pd.to_datetime(log["date"]) >= "2024-07-01"]
    history = data.history[data.history["month"] >= "2024-07-01"]
    assert history["revenue"].sum() == pytest.approx(year["amount"].sum())
    first = log.groupby("customer_id")["date"].min()
    won = history.groupby("segment")["new_customers"].sum()
    assert won.drop("New in the last 3 months").eq(0).all()
    assert won["New in the last 3 months"] == (pd.to_datetime(first) >= "2024-07-01").sum()
    recent = history.groupby([history["month"] >= "2025-07-01", "segment"])["revenue"].sum().unstack(0)
    assert (recent[True] / recent[False]).between(0.6, 1.7).all(), "no trend that only hindsight makes"
    then = segments_at_purchase(dataset, rules).to_pandas()
    assert len(then) == len(log.drop_duplicates(["customer_id", "date"]))
    assert data.facts["segmentation"]["source"] == "derived"
    assert sorted(data.cells["segment"].unique()) == sorted(s["name"] for s in data.facts["segmentation"]["segments"])
    assert any("made them from what customers buy" in a.text for a in data.notes.assumptions)


def test_customers_who_do_not_differ_are_not_split(tmp_path: Path) -> None:
    people, log = buyers(2, n=1500, alike=True)
    with open_dataset(read_settings(company(tmp_path, customers=people.iloc[:1500], transactions=log))) as alike:
        data = summarise(alike)
        assert data.facts["segmentation"]["source"] == "none"
        assert data.facts["segmentation"]["reason"]
        assert data.cells["segment"].eq("All").all()


@pytest.mark.parametrize("n", [1, 3])
def test_a_handful_of_customers_is_one_segment(n: int, tmp_path: Path) -> None:
    people, log = buyers(3, n=3)
    few = log[log["customer_id"].isin(people["customer_id"][:n])].assign(date=lambda t: pd.to_datetime(t["date"]))
    with open_dataset(read_settings(company(tmp_path, customers=people, transactions=few))) as tiny:
        assert segment_rules(tiny) is None
        assert set(labels(tiny)) == {"All"}
        assert describe_segments(tiny, segmented_customers(tiny), None).source == "none"


def test_main_product_becomes_a_segment_where_it_tells(tmp_path: Path) -> None:
    """Same rhythm before, but only who drinks tea comes back in the year after."""
    rng = np.random.default_rng(5)
    rows = []
    for i in range(3000):
        tea = i % 2 == 0
        loyal = rng.random() < (0.9 if tea else 0.1)
        days = [*rng.integers(0, 1000, 3), *(rng.integers(1000, 1640, 4) if loyal else [])]
        rows += [(f"c{i}", FIRST + dt.timedelta(days=int(d)), "Tea" if tea else "Coffee") for d in days]
    log = pd.DataFrame(rows, columns=["customer_id", "date", "product"]).assign(amount=10.0)
    people = pd.DataFrame({"customer_id": [f"c{i}" for i in range(3000)], "market_id": "m"})
    with open_dataset(read_settings(company(tmp_path, customers=people, transactions=log))) as taste:
        early = on(taste, dt.date(2025, 9, 30))
        found = segment_rules(early)
        assert found is not None
        assert found.products
        names = [s.name for s in found.segments("USD")]
        assert any("mostly Tea" in n or "mostly Coffee" in n for n in names)
        assert labels(early, found).isin(names).all()


def contracts(seed: int, n: int = 3000) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    start = rng.integers(0, 1600, n)
    length = rng.exponential(900, n).astype(int) + 1
    ends = start + length
    kind = rng.integers(0, 2, n)
    table = pd.DataFrame({"customer_id": [f"c{i:04d}" for i in range(n)]})
    table["started_on"] = [FIRST + dt.timedelta(days=int(d)) for d in start]
    table["ended_on"] = [FIRST + dt.timedelta(days=int(d)) if d < 1640 else None for d in ends]
    table["monthly_value"] = np.round(np.exp(rng.normal(np.where(kind, 4.6, 2.7), 0.2)), 2)
    people = pd.DataFrame({"customer_id": table["customer_id"], "market_id": [f"m{i % 5}" for i in range(n)]})
    return people.assign(segment=np.where(kind, "Firm", "Home")), table


def test_contracts_are_split_by_what_is_known_at_their_start(tmp_path: Path) -> None:
    people, table = contracts(7)
    plan = company(tmp_path / "a", "contractual", customers=people.drop(columns="segment"), subscriptions=table)
    with open_dataset(read_settings(plan)) as dataset:
        rules = segment_rules(dataset)
        assert rules is not None
        assert rules.basis == "contracts"
        assert any(20 <= v <= 70 for v in rules.value)
        found = labels(dataset, rules)
        described = describe_segments(dataset, segmented_customers(dataset, rules), rules)
        assert described.at_start
        assert described.worth.segment.p_value < 0.01
    forever = table.assign(ended_on=pd.Series(None, index=table.index, dtype="datetime64[us]"))
    plan = company(tmp_path / "b", "contractual", customers=people.drop(columns="segment"), subscriptions=forever)
    with open_dataset(read_settings(plan)) as dataset:
        pd.testing.assert_series_equal(labels(dataset, rules), found)


@pytest.mark.parametrize("real", [True, False])
def test_worth_of_the_companys_own_segments(real: bool, tmp_path: Path) -> None:
    people, table = contracts(8)
    if not real:
        people["segment"] = np.random.default_rng(1).permutation(people["segment"])
    plan = company(tmp_path, "contractual", customers=people, subscriptions=table)
    with open_dataset(read_settings(plan)) as dataset:
        assert segment_rules(dataset) is None
        numbers = summarise(dataset).facts["segmentation"]
    worth = numbers["worth"]
    cut, until = dt.date(2025, 6, 30), AS_OF
    ends = table["ended_on"].map(lambda d: min(d, until) if isinstance(d, dt.date) else until)
    live = (table["started_on"] <= cut) & (ends > cut)
    billed = (ends.map(lambda d: (d - cut).days) * table["monthly_value"] * 0.4 / (365.25 / 12))[live]
    value = np.log1p(billed / float(f"{billed.mean():.1e}"))
    groups = [value[(people["segment"] == s)[live]] for s in ("Firm", "Home")]
    assert worth["customers"] == live.sum()
    assert worth["segment"]["f"] == pytest.approx(f_oneway(*groups).statistic, rel=1e-6)
    assert worth["segment"]["p_value"] == pytest.approx(f_oneway(*groups).pvalue, rel=1e-4, abs=1e-300)
    assert numbers["source"] == "company"
    assert [s["name"] for s in numbers["segments"]] == ["Firm", "Home"]
    assert ("segments tell next to nothing" not in worth["text"]) == real
    assert "explains next to nothing" in worth["text"] or not real, "markets are drawn at random"


def test_orders_without_dates(tmp_path: Path) -> None:
    rng = np.random.default_rng(9)
    n = 2000
    orders = 1 + rng.poisson(0.6, n)
    summary = pd.DataFrame({"customer_id": [f"c{i}" for i in range(n)], "orders": orders})
    summary["revenue"] = np.round(orders * np.exp(rng.normal(4, 1, n)), 2)
    people = pd.DataFrame({"customer_id": [f"c{i}" for i in range(n + 9)], "market_id": "m"})
    with open_dataset(read_settings(company(tmp_path, customers=people, customer_summary=summary))) as dataset:
        data = summarise(dataset)
    found = data.facts["segmentation"]
    assert found["source"] == "derived"
    assert found["worth"]["by_construction"]
    assert "says nothing new" in found["worth"]["text"]
    assert sum(s["customers"] for s in found["segments"]) == n + 9


def test_explained_shares_are_the_ones_planted() -> None:
    """Between segments 1, between markets within them .25, within 2.75: a quarter and a sixteenth of everything."""
    rng = np.random.default_rng(11)
    rows = []
    for segment, mean in (("A", -1.0), ("B", 1.0)):
        for m, shift in enumerate(rng.choice([-0.5, 0.5], 200)):
            y = rng.normal(mean + shift, np.sqrt(2.75), 60)
            rows.append((f"m{m}", segment, 60.0, y.sum(), (y**2).sum()))
    cells = pd.DataFrame(rows, columns=["market_id", "segment", "n", "total", "square"])
    worth = worth_of(cells, "margin", by_construction=False, company=True)
    assert worth.segment.share == pytest.approx(0.25, abs=0.02)
    assert worth.beyond.share == pytest.approx(0.0625, abs=0.015)
    assert worth.beyond.p_value < 1e-10
    chance = cells.assign(segment=rng.permutation(cells["segment"]))
    assert worth_of(chance, "margin", by_construction=False, company=True).segment.share < 0.03


@pytest.mark.parametrize(
    ("n", "total", "square"),
    [([], [], []), ([5.0], [1.0], [1.0]), ([3.0, 0.0], [6.0, 0.0], [12.0, 0.0]), ([1.0, 1.0], [1.0, 3.0], [1.0, 9.0]),
     ([2.0, 2.0], [2.0, 2.0], [2.0, 2.0]), ([2.0, 2.0], [2.0, 6.0], [2.0, 18.0])],
)  # fmt: skip
def test_explained_is_always_a_number(n: list[float], total: list[float], square: list[float]) -> None:
    found = explained(np.array(n), np.array(total), np.array(square))
    assert np.isfinite([found.share, found.eta_squared, found.f, found.p_value]).all()
    assert 0 <= found.share <= 1
    assert 0 <= found.p_value <= 1
    if n == [2.0, 2.0]:
        assert found.share == pytest.approx(1.0 if total[1] == 6.0 else 0.0)


some_rules = st.builds(
    Rules,
    basis=st.just("purchases"),
    new_days=st.sampled_from([None, 91, 60]),
    quiet_days=st.sampled_from([None, 91, 182]),
    lapsed_days=st.sampled_from([None, 365]),
    frequency=st.sampled_from([None, 2.0, 2.5]),
    value=st.sampled_from([(), (50.0,), (10.0, 1234.5)]),
    products=st.sampled_from([(), ("Tea",), ("a\nb", "a b")]),
    decided_on=st.sampled_from([None, dt.date(2026, 1, 1)]),
)


@given(some_rules)
@hypothesis_settings(max_examples=60, deadline=None)
def test_rules_can_be_pinned(rules: Rules) -> None:
    named = rules.segments("USD")
    assert len({s.name for s in named}) == len(named) >= 1
    assert all(s.name.isprintable() and s.definition.isprintable() for s in named)
    if len(named) > 1:
        assert read_segments(yaml.safe_load(yaml.safe_dump(rules.plain()))) == rules


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("off", "auto, none"),
        ({"basis": "visits"}, "basis"),
        ({"basis": "purchases", "quiet": 90}, "quiet_days"),
        ({"basis": "purchases", "value": [50, 20]}, "rising"),
        ({"basis": "purchases", "frequency": float("nan")}, "frequency"),
        ({"basis": "purchases", "new_days": 9.5}, "whole"),
        ({"basis": "contracts", "quiet_days": 91}, "start"),
        ({"basis": "purchases"}, "two segments"),
        ({"basis": "purchases", "quiet_days": 365, "lapsed_days": 91}, "below"),
    ],
)
def test_wrong_rules_are_refused_with_a_hint(raw: object, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        read_segments(raw)


def test_no_wish_means_automatic() -> None:
    assert read_segments(None) == read_segments("auto") == "auto"
    assert read_segments("none") == "none"


def test_pinned_rules_hold(dataset: Dataset) -> None:
    pinned = read_segments({"basis": "purchases", "lapsed_days": 365, "value": 50})
    assert isinstance(pinned, Rules)
    found = labels(dataset, pinned)
    assert set(found) == {"Lapsed", "Large baskets", "Small baskets"}
