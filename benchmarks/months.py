"""36 monthly runs in a row on a growing company, in one process, as a schedule would make them.

    python benchmarks/months.py [--folder DIR] [--months 36] [--markets 80] [--customers 4000] [--seed 5]
    python benchmarks/months.py --summary DIR

Every run is for the month that ended, goes on from the run before (``previous_run: latest``), keeps the last six runs
and writes its log. Measured after each: this process's memory, open files, threads and children, disk in use, time;
how far the markets' scores and the budget's directions moved against the month before; alarms. What has been measured
stands in ``DIR/months.jsonl``; the summary is printed.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
from scipy.stats import spearmanr

from micromarket.dates import TODAY, add_months
from micromarket.operation import run_unattended
from micromarket.operation.history import history_of
from micromarket.simulate import simulate

LAST = dt.date(2026, 6, 30)
KEPT = 6
RULES = """
later_rows: leave out
previous_run: latest
run: {{log: log.jsonl, keep: {{runs: {kept}}}}}
"""


def company(folder: Path, months: int, markets: int, customers: int, seed: int) -> Path:
    """A company with two years of history before the first of the months; returns its ``plan.yml``."""
    weeks = int(np.ceil((months + 24) * 365.25 / 12 / 7)) + 1
    simulate(folder, markets=markets, customers=customers, weeks=weeks, seed=seed)
    plan = folder / "plan.yml"
    text = plan.read_text(encoding="utf-8")
    text = re.sub(r"^as_of:.*$", "as_of: last full month", text, flags=re.M)
    text = re.sub(r"^plan:.*$", "plan: {start: next month, months: 12}", text, flags=re.M)
    # what people on the ground say is dated; a plan of three years ago has none of it
    plan.write_text(text + RULES.format(kept=KEPT), encoding="utf-8")
    return plan


def disk(folder: Path) -> float:
    """MB in use, each file once (stages are kept by hard links)."""
    seen = {(s.st_dev, s.st_ino): s.st_size for p in folder.rglob("*") if p.is_file() for s in (p.lstat(),)}
    return sum(seen.values()) / 1e6


def compared(run: Path, before: Path | None) -> dict[str, Any]:
    """How far scores and budget moved against the run of the month before."""
    if before is None:
        return {}
    found: dict[str, Any] = {}
    old, new = (pd.read_parquet(r / "tables" / "scores.parquet").set_index("market_id") for r in (before, run))
    for column in ("opportunity", "headroom", "clv", "new_customer_clv"):
        both = pd.DataFrame({"old": old[column], "new": new[column]}).dropna()
        found[f"rank_{column}"] = float(spearmanr(both["old"], both["new"]).statistic)
        jump = (both["new"] / both["old"] - 1).abs()[both["old"] > 0]
        found[f"jump_{column}"] = float(jump.median())
    fifth = [set(s["opportunity"].nlargest(max(1, len(s) // 5)).index) for s in (old, new)]
    found["fifth_stays"] = len(fifth[0] & fifth[1]) / len(fifth[0])
    budgets = [r / "tables" / "budget.parquet" for r in (before, run)]
    if all(b.is_file() for b in budgets):
        a, b = (pd.read_parquet(x).groupby("market_id")[["current", "change"]].sum() for x in budgets)
        moved = (a["change"].abs() > 0.02 * a["current"]) & (b["change"].abs() > 0.02 * b["current"])
        flips = (np.sign(a["change"]) != np.sign(b["change"]))[moved]
        found["moved_in_both"], found["flips"] = int(moved.sum()), int(flips.sum())
    same = pd.DataFrame({"old": old["peer_group"], "new": new["peer_group"]}).dropna()
    found["peers_stay"] = float((same["old"] == same["new"]).mean())
    return found


def measure(folder: Path, months: int) -> list[dict[str, Any]]:
    """Makes the runs and measures after each."""
    process, out, rows = psutil.Process(), folder / "reports", []
    before: Path | None = None
    for number in range(months):
        as_of = add_months(LAST + dt.timedelta(days=1), number - months + 1) - dt.timedelta(days=1)
        os.environ[TODAY] = (as_of + dt.timedelta(days=2)).isoformat()
        began = time.monotonic()
        run = run_unattended(folder / "company" / "plan.yml", out, progress=lambda line: None)
        seconds = time.monotonic() - began
        drift = pd.read_parquet(run / "tables" / "drift.parquet")
        plan = json.loads((run / "plan.json").read_text(encoding="utf-8"))
        manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
        named = manifest["inputs"].get("previous_run", {}).get("file")
        assert named == (before.name if before is not None else None), "the chain"
        assert manifest["settings"]["as_of"] == as_of.isoformat()
        row = {
            "as_of": as_of.isoformat(), "seconds": round(seconds, 1), "rss_mb": process.memory_info().rss / 1e6,
            "files": process.num_fds(), "threads": process.num_threads(),
            "children": len(process.children(recursive=True)), "disk_mb": disk(out),
            "published": len([p for p in out.iterdir() if p.is_dir() and not p.name.startswith(".")]),
            "customers": plan["stages"]["data"]["active_customers"], "moved_share": plan["budget"]["moved_share"],
            "gain": plan["gain"]["expected"], "alarms": drift.loc[drift["alarm"], "text"].tolist(),
            **compared(run, before),
        }  # fmt: skip
        watched = drift.dropna(subset=["change"])
        row["changes"] = watched[["scope", "table", "column", "measure", "change", "limit"]].values.tolist()
        rows.append(row)
        with (folder / "months.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
        told = {k: v for k, v in row.items() if k not in ("changes",)}
        print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in told.items()}), flush=True)
        before = run
    return rows


def summary(folder: Path, rows: list[dict[str, Any]]) -> str:
    """The figures of ``benchmarks/README.md``."""
    table = pd.DataFrame(rows)
    half = len(table) // 2
    slope = np.polyfit(np.arange(half, len(table)), table["rss_mb"].to_numpy()[half:], 1)[0]
    history = history_of(folder / "reports").table
    lines = [
        f"runs {len(table)}, history rows {len(history)}, all done: {bool((history['status'] == 'done').all())}",
        f"seconds: median {table['seconds'].median():.1f}, most {table['seconds'].max():.1f}",
        f"memory (MB): after run 1 {table['rss_mb'][0]:.0f}, halfway {table['rss_mb'][half]:.0f}, at the end"
        f" {table['rss_mb'].iloc[-1]:.0f}; slope over the second half {slope:.2f} a run",
        f"open files {table['files'].iloc[0]} to {table['files'].iloc[-1]}, threads {table['threads'].iloc[0]} to"
        f" {table['threads'].iloc[-1]}, children {table['children'].max()}",
        f"disk (MB): run {KEPT + 2} {table['disk_mb'].get(KEPT + 1, np.nan):.1f}, end {table['disk_mb'].iloc[-1]:.1f};"
        f" published at most {table['published'].max()}",
        f"active customers {table['customers'].iloc[0]:.0f} to {table['customers'].iloc[-1]:.0f}",
    ]
    for column in [c for c in table.columns if c.startswith(("rank_", "jump_")) or c in ("fifth_stays", "peers_stay")]:
        values = table[column].dropna()
        lines.append(f"{column}: median {values.median():.3f}, 5% {values.quantile(0.05):.3f}, worst {values.min():.3f}"
                     f", most {values.max():.3f}")  # fmt: skip
    if "flips" in table:
        lines.append(f"directions flipped: {table['flips'].sum():.0f} of {table['moved_in_both'].sum():.0f}")
    alarmed = table[table["alarms"].str.len() > 0]
    lines.append(
        f"alarms: {table['alarms'].str.len().sum()} in {len(alarmed)} of {len(table) - 1} runs with one before"
    )
    lines += [f"  {row.as_of}: {text}" for row in alarmed.itertuples() for text in row.alarms]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path)
    for name, default in (("months", 36), ("markets", 80), ("customers", 4000), ("seed", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--summary", type=Path, metavar="DIR", help="only the summary of what has been measured there")
    args = parser.parse_args()
    if args.summary is not None:
        told = (args.summary / "months.jsonl").read_text(encoding="utf-8").splitlines()
        print(summary(args.summary, [json.loads(line) for line in told]))
        return
    folder = args.folder or Path(tempfile.mkdtemp(prefix="micromarket-months-"))
    folder.mkdir(parents=True, exist_ok=True)
    company(folder / "company", args.months, args.markets, args.customers, args.seed)
    print(summary(folder, measure(folder, args.months)))


if __name__ == "__main__":
    main()
