"""The solver's fast way and its fallback, curves of every family, prices, frontier, risk, clashes, whole units."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from test_allocate import check_limits, instance

from micromarket.allocation.curves import Curves, Exponential, Hill, Hyperbolic, Logarithmic, Power, Tanh
from micromarket.allocation.dual import dual_newton
from micromarket.allocation.frontier import frontier
from micromarket.allocation.interior_point import interior_point
from micromarket.allocation.problem import Group, Problem
from micromarket.allocation.risk import cautious
from micromarket.allocation.rounding import round_to_unit
from micromarket.allocation.sampled import Mixed, Sampled, weighted
from micromarket.allocation.solver import optimise
from micromarket.errors import InfeasibleError

FAMILIES = ["market", "channel", "region"]


def curves_of(problem: dict) -> Hyperbolic:
    return Hyperbolic(problem["amplitude"] * problem["value"], problem["half_spend"])


def limits_of(problem: dict, *without: str) -> dict:
    return {k: v for k, v in problem.items() if k not in ("amplitude", "half_spend", "value", "current", *without)}


def every_family(n: int, rng: np.random.Generator) -> dict[str, Curves]:
    a, k = rng.lognormal(3, 1, n), rng.lognormal(3, 0.7, n)
    grid = np.linspace(0, 4, 41)
    bent = a[:, None] * (1 - np.exp(-grid)) ** rng.uniform(1, 2, n)[:, None]
    half = np.arange(n) % 2 == 0
    return {
        "hyperbolic": Hyperbolic(a, k), "exponential": Exponential(a, k), "logarithmic": Logarithmic(a, k),
        "power": Power(a, k, rng.uniform(0.2, 0.8, n)), "tanh": Tanh(a, k),
        "hill, concave": Hill(a, k, rng.uniform(0.4, 1, n)), "hill, S-shaped": Hill(a, k, rng.uniform(1.1, 4, n)),
        "sampled": Sampled.fitted(k, grid, bent),
        "mixed": Mixed((Hyperbolic(a[half], k[half]), Hill(a[~half], k[~half], np.full((~half).sum(), 0.7))),
                       (np.flatnonzero(half), np.flatnonzero(~half))),
    }  # fmt: skip


def test_families_agree_with_themselves():
    """Marginal is the slope of value, bend of marginal, demand its inverse; units and selections change nothing."""
    rng = np.random.default_rng(1)
    n = 60
    for name, curves in every_family(n, rng).items():
        x = rng.uniform(0.05, 3, n) * 20
        x = np.minimum(x, 0.99 * curves.reach)
        h = 1e-6 * x
        slope = (curves.value(x + h) - curves.value(x - h)) / (2 * h)
        np.testing.assert_allclose(curves.marginal(x), slope, rtol=2e-5, atol=1e-9, err_msg=name)
        if name != "sampled":  # its bend jumps at every level
            fall = -(curves.marginal(x + h) - curves.marginal(x - h)) / (2 * h)
            np.testing.assert_allclose(curves.bend(x), fall, rtol=2e-4, atol=1e-9, err_msg=name)
        beyond = x > curves.inflection * 1.01
        there = curves.demand(curves.marginal(x))
        far = beyond & (curves.marginal(x) > 1e-9)
        np.testing.assert_allclose(there[far], x[far], rtol=1e-6, err_msg=name)
        assert np.isinf(curves.demand(np.zeros(n))).all(), name
        turned = curves.scaled(5.0, 3.0)
        np.testing.assert_allclose(turned.value(x / 5), curves.value(x) / 3, rtol=1e-10, err_msg=name)
        wanted, same = turned.demand(np.full(n, 0.2)), curves.demand(np.full(n, 0.2 * 3 / 5)) / 5
        np.testing.assert_allclose(np.maximum(wanted, 0), np.maximum(same, 0), rtol=1e-6, err_msg=name)
        some = np.array([3, 50, 7])
        np.testing.assert_allclose(curves.take(some).value(x[some]), curves.value(x)[some], err_msg=name)
        np.testing.assert_allclose(weighted(curves, np.full(n, 2.0)).value(x), 2 * curves.value(x), err_msg=name)
        rises = curves.marginal(0.5 * curves.inflection) <= curves.marginal(curves.inflection) * (1 + 1e-9)
        assert rises[curves.inflection > 0].all(), name


def test_sampled_goes_through_what_it_is_given():
    grid = np.linspace(0, 3, 33)
    true = Hill(np.array([5.0, 2.0]), np.array([10.0, 4.0]), np.array([2.5, 0.8]))
    unit = np.array([10.0, 4.0])
    values = np.stack([true.value(unit * g) for g in grid], axis=1)
    fitted = Sampled.fitted(unit, grid, values)
    for g in (0.5, 1.0, 2.2, 3.0):
        np.testing.assert_allclose(fitted.value(unit * g), true.value(unit * g), rtol=0.03)
    assert fitted.inflection[0] > 0
    assert fitted.inflection[1] == 0
    flat = Sampled.fitted(unit, grid, np.zeros_like(values))
    assert (flat.value(unit) == 0).all()


@pytest.mark.parametrize("name", ["exponential", "logarithmic", "power", "tanh", "hill, concave", "sampled", "mixed"])
def test_other_families_reach_the_optimum_of_a_general_solver(name):
    problem = instance(8, 3, 2, 5)
    now, n = problem["current"], 24
    curves = every_family(n, np.random.default_rng(5))[name]
    if name == "sampled":
        curves = replace(curves, unit=now, slopes=curves.slopes * (curves.unit / now)[:, None])
        high = np.minimum(problem["high"], curves.reach)
        base = curves
        grid = curves.grid
        decreasing = np.minimum.accumulate(base.slopes, axis=1) * (1 - 1e-6 * np.arange(len(grid)))
        curves = replace(base, slopes=decreasing)
    else:
        high = problem["high"]
    limits = limits_of(problem) | {"high": high}
    found = optimise(curves, now, **limits)
    check_limits({**problem, "high": high}, found)
    assert found.certificate.duality_gap < 1e-9
    assert found.certificate.max_violation < 1e-9
    scale = found.objective

    def loss(share):
        return -float(curves.value(now * share).sum()) / scale

    def slope(share):
        return -curves.marginal(np.maximum(now * share, 1e-9)) * now / scale

    cons = [{"type": "eq", "fun": lambda s: (now @ s) / problem["total"] - 1}]
    for family in FAMILIES:
        g = problem[family]
        member = (np.eye(len(g.low))[:, g.code] * now) / problem["total"]
        cons.append({"type": "ineq", "fun": lambda s, m=member, g=g: m @ s - g.low / problem["total"]})
        cons.append({"type": "ineq", "fun": lambda s, m=member, g=g: g.high / problem["total"] - m @ s})
    limits.pop("max_shift")
    found = optimise(curves, now, **limits)
    best = minimize(loss, np.ones(n), jac=slope, bounds=[(1e-6, h / c) for h, c in zip(high, now, strict=True)],
                    constraints=cons, method="SLSQP", options={"maxiter": 500, "ftol": 1e-13})  # fmt: skip
    assert found.objective >= -best.fun * scale * (1 - 1e-8)
    assert found.certificate.duality_gap < 1e-9


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000), drop=st.sets(st.sampled_from([*FAMILIES, "max_shift"])), shift=st.floats(0.02, 0.6),
    kind=st.sampled_from(["plain", "worthless", "blocked", "free", "total"]),
)  # fmt: skip
def test_optimality_conditions_hold(seed, drop, shift, kind):
    """KKT: feasible; prices of the right sign, 0 where limits are slack; no cell wants another money at its price."""
    rng = np.random.default_rng(seed)
    problem = instance(int(rng.integers(2, 15)), int(rng.integers(1, 5)), 2, seed, shift)
    n = len(problem["current"])
    for name in drop:
        problem.pop(name)
    if kind == "worthless":
        problem["value"] = np.where(rng.random(n) < 0.3, -1.0, problem["value"])
    if kind == "blocked":
        still = rng.random(n) < 0.3
        problem["low"] = np.where(still, problem["current"], 0.0)
        problem["high"] = np.where(still, problem["current"], problem["high"])
    if kind == "total":
        problem["total"] *= rng.uniform(0.97, 1.03)
    weight = np.maximum(problem["amplitude"] * problem["value"], 0.0)
    curves, now = Hyperbolic(weight, problem["half_spend"]), problem["current"]
    extra = {"min_return": 0.3 * float(np.median(curves.marginal(now)))} if kind == "free" else {}
    try:
        found = optimise(curves, now, **limits_of(problem), **extra)
    except InfeasibleError:
        assert kind == "total"
        return
    x, unit = found.spend, problem["total"] / n
    rate = max(float(curves.marginal(now).max()), 1e-12)
    assert found.certificate.duality_gap < 1e-8
    assert found.certificate.max_violation < 1e-8
    if kind != "free":
        assert x.sum() == pytest.approx(problem["total"], rel=1e-8)
    price = np.full(n, found.price)
    for name in FAMILIES:
        if name in problem:
            g, own = problem[name], found.prices[name]
            sums = np.bincount(g.code, x, len(g.low))
            slack = 1e-6 * unit * n
            assert (own[sums < g.high - slack] <= 1e-5 * rate).all()
            assert (own[sums > g.low + slack] >= -1e-5 * rate).all()
            price = price + own[g.code]
    move = found.shift_price / 2
    assert move >= 0
    if "max_shift" in problem:
        moved = np.abs(x - now).sum() / 2
        assert move <= 1e-5 * rate or moved == pytest.approx(problem["max_shift"], rel=1e-5)
    slope, near = curves.marginal(x), 1e-5 * unit
    more, less = x < problem["high"] - near, x > problem["low"] + near
    up, down = (
        np.where(x >= now - near, price + move, price - move),
        np.where(x <= now + near, price - move, price + move),
    )
    assert (slope[more] <= up[more] + 1e-4 * rate).all()
    assert (slope[less] >= down[less] - 1e-4 * rate).all()


def test_fast_way_and_fallback_agree():
    for seed in range(6):
        problem = instance(30, 4, 4, seed)
        groups = {f: problem[f] for f in FAMILIES}
        p = Problem(curves_of(problem), problem["current"], problem["low"], problem["high"], groups, problem["total"],
                    problem["max_shift"])  # fmt: skip
        fast, sure = dual_newton(p), interior_point(p)
        assert fast is not None
        assert fast.objective == pytest.approx(sure.objective, rel=1e-9)
        assert fast.certificate.duality_gap < 1e-12
        assert fast.certificate.iterations < 30
        again = dual_newton(p, p.rows_of(fast))
        assert again is not None
        assert again.certificate.iterations <= 3
        np.testing.assert_allclose(again.spend, fast.spend, rtol=1e-6, atol=1e-6)


def test_a_hundred_thousand_cells_in_a_handful_of_steps():
    problem = instance(25_000, 4, 20, 3)
    found = optimise(curves_of(problem), problem["current"], **limits_of(problem))
    check_limits(problem, found)
    assert found.certificate.duality_gap < 1e-9
    assert found.certificate.max_violation < 1e-11
    assert found.certificate.iterations <= 12
    # markets that span regions go the general way
    region = np.random.default_rng(0).integers(0, 20, 100_000)
    now = problem["current"]
    sums = np.bincount(region, now)
    problem["region"] = Group(region, 0.95 * sums, 1.05 * sums)
    found = optimise(curves_of(problem), now, **limits_of(problem))
    check_limits(problem, found)
    assert found.certificate.duality_gap < 1e-9


def test_prices_are_what_one_more_unit_brings():
    problem = instance(20, 3, 3, 7, shift=0.1)
    found = optimise(curves_of(problem), problem["current"], **limits_of(problem))
    step = 1e-4 * problem["total"]

    def brings(**change):
        return optimise(curves_of(problem), problem["current"], **{**limits_of(problem), **change}).objective

    assert found.shift_price > 0
    more = brings(max_shift=problem["max_shift"] + step)
    assert (more - found.objective) / step == pytest.approx(found.shift_price, rel=0.02)
    assert (brings(total=problem["total"] + step) - found.objective) / step == pytest.approx(found.price, rel=0.02)
    for family in FAMILIES:
        group, prices = problem[family], found.prices[family]
        i = int(np.argmax(np.abs(prices)))
        if abs(prices[i]) < 1e-6:
            continue
        side = "high" if prices[i] > 0 else "low"
        bound = getattr(group, side).copy()
        bound[i] += step / 10
        gain = (brings(**{family: replace(group, **{side: bound})}) - found.objective) / (step / 10)
        assert gain == pytest.approx(prices[i], rel=0.05)


def test_without_a_total_money_stops_where_it_no_longer_pays():
    problem = instance(10, 3, 2, 1)
    curves, now = curves_of(problem), problem["current"]
    found = optimise(curves, now, total=None, high=5 * now, min_return=0.5)
    inner = (found.spend > 1e-6) & (found.spend < 5 * now * (1 - 1e-9))
    np.testing.assert_allclose(curves.marginal(found.spend)[inner], 0.5, rtol=1e-6)
    with pytest.raises(ValueError, match="min_return"):
        optimise(curves, now, total=None, high=5 * now)


def test_frontier_is_concave_and_its_price_is_its_slope():
    problem = instance(40, 5, 4, 2)
    curves, now = curves_of(problem), problem["current"]
    totals = np.linspace(0.8, 1.2, 21) * problem["total"]
    found = frontier(curves, now, totals, **limits_of(problem, "total", "max_shift"))
    np.testing.assert_allclose(found.totals, totals)
    slopes = np.diff(found.value) / np.diff(found.totals)
    assert (np.diff(slopes) < 0).all()
    assert (slopes <= found.price[:-1] * (1 + 1e-9)).all()
    assert (slopes >= found.price[1:] * (1 - 1e-9)).all()
    alone = optimise(curves, now, total=float(totals[3]), **limits_of(problem, "total", "max_shift"))
    assert found.value[3] == pytest.approx(alone.objective, rel=1e-10)
    far = frontier(curves, now, [0.1 * problem["total"], problem["total"]], **limits_of(problem, "total"))
    assert list(far.totals) == [problem["total"]]
    assert far.left_out == (0.1 * problem["total"],)
    widened = frontier(curves, now, [0.5 * problem["total"]], scale_limits=True, **limits_of(problem, "total"))
    assert len(widened.totals) == 1


@pytest.mark.parametrize("aversion", [0.0, 0.5, 3.0])
def test_risk_aversion_is_exact_to_its_bound(aversion):
    problem = instance(5, 3, 2, 4)
    now, rng = problem["current"], np.random.default_rng(0)
    weight = problem["amplitude"] * problem["value"]
    common = np.exp(0.5 * rng.standard_normal((3, 150)))[np.tile(np.arange(3), 5)]
    draws = weight[:, None] * common * np.exp(0.3 * rng.standard_normal((15, 150)))
    shape = Hyperbolic(np.ones(15), problem["half_spend"])
    limits = limits_of(problem, "max_shift", *FAMILIES)
    found = cautious(shape, draws, now, aversion=aversion, tolerance=1e-7, **limits)
    gains = (shape.value(found.allocation.spend) - shape.value(now)) @ draws
    assert found.score == pytest.approx(gains.mean() - aversion * gains.std())
    assert found.sd == pytest.approx(gains.std())
    assert found.gap <= 1e-6 * found.allocation.objective
    check_limits({**problem, "max_shift": None, "market": None, "channel": None, "region": None}, found.allocation)

    def loss(share):
        g = (shape.value(now * share) - shape.value(now)) @ draws
        return -(g.mean() - aversion * g.std()) / found.allocation.objective

    best = minimize(loss, found.allocation.spend / now, bounds=[(0, 3)] * 15, method="SLSQP",
                    constraints=[{"type": "eq", "fun": lambda s: now @ s / problem["total"] - 1}],
                    options={"maxiter": 300, "ftol": 1e-13})  # fmt: skip
    top = -best.fun * found.allocation.objective
    assert found.score >= top - 1e-6 * found.allocation.objective
    assert top <= found.score + found.gap + 1e-7 * found.allocation.objective


def clashing(n_markets: int = 12) -> dict:
    problem = instance(n_markets, 3, 2, 4)
    for family, names in (("market", [f"M{i:03d}" for i in range(n_markets)]), ("channel", ["radio", "tv", "web"]),
                          ("region", ["north", "south"])):  # fmt: skip
        problem[family] = replace(problem[family], names=names)
    return problem


def test_several_clashes_are_named_at_once_with_the_least_change():
    problem = clashing()
    now = problem["current"]
    low = problem["market"].low.copy()
    most = np.bincount(problem["market"].code, problem["high"])
    low[7] = most[7] + 12.0  # a market that its cells can't fill
    problem["market"] = replace(problem["market"], low=low, high=np.maximum(problem["market"].high, low))
    blocked = problem["channel"].code == 1
    problem["low"] = np.where(blocked, now, problem["low"])
    high = problem["channel"].high.copy()
    high[1] = 0.9 * now[blocked].sum()
    problem["channel"] = replace(problem["channel"], high=high, low=np.minimum(problem["channel"].low, high))
    with pytest.raises(InfeasibleError) as error:
        optimise(curves_of(problem), now, **limits_of(problem))
    said = str(error.value)
    assert "M007 by 12.00" in said
    assert f"tv by {0.1 * now[blocked].sum():,.2f}" in said
    assert "lower the lowest money of market M007 by " in said
    assert "raise the highest money of channel tv" in said
    assert len(error.value.problems) >= 3


def test_a_hidden_clash_and_its_least_change():
    """Every sum alone can be kept; together they can't: two channels and a region want more than a market may get."""
    problem = clashing()
    problem.pop("max_shift")
    now = problem["current"]
    channel = np.bincount(problem["channel"].code, now)
    problem["channel"] = replace(problem["channel"], low=np.array([2.4, 0.0, 0.0]) * channel, high=3 * channel)
    problem["total"] = 1.0 * float(now.sum())
    held = problem["channel"].code != 0
    problem["low"] = np.where(held, 0.6 * now, 0.0)
    try:
        optimise(curves_of(problem), now, **limits_of(problem))
    except InfeasibleError as error:
        said = str(error)
    else:
        pytest.fail("these limits cannot hold together")
    assert "the least change that helps" in said
    change = re.findall(r"(raise|lower) (?:the (highest|lowest) money of )?(the total|\w+ \w+) by ([\d,.]+)", said)
    assert change
    for verb, side, name, money in change:  # what is advised does put it right
        by = float(money.rstrip(".").replace(",", "")) * (1 if verb == "raise" else -1)
        by += 0.02 * np.sign(by)
        if name == "the total":
            problem["total"] += by
        else:
            family, which = name.split()
            group = problem[family]
            side = {"highest": "high", "lowest": "low"}[side]
            bound = getattr(group, side).copy()
            bound[list(group.names).index(which)] += by
            problem[family] = replace(group, **{side: bound})
    mended = optimise(curves_of(problem), now, **limits_of(problem))
    assert mended.certificate.max_violation < 1e-8


def test_too_little_may_move_for_another_total():
    problem = clashing()
    problem.pop("market")
    problem["total"] *= 1.15
    problem["max_shift"] = 0.01 * problem["total"]
    with pytest.raises(InfeasibleError, match=r"max_shift.*the total|the total.*max_shift"):
        optimise(curves_of(problem), problem["current"], **limits_of(problem))


@pytest.mark.parametrize("unit", [0.5, 1.0, 2.0])
def test_whole_units_keep_every_sum(unit):
    problem = instance(60, 4, 3, 9)
    still = np.arange(240) % 17 == 0
    problem["low"] = np.where(still, problem["current"], 0.0)
    problem["high"] = np.where(still, problem["current"], problem["high"])
    total = round(problem["total"], 2)
    wide = {f: replace(problem[f], low=problem[f].low - unit, high=problem[f].high + unit) for f in FAMILIES}
    found = optimise(curves_of(problem), problem["current"], **limits_of(problem, "max_shift") | {"total": total})
    x = round_to_unit(
        found.spend, unit, total, problem["low"], problem["high"], tuple(wide.values()), value=curves_of(problem).value
    )
    assert x.sum() == pytest.approx(total, abs=1e-6)
    assert (x >= problem["low"] - 0.006).all()
    assert (x <= problem["high"] + 0.006).all()
    odd = np.abs(x / unit - np.round(x / unit)) > 1e-6
    assert odd[~still].sum() <= 1
    for group in wide.values():
        sums = np.bincount(group.code, x)
        assert (sums >= group.low - 1e-6).all()
        assert (sums <= group.high + unit + 1e-6).all()
    lost = 1 - curves_of(problem).value(x).sum() / found.objective
    assert lost < 0.005 * unit
