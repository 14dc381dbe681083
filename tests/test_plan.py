"""The plan: what it says for what it knows, sums that hold, small groups that stay hidden."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest
import report_world as world

from micromarket.artefacts import ARTEFACTS
from micromarket.notes import Notes
from micromarket.plan.assembly import PUBLISHED, Plan, assemble, suppress_small_cells
from micromarket.plan.direction import direction

ALL = ("value", "potential", "response", "allocation", "targets", "funnel", "tests")


def plan_of(folder: Path, **how) -> Plan:
    return assemble(world.build(folder, **how), world.settings(folder))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Plan:
    return plan_of(tmp_path_factory.mktemp("whole"), hostile=True)


@pytest.fixture(scope="session")
def schema(repo) -> dict:
    return json.loads((repo / "docs" / "plan-schema.json").read_text(encoding="utf-8"))


def test_the_headline_is_the_finding(whole):
    gain = whole.number("allocation", "gain")
    assert whole.headline.startswith(
        "Move $1.27M from the markets worth least into 16 under-served ones: +$2.8M margin"
    )
    assert "$1.5M to $4.1M" in whole.headline
    assert gain["low"] == pytest.approx(1.54e6, rel=0.01)
    assert "21% of the spend sits in the tenth of markets" in whole.subline
    assert "+10% revenue" in whole.subline
    assert "odds of 62%" in whole.subline
    assert len(whole.cards) == 4


@pytest.mark.parametrize(
    ("how", "said", "not_said"),
    [
        ({"stages": ("value", "potential")}, "of margin is still to be won", "Move"),
        ({"stages": ("value",), "value_signal": "none"}, "Steer by segment, not by market", "worth least"),
        ({"stages": ("value", "potential"), "value_signal": "none", "potential_signal": "none"}, "noise", "best fifth"),
        ({"value_signal": "none"}, "Move", "worth least"),
        ({"null": True}, "Leave the budget where it is", "Move $"),
        ({"source": "assumed"}, "if spend works as studies elsewhere found", "certain"),
        ({"stages": ()}, "60 markets", "$0"),
    ],
)
def test_the_headline_claims_only_what_the_data_support(tmp_path, how, said, not_said, schema):
    plan = plan_of(tmp_path, **how)
    assert said in plan.headline
    assert not_said not in plan.headline
    jsonschema.validate(json.loads(json.dumps(plan.to_json(), allow_nan=False)), schema)


def test_a_gain_that_may_be_a_loss_is_not_promised(tmp_path):
    ws = world.build(tmp_path)
    notes = ws.notes("allocation")
    numbers = {**notes.numbers, "gain": {"expected": 1e5, "low": -4e5, "high": 6e5, "p_positive": 0.61}}
    ws.write_notes("allocation", Notes(numbers, notes.assumptions, notes.warnings, notes.checks))
    plan = assemble(ws, world.settings(tmp_path))
    assert "a loss is not ruled out (90%: −$400k to $600k)" in plan.headline


@pytest.mark.parametrize(("times", "said"), [(2, " more, placed where it earns most: "), (0.25, " less, taken where")])
def test_a_budget_that_grows_or_shrinks_is_not_told_as_a_move(tmp_path, times, said):
    ws = world.build(tmp_path)
    budget = ws.read("budget")
    budget["recommended"] *= times
    budget["change"] = budget["recommended"] - budget["current"]
    ws.write("budget", budget)
    notes = ws.notes("allocation")
    moved = float(budget["change"].abs().sum() / 2)
    numbers = {**notes.numbers, "total": float(budget["recommended"].sum()), "moved": moved}
    ws.write_notes("allocation", Notes(numbers, notes.assumptions, notes.warnings, notes.checks))
    plan = assemble(ws, world.settings(tmp_path))
    assert plan.headline.startswith("Spend $")
    assert said in plan.headline


def test_totals_are_sums_of_published_rows_and_match_the_json(whole, tmp_path):
    told = whole.to_json()
    for name, frame in whole.tables.items():
        for column, total in told["totals"][name].items():
            if column in frame.columns:
                assert total == pytest.approx(pd.to_numeric(frame[column]).sum(), rel=1e-12, abs=1e-6)
    assert told["budget"]["total"] == pytest.approx(whole.tables["budget"]["recommended"].sum())
    assert told["targets"]["total"]["revenue"] == pytest.approx(whole.tables["targets"]["revenue"].sum())
    assert all(check.passed for _, check in whole.checks)


def test_a_stage_that_states_another_sum_than_its_rows_is_told_on(tmp_path):
    ws = world.build(tmp_path)
    budget = ws.read("budget").iloc[:-1]  # a lost row
    ws.write("budget", budget)
    plan = assemble(ws, world.settings(tmp_path))
    failed = [c.name for s, c in plan.checks if not c.passed]
    assert "budget.recommended adds up to the total" in failed
    assert any("own check" in text for _, text in plan.warnings)


def test_a_row_of_an_unknown_market_or_an_infinity_is_told_on(tmp_path):
    ws = world.build(tmp_path)
    response = ws.read("response")
    response.loc[0, "market_id"], response.loc[1, "effect"] = "elsewhere", np.inf
    ws.write("response", response)
    failed = {c.name: c.detail for s, c in assemble(ws, world.settings(tmp_path)).checks if not c.passed}
    assert "1 row of unknown markets; 1 infinite value" in failed["rows of response are sound"]


def test_small_groups_are_blank_and_totals_leave_them_out(whole):
    scores = whole.tables["scores"]
    small = scores["market_id"].isin(["M00000", "M00001", "M00002"])
    hidden = scores["customers"].isna()
    for column in ("customers", "penetration", "share", "customer_equity"):
        assert scores.loc[small, column].isna().all()
        assert scores.loc[~hidden, column].notna().all()
    assert hidden.sum() == 4, "the three hold so few together that one more goes with them"
    assert scores.loc[small, "headroom"].notna().all()
    assert whole.suppressed == 4
    assert any("4 markets have fewer than 10 customers, or would" in text for _, text in whole.warnings)
    twice, n = suppress_small_cells(scores, 10)
    pd.testing.assert_frame_equal(twice, scores)
    assert n == 4


def test_suppression_leaves_its_input_alone():
    scores = pd.DataFrame(
        {"customers": [3, 30], "penetration": [0.1, 0.2], "share": [0.1, np.nan], "customer_equity": [1.0, 2.0]}
    )
    before = scores.copy()
    shown, n = suppress_small_cells(scores, 10)
    assert n == 2, "one alone is what is left of the total"
    assert shown["customers"].isna().all()
    pd.testing.assert_frame_equal(scores, before)


def test_publishing_writes_exactly_the_contracts_columns(tmp_path):
    ws = world.build(tmp_path, hostile=True)
    ws.write("scores", ws.read("scores").assign(helper=1.0))
    plan = assemble(ws, world.settings(tmp_path))
    plan.write(ws)
    for name in (n for n in PUBLISHED if ws.has(n)):
        found, declared = tuple(ws.read(name).columns), ARTEFACTS[name]
        assert found == (*declared.columns, *(c for c in declared.optional if c in found))
    assert "helper" not in ws.read("scores")
    assert ws.read("scores")["customers"].isna().sum() == 4
    told = json.loads((tmp_path / "plan.json").read_text(encoding="utf-8"))
    again = assemble(ws, world.settings(tmp_path))
    assert json.loads(json.dumps(again.to_json())) == told  # from published tables, the same plan


@pytest.mark.parametrize("left_out", [(s,) for s in ALL] + [ALL[1:], ALL[3:], ALL])
def test_any_stage_may_be_missing(tmp_path, left_out, schema):
    plan = plan_of(tmp_path, n=12, stages=tuple(s for s in ALL if s not in left_out))
    told = json.loads(json.dumps(plan.to_json(), allow_nan=False))
    jsonschema.validate(told, schema)
    assert plan.headline
    for stage in left_out:
        assert plan.missing[stage]
    if "allocation" in left_out:
        assert told["gain"]["expected"] is None
        assert told["budget"]["reason"]


def test_the_headlines_count_of_markets_is_the_direction_of_the_money():
    budget = pd.DataFrame({"market_id": list("abcd"), "current": [10.0, 10, 10, 10], "change": [4.0, 2, -6, 0]})
    scores = pd.DataFrame({"market_id": list("abcd"), "opportunity_share": [0.5, 0.2, 0.1, 0.2], "clv": [9.0, 8, 1, 5]})
    way = direction({"budget": budget, "scores": scores})
    assert (way.up, way.down, way.under_served) == (2, 1, 1)
    assert way.to_under_served == pytest.approx(4 / 6)
    assert not way.mostly_under_served
    assert direction({"budget": budget, "scores": scores}, potential_ranked=False).under_served == 0


def test_an_unsupported_order_by_potential_is_on_no_cover(tmp_path):
    plan = plan_of(tmp_path, stages=("value", "potential"), potential_signal="none")
    told = plan.headline + " ".join(c.label for c in plan.cards)
    assert "pportunity" not in told
    assert "in a fifth of the markets" in plan.headline


def test_every_market_has_its_region_in_the_json(whole):
    regions = whole.to_json()["regions"]
    assert list(regions) == list(whole.markets["market_id"])
    assert {"Sumatra", "Borneo"} <= set(regions.values())


def with_customers(folder: Path, **how) -> Plan:
    ws = world.build(folder, **how)
    world.add_customers(ws, list(ws.read("markets")["market_id"]))
    return assemble(ws, world.settings(folder))


def test_the_json_tells_of_segments_cost_and_foresight(tmp_path, schema):
    told = json.loads(json.dumps(with_customers(tmp_path, segmentation=world.derived()).to_json(), allow_nan=False))
    jsonschema.validate(told, schema)
    segments = told["segments"]
    assert (segments["source"], segments["tell"], segments["explained"]) == ("derived", True, 0.3)
    assert [s["name"] for s in segments["list"]] == sorted(world.SEGMENTS)
    assert segments["list"][0]["definition"].startswith("Defined as")
    assert all(s["new_customer_clv"] is None for s in segments["list"]), "nobody is won into a station"
    cost = told["acquisition"]
    assert (cost["blended_cost"], cost["paid_cost"], cost["payback_months"]) == (100, 160, 9)
    assert [r["name"] for r in cost["rows"]][:4] == ["company", "company", "search", "tv"]
    assert {r["level"] for r in cost["rows"]} == {"company", "channel", "segment"}
    ahead = told["foresight"]
    assert (ahead["model"], ahead["tried"]) == ("BG/NBD", ["BG/NBD", "Pareto/NBD"])
    assert ahead["corrections"][0] == {"segment": "Prepaid", "factor": 1.2}
    assert ahead["markets_in_range"] == pytest.approx(0.9, abs=0.02)


def test_nothing_about_few_people_leaves_in_the_json(tmp_path):
    ws = world.build(tmp_path, segmentation=world.derived())
    world.add_customers(ws, list(ws.read("markets")["market_id"]))
    stages = assemble(ws, world.settings(tmp_path)).to_json()["stages"]
    rarest = next(s for s in stages["data"]["segmentation"]["segments"] if s["name"] == "Rarest")
    assert (rarest["customers"], rarest["share"]) == (None, None)
    assert "entry" not in stages["data"]["segmentation"], "sums of money over a handful of people"
    assert [m["customers"] for m in stages["value"]["models"]] == [900, 800, None]
    assert ws.notes("value").numbers["models"][2]["customers"] == 4, "what the stage said stays as it was"


@pytest.mark.parametrize(
    ("worth", "tell"),
    [
        ({}, True),
        ({"by_construction": True}, False),
        ({"share": 0.001, "p": 0.2}, False),
        ({"share": 0.001, "p": 1e-9}, False),
        (None, None),
    ],
)
def test_segments_lead_only_where_they_tell(tmp_path, worth, tell):
    segmentation = None if worth is None else world.derived(**worth)
    plan = plan_of(tmp_path, stages=("value",), value_signal="none", segmentation=segmentation)
    assert plan.segments_tell is tell
    assert plan.headline.startswith("Steer by segment") is (tell is not False)
    if tell is False:
        assert "noise" in plan.headline
