"""The examples run on the public files, through the command line, and state only what their data support."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import openpyxl
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


def text_of(pdf: Path) -> str:
    if shutil.which("pdftotext") is None:
        pytest.skip("pdftotext is not installed")
    done = subprocess.run(["pdftotext", str(pdf), "-"], capture_output=True, check=True)
    return " ".join(done.stdout.decode("utf-8").replace("\u200b", "").split())


def refused(plan: dict, scores: pd.DataFrame, run: Path) -> None:
    """No order of markets by value, nor by potential, in anything that people read."""
    assert plan["headline"].startswith("Steer by segment, not by market")
    churn = next(c for c in plan["signal"]["value"]["components"] if c["name"] == "churn")
    assert churn["f"] == pytest.approx(1, abs=0.05)
    assert scores["new_customer_clv"].std() < 0.05 * scores["new_customer_clv"].mean(), "pooled to the segments'"
    page = (run / "dashboard.html").read_text(encoding="utf-8")
    data = json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.S)[1])
    assert not {"clv", "opportunity", "headroom", "play", "customers"} & set(data["columns"])
    text = text_of(run / "plan.pdf")
    for order in ("Value each", "A new customer is worth", "Opportunity", "worth least gets"):
        assert order not in text
    sheet = openpyxl.load_workbook(run / "plan.xlsx")["Markets"]
    head = [c.value for c in sheet[1]]
    for column in ("Value per customer", "Value of a new customer", "Opportunity", "Play"):
        assert sheet.cell(2, head.index(column) + 1).font.color.rgb.endswith("A0A8B0"), f"{column} in grey"


def looks_right_to_a_brazilian(scores: pd.DataFrame, stats: pd.DataFrame) -> None:
    """Buyers per inhabitant: the South-East leads, the South follows, the North comes last; money is in cities."""
    by = scores.set_index("market_id")
    expected = by["potential_customers"] - by["headroom"]
    people = stats.set_index("ibge_code")["population_2017"].reindex(by.index)
    part = by.index.str[0]  # IBGE: 1 North, 2 North-East, 3 South-East, 4 South, 5 Centre-West
    penetration = expected.groupby(part).sum() / people.groupby(part).sum()
    assert penetration.sort_values(ascending=False).index.tolist() == ["3", "4", "5", "2", "1"]
    assert penetration["3"] > 3 * penetration["1"]
    state = expected.groupby(by.index.str[:2]).sum() / people.groupby(by.index.str[:2]).sum()
    assert set(state.nlargest(3).index) == {"35", "33", "53"}, "São Paulo, Rio de Janeiro and the capital lead"
    assert by["opportunity"].nlargest(3).index.tolist()[:2] == ["3550308", "3304557"], "São Paulo, then Rio"


def svgs_of(notebook: Path) -> list[str]:
    outputs = [o for c in json.loads(notebook.read_text())["cells"] for o in c.get("outputs", [])]
    data = ["".join(o.get("data", {}).get(kind, "")) for o in outputs for kind in ("text/html", "image/svg+xml")]
    return [text for text in data if "<svg" in text]


@pytest.mark.slow
@pytest.mark.parametrize(
    "example",
    [
        "superstore/plan.yml",
        "telco/plan.yml",
        pytest.param("telco/plan_zip.yml", marks=pytest.mark.examples),
        pytest.param("olist/plan.yml", marks=pytest.mark.examples),
    ],
)
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
        assert not plan["segments"]["tell"], "Consumer, Corporate and Home Office buy alike"
        assert plan["foresight"]["tried"][0] == "BG/NBD"
        assert plan["foresight"]["error"] < -0.2, "the shop's customers come back more and more often"
        assert all(c["factor"] > 1.2 for c in plan["foresight"]["corrections"])
        targets = pd.read_parquet(run / "tables" / "targets.parquet")
        sales = 733_215.26  # 2017, of the public file
        assert targets["revenue"].sum() == pytest.approx(plan["targets"]["total"]["revenue"], abs=0.01)
        assert plan["targets"]["total"]["revenue"] == pytest.approx(1.1 * sales, rel=1e-4)
    if example.startswith("telco"):
        by_contract = {r["name"].lower(): r["clv"] for r in plan["segments"]["list"]}
        assert by_contract["two year"] > 1.4 * by_contract["one year"] > 1.4 * 1.4 * by_contract["month-to-month"]
        assert plan["segments"]["tell"], "who leaves goes by the type of contract: 43%, 11% and 3% in the quarter"
        assert plan["segments"]["explained_by_market"] < 0.3 * plan["segments"]["explained"]
        assert plan["foresight"] is None, "three months of records: none can be hidden"
        assert plan["acquisition"]["source"] == "none"
    if example == "telco/plan.yml":
        value = plan["signal"]["value"]
        churn = next(c for c in value["components"] if c["name"] == "churn")
        assert value["verdict"] == "clear"
        assert churn["p_value"] < 1e-3
        worth = scores.set_index("market_id")["new_customer_clv"].sort_values()
        assert worth.index[0] == "06073", "churn is real in San Diego County"
        assert worth.iloc[1] - worth.iloc[0] > 0.4 * (worth.iloc[-1] - worth.iloc[1]), "and in no other"
        assert " in San Diego County" in text_of(run / "plan.pdf"), "leaders read it"
        assert plan["targets"]["p_company"] < 0.1, "who left before July isn't in the file: no growth to be seen"
    if example == "telco/plan_zip.yml":
        assert plan["signal"]["value"]["verdict"] == "none", "value between these zip codes is noise (F = 0.99)"
        assert plan["signal"]["potential"]["verdict"] == "none", "4 or 5 customers in every zip code is an artefact"
        assert scores["customers"].isna().all(), "every zip code has fewer than min_cell customers"
        refused(plan, scores, run)
    if example.startswith("olist"):
        assert plan["stages"]["value"]["observed"]
        assert any("not a forecast" in w for w in plan["warnings"])
        assert len(scores) == 5570
        assert not plan["segments"]["tell"], "bands of money are cut by what they seem to explain"
        bands = sorted(s["clv"] for s in plan["segments"]["list"])
        assert bands[-1] > 5 * bands[0]
        assert not plan["headline"].startswith("Steer")
        looks_right_to_a_brazilian(
            scores, pd.read_parquet(shared_data / "real/brazil_geo/br_municipality_stats.parquet")
        )
        assert " São Paulo (SP) " in text_of(run / "plan.pdf"), "called out on the cover"
        pictures = svgs_of(run / "notebooks" / "03_potential.ipynb")
        assert len(pictures) == 8, "without spend no map of it, without levers no fixable cause"
        assert max(len(p) for p in pictures) < 1_000_000, "maps of 5,570 markets stay small"
