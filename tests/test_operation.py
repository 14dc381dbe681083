"""Runs that nobody watches: dates in words, data as they stood, log, hooks, retention, history, state, alarms."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import signal
import stat
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_runner import PIPELINE, PLAN, in_this_process
from test_runner import company as company
from test_runner import same_code as same_code
from tiny import write_tiny

from micromarket import cli
from micromarket.config import read_settings
from micromarket.drift import alarms_of, drift
from micromarket.errors import InputError, StageError
from micromarket.load import open_dataset
from micromarket.notes import Notes
from micromarket.operation import run_unattended
from micromarket.operation.history import history_of
from micromarket.operation.log import append_line, read_lines
from micromarket.operation.retention import sweep
from micromarket.operation.runs import published
from micromarket.operation.signals import Stopped
from micromarket.operation.status import state_of
from micromarket.pinned import pin, pinned_in
from micromarket.settings import Keep
from micromarket.summarise.input_profile import input_profile
from micromarket.workspace import Workspace

RELATIVE = ("as_of:     last full month", "plan:      {start: next month, months: 12}")


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch, same_code: None) -> None:
    monkeypatch.setattr("micromarket.runner.execution.execute_notebook", in_this_process)
    monkeypatch.setattr("micromarket.runner.execution.fork_server", lambda notebooks: None)


def tell(company: Path, rules: str = "", **replaced: str) -> None:
    """Writes plan.yml with ``rules`` at its end."""
    text = PLAN
    for key, line in replaced.items():
        text = "\n".join(line if row.startswith(key) else row for row in text.splitlines()) + "\n"
    (company / "plan.yml").write_text(text + rules, encoding="utf-8")


def go(company: Path, out: Path, **more: Any) -> Path:
    more.setdefault("check", lambda settings: {"markets": 2})
    return run_unattended(company / "plan.yml", out, pipeline=PIPELINE, notebooks=company / "notebooks",
                          progress=lambda line: None, **more)  # fmt: skip


# --- dates ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("today", "words", "day"),
    [
        ("2026-07-01", "last full month", "2026-06-30"),
        ("2026-06-30", "last full month", "2026-05-31"),  # today is not over
        ("2026-03-01", "Last  Full Month", "2026-02-28"),
        ("2026-07-01", "yesterday", "2026-06-30"),
        ("2026-07-01", "today", "2026-07-01"),
        ("2026-07-06", "last full week", "2026-07-05"),  # a Monday
        ("2026-07-05", "last full week", "2026-06-28"),  # a Sunday
        ("2026-01-15", "last full quarter", "2025-12-31"),
        ("2026-01-15", "last full year", "2025-12-31"),
    ],
)
def test_days_in_words(monkeypatch: pytest.MonkeyPatch, company: Path, today: str, words: str, day: str) -> None:
    monkeypatch.setenv("MICROMARKET_TODAY", today)
    tell(company, as_of=f"as_of: {words}", plan=RELATIVE[1])
    assert str(read_settings(company / "plan.yml").as_of) == day


@pytest.mark.parametrize(
    ("plan", "start", "end"),
    [
        ("{start: next month, months: 12}", "2026-03-01", "2027-02-28"),
        ("{start: month after next, months: 3}", "2026-04-01", "2026-06-30"),
        ("{start: next quarter, quarters: 2}", "2026-04-01", "2026-09-30"),
        ("{start: next year, years: 1}", "2027-01-01", "2027-12-31"),
        ("{start: next week, weeks: 26}", "2026-03-02", "2026-08-30"),
        ("{start: next day, days: 10}", "2026-03-01", "2026-03-10"),
        ("{start: 2026-03-15, months: 1}", "2026-03-15", "2026-04-14"),
    ],
)
def test_a_plan_in_words_follows_the_day_of_its_data(company: Path, plan: str, start: str, end: str) -> None:
    tell(company, as_of="as_of: 2026-02-28", plan=f"plan: {plan}")
    period = read_settings(company / "plan.yml").plan
    assert (str(period.start), str(period.end)) == (start, end)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ({"as_of": "as_of: last full moon"}, r"did you mean last full month\?"),
        ({"as_of": "as_of: 2026-02-30"}, "YYYY-MM-DD"),
        ({"plan": "plan: {start: nxt month, months: 12}"}, r"plan\.start.*did you mean next month\?"),
        ({"plan": "plan: {start: next month, months: 0}"}, r"plan\.months.*from 1 to 120"),
        ({"plan": "plan: {start: next month, months: 3, weeks: 2}"}, "only one of end"),
        ({"plan": "plan: {start: next month, month: 3}"}, r"did you mean months\?"),
        ({"plan": "plan: {start: next month}"}, r"plan\.end: expected this key"),
    ],
)
def test_words_that_nobody_knows_are_named(company: Path, lines: dict[str, str], words: str) -> None:
    tell(company, **lines)
    with pytest.raises(InputError, match=words):
        read_settings(company / "plan.yml")


def test_rows_after_as_of_are_refused_or_left_out(tmp_path: Path) -> None:
    plan = write_tiny(tmp_path)
    with pytest.raises(InputError, match="on or before as_of"):
        open_dataset(replace(read_settings(plan), as_of=dt.date(2026, 2, 28)))
    (tmp_path / "notes.csv").write_text("market_id,author,date,kind,reason\n01,A,2026-06-01,blocked,new\n")
    plan.write_text(plan.read_text().replace("  spend:", "  field_notes: notes.csv\n  spend:"))
    with open_dataset(read_settings(plan, dt.date(2026, 2, 28))) as then:
        # two customers came later, one contract ended later, nobody had written a note, nothing was spent yet
        assert then.rows == {"customers": 3, "markets": 4, "subscriptions": 3}
        assert then.table("subscriptions").ended_on.count().execute() == 0
        assert set(input_profile(then)["table"]) == {"customers", "markets", "subscriptions"}


def test_what_a_run_settled_holds_for_its_notebooks(
    monkeypatch: pytest.MonkeyPatch, company: Path, tmp_path: Path
) -> None:
    tell(company, "previous_run: latest\n", as_of=RELATIVE[0], plan=RELATIVE[1])
    monkeypatch.setenv("MICROMARKET_TODAY", "2026-07-31")
    pin(read_settings(company / "plan.yml"), tmp_path)
    monkeypatch.setenv("MICROMARKET_TODAY", "2026-08-01")  # past midnight
    settings = read_settings(company / "plan.yml", pinned=pinned_in(tmp_path))
    assert (str(settings.as_of), settings.later_rows, settings.previous_run) == ("2026-06-30", "leave out", None)
    (tmp_path / "work" / "pinned.json").write_text("{}")
    with pytest.raises(StageError, match="begin the run anew"):
        pinned_in(tmp_path)


def test_a_run_is_a_function_of_its_settled_dates(
    monkeypatch: pytest.MonkeyPatch, company: Path, tmp_path: Path
) -> None:
    tell(company, as_of=RELATIVE[0], plan=RELATIVE[1])
    monkeypatch.setenv("MICROMARKET_TODAY", "2026-07-03")
    first = go(company, tmp_path / "a")
    monkeypatch.setenv("MICROMARKET_TODAY", "2026-07-29")
    second = go(company, tmp_path / "b")
    third = go(company, tmp_path / "c", as_of=dt.date(2026, 5, 31))
    assert first.name == second.name
    assert third.name.startswith("2026-05-31-")
    said = json.loads((third / "manifest.json").read_text())["settings"]
    assert (said["as_of"], said["plan"]) == ("2026-05-31", {"start": "2026-06-01", "end": "2027-05-31"})


# --- around a run -----------------------------------------------------------------------------------------------------

HOOK = """\
import json, os, sys
json.dump({k: v for k, v in os.environ.items() if k.startswith("MICROMARKET_")}, open(sys.argv[1], "w"))
sys.exit(int(sys.argv[2]))
"""


def hooked(company: Path, status: int = 0, more: str = "") -> Path:
    (company / "hook.py").write_text(HOOK)
    told = company / "told.json"
    for_both = json.dumps([sys.executable, "hook.py", str(told), status])
    tell(company, f"run: {{log: log.jsonl, on_success: {for_both}, on_failure: {for_both}{more}}}\n")
    return told


def test_log_hook_and_journal_of_a_run_that_ends_well(company: Path, tmp_path: Path) -> None:
    told = hooked(company)
    folder = go(company, tmp_path / "out")
    env = json.loads(told.read_text())
    assert env["MICROMARKET_RUN"] == str(folder)
    assert (env["MICROMARKET_STATUS"], env["MICROMARKET_EXIT_STATUS"]) == ("done", "0")
    events = read_lines(company / "log.jsonl")
    assert [e["event"] for e in events] == [
        "run started", "input sound", *["stage started", "stage done"] * 3, "published", "hook", "finished",
    ]  # fmt: skip
    assert len({e["run"] for e in events}) == 1
    assert all(e["seconds"] >= 0 and e["time"].endswith("+00:00") for e in events)
    assert events[1]["rows"] == {"markets": 2}
    row = history_of(tmp_path / "out").to_json()[0]
    assert (row["status"], row["folder"], row["there"], row["as_of"]) == ("done", folder.name, True, "2026-06-30")
    pointer = json.loads((tmp_path / "out" / "latest.json").read_text())
    assert [entry["run"] for entry in pointer["companies"].values()] == [folder.name]


def test_failure_is_told_without_values_from_the_data(company: Path, tmp_path: Path) -> None:
    told = hooked(company)
    (tmp_path / "out").mkdir()
    text = (company / "plan.yml").read_text(encoding="utf-8")
    (company / "plan.yml").write_text(text.replace("margin_rate: 0.3", "margin_rate: C000123"), encoding="utf-8")
    with pytest.raises(InputError):
        go(company, tmp_path / "out")
    env = json.loads(told.read_text())
    assert (env["MICROMARKET_STATUS"], env["MICROMARKET_EXIT_STATUS"]) == ("failed", "2")
    assert [e["event"] for e in read_lines(company / "log.jsonl")] == ["run started", "hook", "finished"]
    assert read_lines(company / "log.jsonl")[-1]["problems"][0]["column"] == "economics.margin_rate"
    for file in (company / "log.jsonl", told, *(tmp_path / "out").rglob("*.jsonl")):
        assert "C000123" not in file.read_text()
    state = state_of(tmp_path / "out")
    assert not state.sound
    assert "problems in the input" in " ".join(state.problems)
    # a broken notebook: the kind of the error, not its words
    hooked(company)
    notebook = company / "notebooks" / "02_double.ipynb"
    notebook.write_text(notebook.read_text().replace("import os, time", "import os, time; {}['C000123']"))
    with pytest.raises(KeyError):
        go(company, tmp_path / "out")
    assert "C000123" not in (company / "log.jsonl").read_text()
    assert read_lines(company / "log.jsonl")[-3]["event"] == "stage failed"


def test_a_failing_hook_is_a_warning_unless_it_is_required(company: Path, tmp_path: Path) -> None:
    hooked(company, status=3)
    folder = go(company, tmp_path / "out")
    assert folder.is_dir()
    events = {e["event"]: e for e in read_lines(company / "log.jsonl")}
    assert events["hook"]["status"] == 3
    assert "status 3" in events["warning"]["text"]
    hooked(company, status=3, more=", hook_required: true")
    with pytest.raises(StageError, match=r"the plan is in .* but the command of run\.on_success failed"):
        go(company, tmp_path / "out")
    sleep = json.dumps([sys.executable, "-c", "import time; time.sleep(60)"])
    tell(company, f"run: {{on_success: {sleep}, hook_timeout: 1, log: log.jsonl}}\n")
    go(company, tmp_path / "out")
    assert "longer than 1 seconds" in read_lines(company / "log.jsonl")[-2]["text"]


def test_out_that_can_not_be_written_is_noticed_before_anything_is_read(company: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    def never(settings: object) -> dict[str, int]:
        raise AssertionError("read the input")

    with pytest.raises(StageError, match="can't write into"):
        go(company, tmp_path / "file" / "out", check=never)
    with pytest.raises(StageError, match="can't write the log"):
        go(company, tmp_path / "out", check=never, log=tmp_path / "file" / "log.jsonl")
    if os.name == "posix" and os.geteuid() != 0:
        (tmp_path / "ro").mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
        with pytest.raises(StageError, match="can't write into"):
            go(company, tmp_path / "ro", check=never)


def test_a_signal_stops_a_run_tidily(company: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(settings: object) -> dict[str, int]:
        os.kill(os.getpid(), signal.SIGTERM)
        return {}

    told = hooked(company)
    with pytest.raises(Stopped) as caught:
        go(company, tmp_path / "out", check=stop)
    assert caught.value.status == 128 + signal.SIGTERM
    assert not told.exists()
    assert read_lines(company / "log.jsonl")[-1]["status"] == "stopped"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def months(company: Path, out: Path, count: int, rules: str) -> list[str]:
    tell(company, f"run: {{{rules}}}\n", as_of=RELATIVE[0], plan=RELATIVE[1])
    return [go(company, out, as_of=dt.date(2026, m + 1, 1) - dt.timedelta(days=1)).name for m in range(1, count + 1)]


def test_retention_keeps_what_it_must(company: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    names = months(company, out, 6, "keep: {runs: 5}")
    assert [run.folder.name for run in published(out)] == names[1:]
    manifest = out / names[5] / "manifest.json"
    said = json.loads(manifest.read_text())
    said["inputs"]["previous_run"] = {"file": names[1]}  # the newest run goes on from the oldest
    manifest.write_text(json.dumps(said))
    (out / names[2] / "my notes.txt").write_text("precious")
    (out / names[3]).rename(out / "june, do not touch")
    (out / "2026-01-31-somebody-else-00000000").mkdir()
    swept = sweep(out, "Société Générale 株式会社", Keep(runs=1))
    assert swept.removed == (names[4],)
    assert {name for name, _ in swept.spared} == {names[1], names[2], "june, do not touch"}
    assert (out / names[2] / "my notes.txt").exists()
    assert (out / names[5]).is_dir()
    assert sweep(out, "Another company", Keep(runs=1)).removed == ()
    assert sweep(out, "Société Générale 株式会社", Keep()).removed == ()


def test_retention_by_months(company: Path, tmp_path: Path) -> None:
    names = months(company, tmp_path / "out", 5, "keep: {months: 2}")
    assert [run.folder.name for run in published(tmp_path / "out")] == names[3:]
    table = history_of(tmp_path / "out").table
    assert table["there"].tolist() == [False] * 3 + [True] * 2
    assert len(history_of(tmp_path / "out").to_text().splitlines()) == 2 * 6 + 1


def test_status_for_a_monitor(company: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert cli.main(["status", str(out)]) == 1
    folder = go(company, out)
    assert cli.main(["status", str(out), "--max-age", "1"]) == 0
    later = dt.datetime.now(dt.UTC) + dt.timedelta(days=40)
    assert not state_of(out, 35, later).sound
    # one that died without a word: a working directory that nobody holds and that never said how it went
    dead = out / ".work" / f"{folder.name}-dead"
    shutil.copytree(next(p for p in (out / ".work").iterdir() if p.is_dir()), dead)
    (dead / "manifest.json").unlink()
    state = state_of(out)
    assert state.failed is not None
    assert state.failed["status"] == "died"
    assert cli.main(["status", str(out), "--json"]) == 1
    capsys.readouterr()
    assert cli.main(["history", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["folder"] == folder.name
    assert cli.main(["history", str(out), "--out", str(tmp_path / "history.csv")]) == 0
    assert pd.read_csv(tmp_path / "history.csv")["status"].tolist() == ["done"]


def test_lines_of_several_writers_do_not_mix_and_halves_are_passed_over(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    for n in range(3):
        append_line(log, {"n": n, "text": "x" * 5000})
    with log.open("a") as stream:
        stream.write('{"n": 3, "tex')
    assert [line["n"] for line in read_lines(log)] == [0, 1, 2]


# --- alarms -----------------------------------------------------------------------------------------------------------

PROFILE: dict[tuple[str, str, str], float] = {
    ("spend", "", "rows"): 5200, ("spend", "amount", "mean"): 40, ("spend", "channel", "empty"): 0.0,
    ("spend", "", "recent"): 1300, ("spend", "", "recent last year"): 1300, ("spend", "amount", "recent"): 52_000,
    ("spend", "amount", "recent last year"): 50_000, ("customers", "", "rows"): 9000,
    ("customers", "segment", "share of Home"): 0.7, ("customers", "segment", "share of Firm"): 0.3,
    ("customers", "segment", "empty"): 0.0,
}  # fmt: skip


def watched(company: Path, out: Path, month: int, **changed: Any) -> pd.DataFrame:
    """Drift of a run with an altered profile against the one before it, which it leaves for the next."""
    tell(company, as_of=f"as_of: 2026-{month:02d}-28", plan=RELATIVE[1])
    settings = replace(read_settings(company / "plan.yml"), previous_run=out if out.is_dir() else None)
    values = {**PROFILE, **changed.get("profile", {})}
    rows = [(*key, value) for key, value in values.items() if value is not None]
    profile = pd.DataFrame(rows, columns=["table", "column", "measure", "value"])
    ids = [f"M{i:02d}" for i in range(30)]
    scores = pd.DataFrame({"market_id": ids, "opportunity": changed.get("scores", np.arange(30.0)),
                           "headroom": np.arange(30.0), "clv": np.arange(30.0) + 100})  # fmt: skip
    numbers = {"total": 1e6, "moved_share": 0.2, "gain": {"expected": 1e5, "low": 2e4, "high": 2e5}}
    notes = {"allocation": Notes(numbers={**numbers, **changed.get("allocation", {})})}
    table = drift(settings, profile, {"scores": scores}, notes)
    folder = out / f"2026-{month:02d}-28-x"
    for name in ("scores", "peer_groups"):
        (folder / "tables").mkdir(parents=True, exist_ok=True)
        scores.to_parquet(folder / "tables" / f"{name}.parquet")
    Workspace(folder).write("drift", table)
    manifest = {"settings": {"as_of": str(settings.as_of), "company": {"name": settings.company.name}}, "ended": ""}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return table


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, ()),
        ({"profile": {("spend", "amount", "recent"): 19_760}}, ("amount of spend fell by 62%",)),
        # the season: the same fall a year ago
        ({"profile": {("spend", "amount", "recent"): 26_000, ("spend", "amount", "recent last year"): 25_000}}, ()),
        ({"profile": {("customers", "", "rows"): 4000.0}}, ("rows of customers fell by 56%",)),
        ({"profile": {("customers", "segment", "empty"): 0.3}}, ("30% of the column segment of customers are empty",)),
        ({"profile": {("customers", "segment", "share of Home"): 0.4, ("customers", "segment", "share of Firm"): 0.6}},
         ("Firm has 60%", "Home has 40%")),
        ({"profile": {("spend", "channel", "empty"): None}}, ("column channel of spend is gone",)),
        ({"profile": {("leads", "", "rows"): 50.0}}, ("table leads is new",)),
        ({"scores": np.arange(30.0)[::-1]}, ("order of the markets by opportunity",)),
        # another promise, within the range of the one before: no news; far outside of it: news
        ({"allocation": {"gain": {"expected": 1.9e5, "low": 5e4, "high": 3e5}}}, ()),
        ({"allocation": {"gain": {"expected": 9e5, "low": 8e5, "high": 1e6}}}, ("margin that the moves add",)),
    ],
)  # fmt: skip
def test_alarms_say_what_changed(
    company: Path, tmp_path: Path, changed: dict[str, Any], words: tuple[str, ...]
) -> None:
    out = tmp_path / "runs"
    assert alarms_of(watched(company, out, 1)) == ()  # nothing before it
    found = alarms_of(watched(company, out, 2, **changed))
    assert len(found) == len(words), found
    assert all(any(word in text for text in found) for word in words), found


def test_a_profile_holds_sums_only(tmp_path: Path) -> None:
    with open_dataset(read_settings(write_tiny(tmp_path))) as dataset:
        profile = input_profile(dataset)
    assert not {"007", "008"} & set(profile["measure"].str.removeprefix("share of "))
    # of a handful of rows, no mean and no share: they would tell of single customers
    of_customers = profile[profile["table"].isin(["customers", "subscriptions"])]
    assert set(of_customers["measure"]) <= {"rows", "empty", "recent", "recent last year"}
    held = profile.set_index(["table", "column", "measure"])["value"]
    assert held["subscriptions", "", "rows"] == 5
    assert held["subscriptions", "ended_on", "empty"] == pytest.approx(0.8)
