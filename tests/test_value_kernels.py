"""Likelihood terms, P(alive) and residual purchases against independent formulas and finite differences."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import hyp2f1

from micromarket.value.models import bgnbd, mbgnbd, paretonbd

MODELS = {"bgnbd": bgnbd, "mbgnbd": mbgnbd, "paretonbd": paretonbd}


def histories(n: int, seed: int, busiest: int = 200, longest: float = 3000.0, least: int = 0) -> tuple:
    """Parameters and histories over wide ranges, log-uniform."""
    rng = np.random.default_rng(seed)

    def between(low: float, high: float) -> np.ndarray:
        return np.exp(rng.uniform(np.log(low), np.log(high), n))

    parameters = [between(0.05, 20), between(0.05, 3000), between(0.05, 50), between(0.05, 5000)]
    x = np.where(rng.random(n) < 0.6, rng.integers(least, busiest, n), least).astype(float)
    T = between(1, longest)
    return *parameters, x, np.where(x > 0, T * rng.random(n), 0.0), T


@pytest.mark.parametrize("name", MODELS)
def test_time_terms_have_the_derivatives_they_claim(name: str) -> None:
    terms = MODELS[name].time_terms
    rows = histories(400, seed=1, least=int(name == "bgnbd"))
    value, gradient, hessian = terms(*rows)
    assert np.isfinite(value).all()
    assert np.isfinite(hessian).all()
    step, p = 1e-5, np.stack(rows[:4])
    for i in range(4):
        up, down = ([v * (1 + sign * step) if j == i else v for j, v in enumerate(rows)] for sign in (1, -1))
        above, below = terms(*up), terms(*down)
        slope = (above[0] - below[0]) / (2 * step)
        assert slope == pytest.approx(gradient[i] * p[i], rel=1e-6, abs=1e-6)
        bend = (above[1] - below[1]) / (2 * step) * p
        assert bend == pytest.approx(hessian[i] * p[i] * p, rel=1e-6, abs=1e-6)


def test_pareto_terms_against_an_adaptive_integral() -> None:
    """x to 200, T to 3000 days, s from .05 to 50, single histories and parameters far apart."""
    rows = histories(150, seed=2)
    value = paretonbd.time_terms(*rows)[0]
    alive = paretonbd.p_alive(*rows)
    for i, (r, alpha, s, beta, x, t_x, T) in enumerate(zip(*rows, strict=True)):
        k = r + x
        start, end = np.log(min(alpha, beta) + t_x), np.log(min(alpha, beta) + T)

        def relative(u, r=r, alpha=alpha, s=s, beta=beta, k=k, t_x=t_x):
            jump = np.exp(u)
            y = jump - min(alpha, beta)
            fall = k * np.log((alpha + y) / (alpha + t_x)) + s * np.log((beta + y) / (beta + t_x))
            return s * jump / (beta + y) * np.exp(-fall)

        edges = np.linspace(start, end, 40)
        gone = sum(quad(relative, lo, hi, epsabs=0, epsrel=1e-12)[0] for lo, hi in pairwise(edges))
        stay = np.exp(-k * np.log((alpha + T) / (alpha + t_x)) - s * np.log((beta + T) / (beta + t_x)))
        scale = -k * np.log(alpha + t_x) + s * np.log(beta / (beta + t_x))
        assert value[i] == pytest.approx(scale + np.log(gone + stay), rel=1e-10, abs=1e-9)
        assert alive[i] == pytest.approx(stay / (gone + stay), rel=1e-8, abs=1e-300)


@settings(max_examples=60, deadline=None)
@given(
    r=st.floats(0.1, 3), alpha=st.floats(1, 50), s=st.floats(0.1, 3), beta=st.floats(1, 50), x=st.integers(0, 15),
    part=st.floats(0, 1),
)  # fmt: skip
def test_pareto_terms_against_the_published_form(r, alpha, s, beta, x, part) -> None:
    """Fader & Hardie 2005, note 009, eq. 13 to 15, where hyp2f1 has its digits."""
    T = 40.0
    t_x = part * T if x else 0.0
    high, low, c = (alpha, beta, s + 1) if alpha >= beta else (beta, alpha, r + x)
    k = r + s + x

    def a0(t: float) -> float:
        return hyp2f1(k, c, k + 1, (high - low) / (high + t)) / (high + t) ** k

    bracket = (alpha + T) ** -(r + x) * (beta / (beta + T)) ** s + s * beta**s / k * (a0(t_x) - a0(T))
    assert paretonbd.time_terms(r, alpha, s, beta, x, t_x, T)[0][0] == pytest.approx(np.log(bracket), rel=1e-8)


@pytest.mark.parametrize("s", [0.3, 1.0, 1.0 + 1e-9, 4.0])
def test_residual_purchases_of_the_pareto_are_an_integral(s: float) -> None:
    times = np.array([0.0, 30.0, 900.0])
    purchases, alive = paretonbd.residual_paths([2.5, 0.4], 80.0, s, 120.0, times)
    survival = [quad(lambda y: (120 / (120 + y)) ** s, 0, t)[0] for t in times]
    assert purchases[0] == pytest.approx(2.5 / 80 * np.array(survival), rel=1e-9)
    assert purchases[1] == pytest.approx(0.4 / 80 * np.array(survival), rel=1e-9)
    assert alive[0] == pytest.approx((120 / (120 + times)) ** s)


def test_mbg_terms_against_the_published_likelihood() -> None:
    """Hoppe & Wagner 2007: the death after any purchase, the first included, has the same probability."""
    r, alpha, a, b, x, t_x, T = 0.525, 6.183, 0.891, 1.614, np.array([0.0, 3.0]), np.array([0.0, 20.0]), 39.0
    value = mbgnbd.time_terms(r, alpha, a, b, x, t_x, np.full(2, T))[0]
    bracket = (alpha + T) ** -(r + x) + a / (b + x) * (alpha + t_x) ** -(r + x)
    assert value == pytest.approx(np.log(bracket))
    alive = mbgnbd.p_alive(r, alpha, a, b, x, t_x, np.full(2, T))
    assert alive == pytest.approx((alpha + T) ** -(r + x) / bracket)
    assert alive[0] < 1
