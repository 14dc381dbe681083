"""The field round: sheets that people can only answer, answers that are checked, targets that still add up."""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from micromarket import cli
from micromarket.config import FieldRound, read_settings
from micromarket.errors import InputError
from micromarket.field import blend, export_sheets, import_answers, read_published
from micromarket.field.blend import by_period

EVIL = '=HYPERLINK("http://x","y")'


def write_run(folder: Path, markets: int = 6, limits: bool = True, manager: bool = True) -> Path:
    """A published run: two regions, territories T1 and T2 of two managers each, hostile names, a year by quarter."""
    rng = np.random.default_rng(3)
    ids = [f"{i:02d}" for i in range(markets)]
    periods = pd.date_range("2026-07-01", periods=4, freq="QS")
    targets = pd.MultiIndex.from_product([ids, ["Firm", EVIL], periods]).to_frame(index=False)
    targets.columns = ["market_id", "segment", "period"]
    targets = targets.sort_values(["market_id", "segment", "period"], ignore_index=True)
    targets["new_customers"] = rng.poisson(3, len(targets))
    targets["revenue"] = np.round(rng.lognormal(8, 1, len(targets)), 2)
    targets["margin"] = np.round(targets["revenue"] * 0.4, 2)
    targets["p_attain"], targets["last_target"] = 0.55, np.nan
    places = pd.DataFrame(
        {
            "market_id": ids,
            "name": [f"Town {i}" for i in ids],
            "region": ["North" if i < markets // 2 else "South" for i in range(markets)],
            "territory": ["@T1" if i < markets // 2 else "T2/[x]" for i in range(markets)],
            "manager": [f"Manager {i % 2}" if manager else None for i in range(markets)],
        }
    )
    funnel = targets[["market_id", "segment", "period"]].assign(won=targets["new_customers"])
    for stage, times in (("leads", 8), ("mql", 5), ("sal", 4), ("sql", 2)):
        funnel[stage] = funnel["won"] * times
    run = folder / "2026-06-30-example-0123abcd"
    (run / "tables").mkdir(parents=True)
    for name, frame in (("targets", targets), ("territories", places), ("funnel", funnel)):
        frame.to_parquet(run / "tables" / f"{name}.parquet", index=False)
    if limits:
        by = targets.groupby(["market_id", "segment"])["revenue"].sum().reset_index()
        by["low"], by["high"] = 0.97 * by["revenue"], 1.2 * by["revenue"]
        by["forecast"], by["sd"] = by["revenue"], 0.1 * by["revenue"]
        by.drop(columns="revenue").to_parquet(run / "tables" / "target_limits.parquet", index=False)
    totals = {"targets": {c: float(targets[c].sum()) for c in ("new_customers", "revenue", "margin")}, "funnel": {}}
    plan = {
        "company": "Example", "currency": "EUR", "as_of": "2026-06-30", "totals": totals, "warnings": [], "checks": [],
        "plan": {"start": "2026-07-01", "end": "2027-06-30"}, "stages": {"targets": {}, "funnel": {}},
    }  # fmt: skip
    rules = {"cap": 0.10, "weight": 0.5, "within": "region"}
    manifest = {"key": "0123abcd" * 8, "settings": {"targets": {"period": "quarter", "field_round": rules}}}
    (run / "plan.json").write_text(json.dumps(plan))
    (run / "manifest.json").write_text(json.dumps(manifest))
    return run


def columns(sheet) -> tuple[int, dict[str, int]]:
    for row in range(1, 20):
        found = {c.value: c.column for c in sheet[row] if c.value}
        if "Market id" in found:
            return row, found
    raise AssertionError("no headings")


def answer(path: Path, tab: int, unit: int, change: object, reason: str | None = "Staff", comment=None) -> None:
    book = openpyxl.load_workbook(path)
    sheet = book.worksheets[tab]
    head, at = columns(sheet)
    row = head + 1 + unit
    for name, value in (("Proposed change", change), ("Reason code", reason), ("Comment", comment)):
        sheet.cell(row, at[name]).value = value
    book.save(path)


def hashes(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in sorted(folder.rglob("*")) if p.is_file()}  # fmt: skip


def test_a_sheet_a_territory_a_tab_a_manager_and_only_answers_are_open(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    files = export_sheets(run, tmp_path / "out")
    assert [f.name for f in files] == ["t1.xlsx", "t2-x.xlsx"]
    book = openpyxl.load_workbook(files[0])
    assert book.sheetnames == ["Manager 0", "Manager 1", "Definitions"]
    sheet = book.worksheets[0]
    assert sheet.protection.sheet
    head, at = columns(sheet)
    rows = range(head + 1, head + 1 + 4)
    answers = {at[c] for c in ("Proposed change", "Reason code", "Comment")}
    opened = {(c.row, c.column) for line in sheet.iter_rows() for c in line if not c.protection.locked}
    assert opened == {(r, c) for r in rows for c in answers} | {(4, 2)}  # and who answers
    evil = sheet.cell(head + 2, at["Segment"])
    assert evil.data_type == "s"
    assert EVIL in {sheet.cell(r, at["Segment"]).value for r in rows}
    formulas = [c.coordinate for line in sheet.iter_rows() for c in line if c.data_type == "f"]
    assert {c[0] for c in formulas} <= {"D", "J", "M", "N", "O"}  # ours alone
    lists = [v for v in sheet.data_validations.dataValidation if v.type == "list"]
    assert len(lists) == 1
    with pytest.raises(InputError, match="nothing is overwritten"):
        export_sheets(run, tmp_path / "out")


def test_answers_move_targets_and_everything_adds_up_as_before(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    before = hashes(run)
    files = export_sheets(run, tmp_path / "out")
    answer(files[0], 0, 0, 900.0, comment=EVIL)
    answer(files[0], 1, 1, -1e9, "Other", "lost the mill")
    new = import_answers(run, files)
    assert hashes(run) == before
    assert sorted(p.name for p in new.parent.iterdir()) == sorted([run.name, new.name, "out"])
    old_targets, targets = (pd.read_parquet(p / "tables/targets.parquet") for p in (run, new))
    places = pd.read_parquet(run / "tables/territories.parquet")
    north = places.loc[places["region"] == "North", "market_id"]
    for column in ("revenue", "margin", "new_customers"):
        units = [np.round(t[column].to_numpy(float) * 100).astype(int) for t in (old_targets, targets)]
        inside = old_targets["market_id"].isin(north).to_numpy()
        assert units[0][inside].sum() == units[1][inside].sum()
        assert (units[0][~inside] == units[1][~inside]).all(), "nobody answered in the South"
    periods = [
        t[t["market_id"].isin(north)].groupby("period")["revenue"].sum().round(2) for t in (old_targets, targets)
    ]
    pd.testing.assert_series_equal(*periods)
    audit = pd.read_parquet(new / "tables/field_round.parquet")
    up, down = (audit[audit["proposed"] == v].iloc[0] for v in (900.0, -1e9))
    assert up["change"] > 0 > down["change"]
    assert (up["author"], up["reason"], up["comment"]) == ("Manager 0", "Staff", EVIL)
    assert down["change"] == pytest.approx(-0.03 * down["before"], abs=0.02), "its guardrail is 3% below"
    assert down["outcome"] == "held by its limits"
    assert audit["change"].sum() == pytest.approx(0, abs=1e-6)
    changed = targets.merge(audit[audit["change"] != 0], on=["market_id", "segment"])
    assert changed.groupby(["market_id", "segment"])["revenue"].sum().to_numpy() == pytest.approx(
        changed.groupby(["market_id", "segment"])["after"].first().to_numpy()
    )
    assert changed["p_attain"].between(0.3, 0.7).all()  # mean = old target, spread 10%
    funnel = pd.read_parquet(new / "tables/funnel.parquet")
    assert (funnel["won"].to_numpy(int) == targets["new_customers"].to_numpy()).all()
    stages = [funnel[c].to_numpy(int) for c in ("leads", "mql", "sal", "sql", "won")]
    assert all((a >= b).all() for a, b in pairwise(stages))
    manifest = json.loads((new / "manifest.json").read_text())
    assert manifest["parent"]["run"] == run.name
    assert manifest["field_round"]["round"] == 1
    book = openpyxl.load_workbook(new / "field_round.xlsx")
    assert not [c for s in book for line in s.iter_rows() for c in line if c.data_type == "f"]


def test_renamed_tabs_and_moved_columns_do_no_harm(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    files = export_sheets(run, tmp_path / "out")
    answer(files[0], 0, 0, "-5 %")
    plain = import_answers(run, files, tmp_path / "a")
    book = openpyxl.load_workbook(files[0])
    book.worksheets[0].title = "mine"
    for sheet in book.worksheets[:2]:
        sheet.insert_cols(1)
        sheet.insert_rows(1, 2)
    book.move_sheet("Definitions", -2)
    book.save(files[0])
    moved = import_answers(run, files, tmp_path / "b")
    pd.testing.assert_frame_equal(*(pd.read_parquet(r / "tables/targets.parquet") for r in (plain, moved)))


def test_every_problem_is_named_with_file_sheet_and_row_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path)
    files = export_sheets(run, tmp_path / "out")
    answer(files[0], 0, 0, "a lot")
    answer(files[0], 0, 1, 100, reason=None)
    answer(files[0], 0, 2, 100, reason="Because")
    answer(files[0], 1, 0, 100, reason="Other")
    answer(files[0], 1, 1, "=1+1")
    book = openpyxl.load_workbook(files[1])
    sheet = book.worksheets[0]
    head, at = columns(sheet)
    sheet.cell(head + 1, at["Market id"]).value = "99"
    sheet.cell(head + 1, at["Proposed change"]).value = 5
    sheet.cell(head + 2, at["Target"]).value = 1
    sheet.cell(head + 2, at["Proposed change"]).value = 5
    book.save(files[1])
    (tmp_path / "broken.xlsx").write_text("no")
    assert cli.main(["field", "import", str(run), *map(str, files), str(tmp_path / "broken.xlsx")]) == 2
    said = capsys.readouterr().err
    assert "8 problems" in said
    for line in (
        "t1.xlsx, sheet 'Manager 0', column Proposed change, row 8: found 'a lot'; expected a number",
        "t1.xlsx, sheet 'Manager 0', column Reason code, row 9:",
        "row 10: found 'Because'; expected one of",
        "column Comment, row 8: expected a comment beside the reason Other",
        "the cell's formula has no value",
        "column Market id, row 8: found '99'",
        "this sheet is of another plan or was changed",
        "broken.xlsx: expected a readable .xlsx file",
    ):
        assert line in said, line
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(("2026", "."))] == [run.name]


def test_sheets_of_another_plan_and_one_target_changed_twice_are_refused(tmp_path: Path) -> None:
    run, other = write_run(tmp_path / "a"), write_run(tmp_path / "b")
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps({**manifest, "key": "ffff0000" * 8}))
    files = export_sheets(other, tmp_path / "out")
    answer(files[0], 0, 0, 10)
    with pytest.raises(InputError, match="Plan key: found 'ffff0000'"):
        import_answers(run, files)
    mine = export_sheets(run, tmp_path / "mine")
    with pytest.raises(InputError, match="at least one change"):
        import_answers(run, mine)
    answer(mine[0], 0, 0, 10)
    copy = tmp_path / "copy.xlsx"
    copy.write_bytes(mine[0].read_bytes())
    with pytest.raises(InputError, match=r"one answer a market and segment; t1.xlsx, sheet 'Manager 0', row 8"):
        import_answers(run, [mine[0], copy])


def test_two_rounds_at_most_and_the_cap_holds_over_both(tmp_path: Path) -> None:
    run = write_run(tmp_path, limits=False, manager=False)
    latest = run
    for number in (1, 2):
        files = export_sheets(latest, tmp_path / f"out{number}")
        answer(files[0], 0, 0, -1e7)
        latest = import_answers(latest, files)
        audit = pd.read_parquet(latest / "tables/field_round.parquet")
        assert set(audit["round"]) == set(range(1, number + 1))
    old, new = (read_published(r).units().set_index(["market_id", "segment"])["revenue"] for r in (run, latest))
    assert ((new / old).between(0.9 - 1e-6, 1.1 + 1e-6)).all()
    assert (new / old).min() == pytest.approx(0.9, abs=1e-5)
    for again in (export_sheets, import_answers):
        with pytest.raises(InputError, match="at most 2"):
            again(latest, [tmp_path / "x"]) if again is import_answers else again(latest, tmp_path / "out3")


def test_what_everybody_asks_for_cancels_out() -> None:
    """Sandbagging: all propose 8% less; only who differs from the others moves."""
    target = np.array([1000, 2000, 3000, 4000]) * 100
    rules = FieldRound(cap=0.10, weight=1.0)
    nothing = np.full(4, np.nan)
    alike = blend(target, -0.08 * target, nothing, nothing, np.zeros(4, int), rules)
    assert np.abs(alike.change).max() <= 1
    one = blend(target, np.array([0.08, -0.08, -0.08, -0.08]) * target, nothing, nothing, np.zeros(4, int), rules)
    assert one.change[0] == 10_000, "the cap"
    assert one.change.sum() == 0
    silent = blend(target, nothing, nothing, nothing, np.zeros(4, int), rules)
    assert (silent.change == 0).all()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_caps_guardrails_and_sums_hold_whatever_is_answered(data: st.DataObject) -> None:
    n, periods = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 5))
    cents = st.integers(0, 10**9)
    target = np.array(data.draw(st.lists(cents, min_size=n, max_size=n)))
    some = st.one_of(st.just(float("nan")), st.floats(-1e12, 1e12))
    proposed = np.array(data.draw(st.lists(some, min_size=n, max_size=n)))
    bounds = st.one_of(st.just(float("nan")), st.floats(0, 2e9))
    low, high = (np.array(data.draw(st.lists(bounds, min_size=n, max_size=n))) for _ in range(2))
    region = np.array(data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)))
    within = data.draw(st.sampled_from(["region", "company"]))
    rules = FieldRound(data.draw(st.floats(0, 0.5)), data.draw(st.floats(0, 1)), within)
    got = blend(target, proposed, low, high, region, rules)
    group = region if rules.within == "region" else np.zeros_like(region)
    for code in np.unique(group):
        assert got.change[group == code].sum() == 0
    assert (np.abs(got.change) <= rules.cap * target + 1e-3).all()
    after = target + got.change
    assert ((after >= np.ceil(low) - 1e-6) | np.isnan(low) | (after >= target)).all()
    assert ((after <= np.floor(high) + 1e-6) | np.isnan(high) | (after <= target)).all()
    season = st.lists(st.floats(0, 1e6), min_size=periods, max_size=periods)
    share = np.array(data.draw(st.lists(season, min_size=n, max_size=n)))
    cut = by_period(got.change, share, group)
    assert (cut.sum(axis=1) == got.change).all()
    for code in np.unique(group):
        assert (cut[group == code].sum(axis=0) == 0).all()


@pytest.mark.parametrize(
    "argv", [("field",), ("field", "import", "r"), ("field", "export", "r"), ("export", "all", "r"), ("leads", "r")]
)
def test_wrong_usage_exits_2(capsys: pytest.CaptureFixture[str], argv: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(argv)
    assert stop.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_settings_of_the_round_are_read_and_mistakes_named(tmp_path: Path) -> None:
    assert cli.main(["init", str(tmp_path / "co")]) == 0
    plan = tmp_path / "co" / "plan.yml"
    text = plan.read_text()
    plan.write_text(text + "\ntargets: {field_round: {cap: 0.05, within: company}}\n")
    assert read_settings(plan).targets.field_round == FieldRound(0.05, 0.5, "company")
    plan.write_text(text + "\ntargets: {field_round: {cap: 2}}\n")
    with pytest.raises(InputError, match=r"targets.field_round: .*cap: a fraction from 0 to 0.5"):
        read_settings(plan)
    plan.write_text(text + "\ntargets: {field_round: {caps: 2}}\n")
    with pytest.raises(InputError, match=r"did you mean cap"):
        read_settings(plan)
