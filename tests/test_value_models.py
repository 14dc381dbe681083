"""Estimators against published numbers (``shared/data/clv/README.md``) and against independent formulas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import hyp2f1

from micromarket.value import BetaGeoNBD, GammaGamma, MarketEffects, ShiftedBetaGeometric
from micromarket.value.pooling import poisson
from micromarket.value.quadrature import beta_nodes
from micromarket.value.signal import analysis_of_variance


@pytest.fixture(scope="module")
def cdnow(shared_data: Path) -> pd.DataFrame:
    return pd.read_csv(shared_data / "clv" / "cdnow_summary_39wk_spend.csv")


def test_bgnbd_on_cdnow(cdnow: pd.DataFrame) -> None:
    """Fader, Hardie & Lee 2005: .243, 4.414, .793, 2.426, LL -9582.4; our standard errors and predictions."""
    x, t_x, T = (cdnow[c].to_numpy() for c in ("x", "t_x", "T"))
    model = BetaGeoNBD().fit(x, t_x, T)
    assert [round(v, 3) for v in model.parameters().values()] == [0.243, 4.414, 0.793, 2.426]
    assert round(model.log_likelihood_, 2) == -9582.43
    assert model.converged_
    errors = np.sqrt(np.diag(model.covariance_)) * list(model.parameters().values())
    assert errors == pytest.approx([0.0126, 0.378, 0.186, 0.705], abs=6e-4)
    assert model.expected_purchases(39.0) == pytest.approx(1.1950, abs=5e-5)
    assert model.conditional_expected_purchases(39.0, [2], [30.43], [38.86])[0] == pytest.approx(1.2259, abs=5e-5)
    expected = model.conditional_expected_purchases(39.0, x, t_x, T)
    assert expected.sum() == pytest.approx(1653.4, abs=0.05)
    by_frequency = [0.225, 0.523, 1.044, 1.520, 2.164, 2.654, 3.504, 3.946]
    means = [expected[x == k].mean() for k in range(8)]
    assert means == pytest.approx(by_frequency, abs=6e-4)


def test_bgnbd_needs_only_counts(cdnow: pd.DataFrame) -> None:
    counts = cdnow.groupby(["x", "t_x", "T"]).size().reset_index(name="n")
    whole = BetaGeoNBD().fit(cdnow["x"], cdnow["t_x"], cdnow["T"])
    compressed = BetaGeoNBD().fit(*(counts[c] for c in ("x", "t_x", "T", "n")))
    assert compressed.parameters() == pytest.approx(whole.parameters(), rel=1e-6)


def test_gamma_gamma_on_cdnow(cdnow: pd.DataFrame) -> None:
    """Fader & Hardie 2013, note 025: 6.25, 3.74, 15.44; our log-likelihood and mean."""
    repeaters = cdnow[cdnow["x"] > 0]
    model = GammaGamma().fit(repeaters["x"], repeaters["zbar"])
    assert model.parameters() == pytest.approx({"p": 6.2488, "q": 3.7446, "v": 15.4477}, abs=6e-5)
    assert round(model.log_likelihood_, 2) == -4055.92
    assert round(model.mean_, 2) == 35.17
    assert model.converged_
    assert not model.guarded_


def test_gamma_gamma_keeps_the_mean_finite() -> None:
    rng = np.random.default_rng(1)
    spend = 10 * rng.pareto(0.7, 2000) + 1
    model = GammaGamma().fit(np.full(2000, 3), spend)
    assert model.guarded_
    assert model.q_ > 1
    assert np.isfinite(model.conditional_mean(3, 100.0))


@pytest.mark.parametrize(
    ("years", "column", "expected", "log_likelihood"),
    [
        (7, "Regular", (0.704, 1.182), -1680.27),
        (7, "High-end", (0.668, 3.806), -1611.16),
        (4, "Regular", (0.764, 1.296), -1401.56),
        (4, "High-end", (1.281, 7.790), -1225.13),
    ],
)
def test_sbg_on_the_retention_table(shared_data: Path, years, column, expected, log_likelihood) -> None:
    """Fader & Hardie 2007."""
    table = pd.read_csv(shared_data / "clv" / "retention_two_segments.csv", encoding="utf-8-sig")
    there = table[column].to_numpy(float)[: years + 1]
    model = ShiftedBetaGeometric().fit(-np.diff(there), there[1:])
    assert tuple(round(v, 3) for v in model.parameters().values()) == expected
    assert round(model.log_likelihood_, 2) == log_likelihood
    assert model.converged_


def test_sbg_on_mixed_cohorts(shared_data: Path) -> None:
    """Five cohorts of different age in one likelihood: 1.6671, 2.8566, LL -44,644.12."""
    table = pd.read_csv(shared_data / "clv" / "retention_multi_cohort.csv", encoding="utf-8-sig")
    lost, stayed = np.zeros(4), np.zeros(4)
    for column in table.columns[1:]:
        there = table[column].dropna().to_numpy(float)
        lost[: len(there) - 1] -= np.diff(there)
        stayed[: len(there) - 1] += there[1:]
    model = ShiftedBetaGeometric().fit(lost, stayed)
    assert model.parameters() == pytest.approx({"alpha": 1.6671, "beta": 2.8566}, abs=6e-5)
    assert round(model.log_likelihood_, 2) == -44644.12


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
    assert got == pytest.approx(closed, rel=2e-3, abs=1e-9)


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


@pytest.mark.parametrize("T", [1.0, 400.0])
def test_only_one_time_buyers_give_a_finite_answer(T: float) -> None:
    model = BetaGeoNBD(prior_sd=2.0).fit(np.zeros(1), np.zeros(1), np.array([T]), np.array([500.0]))
    assert model.converged_
    assert 0 < model.expected_purchases(365.0) < 400


def test_bgnbd_refuses_impossible_times() -> None:
    with pytest.raises(ValueError, match="0 <= t_x <= T"):
        BetaGeoNBD().fit([1], [10], [5])


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
