"""How time and memory grow: the log's stages by purchases, others by markets; a cost model, fitted and extrapolated.

    python benchmarks/scale.py log --purchases 1000000 10000000 [--markets 1000] [--memory 4GB] [--engine spark]
    python benchmarks/scale.py markets --markets 1000 10000 50000 200000 [--stages potential response …]
    python benchmarks/scale.py fit

Times are CPU seconds of all threads (a busy machine stretches the wall's; those are recorded too). Every measurement
is a process of its own, whose peak memory is its own; figures are added to ``--results`` (JSON lines,
default ``scale.jsonl`` in the working directory). ``fit``: a + b n^c by least squares of relative errors to the
figures in ``scale_measured.jsonl``, with what it makes of a billion purchases and of 200,000 markets. Seeds are fixed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from run_time import PeakMemory

STAGES = ("value", "potential", "response", "response, weekly", "allocation", "targets")
PLAN = """\
company: {{name: Scale, currency: USD}}
as_of: 2026-06-30
plan: {{start: 2026-07-01, end: 2027-06-30}}
economics: {{relationship: non-contractual, margin_rate: 0.4}}
segments: none
{engine}
data:
  markets: markets.csv
  customers: customers.parquet
  transactions: {{path: log}}
"""
#: What scale.md rests on; ``source`` says where a figure is from that this script didn't measure.
MEASURED = Path(__file__).with_name("scale_measured.jsonl")
#: What the issue asks for.
BILLION, MARKETS = 1_000_000_000, 200_000


@contextmanager
def timed(times: dict[str, float], name: str) -> Iterator[None]:
    start, cpu = time.perf_counter(), time.process_time()
    yield
    times[name] = round(time.process_time() - cpu, 2)
    times[f"{name}, wall"] = round(time.perf_counter() - start, 2)


# --- by purchases ----------------------------------------------------------------------------------------------------


def write_company(folder: Path, purchases: int, markets: int, engine: str) -> Path:
    """A log of so many purchases over two years; customers spread over the markets by lot, unevenly."""
    import duckdb
    from clv_log import write_log

    if not (folder / "log").is_dir():
        write_log(folder / "log", purchases)
        with duckdb.connect() as db:
            db.execute(f"SET memory_limit = '4GB'; SET temp_directory = '{folder / 'spill'}'")
            db.execute(
                f"COPY (SELECT customer_id, 'm' || lpad(floor({markets} * pow(hash(customer_id) / pow(2.0, 64), 1.3))"
                f"::BIGINT::VARCHAR, 6, '0') AS market_id, min(date) AS acquired_on"
                f" FROM read_parquet('{folder / 'log'}/*.parquet') GROUP BY 1) TO '{folder / 'customers.parquet'}'"
            ).fetchall()
        ids = pd.Series([f"m{i:06d}" for i in range(markets)])
        sizes = pd.DataFrame({"market_id": ids, "addressable_customers": 10 * purchases // markets})
        sizes.to_csv(folder / "markets.csv", index=False)
    (folder / "plan.yml").write_text(PLAN.format(engine=engine))
    return folder / "plan.yml"


def log_stages(plan: Path) -> dict[str, Any]:
    """Seconds of opening (validation), data and value, and what they found, for comparing engines."""
    from micromarket import estimate_value, open_dataset, read_settings
    from micromarket.summarise import summarise

    settings, times = read_settings(plan), {}
    with timed(times, "open"):
        dataset = open_dataset(settings)
    with dataset:
        with timed(times, "data"):
            data = summarise(dataset)
        with timed(times, "value"):
            value = estimate_value(dataset, data, settings)
    found = [float(data.history["revenue"].sum()), float(value.markets["clv"].mean())]
    return {"seconds": times, "customers": int(data.cells["customers"].sum()), "found": found}


# --- by markets ------------------------------------------------------------------------------------------------------


def make_world(stage: str, markets: int, folder: Path) -> None:
    """What ``stage`` is measured on, as a file, so that its process holds no simulation beside it."""
    if stage == "potential":
        import potential_worlds

        data = potential_worlds.make("base", 5, markets).data
        values = data.markets[["market_id"]].copy()
        values[["clv", "clv_low", "clv_high", "new_customer_clv", "customer_equity"]] = 100.0
        made: tuple[Any, ...] = (data, values)
    elif stage in ("response", "response, weekly"):
        made = _panels("clean" if stage == "response, weekly" else "monthly", markets)
    else:
        import targets_worlds

        targets_worlds.DRAWS = 2  # futures, for judging odds only
        company = targets_worlds.make_world(markets, 3)
        made = company.data, company.values, company.scores, company.budget
    with _world_file(folder, stage, markets).open("wb") as file:
        pickle.dump(made, file, protocol=5)


def _panels(kind: str, markets: int) -> tuple[Any, ...]:
    """Response worlds side by side, of 10,000 markets each: simulated weeks need more room than the panel."""
    import response_worlds

    parts = []
    for number, first in enumerate(range(0, markets, 10_000)):
        made = response_worlds.build(kind, min(10_000, markets - first), 104, 11 + number)
        tables = {
            name: getattr(made.data, name) for name in ("markets", "cells", "neighbours", "panel", "spend", "current")
        }
        tables |= {"scores": made.scores, "value": made.value}
        for table in tables.values():
            for column in {"market_id", "neighbour_id"} & set(table.columns):
                table[column] = f"b{number:02d}" + table[column].astype("str")
            for column in {"channel"} & set(table.columns):
                table[column] = table[column].astype("str")
        parts.append(tables)
        rest = made.data
    whole = {name: pd.concat([part[name] for part in parts], ignore_index=True) for name in parts[0]}
    scores, value = whole.pop("scores"), whole.pop("value")
    return dataclasses.replace(rest, **whole), scores, value


def _world_file(folder: Path, stage: str, markets: int) -> Path:
    return folder / f"world-{stage.replace(', ', '-')}-{markets}.pickle"


def market_stage(stage: str, markets: int, folder: Path) -> dict[str, Any]:
    """Seconds of one stage on a world of its own benchmark, made before by :func:`make_world`.

    ``allocation`` is measured on what ``response`` left.
    """
    times: dict[str, float] = {}
    source = "response" if stage == "allocation" else stage
    with _world_file(folder, source, markets).open("rb") as file:
        world = pickle.load(file)
    if stage == "potential":
        from response_worlds import SETTINGS

        from micromarket import estimate_potential

        with timed(times, stage):
            estimate_potential(*world, SETTINGS)
    elif stage.startswith("response"):
        from response_worlds import SETTINGS

        from micromarket import estimate_response

        with timed(times, stage):
            response = estimate_response(*world, SETTINGS)
        with _world_file(folder, f"{stage}, done", markets).open("wb") as file:
            pickle.dump(response, file, protocol=5)
    elif stage == "allocation":
        from response_worlds import SETTINGS

        from micromarket import plan_budget

        data, scores, value = world
        with _world_file(folder, "response, done", markets).open("rb") as file:
            response = pickle.load(file)
        with timed(times, stage):
            plan_budget(data, response, value, scores, SETTINGS)
    else:
        from targets_worlds import settings_of

        from micromarket import set_targets

        with timed(times, stage):
            set_targets(*world, settings_of(0.05))
    return {"seconds": {name: times[name] for name in (stage, f"{stage}, wall")}}


# --- measuring -------------------------------------------------------------------------------------------------------


def measure(arguments: list[str], about: dict[str, Any], results: Path, limit: float) -> dict[str, Any] | None:
    """Runs this file's ``one`` in a process of its own; its answer with peak memory, also added to ``results``."""
    process = subprocess.Popen([sys.executable, __file__, "one", *arguments], stdout=subprocess.PIPE, text=True)
    memory = PeakMemory(process.pid)
    memory.start()
    try:
        out, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        process.kill()
        out = ""
    memory.over.set()
    if process.returncode or not out:
        print(f"| {about} | ended with {process.returncode} after at most {limit:.0f} s |", flush=True)
        return None
    answer = {**about, **json.loads(out.splitlines()[-1]), "peak_gb": round(memory.peak / 1e9, 2)}
    with results.open("a") as file:
        file.write(json.dumps(answer) + "\n")
    print(json.dumps(answer), flush=True)
    return answer


def log(given: argparse.Namespace) -> None:
    engine = f"engine: {{duckdb: {{memory_limit: {given.memory}, threads: {given.threads}}}}}"
    if given.engine == "spark":
        config = "{spark.driver.memory: 4g, spark.sql.shuffle.partitions: 8}"
        engine = f"engine: {{spark: {{master: 'local[2]', config: {config}}}}}"
    for purchases in given.purchases:
        folder = Path(given.folder or tempfile.gettempdir()) / f"log-{purchases}-{given.markets}"
        plan = write_company(folder, purchases, given.markets, engine)
        about = {"what": "log", "engine": given.engine, "purchases": purchases, "markets": given.markets,
                 "memory_limit": given.memory}  # fmt: skip
        measure(["log", str(plan)], about, given.results, given.limit)


def by_markets(given: argparse.Namespace) -> None:
    for stage in given.stages:
        for markets in given.markets:
            if stage == "value":  # five purchases a market at least
                folder = Path(given.folder or tempfile.gettempdir()) / f"log-{given.value_log}-{markets}"
                engine = "engine: {duckdb: {memory_limit: 4GB, threads: 2}}"
                plan = write_company(folder, given.value_log, markets, engine)
                about = {"what": "markets", "stage": stage, "markets": markets, "purchases": given.value_log}
                measure(["log", str(plan)], about, given.results, given.limit)
            else:
                folder = given.folder or tempfile.gettempdir()
                source = "response" if stage == "allocation" else stage
                if not _world_file(Path(folder), source, markets).exists():
                    subprocess.run([sys.executable, __file__, "one", "make", source, str(markets), folder], check=True)
                about = {"what": "markets", "stage": stage, "markets": markets}
                measure(["markets", stage, str(markets), folder], about, given.results, given.limit)


# --- the cost model --------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Cost:
    """``fixed + each * n**power``; ``miss``: largest relative error over the sizes that it was fitted to."""

    fixed: float
    each: float
    power: float
    miss: float
    largest: int

    def at(self, n: float) -> float:
        return self.fixed + self.each * n**self.power


def fit_cost(sizes: list[int], seconds: list[float]) -> Cost:
    """Nonlinear least squares of relative errors, from three sizes on; the power is between .5 and 2."""
    from scipy.optimize import least_squares

    n, y = np.array(sizes, float), np.maximum(np.array(seconds, float), 1e-3)
    unit = n.max()

    def model(p: np.ndarray) -> np.ndarray:
        return np.exp(p[0]) + np.exp(p[1]) * (n / unit) ** p[2]

    low, high = [np.log(1e-4), np.log(1e-4), 0.5], [np.log(y.min() + 1e-3), np.log(10 * y.max()), 2.0]
    start = [np.log(max(y.min() / 2, 2e-4)), np.log(y.max()), 1.0]
    found = least_squares(lambda p: np.log(model(p) / y), start, bounds=(low, high)).x
    each = float(np.exp(found[1]) / unit ** found[2])
    miss = float(np.max(np.abs(model(found) / y - 1)))
    return Cost(float(np.exp(found[0])), each, float(found[2]), miss, int(n.max()))


def reach(cost: Cost, sizes: list[int], measured: list[float], goal: float) -> tuple[float, float]:
    """From the largest measurement on by the lowest and highest of fitted power, 1 and last step's, and the fit."""
    powers = [cost.power, 1.0]
    if len(sizes) > 1:
        step = np.log(max(measured[-1], 1e-3) / max(measured[-2], 1e-3)) / np.log(sizes[-1] / sizes[-2])
        powers.append(float(np.clip(step, 0.5, 2.0)))
    grown = [measured[-1] * (goal / sizes[-1]) ** power for power in powers]
    grown.append(cost.at(goal))
    return min(grown), max(grown)


def figures(path: Path) -> dict[tuple[str, str], dict[int, float]]:
    """By what was measured and what it grows with: figure by size; the latest measurement of a size counts."""
    found: dict[tuple[str, str], dict[int, float]] = {}
    for row in (json.loads(line) for line in path.read_text().splitlines() if line):
        if row["what"] == "log" and row["engine"] != "duckdb":
            continue
        by = "purchases" if row["what"] in ("log", "customers") else "markets"
        size = row[by]
        for stage, seconds in row["seconds"].items():
            if not stage.endswith(", wall"):
                found.setdefault((stage, by), {})[size] = seconds
        if row.get("peak_gb"):
            name = {"log": "open to value", "customers": "each customer's value"}.get(row["what"], row.get("stage"))
            found.setdefault((f"{name}, peak GB", by), {})[size] = row["peak_gb"]
    return found


def fit(given: argparse.Namespace) -> None:
    print("| | by | sizes | fixed | power | at the largest | worst miss | for | fit | range |\n|" + "---|" * 10)
    for (stage, by), measured in sorted(figures(given.results).items(), key=lambda item: (item[0][1], item[0][0])):
        sizes = sorted(measured)
        goal = BILLION if by == "purchases" else MARKETS
        shown = f"| {stage} | {by} | {sizes[0]:,} to {sizes[-1]:,} ({len(sizes)}) |"
        last = f"{measured[sizes[-1]]:,.1f}"
        if len(sizes) < 3:
            print(f"{shown} | | {last} | | | fewer than 3 sizes | |")
            continue
        cost = fit_cost(sizes, [measured[n] for n in sizes])
        line = f"{shown} {cost.fixed:.2g} | {cost.power:.2f} | {last} | {cost.miss:.0%} | {goal:,} |"
        if cost.largest >= goal:
            print(f"{line} measured | |")
            continue
        low, high = reach(cost, sizes, [measured[n] for n in sizes], goal)
        print(f"{line} {cost.at(goal):,.3g} | {low:,.3g} to {high:,.3g} |")


def one(given: list[str]) -> None:
    if given[0] == "make":
        make_world(given[1], int(given[2]), Path(given[3]))
    elif given[0] == "log":
        print(json.dumps(log_stages(Path(given[1]))))
    else:
        print(json.dumps(market_stage(given[1], int(given[2]), Path(given[3]))))


def main() -> None:
    if sys.argv[1:2] == ["one"]:
        one(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--results", type=Path, help="default: scale.jsonl here; fit: scale_measured.jsonl beside this file"
    )
    parser.add_argument("--folder", help="of the logs, kept between runs; default: the temporary folder")
    parser.add_argument("--limit", type=float, default=1800, help="seconds that a measurement may take")
    commands = parser.add_subparsers(required=True)
    logs = commands.add_parser("log")
    logs.add_argument("--purchases", type=int, nargs="+", default=[1_000_000, 10_000_000])
    logs.add_argument("--markets", type=int, default=1000)
    logs.add_argument("--memory", default="4GB")
    logs.add_argument("--threads", type=int, default=os.cpu_count())
    logs.add_argument("--engine", choices=("duckdb", "spark"), default="duckdb")
    logs.set_defaults(do=log)
    markets = commands.add_parser("markets")
    markets.add_argument("--markets", type=int, nargs="+", default=[1000, 10_000, 50_000])
    markets.add_argument("--stages", choices=STAGES, nargs="+", default=list(STAGES))
    markets.add_argument("--value-log", type=int, default=5_000_000, help="purchases that value is made from")
    markets.set_defaults(do=by_markets)
    fits = commands.add_parser("fit")
    fits.set_defaults(do=fit)
    given = parser.parse_args()
    given.results = given.results or (MEASURED if given.do is fit else Path("scale.jsonl"))
    given.do(given)


if __name__ == "__main__":
    main()
