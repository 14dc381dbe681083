"""S-shaped curves and minimum tickets: the best there is where it can be counted, never worse than local solvers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, minimize
from test_allocate import check_limits, instance

from micromarket.allocation.curves import Hill, Hyperbolic
from micromarket.allocation.envelope import Envelope, Minorant
from micromarket.allocation.solver import allocate, optimise
from micromarket.errors import InfeasibleError


def s_shaped(markets: int, seed: int, channels: int = 4) -> tuple[Hill, dict]:
    rng = np.random.default_rng(seed)
    problem = instance(markets, channels, 2, seed)
    n = markets * channels
    weight = problem["amplitude"] * problem["value"]
    return Hill(weight, problem["half_spend"] * rng.uniform(0.5, 3, n), rng.uniform(1.2, 4, n)), problem


def limits_of(problem: dict, *without: str) -> dict:
    return {k: v for k, v in problem.items() if k not in ("amplitude", "half_spend", "value", "current", *without)}


def local_best(curves: Hill, problem: dict, starts: int) -> float:
    """SLSQP from several starts, total and cell bounds only."""
    n = len(curves)
    unit, rng = problem["total"] / n, np.random.default_rng(0)
    scaled, high = curves.scaled(unit, 1.0), problem["high"] / unit
    best = -np.inf
    for start in range(starts):
        x = problem["current"] / unit if start == 0 else np.minimum(rng.dirichlet(np.full(n, 0.5)) * n, high)
        found = minimize(
            lambda v: -scaled.value(v).sum(), x, jac=lambda v: -scaled.marginal(v), method="SLSQP",
            bounds=Bounds(0, high), constraints=[{"type": "eq", "fun": lambda v: v.sum() - n}],
            options={"maxiter": 400, "ftol": 1e-12},
        )  # fmt: skip
        if abs(found.x.sum() - n) < 1e-7 * n:
            best = max(best, -found.fun)
    return best


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), ticket=st.sampled_from([0.0, 0.3]))
def test_envelopes_lie_above_and_minorants_below(seed, ticket):
    rng = np.random.default_rng(seed)
    n = 20
    curves = Hill(rng.lognormal(0, 1, n), rng.lognormal(0, 0.5, n), rng.uniform(0.5, 5, n))
    low = np.where(rng.random(n) < 0.5, 0.0, rng.uniform(0, 0.5, n)) if ticket == 0 else np.zeros(n)
    high = low + rng.uniform(0.5, 4, n)
    hole = np.full(n, ticket)
    above = Envelope.over(curves, low, high, hole)
    at = rng.uniform(low, high)
    below = Minorant.touching(curves, at)
    np.testing.assert_allclose(below.value(at), curves.value(at), rtol=1e-7, atol=1e-12)
    grid = [low + share * (high - low) for share in np.linspace(0, 1, 60)]
    for x in grid:
        legal = (x >= hole) | (x <= low)
        assert (above.value(x)[legal] >= curves.value(x)[legal] - 1e-9).all()
        assert (below.value(x) <= curves.value(x) + 1e-9).all()
    for part in (above, below):
        slopes = np.diff([part.value(x) for x in grid], axis=0) / ((high - low) / 59)
        assert (np.diff(slopes, axis=0) <= 1e-7).all()  # concave
    np.testing.assert_allclose(above.value(low), curves.value(low), atol=1e-9)
    price = above.marginal((low + high) / 2) * rng.uniform(0.5, 1.5, n)
    best = np.max([above.value(x) - price * x for x in grid], axis=0)
    wanted = np.clip(above.demand(price), low, high)
    assert (above.value(wanted) - price * wanted >= best - 1e-9).all()


@pytest.mark.parametrize(("markets", "starts"), [(3, 20), (10, 10), (25, 4)])
@pytest.mark.parametrize("seed", range(2))
def test_at_least_as_good_as_local_solvers_and_certified(markets, starts, seed):
    curves, problem = s_shaped(markets, seed + markets)
    limits = limits_of(problem, "market", "channel", "region", "max_shift")
    found = optimise(curves, problem["current"], **limits)
    assert found.objective >= local_best(curves, problem, starts) * (1 - 1e-9)
    assert found.certificate.duality_gap < 1e-7
    assert found.certificate.max_violation < 1e-9
    assert found.spend.sum() == pytest.approx(problem["total"])


def test_every_limit_at_once_is_kept_and_the_gap_is_honest():
    curves, problem = s_shaped(2, 0)
    found = optimise(curves, problem["current"], **limits_of(problem))
    check_limits(problem, found)
    # random legal money never beats the bound
    bound = found.objective * (1 + found.certificate.duality_gap) + 1e-9
    rng, now = np.random.default_rng(0), problem["current"]
    best = curves.value(now).sum()
    for _ in range(60):
        other = allocate(**{**problem, "amplitude": rng.lognormal(0, 1, 8)}).spend
        best = max(best, float(curves.value(other).sum()))
    assert best <= bound
    assert found.objective >= best * (1 - 1e-9)


def test_large_ones_are_certified_too():
    curves, problem = s_shaped(2_500, 1)
    limits = limits_of(problem, "market", "max_shift")
    found = optimise(curves, problem["current"], **limits)
    check_limits({**problem, "market": None, "max_shift": None}, found)
    assert found.certificate.duality_gap < 1e-4  # a handful of limits bind: few cells lie on their chords
    assert found.objective > curves.value(problem["current"]).sum()


def ticketed(seed: int) -> tuple[dict, float]:
    problem = instance(4, 2, 2, seed)
    for name in ("channel", "region", "max_shift"):
        problem.pop(name)
    market = problem["market"]
    problem["market"] = type(market)(market.code, np.zeros(4), market.high)
    return problem, float(np.median(problem["current"]) * 1.2)


@pytest.mark.parametrize("seed", range(4))
def test_tickets_are_the_best_of_all_choices(seed):
    problem, ticket = ticketed(seed)
    found = allocate(**problem, min_ticket=ticket)
    x = found.spend
    assert ((x < 1e-9) | (x >= ticket * (1 - 1e-12))).all()
    check_limits(problem, found)
    best = -np.inf
    for some in itertools.product((False, True), repeat=8):
        low, high = np.where(some, ticket, 0.0), np.where(some, problem["high"], 0.0)
        if (low > high).any():
            continue
        try:
            best = max(best, allocate(**{**problem, "low": low, "high": high}).objective)
        except InfeasibleError:
            continue
    assert found.objective == pytest.approx(best, rel=1e-8)
    assert found.certificate.duality_gap < 1e-6


def test_tickets_of_many_cells_and_blocked_ones():
    problem = instance(250, 4, 3, 1)
    ticket = float(np.quantile(problem["current"], 0.3))
    market = problem["market"]
    problem["market"] = type(market)(market.code, np.zeros(250), market.high)
    still = np.arange(1_000) % 11 == 0
    problem["low"] = np.where(still, problem["current"], 0.0)
    problem["high"] = np.where(still, problem["current"], problem["high"])
    found = allocate(**problem, min_ticket=ticket)
    x = found.spend
    check_limits(problem, found)
    assert ((x < 1e-7) | (x >= ticket * (1 - 1e-7)) | still).all()
    assert found.certificate.duality_gap < 0.01
    free = allocate(**problem)
    assert found.objective <= free.objective * (1 + 1e-9)


def test_tickets_that_cannot_be_are_named():
    problem = instance(6, 3, 2, 2)
    problem["market"] = type(problem["market"])(
        problem["market"].code, problem["market"].low, problem["market"].high, [f"M{i}" for i in range(6)]
    )
    ticket = 1.01 * float(problem["market"].high.min())
    with pytest.raises(InfeasibleError, match=r"min_ticket.*market that must get money.*M\d at most"):
        allocate(**problem, min_ticket=ticket)
    problem["low"] = 0.5 * problem["current"]
    with pytest.raises(InfeasibleError, match="within reach of every cell"):
        allocate(**problem, min_ticket=float(problem["high"].max()))


def test_curves_that_bring_nothing_and_one_cell():
    nothing = Hill(np.zeros(6), np.ones(6), np.full(6, 2.0))
    found = optimise(nothing, np.ones(6), total=6.0)
    assert found.spend.sum() == pytest.approx(6.0)
    one = optimise(Hill(np.ones(1), np.ones(1), np.full(1, 3.0)), np.ones(1), total=0.2)
    assert one.spend[0] == pytest.approx(0.2)
    flat = optimise(Hyperbolic(np.zeros(4), np.ones(4)), np.ones(4), total=4.0, min_ticket=1.5, high=np.full(4, 3.0))
    assert flat.spend.sum() == pytest.approx(4.0)
