"""What other systems import: sums of the plan to the cent, no formula from data, the run untouched."""

from __future__ import annotations

from pathlib import Path

import openpyxl
import pandas as pd
import pytest
from test_field import EVIL, hashes, write_run

from micromarket import cli
from micromarket.errors import InputError
from micromarket.exports import crm_table, period_label, quota_table, write_table


def test_quotas_add_up_to_the_targets(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    table = quota_table(run)
    assert list(table.columns) == ["Component", "Territory", "Period", "Value", "Unit"]
    assert not table.duplicated(["Component", "Territory", "Period"]).any()
    targets = pd.read_parquet(run / "tables/targets.parquet")
    for component, column in (("Revenue", "revenue"), ("Margin", "margin"), ("New customers", "new_customers")):
        part = table[table["Component"] == component]
        assert round(part["Value"].sum() * 100) == round(targets[column].sum() * 100)
        assert set(part["Territory"]) == {"@T1", "T2/[x]"}
        assert set(part["Period"]) == {"2026-Q3", "2026-Q4", "2027-Q1", "2027-Q2"}
    assert set(table["Unit"]) == {"EUR", "count"}
    weeks = pd.Series(pd.to_datetime(["2026-12-28", "2027-01-04"]))
    assert period_label(weeks, "week").tolist() == ["2026-W53", "2027-W01"]
    assert period_label(weeks, "month").tolist() == ["2026-12", "2027-01"]


def test_without_territories_quotas_go_to_regions(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    path = run / "tables/territories.parquet"
    pd.read_parquet(path).assign(territory=None).to_parquet(path)
    assert set(quota_table(run)["Territory"]) == {"North", "South"}
    pd.read_parquet(path).assign(region="").to_parquet(path)
    assert set(quota_table(run)["Territory"]) == {f"Town 0{i}" for i in range(6)}


def test_list_for_a_crm(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    table = crm_table(run)
    assert len(table) == 12
    assert table["Territory"].is_monotonic_increasing
    assert {"Manager", "Market id", "Segment", "Target revenue", "Leads due", "Qualified leads due"} <= set(
        table.columns
    )
    assert table["Leads due"].sum() == 8 * table["New customers"].sum()
    assert "Play" not in table.columns, "no scores in this run"


def test_files_hold_no_formula_and_never_lie_in_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path)
    before = hashes(run)
    for what, name in (("quota", "q.csv"), ("crm", "c.csv"), ("quota", "q.xlsx"), ("crm", "c.xlsx")):
        assert cli.main(["export", what, str(run), "--out", str(tmp_path / name)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == str(tmp_path / "q.csv")
    text = (tmp_path / "c.csv").read_text(encoding="utf-8-sig")
    assert "'=HYPERLINK" in text
    assert all(not cell.startswith(("=", "@", "+")) for cell in text.replace("\r\n", ",").replace('"', "").split(","))
    for name in ("q.xlsx", "c.xlsx"):
        book = openpyxl.load_workbook(tmp_path / name)
        assert not [c for s in book for line in s.iter_rows() for c in line if c.data_type == "f"]
    assert EVIL in {c.value for c in openpyxl.load_workbook(tmp_path / "c.xlsx").active["F"]}
    written = pd.read_csv(tmp_path / "q.csv")
    assert written["Value"].sum() == pytest.approx(quota_table(run)["Value"].sum())
    assert cli.main(["export", "quota", str(run), "--out", str(run / "q.csv")]) == 2
    assert cli.main(["export", "quota", str(run), "--out", str(tmp_path / "q.txt")]) == 2
    assert cli.main(["export", "quota", str(tmp_path), "--out", str(tmp_path / "q.csv")]) == 2
    assert "a finished run with targets" in capsys.readouterr().err
    assert hashes(run) == before
    with pytest.raises(InputError):
        write_table(quota_table(run), run / "tables" / "q.xlsx")
