"""Are targets fair, and are the stated odds true? Simulated territories with known odds, and Iowa's counties.

    python benchmarks/targets.py [FOLDER] [--seeds 11 12 …] [--sizes 240 5000] [--csv FILE]   # FOLDER holds iowa_liquor

1. Territories (``targets_worlds.py``): standard deviation of the true odds of attainment under our targets and under
   the usual rules, all scaled to the goal that is as hard as the truth; what attainment goes along with; stretch;
   errors.
2. Company: how often the goal is reached where so much was stated.
3. Readout: how often bands and projections hold what came.
4. Iowa: targets for a year set from the two before it, by county.
5. Speed: CPU seconds of 100,000 market x segment x months over those of a fixed piece of work.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import dataclasses
import datetime as dt
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from targets_worlds import VARIANTS, World, a_year, at_goal, make_world, settings_of

from micromarket import config
from micromarket.market_data import MarketData
from micromarket.readout import readout
from micromarket.targets import TargetsResult, set_targets

SEEDS = tuple(range(101, 109))  # nothing was chosen on these
PER_STEP = 10.0  # the bound: CPU seconds for 100,000 cells, on a core that does the reference work in 1


def targets_of(world: World, growth: float) -> tuple[TargetsResult, np.ndarray]:
    result = set_targets(world.data, world.values, world.scores, world.budget, settings_of(growth))
    assert result.targets is not None
    return result, result.targets.groupby("market_id")["revenue"].sum().to_numpy()


def rules(world: World) -> dict[str, np.ndarray]:
    """The usual rules; their totals are brought to the goal later."""
    last = world.last
    room = np.maximum(world.potential - last, 0.0)
    more = max(world.mean.sum() - last.sum(), 0.0)
    return {
        "carry-forward": last,
        "equal split": np.full(len(last), 1.0),
        "potential share": world.potential,
        "headroom share": room,
        "last year + growth by headroom": last + more * room / room.sum(),
    }


def gini(values: np.ndarray) -> float:
    x = np.sort(np.maximum(values, 0.0))
    n = len(x)
    return float(2 * (np.arange(1, n + 1) * x).sum() / (n * x.sum()) - (n + 1) / n) if x.sum() > 0 else 0.0


def judged(world: World, target: np.ndarray) -> dict[str, float]:
    """One rule's targets at the common goal. Correlations: means over possible years, of attainment as it comes out."""
    target = at_goal(world, target)
    last = np.maximum(world.last, 1.0)  # somewhere nothing was sold
    odds = world.odds(target)
    attained = world.outcomes[:100] / np.maximum(target, 1e-9)

    def goes_with(x: np.ndarray) -> float:
        return float(np.mean([np.corrcoef(a, x)[0, 1] for a in attained]))

    return {
        "sd_odds": float(odds.std()),
        "p10": float(np.quantile(odds, 0.1)),
        "p90": float(np.quantile(odds, 0.9)),
        "hit": float((attained >= 1).mean()),
        "within_20": float(((attained >= 0.8) & (attained <= 1.2)).mean()),
        "size": goes_with(np.log(last)),
        "headroom": goes_with(np.log(world.potential / last)),
        "growth": goes_with(np.clip(world.growth, -1, 5)),
        "true_headroom": goes_with(world.headroom),
        "gini_stretch": gini(target / last),
        "error": float(np.abs(target - world.mean).sum() / world.mean.sum()),
    }


def territories(sizes: list[int], seeds: list[int], variants: list[str]) -> pd.DataFrame:
    rows = []
    for size in sizes:
        for variant in variants:
            for seed in seeds:
                world = make_world(size, seed, variant)
                growth = round(world.mean.sum() / world.last.sum() - 1, 4)
                result, ours = targets_of(world, growth)
                n = result.notes.numbers
                level = n["forecast_revenue"] / world.mean.sum()
                for rule, target in {"ours": ours, **rules(world)}.items():
                    row = {"territories": size, "variant": variant, "seed": seed, "rule": rule, **judged(world, target)}
                    rows.append({**row, "level": level, "stated": float(n["p_cell"])} if rule == "ours" else row)
    return pd.DataFrame(rows)


def show_territories(table: pd.DataFrame) -> None:
    for size, part in table.groupby("territories", sort=True):
        wide = part.pivot_table(index="variant", columns="rule", values="sd_odds", sort=False).round(3)
        print(f"\n{size} territories, SD of the true odds (means of {part['seed'].nunique()} seeds)")
        print(wide.to_string())
        best = part[part["rule"] == "ours"].set_index(["variant", "seed"])["sd_odds"]
        for rule in [r for r in part["rule"].unique() if r != "ours"]:
            other = part[part["rule"] == rule].set_index(["variant", "seed"])["sd_odds"]
            print(f"  ours below {rule}: {int((best < other).sum())} of {len(best)}")
        ours = part[part["rule"] == "ours"].groupby("variant", sort=False)
        columns = [
            "p10",
            "p90",
            "hit",
            "within_20",
            "size",
            "headroom",
            "growth",
            "true_headroom",
            "gini_stretch",
            "error",
        ]
        print(ours[columns].mean().round(3).to_string())
        far = part[part["rule"] == "ours"].set_index(["variant", "seed"])[["size", "headroom", "growth"]].abs()
        print(f"  correlations within .1: {int((far.max(axis=1) <= 0.1).sum())} of {len(far)}; largest"
              f" {far.to_numpy().max():.2f}")  # fmt: skip
        carried = part[part["rule"] == "carry-forward"].groupby("variant", sort=False)
        print("  carry-forward: error, growth, Gini of stretch")
        print(carried[["error", "growth", "gini_stretch"]].mean().round(3).to_string())


def company_odds(seeds: range) -> pd.DataFrame:
    """Stated odds of the company's goal and whether a year reaches it; 60 territories, goals around the forecast."""
    rows = []
    for seed in seeds:
        for variant in ("base", "drifting", "skewed", "calm"):
            world = make_world(60, seed, variant)
            result, _ = targets_of(world, 0.0)
            n = result.notes.numbers
            sd = n["spread"]["company"] * n["forecast_revenue"]
            came = a_year(world, seed).sum()
            rows.append({"variant": variant, "seed": seed, "z": (came - n["forecast_revenue"]) / sd})
    return pd.DataFrame(rows)


def show_company(table: pd.DataFrame) -> None:
    """A goal that is z standard deviations above the forecast is stated to be reached with 1 - Φ(z)."""
    from scipy.special import ndtri

    print(f"\nCompany: goals with stated odds, and how often a year reached them ({len(table)} companies)")
    for stated in (0.1, 0.25, 0.4, 0.6, 0.75, 0.9):
        hit = (table["z"] >= -ndtri(stated)).mean()
        print(f"  stated {stated:.0%}: reached {hit:.0%}")
    z = table["z"]
    print(f"  90% range held {(z.abs() <= 1.645).mean():.0%}; mean miss {z.mean():+.2f} SD, root mean square"
          f" {np.sqrt((z**2).mean()):.2f}")  # fmt: skip


def write_run(world: World, result: TargetsResult, folder: Path) -> Path:
    """A run folder as far as a readout needs one."""
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    (folder / "plan.json").write_text(
        json.dumps({"currency": "USD", "plan": {"start": "2026-07-01", "end": "2027-06-30"}})
    )
    (folder / "manifest.json").write_text(json.dumps({"settings": {"targets": {"period": "month"}}}))
    assert result.targets is not None
    assert result.limits is not None
    result.targets.to_parquet(folder / "tables/targets.parquet")
    result.limits.to_parquet(folder / "tables/target_limits.parquet")
    places = world.data.markets[["market_id", "region", "territory"]].assign(name=None)
    places.to_parquet(folder / "tables/territories.parquet")
    return folder


def readouts(seeds: list[int], variants: list[str], size: int = 240) -> pd.DataFrame:
    rows = []
    months = pd.date_range("2026-07-01", periods=12, freq="MS")
    for variant in variants:
        for seed in seeds:
            world = make_world(size, seed, variant)
            result, _ = targets_of(world, 0.05)
            year = a_year(world, seed)
            end = pd.Series(year.sum(axis=1), world.data.markets["market_id"])
            with tempfile.TemporaryDirectory() as folder:
                run = write_run(world, result, Path(folder))
                for month in (1, 3, 6, 9):
                    ids = world.data.markets["market_id"]
                    frame = pd.DataFrame({
                        "market_id": np.repeat(ids, month), "period": np.tile(months[:month], len(ids)),
                        "new_customers": 0, "revenue": year[:, :month].ravel(),
                    })  # fmt: skip
                    frame.to_parquet(run / "actuals.parquet")
                    found = readout(run, [run / "actuals.parquet"])
                    markets, regions, total = found.markets, found.regions, found.total
                    by_region = end.groupby(world.data.markets.set_index("market_id")["region"]).sum()
                    reached = end.reindex(markets.index) >= markets["plan_target"]
                    due = markets["revenue_target"] / markets["plan_target"]
                    rows.append({
                        "variant": variant, "seed": seed, "month": month,
                        "band": (markets["off_track"] == "").mean(),
                        "projection": _holds(markets, end), "region": _holds(regions, by_region),
                        "company": float(total["projection_low"] <= end.sum() <= total["projection_high"]),
                        "error": (markets["projection"] - end).abs().sum() / end.sum(),
                        "error of run rate": (markets["revenue_actual"] / due - end).abs().sum() / end.sum(),
                        "brier": ((markets["p_attain"] - reached) ** 2).mean(),
                    })  # fmt: skip
    return pd.DataFrame(rows)


def _holds(frame: pd.DataFrame, end: pd.Series) -> float:
    came = end.reindex(frame.index)
    return float(((frame["projection_low"] <= came) & (frame["projection_high"] >= came)).mean())


# --- Iowa ------------------------------------------------------------------------------------------------------------


def iowa_sales(folder: Path) -> pd.DataFrame:
    """County x month, dollars."""
    sales = pd.read_parquet(folder / "iowa_liquor" / "iowa_liquor_county_month_category.parquet")
    sales = sales[sales["fips"].notna()].assign(month=lambda d: pd.to_datetime(d["year_month"]))
    return sales.pivot_table(index="fips", columns="month", values="state_revenue", aggfunc="sum").fillna(0.0)


def iowa(sales: pd.DataFrame, year: int, months: int = 12) -> dict[str, dict[str, float]]:
    """Targets for ``year`` from the two years before it, at the goal that the state reached; rules as sales teams use.

    Errors and attainment are of the first ``months`` of the year.
    """
    past = sales.loc[:, [(m.year in (year - 2, year - 1)) for m in sales.columns]]
    came = sales.loc[:, [m.year == year for m in sales.columns]].iloc[:, :months]
    last, before = past.iloc[:, 12:], past.iloc[:, :12]
    span = last.iloc[:, :months].sum(axis=1)
    actual = came.sum(axis=1)
    long = past.stack().rename("revenue").reset_index().rename(columns={"fips": "market_id"})
    data = MarketData(
        pd.DataFrame({"market_id": past.index, "region": "Iowa"}),
        pd.DataFrame({"market_id": past.index, "segment": "All", "customers": 100}),
        long.assign(segment="All", new_customers=0, active_customers=0),
    )
    end = dt.date(year, months, 31 if months == 12 else 30 if months in (4, 6, 9, 11) else 31)
    settings = config.Settings(
        path=Path("plan.yml"), company=config.Company("Iowa"), as_of=dt.date(year - 1, 12, 31),
        plan=config.PlanPeriod(dt.date(year, 1, 1), end), economics=config.Economics("non-contractual"), data={},
        targets=config.Targets(growth=round(float(actual.sum() / span.sum() - 1), 4), split=("market",)),
    )  # fmt: skip

    def set_for(growth: float) -> tuple[pd.Series, dict]:
        rules = dataclasses.replace(settings.targets, growth=growth)
        result = set_targets(data, None, None, None, dataclasses.replace(settings, targets=rules))
        assert result.targets is not None
        by = result.targets.groupby("market_id")["revenue"].sum()
        return by.reindex(actual.index), dict(result.notes.numbers)

    ours, numbers = set_for(settings.targets.growth)
    plain, _ = set_for(round(numbers["forecast_revenue"] / numbers["base_revenue"] - 1, 4))
    growth = (last.sum(axis=1) / before.sum(axis=1)).clip(0.5, 2.0)
    tried = {
        "ours, goal as forecast": plain,
        "ours, goal as it came": ours,
        "carry-forward (last year plus x%)": span,
        "own growth carried on": span * growth,
        "mean of two years": span + before.iloc[:, :months].sum(axis=1),
    }
    out = {}
    for rule, target in tried.items():
        target = target * float(actual.sum() / target.sum())
        attained = actual / target
        weight = actual / actual.sum()
        out[rule] = {
            "error": float((target - actual).abs().sum() / actual.sum()),
            "spread": float(np.log(attained).std()),
            "spread_by_size": float(np.sqrt(np.average((attained - 1) ** 2, weights=weight))),
            "hit": float((attained >= 1).mean()),
            "within_10": float(attained.between(0.9, 1.1).mean()),
            "gini_stretch": gini((target / span).to_numpy()),
            "growth": float(np.corrcoef(attained, growth)[0, 1]),
            "size": float(np.corrcoef(attained, np.log(span))[0, 1]),
        }
    return out


def show_iowa(folder: Path) -> None:
    path = folder / "iowa_liquor" / "iowa_liquor_county_month_category.parquet"
    if not path.is_file():
        print(f"\niowa_liquor: skipped, {path.name} is not in {folder}")
        return
    sales = iowa_sales(folder)
    for year, months, why in ((2017, 12, "chosen on"), (2018, 12, "chosen on"), (2019, 12, "held out"),
                              (2020, 10, "held out, 10 months, the pandemic")):  # fmt: skip
        print(f"\nIowa, 99 counties: {year} from {year - 2} and {year - 1} ({why})")
        print(pd.DataFrame(iowa(sales, year, months)).T.round(4).to_string())


# --- speed -----------------------------------------------------------------------------------------------------------


def speed() -> dict[str, float]:
    """CPU seconds of targets for 8,400 market segments over 12 months, and of a fixed piece of work."""
    world = make_world(2_800, 1)
    history = pd.concat([
        world.data.history.assign(segment=s, revenue=world.data.history["revenue"] * w)
        for s, w in (("A", 0.5), ("B", 0.3), ("C", 0.2))
    ], ignore_index=True)  # fmt: skip
    cells = pd.concat([world.data.cells.assign(segment=s) for s in "ABC"], ignore_index=True)
    values = pd.concat([world.values.assign(segment=s) for s in "ABC"], ignore_index=True)
    settings = settings_of(0.05)
    settings = dataclasses.replace(settings, targets=dataclasses.replace(settings.targets, split=("market", "segment")))
    data = dataclasses.replace(world.data, history=history, cells=cells)
    matrix = np.random.default_rng(1).normal(size=(1_500, 1_500))
    started = time.process_time()
    for _ in range(5):
        np.linalg.inv(matrix)
    work = time.process_time() - started
    started = time.process_time()
    result = set_targets(data, values, world.scores, world.budget, settings)
    seconds = time.process_time() - started
    assert result.targets is not None
    return {"rows": float(len(result.targets)), "seconds": seconds, "work": work, "bound": PER_STEP}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="holds iowa_liquor")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--sizes", type=int, nargs="+", default=[240], help="territories, such as 240 5000")
    parser.add_argument("--only", choices=("territories", "company", "readout", "iowa", "speed"))
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args()
    pd.set_option("display.width", 200)
    if args.only in (None, "territories"):
        table = territories(args.sizes, args.seeds, args.variants)
        show_territories(table)
        if args.csv:
            table.to_csv(args.csv, index=False)
    if args.only in (None, "company"):
        show_company(company_odds(range(args.seeds[0], args.seeds[0] + 50)))
    if args.only in (None, "readout"):
        found = readouts(args.seeds, [v for v in args.variants if v in ("base", "drifting", "skewed", "calm")])
        print("\nReadout: share of 90% ranges that held what came; errors of the projection")
        print(found.groupby("month").mean(numeric_only=True).drop(columns="seed").round(3).to_string())
    if args.only in (None, "iowa") and args.folder is not None:
        show_iowa(args.folder)
    if args.only in (None, "speed"):
        took = speed()
        ratio, left = took["seconds"] / took["work"], took["bound"] / took["seconds"]
        print(
            f"\nSpeed: {took['rows']:,.0f} cells in {took['seconds']:.1f} CPU s, {ratio:.1f} times the reference work"
        )
        print(f"  the bound of {took['bound']:.0f} s is {left:.1f} times that")


if __name__ == "__main__":
    main()
