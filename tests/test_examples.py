"""The examples run on the public files, through the command line, and state only what their data support."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ALWAYS = {"plan.json", "plan.pdf", "plan.xlsx", "dashboard.html", "manifest.json", "tables/scores.parquet"}


def run_example(plan: Path, out: Path, data: Path) -> Path:
    environment = {**os.environ, "MICROMARKET_DATA": str(data / "real"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "micromarket.cli", "run", str(plan), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    folder = Path(done.stdout.strip().splitlines()[-1])
    files = {str(p.relative_to(folder).as_posix()) for p in folder.rglob("*") if p.is_file()}
    assert files >= ALWAYS
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("example", ["superstore/plan.yml", "telco/plan.yml", "telco/plan_zip.yml", "olist/plan.yml"])
def test_example(example: str, repo: Path, shared_data: Path, tmp_path: Path) -> None:
    run = run_example(repo / "examples" / example, tmp_path, shared_data)
    plan = json.loads((run / "plan.json").read_text())
    scores = pd.read_parquet(run / "tables" / "scores.parquet")
    assert plan["budget"]["total"] is None, "no spend, no budget"
    assert plan["gain"]["expected"] is None
    assert not (run / "tables" / "budget.parquet").exists()
    assert plan["warnings"]
    assert scores["potential_customers"].notna().all()
    if example.startswith("superstore"):
        targets = pd.read_parquet(run / "tables" / "targets.parquet")
        sales = 733_215.26  # 2017, of the public file
        assert targets["revenue"].sum() == pytest.approx(plan["targets"]["total"]["revenue"], abs=0.01)
        assert plan["targets"]["total"]["revenue"] == pytest.approx(1.1 * sales, rel=1e-4)
    if example == "telco/plan.yml":
        assert plan["signal"]["value"]["verdict"] != "none"
        worth_least = scores.set_index("market_id")["new_customer_clv"].idxmin()
        assert worth_least == "06073", "churn is real in San Diego County"
        assert plan["targets"]["p_company"] < 0.1, "who left before July isn't in the file: no growth to be seen"
    if example == "telco/plan_zip.yml":
        assert plan["signal"]["value"]["verdict"] == "none", "value between these zip codes is noise (F = 0.99)"
        assert plan["signal"]["potential"]["verdict"] == "none", "4 or 5 customers in every zip code is an artefact"
        assert scores["customers"].isna().all(), "every zip code has fewer than min_cell customers"
    if example.startswith("olist"):
        assert plan["stages"]["value"]["observed"]
        assert any("not a forecast" in w for w in plan["warnings"])
        assert len(scores) == 5570
