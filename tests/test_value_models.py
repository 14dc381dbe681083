"""Estimators on simulated customers, at the edges, and against independent formulas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import hyp2f1

from micromarket.value import BetaGeoNBD, GammaGamma, MarketEffects, ShiftedBetaGeometric
from micromarket.value.models.bdw import BetaDiscreteWeibull
from micromarket.value.models.bgbb import BetaGeoBetaBinomial
from micromarket.value.models.bgnbd import likelihood
from micromarket.value.models.compression import compress
from micromarket.value.models.mbgnbd import ModifiedBetaGeoNBD
from micromarket.value.models.paretonbd import ParetoNBD
from micromarket.value.models.quadrature import beta_nodes
from micromarket.value.pooling import poisson
from micromarket.value.signal import analysis_of_variance

BG, MBG, PARETO = BetaGeoNBD, ModifiedBetaGeoNBD, ParetoNBD


def simulate(model: str, n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Histories under the model's story, and the purchases of the year that follows."""
    rng = np.random.default_rng(seed)
    T = rng.integers(60, 900, n).astype(float)
    rate, p = rng.gamma(0.8, 1 / 60.0, n), rng.beta(0.9, 2.5, n)
    gone = rng.exponential(1.0, n) / rng.gamma(0.9, 1 / 400.0, n) if model == "ParetoNBD" else np.full(n, np.inf)
    if model == "ModifiedBetaGeoNBD":
        gone[rng.random(n) < p] = 0.0
    x, t_x, later, t = (np.zeros(n) for _ in range(4))
    going = np.arange(n)
    while len(going):
        t[going] += rng.exponential(1 / rate[going])
        going = going[(t[going] <= gone[going]) & (t[going] <= T[going] + 365)]
        seen = going[t[going] <= T[going]]
        x[seen] += 1
        t_x[seen] = t[seen]
        later[going[t[going] > T[going]]] += 1
        if model != "ParetoNBD":
            going = going[rng.random(len(going)) > p[going]]
    return x, t_x, T, later


@pytest.mark.parametrize("model", [BG, MBG, PARETO])
def test_simulated_customers_give_their_parameters_back(model) -> None:
    x, t_x, T, later = simulate(model.__name__, 60_000, seed=5)
    fit = model().fit(x, t_x, T)
    truth = {"r": 0.8, "alpha": 60.0, "a": 0.9, "b": 2.5, "s": 0.9, "beta": 400.0}
    table = fit.summary()
    true = np.array([truth[name] for name in table.index])
    assert fit.converged_
    assert (np.abs(np.log(table["estimate"] / true)) < 3.3 * table["se"] / table["estimate"]).all()
    expected = fit.conditional_expected_purchases(365.0, x, t_x, T)
    assert expected.sum() == pytest.approx(later.sum(), rel=0.02)
    for k in (0, 1, 5):
        assert expected[x == k].mean() == pytest.approx(later[x == k].mean(), rel=0.07)
    alive = fit.p_alive(x, t_x, T)
    assert alive[later > 0].mean() > alive[later == 0].mean()
    assert ((alive >= 0) & (alive <= 1)).all()


def test_a_thinned_start_ends_at_the_same_optimum() -> None:
    x, t_x, T, _ = simulate("BetaGeoNBD", 150_000, seed=6)
    counts = compress(x, t_x, T)
    assert len(counts) > 60_000
    fit = BG().fit(x, t_x, T)
    p = np.array(list(fit.parameters().values()))
    value, gradient, _ = likelihood(counts, 0)(p[:, None])
    assert value[0] == pytest.approx(fit.log_likelihood_, rel=1e-12)
    assert np.abs(gradient[:, 0] * p).max() / 150_000 < 1e-8


@pytest.mark.parametrize("first", [0, 1])
def test_sums_by_table_and_row_by_row_agree(first: int) -> None:
    """Few groups are summed with look-up tables, many with the general formula: same values and derivatives."""
    rng = np.random.default_rng(9)
    n, groups = 3000, 70
    x, T = rng.poisson(1.5, n).astype(float), rng.integers(20, 400, n).astype(float)
    t_x = np.where(x > 0, np.floor(T * rng.random(n)), 0.0)
    group = np.sort(rng.integers(0, groups, n))
    p = np.exp(rng.normal(0, 0.4, (4, groups))) * np.array([0.7, 60.0, 0.9, 2.0])[:, None]
    many = likelihood(compress(x, t_x, T, None, group), first)(p)
    for g in range(0, groups, 7):
        rows = group == g
        one = likelihood(compress(x[rows], t_x[rows], T[rows]), first)(p[:, [g]])
        for a, b in zip(many, one, strict=True):
            assert a[..., g] == pytest.approx(b[..., 0], rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("weights", [None, 1.0])
def test_counts_are_exact(weights) -> None:
    rng = np.random.default_rng(10)
    columns = [rng.integers(0, high, 500).astype(float) for high in (3, 4, 5)]
    columns[1] += rng.integers(0, 2, 500) * 0.43  # not whole
    n = rng.integers(0, 3, 500).astype(float) if weights else None
    counts = compress(*columns, n)
    total: dict = {}
    for i, key in enumerate(zip(*columns, strict=True)):
        if n is None or n[i]:
            total[key] = total.get(key, 0.0) + (1.0 if n is None else n[i])
    got = zip(counts.x.array, counts.t_x.array, counts.T.array, strict=True)
    assert dict(zip(got, counts.customers, strict=True)) == total


@pytest.mark.parametrize("model", [BG, MBG, PARETO])
@pytest.mark.parametrize(
    ("x", "t_x", "T", "n"),
    [
        ([0], [0], [400], [500]),  # nobody bought twice
        ([0], [0], [1], [1]),
        ([0], [0], [0], [3]),  # all bought on the last day
        ([9, 8], [400, 400], [400, 400], [50, 50]),  # everybody still buys
        ([1], [1], [400], [80]),  # all left at once
        ([300, 0], [50, 0], [3000, 3000], [1, 1]),
    ],
)
def test_extreme_customers_give_finite_answers(model, x, t_x, T, n) -> None:
    fit = model(prior_sd=2.0).fit(x, t_x, T, n)
    assert fit.converged_
    assert np.isfinite(fit.summary().to_numpy()).all()
    assert 0 <= fit.expected_purchases(365.0) < 2000
    expected = fit.conditional_expected_purchases(365.0, x, t_x, T)
    assert np.isfinite(expected).all()
    assert (expected >= 0).all()
    alive = fit.p_alive(x, t_x, T)
    assert ((alive >= 0) & (alive <= 1)).all()
    assert np.isfinite(fit.expected_frequencies(T, n)).all()


def test_impossible_histories_are_refused() -> None:
    for model in (BG, MBG, PARETO):
        with pytest.raises(ValueError, match="0 <= t_x <= T"):
            model().fit([1], [10], [5])
        with pytest.raises(ValueError, match="0 <= t_x <= T"):
            model().fit([1, 2], [1, np.nan], [5, 5])
        with pytest.raises(ValueError, match="at least one customer"):
            model().fit([], [], [])
    with pytest.raises(ValueError, match="whole numbers"):
        BetaGeoBetaBinomial().fit([2], [1], [6])


def test_bgbb_at_the_edges_and_back() -> None:
    for x, t_x in ((0, 0), (6, 6)):
        fit = BetaGeoBetaBinomial(prior_sd=2.0).fit([x], [t_x], [6], [100])
        assert fit.converged_
        assert 0 < fit.expected_purchases(5) < 5
        assert 0 < fit.p_alive(x, t_x, 6) < 1
    assert np.isfinite(BetaGeoBetaBinomial(prior_sd=2.0).fit([0], [0], [0], [5]).expected_purchases(5))
    rng = np.random.default_rng(11)
    n = rng.integers(1, 25, 40_000)
    p, theta = rng.beta(1.2, 3.0, len(n)), rng.beta(0.7, 4.0, len(n))
    life = rng.geometric(theta) - 1
    period = np.arange(1, 25)
    bought = (rng.random((len(n), 24)) < p[:, None]) & (period <= np.minimum(life, n)[:, None])
    fit = BetaGeoBetaBinomial().fit(bought.sum(axis=1), (bought * period).max(axis=1), n)
    table = fit.summary()
    away = np.log(table["estimate"] / [1.2, 3.0, 0.7, 4.0]) / (table["se"] / table["estimate"])
    assert fit.converged_
    assert np.abs(away).max() < 3.3


def test_gamma_gamma_gives_its_parameters_back() -> None:
    rng = np.random.default_rng(7)
    n = 1 + rng.poisson(rng.gamma(0.8, 4, 60_000))
    spend = rng.gamma(6.2 * n, 1 / rng.gamma(3.7, 1 / 15.4, len(n))) / n
    table = GammaGamma().fit(n, spend).summary()
    assert (np.abs(table["estimate"] - [6.2, 3.7, 15.4]) < 3.3 * table["se"]).all()
    in_cents = GammaGamma().fit(n, 100 * spend).summary()
    assert in_cents.loc["v", "estimate"] == pytest.approx(100 * table.loc["v", "estimate"], rel=1e-6)
    assert in_cents.loc["q", "se"] == pytest.approx(table.loc["q", "se"], rel=1e-5)


def test_a_weibull_that_does_not_bend_is_the_sbg() -> None:
    fit = BetaDiscreteWeibull()
    fit.alpha_, fit.beta_, fit.c_ = 0.8, 9.0, 1.0
    same = ShiftedBetaGeometric()
    same.alpha_, same.beta_ = 0.8, 9.0
    assert fit.hazard(np.arange(2000)) == pytest.approx(same.hazard(np.arange(2000)), rel=1e-9)
    fit.c_ = 1.8  # far out the ratio of gamma functions would lose all digits
    chance = fit.hazard(np.arange(1, 3000))
    assert (np.diff(chance[200:]) < 0).all()
    assert chance[-1] == pytest.approx(0.8 * 1.8 / 3000, rel=1e-3)


@pytest.mark.parametrize("c", [0.7, 1.0, 1.5])
def test_a_simulated_weibull_gives_its_parameters_back(c: float) -> None:
    """Contracts that started in each of the last 40 months: most are still running."""
    rng = np.random.default_rng(8)
    theta = rng.beta(0.9, 12.0, 150_000)
    life = np.ceil((np.log(rng.random(len(theta))) / np.log1p(-theta)) ** (1 / c))
    age = rng.integers(1, 41, len(theta))
    lost = np.bincount(life[life <= age].astype(int) - 1, minlength=40)[:40]
    reached = np.minimum(life - 1, age).astype(int)
    stayed = np.array([(reached > k).sum() for k in range(40)])
    fit = BetaDiscreteWeibull().fit(lost, stayed)
    table = fit.summary()
    assert fit.converged_
    away = np.log(table["estimate"] / [0.9, 12.0, c]) / (table["se"] / table["estimate"])
    assert np.abs(away).max() < 3.3


@pytest.mark.parametrize("model", [ShiftedBetaGeometric, BetaDiscreteWeibull])
@pytest.mark.parametrize(("lost", "stayed"), [([0, 0, 0], [50, 40, 30]), ([50], [0]), ([0], [0.5]), ([9, 9], [9, 0])])
def test_extreme_contracts_give_finite_answers(model, lost, stayed) -> None:
    fit = model(prior_sd=2.0).fit(lost, stayed)
    assert fit.converged_
    assert np.isfinite(fit.summary().to_numpy()).all()
    assert 0 < fit.discounted_lifetime(36, 0.1) < 36


def test_gamma_gamma_keeps_the_mean_finite() -> None:
    rng = np.random.default_rng(1)
    spend = 10 * rng.pareto(0.7, 2000) + 1
    model = GammaGamma().fit(np.full(2000, 3), spend)
    assert model.guarded_
    assert model.q_ > 1
    assert np.isfinite(model.conditional_mean(3, 100.0))
    table = model.summary()
    assert table.loc["q", "se"] == 0
    assert (table.loc[["p", "v"], "se"] > 0).all()


def test_older_contracts_last_longer() -> None:
    model = ShiftedBetaGeometric(prior_sd=2.0).fit([30, 10, 5], [70, 60, 55])
    ages = [model.discounted_lifetime(36, 0.1, age) for age in (0, 6, 24)]
    assert ages == sorted(ages)
    assert ShiftedBetaGeometric(prior_sd=2.0).fit([0, 0], [50, 40]).discounted_lifetime(36, 0.0) < 36


@settings(max_examples=40, deadline=None)
@given(
    r=st.floats(0.05, 5),
    alpha=st.floats(0.5, 300),
    a=st.floats(0.05, 4),
    b=st.floats(0.5, 10),
    x=st.integers(0, 30),
    t=st.floats(1, 2000),
)
def test_expected_purchases_against_the_closed_form(r, alpha, a, b, x, t) -> None:
    """Fader, Hardie & Lee 2005, eq. 10, with its hypergeometric function, wherever that is not singular."""
    if abs(a - 1) < 0.02 or abs(a + b + x - 1) < 0.02:
        a += 0.05
    T = 100.0
    model = BetaGeoNBD()
    model.r_, model.alpha_, model.a_, model.b_ = r, alpha, a, b
    z = t / (alpha + T + t)
    ratio = ((alpha + T) / (alpha + T + t)) ** (r + x) * hyp2f1(r + x, b + x, a + b + x - 1, z)
    closed = (a + b + x - 1) / (a - 1) * (1 - ratio) * model.p_alive([x], [T / 2 if x else 0.0], [T])[0]
    got = model.conditional_expected_purchases(t, [x], [T / 2 if x else 0.0], [T])[0]
    assert got == pytest.approx(closed, rel=1e-6, abs=1e-9)


def test_nothing_happens_at_a_equal_one() -> None:
    values = []
    for a in (0.999, 1.0, 1.001):
        model = BetaGeoNBD()
        model.r_, model.alpha_, model.a_, model.b_ = 0.5, 20.0, a, 2.5
        values.append(model.expected_purchases(365.0))
    assert values[1] == pytest.approx((values[0] + values[2]) / 2, rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.02, 50), st.floats(0.02, 500))
def test_quadrature_has_the_moments_of_the_beta(a, b) -> None:
    p, w = beta_nodes([a], [b])
    assert w.sum() == pytest.approx(1)
    assert (w * p).sum() == pytest.approx(a / (a + b))
    assert (w * p**2).sum() == pytest.approx(a * (a + 1) / ((a + b) * (a + b + 1)))


def test_market_effects_find_the_variance() -> None:
    rng = np.random.default_rng(3)
    effect = rng.normal(0.1, 0.3, 1000)
    expected = np.exp(rng.normal(2, 1.5, 1000))
    events = rng.poisson(expected * np.exp(effect)).astype(float)
    index = np.arange(1000)
    fit = MarketEffects().fit(poisson(events, expected), index, np.zeros(1000, int))
    assert fit.converged_
    assert fit.mean_[0, 0] == pytest.approx(0.1, abs=0.05)
    assert np.sqrt(fit.market_variance_[0, 0]) == pytest.approx(0.3, abs=0.05)
    mean, sd = fit.posterior_.mean[:, 0], np.sqrt(fit.posterior_.covariance[:, 0, 0])
    assert (np.abs(effect - mean) < 1.645 * sd).mean() == pytest.approx(0.9, abs=0.03)
    alone = np.log(np.maximum(events, 0.5) / expected)
    assert np.square(mean - effect).mean() < 0.6 * np.square(alone - effect).mean()


def test_the_signal_test_holds_its_level() -> None:
    """p-values under no difference are uniform, also in markets of four skewed customers."""
    rng = np.random.default_rng(4)
    p = []
    for _ in range(400):
        y, market = rng.exponential(1, 800), np.arange(800) % 200
        sums = [np.bincount(market, weights=v) for v in (np.ones(800), y, y**2)]
        p.append(analysis_of_variance("y", *sums).p_value)
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.035)
    assert np.mean(p) == pytest.approx(0.5, abs=0.05)
