"""Response: speed, and how well known truth is found again.

    python benchmarks/response.py recovery [--seeds 11 12 13] [--markets 200 1000] [--kinds clean …] [--csv FILE]
    python benchmarks/response.py speed [--markets 1000 10000 100000]
    python benchmarks/response.py regions FOLDER                # project data: mmm_param_recovery_medium_business
    python benchmarks/response.py peers PYTHON [--regions 20 50] # an environment with pymc-marketing or Meridian

``level``: sum of the estimated effects of today's spend over the sum of the true ones; ``rank``: rank correlation of
effect per unit of money over cells of a channel; ``cells``, ``totals``: share of true effects (by cell, by channel)
inside the 90% ranges; ``capture``: what moving money between cells (each 0.5 to 2 times, same total) by our curves
truly gains, as a share of the best; ``promised``: gain by our curves over true gain.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parent))
from response_worlds import CHANNELS, DECAY, KINDS, SETTINGS, World, build

from micromarket.response import ResponseResult, estimate_response


def figures(world: World, result: ResponseResult) -> dict[str, float]:
    """One world's figures."""
    assert result.response is not None
    assert result.curves is not None
    assert result.curve_draws is not None
    shape = world.effect.shape
    r, numbers = result.response, result.notes.numbers
    cube = {c: r[c].to_numpy().reshape(shape) for c in ("effect", "effect_low", "effect_high", "current_spend")}
    used = world.current > 0
    true, est = np.where(used, world.effect, 0.0), np.where(used, cube["effect"], 0.0)
    inside = (cube["effect_low"] <= true + 1e-9) & (true <= cube["effect_high"] + 1e-9)
    amplitude, half = (result.curves[c].to_numpy().reshape(shape) for c in ("amplitude", "half_spend"))
    rank, level, totals = [], [], []
    draws = result.curve_draws.drop(columns=["market_id", "channel"]).to_numpy(float).reshape(*shape, -1)
    sums = (draws * (world.current / (world.current + half))[..., None]).sum(axis=0)
    for c in range(shape[1]):
        on = used[:, c]
        per = [a[on, c] / world.current[on, c] for a in (est, true)]
        rank.append(float(pd.Series(per[0]).corr(pd.Series(per[1]), method="spearman")) if true[:, c].any() else np.nan)
        level.append(est[:, c].sum() / max(true[:, c].sum(), 1e-9))
        low, high = np.quantile(sums[c], [0.05, 0.95])
        totals.append(float(low <= true[:, c].sum() + 1e-6 and true[:, c].sum() <= high))
    factor = world.best_factor(amplitude, half)
    real, _, captured = world.capture(factor)
    x = world.current

    def gain(a: np.ndarray) -> Any:
        reached = factor * x / (factor * x + half) - x / (x + half)
        return (a * (reached * world.worth[:, None])[..., None]).sum(axis=(0, 1))

    gains = gain(draws)
    low, high = np.quantile(gains, [0.05, 0.95])
    decay = [c["decay"] for c in numbers["channels"]]
    misses = [abs(d - t) for d, t in zip(decay, DECAY, strict=False) if d is not None]
    known = true.sum() > 0
    return {
        "level": est.sum() / true.sum() if known else np.nan,
        "channel miss": float(np.mean(np.abs(np.log(np.maximum(level, 1e-3))))) if known else np.nan,
        "rank": float(np.mean(rank)) if known else np.nan, "cells": float(inside[used].mean()),
        "totals": float(np.mean(totals)), "capture": captured if known else np.nan,
        "promised": float(gains.mean() / real) if known and real > 0 else np.nan,
        "gain inside": float(low <= real + 1e-6 <= high + 2e-6),
        "decay miss": float(np.mean(misses)) if misses else np.nan,
        "p none": float(numbers["p_no_response"] if numbers["p_no_response"] is not None else np.nan),
        "follows found": float((numbers.get("spend_follows_demand") or {}).get("follows", False)),
    }  # fmt: skip


def recovery(arguments: argparse.Namespace) -> None:
    rows = []
    for kind in arguments.kinds:
        for markets in arguments.markets:
            for seed in arguments.seeds:
                world = build(kind, markets, 104 if kind != "monthly" else 156, seed)
                start = time.perf_counter()
                result = estimate_response(world.data, world.scores, world.value, SETTINGS, world.experiments)
                took = time.perf_counter() - start
                found = figures(world, result)
                rows.append({"kind": kind, "markets": markets, "seed": seed, **found, "seconds": took})
                text = ", ".join(f"{k} {v:.2f}" for k, v in found.items())
                print(f"{kind} {markets} {seed}: {text}, {took:.0f} s", file=sys.stderr, flush=True)
    frame = pd.DataFrame(rows)
    if arguments.csv:
        frame.to_csv(arguments.csv, index=False)
    mean = frame.drop(columns=["seed"]).groupby(["kind", "markets"], sort=False).mean().reset_index()
    print("| " + " | ".join(mean.columns) + " |\n|" + "---|" * len(mean.columns))
    for row in mean.itertuples(index=False):
        print(
            "| "
            + " | ".join(str(v) if isinstance(v, (str, int)) else "–" if v != v else f"{v:.2f}" for v in row)
            + " |"
        )


def speed(arguments: argparse.Namespace) -> None:
    """Each size in a process of its own, so that its peak memory is its own; 104 weeks, 4 channels."""
    print("| markets | seconds | peak memory, GB | before the stage, GB |\n|---|---|---|---|", flush=True)
    for markets in arguments.markets:
        command = [sys.executable, __file__, "one", str(markets)]
        print(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip(), flush=True)


def one(arguments: argparse.Namespace) -> None:
    world = build("clean", arguments.size, 104, 11)
    data, scores, value = world.data, world.scores, world.value
    del world
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    start, cpu = time.perf_counter(), time.process_time()
    result = estimate_response(data, scores, value, SETTINGS)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    assert result.curves is not None
    assert len(result.curves) == arguments.size * len(CHANNELS)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(f"| {arguments.size:,} | {seconds:.1f} (CPU {cpu:.1f}) | {peak:.1f} | {before:.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(dest="mode", required=True)
    p = modes.add_parser("recovery")
    p.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13])
    p.add_argument("--markets", type=int, nargs="+", default=[200, 1000])
    p.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    p.add_argument("--csv", type=Path)
    p = modes.add_parser("speed")
    p.add_argument("--markets", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    p = modes.add_parser("one")
    p.add_argument("size", type=int)
    arguments = parser.parse_args()
    {"recovery": recovery, "speed": speed, "one": one}[arguments.mode](arguments)


if __name__ == "__main__":
    main()
