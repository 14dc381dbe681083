"""Budget: every limit of the contract to the cent, an honest gain, and no move without a reason."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from micromarket.allocation.budget import BudgetResult, plan_budget
from micromarket.allocation.promise import interval
from micromarket.config import Budget, Company, Economics, PlanPeriod, Settings
from micromarket.errors import InfeasibleError
from micromarket.formats import money
from micromarket.market_data import MarketData
from micromarket.notes import Notes
from micromarket.report.sections_money import why
from micromarket.workspace import Workspace

CHANNELS = ["outdoor", "search", "tv"]


@dataclass(frozen=True)
class Curves:
    curves: pd.DataFrame | None
    curve_draws: pd.DataFrame | None
    notes: Notes


@dataclass(frozen=True)
class Company_:
    data: MarketData
    response: Curves
    value: pd.DataFrame


def settings(**budget) -> Settings:
    return Settings(
        path=Path("plan.yml"), company=Company("Test", "USD"), as_of=dt.date(2026, 6, 30),
        plan=PlanPeriod(dt.date(2026, 7, 1), dt.date(2027, 6, 30)), economics=Economics("contractual", margin_rate=0.4),
        data={}, budget=Budget(**budget),
    )  # fmt: skip


def company(markets: int = 40, seed: int = 0, noise: float = 0.15, none: float = 0.0, level: float = 1.0) -> Company_:
    """Curves with posterior draws around them; ``none``: part of the draws without any response."""
    rng = np.random.default_rng(seed)
    ids = [f"m{i:03d}" for i in range(markets)]
    keys = pd.DataFrame({"market_id": np.repeat(ids, 3), "channel": CHANNELS * markets})
    n = len(keys)
    current = np.round(rng.lognormal(8, 0.8, n), 2)
    current[rng.random(n) < 0.1] = 0.0
    half = np.maximum(current, 500) * rng.lognormal(0, 0.5, n)
    draws = rng.lognormal(3.5, 0.5, n)[:, None] * rng.lognormal(-(noise**2) / 2, noise, (n, 200)) * level
    draws[:, rng.permutation(200) < round(none * 200)] = 0.0
    worth = rng.lognormal(5, 0.4, markets)
    value = pd.DataFrame({"market_id": ids, "new_customer_clv": worth, "new_customer_clv_low": worth * 0.8,
                          "new_customer_clv_high": worth * 1.2})  # fmt: skip
    table = pd.DataFrame(
        {"market_id": ids, "region": np.array(["north", "south", None], dtype=object)[np.arange(markets) % 3]}
    )
    data = MarketData(markets=table, cells=pd.DataFrame(), history=pd.DataFrame(), current=keys.assign(current=current))
    names = [f"d{i:03d}" for i in range(200)]
    curve_draws = pd.concat([keys, pd.DataFrame(draws, columns=names)], axis=1)
    curves = keys.assign(amplitude=draws.mean(axis=1), half_spend=half)
    return Company_(data, Curves(curves, curve_draws, Notes({"p_no_response": none})), value)


def run(c: Company_, s: Settings, notes: pd.DataFrame | None = None) -> BudgetResult:
    return plan_budget(c.data, c.response, c.value, None, s, notes)


def cents(column: pd.Series) -> int:
    whole = np.round(column.to_numpy() * 100)
    np.testing.assert_allclose(whole / 100, column, atol=1e-9)
    return int(whole.sum())


def check_limits(table: pd.DataFrame, data: MarketData, budget: Budget, total: float) -> None:
    assert cents(table["recommended"]) == round(total * 100)
    now, plan = table["current"], table["recommended"]
    assert (plan <= now * budget.cell_change[1] + 1e-6).all()
    assert (plan >= now * budget.cell_change[0] - 1e-6).all()
    assert (plan - now).abs().sum() / 2 <= budget.max_shift * total + 1e-6
    region = table["market_id"].map(data.markets.set_index("market_id")["region"].fillna("none"))
    for by, band in ((table["market_id"], budget.market_change), (table["channel"], budget.channel_change),
                     (region, budget.region_change)):  # fmt: skip
        if band is not None:
            sums = table.groupby(by)[["current", "recommended"]].sum()
            assert (sums["recommended"] <= sums["current"] * band[1] + 1e-6).all()
            assert (sums["recommended"] >= sums["current"] * band[0] - 1e-6).all()


@pytest.mark.parametrize(
    "limits",
    [
        {},
        {"max_shift": 0.05, "channel_change": (0.9, 1.1), "region_change": (0.95, 1.05)},
        {"market_change": (0.8, 1.3), "cell_change": (0.5, 2.5), "risk_aversion": 1.0},
        {"total": 300_000.0, "max_shift": 0.4},
        {"max_shift": 0.0},
    ],
)
def test_every_limit_holds_to_the_cent(limits):
    c, s = company(), settings(**limits)
    result = run(c, s)
    table = result.budget
    assert table is not None
    total = limits.get("total", float(c.data.current["current"].sum()))
    check_limits(table, c.data, s.budget, total)
    assert not table.isna().any().any()
    assert len(table) == 120
    assert table["reason"].str.len().gt(10).all()
    assert (table["value_low"] <= table["incremental_value"] + 1e-9).all()
    assert (table["value_high"] >= table["incremental_value"] - 1e-9).all()
    numbers = result.notes.numbers
    assert numbers["gain"]["expected"] == pytest.approx(table["incremental_value"].sum())
    assert numbers["customers"]["expected"] == pytest.approx(table["incremental_customers"].sum())
    assert numbers["total"] == pytest.approx(total, abs=0.005)
    assert numbers["moved"] == pytest.approx((table["recommended"] - table["current"]).abs().sum() / 2)
    assert all(check.passed for check in result.notes.checks)
    pd.testing.assert_frame_equal(table, run(c, s).budget)


def test_gain_and_frontier():
    numbers = run(company(), settings()).notes.numbers
    gain = numbers["gain"]
    assert 0 < gain["low"] < gain["expected"] < gain["high"]
    assert gain["p_positive"] > 0.95
    totals = [p["total"] for p in numbers["frontier"]]
    values = [p["value"] for p in numbers["frontier"]]
    assert np.allclose(np.array(totals) / numbers["total"], [0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3])
    assert values == sorted(values)
    assert values[3] == pytest.approx(gain["expected"])
    # the price is the slope of the frontier, which is concave
    steps = np.diff(values) / np.diff(totals)
    assert (np.diff(steps) < 0).all()
    # (its limits widen with the total, the price is at the plan's own limits)
    assert numbers["price"] == pytest.approx((steps[2] + steps[3]) / 2, rel=0.15)


def test_a_cautious_and_a_free_plan_stand_beside():
    c = company(noise=0.5)
    result = run(c, settings())
    numbers, beside, table = result.notes.numbers, result.beside, result.budget
    assert beside is not None
    assert table is not None
    total = cents(table["recommended"])
    for name in ("cautious", "free", "considered"):
        assert cents(beside[name]) == total
    assert numbers["cautious"]["moved"] <= numbers["moved"] / 2 + 1
    assert (
        numbers["free"]["gain"]["expected"] >= numbers["gain"]["expected"] > numbers["cautious"]["gain"]["expected"] > 0
    )

    def spread(gain: dict) -> float:
        return gain["high"] - gain["low"]

    assert spread(numbers["cautious"]["gain"]) < spread(numbers["gain"])
    # shadow prices: the total's, and that of moving more, as the cap on moves binds
    prices = {row["limit"]: row["value"] for row in numbers["prices"]}
    assert prices["total"] == pytest.approx(numbers["price"])
    looser = run(c, settings(max_shift=0.32)).notes.numbers["gain"]["expected"]
    step = 0.02 * numbers["total"]
    assert 0 < (looser - numbers["gain"]["expected"]) / step < prices["max_shift"] * 1.05


def test_draws_without_response_keep_the_range_at_zero():
    draws = np.r_[np.zeros(20), np.linspace(50, 150, 180)]
    wide, narrow = interval(draws), interval(draws, width=0.5)
    assert wide["low"] == narrow["low"] == 0
    assert narrow["p_positive"] == wide["p_positive"] == pytest.approx(0.9)
    assert narrow["high"] < wide["high"]


def test_money_does_not_move_on_noise():
    """Draws that mostly say there is no response: today's allocation stays, and the plan says why."""
    c = company(none=0.6)
    result = run(c, settings())
    assert result.budget is not None
    assert (result.budget["change"] == 0).all()
    numbers = result.notes.numbers
    assert numbers["moved"] == 0
    assert numbers["gain"]["low"] <= 0 <= numbers["gain"]["high"]
    assert numbers["considered"]["moved"] > 0
    assert any("Today's allocation is kept" in w for w in result.notes.warnings)
    # with another total, today's allocation in proportion
    half = run(c, settings(total=0.9 * float(c.data.current["current"].sum())))
    assert half.budget is not None
    assert half.budget["recommended"].sum() == pytest.approx(0.9 * half.budget["current"].sum(), abs=0.01)
    spent = half.budget[half.budget["current"] > 0]
    np.testing.assert_allclose(spent["recommended"] / spent["current"], 0.9, atol=2e-3)


def test_risk_aversion_lowers_the_spread_and_the_mean():
    c = company(noise=0.8, markets=15)
    bold, careful = (run(c, settings(risk_aversion=a)).notes.numbers["gain"] for a in (0.0, 3.0))
    assert careful["high"] - careful["low"] < bold["high"] - bold["low"]
    assert careful["expected"] < bold["expected"]
    assert careful["expected"] > 0


def test_reasons_start_with_what_changes_and_leave_out_what_says_nothing():
    table = run(company(), settings()).budget
    assert table is not None
    moved = table[table["change"] != 0]
    for row in moved.itertuples():
        start = f"{money(row.change, 'USD', 2, sign=True)} {'into' if row.change > 0 else 'out of'} {row.channel}: "
        assert row.reason.startswith(start)
        assert "saturation" in row.reason
        # reports drop the lead where columns beside it say the same
        assert why(row.reason).startswith(row.reason.removeprefix(start)[0].upper())
    text = " ".join(table["reason"].str.replace(r"at its limit of .*?x", "", regex=True))
    for empty in (" 0.0x", " 1.0x"):
        assert empty not in text


def test_blocked_markets_keep_their_money():
    c = company()
    notes = pd.DataFrame({
        "market_id": ["m001", "m002", "m003"], "author": "A", "date": dt.date(2026, 6, 1),
        "kind": ["blocked", "blocked", "target"], "reason": "x", "expires_on": [None, dt.date(2026, 6, 29), None],
    })  # fmt: skip
    result = run(c, settings(), notes)
    table = result.budget
    assert table is not None
    change = table.groupby("market_id")["change"].agg(lambda x: x.abs().sum())
    assert change["m001"] == 0
    assert change["m002"] > 0
    assert table.loc[(table["market_id"] == "m001") & (table["current"] > 0), "reason"].str.contains("blocked").all()
    assert any("1 market keeps" in w for w in result.notes.warnings)


def test_cells_without_spend_stay_without_and_worthless_markets_get_nothing_more():
    c = company()
    value = c.value.assign(
        new_customer_clv=np.where(c.value["market_id"] == "m004", -10.0, c.value["new_customer_clv"])
    )
    value.loc[5, ["new_customer_clv", "new_customer_clv_low", "new_customer_clv_high"]] = np.nan
    table = run(replace(c, value=value), settings()).budget
    assert table is not None
    assert (table.loc[table["current"] == 0, "recommended"] == 0).all()
    assert (table.loc[table["market_id"] == "m004", "change"] <= 0).all()
    assert np.isfinite(table.select_dtypes("number").to_numpy()).all()


def test_money_that_brings_too_little_stays_unspent():
    c = company()
    price = run(c, settings()).notes.numbers["price"]
    result = run(c, settings(min_return=price * 1.5))
    assert result.budget is not None
    total = float(c.data.current["current"].sum())
    assert result.budget["recommended"].sum() < 0.995 * total
    assert any("unspent" in w for w in result.notes.warnings)
    assert cents(result.budget["recommended"]) == round(result.notes.numbers["total"] * 100)


def test_clashing_limits_are_named():
    c = company()
    with pytest.raises(InfeasibleError, match=r"highest limits that add up to the total"):
        run(c, settings(total=10 * float(c.data.current["current"].sum())))
    with pytest.raises(InfeasibleError):
        run(c, settings(channel_change=(1.1, 1.2)))


def test_written_and_read_back(tmp_path):
    result = run(company(), settings())
    workspace = Workspace(tmp_path)
    result.write(workspace)
    assert len(workspace.read("budget")) == 120
    assert workspace.notes("allocation").numbers["gain"]["expected"] > 0
