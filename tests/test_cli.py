"""The command line as a user meets it: statuses, messages, what is left behind."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pandas as pd
import pytest
from tiny import write_tiny

from micromarket import cli
from micromarket.config import read_settings
from micromarket.errors import InputError
from micromarket.readout import readout
from micromarket.tables import TABLE_SCHEMAS


def say(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    """Status, standard output, standard error."""
    try:
        status = cli.main(argv)
    except SystemExit as stop:  # argparse
        status = int(stop.code or 0)
    out, err = capsys.readouterr()
    return status, out, err


@pytest.mark.parametrize(
    "argv",
    [
        (),
        ("fly",),
        ("run",),
        ("run", "p.yml", "--until", "datta"),
        ("simulate", "d", "--markets", "0"),
        ("readout", "r"),
    ],
)
def test_wrong_usage_exits_2(capsys: pytest.CaptureFixture[str], argv: tuple[str, ...]) -> None:
    status, _, err = say(capsys, *argv)
    assert status == 2
    assert "usage:" in err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = say(capsys, "--version")
    assert status == 0
    assert out.startswith("micromarket ")


def test_init_writes_a_plan_that_reads_and_a_template_of_every_table(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    status, out, _ = say(capsys, "init", str(tmp_path / "new"))
    assert status == 0
    settings = read_settings(tmp_path / "new" / "plan.yml")
    assert set(settings.data) == {"markets", "customers", "transactions"}
    for table, schema in TABLE_SCHEMAS.items():
        with (tmp_path / "new" / f"{table}.csv").open(newline="") as stream:
            rows = list(csv.reader(stream))
        assert len(rows) == 1
        assert set(rows[0]) == {c for c in schema.columns if c != "geometry"}
    assert out.strip().splitlines()[-1] == f"micromarket check {tmp_path / 'new' / 'plan.yml'}"


def test_every_commented_key_of_the_starter_is_a_valid_default(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    say(capsys, "init", str(tmp_path))
    plan = tmp_path / "plan.yml"
    before = read_settings(plan)
    text = plan.read_text()
    for line in text.splitlines():
        key = line.lstrip("# ").split(":")[0]
        optional = key in {
            "discount_rate",
            "horizon_months",
            "servicing_cost",
            "budget",
            "targets",
            "tests",
            "report",
            "seed",
        }
        inside = line.startswith("#   ") and not key.startswith(("transactions", "customers"))
        if optional or (inside and line.index(":") < 20):
            text = text.replace(line, line.replace("# ", "", 1), 1)
    plan.write_text(text)
    after = read_settings(plan)
    assert text.count("\nbudget:") == 1
    assert after == before


def test_init_overwrites_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "spend.csv").write_text("mine")
    status, _, err = say(capsys, "init", str(tmp_path))
    assert status == 2
    assert "spend.csv" in err
    assert [p.name for p in tmp_path.iterdir()] == ["spend.csv"]
    assert (tmp_path / "spend.csv").read_text() == "mine"


def test_check_of_the_empty_starter_names_every_empty_table(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    say(capsys, "init", str(tmp_path))
    status, out, err = say(capsys, "check", str(tmp_path / "plan.yml"))
    assert status == 2
    assert out == ""
    assert all(name in err for name in ("markets.csv", "customers.csv", "transactions.csv"))
    assert "Traceback" not in err


def test_check_tells_what_was_read_and_what_the_plan_will_say(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    plan = write_tiny(tmp_path / "tiny")
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    status, out, _ = say(capsys, "check", str(plan))
    assert status == 0
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert {"customers 5 rows", "markets 4 rows", "spend 3 rows", "subscriptions 5 rows"} <= set(lines)
    assert "Features: median_income" in lines
    said = dict(line.split(" ", 1) for line in lines[lines.index("The plan will say") + 1 :] if " " in line)
    assert said["value"].startswith("lifetime value from contracts")
    assert "no share" in said["potential"]
    assert said["response"].startswith("2 channels, estimated")
    assert said["targets"] == "revenue +10%, by market and period"
    assert said["funnel"] == "nothing: there are no leads"
    assert said["map"] == "yes"
    assert lines[-1] == "no problem found"
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def test_own_plays_are_checked_before_anything_runs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    plan = write_tiny(tmp_path / "tiny")
    plan.with_name("plays.yml").write_text("plays: [{title: Go, quadrant: growe, what: x, who: y, measure: z}]")
    plan.with_name("spend.csv").write_text("market_id,period,channel,amount\n01,2026-06-08,Search,-1\n")
    for argv in (["check", str(plan)], ["run", str(plan), "--out", str(tmp_path / "out")]):
        status, _, err = say(capsys, *argv)
        assert status == 2
        assert "plays.yml, column quadrant, row 1" in err
        assert "did you mean grow?" in err
        assert "spend.csv, column amount, row 1" in err
    assert not (tmp_path / "out").exists()


def test_run_on_bad_input_says_it_all_and_leaves_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    say(capsys, "init", str(tmp_path))
    status, out, err = say(capsys, "run", str(tmp_path / "plan.yml"), "--out", str(tmp_path / "out"))
    assert status == 2
    assert "3 problems" in err
    assert out == ""
    assert not (tmp_path / "out").exists()
    (tmp_path / "plan.yml").write_text("company: {nam: x}")
    status, _, err = say(capsys, "run", str(tmp_path / "plan.yml"), "--out", str(tmp_path / "out"))
    assert status == 2
    assert "did you mean name" in err
    assert say(capsys, "run", str(tmp_path / "no.yml"))[0] == 2


def test_an_unexpected_error_is_one_line_unless_debug(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(directory: str) -> list[Path]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("micromarket.starter.write_starter", broken)
    status, _, err = say(capsys, "init", str(tmp_path))
    assert status == 1
    assert err.count("\n") == 1
    assert "No space left" in err
    assert "--debug" in err
    assert "Traceback" in say(capsys, "init", str(tmp_path), "--debug")[2]
    assert "Traceback" in say(capsys, "--debug", "init", str(tmp_path))[2]


# --- readout ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A run folder with targets for two markets: 31 customers and 310 of money in July, 62 and 620 in August, each."""
    run = tmp_path / "run"
    (run / "tables").mkdir(parents=True)
    (run / "plan.json").write_text(
        json.dumps({"currency": "EUR", "plan": {"start": "2026-07-01", "end": "2026-08-31"}})
    )
    (run / "manifest.json").write_text(json.dumps({"settings": {"targets": {"period": "month"}}}))
    rows = [
        (m, s, p, c / 2, 10 * c / 2)
        for m in "AB"
        for s in ("x", "y")
        for p, c in (("2026-07-01", 31), ("2026-08-01", 62))
    ]
    frame = pd.DataFrame(rows, columns=["market_id", "segment", "period", "new_customers", "revenue"])
    frame.assign(period=pd.to_datetime(frame["period"])).to_parquet(run / "tables/targets.parquet")
    return run


def actuals(path: Path, text: str) -> Path:
    path.write_text("market_id,period,new_customers,revenue\n" + text)
    return path


def test_readout_compares_the_same_days(finished: Path, tmp_path: Path) -> None:
    # the week of 29 June has 5 of its 7 days in the plan; the last week ends on 2 August
    weeks = pd.date_range("2026-06-29", periods=5, freq="7D")
    text = "".join(f"A,{w:%Y-%m-%d},7,140\n" for w in weeks)
    got = readout(finished, [actuals(tmp_path / "a.csv", text)], pd.Series({"A": "north", "B": "south"}))
    assert (str(got.since), str(got.through)) == ("2026-07-01", "2026-08-02")
    planned = 31 + 2 / 31 * 62
    assert got.markets.loc["A", "new_customers_target"] == pytest.approx(planned)
    assert got.markets.loc["A", "new_customers_actual"] == pytest.approx(5 + 4 * 7)
    assert got.markets.loc["A", "revenue_attainment"] == pytest.approx(20 * 33 / (10 * planned))
    assert got.total["new_customers_target"] == pytest.approx(2 * planned)
    assert got.total["revenue_actual"] == pytest.approx(660)
    assert got.regions["revenue_actual"].to_dict() == {"north": pytest.approx(660), "south": 0}
    assert got.notes == ("1 of 2 markets have no actuals at all and count as 0.",)


def test_readout_adds_up_several_files_and_formats(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    july = actuals(tmp_path / "july.csv", "A,2026-07-01,31,310\nB,2026-07-01,15.5,155\n")
    august = tmp_path / "august.parquet"
    pd.DataFrame({"market_id": ["A"], "period": pd.to_datetime(["2026-08-01"]), "new_customers": [62]}).to_parquet(
        august
    )
    got = readout(finished, [july, august])
    assert str(got.through) == "2026-08-31"
    assert got.markets.loc["A", "new_customers_attainment"] == pytest.approx(1)
    assert got.markets.loc["B", "new_customers_attainment"] == pytest.approx(15.5 / 93)
    status, out, _ = say(capsys, "readout", str(finished), "--actuals", str(july), str(august))
    assert status == 0
    assert "new customers: 108 of 186 planned to date (58%)" in out
    assert "Markets furthest behind" in out


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("C,2026-07-01,1,1\n", "market of the plan"),
        ("A,2026-07-01,-1,1\n", "new_customers"),
        ("A,yesterday,1,1\n", "period"),
        ("A,2026-07-01,1,1\nA,2026-07-01,1,1\n", "market_id"),
        ("A,2025-07-01,1,1\n", "days within the plan"),
        ("", "at least one row"),
    ],
)
def test_readout_refuses_bad_actuals(finished: Path, tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected) as caught:
        readout(finished, [actuals(tmp_path / "a.csv", text)])
    assert "a.csv" in str(caught.value)


def test_readout_of_what_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = say(capsys, "readout", str(tmp_path), "--actuals", str(tmp_path / "a.csv"))
    assert status == 2
    assert "finished run folder" in err
