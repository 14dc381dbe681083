"""Response: speed, and how well known truth is found again.

    python benchmarks/response.py recovery [--seeds 11 12 13] [--markets 200 1000] [--kinds clean …] [--csv FILE]
    python benchmarks/response.py speed [--markets 1000 10000 100000]
    python benchmarks/response.py regions FOLDER                # project data: mmm_param_recovery_medium_business
    python benchmarks/response.py peers PYTHON [--regions 20 50] # of an environment with pymc-marketing

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
import tempfile
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


def regions(arguments: argparse.Namespace) -> None:
    """``mmm_param_recovery_medium_business``: 8 regions, 8 channels; too few regions for the stage, so the model alone.

    ``share``: percent of what all channels bring in a region; truth from the generator's file.
    """
    from micromarket.response import SaturatingPanel
    from micromarket.response.transform import saturated

    name = "mmm_param_recovery_medium_business"
    raw = pd.read_csv(arguments.folder / f"{name}.csv.gz")
    truth = pd.read_csv(arguments.folder / f"{name}_truth.csv")
    columns = [c for c in raw if c.startswith("x")]
    names = [c.split("_", 1)[1] for c in columns]
    cube = {c: raw.pivot(index="date", columns="geo", values=c) for c in [*columns, "y"]}
    spend = np.stack([cube[c].to_numpy() for c in columns], axis=-1)
    controls = [c for c in raw if c.startswith("c") and not c.endswith("_effect")]
    extra = np.stack([raw.pivot(index="date", columns="geo", values=c).to_numpy() for c in controls], axis=-1)
    extra = (extra - extra.mean(axis=(0, 1))) / extra.std(axis=(0, 1))
    unit = np.array([s[s > 0].mean() for s in np.moveaxis(spend, -1, 0)])
    y, ones = cube["y"].to_numpy(), np.ones(spend.shape[1])
    start = time.perf_counter()
    model = SaturatingPanel(365.25 / 7).fit(y, spend / unit, ones, ones, extra=extra)
    seconds = time.perf_counter() - start
    brought = (saturated(spend / unit, model.shape_) * model.effects_).sum(axis=0)
    share = 100 * brought / brought.sum(axis=1, keepdims=True)
    share = pd.DataFrame(share, index=cube["y"].columns, columns=names)
    true = truth.pivot(index="geo", columns="channel", values="true_attribution_pct")[names]
    decay = truth.groupby("channel")["adstock_alpha"].first()[names]
    table = pd.DataFrame({"share": share.mean(), "true share": true.mean(), "decay": model.shape_.decay,
                          "true decay": decay})  # fmt: skip
    print(table.round(2).to_string())
    rank = share.stack().corr(true.stack(), method="spearman")
    miss = float(np.abs(share - true).mean().mean())
    print(f"rank correlation over cells {rank:.2f}, mean absolute miss {miss:.1f} points, {seconds:.1f} s")


def peers(arguments: argparse.Namespace) -> None:
    """The same regional panel by us and by pymc-marketing (in its own environment): effects against the truth."""
    probe = subprocess.run([arguments.python, "-c", "import pymc_marketing"], capture_output=True, text=True)
    if probe.returncode:
        print(f"pymc-marketing: not installed there, skipped ({probe.stderr.strip().splitlines()[-1]})")
        return
    for count in arguments.regions:
        world = build("regions", count, 104, 11)
        start = time.perf_counter()
        result = estimate_response(world.data, world.scores, world.value, SETTINGS)
        seconds = time.perf_counter() - start
        assert result.response is not None
        r, shape = result.response, world.effect.shape
        parts = [r[c].to_numpy().reshape(shape) for c in ("effect", "effect_low", "effect_high")]
        _against(f"micromarket, {count} regions", world, *parts, f"{seconds:.1f} s")
        with tempfile.TemporaryDirectory() as name:
            folder, heads = Path(name), world.data.markets.set_index("market_id")["addressable_customers"]
            assert world.data.panel is not None
            assert world.data.spend is not None
            wide = world.data.spend.pivot_table(index=["period", "market_id"], columns="channel", values="amount")
            table = world.data.panel.merge(wide.fillna(0.0).reset_index(), on=["period", "market_id"])
            k = table["market_id"].map(heads)
            out = pd.DataFrame({"date": table["period"], "geo": table["market_id"]})
            out = out.assign(**{c: table[c] / k for c in CHANNELS}, y=1000 * table["new_customers"] / k)
            out.to_csv(folder / "panel.csv", index=False)
            script = Path(__file__).with_name("response_peers.py")
            try:
                run = subprocess.run([arguments.python, str(script), name, str(arguments.draws)], check=True,
                                     capture_output=True, text=True, timeout=arguments.minutes * 60)  # fmt: skip
            except subprocess.TimeoutExpired:
                print(f"pymc-marketing, {count} regions: not done after {arguments.minutes} minutes")
                continue
            took, r_hat, ess = run.stdout.split()[-3:]
            found = pd.read_csv(folder / "effects.csv").sort_values(["geo", "channel"], kind="stable")
            draws = found.drop(columns=["geo", "channel"]).to_numpy().reshape(*shape, -1) / 1000
            draws *= heads.sort_index().to_numpy()[:, None, None]
            low, high = np.quantile(draws, [0.05, 0.95], axis=2)
            text = f"{float(took):.0f} s, worst r-hat {r_hat}, least effective draws {ess}"
            _against(f"pymc-marketing, {count} regions", world, draws.mean(axis=2), low, high, text)


def _against(name: str, world: World, effect: np.ndarray, low: np.ndarray, high: np.ndarray, text: str) -> None:
    true = world.effect
    level = (effect.sum(axis=0) / true.sum(axis=0)).round(2).tolist()
    rank = np.mean([pd.Series(effect[:, c]).corr(pd.Series(true[:, c]), method="spearman") for c in range(len(level))])
    inside = ((low <= true) & (true <= high)).mean()
    print(f"{name}: level by channel {level}, rank {rank:.2f}, cells inside 90% {inside:.2f}; {text}", flush=True)


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
    p = modes.add_parser("regions")
    p.add_argument("folder", type=Path)
    p = modes.add_parser("peers")
    p.add_argument("python")
    p.add_argument("--regions", type=int, nargs="+", default=[20, 50])
    p.add_argument("--draws", type=int, default=300)
    p.add_argument("--minutes", type=float, default=60)
    arguments = parser.parse_args()
    {"recovery": recovery, "speed": speed, "one": one, "regions": regions, "peers": peers}[arguments.mode](arguments)


if __name__ == "__main__":
    main()
