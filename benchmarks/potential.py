"""Potential and headroom beside what people use instead, on markets whose truth is known (``potential_worlds``).

``rank``: rank correlation with the truth over markets; ``capture``: share of the possible headroom that the fifth of
markets with the largest estimates holds; ``level``: sum of estimates over sum of truths; ``cover``: share of markets
whose truth lies inside the 90% range.
"""

from __future__ import annotations

import argparse
import datetime as dt
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from potential_worlds import SCENARIOS, VARIANTS, World, make
from run_time import reference_seconds
from scipy.stats import spearmanr
from sklearn.cluster import KMeans
from sklearn.ensemble import HistGradientBoostingRegressor

from micromarket.config import Company, Economics, PlanPeriod, Settings
from micromarket.potential import estimate_potential
from micromarket.potential.cross_check import peer_potential
from micromarket.potential.design import Design, build_design
from micromarket.potential.estimate import fit_frontier, predict_levels

SEED = 1


@dataclass(frozen=True)
class Answer:
    """Customers by market: ``potential``, ``headroom``."""

    potential: np.ndarray
    headroom: np.ndarray


def baselines(world: World, design: Design) -> dict[str, Answer]:
    """What people use: headroom is always potential less today's customers."""
    n, people, x = design.n, design.size, design.features
    rate = n / people
    line = np.column_stack([np.ones(len(n)), x])
    linear = line @ np.linalg.lstsq(line, rate, rcond=None)[0]
    cluster = KMeans(max(2, len(n) // 80), n_init=1, random_state=SEED).fit(x).labels_
    clustered = pd.Series(rate).groupby(cluster).transform(lambda r: r.quantile(0.8)).to_numpy()
    boosted = np.empty(len(n))
    for fold in np.unique(design.folds):
        here = design.folds == fold
        trees = HistGradientBoostingRegressor(loss="quantile", quantile=0.9, max_iter=120, learning_rate=0.06,
                                              max_leaf_nodes=12, early_stopping=False, random_state=SEED)  # fmt: skip
        boosted[here] = trees.fit(x[~here], rate[~here]).predict(x[here])
    found = {
        "linear regression": people * linear,
        "peer cluster p80": people * clustered,
        "40 nearest peers p80": peer_potential(design),
        "quantile boosting p90": people * boosted,
    }
    out = {"revenue rank": Answer(n, n)}
    return out | {name: Answer(p, np.maximum(p - n, 0.0)) for name, p in found.items()}


def score(answer: Answer, world: World) -> dict[str, float]:
    def rank(a: np.ndarray, b: np.ndarray) -> float:
        return float(spearmanr(a, b).statistic)

    top = max(1, len(world.headroom) // 5)
    best = np.argsort(-answer.headroom, kind="stable")[:top]
    return {
        "rank potential": rank(answer.potential, world.potential),
        "rank headroom": rank(answer.headroom, world.headroom),
        "rank per household": rank(answer.headroom / world.people, world.headroom / world.people),
        "MAPE potential": float(np.mean(np.abs(answer.potential / world.potential - 1))),
        "capture top 20%": float(world.headroom[best].sum() / np.sort(world.headroom)[-top:].sum()),
        "level potential": float(answer.potential.sum() / world.potential.sum()),
        "level headroom": float(answer.headroom.sum() / world.headroom.sum()),
    }


def inside(truth: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    return float(np.mean((low <= truth) & (truth <= high)))


def run(scenario: str, variant: str, seed: int, markets: int, others: bool) -> list[dict[str, Any]]:
    world = make(scenario, seed, markets, variant)
    design = build_design(world.data, SEED)
    began = time.perf_counter()
    levels = predict_levels(design, SEED)
    found = fit_frontier(design, levels, SEED)
    seconds = time.perf_counter() - began
    ours = Answer(found.potential, np.maximum(found.potential - found.expected, 0.0))
    label: dict[str, Any] = {"scenario": scenario, "variant": variant, "seed": seed}
    top = world.headroom >= np.sort(world.headroom)[-max(1, markets // 5)]
    stated = found.top_fifth
    bins = pd.cut(stated, np.linspace(0, 1, 11), include_lowest=True)
    table = pd.DataFrame({"stated": stated, "true": top}).groupby(bins, observed=True)
    size, gap = table.size(), (table["stated"].mean() - table["true"].mean()).abs()
    sure = (stated > 0.7) & (stated < 0.9)
    rows = [
        label | {"method": "ours"} | score(ours, world)
        | {
            "cover potential": inside(world.potential, found.potential_low, found.potential_high),
            "cover headroom": inside(world.headroom, found.headroom_low, found.headroom_high),
            "width headroom": np.mean(found.headroom_high - found.headroom_low) / world.headroom.mean(),
            "top fifth: stated less true": float((size * gap).sum() / size.sum()),
            "top fifth: true where stated .7-.9": float(top[sure].mean()) if sure.any() else np.nan,
            "top fifth: Brier": float(np.mean((stated - top) ** 2)),
            "outside": float(found.outside.mean()), "seconds": seconds,
        }
    ]  # fmt: skip
    if others:
        raw = np.maximum(found.potential - design.n, 0.0)
        rows.append(label | {"method": "ours, headroom unshrunk"} | score(Answer(found.potential, raw), world))
        for name, only in (("splines alone", ("splines",)), ("boosting alone", ("monotone boosting",))):
            part = fit_frontier(design, predict_levels(design, SEED, only), SEED)
            answer = Answer(part.potential, np.maximum(part.potential - part.expected, 0.0))
            rows.append(label | {"method": name} | score(answer, world))
        rows += [label | {"method": k} | score(v, world) for k, v in baselines(world, design).items()]
    return rows


def time_of(markets: int) -> str:
    """Seconds of the whole stage and its peak memory; as a ratio to a fixed piece of work, since machines differ."""
    world = make("base", 7, markets)
    value = pd.DataFrame({"market_id": world.data.markets["market_id"]})
    value[["clv", "clv_low", "clv_high", "new_customer_clv", "customer_equity"]] = 100.0
    settings = Settings(
        path=Path("plan.yml"), company=Company("Benchmark"), as_of=dt.date(2026, 6, 30),
        plan=PlanPeriod(dt.date(2026, 7, 1), dt.date(2027, 6, 30)), economics=Economics("contractual", 0.4), data={},
    )  # fmt: skip
    reference = reference_seconds()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    estimate_potential(world.data, value, settings)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (
        f"{markets:,} markets: {seconds:.1f} s, {seconds / reference:.1f} x the reference work;"
        f" memory at most {peak / 2**20:.2f} GB ({(peak - before) / 2**20:.2f} GB more than before)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", nargs="+", default=list(SCENARIOS), choices=SCENARIOS)
    parser.add_argument("--variants", nargs="+", default=["sized"], choices=VARIANTS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[101, 102])
    parser.add_argument("--markets", type=int, default=2_000)
    parser.add_argument("--ours-only", action="store_true", help="without the methods beside it")
    parser.add_argument("--time", type=int, default=0, metavar="MARKETS", help="only time the stage, e.g. 50000")
    parser.add_argument("--csv", help="keep the figures of every world")
    given = parser.parse_args()
    if given.time:
        print(time_of(given.time))
        return
    rows = [
        row
        for scenario in given.scenarios for variant in given.variants for seed in given.seeds
        for row in run(scenario, variant, seed, given.markets, not given.ours_only)
    ]  # fmt: skip
    frame = pd.DataFrame(rows)
    if given.csv:
        frame.to_csv(given.csv, index=False)
    print_tables(frame, given.variants)


def print_tables(frame: pd.DataFrame, variants: list[str]) -> None:
    measures = [c for c in frame.columns if c not in ("scenario", "variant", "seed", "method")]
    shown: Callable[[pd.DataFrame], str] = lambda f: f.round(2).to_string()  # noqa: E731
    with pd.option_context("display.width", 200, "display.max_columns", 40, "display.max_rows", 200):
        for variant in variants:
            part = frame[frame["variant"] == variant]
            ours = part[part["method"] == "ours"].groupby("scenario", sort=False)[measures].mean()
            print(f"\nours, {variant}\n{shown(ours.T)}")
            if part["method"].nunique() > 1:
                for measure in ("rank headroom", "rank potential", "capture top 20%", "level headroom"):
                    print(f"\n{measure}, {variant}")
                    print(shown(part.pivot_table(measure, "method", "scenario", sort=False)))
                few = ["rank potential", "rank headroom", "rank per household", "MAPE potential", "capture top 20%"]
                print(f"\nmean of scenarios, {variant}\n{shown(part.groupby('method', sort=False)[few].mean())}")


if __name__ == "__main__":
    main()
