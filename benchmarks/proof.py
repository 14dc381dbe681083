"""Do tests keep what they state: false positives, coverage, power beside GeoLift's, seconds.

    python benchmarks/proof.py [--pairs 300] [--panels 400] [--parts size power speed]

Panels: GeoLift's (40 cities x 90 days, project data; skipped where absent), trimmed match's (172 markets x 364 days),
and simulated ones (counts with season, autocorrelated shocks, markets of very unequal size). Nothing happened in any of
them: a test at 10% should call an effect in 10% of cases, and a 90% range should hold a lift that was put in, in 90%.
What was chosen by looking (ridge and lasting part of the synthetic control) was chosen on windows of GeoLift's panel
that end by day 75; power is reported on the window after.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from micromarket.proof.backtest import Method, backtest, controls_of, run_test
from micromarket.proof.estimators.ancova import lift_of
from micromarket.proof.estimators.relative_control import fit_controls, lift_from, relative_test
from micromarket.proof.estimators.synthetic_control import conformal_p_value
from micromarket.proof.layout import LOTS, Layout, cell_layout, draw_arms, draw_sets, make_blocks

GEO = Path(os.environ.get("MICROMARKET_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data")) / "geo"
ALPHA, LIFT = 0.10, 0.05


def geolift() -> np.ndarray | None:
    path = GEO / "geolift_pretest.csv"
    if not path.is_file():
        return None
    return pd.read_csv(path).pivot_table(index="location", columns="date", values="Y").to_numpy(float)


def trimmed() -> np.ndarray | None:
    path = GEO / "trimmed_match_design.csv"
    if not path.is_file():
        return None
    panel = pd.read_csv(path).pivot_table(index="geo", columns="date", values="response", aggfunc="sum").fillna(0.0)
    daily = panel.to_numpy(float)
    return daily[:, : daily.shape[1] // 7 * 7].reshape(len(daily), -1, 7).sum(axis=2)  # weeks


def simulated(seed: int, markets: int = 60, periods: int = 104, rate: float = 20.0, ar: float = 0.6) -> np.ndarray:
    rng = np.random.default_rng(seed)
    level = rate * rng.lognormal(0, 0.8, markets)
    shock, common = np.zeros((markets, periods)), np.zeros(periods)
    exposed = rng.normal(1, 0.5, markets)
    for t in range(1, periods):
        shock[:, t] = ar * shock[:, t - 1] + rng.normal(0, 0.12, markets)
        common[t] = 0.9 * common[t - 1] + rng.normal(0, 0.05)
    season = 0.2 * np.sin(2 * np.pi * np.arange(periods) / 52)
    return rng.poisson(level[:, None] * np.exp(shock + exposed[:, None] * common + season)).astype(float)


def blocked(counts: np.ndarray, split: int, cells: int, seed: int) -> list[Layout]:
    """Layouts of a randomised test in blocks, designed on what lies before ``split``."""
    volume = np.log(counts[:, :split].sum(axis=1) + 0.5)
    controls = max(round(np.sqrt(cells)), 1)
    blocks = make_blocks(volume[:, None], np.full(len(counts), "all"), cells + controls)
    arms = draw_arms(blocks, cells, controls, seed)
    rows = np.flatnonzero(blocks >= 0)
    return [cell_layout(rows, arms[rows], blocks[rows], c + 1, seed, 399) for c in range(cells)]


def few(counts: np.ndarray, split: int, size: int, seed: int) -> list[Layout]:
    volume = counts[:, :split].sum(axis=1)
    sets = draw_sets(np.arange(len(counts)), size, volume / volume.sum(), 0.5, np.zeros((len(counts),) * 2, dtype=bool),
                     np.array([], dtype=int), seed)  # fmt: skip
    return [Layout(np.arange(len(counts)), sets, None)]


def judged(counts: np.ndarray, split: int, after: int, layouts: list[Layout], method: Method, lift: float):
    """For every cell: is an effect called where there is none; does the range hold ``lift``; is ``lift`` called."""
    out = []
    for layout in layouts:
        own = layout.rows[layout.treated[0]]
        moved = counts.copy()
        moved[own, split : split + after] *= 1 + lift
        if method.name == "ancova":
            quiet, test = (run_test(method, layout, c, split, after) for c in (counts, moved))
        else:  # weights don't look at the window: fitted once
            controls = controls_of(method, layout, counts[:, :split], after)
            quiet, test = (relative_test(controls, c[:, split : split + after], 0) for c in (counts, moved))
        low, high = test.interval(ALPHA)
        back = lift_of if method.name == "ancova" else lift_from
        out.append((quiet.p_value() <= ALPHA, back(low) <= lift <= back(high), test.p_value() <= ALPHA))
    return out


def sets_in_turn(counts: np.ndarray, before: int, after: int, market_count: int, lift: float):
    """As :func:`judged`, where fitting the controls of a large panel takes seconds: in each of 10 windows, drawn at
    random, every set that the lot might have drawn is treated in turn (a sample of them would add noise of its own);
    ranges, which take longer, for every eighth."""
    rng, out = np.random.default_rng(17), []
    splits = rng.integers(before, counts.shape[1] - after + 1, 10)  # the same windows whatever the size of the sets
    for window, split in enumerate(int(s) for s in splits):
        (layout,) = few(counts, split, market_count, 100 + window)
        controls = controls_of(Method("control", before), layout, counts[:, :split], after)
        late = counts[:, split : split + after]
        for i in range(len(layout.treated)):
            moved = late.copy()
            moved[layout.treated[i]] *= 1 + lift
            quiet, test = (relative_test(controls, c, i) for c in (late, moved))
            held = np.nan
            if i % 8 == window % 8:
                low, high = test.interval(ALPHA)
                held = lift_from(low) <= lift <= lift_from(high)
            out.append((quiet.p_value() <= ALPHA, held, test.p_value() <= ALPHA))
    return out


def size(panels: int, chosen: list[str], only: list[str] | None = None) -> pd.DataFrame:
    """False positives and coverage by panel and design."""
    sources = {"GeoLift": (geolift(), 60, 15), "trimmed match": (trimmed(), 26, 8)}
    designs = {
        "pairs, ANCOVA": (lambda c, s, k: blocked(c, s, 1, k), "ancova"),
        "3 cells, shared control, ANCOVA": (lambda c, s, k: blocked(c, s, 3, k), "ancova"),
        "3 markets, synthetic control": (lambda c, s, k: few(c, s, 3, k), "control"),
        "1 market, synthetic control": (lambda c, s, k: few(c, s, 1, k), "control"),
    }
    designs = {k: v for k, v in designs.items() if only is None or k.startswith(tuple(only))}
    rows = []
    for panel in chosen:
        for design, (lay, name) in designs.items():
            rng, found = np.random.default_rng(11), []
            large = panel == "trimmed match" and name == "control" and sources[panel][0] is not None
            if large:
                counts, before, after = sources[panel]
                found = sets_in_turn(counts, before, after, int(design[0]), LIFT)
            for seed in range(0 if large else panels):
                if panel == "simulated":
                    counts, before, after = simulated(seed), 39, 13
                    split = counts.shape[1] - after
                else:
                    counts, before, after = sources[panel]
                    if counts is None:
                        break
                    split = int(rng.integers(before, counts.shape[1] - after + 1))
                found += judged(counts, split, after, lay(counts, split, seed), Method(name, before), LIFT)
            if found:
                called, held, seen = np.nanmean(np.array(found, dtype=float), axis=0)
                rows.append({"panel": panel, "design": design, "tests": len(found), "false positives": called,
                             "coverage": held, f"power at +{LIFT:.0%}": seen})  # fmt: skip
                print(rows[-1], flush=True)
    return pd.DataFrame(rows)


def power(pairs: int) -> pd.DataFrame:
    """Two of 40 cities, 75 days before, 15 after, as GeoLift would and as we do; size-adjusted."""
    counts = geolift()
    if counts is None:
        return pd.DataFrame()
    split, after = 75, 15
    every = list(combinations(range(len(counts)), 2))
    picked = np.random.default_rng(5).choice(len(every), min(pairs, len(every)), replace=False)
    sets = np.zeros((len(every), len(counts)), dtype=bool)
    for row, pair in zip(sets, every, strict=True):
        row[list(pair)] = True
    controls = fit_controls(counts[:, :split], sets, after)
    p = {"GeoLift, conformal": [], "ours": []}
    for k in picked:
        both = []
        for lift in (0.0, LIFT):
            moved = counts.copy()
            moved[sets[k], split:] *= 1 + lift
            both.append((conformal_p_value(moved[sets[k]], moved[~sets[k]], split, draws=1000),
                         relative_test(controls, moved[:, split:], int(k)).p_value()))  # fmt: skip
        p["GeoLift, conformal"].append((both[0][0], both[1][0]))
        p["ours"].append((both[0][1], both[1][1]))
    rows = []
    for name, values in p.items():
        null, there = np.array(values).T
        cut = np.quantile(null, ALPHA)
        rows.append({"method": name, "false positives": np.mean(null <= ALPHA), "power": np.mean(there <= ALPHA),
                     "size-adjusted power": np.mean(there <= cut)})  # fmt: skip
    return pd.DataFrame(rows)


def speed() -> pd.DataFrame:
    rows = []

    def timed(what: str, do) -> None:
        start = time.process_time()
        do()
        rows.append({"what": what, "seconds": time.process_time() - start})

    counts = simulated(1, 1000, 156)
    layouts = blocked(counts, 143, 1, 1)
    timed(
        "power curve, 1,000 markets x 156 weeks, pairs", lambda: backtest(Method("ancova", 52), layouts[0], counts, 13)
    )
    volume = make_blocks(np.log(counts.sum(axis=1))[:, None], np.full(1000, "all"), 2)
    full = cell_layout(np.arange(1000), draw_arms(volume, 1, 1, 1), volume, 1, 1, LOTS)
    timed(
        "readout with interval, 1,000 markets, 999 lots",
        lambda: run_test(Method("ancova", 52), full, counts, 143, 13).interval(),
    )
    small = simulated(2, 172, 120)
    sets = np.zeros((1000, 172), dtype=bool)
    rng = np.random.default_rng(1)
    for row in sets:
        row[rng.choice(172, 3, replace=False)] = True
    layout = Layout(np.arange(172), sets, None)
    timed("synthetic control of 172 markets, 999 placebos, with interval",
          lambda: run_test(Method("control", 52), layout, small, 107, 13).interval())  # fmt: skip
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--panels", type=int, default=400)
    parser.add_argument("--sources", nargs="+", default=["GeoLift", "trimmed match", "simulated"])
    parser.add_argument("--designs", nargs="+", default=None, help="only those whose name begins so")
    parser.add_argument("--parts", nargs="+", default=["power", "speed", "size"], choices=["size", "power", "speed"])
    a = parser.parse_args()
    for part in a.parts:
        found = {"size": lambda: size(a.panels, a.sources, a.designs), "power": lambda: power(a.pairs), "speed": speed}[
            part
        ]()
        print(f"\n{part}\n{found.to_string(index=False, float_format=lambda v: f'{v:.3f}')}", flush=True)


if __name__ == "__main__":
    main()
