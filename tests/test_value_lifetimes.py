"""Weibull lifetimes, the path of a new customer held to what was seen, and spend that goes with frequency."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad

from micromarket.value.aging import fit_aging
from micromarket.value.models import pareto_terms, weibull_terms
from micromarket.value.models.paretonbd import ParetoNBD
from micromarket.value.models.weibullnbd import MOST_ROWS, WeibullNBD
from micromarket.value.purchases import Histories
from micromarket.value.spend import spend_by_frequency

Rows = tuple[np.ndarray, ...]


def rows(n: int, seed: int, c: float | None = None) -> Rows:
    """Ordinary parameters and histories (days): r, alpha, s, beta, c, x, t_x, T."""
    rng = np.random.default_rng(seed)
    x = np.where(rng.random(n) < 0.7, rng.integers(0, 40, n), 0).astype(float)
    T = rng.uniform(1, 1500, n)
    c_ = rng.uniform(0.5, 2.5, n) if c is None else np.full(n, c)
    return (
        rng.uniform(0.2, 3, n), rng.uniform(5, 120, n), rng.uniform(0.2, 3, n), rng.uniform(50, 1500, n), c_,
        x, np.where(x > 0, T * rng.random(n), 0.0), T,
    )  # fmt: skip


# --- the likelihood --------------------------------------------------------------------------------------------------
def test_at_a_steady_risk_it_is_pareto() -> None:
    r, alpha, s, beta, _, x, t_x, T = given = rows(3000, 1, c=1.0)
    plain = r, alpha, s, beta, x, t_x, T
    value, gradient, hessian = pareto_terms.time_terms(*plain)
    assert weibull_terms.log_bracket(*given) == pytest.approx(value, abs=1e-9)
    assert weibull_terms.p_alive(*given) == pytest.approx(pareto_terms.p_alive(*plain), abs=1e-9)
    g, h = weibull_terms.scale_terms(*given)  # in (log alpha, log beta)
    assert g == pytest.approx(np.stack([alpha * gradient[1], beta * gradient[3]]), abs=1e-8)
    assert h[0, 1] == pytest.approx(alpha * beta * hessian[1, 3], abs=1e-8)
    assert h[1, 1] == pytest.approx(beta**2 * hessian[3, 3] + beta * gradient[3], abs=1e-8)


@pytest.mark.parametrize("c", [0.6, 1.6])
def test_the_bracket_is_its_integral(c: float) -> None:
    for r, alpha, s, beta, _, x, t_x, T in zip(*rows(40, 2, c), strict=True):

        def part(v: float, k: float = r + x, alpha=alpha, s=s, beta=beta) -> float:
            y = v ** (1 / c)  # in y^c the density of leaving is finite at 0
            return s / beta**c * (1 + v / beta**c) ** (-s - 1) * (1 + y / alpha) ** -k

        inside = quad(part, t_x**c, T**c, epsabs=0, epsrel=1e-11, limit=300)[0]
        stayed = (1 + T / alpha) ** -(r + x) * (1 + (T / beta) ** c) ** -s
        whole = np.log(inside + stayed) - (r + x) * np.log(alpha)
        got = weibull_terms.log_bracket(r, alpha, s, beta, c, x, t_x, T)[0]
        assert got == pytest.approx(whole, abs=5e-4 if x == 0 and c < 1 else 1e-6)
        alive = weibull_terms.p_alive(r, alpha, s, beta, c, x, t_x, T)[0]
        assert alive == pytest.approx(stayed / (inside + stayed), abs=1e-4)


def test_derivatives_are_those_of_the_value() -> None:
    given, step = rows(500, 3), 1e-5
    # where the density of leaving may be infinite at 0 the nodes' own error is in the differences
    exact = (given[5] > 0) & (given[6] > 1)
    room = np.where(exact, 1e-5, 1e-3)
    gradient = weibull_terms.shape_terms(*given)[1]
    g, h = weibull_terms.scale_terms(*given)
    for i in range(5):
        up, down = ([v * np.exp(sign * step) if j == i else v for j, v in enumerate(given)] for sign in (1, -1))
        slope = (weibull_terms.log_bracket(*up) - weibull_terms.log_bracket(*down)) / (2 * step)
        assert (np.abs(slope - gradient[i]) < room * (1 + np.abs(gradient[i]))).all()
        if i in (1, 3):
            bend = (weibull_terms.scale_terms(*up)[0] - weibull_terms.scale_terms(*down)[0]) / (2 * step)
            assert (np.abs(bend - h[:, i // 2]) < 10 * room * (1 + np.abs(bend))).all()
    assert g == pytest.approx(gradient[[1, 3]], abs=1e-9)


def test_extreme_histories_stay_finite() -> None:
    grid = np.meshgrid(
        [1e-2, 50.0], [1e-2, 1e5], [1e-2, 50.0], [1e-2, 1e5], [0.2, 5.0], [0.0, 1.0, 5000.0], [0.0, 0.5, 1.0],
        [0.0, 1e-3, 1e5], indexing="ij",
    )  # fmt: skip
    r, alpha, s, beta, c, x, share, T = (v.ravel() for v in grid)
    given = r, alpha, s, beta, c, x, np.where(x > 0, share * T, 0.0), T
    value, gradient = weibull_terms.shape_terms(*given)
    g, h = weibull_terms.scale_terms(*given)
    for found in (value, gradient, g, h):
        assert np.isfinite(found).all()
    alive = weibull_terms.p_alive(*given)
    assert ((alive >= 0) & (alive <= 1 + 1e-12)).all()


# --- the estimator ---------------------------------------------------------------------------------------------------
def customers(seed: int, n: int, c: float, days: float = 1000.0) -> Rows:
    """Histories of Gamma(1, 40) buyers with Weibull lifetimes (s 3, beta 500 days): x, t_x, T."""
    rng = np.random.default_rng(seed)
    T = np.ceil(rng.random(n) * days)
    rate, risk = rng.gamma(1.0, 1 / 40.0, n), rng.gamma(3.0, 500.0**-c, n)
    life = np.minimum((rng.exponential(1.0, n) / risk) ** (1 / c), T)
    x = rng.poisson(rate * life).astype(float)
    last = life * rng.random(n) ** (1 / np.maximum(x, 1))  # the largest of x even draws
    return x, np.minimum(np.where(x > 0, np.ceil(last), 0.0), T), T


@pytest.mark.parametrize("c", [0.65, 1.7])
def test_a_falling_or_rising_risk_is_found_and_beats_pareto(c: float) -> None:
    data = customers(4, 16_000, c)
    fit, plain = WeibullNBD(prior_sd=2.0).fit(*data), ParetoNBD(prior_sd=2.0).fit(*data)
    assert fit.converged_
    sd = np.sqrt(fit.covariance_[4, 4])
    assert fit.c_ == pytest.approx(c, rel=0.12)
    assert abs(np.log(fit.c_ / c)) < 3 * sd
    assert fit.log_likelihood_ > plain.log_likelihood_ + 10
    ages = np.array([100.0, 400.0, 900.0])
    truth = (1 + (ages / 500.0) ** c) ** -3.0
    assert fit.survival(ages) == pytest.approx(truth, abs=0.03)
    again = WeibullNBD(prior_sd=2.0).fit(*data)
    assert fit.parameters() == again.parameters()


def test_what_customers_will_buy_by_simulation() -> None:
    """Among simulated customers with one history, the mean number of purchases in the next year."""
    rng = np.random.default_rng(5)
    n, c = 400_000, 1.7
    rate, risk = rng.gamma(1.0, 1 / 40.0, n), rng.gamma(3.0, 500.0**-c, n)
    life = (rng.exponential(1.0, n) / risk) ** (1 / c)
    fit = WeibullNBD()
    fit.r_, fit.alpha_, fit.s_, fit.beta_, fit.c_ = 1.0, 40.0, 3.0, 500.0, c
    first = rng.poisson(rate * np.minimum(life, 365.0))
    assert fit.expected_purchases(365.0) == pytest.approx(first.mean(), rel=0.02)
    # two repeat purchases in 200 days, the last between day 90 and 110
    T = 200.0
    x = rng.poisson(rate * np.minimum(life, T))
    last = np.minimum(life, T) * rng.random(n) ** (1 / np.maximum(x, 1))
    same = (x == 2) & (last > 90) & (last < 110)
    there = same & (life > T)
    later = rng.poisson(rate * np.clip(life - T, 0, 365.0))
    history = np.array([2.0]), np.array([100.0]), np.array([T])
    assert fit.p_alive(*history)[0] == pytest.approx(there.sum() / same.sum(), abs=0.04)
    assert fit.conditional_expected_purchases(365.0, *history)[0] == pytest.approx(later[same].mean(), rel=0.08)


@pytest.mark.parametrize(
    ("x", "t_x", "T"),
    [
        ([0.0], [0.0], [0.0]),
        ([0, 0, 0], [0, 0, 0], [10, 20, 900]),
        ([500.0], [1000.0], [1000.0]),
        ([1, 2], [1, 1], [1, 1]),
        ([0, 3, 1], [0, 1e-3, 2e-3], [1e5, 1e-2, 2e5]),
    ],
    ids=["one just won", "all one-time buyers", "one who never rests", "no time", "times far apart"],
)
def test_few_or_odd_customers_end_in_finite_parameters(x: list, t_x: list, T: list) -> None:
    fit = WeibullNBD(prior_sd=2.0).fit(np.array(x, float), np.array(t_x, float), np.array(T, float))
    assert np.isfinite([*fit.parameters().values(), fit.log_likelihood_]).all()
    assert np.isfinite(fit.covariance_).all()
    assert np.isfinite(fit.expected_purchases(np.array([1.0, 1000.0]))).all()
    assert np.isfinite(fit.conditional_expected_purchases(365.0, np.array(x), np.array(t_x), np.array(T))).all()
    assert np.isfinite(fit.summary().to_numpy()).all()


def test_what_has_not_settled_says_so() -> None:
    """Judged by the gradient at the end: a tolerance that can't be met, or a parameter that ran to its bound."""
    data = customers(6, 3000, 1.0)
    assert WeibullNBD(prior_sd=2.0).fit(*data).converged_
    with pytest.raises(ValueError, match="at least one customer"):
        WeibullNBD().fit(np.zeros(0), np.zeros(0), np.zeros(0))
    with pytest.raises(ValueError, match="t_x <= T"):
        WeibullNBD().fit(np.ones(1), np.array([5.0]), np.array([4.0]))
    nobody_again = WeibullNBD().fit(np.zeros(50), np.zeros(50), np.linspace(10, 900, 50))  # no prior: no maximum
    assert not nobody_again.converged_


def test_a_great_many_histories_are_thinned_not_bent() -> None:
    x, t_x, T = customers(7, 60_000, 1.6)
    assert len(x) > 1.5 * MOST_ROWS
    thin = WeibullNBD(prior_sd=2.0).fit(x, t_x, T)
    assert thin.n_customers_ == pytest.approx(60_000)
    assert thin.c_ == pytest.approx(1.6, rel=0.06)
    alive = thin.survival(np.array([365.0]))[0]
    assert alive == pytest.approx((1 + (365 / 500.0) ** 1.6) ** -3.0, abs=0.02)
    order = np.random.default_rng(7).permutation(len(x))
    again = WeibullNBD(prior_sd=2.0).fit(x[order], t_x[order], T[order])
    assert again.parameters() == pytest.approx(thin.parameters(), rel=1e-6)  # whatever the order of the rows


# --- the path of a new customer, held to what customers of all ages have bought ---------------------------------------
def aged(level: float, tilt: float, start: float, n_per_age: int, months: int = 24, seed: int = 8) -> Rows:
    """Customers of ages 0 to months - 1 who buy Poisson numbers about a path that the model has too low or too flat;
    month, n, x, flow."""
    rng = np.random.default_rng(seed)
    path = 0.6 * np.exp(-np.arange(months) / 15.0)
    flow = np.tril(np.repeat(path[None], months, axis=0), -1) + np.diag(path / 2)
    seen = flow * np.exp(level + tilt * (np.arange(months) + 0.5))
    month = np.repeat(np.arange(months), n_per_age)
    x = rng.poisson(seen.sum(axis=1)[month] + start)
    return month, np.ones(len(month)), x.astype(float), flow


@pytest.mark.parametrize(("level", "tilt"), [(0.0, 0.0), (0.25, 0.0), (-0.2, 0.0), (0.1, 0.003)])
def test_level_and_tilt_of_the_path_are_found(level: float, tilt: float) -> None:
    found = fit_aging(*aged(level, tilt, 0.0, 4000))
    assert found is not None
    (at, bend, start), covariance = found
    sd = np.sqrt(np.diag(covariance))
    assert abs(at - level) < 3 * sd[0]
    assert abs(bend - tilt) < 3 * sd[1]
    year = np.arange(12) + 0.5
    got, truth = (np.exp(a + b * year).mean() for a, b in ((at, bend), (level, tilt)))
    assert got == pytest.approx(truth, rel=0.04)
    assert abs(start) < 3 * sd[2]


def test_a_lively_first_week_is_no_level() -> None:
    """Some buy again at once: that is counted apart, and not carried through three years."""
    found = fit_aging(*aged(0.0, 0.0, 0.3, 4000))
    assert found is not None
    (level, _, start), _ = found
    assert start == pytest.approx(0.3, abs=0.12)
    assert abs(level) < 0.08


def test_too_little_seen_bends_nothing() -> None:
    assert fit_aging(*aged(0.5, 0.0, 0.0, 5)) is None  # 120 customers
    assert fit_aging(*aged(0.5, 0.0, 0.0, 1000, months=4)) is None  # one age beyond the first weeks
    month, n, x, flow = aged(0.5, 0.0, 0.0, 100)
    assert fit_aging(month, n, 0 * x, flow) is None  # nobody bought twice
    few = fit_aging(*aged(0.5, 0.0, 0.0, 25))
    many = fit_aging(*aged(0.5, 0.0, 0.0, 4000))
    assert few is not None
    assert many is not None
    assert few[1][0, 0] > 2 * many[1][0, 0]  # less is known


# --- spend and frequency ---------------------------------------------------------------------------------------------
def spenders(seed: int, n: int, power: float, shape: float = 0.8) -> tuple[Histories, np.ndarray, np.ndarray]:
    """Customers who are all still there, whose spend goes with their rate to a ``power``; also their rates, spend."""
    rng = np.random.default_rng(seed)
    rate = rng.gamma(shape, 6.0 / shape, n)  # purchases in the time seen
    spend = 20 * rate**power * rng.gamma(10.0, 0.1, n)
    x = rng.poisson(rate).astype(float)
    cell = np.zeros(n, int)
    return Histories(cell, cell, x, x, x, np.ones(n), spend * (x + 1)), rate, spend


@pytest.mark.parametrize("power", [0.35, -0.25])
def test_spend_of_purchases_to_come_by_simulation(power: float) -> None:
    """Mean spend over the purchases that customers of one history make next, over the mean of all so far."""
    histories, rate, spend = spenders(9, 300_000, power)
    found = spend_by_frequency(histories, 1)
    assert np.sign(found.slope[0]) == np.sign(power)
    assert abs(found.slope[0]) == pytest.approx(abs(power), rel=0.5)  # counts stand in for rates
    level = histories.amount.sum() / (histories.x + 1).sum()
    for x in (0.0, 1.0, 4.0, 12.0):
        same = histories.x == x
        truth = (rate[same] * spend[same]).sum() / rate[same].sum() / level
        got = found.of_next(np.array([x]), np.array([0.8]), np.array([0]))[0]
        assert got == pytest.approx(truth, rel=0.12 if x > 0 else 0.3)  # of one purchase little can be told
    # a new customer: the first purchase, then more by who buys more
    assert found.first[0] * level == pytest.approx(spend.mean(), rel=0.02)
    assert found.repeat[0] * level == pytest.approx((rate * spend).sum() / rate.sum(), rel=0.03)


def test_independent_spend_stays_independent() -> None:
    histories, _, _ = spenders(10, 50_000, 0.0)
    found = spend_by_frequency(histories, 1)
    assert found.slope[0] == 0
    assert found.of_next(np.array([0.0, 9.0]), np.array([0.8, 0.8]), np.array([0, 0])) == pytest.approx([1, 1])
    assert (found.first[0], found.repeat[0]) == pytest.approx((1, 1), abs=0.02)
    few, _, _ = spenders(11, 25, 0.4)
    assert spend_by_frequency(few, 1).slope[0] == 0
    refunded = Histories(*(getattr(few, k) for k in ("cell", "segment", "x", "t_x", "T", "customers")), -few.amount)
    nothing = spend_by_frequency(refunded, 1)
    assert np.isfinite([nothing.slope, nothing.level, nothing.first, nothing.repeat]).all()
