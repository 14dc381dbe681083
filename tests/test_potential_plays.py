"""Causes, development indices, objectives and field notes: known truths, sums that hold, small companies."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from micromarket.config import Company, Economics, Objective, PlanPeriod, Settings, Targets, read_settings
from micromarket.load import open_dataset
from micromarket.market_data import MarketData
from micromarket.potential import estimate_potential
from micromarket.potential.causes import COVERAGE, PRICE, RIVALS, SPEND, UNEXPLAINED, decompose, price_of_products
from micromarket.potential.development import development
from micromarket.potential.families import BINOMIAL
from micromarket.potential.objective import opportunities
from micromarket.potential.pooling import pooled_mean, pooled_ratio, pooled_share
from micromarket.summarise import summarise

AS_OF = dt.date(2026, 6, 30)


def settings(folder: Path = Path("nowhere"), **objective: float) -> Settings:
    return Settings(
        path=folder / "plan.yml", company=Company("Example"), as_of=AS_OF, data={},
        plan=PlanPeriod(dt.date(2026, 7, 1), dt.date(2027, 6, 30)), economics=Economics("contractual", 0.35),
        targets=Targets(objective=Objective(**{"acquire": 0.0, **objective}) if objective else Objective()),
    )  # fmt: skip


def data_of(markets: pd.DataFrame, **tables: Any) -> MarketData:
    return MarketData(markets, pd.DataFrame(), pd.DataFrame(), **tables)


# --- causes -----------------------------------------------------------------------------------------------------------


def gap_world(seed: int, m: int = 400, price: float = 0.0, rivals: float = 0.0, features: bool = False) -> Any:
    """Markets whose unexplained part of the potential grows with price and rivals by known amounts."""
    rng = np.random.default_rng(seed)
    potential = rng.lognormal(6, 0.7, m)
    p, r = rng.normal(1, 0.1, m), rng.poisson(3, m).astype(float)
    known = [rng.normal(size=m), *([(p - 1) / 0.1] if features else [])]
    design = SimpleNamespace(n=potential * 0.6, size=np.full(m, 1000.0), family=BINOMIAL, lever_names=("reps", "spend"),
                             feature_names=("f0", "price_index")[: 1 + features],
                             levers=rng.uniform(0, 1, (m, 2)), features=np.column_stack(known))  # fmt: skip
    true = {PRICE: potential * price * np.maximum(p - np.quantile(p, 0.1), 0) / 0.1,
            RIVALS: potential * rivals * np.maximum(np.log1p(r) - np.log1p(np.quantile(r, 0.1)), 0)}  # fmt: skip
    rest = sum(true.values()) + potential * np.maximum(0.12 + rng.normal(0, 0.05, m), 0)
    parts = np.column_stack([rng.uniform(0.1, 0.3, (m, 2)), np.ones(m)])
    parts[:, 2] -= parts[:, :2].sum(axis=1)
    headroom = rest / parts[:, 2]
    markets = pd.DataFrame({"market_id": [f"m{i:03d}" for i in range(m)], "addressable_customers": 1000.0,
                            "price_index": p, "competitor_stores": r})  # fmt: skip
    found = decompose(data_of(markets), design, parts, headroom, potential, potential * 0.6, np.zeros(m, int))  # type: ignore[arg-type]
    np.testing.assert_allclose(found.customers.sum(axis=1), headroom)
    assert (found.customers >= 0).all().all()
    np.testing.assert_allclose(found.of(COVERAGE), parts[:, 0] * headroom)
    np.testing.assert_allclose(found.of(SPEND), parts[:, 1] * headroom)
    return found, true


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_price_and_rivals_cost_is_found(seed):
    found, true = gap_world(seed, price=0.03, rivals=0.05)
    for cause in (PRICE, RIVALS):
        assert found.evidence[cause]["used"]
        assert found.of(cause).sum() == pytest.approx(true[cause].sum(), rel=0.3)
        assert np.corrcoef(found.of(cause), true[cause])[0, 1] > 0.9


def test_a_cause_that_is_none_is_seldom_named_and_a_feature_never():
    named = [gap_world(seed)[0].evidence for seed in range(100, 140)]
    assert np.mean([n[PRICE]["used"] for n in named] + [n[RIVALS]["used"] for n in named]) <= 0.08
    found, _ = gap_world(4, price=0.03, features=True)
    assert not found.evidence[PRICE]["used"]
    assert "among the features" in found.evidence[PRICE]["reason"]
    assert found.of(PRICE).sum() == 0


def test_rivals_hold_the_buyers_beyond_what_is_usual_where_sizes_are_known():
    m = 40
    markets = pd.DataFrame({"market_id": [f"m{i:02d}" for i in range(m)], "addressable_customers": 1000.0,
                            "market_customers": np.r_[np.full(m - 2, 400.0), 600.0, 500.0]})  # fmt: skip
    design: Any = SimpleNamespace(n=np.full(m, 100.0), size=np.full(m, 400.0), family=BINOMIAL, lever_names=(),
                                  feature_names=(), levers=np.empty((m, 0)), features=np.empty((m, 0)))  # fmt: skip
    now, headroom = np.full(m, 100.0), np.full(m, 150.0)
    found = decompose(data_of(markets), design, np.ones((m, 1)), headroom, now + headroom, now, np.zeros(m, int))
    np.testing.assert_allclose(found.of(RIVALS), np.r_[np.zeros(m - 2), 150.0, 100.0])
    assert found.largest() == [UNEXPLAINED] * (m - 2) + [RIVALS, RIVALS]
    table = found.table(markets["market_id"], np.full(m, 2.0), np.arange(m) == m - 1)
    assert set(table.loc[table["cause"] == RIVALS, "kind"]) == {"structural"}
    np.testing.assert_allclose(table["value"], 2 * table["customers"])


def test_prices_are_compared_product_by_product():
    products = pd.DataFrame(
        [["a", "x", 1000, 1000.0, 1000.0], ["a", "y", 1000, 1000.0, 9000.0], ["b", "x", 3000, 3000.0, 3000.0],
         ["c", "x", 3000, 3000.0, 4500.0]], columns=["market_id", "product", "customers", "purchases", "revenue"],
    )  # fmt: skip
    found = price_of_products(data_of(pd.DataFrame(), products=products), pd.Series(["a", "b", "c", "none"]))
    usual = (1000 + 3000 + 4500) / 7000
    wanted = np.array([10000 / (1000 * usual + 9000), 1 / usual, 1.5 / usual, 1.0])
    np.testing.assert_allclose(found, wanted, rtol=0.02)  # not that market a, with its dear product y, is dear
    assert price_of_products(data_of(pd.DataFrame()), pd.Series(["a"])) is None


# --- indices and pooling ----------------------------------------------------------------------------------------------


def test_development_indices_are_the_standard_ones():
    n = np.array([2000.0, 1000.0, 1000.0])
    markets = pd.DataFrame({"market_id": list("abc"), "addressable_customers": [10_000.0, 10_000, 20_000],
                            "market_customers": [5_000.0, 2_000, 5_000]})  # fmt: skip
    design: Any = SimpleNamespace(
        n=n, size=markets["addressable_customers"].to_numpy(), size_source="addressable_customers"
    )
    found = development(markets, design, np.zeros(3, int))
    np.testing.assert_allclose(found.brand, [200, 100, 50], rtol=0.02)  # BDI, hardly pooled
    np.testing.assert_allclose(found.category, 100 * np.array([0.5, 0.2, 0.25]) / 0.3)
    assert found.source == "addressable_customers"
    few = development(
        markets / 1000 if False else markets, SimpleNamespace(**{**vars(design), "n": n / 500}), np.zeros(3, int)
    )  # type: ignore[arg-type]
    assert np.ptp(few.brand) < 60  # four, two and two customers say little
    unknown = markets.assign(addressable_customers=np.nan, market_customers=np.nan)
    design.size_source, design.size = "none", np.array([1000.0, 1000.0, 2000.0])
    peers = development(unknown, design, np.zeros(3, int))
    assert peers.source == "peers"
    np.testing.assert_allclose(peers.brand, [200, 100, 50], rtol=0.02)
    assert np.isnan(peers.category).all()


@pytest.mark.parametrize("seed", [11, 12])
def test_pooling_beats_the_raw_numbers_and_their_mean(seed):
    rng = np.random.default_rng(seed)
    n = rng.integers(3, 60, 400).astype(float)
    rate = rng.gamma(16, 1 / 16, 400)
    count = rng.poisson(10 * rate * n / n.mean()).astype(float)
    share = rng.beta(8, 24, 400)
    part = rng.binomial(n.astype(int), share).astype(float)
    level = rng.normal(100, 15, 400)
    each = [rng.normal(mu, 40, int(k)) for mu, k in zip(level, n, strict=True)]
    total, squares = np.array([e.sum() for e in each]), np.array([(e**2).sum() for e in each])
    for found, raw, true in (
        (pooled_ratio(count, 10 * n / n.mean()), count / (10 * n / n.mean()), rate),
        (pooled_share(part, n), part / n, share),
        (pooled_mean(total, squares, n), total / n, level),
    ):
        error = np.sqrt(((found - true) ** 2).mean())
        assert error < 0.85 * np.sqrt(((raw - true) ** 2).mean())
        assert error < 0.85 * true.std()
    alike = pooled_share(rng.binomial(20, 0.3, 300).astype(float), np.full(300, 20.0))
    assert np.std(alike) < 0.02  # nothing differs: one level


# --- objectives -------------------------------------------------------------------------------------------------------


def account_world(m=60, seed=5):
    """Two peer groups; markets of the first half of each spend a fifth less and lose twice as many."""
    rng = np.random.default_rng(seed)
    ids = pd.Series([f"m{i:02d}" for i in range(m)])
    member, weak = np.repeat([0, 1], m // 2), np.arange(m) % 2 == 0
    n = np.full(m, 400.0)
    spend = np.where(member == 0, 300.0, 600.0) * np.where(weak, 0.8, 1.0)
    lost = np.where(weak, 0.3, 0.15)
    accounts = pd.DataFrame({"market_id": ids, "segment": "all", "customers": n, "revenue": n * spend,
                             "revenue_squares": n * (spend**2 + 50.0**2), "products": n, "before": n,
                             "lost": rng.binomial(400, lost).astype(float), "lost_over_days": 365.0})  # fmt: skip
    scores = pd.DataFrame(
        {"market_id": ids, "customers": n, "headroom": 100.0, "clv": spend, "new_customer_clv": 130.0}
    )
    return scores, accounts, member, weak


def test_objectives_are_worth_what_they_bring():
    scores, accounts, member, weak = account_world()
    data = data_of(pd.DataFrame(), accounts=accounts)
    found = opportunities(scores, data, np.full(60, 400.0), member, settings())
    assert found.weighted is found.money["acquire"]  # to the last bit
    np.testing.assert_allclose(found.money["acquire"], 13_000)
    # a customer is worth a year's revenue here: the gap to the peers is the money
    np.testing.assert_allclose(found.money["deepen"][weak], 400 * np.where(member == 0, 60, 120)[weak], rtol=0.05)
    assert found.money["deepen"][~weak].max() < 0.05 * found.money["deepen"][weak].min()
    at_risk = 400 * np.where(weak, 0.3, 0.15) * scores["clv"]
    assert found.money["retain"].sum() == pytest.approx(at_risk.sum(), rel=0.05)
    assert np.corrcoef(found.money["retain"], at_risk)[0, 1] > 0.95
    mixed = opportunities(scores, data, np.full(60, 400.0), member, settings(acquire=1.0, retain=0.5))
    np.testing.assert_allclose(mixed.weighted, found.money["acquire"] + 0.5 * found.money["retain"])
    first = np.where(found.money["acquire"] >= 0.5 * found.money["retain"], "acquire", "retain")
    assert mixed.dominating == first.tolist()
    assert set(mixed.dominating) == {"acquire", "retain"}


def test_a_market_of_few_firms_is_not_taken_for_one_that_sells_them_little():
    ids = pd.Series([f"m{i:02d}" for i in range(40)])
    firms = np.linspace(20, 200, 40)
    parts = [
        pd.DataFrame({"market_id": ids, "segment": s, "customers": n, "revenue": each * n, "products": n, "before": n,
                      "revenue_squares": n * each**2 * 1.01, "lost": 0.1 * n, "lost_over_days": 365.0})
        for s, n, each in (("firms", firms, 1000.0), ("people", 400 - firms, 100.0))
    ]  # fmt: skip
    scores = pd.DataFrame(
        {"market_id": ids, "customers": 400.0, "headroom": 1.0, "clv": 100.0, "new_customer_clv": 1.0}
    )
    facts = {"segmentation": {"source": "company"}}
    data = data_of(pd.DataFrame(), accounts=pd.concat(parts), facts=facts)
    found = opportunities(scores, data, np.full(40, 400.0), np.zeros(40, int), settings())
    assert found.money["deepen"].sum() < 1e-6 * found.money["retain"].sum()
    # segments that are made from what customers buy would hide every gap: they are not told apart
    derived = data_of(pd.DataFrame(), accounts=pd.concat(parts), facts={"segmentation": {"source": "derived"}})
    found = opportunities(scores, derived, np.full(40, 400.0), np.zeros(40, int), settings())
    assert found.money["deepen"].sum() > found.money["retain"].sum()


def test_products_are_sold_to_those_whose_peers_hold_them():
    scores, accounts, member, weak = account_world()
    held = [(m, p, 400.0 * share) for i, m in enumerate(scores["market_id"])
            for p, share in (("base", 1.0), ("extra", 0.2 if weak[i] else 0.5))]  # fmt: skip
    products = pd.DataFrame(held, columns=["market_id", "product", "customers"])
    products = products.assign(segment="all", purchases=products["customers"], revenue=100 * products["customers"])
    accounts["products"] = accounts["market_id"].map(products.groupby("market_id")["customers"].sum())
    data = data_of(pd.DataFrame(), accounts=accounts, products=products)
    found = opportunities(scores, data, np.full(60, 400.0), member, settings())
    assert found.numbers["deepen"]["by"] == "product"
    assert found.numbers["deepen"]["products"][0]["product"] == "extra"
    assert [o for o, w in zip(found.cross_sell or [], weak, strict=True) if w] == ["extra"] * 30
    np.testing.assert_allclose(found.money["deepen"][weak], 400 * 0.3 * 100, rtol=0.1)


def test_what_the_data_can_not_measure_is_left_out_and_said():
    scores, _, member, _ = account_world()
    found = opportunities(scores, data_of(pd.DataFrame()), np.full(60, 400.0), member, settings(retain=1.0))
    assert found.left_out == ("retain",)
    assert dict(found.weights) == {"acquire": 1.0}
    np.testing.assert_array_equal(found.weighted, found.money["acquire"])


def test_money_of_a_small_group_tells_nothing_of_its_people():
    scores, accounts, member, _ = account_world()
    data = data_of(pd.DataFrame(), accounts=accounts)
    expected = np.full(60, 5.0)
    a = opportunities(scores.assign(customers=3.0), data, expected, member, settings())
    b = opportunities(scores.assign(customers=7.0), data, expected, member, settings())
    np.testing.assert_array_equal(a.money["retain"], b.money["retain"])


def plan_file(folder: Path, relationship: str, **tables: pd.DataFrame) -> Path:
    lines = [f"  {name}: {name}.csv" for name in tables]
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    (folder / "plan.yml").write_text(
        "company: {name: A}\nas_of: 2026-06-30\nplan: {start: 2026-07-01, end: 2027-06-30}\n"
        f"economics: {{relationship: {relationship}, margin_rate: 0.4}}\ndata:\n" + "\n".join(lines) + "\n"
    )
    return folder / "plan.yml"


def test_accounts_count_what_customers_hold_spend_and_who_left(tmp_path):
    markets = pd.DataFrame({"market_id": ["a", "b"]})
    customers = pd.DataFrame({"customer_id": ["1", "2", "3", "4"], "market_id": ["a", "a", "a", "b"]})
    bought = pd.DataFrame(
        [["1", "2026-01-05", 10, "x"], ["1", "2026-02-05", 30, "y"], ["1", "2024-09-01", 5, "x"],
         ["2", "2025-01-01", 7, "x"], ["3", "2026-06-30", 20, "x"], ["3", "2026-06-30", -5, "y"],
         ["4", "2023-01-01", 9, "y"]],
        columns=["customer_id", "date", "amount", "product"],
    )  # fmt: skip
    with open_dataset(read_settings(plan_file(tmp_path, "non-contractual", markets=markets, customers=customers,
                                              transactions=bought))) as dataset:  # fmt: skip
        data = summarise(dataset)
    assert data.accounts is not None
    row = data.accounts.set_index("market_id").loc["a"]
    assert row[["customers", "revenue", "revenue_squares", "products"]].tolist() == [2, 60, 2000, 3]
    assert row[["before", "lost"]].tolist() == [2, 1]  # 1 still buys, 2 is gone
    assert data.accounts.set_index("market_id").loc["b", ["customers", "before", "lost"]].tolist() == [0, 0, 0]
    assert data.products is not None
    assert data.products.to_numpy().tolist() == [["a", "All", "x", 2, 2, 30], ["a", "All", "y", 1, 1, 30]]


def test_accounts_of_contracts(tmp_path):
    markets = pd.DataFrame({"market_id": ["a"]})
    customers = pd.DataFrame({"customer_id": ["1", "2", "3"], "market_id": "a"})
    held = pd.DataFrame(
        [["1", "2024-01-01", None, 10.0], ["1", "2026-01-01", None, 5.0], ["2", "2024-01-01", "2026-03-31", 8.0],
         ["3", "2026-05-01", None, 4.0]], columns=["customer_id", "started_on", "ended_on", "monthly_value"],
    )  # fmt: skip
    with open_dataset(read_settings(plan_file(tmp_path, "contractual", markets=markets, customers=customers,
                                              subscriptions=held))) as dataset:  # fmt: skip
        data = summarise(dataset)
    assert data.accounts is not None
    row = data.accounts.iloc[0]
    assert row[["customers", "revenue", "before", "lost"]].tolist() == [2, 228, 2, 1]
    assert np.isnan(row["products"])
    assert data.products is None


# --- the stage --------------------------------------------------------------------------------------------------------


def little_world(m=60):
    rng = np.random.default_rng(9)
    people = rng.lognormal(7, 0.5, m).round() + 50
    income = rng.normal(0, 1, m)
    rate = 1 / (1 + np.exp(2 - 0.6 * income))
    ids = [f"m{i:02d}" for i in range(m)]
    markets = pd.DataFrame({"market_id": ids, "addressable_customers": people, "income": income,
                            "customers": rng.binomial(people.astype(int), rate)})  # fmt: skip
    value = pd.DataFrame({"market_id": ids, **dict.fromkeys(("clv", "clv_low", "clv_high", "new_customer_clv"), 100.0)})
    value["customer_equity"] = 100.0 * markets["customers"]
    return data_of(markets, features=("income",)), value


def note(market: str, kind: str, author: str = "Lin", **more: Any) -> dict[str, Any]:
    return {"market_id": market, "kind": kind, "author": author, "date": "2026-06-01", "reason": "we know",
            "low": np.nan, "high": np.nan, "expires_on": None, "play": None, **more}  # fmt: skip


def test_field_notes_set_plays_and_block_markets_until_they_expire():
    data, value = little_world()
    plain = estimate_potential(data, value, settings())
    notes = pd.DataFrame([
        note("m00", "play", play="maintain "), note("m01", "play", reason="Maintain"), note("m02", "play"),
        note("m03", "play", play="Mantain"), note("m04", "blocked", expires_on="2027-01-01"),
        note("m05", "blocked", expires_on="2026-06-29"), note("zz", "blocked"), note("m06", "play", play="Maintain",
                                                                                      expires_on="2026-01-01"),
    ])  # fmt: skip
    result = estimate_potential(data, value, settings(), notes)
    plays, before = (r.scores.set_index("market_id")["play"] for r in (result, plain))
    assert plays[["m00", "m01"]].tolist() == ["Maintain", "Maintain"]
    assert plays["m04"].startswith("Wait")
    rest = plays.index.difference(["m00", "m01", "m04"])
    assert (plays[rest] == before[rest]).all()
    kinds = result.causes.set_index("market_id")["kind"]
    assert set(kinds["m04"] if isinstance(kinds["m04"], pd.Series) else [kinds["m04"]]) == {"structural"}
    said = [(a.text, a.source) for a in result.notes.assumptions]
    assert ("m04: nothing is started and its money stays as it is, on the word of Lin: we know, until 2027-01-01",
            "field note by Lin") in said  # fmt: skip
    assert any(t.startswith("m02: the field says") for t, _ in said)
    assert any("did you mean Maintain?" in w and "m03" in w for w in result.notes.warnings)
    told = {(n["market_id"], n["kind"]): n for n in result.notes.numbers["field_notes"]}
    assert set(told) == {("m00", "play"), ("m01", "play"), ("m04", "blocked")}
    assert told["m04", "blocked"]["expires_on"] == "2027-01-01"
    shuffled = estimate_potential(data, value, settings(), notes.iloc[::-1])
    pd.testing.assert_frame_equal(shuffled.scores, result.scores)


def test_own_plays_for_a_peer_group_and_the_notes_on_groups_that_are_gone(tmp_path):
    data, value = little_world()
    group = estimate_potential(data, value, settings()).scores["peer_group"].iloc[0]
    words = "what: do it, who: me, measure: it"
    (tmp_path / "plays.yml").write_text(
        f'plays:\n- {{title: any, {words}}}\n- {{title: here, peer_group: "{group}", {words}}}\n'
        f"- {{title: nowhere, peer_group: Atlantis, {words}}}\n"
    )
    result = estimate_potential(data, value, settings(tmp_path))
    here = result.scores["peer_group"] == group
    assert set(result.scores.loc[here, "play"]) == {"here"}
    assert set(result.scores.loc[~here, "play"]) == {"any"}
    assert any("Atlantis" in w and group in w for w in result.notes.warnings)


def test_the_objective_changes_money_and_plays_not_headroom():
    data, value = little_world()
    n = data.markets["customers"].to_numpy(float)
    accounts = pd.DataFrame({"market_id": data.markets["market_id"], "segment": "all", "customers": n,
                             "revenue": 100 * n, "revenue_squares": 10_000 * n, "products": n, "before": n,
                             "lost": np.round(n / 4), "lost_over_days": 365.0})  # fmt: skip
    data = data_of(data.markets, features=data.features, accounts=accounts)
    plain = estimate_potential(data, value, settings()).scores
    np.testing.assert_array_equal(plain["opportunity"], plain["headroom"] * plain["new_customer_clv"])
    assert "objective" not in plain
    result = estimate_potential(data, value, settings(retain=1.0))
    kept = ["potential_customers", "headroom", "quadrant", "cause", "peer_group", "opportunity_acquire"]
    pd.testing.assert_frame_equal(result.scores[kept], plain[kept])
    np.testing.assert_array_equal(result.scores["opportunity"], result.scores["opportunity_retain"])
    assert result.scores["opportunity_share"].sum() == pytest.approx(1)
    assert set(result.scores["play"]) == {"Keep: save customers at risk"}
    assert any("customers kept" in a.text and "budget and targets stay" in a.text for a in result.notes.assumptions)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [("retain", Objective(0, 0, 1)), ("{deepen: 0.5, acquire: 1}", Objective(1, 0.5, 0)), ("", Objective())],
)
def test_the_objective_is_a_word_or_weights(tmp_path, given, wanted):
    base = Path(plan_file(tmp_path, "non-contractual", markets=pd.DataFrame(), customers=pd.DataFrame(),
                          transactions=pd.DataFrame()))  # fmt: skip
    base.write_text(base.read_text() + f"targets: {{objective: {given}}}\n")
    assert read_settings(base).targets.objective == wanted


@pytest.mark.parametrize(
    ("given", "said"),
    [("retainn", "did you mean retain?"), ("{acquire: 2}", "from 0 to 1"), ("{acquire: 0}", "above 0"),
     ("{grow: 1}", "acquire"), ("[acquire]", "mapping")],
)  # fmt: skip
def test_a_wrong_objective_is_named(tmp_path, given, said):
    base = Path(plan_file(tmp_path, "non-contractual", markets=pd.DataFrame(), customers=pd.DataFrame(),
                          transactions=pd.DataFrame()))  # fmt: skip
    base.write_text(base.read_text() + f"targets: {{objective: {given}}}\nprevious_run: not/there\n")
    with pytest.raises(Exception, match=r"targets\.objective") as error:
        read_settings(base)
    assert said in str(error.value)
    assert "previous_run" in str(error.value)
