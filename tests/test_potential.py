"""Potential on worlds with known truth, on hard cases, and on Brazil's municipalities."""

from __future__ import annotations

import dataclasses
import datetime as dt
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from scipy.stats import spearmanr

from micromarket.config import Company, Economics, PlanPeriod, Settings
from micromarket.market_data import MarketData
from micromarket.potential import CountFrontier, estimate_potential
from micromarket.potential.families import BINOMIAL, POISSON
from micromarket.potential.plays import play_library
from micromarket.workspace import Workspace

SETTINGS = Settings(
    path=Path("nowhere/plan.yml"), company=Company("Example"), as_of=dt.date(2026, 6, 30), data={},
    plan=PlanPeriod(dt.date(2026, 7, 1), dt.date(2027, 6, 30)), economics=Economics("contractual", 0.35),
)  # fmt: skip


GAPS = ["coverage_gap", "spend_gap", "price_gap", "rivals_gap", "unexplained_gap"]


def rho(a, b) -> float:
    return float(spearmanr(a, b).statistic)


def world(m=1000, seed=0, one_sided=0.35, noise=0.1, buyers=8.0, follow=0.6):
    """Markets whose potential is nonlinear in five spatially correlated features, held back by too few reps, too little
    spend and a half-normal rest; levers follow attractiveness; counts are binomial."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0, 300, (2, m))

    def field(scale):
        centre, height = rng.uniform(0, 300, (40, 2)), rng.normal(size=40)
        near = np.exp(-((x[:, None] - centre[:, 0]) ** 2 + (y[:, None] - centre[:, 1]) ** 2) / (2 * scale**2))
        return (near @ height - (near @ height).mean()) / ((near @ height).std() + 1e-9)

    z = np.column_stack([0.7 * field(60) + 0.7 * rng.normal(size=m) for _ in range(5)])
    attract = 0.6 * np.tanh(z[:, 0]) + 0.35 * z[:, 1] - 0.1 * z[:, 1] ** 2 + 0.35 * z[:, 0] * (z[:, 2] > 0)
    people = np.round(rng.lognormal(buyers, 0.8, m)) + 50
    reps, spend = np.exp(0.5 * follow * attract[:, None] + rng.normal(0, [0.5, 0.6], (m, 2))).T
    gap = np.zeros(m)
    for lever, effect in ((reps, 1.2), (spend, 1.0)):
        best = np.quantile(lever, 0.9)
        gap += effect * np.maximum(best / (1 + best) - lever / (1 + lever), 0)
    eta = -2 + attract + rng.normal(0, noise, m)
    now = people * expit(eta - gap - np.abs(rng.normal(0, one_sided, m)))
    ids = [f"m{i:05d}" for i in range(m)]
    markets = pd.DataFrame({
        "market_id": ids, "name": ids, "region": "all", "addressable_customers": people, "market_customers": np.nan,
        "customers": rng.binomial(people.astype(int), now / people), "reps": reps * people / 3000, "x_km": x, "y_km": y,
        "area_km2": 1.0, **{f"f{i}": z[:, i] for i in range(5)},
    })  # fmt: skip
    current = pd.DataFrame({"market_id": ids, "channel": "all", "current": spend * people * 2})
    data = MarketData(markets, None, None, current=current, features=tuple(f"f{i}" for i in range(5)))  # type: ignore[arg-type]
    potential = people * expit(eta)
    return data, pd.DataFrame({"potential": potential, "headroom": potential - now, "people": people})


def values(data, seed=0) -> pd.DataFrame:
    clv = np.random.default_rng(seed).lognormal(5, 0.3, len(data.markets))
    return pd.DataFrame({"market_id": data.markets["market_id"], "clv": clv, "clv_low": 0.8 * clv,
                         "clv_high": 1.2 * clv, "new_customer_clv": clv, "customer_equity": 10 * clv})  # fmt: skip


def estimate(data, notes=None):
    return estimate_potential(data, values(data), SETTINGS, notes)


def changed(data, **columns):
    return dataclasses.replace(data, markets=data.markets.assign(**columns))


def sound(result) -> None:
    """What must hold for every input."""
    s = result.scores
    numbers = ["potential_customers", "potential_low", "potential_high", "headroom", "headroom_low", "headroom_high",
               "opportunity", "opportunity_share", *GAPS]  # fmt: skip
    assert np.isfinite(s[numbers].to_numpy()).all()
    assert (s["headroom"] >= 0).all()
    assert (s["potential_low"] <= s["potential_customers"]).all()
    assert (s["potential_customers"] <= s["potential_high"]).all()
    assert s["opportunity_share"].sum() == pytest.approx(1)
    np.testing.assert_allclose(s[GAPS].sum(axis=1), s["headroom"])
    assert all(c.passed for c in result.notes.checks), result.notes.checks
    assert s["play"].isin(play_library()).all()


@pytest.fixture(scope="module")
def base():
    data, truth = world()
    return data, truth, estimate(data)


def test_ranks_of_potential_and_headroom_are_recovered(base):
    data, truth, result = base
    sound(result)
    scores, people = result.scores, truth["people"]
    rate = data.markets["customers"] / people
    z = data.markets[list(data.features)].to_numpy()
    line = np.column_stack([np.ones(len(z)), z])
    linear = np.maximum(people * (line @ np.linalg.lstsq(line, rate, rcond=None)[0]) - data.markets["customers"], 0)
    nearest = np.argsort(((z[:, None] - z[None]) ** 2).sum(axis=2), axis=1)[:, 1:41]
    peers = np.maximum(people * np.quantile(rate.to_numpy()[nearest], 0.8, axis=1) - data.markets["customers"], 0)
    assert rho(scores["potential_customers"], truth["potential"]) > 0.95
    assert rho(scores["potential_customers"] / people, truth["potential"] / people) > 0.9
    ours = rho(scores["headroom"], truth["headroom"])
    assert ours > 0.9
    assert ours > rho(peers, truth["headroom"]) + 0.2
    assert ours > rho(linear, truth["headroom"]) + 0.4
    per_head = rho(scores["headroom"] / people, truth["headroom"] / people)
    assert per_head > rho(peers / people, truth["headroom"] / people) + 0.2
    assert scores["potential_customers"].sum() == pytest.approx(truth["potential"].sum(), rel=0.15)


def test_intervals_hold_the_truth_about_as_often_as_they_say(base):
    _, truth, result = base
    s = result.scores
    assert ((s["potential_low"] <= truth["potential"]) & (truth["potential"] <= s["potential_high"])).mean() >= 0.85
    assert ((s["headroom_low"] <= truth["headroom"]) & (truth["headroom"] <= s["headroom_high"])).mean() >= 0.85
    wide = (s["potential_high"] - s["potential_low"]) / s["potential_customers"]
    assert wide.median() < 1.0


def test_headroom_does_not_take_a_bad_year_for_opportunity():
    """Two samples of the same world: headroom by subtraction follows the noise of the counts, ours does not."""
    data, truth = world(m=400, buyers=5.0)
    scores = estimate(data).scores
    naive = np.maximum(scores["potential_customers"] - scores["customers"], 0)
    assert rho(scores["headroom"] / truth["people"], truth["headroom"] / truth["people"]) > rho(
        naive / truth["people"], truth["headroom"] / truth["people"]
    )


def test_the_same_input_gives_the_same_scores_in_any_row_order(base):
    data, _, _ = base
    small = dataclasses.replace(data, markets=data.markets.head(160))
    mixed = dataclasses.replace(small, markets=small.markets.sample(frac=1, random_state=1))
    value = values(small)
    first = estimate_potential(small, value, SETTINGS)
    pd.testing.assert_frame_equal(first.scores, estimate_potential(mixed, value, SETTINGS).scores)


def test_notes_say_what_is_known_and_what_is_assumed(base, tmp_path):
    _, _, result = base
    numbers = result.notes.numbers
    assert numbers["signal"]["verdict"] == "clear"
    assert numbers["level_known"] is False
    assert numbers["headroom"] == pytest.approx(result.scores["headroom"].sum())
    top = result.scores["opportunity"].nlargest(200).sum() / result.scores["opportunity"].sum()
    assert numbers["opportunity_share_top_fifth"] == pytest.approx(top)
    said = " ".join(a.text for a in result.notes.assumptions)
    assert "sales reps" in said
    assert "Audit" in said
    workspace = Workspace(tmp_path)
    result.write(workspace)
    assert len(workspace.read("scores")) == len(result.scores)
    assert workspace.notes("potential").numbers["method"] == numbers["method"]


def test_features_without_meaning_support_no_ranking():
    rng = np.random.default_rng(3)
    people = rng.lognormal(7, 0.5, 300).round()
    markets = pd.DataFrame({"market_id": [f"m{i:03d}" for i in range(300)], "addressable_customers": people,
                            "customers": rng.binomial(people.astype(int), 0.1),
                            "noise": rng.normal(size=300)})  # fmt: skip
    data: Any = MarketData(markets, None, None, features=("noise",))  # type: ignore[arg-type]
    result = estimate(data)
    sound(result)
    assert result.notes.numbers["signal"]["verdict"] == "none"
    assert any("not supported" in w for w in result.notes.warnings)
    rate = result.scores["potential_customers"] / people
    assert rate.std() / rate.mean() < 0.05  # nothing but count noise differs: shrunk to one level


def test_market_size_bounds_potential_and_gives_share():
    data, truth = world(m=140)
    size = np.maximum(0.5 * truth["people"], data.markets["customers"] + 1).round()
    result = estimate(changed(data, market_customers=size.to_numpy()))
    sound(result)
    assert (result.scores["potential_customers"] <= size + 1e-6).all()
    np.testing.assert_allclose(result.scores["share"], data.markets["customers"] / size)


CASES = {
    "no features": lambda d: dataclasses.replace(d, features=()),
    "no levers": lambda d: dataclasses.replace(changed(d, reps=np.nan), current=None),
    "no geometry": lambda d: changed(d, x_km=np.nan, y_km=np.nan),
    "no sizes": lambda d: changed(d, addressable_customers=np.nan),
    "nothing at all": lambda d: dataclasses.replace(
        changed(d, reps=np.nan, addressable_customers=np.nan), features=(), current=None
    ),
    "holes, constants, infinities": lambda d: dataclasses.replace(
        changed(d, f0=d.markets["f0"].where(d.markets.index % 3 > 0), flat=1.0, void=np.nan,
                wild=np.where(d.markets.index % 50 == 0, np.inf, d.markets["f1"] ** 3)),
        features=(*d.features, "flat", "void", "wild", "absent"),
    ),
    "no customers": lambda d: changed(d, customers=0),
    "every buyer is a customer": lambda d: changed(d, customers=d.markets["addressable_customers"]),
    "more customers than buyers": lambda d: changed(d, customers=3 * d.markets["addressable_customers"]),
    "one market": lambda d: dataclasses.replace(d, markets=d.markets.head(1)),
    "three markets": lambda d: dataclasses.replace(d, markets=d.markets.head(3)),
    "twenty markets": lambda d: dataclasses.replace(d, markets=d.markets.head(20)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_hard_cases_give_sound_shrunk_answers(case):
    data, _ = world(m=150)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sound(estimate(CASES[case](data)))


def test_field_notes_move_potential_within_the_cap_until_they_expire():
    data, _ = world(m=60)
    plain = estimate(data).scores.set_index("market_id")["potential_customers"]
    ids = plain.index[:4]
    notes = pd.DataFrame({
        "market_id": [*ids, "unknown", ids[0]], "author": "Lin", "kind": ["potential"] * 5 + ["blocked"],
        "date": "2026-06-01", "reason": ["mall closes", "new estate", "old news", "fits already", "x", "y"],
        "low": [np.nan, plain[ids[1]] * 3, np.nan, plain[ids[3]] * 0.5, 1, 1],
        "high": [plain[ids[0]] * 0.9, np.nan, 1, plain[ids[3]] * 1.5, 2, 2],
        "expires_on": ["2027-01-01", None, "2026-06-29", "2027-01-01", None, None],
    })  # fmt: skip
    result = estimate(data, notes)
    sound(result)
    moved = result.scores.set_index("market_id")["potential_customers"] / plain
    floor = (plain - estimate(data).scores.set_index("market_id")["headroom"]) / plain
    assert moved[ids[0]] == pytest.approx(max(0.9, floor[ids[0]]))
    assert 1 < moved[ids[1]] <= 1.25 + 1e-9
    assert moved[[ids[2], ids[3]]].tolist() == [1, 1]
    assert (moved.drop(ids) == 1).all()
    said = [a.text for a in result.notes.assumptions if "Lin" in a.source]
    assert len(said) == 3  # two potentials, one blocked
    assert all(reason in " ".join(said) for reason in ("mall closes", "new estate", "y"))


@pytest.mark.parametrize("family", [BINOMIAL, POISSON])
@pytest.mark.parametrize(("sigma_u", "sigma_v"), [(0.6, 0.25), (0.0, 0.4)])
def test_the_frontier_finds_its_own_parameters(family, sigma_u, sigma_v):
    rng = np.random.default_rng(1)
    size = rng.lognormal(7, 1, 2000).round() if family.bounded else np.ones(2000)
    eta = rng.normal(-2.5, 0.7, 2000) if family.bounded else rng.normal(4, 1.2, 2000)
    u = np.abs(rng.normal(0, sigma_u, 2000))
    rate = family.rate(eta + rng.normal(0, sigma_v, 2000) - u)
    n = (rng.binomial(size.astype(int), rate) if family.bounded else rng.poisson(rate)).astype(float)
    model = CountFrontier(family).fit(n, size, eta)
    assert model.sigma_u_ == pytest.approx(sigma_u, abs=0.2)
    assert model.sigma_v_ == pytest.approx(sigma_v, abs=0.06)
    assert (model.skew_ == "one-sided") == (sigma_u > 0)


def test_the_wrong_skew_is_noticed():
    rng = np.random.default_rng(2)
    eta = np.full(1500, 5.0)
    n = rng.poisson(np.exp(eta + np.abs(rng.normal(0, 0.6, 1500)))).astype(float)
    model = CountFrontier(POISSON).fit(n, np.ones(1500), eta)
    assert model.skew_ == "wrong sign"
    assert model.sigma_u_ == 0


def brazil(folder: Path) -> MarketData:
    geo, olist = folder / "real" / "brazil_geo", folder / "real" / "olist"
    stats = pd.read_parquet(geo / "br_municipality_stats.parquet")
    place = pd.read_csv(geo / "olist_city_to_ibge.csv.gz", dtype={"ibge_code": "str"})
    people = pd.read_parquet(olist / "olist_customer_rfm.parquet")
    people = people.merge(place, left_on=["customer_city", "customer_state"], right_on=["city", "uf"])
    stats["customers"] = stats["ibge_code"].map(people["ibge_code"].str[:7].value_counts()).fillna(0)
    features = ["gdp_per_capita_2016_brl", "idhm_2010", "idhm_income_2010", "idhm_education_2010", "gini_2010",
                "urban_planned_pop_share_2010", "unemployment_10plus_2010", "illiteracy_10plus_2010",
                "higher_education_share_2010", "cars_per_inhabitant_2019"]  # fmt: skip
    markets = stats.rename(columns={"ibge_code": "market_id", "municipality": "name", "uf": "region"})
    markets["addressable_customers"] = markets["population_2017"]
    return MarketData(markets, None, None, features=tuple(features))  # type: ignore[arg-type]


@pytest.mark.slow
def test_brazil_held_out_states_are_predicted_better_than_by_income_alone(shared_data):
    """Without positions regions become the blocks: every state is predicted by models that never saw it."""
    data = brazil(shared_data)
    markets = data.markets[data.markets["population_2017"] > 20_000].reset_index(drop=True)
    data = dataclasses.replace(data, markets=markets)
    result = estimate(data)
    sound(result)
    penetration = markets["customers"] / markets["population_2017"]
    income = rho(penetration, markets["gdp_per_capita_2016_brl"])
    assert income == pytest.approx(0.72, abs=0.02)
    assert result.notes.numbers["signal"]["verdict"] == "clear"
    assert result.notes.numbers["rank_skill"] > income + 0.08


def test_the_same_count_in_markets_of_every_size_supports_no_ranking() -> None:
    """As in a file where customers were dealt out evenly over zip codes: penetration only mirrors 1 / population."""
    rng = np.random.default_rng(3)
    n = 200
    size = np.exp(rng.normal(9, 1, n)).round()
    markets = pd.DataFrame(
        {
            "market_id": [f"m{i:03d}" for i in range(n)],
            "addressable_customers": size,
            "market_customers": np.nan,
            "customers": rng.integers(4, 6, n).astype(float),
            "density": np.log(size) + rng.normal(0, 0.3, n),
            "x_km": rng.uniform(0, 100, n),
            "y_km": rng.uniform(0, 100, n),
        }
    )
    data = MarketData(markets, pd.DataFrame(), pd.DataFrame(), features=("density",))
    money = ("clv", "clv_low", "clv_high", "new_customer_clv", "customer_equity")
    value = pd.DataFrame({"market_id": markets["market_id"], **dict.fromkeys(money, 100.0)})
    assert estimate_potential(data, value, SETTINGS).notes.numbers["signal"]["verdict"] == "none"
    markets["customers"] = rng.poisson(0.01 * size).astype(float)
    assert "alike" not in estimate_potential(data, value, SETTINGS).notes.numbers["signal"]["text"]
