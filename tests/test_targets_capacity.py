"""Reps: the greedy move of whole persons is exact, stays within its limits, and utilisation adds up."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.stats import norm
from test_targets import make_company, make_settings

from micromarket import config
from micromarket.targets import set_targets
from micromarket.targets.capacity import Staff, expected_least, move_reps


def staff_of(rng: np.random.Generator, count: int, groups: int) -> Staff:
    return Staff(
        rng.integers(1, 13, count) / 2, rng.uniform(20, 80, count), rng.uniform(10, 300, count),
        rng.uniform(1, 60, count), rng.uniform(50, 400, count), rng.integers(0, groups, count),
    )  # fmt: skip


def possible(staff: Staff, most: int):
    """Every change that keeps the rules, by brute force."""
    floor = np.maximum(np.floor(staff.reps) - 1, 0).astype(int)
    for change in itertools.product(*(range(-int(f), most + 1) for f in floor)):
        change = np.array(change)
        if np.maximum(change, 0).sum() <= most and not np.bincount(staff.group, change).any():
            yield change


@hypothesis_settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 5), st.integers(1, 2), st.integers(0, 3), st.floats(0.5, 1.0))
def test_greedy_is_exact_against_brute_force(seed: int, count: int, groups: int, most: int, ramp: float) -> None:
    staff = staff_of(np.random.default_rng(seed), count, groups)
    found = move_reps(staff, most, ramp)
    best = max(staff.worth(change, ramp).sum() for change in possible(staff, most))
    assert staff.worth(found, ramp).sum() == pytest.approx(best, rel=1e-9)
    assert not np.bincount(staff.group, found).any()
    assert np.maximum(found, 0).sum() <= most
    assert (staff.reps + found >= np.minimum(staff.reps, 1)).all()


@pytest.mark.parametrize("seed", range(3))
def test_greedy_is_exact_against_a_mixed_integer_program(seed: int) -> None:
    """60 territories in 6 regions, up to 25 persons: one binary for each step of each territory."""
    staff, most, ramp = staff_of(np.random.default_rng(seed), 60, 6), 25, 0.875
    steps = []  # territory, +1 or -1, gain
    for i in range(60):
        one = np.eye(60, dtype=int)[i]
        worth = [staff.worth(k * one, ramp)[i] for k in range(-12, most + 1)]
        give = int(max(np.floor(staff.reps[i]) - 1, 0))
        steps += [(i, 1, worth[12 + k] - worth[11 + k]) for k in range(1, most + 1)]
        steps += [(i, -1, worth[12 - k] - worth[13 - k]) for k in range(1, give + 1)]
    territory, sign, gain = (np.array(x) for x in zip(*steps, strict=True))
    rows = [np.where(staff.group[territory] == g, sign, 0) for g in range(6)] + [(sign > 0).astype(int)]
    limits = LinearConstraint(np.array(rows), [0] * 6 + [0], [0] * 6 + [most])
    solved = milp(-gain, constraints=limits, bounds=Bounds(0, 1), integrality=np.ones(len(gain)))
    assert solved.success
    found = move_reps(staff, most, ramp)
    brought = (staff.worth(found, ramp) - staff.worth(0 * found, ramp)).sum()
    assert brought == pytest.approx(-solved.fun, rel=1e-6)
    assert found.any()


def test_expected_least_is_the_mean_of_the_smaller() -> None:
    draws = norm(100, 20).ppf((np.arange(200_000) + 0.5) / 200_000)
    for limit in (50.0, 95.0, 130.0):
        got = expected_least(np.array([100.0]), np.array([20.0]), np.array([limit]))
        assert got[0] == pytest.approx(np.minimum(draws, limit).mean(), rel=1e-5)
    sure = expected_least(np.array([100.0, 100.0]), np.zeros(2), np.array([80.0, 120.0]))
    assert sure.tolist() == pytest.approx([80.0, 100.0])


def staffed(markets: int = 30):
    """Five territories in two regions; the first has far too few reps, the fifth sits alone with too many."""
    data, values, *_ = make_company(markets, ("A",))
    values["new_customer_clv"] = 300.0
    won = data.cells.set_index("market_id")["new_customers_last_year"].to_numpy()
    at = np.arange(markets) % 5
    frame = data.markets
    frame["territory"] = [f"T{t}" for t in at]
    frame["region"] = np.where(at < 3, "north", "south")
    frame["capacity"] = won * np.choose(at, [1.0, 2.5, 2.0, 1.2, 4.0])
    frame["reps"] = frame["capacity"] / 150
    return data, values


def test_reps_move_to_where_they_are_missing_inside_their_region() -> None:
    data, values = staffed()
    # the budget brings more customers than the first territory's reps can win
    first = data.markets.loc[data.markets["territory"] == "T0", "market_id"]
    extra = pd.DataFrame({"market_id": first, "channel": "tv", "incremental_customers": 120.0})
    result = set_targets(data, values, None, extra, make_settings(reps=config.RepMoves(max_moves=0.2)))
    table, numbers = result.capacity.set_index("territory"), result.notes.numbers["capacity"]
    won = result.targets.groupby(data.markets.set_index("market_id")["territory"].reindex(
        result.targets["market_id"]).to_numpy())["new_customers"].sum()  # fmt: skip
    assert table["target"].to_dict() == won.to_dict()
    assert table["utilisation"].to_numpy() == pytest.approx((table["target"] / table["capacity"]).to_numpy())
    assert table.loc["T0", "change"] > 0
    assert table.groupby("region")["change"].sum().eq(0).all()
    assert table.loc["T4", "change"] <= 0
    assert (table["change"] % 1 == 0).all()
    assert numbers["moved"] == table["change"].clip(lower=0).sum() <= 0.2 * table["reps"].sum()
    assert numbers["moved"] == sum(m["reps"] for m in numbers["moves"])
    assert all(m["region"] == "north" for m in numbers["moves"] if m["to"] == "T0")
    assert numbers["gain"] > 0
    assert any("Moving" in w and "T0" in w for w in result.notes.warnings)
    still = set_targets(data, values, None, extra, make_settings(reps=config.RepMoves(max_moves=0.0)))
    assert still.capacity["change"].eq(0).all()
    afar = set_targets(data, values, None, extra, make_settings(reps=config.RepMoves(max_moves=0.2, within="company")))
    assert afar.notes.numbers["capacity"]["gain"] >= numbers["gain"]


def test_without_reps_or_capacity() -> None:
    data, values = staffed(10)
    data.markets["capacity"] = np.nan
    result = set_targets(data, values, None, None, make_settings())
    assert result.capacity["utilisation"].isna().all()
    assert result.capacity["change"].eq(0).all()
    assert np.isfinite(result.capacity[["reps", "target", "wanted"]].to_numpy(float)).all()
    del data.markets["reps"]
    assert set_targets(data, values, None, None, make_settings()).capacity is None
