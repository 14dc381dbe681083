"""How good the plan's decisions and promises are, on simulated companies whose truth is known.

    python benchmarks/decision.py [--seeds 101 102 103] [--kinds contractual sparse …] [--markets 150] [--csv FILE]

Every company goes through the library's stages from its files on; then the truth says what the recommended budget
really brings. ``capture``: gain over today's allocation as a share of the best budget's under the same limits. The
rules beside it spend by a simple proportion, or by one pooled response, within the same limits.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parent))
from worlds import KINDS, Decided, Known, decide, know, rules

NEVER = 1e-6  # of the money's value: a gain below this is none


def judged(known: Known, decided: Decided) -> dict[str, float]:
    """One company's figures. Money in the company's currency; coverage and correlations between 0 and 1."""
    truth, settings = known.truth, known.settings
    limits = settings.budget
    best = truth.best_budget(limits.total, limits.max_shift, limits.market_change, limits.cell_change)
    now = truth.value_of(truth.current)
    possible = truth.value_of(best) - now
    numbers = decided.budget.notes.numbers
    gain, plan = numbers["gain"], decided.budget.budget
    real = truth.value_of(plan) - now
    out = {
        "capture": real / possible if possible > NEVER * max(now, 1.0) else np.nan,
        "promised": gain["expected"], "real": real, "low": gain["low"], "high": gain["high"], "possible": possible,
        "covered": float(gain["low"] - 1e-6 <= real <= gain["high"] + 1e-6),
        "moved": numbers["moved_share"],
        "p_positive": np.nan if gain["p_positive"] is None else gain["p_positive"],
    }  # fmt: skip
    for name, budget in rules(known).items():
        gained = truth.value_of(budget) - now
        out[f"rule: {name}"] = gained / possible if possible > NEVER * max(now, 1.0) else np.nan
    return out | _estimates(known) | _targets(decided, truth)


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


def table_of(rows: pd.DataFrame) -> str:
    """Means over the seeds of each kind, as a Markdown table."""
    kinds = list(dict.fromkeys(rows["kind"]))
    lines = ["| " + " | ".join(["mean over seeds", *kinds]) + " |", "|" + "---|" * (len(kinds) + 1)]

    def line(name: str, by_kind: list[float], digits: int = 2) -> None:
        shown = ["–" if not np.isfinite(v) else f"{v:.{digits}f}" for v in by_kind]
        lines.append("| " + " | ".join([name, *shown]) + " |")

    parts = [rows[rows["kind"] == kind] for kind in kinds]
    mean = lambda column: [float(p[column].mean()) for p in parts]  # noqa: E731
    line("worlds", [len(p) for p in parts], 0)
    line("**capture, our plan**", mean("capture"))
    line("worst seed", [float(p["capture"].min()) for p in parts])
    for column in [c for c in rows if c.startswith("rule: ")]:
        line(column, mean(column))
    line("promised / real gain", [float(p["promised"].mean() / r) if (r := p["real"].mean()) else np.nan
                                  for p in parts])  # fmt: skip
    line("real gain inside the 90% range", mean("covered"))
    line("width of the range / real gain", [float((p["high"] - p["low"]).mean() / r) if (r := p["real"].mean())
                                            else np.nan for p in parts])  # fmt: skip
    line("stated odds of a gain", mean("p_positive"))
    line("share of plans with a real gain", [float((p["real"] > 0).mean()) for p in parts])
    line("share of money moved", mean("moved"))
    for column in [c for c in rows if c.startswith(("cover ", "rank ", "level "))]:
        line(column, mean(column))
    for column in ("base / true last year", "forecast / true revenue", "p_company", "goal reached"):
        line(column, mean(column))
    line("RMS miss of revenue in stated spreads",
         [float(np.sqrt((p["miss in spreads"] ** 2).mean())) for p in parts])  # fmt: skip
    return "\n".join(lines)


def one_company(kind: str, markets: int, seed: int) -> dict[str, Any]:
    """Figures of one simulated company; its files are gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        known = know(Path(folder), kind, markets, seed)
    return {"kind": kind, "seed": seed, **judged(known, decide(known))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102, 103])
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--markets", type=int, default=150)
    parser.add_argument("--jobs", type=int, default=2, help="companies at a time, one process each")
    parser.add_argument("--csv", type=Path, help="also write every world's figures there")
    arguments = parser.parse_args()
    start = time.perf_counter()
    asked = [(kind, arguments.markets, seed) for kind in arguments.kinds for seed in arguments.seeds]
    rows = []
    with ProcessPoolExecutor(arguments.jobs) as pool:
        for row in pool.map(one_company, *zip(*asked, strict=True)):
            rows.append(row)
            done = f"capture {row['capture']:.2f}, promised {row['promised']:,.0f}, real {row['real']:,.0f}"
            took = f"{time.perf_counter() - start:5.0f} s"
            print(f"{took}  {row['kind']} {row['seed']}: {done}", file=sys.stderr, flush=True)
    frame = pd.DataFrame(rows)
    if arguments.csv:
        frame.to_csv(arguments.csv, index=False)
    print(table_of(frame))


if __name__ == "__main__":
    main()
