"""Levels, ranges, audits and neighbours of the potential stage on worlds with known truth."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import quad
from scipy.special import expit, logit
from scipy.stats import spearmanr

from micromarket.market_data import MarketData
from micromarket.potential.applicability import dissimilarity, outside_area
from micromarket.potential.composed import KINDS, Shape
from micromarket.potential.cross_check import agreement, peer_potential
from micromarket.potential.design import Design, build_design, lever_totals
from micromarket.potential.ensemble import DELTA, confounding, top_fifth
from micromarket.potential.estimate import Frontier, fit_frontier, predict_levels
from micromarket.potential.families import BINOMIAL
from micromarket.potential.frontier import CountFrontier
from micromarket.potential.residuals import hot_and_cold
from micromarket.potential.sizeless import expected_size
from micromarket.potential.spillover import mostly_neighbours


@dataclasses.dataclass(frozen=True)
class World:
    data: MarketData
    potential: np.ndarray
    now: np.ndarray
    lever_gap: np.ndarray


def world(m=400, seed=0, follow_hidden=0.0, follow=0.3, lever_effect=1.0, one_sided="exponential", stolen=0.0) -> World:
    """Two spatially smooth features, two levers, one hidden trait; markets on a map of 30 towns; ``stolen``: log-odds
    that a market loses per sd of what its five nearest spend."""
    rng = np.random.default_rng(seed)
    place = rng.uniform(0, 100, (30, 2))[rng.integers(30, size=m)] + rng.normal(0, 4, (m, 2))
    z = rng.normal(size=(m, 2)) + np.sin(place / 15)
    hidden = rng.normal(0, 0.2, m)
    people = np.round(rng.lognormal(8.5, 0.7, m))
    pull = follow * z[:, 0] + follow_hidden * hidden
    levers = np.exp(pull[:, None] + rng.normal(0, 0.5, (m, 2)))
    near = np.argsort(((place[:, None] - place[None]) ** 2).sum(axis=2), axis=1)[:, 1:6]
    around = levers[near, 1].mean(axis=1)
    best = np.maximum(levers, np.quantile(levers, 0.9, axis=0))
    missed = lever_effect * 0.5 * (np.log1p(best) - np.log1p(levers)).sum(axis=1)
    u = rng.exponential(0.3, m) if one_sided == "exponential" else np.abs(rng.normal(0, 0.35, m))
    at_best = -2 + 0.5 * np.tanh(z[:, 0]) + 0.2 * z[:, 1] + hidden - stolen * (around - around.mean()) / around.std()
    now = people * expit(at_best - missed - u)
    ids = [f"m{i:04d}" for i in range(m)]
    markets = pd.DataFrame({
        "market_id": ids, "addressable_customers": people, "customers": rng.binomial(people.astype(int), now / people),
        "reps": levers[:, 0] * people / 1e3, "x_km": place[:, 0], "y_km": place[:, 1], "f0": z[:, 0], "f1": z[:, 1],
    })  # fmt: skip
    current = pd.DataFrame({"market_id": ids, "channel": "all", "current": levers[:, 1] * people})
    none = pd.DataFrame()
    data = MarketData(markets, none, none, current=current, features=("f0", "f1"))
    return World(data, people * expit(at_best), now, missed)


def estimate(data: MarketData) -> tuple[Design, Frontier]:
    design = build_design(data, 1)
    return design, fit_frontier(design, predict_levels(design, 1), 1)


def held(truth, low, high) -> float:
    return float(np.mean((low <= truth) & (truth <= high)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.1, 0.8])
def test_composed_errors_have_the_moments_asked_for(kind, share):
    shape = Shape.of_moments(kind, share, mean=0.3, sd=0.4)

    def density(w: float, power: int) -> float:
        return w**power * float(np.exp(shape.log_density(np.array([w])))[0])

    total, first, second = (quad(density, -8, 4, args=(p,), points=[0.0], limit=200)[0] for p in (0, 1, 2))
    assert total == pytest.approx(1, abs=1e-6)
    assert first + shape.shift == pytest.approx(0.3, abs=1e-4)
    assert np.sqrt(second - first**2) == pytest.approx(0.4, abs=1e-4)
    rng = np.random.default_rng(1)
    w = -np.abs(rng.normal(0, 0.3, 20_000))
    mean, sd = shape.given_w(w[:1])
    drawn = shape.draw_u(rng, np.full(20_000, w[0]))
    direct = rng.normal(mean, sd, 200_000)
    assert drawn.mean() == pytest.approx(direct[direct > 0].mean(), rel=0.03)


@pytest.fixture(scope="module")
def plain() -> tuple[World, Frontier]:
    known = world()
    return known, estimate(known.data)[1]


def test_ranges_hold_the_truth_whatever_the_shape_of_the_shortfall():
    """All markets of a world share the error of its level: only over several worlds does coverage mean anything."""
    found = []
    for seed in range(6):
        known = world(m=200, seed=seed, one_sided=("exponential", "half-normal")[seed % 2])
        f = estimate(known.data)[1]
        headroom = known.potential - known.now
        found.append((held(known.potential, f.potential_low, f.potential_high),
                      held(headroom, f.headroom_low, f.headroom_high)))  # fmt: skip
    assert ((np.mean(found, axis=0) >= 0.82) & (np.mean(found, axis=0) <= 0.98)).all(), found


def test_the_probability_of_the_top_fifth_means_what_it_says(plain):
    known, found = plain
    headroom = known.potential - known.now
    top = headroom >= np.sort(headroom)[-80]
    assert found.top_fifth.sum() == pytest.approx(80)
    for low, high in ((0.0, 0.2), (0.2, 0.8), (0.8, 1.01)):
        here = (found.top_fifth >= low) & (found.top_fifth < high)
        assert top[here].mean() == pytest.approx(found.top_fifth[here].mean(), abs=0.15)


def test_levers_that_follow_hidden_demand_are_trusted_less():
    known = world(seed=1, m=300, follow_hidden=1.5)
    design = build_design(known.data, 1)
    levels = predict_levels(design, 1)
    model = CountFrontier(design.family).fit(design.n, design.size, levels.now)
    bias = confounding(levels, model.sd_w_**2)
    assert 0.05 < bias <= 1
    parts = [fit_frontier(design, dataclasses.replace(levels, selection=s), 1) for s in (0.0, levels.selection)]
    trusting, found = parts
    true = known.lever_gap.mean()
    assert levels.gap.mean() > 1.15 * true  # the bias is there
    assert abs(levels.gap.mean() * (1 - DELTA * bias) - true) < abs(levels.gap.mean() - true)
    assert found.potential.sum() < trusting.potential.sum()
    # levers given out by chance leave nothing to doubt
    chance = world(seed=1, m=300, follow_hidden=0.0, follow=0.0)
    other = predict_levels(build_design(chance.data, 1), 1)
    assert abs(confounding(other, model.sd_w_**2)) < 0.5 * bias


def test_audits_fix_the_level_and_narrow_the_ranges():
    known = world(seed=2, follow_hidden=1.5)
    rng = np.random.default_rng(5)
    audited = np.full(len(known.potential), np.nan)
    at = rng.choice(len(audited), 40, replace=False)
    audited[at] = known.potential[at] * np.exp(rng.normal(0, 0.05, 40))
    data = dataclasses.replace(
        known.data,
        markets=known.data.markets.assign(audited_potential=audited),
        features=("f0", "f1", "audited_potential"),
    )
    design, found = estimate(data)
    before = estimate(known.data)[1]
    assert not any("audited" in name for name in (*design.feature_names, *design.dropped))
    assert (found.audited, found.level_known, before.level_known) == (40, True, False)
    others = np.setdiff1d(np.arange(len(audited)), at)
    true = known.potential[others].sum()
    assert found.potential[others].sum() == pytest.approx(true, rel=0.06)
    assert abs(found.potential[others].sum() - true) < abs(before.potential[others].sum() - true)
    assert (found.headroom_high - found.headroom_low).sum() < (before.headroom_high - before.headroom_low).sum()
    assert held(known.potential[others], found.potential_low[others], found.potential_high[others]) > 0.75
    assert np.abs(np.log(found.potential[at] / known.potential[at])).mean() < 0.08


def test_a_few_audits_move_the_level_without_fixing_it():
    known = world(m=120, seed=2)
    audited = np.where(np.arange(120) < 4, known.potential, np.nan)
    found = estimate(dataclasses.replace(known.data, markets=known.data.markets.assign(audited_potential=audited)))[1]
    assert (found.audited, found.level_known) == (4, False)
    assert np.isfinite(found.potential).all()


def test_a_large_market_is_not_taken_for_a_well_covered_one():
    """Levers without any effect; a column only hints at sizes: what both levers have in common tells the rest."""
    known = world(m=400, lever_effect=0.0, seed=4)
    people = known.data.markets["addressable_customers"].to_numpy()
    hint = np.log(people) + np.random.default_rng(2).normal(0, 0.3, 400)
    markets = known.data.markets.drop(columns="addressable_customers").assign(hint=hint)
    design = build_design(dataclasses.replace(known.data, markets=markets, features=("f0", "f1", "hint")), 1)
    assert (design.size_source, design.lever_names) == ("none", ("reps", "spend"))
    naive = expected_size(design.n, design.features, design.folds)[0]
    assert spearmanr(design.size, people).statistic > spearmanr(naive, people).statistic
    raw = dataclasses.replace(design, size=naive, levers=lever_totals(known.data)[0] / naive[:, None])
    assert predict_levels(design, 1).gap.mean() < 0.5 * predict_levels(raw, 1).gap.mean()


def test_neighbours_enter_only_where_they_help(plain):
    known, found = plain
    assert build_design(known.data, 1).around.shape[1] == 0
    assert not found.around.any()
    robbed = world(seed=6, stolen=0.5)
    design, found = estimate(robbed.data)
    assert design.around.shape[1] > 0
    place = robbed.data.markets[["x_km", "y_km"]].to_numpy()
    near = np.argsort(((place[:, None] - place[None]) ** 2).sum(axis=2), axis=1)[:, 1:6]
    spend = (robbed.data.current["current"] / robbed.data.markets["addressable_customers"]).to_numpy()
    assert spearmanr(found.around / found.expected, spend[near].mean(axis=1)).statistic < -0.7
    taken = mostly_neighbours(found.around, found.potential - found.expected)
    assert 0 < taken.mean() < 0.5
    assert (found.around[taken] < 0).all()


def test_markets_unlike_any_other_are_outside_the_area_of_applicability():
    data = world(m=200).data
    markets = data.markets.copy()
    markets.loc[7, ["f0", "f1"]] = markets["f0"].max() + 20, markets["f1"].min() - 20
    design = build_design(dataclasses.replace(data, markets=markets), 1)
    far = design.features.copy()
    far[7] = 12.0  # beyond where clean_features cuts tails
    design = dataclasses.replace(design, features=far)
    importance = np.array([1.0, 0.5])
    outside = outside_area(design, importance)
    assert outside[7]
    assert outside.mean() < 0.1
    assert np.argmax(dissimilarity(design, importance)) == 7
    assert not outside_area(design, np.zeros(2)).any()


def _design(n: np.ndarray, size: np.ndarray, features: np.ndarray) -> Design:
    none = np.zeros(len(n))
    return Design(
        family=BINOMIAL, size_source="addressable_customers", n=n, size=size, bound=size, features=features,
        feature_names=("kind",), levers=np.empty((len(n), 0)), lever_names=(), blocks=none,
        folds=none.astype(int), audited=np.full(len(n), np.nan), around=np.empty((len(n), 0)),
        lever_error=0.0, lever_tilt=none,
    )  # fmt: skip


def test_the_cross_check_can_be_followed_by_hand():
    """Two kinds of markets, forty-one each: the 80th percentile of the forty others of the same kind."""
    rate = np.tile(np.arange(41) / 100, 2) + np.repeat([0.0, 0.3], 41)
    size = np.full(82, 1000.0)
    design = _design(rate * size, size, np.repeat([0.0, 5.0], 41)[:, None])
    peers = peer_potential(design)
    for i in (0, 40, 41, 81):
        kin = np.setdiff1d(np.arange(41) + 41 * (i > 40), [i])
        assert peers[i] == pytest.approx(1000 * np.quantile(rate[kin], 0.8))
    said = agreement(2 * peers, peers)
    assert said["rank"] == pytest.approx(1)
    assert said["level"] == pytest.approx(0.5)
    assert said["far_apart"] == 1


def test_a_partly_known_category_bounds_potential_and_explains_it():
    known = world(m=300, seed=7)
    people = known.data.markets["addressable_customers"].to_numpy()
    rng = np.random.default_rng(1)
    category = people * expit(logit(known.potential / people) + 0.8 + rng.normal(0, 0.2, 300))
    category = np.where(rng.random(300) < 0.4, np.maximum(category, known.data.markets["customers"]), np.nan)
    data = dataclasses.replace(known.data, markets=known.data.markets.assign(market_customers=category))
    design, found = estimate(data)
    assert design.size_source == "addressable_customers"
    assert "share who buy at all" in design.feature_names
    some = np.isfinite(category)
    assert (found.potential[some] <= np.maximum(category[some], found.expected[some]) + 1e-6).all()
    plain = estimate(known.data)[1]
    rank = [spearmanr((f.potential / people)[some], (known.potential / people)[some]).statistic for f in (found, plain)]
    assert rank[0] > rank[1]


def test_markets_alike_share_the_places_of_the_top_fifth() -> None:
    headroom = np.array([[3.0, 0, 0, 0, 0, 0, 0, 0, 0, 0], [0.0] * 10])
    odds = top_fifth(headroom)
    assert odds.sum() == pytest.approx(2)
    assert odds[0] == pytest.approx((1 + 0.2) / 2)
    assert np.ptp(odds[1:]) == 0


def test_an_area_that_features_do_not_explain_is_a_hot_spot_and_noise_is_none() -> None:
    rng = np.random.default_rng(5)
    side = 20
    at = np.arange(side * side)
    x, y = at % side, at // side
    size = rng.lognormal(7, 0.8, len(at)).round()
    pairs = [(i, j) for i in at for j in at[(np.abs(x - x[i]) + np.abs(y - y[i])) == 1]]
    neighbours = pd.DataFrame([(f"m{i:03d}", f"m{j:03d}") for i, j in pairs], columns=["market_id", "neighbour_id"])
    ids = pd.Series([f"m{i:03d}" for i in at])
    flat = np.full(len(at), -2.0)
    area = (np.hypot(x - 5, y - 5) < 3).astype(float)
    for lift, wanted in ((0.0, False), (0.8, True)):
        eta = flat + lift * area + 0.3 * rng.standard_normal(len(at))
        design = _design(rng.binomial(size.astype(int), expit(eta)).astype(float), size, np.zeros((len(at), 1)))
        found = hot_and_cold(design, flat, ids, neighbours, 1)
        hot = found == "hot"
        assert (hot[area == 1].mean() > 0.5) == wanted
        assert hot[area == 0].mean() < 0.02
    assert set(hot_and_cold(design, flat, ids, None, 1)) == {""}
