"""What people try out: scenarios that agree with the plan, sliders, a saved plan.yml, one market and its peers."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import report_world as reports
from test_budget import Curves, company, settings
from test_response_views import world as estimated  # noqa: F401 (a fixture)
from tiny import write_tiny

from micromarket.allocation import plan_budget
from micromarket.config import Budget, Objective, Settings, read_settings
from micromarket.errors import InfeasibleError, InputError, StageError
from micromarket.explore import (
    Explorer,
    Markets,
    compare,
    explorer_of,
    market_panel,
    profile_of,
    save_scenario,
    scenario_panel,
)
from micromarket.explore.panels import ScenarioPanel
from micromarket.notes import Notes
from micromarket.workspace import Workspace

Run = tuple[Settings, Workspace]
UNKNOWN = ("new_customer_clv_low", "new_customer_clv_high", "first_year_revenue", "payback_months")


def scores_of(ids: pd.Series) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    money = {f"opportunity_{k}": rng.lognormal(9, 1, len(ids)) for k in ("acquire", "deepen", "retain")}
    return pd.DataFrame({"market_id": ids, "opportunity": money["opportunity_acquire"], **money})


@pytest.fixture(scope="module")
def explorer() -> Explorer:
    c = company()
    data = replace(c.data, markets=c.data.markets.assign(name=c.data.markets["market_id"].str.upper()))
    return Explorer(settings(), data, c.response, c.value, scores_of(c.value["market_id"]))


@pytest.mark.parametrize(
    "limits",
    [{}, {"total": 5e5, "min_return": 1.0}, {"risk_aversion": 1.0, "max_shift": 0.1}, {"round_to": 50.0}],
)
def test_the_plans_own_limits_give_the_plans_own_budget(limits: dict) -> None:
    c = company()
    plan = plan_budget(c.data, c.response, c.value, None, settings(**limits))
    outcome = Explorer(settings(**limits), c.data, c.response, c.value, None)
    found = outcome.plan(outcome.as_planned)
    assert plan.budget is not None
    pd.testing.assert_frame_equal(found.budget, plan.budget[list(found.budget.columns)])
    numbers = plan.notes.numbers
    assert found.gain == pytest.approx(numbers["gain"], rel=1e-9)
    assert found.customers == pytest.approx(numbers["customers"]["expected"])
    assert (found.moved, found.price) == (pytest.approx(numbers["moved"]), pytest.approx(numbers["price"]))
    assert found.pays == (not numbers["kept"])


def test_so_it_does_where_response_was_estimated_and_mixed_with_simpler_accounts(estimated) -> None:  # noqa: F811
    data, curves, draws = estimated
    response = Curves(curves, draws, Notes({"source": "estimated", "channels": [], "p_no_response": 0.0}))
    worth = pd.DataFrame({"market_id": data.markets["market_id"], "new_customer_clv": 100.0})
    plan = plan_budget(data, response, worth, None, settings())
    explorer = Explorer(settings(), data, response, worth, None)
    found = explorer.plan(explorer.as_planned)
    assert any(key.startswith("weight") for key in plan.notes.numbers["stacking"]), "simpler accounts are in it"
    assert plan.budget is not None
    pd.testing.assert_frame_equal(found.budget, plan.budget[list(found.budget.columns)])


def test_less_freedom_never_promises_more(explorer: Explorer) -> None:
    """The wider set holds the narrower one, and each is solved to its optimum: of the solver's own objective."""
    own = explorer.as_planned.but("free", market_change=(0.0, 10.0), cell_change=(0.0, 10.0))
    worth = explorer.cells.value * explorer.cells.amplitude
    brought = []
    for shift in (0.0, 0.05, 0.15, 0.3, 0.6):
        outcome = explorer.plan(own.but(f"{shift}", max_shift=shift))
        spend = outcome.budget["recommended"].to_numpy()
        assert outcome.moved <= shift * outcome.total + 0.02 * len(spend)
        brought.append(float(worth @ explorer.cells.outcome(spend)) if outcome.pays or shift == 0 else brought[-1])
    assert np.all(np.diff(brought) >= -1e-6 * max(brought))
    assert brought[0] == pytest.approx(0, abs=1e-6)


def test_money_adds_up_and_half_the_margin_is_half_the_gain(explorer: Explorer) -> None:
    own = explorer.as_planned
    more = explorer.plan(own.but("more", total=1.2 * explorer.current_total))
    assert more.budget["recommended"].sum() == pytest.approx(1.2 * explorer.current_total, abs=0.01)
    assert more.frontier["total"].is_monotonic_increasing
    assert more.frontier["value"].is_monotonic_increasing
    here = more.frontier.set_index("total").loc[more.total]
    assert here["value"] == more.gain["expected"]
    plain = explorer.plan(own)
    assert own.margin_rate == 0.4
    half = explorer.plan(own.but("half", margin_rate=0.2))
    assert half.gain["expected"] == pytest.approx(plain.gain["expected"] / 2, rel=1e-6)
    assert half.opportunity.sum() == pytest.approx(plain.opportunity.sum() / 2)
    kept = explorer.plan(own.but("retain", objective=Objective(acquire=0, retain=1)))
    wanted = explorer.scores.set_index("market_id")["opportunity_retain"]
    pd.testing.assert_series_equal(kept.opportunity, wanted, check_names=False)
    pd.testing.assert_frame_equal(kept.budget, plain.budget)


def test_aversion_gives_up_gain_for_less_spread(explorer: Explorer) -> None:
    plain = explorer.plan(explorer.as_planned)
    careful = explorer.plan(explorer.as_planned.but("careful", risk_aversion=2.0))
    spread = [explorer.draws.gains(o.budget["recommended"].to_numpy()).std() for o in (plain, careful)]
    assert spread[1] < spread[0]
    assert careful.gain["expected"] <= plain.gain["expected"] * (1 + 1e-9)


def test_what_does_not_clearly_pay_stays(explorer: Explorer) -> None:
    outcome = explorer.plan(explorer.as_planned.but("none", max_shift=0.0))
    assert not outcome.moved
    assert outcome.gain["p_positive"] is None
    with pytest.raises(InfeasibleError):
        explorer.plan(explorer.as_planned.but("clash", market_change=(1.3, 2.0)))


def test_a_saved_scenario_is_a_plan_that_reads_back(explorer: Explorer, tmp_path: Path) -> None:
    own = read_settings(write_tiny(tmp_path / "co"))
    wish = explorer.as_planned.but("Ça: 10% more!", objective=Objective(1.0, 0.5, 0.0), margin_rate=0.41)
    wish = replace(wish, limits=replace(own.budget, total=123456.78, market_change=(0.7, 1.4), min_return=0.5))
    path = save_scenario(wish, own)
    assert path.name == "plan-ça-10-more.yml"
    back = read_settings(path)
    assert (back.budget, back.targets.objective, back.economics.margin_rate) == (wish.limits, wish.objective, 0.41)
    assert replace(
        back, path=own.path, budget=own.budget, economics=own.economics, targets=own.targets
    ) == own  # fmt: skip
    today = save_scenario(replace(wish, limits=Budget()), back, "as today")
    assert read_settings(today).budget == Budget()
    with pytest.raises(InputError):
        save_scenario(wish, own, "…")


def test_sliders_answer_and_go_back(explorer: Explorer) -> None:
    panel = scenario_panel(explorer)
    assert isinstance(panel, ScenarioPanel)
    if panel.widgets is None:
        pytest.skip("ipywidgets is not installed")
    assert panel.scenario == explorer.as_planned
    before = panel.answer.value
    panel.sliders["total"].value = 130
    assert panel.outcome.total == pytest.approx(1.3 * explorer.current_total, abs=0.01)
    assert panel.answer.value != before
    panel.keep()
    assert [o.scenario.name for o in panel.kept] == ["As planned", "Scenario 1"]
    assert "Scenario 1" in panel.beside.value
    panel.sliders["market_change"].value = (1.9, 2.0)
    assert "contradict" in panel.said.value
    assert panel.outcome.total == pytest.approx(1.3 * explorer.current_total, abs=0.01)
    panel.back()
    assert panel.answer.value == before
    assert "may move" in compare(panel).page


def test_a_run_without_spend_says_so(tmp_path: Path) -> None:
    assert explorer_of(Workspace(tmp_path), settings()) is None
    assert "no response to spend" in compare(scenario_panel(None)).page


# --- one market -----------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("market")
    ws = reports.build(folder, n=30, hostile=True)
    scores = ws.read("scores")
    worth = scores[["market_id", "customers", "clv", "clv_low", "clv_high", "new_customer_clv", "customer_equity"]]
    extra = dict.fromkeys(
        ("new_customer_clv_low", "new_customer_clv_high", "first_year_revenue", "payback_months"), np.nan
    )
    ws.write("value_markets", worth.assign(acquisition_cost=50.0, **extra))
    return reports.settings(folder), ws


def test_one_market_beside_its_peers(run: Run) -> None:
    own, ws = run
    scores = ws.read("scores").set_index("market_id")
    markets = Markets(ws, own)
    market = markets.first()
    profile = profile_of(ws, own, market)
    figures = profile.figures.set_index("figure")
    here = scores.loc[market, "headroom"]
    assert figures.loc["headroom", "value"] == pytest.approx(here)
    assert figures.loc["headroom", "rank"] == (scores["headroom"] > here).sum() + 1
    group = scores.index[(scores["peer_group"] == scores.loc[market, "peer_group"]) & (scores.index != market)]
    assert figures.loc["headroom", "peers"] == pytest.approx(scores.loc[group, "headroom"].median())
    assert len(profile.peers)
    assert set(profile.peers["market_id"]) <= set(group)
    change = ws.read("budget").groupby("market_id")["change"].sum()
    assert profile.moves["change"].sum() == pytest.approx(change[market], abs=0.01)
    assert profile.periods["revenue"].sum() == pytest.approx(figures.loc["target_revenue", "value"])
    with pytest.raises(StageError, match="did you mean"):
        markets.profile(market + "x")


def test_a_market_of_few_customers_tells_nothing_of_them(run: Run) -> None:
    markets = Markets(run[1], run[0])
    page = market_panel(markets, "M00001").page()  # 4 customers
    assert "Fewer than 10 customers" in page
    figures = markets.profile("M00001").figures.set_index("figure")
    assert figures.loc[["customers", "penetration", "share"], "value"].isna().all()
    assert "nan" not in page.lower().replace("alnan", "")


def test_texts_from_data_stay_texts(run: Run) -> None:
    page = market_panel(Markets(run[1], run[0]), "M00001").page()
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_figures_that_rank_by_noise_are_left_out(tmp_path: Path, run: Run) -> None:
    ws = reports.build(tmp_path, n=16, stages=("value", "potential"), potential_signal="none", value_signal="none")
    extra = dict.fromkeys(
        ("new_customer_clv_low", "new_customer_clv_high", "first_year_revenue", "payback_months"), np.nan
    )
    columns = ["market_id", "customers", "clv", "clv_low", "clv_high", "new_customer_clv", "customer_equity"]
    ws.write("value_markets", ws.read("scores")[columns].assign(acquisition_cost=np.nan, **extra))
    profile = profile_of(ws, reports.settings(tmp_path), "M00003")
    assert not {"clv", "headroom", "opportunity"} & set(profile.figures["figure"])
    assert not profile.play


def test_whatever_the_plan_is_made_of_scenarios_are_too() -> None:
    """An input that the allocation stage learns to read would otherwise part the two in silence."""
    assert set(inspect.signature(plan_budget).parameters) == set(inspect.signature(Explorer).parameters)
