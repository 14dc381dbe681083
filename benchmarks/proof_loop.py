"""Does a test pay? Plan, test, readout, re-plan on simulated companies whose truth is known.

    python benchmarks/proof_loop.py [--results FOLDER] [--seeds 501 502 …] [--markets 120] [--customers 1500]

Every company is planned from its files on; the tests stage designs a test; the test's weeks are simulated from the
truth, with the plan going ahead everywhere else; the readout of the frozen record becomes rows of ``experiments``; the
budget is decided again on the longer history. Beside it the same weeks without a test, and a decision on them.
``capture``: true gain over today's allocation as a share of the best budget's under the same limits. The test
that teaches most is run even where the stage says that it would not pay (``tests.run: always``); with ``--paying`` only
where it does, and where it does not both second plans are the same.

With ``--results`` one file a company is left in FOLDER; a company whose file is there is not run again.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import poisson

sys.path.insert(0, str(Path(__file__).parent))
import decision_worlds
from decision_worlds import KINDS, Decided, Known, decide

from micromarket.proof import design_holdout
from micromarket.proof.feedback import appended, experiment_rows
from micromarket.proof.readout import read_test
from micromarket.proof.record import TestRecord
from micromarket.simulate.curves import WEEKS, stock, weekly_customers

SEEDS = tuple(range(501, 521))
LOOP_KINDS = ("endogenous", "mis-set", "clean", "untied")  # company i is of kind i modulo 4


def weeks_from(truth, start: pd.Timestamp, count: int) -> np.ndarray:
    """(markets, channels, weeks) share of a year's money that each week of the plan takes."""
    table = truth.calendar.set_index(["region", "channel", "week"])["multiple"]
    cube = np.array([[[table[(r, c, (w % WEEKS))] for w in range(count)] for c in truth.channels]
                     for r in dict.fromkeys(truth.markets["region"])])  # fmt: skip
    regions = pd.Index(dict.fromkeys(truth.markets["region"]))
    return cube[regions.get_indexer(truth.markets["region"])] / truth.facts["plan_weeks"]


def matrix(truth, frame: pd.DataFrame, column: str) -> np.ndarray:
    keys = pd.MultiIndex.from_frame(truth.response[["market_id", "channel"]])
    money = frame.groupby(["market_id", "channel"])[column].sum().reindex(keys).fillna(0.0)
    return money.to_numpy(float).reshape(len(truth.markets), -1)


def spending(known: Known, budget: pd.DataFrame, record: TestRecord | None, count: int) -> np.ndarray:
    """(markets, channels, weeks) money: the plan everywhere, but for what the test holds and changes."""
    truth = known.truth
    plan, now = matrix(truth, budget, "recommended"), matrix(truth, budget, "current")
    rhythm = weeks_from(truth, pd.Timestamp(known.settings.plan.start), count)
    money = plan[..., None] * rhythm
    if record is None:
        return money
    rows = pd.Index(truth.markets["market_id"]).get_indexer(pd.Index(record.markets))
    for cell in record.cells:
        for c, channel in enumerate(truth.channels):
            if cell.factor is not None and channel != cell.name:
                continue
            money[rows, c] = now[rows, c, None] * rhythm[rows, c]  # tested channels wait in all test markets
    for number, cell in enumerate(record.cells, start=1):
        treated = rows[np.array(record.arms) == number]
        for c, channel in enumerate(truth.channels):
            inside = slice(0, record.after)
            if cell.factor is None:
                money[treated, c, inside] = plan[treated, c, None] * rhythm[treated, c, inside]
            elif channel == cell.name:
                money[treated, c, inside] = cell.factor * now[treated, c, None] * rhythm[treated, c, inside]
    return money


def outcomes(known: Known, kind: str, money: np.ndarray, seed: int) -> np.ndarray:
    """(markets, weeks) new customers of the weeks after the history, by the truth; equal seeds, equal luck."""
    truth, scenario = known.truth, KINDS[kind]
    m, channels, count = money.shape
    past = known.data.spend.pivot_table(index=["market_id", "channel"], columns="period", values="amount",
                                        aggfunc="sum").fillna(0.0)  # fmt: skip
    keys = pd.MultiIndex.from_frame(truth.response[["market_id", "channel"]])
    before = past.reindex(keys).fillna(0.0).to_numpy(float).reshape(m, channels, -1)[:, :, -26:]
    curves = [truth.facts["channels"][c]["curve"] for c in truth.channels]
    decay: Any = [truth.facts["channels"][c]["decay"] for c in truth.channels]
    if "decay" in truth.response:
        decay = truth.response["decay"].to_numpy().reshape(m, channels)
    stocks = stock(np.concatenate([before, money], axis=2), decay)[:, :, before.shape[2] :]
    shape = (m, channels)
    amplitude, scale = (truth.response[c].to_numpy().reshape(shape) for c in ("amplitude", "scale"))
    won = weekly_customers(amplitude, scale, stocks, curves).sum(axis=1)
    rng = np.random.default_rng([seed, 5])
    shock = np.zeros((m, count))
    state = rng.normal(size=m)
    for t in range(count):
        state = 0.8 * state + 0.6 * rng.normal(size=m)
        shock[:, t] = scenario.shock * state
    organic = truth.markets["organic_customers"].to_numpy() / truth.facts["plan_weeks"]
    mean = organic[:, None] * np.exp(shock) + won
    uniform = rng.random((m, count))
    return poisson.ppf(uniform, mean)


def later(known: Known, money: np.ndarray, won: np.ndarray, rows: pd.DataFrame | None) -> Known:
    """What is known once the weeks are over."""
    data, truth = known.data, known.truth
    whole = data.panel["period"].max()
    last = pd.Timestamp(whole)
    if (last + pd.Timedelta(days=6)).date() > known.settings.as_of:  # the cut week is left out
        last -= pd.Timedelta(weeks=1)
    days = [last + pd.Timedelta(weeks=i + 1) for i in range(won.shape[1])]
    ids = truth.markets["market_id"].to_numpy()
    panel = pd.DataFrame({"market_id": np.repeat(ids, len(days)), "period": np.tile(days, len(ids)),
                          "new_customers": won.ravel(), "revenue": 0.0})  # fmt: skip
    spend = pd.DataFrame({
        "market_id": np.repeat(ids, len(truth.channels) * len(days)),
        "period": np.tile(days, len(ids) * len(truth.channels)),
        "channel": np.tile(np.repeat(truth.channels, len(days)), len(ids)), "amount": money.ravel(),
    })  # fmt: skip

    def longer(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
        new["period"] = new["period"].astype(old["period"].dtype)
        return pd.concat([old[pd.to_datetime(old["period"]) <= last], new[old.columns.intersection(new.columns)]],
                         ignore_index=True)  # fmt: skip

    data = replace(data, panel=longer(data.panel, panel), spend=longer(data.spend, spend))
    experiments = known.experiments if rows is None or rows.empty else appended(known.experiments, rows)
    return replace(known, data=data, experiments=experiments)


def capture(known: Known, budget: pd.DataFrame) -> tuple[float, float]:
    truth, limits = known.truth, known.settings.budget
    now = truth.value_of(truth.current)
    best = truth.best_budget(limits.total, limits.max_shift, limits.market_change, limits.cell_change)
    possible = truth.value_of(best) - now
    return (truth.value_of(budget) - now) / possible, possible


def one_company(
    kind: str, markets: int, customers: int, seed: int, reserve: float, always: bool, results: Path | None
) -> dict[str, Any]:
    kept = None if results is None else results / f"{kind}-{markets}-{customers}-{seed}.json"
    if kept is not None and kept.exists():
        return json.loads(kept.read_text())
    decision_worlds.CUSTOMERS_PER_MARKET = customers
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        known = decision_worlds.know(Path(folder), kind, markets, seed)
    settings = known.settings
    settings = replace(settings, budget=replace(settings.budget, test_reserve=reserve),
                       tests=replace(settings.tests, run="always" if always else settings.tests.run))  # fmt: skip
    known = replace(known, settings=settings)
    row = {"kind": kind, "markets": markets, "seed": seed, **loop(known, kind, decide(known, targets=False))}
    row["cpu"] = time.process_time() - start
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(row))
    return row


def loop(known: Known, kind: str, first: Decided) -> dict[str, Any]:
    """Captures of the first plan and of both second ones, and what the test said."""
    budget = first.budget.budget
    assert budget is not None
    design = design_holdout(
        known.data, budget, known.potential.scores, known.settings, first.response.curves, first.response.curve_draws,
        known.value.markets, first.response.notes, known.experiments, known.field_notes,
    )  # fmt: skip
    one, possible = capture(known, budget)
    out: dict[str, Any] = {
        "first": one, "possible": possible, "verdict": design.notes.numbers["verdict"],
        "worth": design.notes.numbers.get("worth"), "cost": design.notes.numbers.get("cost"), "cells": [],
    }  # fmt: skip
    record = design.record
    count = 13 if record is None else record.after + record.cool_down
    plain = spending(known, budget, None, count)
    seed = known.settings.seed + int(known.truth.facts["seed"])
    without = later(known, plain, outcomes(known, kind, plain, seed), None)
    out["without"] = capture(known, decide(without, targets=False).budget.budget)[0]
    if record is None:
        return {**out, "second": out["without"]}
    money = spending(known, budget, record, count)
    won = outcomes(known, kind, money, seed)
    with_test = later(known, money, won, None)
    found = read_test(record, with_test.data.panel)
    rows = experiment_rows([found])
    out["second"] = capture(known, decide(later(known, money, won, rows), targets=False).budget.budget)[0]
    idle = spending(known, budget, replace(record, cells=tuple(replace(c, factor=1.0) for c in record.cells)), count)
    for number, cell in enumerate(found.cells, start=1):
        out["cells"].append(true_of(known, record, money, idle, number, cell))
    return out


def true_of(known: Known, record: TestRecord, money: np.ndarray, idle: np.ndarray, number: int, cell) -> dict[str, Any]:
    """What a cell really brought beside what was read."""
    truth = known.truth
    rows = pd.Index(truth.markets["market_id"]).get_indexer(pd.Index(record.markets))
    mine = rows[np.array(record.arms) == number]
    shape = (len(truth.markets), len(truth.channels))
    amplitude, scale = (truth.response[c].to_numpy().reshape(shape)[mine] for c in ("amplitude", "scale"))
    curves = [truth.facts["channels"][c]["curve"] for c in truth.channels]
    decay: Any = [truth.facts["channels"][c]["decay"] for c in truth.channels]
    if "decay" in truth.response:
        decay = truth.response["decay"].to_numpy().reshape(shape)[mine]
    start = matrix(truth, truth.current, "amount")[mine] / truth.facts["plan_weeks"]
    tried, kept = (
        weekly_customers(amplitude, scale, stock(x[mine], decay, start), curves).sum() for x in (money, idle)
    )
    organic = truth.markets["organic_customers"].to_numpy()[mine].sum() / truth.facts["plan_weeks"]
    base = organic * money.shape[2] + kept
    lift = float((tried - kept) / base)
    return {
        "cell": cell.record.text, "treated": len(mine), "lift": cell.lift.value, "low": cell.lift.low,
        "high": cell.lift.high, "p_value": cell.p_value, "true": lift, "promised": cell.record.expected[0],
        "covered": bool(cell.lift.low <= lift <= cell.lift.high), "power": cell.record.power,
    }  # fmt: skip


def said(row: dict[str, Any]) -> str:
    return "; ".join(
        f"{c['cell']} in {c['treated']}: {c['lift']:+.1%} (true {c['true']:+.1%}, {c['low']:+.1%} to {c['high']:+.1%})"
        for c in row["cells"]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(LOOP_KINDS))
    parser.add_argument("--markets", type=int, default=120)
    parser.add_argument("--customers", type=int, default=1500, help="a market, on average")
    parser.add_argument("--reserve", type=float, default=0.10, help="budget.test_reserve")
    parser.add_argument("--paying", action="store_true", help="only where the stage says that the test pays")
    parser.add_argument("--results", type=Path, help="a file a company is left here, and not run again")
    a = parser.parse_args()
    rows = []
    for i, seed in enumerate(a.seeds):
        row = one_company(a.kinds[i % len(a.kinds)], a.markets, a.customers, seed, a.reserve, not a.paying, a.results)
        rows.append(row)
        print(f"{row['kind']:12s} {seed}: first {row['first']:.3f}, again without a test {row['without']:.3f}, with"
              f" {row['second']:.3f}; {row['verdict']}; {row.get('cpu', 0):.0f} s;"
              f" {said(row)}",
              flush=True)  # fmt: skip
    frame = pd.DataFrame(rows)
    cells = [c for r in rows for c in r["cells"]]
    print(f"\n{len(frame)} companies, {int((frame['verdict'] == 'run').sum())} tested")
    for name in ("first", "without", "second"):
        print(f"capture, {name}: {frame[name].mean():.4f}")
    for name in ("first", "without"):
        gap = frame["second"] - frame[name]
        print(f"second less {name}: {gap.mean():+.4f}, standard error {gap.std() / np.sqrt(len(gap)):.4f},"
              f" better in {int((gap > 1e-9).sum())}, worse in {int((gap < -1e-9).sum())}")  # fmt: skip
    if cells:
        print(f"90% ranges hold the true lift in {np.mean([c['covered'] for c in cells]):.0%} of {len(cells)} cells")


if __name__ == "__main__":
    main()
