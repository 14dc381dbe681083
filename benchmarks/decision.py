"""How good the plan's decisions and promises are, on simulated companies whose truth is known.

    python benchmarks/decision.py --results FOLDER [--kinds clean sparse …] [--seeds 401 402 …] [--markets 300 1000]

Every company goes through the library's stages from its files on; then the truth says what the recommended budget
really brings. ``capture``: gain over today's allocation as a share of the best budget's under the same limits. The
rules beside it spend by a simple proportion, or by one response for all markets or one regression a market, within
the same limits.

Without ``--kinds``, ``--seeds`` or ``--markets``: the companies of the report. One file a company is left in FOLDER;
a company whose file is there is not run again, so a run that was cut short goes on, and several may share a folder.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import pickle
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parent))
from decision_worlds import KINDS, Decided, Known, decide, know, rules

NEVER = 1e-6  # of the money's value: a gain below this is none
EVEN = 0.01  # of the possible gain: closer to a rule than this is as good as it
FIRST = 601


def report_run() -> list[tuple[str, int, int]]:
    """(kind, markets, seed): two companies of 300 markets a kind (ten without response), and four of 1,000."""
    run = [(kind, 300, FIRST + (2 * i + j) % 20) for i, kind in enumerate(KINDS) for j in range(2)]
    run += [("no_response", 300, FIRST + 30 + i) for i in range(8)]
    return run + [(kind, 1000, FIRST + 5 * i) for i, kind in enumerate(("clean", "sparse", "endogenous", "pulsed"))]


def judged(known: Known, decided: Decided) -> dict[str, float]:
    """One company's figures. Money in the company's currency; coverage and correlations between 0 and 1."""
    truth, settings = known.truth, known.settings
    limits = settings.budget
    best = truth.best_budget(limits.total, limits.max_shift, limits.market_change, limits.cell_change)
    now = truth.value_of(truth.current)
    possible = truth.value_of(best) - now
    anything = possible > NEVER * max(now, 1.0)
    numbers = decided.budget.notes.numbers
    gain, plan = numbers["gain"], decided.budget.budget
    assert plan is not None

    def share(budget: pd.DataFrame) -> float:
        return (truth.value_of(budget) - now) / possible if anything else np.nan

    real = truth.value_of(plan) - now
    out = {
        "capture": share(plan),
        "promised": gain["expected"], "real": real, "low": gain["low"], "high": gain["high"], "possible": possible,
        "covered": float(gain["low"] - 1e-6 <= real <= gain["high"] + 1e-6),
        "moved": numbers["moved_share"],
        "p_positive": np.nan if gain["p_positive"] is None else gain["p_positive"],
        "now": now,
    }  # fmt: skip
    for name in ("cautious", "free"):
        if name in plan:
            out[f"plan: {name}"] = share(plan[["market_id", "channel"]].assign(amount=plan[name]))
            out[f"promised: {name}"] = numbers[name]["gain"]["expected"]
            out[f"real: {name}"] = out[f"plan: {name}"] * possible if anything else 0.0
    for key, value in (numbers.get("stacking") or {}).items():
        if key.startswith("weight"):
            out[key] = value
    for name, budget in rules(known).items():
        out[f"rule: {name}"] = share(budget)
    return out | _estimates(known) | (_targets(decided, truth) if decided.targets else {})


def _estimates(known: Known) -> dict[str, float]:
    """Coverage of 90% intervals and rank correlation with the truth, over markets."""
    true = known.truth.markets
    value = known.value.markets.merge(true, on="market_id", suffixes=("", "_true"))
    # the truth counts value per customer known, the planner per customer on the books: compared at equal equity
    value["clv_true"] *= value["known_customers"] / value["customers"].where(value["customers"] > 0)
    score = known.potential.scores.merge(true, on="market_id", suffixes=("", "_true"))
    customers = score["customers"].fillna(0)
    score["headroom_low"] = (score["potential_low"] - customers).clip(lower=0)
    score["headroom_high"] = (score["potential_high"] - customers).clip(lower=0)
    out = {}
    for table, name, column in (
        (value, "clv", "clv"), (value, "new_customer_clv", "new_customer_clv"),
        (score, "potential", "potential_customers"), (score, "headroom", "headroom"),
    ):  # fmt: skip
        low = table[f"{name}_low"]
        high = table[f"{name}_high"]
        known_rows = low.notna() & high.notna() & table[f"{column}_true"].notna()
        held = (low <= table[f"{column}_true"]) & (table[f"{column}_true"] <= high)
        out[f"cover {name}"] = float(held[known_rows].mean()) if known_rows.any() else np.nan
        out[f"rank {name}"] = float(table[column].corr(table[f"{column}_true"], method="spearman"))
        out[f"level {name}"] = float(table[column].sum() / table[f"{column}_true"].sum())
    return out


def _targets(decided: Decided, truth) -> dict[str, float]:
    """Error of the revenue forecast under the recommended budget; promised and real reaching of the goal."""
    assert decided.targets is not None
    numbers = decided.targets.notes.numbers
    revenue = truth.revenue_of(decided.budget.budget)
    spread = numbers["spread"]["company"] * numbers["forecast_revenue"]
    return {
        "forecast / true revenue": numbers["forecast_revenue"] / revenue,
        "base / true last year": numbers["base_revenue"] / truth.facts["revenue_last_year"],
        "miss in spreads": (revenue - numbers["forecast_revenue"]) / spread,
        "p_company": numbers["p_company"],
        "goal reached": float(revenue >= numbers["goal_revenue"]),
    }


def summary(rows: pd.DataFrame) -> str:
    """What "done" asks for, over all companies of ``rows``, as a Markdown table."""
    rules_ = [c for c in rows if c.startswith("rule: ")]
    some = rows[rows["capture"].notna()]
    best_rule = some[rules_].max(axis=1)
    none = rows[rows["kind"] == "no_response"]
    clean = rows[rows["kind"] == "clean"]
    lines = ["| over all companies | measured | goal |", "|---|---|---|"]

    def line(name: str, value: str, goal: str = "") -> None:
        lines.append(f"| {name} | {value} | {goal} |")

    line("companies (that respond)", f"{len(rows)} ({len(some)})", "20")
    if len(clean):
        line("capture, clean companies", f"{clean['capture'].mean():.2f}", ".80")
    if len(some):
        line(
            "capture, after well-designed pulses (large)",
            f"{_mean(rows, 'well pulsed'):.2f} ({_mean(rows, 'well pulsed, large'):.2f})",
            ".90",
        )
        line("capture, all that respond", f"{some['capture'].mean():.2f}")
        above = (some["capture"] > best_rule).mean()
        beyond = (some["capture"] > best_rule - EVEN).mean()
        line("above every rule", f"{above:.0%}", "90%")
        line("above, or within 1% of the possible gain", f"{beyond:.0%}")
        line("best rule's capture, picked with hindsight", f"{best_rule.mean():.2f}")
        ratio = some["promised"] / some["real"].where(some["real"].abs() > NEVER * some["now"])
        line("promised / real, mean of ratios", f"{ratio.mean():.2f}", ".9 to 1.1")
        line("promised / real, of sums", f"{some['promised'].sum() / some['real'].sum():.2f}")
        line("promised / real, middle half", f"{ratio.quantile(0.25):.2f} to {ratio.quantile(0.75):.2f}")
        line("real gain inside the 90% range", f"{some['covered'].mean():.0%}", "85 to 95%")
        line("plans with a real gain", f"{(some['real'] > 0).mean():.0%}")
    if len(none):
        line("no response: range holds 0", f"{none['covered'].mean():.0%}", "90%")
        line("no response: share of the money that moves", f"{none['moved'].mean():.1%}", "below 5%")
    return "\n".join(lines)


def _mean(rows: pd.DataFrame, kind: str) -> float:
    return float(rows.loc[rows["kind"] == kind, "capture"].mean())


def table_of(rows: pd.DataFrame) -> str:
    """Means over the companies of each kind, as a Markdown table."""
    kinds = list(dict.fromkeys(rows["kind"]))
    lines = ["| mean over companies | " + " | ".join(kinds) + " |", "|" + "---|" * (len(kinds) + 1)]

    def line(name: str, by_kind: list[float], digits: int = 2) -> None:
        shown = ["–" if not np.isfinite(v) else f"{v:.{digits}f}" for v in by_kind]
        lines.append("| " + " | ".join([name, *shown]) + " |")

    parts = [rows[rows["kind"] == kind] for kind in kinds]
    mean = lambda column: [float(p[column].mean()) for p in parts]  # noqa: E731
    line("companies", [len(p) for p in parts], 0)
    line("**capture, our plan**", mean("capture"))
    line("worst company", [float(p["capture"].min()) for p in parts])
    for column in [c for c in rows if c.startswith(("plan: ", "rule: "))]:
        line(column, mean(column))
    real = [p["real"].where(p["capture"].notna()) for p in parts]
    line("promised / real gain", [float((p["promised"] / r).mean()) for p, r in zip(parts, real, strict=True)])
    line("real gain inside the 90% range", mean("covered"))
    line("width of the range / real gain",
         [float(((p["high"] - p["low"]) / r).mean()) for p, r in zip(parts, real, strict=True)])  # fmt: skip
    line("stated odds of a gain", mean("p_positive"))
    line("share of plans with a real gain", [float((p["real"] > 0).mean()) for p in parts])
    line("share of money moved", mean("moved"))
    for column in [c for c in rows if c.startswith(("cover ", "rank ", "level "))]:
        line(column, mean(column))
    if "miss in spreads" in rows:
        for column in ("base / true last year", "forecast / true revenue", "p_company", "goal reached"):
            line(column, mean(column))
        line("RMS miss of revenue in stated spreads",
             [float(np.sqrt((p["miss in spreads"] ** 2).mean())) for p in parts])  # fmt: skip
    return "\n".join(lines)


def known_company(kind: str, markets: int, seed: int, cache: Path | None) -> Known:
    """A company after data, value and potential; kept in ``cache`` for runs that only change what comes after."""
    kept = None if cache is None else cache / f"{kind}-{markets}-{seed}.pickle"
    if kept is not None and kept.exists():
        return pickle.loads(kept.read_bytes())
    with tempfile.TemporaryDirectory() as folder:
        known = know(Path(folder), kind, markets, seed)
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(pickle.dumps(known))
    return known


def one_company(kind: str, markets: int, seed: int, results: Path | None, cache: Path | None) -> dict[str, Any]:
    """Figures of one simulated company; its files are gone afterwards."""
    kept = None if results is None else results / f"{kind}-{markets}-{seed}.json"
    if kept is not None and kept.exists():
        return json.loads(kept.read_text())
    start = time.process_time()
    known = known_company(kind, markets, seed, cache)
    upstream = time.process_time() - start
    decided = decide(known)
    seconds = {"cpu before response": upstream, "cpu of decisions": time.process_time() - start - upstream}
    row = {"kind": kind, "markets": markets, "seed": seed, **seconds, **judged(known, decided)}
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(row))
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS))
    parser.add_argument("--markets", type=int, nargs="+")
    parser.add_argument("--jobs", type=int, default=2, help="companies at a time, one process each")
    parser.add_argument("--results", type=Path, help="a file a company is left here, and not run again")
    parser.add_argument("--cache", type=Path, help="keep companies here as the stages before response left them")
    parser.add_argument("--csv", type=Path, help="also write every company's figures there")
    a = parser.parse_args()
    asked = report_run()
    if a.seeds:
        asked = [(k, m, s) for m in (a.markets or [300]) for k in (a.kinds or KINDS) for s in a.seeds]
    else:
        asked = [(k, m, s) for k, m, s in asked if k in (a.kinds or KINDS) and m in (a.markets or [m])]
    start = time.perf_counter()
    rows = []
    with ProcessPoolExecutor(a.jobs) as pool:
        futures = [pool.submit(one_company, *which, a.results, a.cache) for which in asked]
        for future in futures:
            row = future.result()
            rows.append(row)
            best = max(v for k, v in row.items() if k.startswith("rule: "))
            done = f"capture {row['capture']:.2f}, best rule {best:.2f}, promised {row['promised']:,.0f}"
            took = f"{time.perf_counter() - start:5.0f} s"
            print(f"{took}  {row['kind']} {row['markets']} {row['seed']}: {done}, real {row['real']:,.0f}",
                  file=sys.stderr, flush=True)  # fmt: skip
    frame = pd.DataFrame(rows)
    if a.csv:
        frame.to_csv(a.csv, index=False)
    print(summary(frame), table_of(frame), sep="\n\n")


if __name__ == "__main__":
    main()
