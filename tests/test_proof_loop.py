"""A plan, its test, the readout through the command line, and the next plan that learns from it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from micromarket import cli
from micromarket.allocation import plan_budget
from micromarket.config import Settings, read_settings
from micromarket.load import open_dataset
from micromarket.market_data import MarketData
from micromarket.notebook import small_table
from micromarket.plan import assemble
from micromarket.potential import estimate_potential
from micromarket.proof import design_holdout
from micromarket.proof.cells import WHOLE
from micromarket.proof.feedback import experiment_rows
from micromarket.proof.readout import read_test
from micromarket.proof.record import periods_of, read_record
from micromarket.proof.results import earlier_tests
from micromarket.report.blocks import Desk
from micromarket.report.sections_proof import results
from micromarket.response import estimate_response
from micromarket.simulate import simulate
from micromarket.summarise import summarise
from micromarket.targets import set_targets
from micromarket.value import estimate_value
from micromarket.workspace import Workspace


def planned(plan_yml: Path, run: Path) -> tuple[Settings, MarketData]:
    """The stages that a test rests on, as the notebooks call them, into ``run``."""
    settings, workspace = read_settings(plan_yml), Workspace(run)
    run.mkdir(parents=True)
    experiments = small_table(settings, "experiments", workspace)
    with open_dataset(settings) as dataset:
        data = summarise(dataset)
        value = estimate_value(dataset, data, settings)
    data.write(workspace)
    value.write(workspace)
    potential = estimate_potential(data, value.markets, settings)
    potential.write(workspace)
    scores = workspace.read_if_there("scores")
    response = estimate_response(data, scores, value.markets, settings, experiments=experiments)
    response.write(workspace)
    allocation = plan_budget(data, response, value.markets, scores, settings)
    allocation.write(workspace)
    set_targets(data, value.cells, scores, allocation.budget, settings).write(workspace)
    design_holdout(
        data, allocation.budget, scores, settings, curves=response.curves, curve_draws=response.curve_draws,
        value_markets=value.markets, response_notes=response.notes, experiments=experiments,
        earlier=earlier_tests(settings, data),
    ).write(workspace)  # fmt: skip
    the_plan = assemble(workspace, settings)
    the_plan.write(workspace)
    said = {"as_of": f"{settings.as_of}", "company": {"name": settings.company.name}, "targets": {"period": "month"}}
    (run / "manifest.json").write_text(json.dumps({"settings": said, "ended": f"{settings.as_of}"}))
    return settings, data


LIFT = 0.5


def window_of(run: Path, data: MarketData) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Outcomes and spend of the test's weeks: treated markets win LIFT more for the money that the record says."""
    record, rng = read_record(run / "tests.json"), np.random.default_rng(3)
    days = periods_of(record)[len(record.history[0]) :]
    panel = data.panel[data.panel["period"] < days[0]].pivot_table(index="market_id", columns="period",
                                                                  values="new_customers").fillna(0)  # fmt: skip
    treated = {m for m, arm in zip(record.markets, record.arms, strict=True) if arm == 1}
    usual = panel.iloc[:, -26:].mean(axis=1)
    factor = np.where(usual.index.isin(treated), 1 + LIFT, 1.0)
    ids, count = list(usual.index), len(days)
    won = rng.poisson((usual.to_numpy() * factor)[:, None] * np.ones(count))
    keys = {"market_id": np.repeat(ids, count), "period": np.tile(days.strftime("%Y-%m-%d"), len(ids))}
    outcomes = pd.DataFrame({**keys, "new_customers": won.ravel()})
    spend = data.spend[data.spend["period"] < days[0]]
    last = spend[spend["period"] > spend["period"].max() - pd.Timedelta(weeks=26)]
    mean = last.groupby(["market_id", "channel"])["amount"].sum() / 26
    later = pd.concat([mean.rename("amount").reset_index().assign(period=d) for d in days])
    cell = record.cells[0]
    doubled = later["market_id"].isin(treated) & (later["channel"] == cell.name)
    doubled &= later["period"] <= pd.Timestamp(record.end)
    later.loc[doubled, "amount"] *= cell.factor
    return outcomes, later.assign(period=later["period"].dt.strftime("%Y-%m-%d"))


def test_the_next_plan_learns_from_the_test(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    company, run = tmp_path / "company", tmp_path / "runs/first"
    simulate(company, markets=44, customers=12_000, weeks=60, seed=3)
    plan_yml = company / "plan.yml"
    text = plan_yml.read_text().replace("test_reserve: 0.05", "test_reserve: 0.2").replace("experiments:", "# ")
    channel = pd.read_parquet(company / "spend.parquet")["channel"].min()
    plan_yml.write_text(f"{text}\ntests: {{run: always, cells: 1, channels: [{channel}]}}\n")
    _, data = planned(plan_yml, run)
    first = json.loads((run / "plan.json").read_text())
    assert "taught" not in first["stages"]["tests"]
    assert "results" not in first["stages"]["tests"]
    record = read_record(run / "tests.json")
    cell = record.cells[0]
    assert cell.name == channel

    # 1. the command line reads it out: words, a page for people, rows of the table experiments
    actuals = tmp_path / "actuals"
    actuals.mkdir()
    outcomes, spend = window_of(run, data)
    outcomes.to_csv(actuals / "outcomes_q3.csv", index=False)
    spend.to_csv(actuals / "spend_q3.csv", index=False)
    file, page = company / "experiments_q3.csv", tmp_path / "results.html"
    argv = ["readout", str(run), "--actuals", str(actuals), "--experiments", str(file), "--results"]
    assert cli.main([*argv, str(page)]) == 0
    assert "a clear effect" in capsys.readouterr().out
    assert cli.main([*argv, str(tmp_path / "results.md")]) == 0
    assert cli.main([*argv, str(tmp_path / "results.pdf")]) == 2
    shown = page.read_text(encoding="utf-8")
    assert "<svg" in shown
    assert {"What it brought", "Promised and delivered"} <= set(pd.Series(shown).str.findall(r"<h2>(.*?)</h2>")[0])
    assert "| What was tried | Markets |" in (tmp_path / "results.md").read_text(encoding="utf-8")
    rows = pd.read_csv(file)
    assert list(rows["channel"]) == [channel]
    brought = rows["lift"][0] * rows["spend"][0]
    treated = outcomes[outcomes["market_id"].isin(rows["markets"][0].split(";"))]["new_customers"].sum()

    # 2. the next plan: the longer history, the result, and the plan before
    history = data.panel[data.panel["period"] < outcomes["period"].min()][["market_id", "period", "new_customers"]]
    pd.concat([history, outcomes]).assign(period=lambda f: pd.to_datetime(f["period"])).to_csv(
        company / "outcomes.csv", index=False
    )
    before = data.spend[data.spend["period"] < outcomes["period"].min()]
    pd.concat([before[spend.columns], spend]).assign(period=lambda f: pd.to_datetime(f["period"])).to_csv(
        company / "spend_all.csv", index=False
    )
    as_of = dt.date.fromisoformat(record.measured_until)
    later = plan_yml.read_text().replace("as_of:     2026-06-30", f"as_of: {as_of}")
    start = as_of + dt.timedelta(1)
    later = later.replace("{start: 2026-07-01, end: 2027-06-30}", f"{{start: {start}, end: 2027-12-31}}")
    later = later.replace("spend: spend.parquet", "spend: spend_all.csv\n  outcomes: outcomes.csv")
    later = later.replace("data:\n", f"previous_run: {run}\ndata:\n  experiments: {file.name}\n")
    (company / "next.yml").write_text(later)
    planned(company / "next.yml", tmp_path / "runs/second")
    second = json.loads((tmp_path / "runs/second/plan.json").read_text())
    tests, changed = second["stages"]["tests"], second["stages"]["response"]["tests"]
    assert changed["tested"] == [channel]
    assert any(t.startswith(f"{channel}: the test shows it") for t in tests["taught"])
    widths = [next(c["elasticity_high"] - c["elasticity_low"] for c in changed[k] if c["channel"] == channel)
              for k in ("before", "after")]  # fmt: skip
    assert widths[1] != widths[0]
    (told,) = tests["results"]
    assert told["cells"][0]["lift"] == pytest.approx(brought / (treated - brought), abs=1e-4)
    assert 0 < told["cells"][0]["lift_low"] < LIFT < told["cells"][0]["lift_high"]
    desk = Desk(assemble(Workspace(tmp_path / "runs/second"), read_settings(company / "next.yml")))
    section = results(desk)
    assert section is not None
    assert section.title.startswith("Tested: ")
    kinds = [b["kind"] for b in section.blocks]
    assert kinds[:2] == ["lead", "figure"]
    assert section.blocks[-1]["title"] == "What changed in this plan because of tests"

    # 3. the plan's moves as a whole have no lift of their own; the table takes them, and money that was taken away
    whole = dataclasses.replace(cell, name=WHOLE, factor=None, money={channel: 10.0, "Other": -20.0})
    found = read_test(dataclasses.replace(record, cells=(whole,)), outcomes)
    empty = experiment_rows([found])
    assert empty["lift"].isna().all()
    empty.to_csv(file, index=False)
    taken = small_table(read_settings(company / "next.yml"), "experiments")
    assert taken is not None
    assert list(taken["spend"]) == [10.0, -20.0]
    assert taken["lift"].isna().all()
