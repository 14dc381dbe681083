"""Allocation: the optimum that others find too, limits kept, clashes named."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from micromarket.allocation.solver import Allocation, Group, allocate
from micromarket.errors import InfeasibleError


def instance(markets: int, channels: int, regions: int, seed: int, shift: float = 0.15) -> dict:
    """Every constraint at once, feasible at today's money."""
    rng = np.random.default_rng(seed)
    n = markets * channels
    current = rng.lognormal(3, 1, n)
    market = np.repeat(np.arange(markets), channels)
    codes = {
        "market": (market, markets, 0.5, 2.0),
        "channel": (np.tile(np.arange(channels), markets), channels, 0.8, 1.2),
        "region": (rng.integers(0, regions, markets)[market], regions, 0.8, 1.25),
    }
    groups = {}
    for name, (code, size, low, high) in codes.items():
        sums = np.bincount(code, current, size)
        groups[name] = Group(code, low * sums, high * sums)
    return {
        "amplitude": rng.lognormal(3, 1, n),
        "half_spend": current * rng.lognormal(0, 0.7, n),
        "value": np.repeat(rng.lognormal(0, 0.4, markets), channels),
        "current": current,
        "total": float(current.sum()),
        "low": np.zeros(n),
        "high": 3 * current,
        "max_shift": shift * float(current.sum()),
        **groups,
    }


def check_limits(problem: dict, found: Allocation, total: float | None = None, tolerance: float = 1e-7) -> None:
    x, slack = found.spend, tolerance * problem["total"]
    assert np.isfinite(x).all()
    assert x.sum() == pytest.approx(problem["total"] if total is None else total, abs=slack)
    assert (x >= problem["low"] - slack).all()
    assert (x <= problem["high"] + slack).all()
    for name in ("market", "channel", "region"):
        group = problem.get(name)
        if group is not None:
            sums = np.bincount(group.code, x, len(group.low))
            assert (sums >= group.low - slack).all()
            assert (sums <= group.high + slack).all()
    if problem.get("max_shift") is not None:
        assert np.abs(x - problem["current"]).sum() / 2 <= problem["max_shift"] + slack


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("without", [(), ("max_shift",), ("channel", "region"), ("market", "channel", "region")])
def test_same_optimum_as_a_general_solver(seed, without):
    cp = pytest.importorskip("cvxpy")
    problem = instance(6 + 3 * seed, 3, 3, seed)
    for name in without:
        problem.pop(name)
    found = allocate(**problem)
    check_limits(problem, found)
    now, half = problem["current"], problem["half_spend"]
    share = cp.Variable(len(now))  # money in units of today's
    weight = problem["amplitude"] * problem["value"]
    ratio = half / now
    goal = cp.sum(cp.multiply(weight, 1 - cp.multiply(ratio, cp.inv_pos(share + ratio))))
    x = cp.multiply(now, share)
    limits = [cp.sum(x) == problem["total"], share >= 0, share <= 3]
    for name in ("market", "channel", "region"):
        if name in problem:
            group = problem[name]
            member = np.eye(len(group.low))[:, group.code]
            limits += [member @ x >= group.low, member @ x <= group.high]
    if "max_shift" in problem:
        limits.append(cp.sum(cp.abs(x - now)) / 2 <= problem["max_shift"])
    best = cp.Problem(cp.Maximize(goal), limits).solve(solver=cp.CLARABEL)
    assert found.objective == pytest.approx(best, rel=1e-7)
    assert found.certificate.duality_gap < 1e-8
    assert found.certificate.max_violation < 1e-8


def test_one_price_for_all_where_nothing_binds():
    """With only the total fixed, cells between their bounds share one marginal value: the price."""
    problem = instance(30, 3, 3, 0)
    for name in ("market", "channel", "region", "max_shift"):
        problem.pop(name)
    found = allocate(**problem)
    x, h = found.spend, problem["half_spend"]
    marginal = problem["amplitude"] * problem["value"] * h / (x + h) ** 2
    inner = (x > 1e-4 * problem["high"]) & (x < (1 - 1e-4) * problem["high"])
    assert inner.sum() > 10
    np.testing.assert_allclose(marginal[inner], found.price, rtol=1e-4)
    assert (marginal[x >= (1 - 1e-6) * problem["high"]] >= found.price * (1 - 1e-4)).all()
    assert (marginal[x <= 1e-6 * problem["high"]] <= found.price * (1 + 1e-4)).all()
    # the price is what one more unit of money brings
    more = allocate(**{**problem, "total": problem["total"] * 1.001})
    assert (more.objective - found.objective) / (problem["total"] * 0.001) == pytest.approx(found.price, rel=1e-2)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    markets=st.integers(1, 12), channels=st.integers(1, 4), regions=st.integers(1, 3), seed=st.integers(0, 10_000),
    shift=st.floats(0.01, 0.6), drop=st.sets(st.sampled_from(["market", "channel", "region", "max_shift"])),
)  # fmt: skip
def test_feasible_certified_and_at_least_as_good_as_today(markets, channels, regions, seed, shift, drop):
    problem = instance(markets, channels, regions, seed, shift)
    for name in drop:
        problem.pop(name)
    found = allocate(**problem)
    check_limits(problem, found)
    assert found.certificate.duality_gap < 1e-6
    now, half = problem["current"], problem["half_spend"]
    today = float((problem["amplitude"] * problem["value"] * now / (now + half)).sum())
    assert found.objective >= today * (1 - 1e-7)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), steps=st.lists(st.floats(0.9, 1.1), min_size=2, max_size=4))
def test_more_money_is_never_worse(seed, steps):
    problem = instance(8, 3, 2, seed)
    totals = sorted(step * problem["total"] for step in steps)
    values = [allocate(**{**problem, "total": t}).objective for t in totals]
    assert all(b >= a * (1 - 1e-7) for a, b in itertools.pairwise(values))


def test_money_that_brings_too_little_stays_unspent():
    problem = instance(20, 3, 3, 1)
    for name in ("market", "channel", "region", "max_shift"):
        problem.pop(name)
    all_spent = allocate(**problem)
    found = allocate(**problem, min_return=2 * all_spent.price)
    assert found.spend.sum() < 0.99 * problem["total"]
    assert found.price == pytest.approx(2 * all_spent.price, rel=1e-4)
    easy = allocate(**problem, min_return=0.5 * all_spent.price)
    assert easy.spend.sum() == pytest.approx(problem["total"], rel=1e-7)


def test_blocked_cells_empty_cells_and_worthless_markets():
    problem = instance(12, 3, 2, 2)
    problem["low"][:3] = problem["high"][:3] = problem["current"][:3]
    problem["amplitude"][3:6] = 0.0
    problem["value"][6:9] = -5.0
    found = allocate(**problem)
    check_limits(problem, found)
    np.testing.assert_allclose(found.spend[:3], problem["current"][:3])
    assert found.certificate.duality_gap < 1e-6
    nothing = allocate(**{**problem, "amplitude": np.zeros(36)})
    check_limits(problem, nothing)


def test_no_room_at_all_is_todays_money():
    problem = instance(10, 2, 2, 3)
    found = allocate(**{**problem, "max_shift": 0.0})
    np.testing.assert_allclose(found.spend, problem["current"], rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"total": 5.0}, "highest limits"),
        ({"total": 0.01}, "lowest limits"),
        ({"low": 4.0}, "lowest money of a cell"),
        ({"channel": 3.5}, "channel limits that its cells"),
        ({"total": 1.3, "max_shift": 0.05}, "max_shift|total"),
        ({"total": 1.19, "channel": 1.3}, "add up"),
    ],
)
def test_clashes_are_named(change, said):
    problem = instance(10, 3, 2, 4)
    if "total" in change:
        problem["total"] *= change["total"]
    if "low" in change:
        problem["low"] = change["low"] * problem["current"]
    if "max_shift" in change:
        problem["max_shift"] = change["max_shift"] * problem["total"]
        for name in ("market", "channel", "region"):
            problem.pop(name)
    if "channel" in change:
        group = problem["channel"]
        low = change["channel"] * np.bincount(group.code, problem["current"], 3)
        problem["channel"] = Group(group.code, low, low * 1.1, ("tv", "web", "radio"))
    with pytest.raises(InfeasibleError, match=said):
        allocate(**problem)


def test_large_problem_is_quick():
    problem = instance(5_000, 4, 20, 5)
    found = allocate(**problem)
    check_limits(problem, found)
    assert found.certificate.duality_gap < 1e-8
    assert found.certificate.iterations < 60
