"""This plan against the one before: figures, markets, reasons, and where people read them."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path

import openpyxl
import pandas as pd
import pytest
import report_world as world

from micromarket.config import Budget, Settings
from micromarket.plan.assembly import Plan, assemble
from micromarket.plan.changes import changes_since
from micromarket.report import write_reports
from micromarket.report.blocks import Desk
from micromarket.report.pdf import document
from micromarket.workspace import Workspace, write_json


def earlier(folder: Path, value: float = 1.0, money: float = 1.0, **said) -> Path:
    """A published run of a month before: the first market's customers were worth ``1/value``, its money ``1/money``."""
    ws = world.build(folder, n=20)
    scores, budget = ws.read("scores"), ws.read("budget")
    scores.loc[scores["market_id"] == "M00000", "new_customer_clv"] /= value
    budget.loc[budget["market_id"] == "M00000", ["recommended"]] /= money
    ws.write("scores", scores)
    ws.write("budget", budget)
    plan = assemble(ws, world.settings(folder))
    write_json(folder / "plan.json", {**plan.to_json(), "as_of": "2026-05-31"})
    groups = {"peer_group": ["a"], "feature": ["x"], "centre": [0.0], "typical": [0.0], "markets": [1], "misfit": [0.0],
              "form": [""], "unit": [1.0], "low": [0.0], "high": [1.0], "middle": [0.0], "spread": [1.0]}  # fmt: skip
    ws.write("peer_groups", pd.DataFrame(groups))
    settings = {"as_of": "2026-05-31", "company": {"name": "Nusantara Telecom"}, "budget": {"max_shift": 0.3}, **said}
    write_json(folder / "manifest.json", {"settings": settings, "ended": "2026-06-01"})
    return folder


def this_month(folder: Path, before: Path, **how) -> tuple[Plan, Settings]:
    settings = dataclasses.replace(world.settings(folder), previous_run=before, **how)
    return assemble(world.build(folder, n=20), settings), settings


def test_equal_plans_have_not_changed(tmp_path: Path) -> None:
    plan, _ = this_month(tmp_path / "b", earlier(tmp_path / "a"))
    assert plan.changes is not None
    assert str(plan.changes.since) == "2026-05-31"
    assert plan.changes.table["money_change"].abs().max() < 1e-6
    assert set(plan.changes.table["reason"]) == {""}
    assert all(before == now for _, _, before, now in plan.changes.figures)
    assert not plan.changes.rules
    title = next(s for s in document(Desk(plan))["sections"] if s["kicker"] == "What changed")["title"]
    assert title == "Since 31 May 2026, no market's money has changed"


def test_a_reason_points_the_way_the_money_went(tmp_path: Path) -> None:
    plan, _ = this_month(tmp_path / "b", earlier(tmp_path / "a", value=1.25, money=2.0), budget=Budget(max_shift=0.2))
    assert plan.changes is not None
    row = plan.changes.table.set_index("market_id").loc["M00000"]
    assert row["money_change"] == pytest.approx(row["money_now"] / 2)
    assert row["reason"] == "A new customer is worth 25% more."
    assert plan.changes.rules == ("how much may move",)
    assert plan.totals["changes"]["money_change"] == pytest.approx(row["money_change"])
    assert all(c.passed for s, c in plan.checks if s == "plan")
    against, _ = this_month(tmp_path / "d", earlier(tmp_path / "c", value=0.8, money=2.0))
    assert against.changes is not None
    told = against.changes.table.set_index("market_id").loc["M00000", "reason"]
    assert "others changed more" in told, "a customer worth less is no reason for more money"


def test_people_read_it_in_every_file(tmp_path: Path) -> None:
    plan, settings = this_month(tmp_path / "b", earlier(tmp_path / "a", value=1.25, money=2.0))
    plan.write(Workspace(tmp_path / "b"))
    again = assemble(Workspace(tmp_path / "b"), settings)
    assert again.to_json() == plan.to_json(), "its own table is not read back as if it were a stage's"
    write_reports(plan, tmp_path)
    with pytest.warns(UserWarning, match="extension"):
        book = openpyxl.load_workbook(tmp_path / "plan.xlsx")
    assert book["Changes"].max_row == 21
    page = (tmp_path / "dashboard.html").read_text(encoding="utf-8")
    assert "Since 31 May 2026" in page
    assert "A new customer is worth 25% more." in page
    if shutil.which("pdftotext"):
        done = subprocess.run(["pdftotext", str(tmp_path / "plan.pdf"), "-"], capture_output=True, check=True)
        assert "What changed".upper() in done.stdout.decode("utf-8")


def test_without_a_readable_plan_before_there_is_none(tmp_path: Path) -> None:
    before = earlier(tmp_path / "a")
    assert this_month(tmp_path / "b", tmp_path / "b")[0].changes is None
    text = json.loads((before / "plan.json").read_text(encoding="utf-8"))
    write_json(before / "plan.json", {**text, "currency": "EUR"})
    assert this_month(tmp_path / "c", before)[0].changes is None
    (before / "plan.json").write_text("{", encoding="utf-8")
    plan, settings = this_month(tmp_path / "d", before)
    assert changes_since(settings, plan.tables, plan.stages) is None
    assert "changes" not in plan.tables
