"""Lifetime values at scale, beside lifetimes and pymc-marketing: time, memory, and whether the answers agree.

1. A million customers: BG/NBD by maximum likelihood, and what each buys within a year, on the same histories.
2. A log of ten million purchases (``--huge``: up to a hundred million) to a Parquet file with every customer's value.

Every measurement runs in a process of its own. Peers may live in another environment (``--peers its/python``); one
that is not installed is named and left out.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.util
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from clv_log import DAYS, LAST_DAY, histories, write_log

YEAR = 365.0
NAMES = ("r", "alpha", "a", "b")
Fit = Callable[[], tuple[dict[str, float], np.ndarray]]


def peak_mb() -> float:
    """Most memory that this process ever held (resident)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)


def summaries(customers: int) -> dict[str, np.ndarray]:
    """x, t_x, T (days) of each customer."""
    who, day, _ = histories(customers, seed=3)
    first, last = np.full(customers, DAYS), np.zeros(customers, int)
    np.minimum.at(first, who, day)
    np.maximum.at(last, who, day)
    x = np.bincount(who, minlength=customers) - 1
    return {"x": x.astype(float), "t_x": (last - first).astype(float), "T": (DAYS - 1 - first).astype(float)}


# --- 1: fit and predict ----------------------------------------------------------------------------------------------


def ours(d: dict[str, np.ndarray]) -> Fit:
    from micromarket.value import BetaGeoNBD

    def run() -> tuple[dict[str, float], np.ndarray]:
        model = BetaGeoNBD().fit(d["x"], d["t_x"], d["T"])
        assert model.converged_
        return model.parameters(), model.conditional_expected_purchases(YEAR, d["x"], d["t_x"], d["T"])

    return run


def lifetimes(d: dict[str, np.ndarray], weighted: bool = False) -> Fit:
    import pandas as pd
    from lifetimes import BetaGeoFitter

    def run() -> tuple[dict[str, float], np.ndarray]:
        frame, weights = pd.DataFrame(d), None
        if weighted:
            frame = frame.value_counts(sort=False).reset_index()
            weights = frame["count"]
        # its own default tolerance (1e-7) leaves the third digit open
        model = BetaGeoFitter().fit(frame["x"], frame["t_x"], frame["T"], weights=weights, tol=1e-8)
        found = model.conditional_expected_number_of_purchases_up_to_time(YEAR, d["x"], d["t_x"], d["T"])
        return {name: float(model.params_[name]) for name in NAMES}, np.asarray(found)

    return run


def pymc_marketing(d: dict[str, np.ndarray]) -> Fit:
    import pandas as pd
    from pymc_extras.prior import Prior
    from pymc_marketing.clv import BetaGeoModel

    frame = pd.DataFrame({"customer_id": np.arange(len(d["x"])), "frequency": d["x"], "recency": d["t_x"], "T": d["T"]})
    flat = {name: Prior("HalfFlat") for name in NAMES}  # so that its maximum is the maximum of the likelihood

    def run() -> tuple[dict[str, float], np.ndarray]:
        model = BetaGeoModel(frame, model_config=flat)
        model.fit(method="map", progressbar=False)
        found = model.fit_summary()
        predicted = model.expected_purchases(future_t=YEAR).to_numpy().ravel()
        return {
            name: float(model.idata.posterior[name].mean()) for name in NAMES
        } if found is not None else {}, predicted

    return run


FITS: dict[str, tuple[str | None, Callable[[dict[str, np.ndarray]], Fit], int]] = {
    "micromarket": (None, ours, 5),
    "lifetimes": ("lifetimes", lifetimes, 2),
    "lifetimes, distinct histories": ("lifetimes", lambda d: lifetimes(d, weighted=True), 2),
    "pymc-marketing (MAP)": ("pymc_marketing", pymc_marketing, 2),
}


def measure_fit(name: str, file: Path) -> dict[str, Any]:
    """First and best time of ``name``; the first holds what it compiles, once in a process."""
    needs, make, times = FITS[name]
    if needs is not None and importlib.util.find_spec(needs) is None:
        return {"missing": needs}
    with np.load(file) as stored:
        run = make({key: stored[key] for key in stored})
    seconds, used = [], []
    for _ in range(times):
        began, before = time.perf_counter(), time.process_time()
        parameters, predicted = run()
        seconds.append(time.perf_counter() - began)
        used.append(time.process_time() - before)
    return {
        "first": seconds[0], "best": min(seconds), "cpu": min(used), "parameters": parameters,
        "some": [float(v) for v in predicted[:: len(predicted) // 1000]], "peak": peak_mb(),
    }  # fmt: skip


# --- 2: a log to every customer's value ------------------------------------------------------------------------------


def measure_log(folder: Path, memory_limit: str | None, threads: int | None) -> dict[str, Any]:
    """From a folder of Parquet files to a Parquet file with every customer's value."""
    from micromarket.sources import Engine
    from micromarket.value.customer_values import write_customer_values

    economics = SimpleNamespace(
        relationship="non-contractual", margin_rate=0.3, discount_rate=0.1, horizon_months=36, servicing_cost=0.0
    )
    as_of = dt.date.fromisoformat(str(LAST_DAY))
    settings: Any = SimpleNamespace(as_of=as_of, economics=economics, data={}, path=Path("plan.yml"))
    with Engine(memory_limit, threads) as engine:
        engine.duck.execute(f"CREATE VIEW transactions AS FROM read_parquet('{folder}/*.parquet')")
        tables: Any = SimpleNamespace(
            has=lambda name: name == "transactions", table=engine.ibis.table,
            keep=engine.keep, put=engine.put, save=engine.save,
        )  # fmt: skip
        out = folder / "values" / "values.parquet"
        out.parent.mkdir(exist_ok=True)
        before, used = time.perf_counter(), time.process_time()
        found = write_customer_values(tables, settings, out)
        seconds, used = time.perf_counter() - before, time.process_time() - used
        rows, total = engine.duck.execute(f"select count(*), sum(clv) from '{out}'").fetchone()
        out.unlink()
    parameters = found.models["All"]["purchases"].parameters()
    return {"seconds": seconds, "cpu": used, "peak": peak_mb(), "rows": rows, "clv": total, "parameters": parameters}


# --- the run ---------------------------------------------------------------------------------------------------------


def child(python: str, *arguments: str) -> dict[str, Any]:
    done = subprocess.run([python, __file__, *arguments], capture_output=True, text=True)
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "without a word"}
    return json.loads(done.stdout.strip().splitlines()[-1])


def compare_fits(customers: int, peers: str, folder: Path) -> None:
    file = folder / "histories.npz"
    np.savez(file, **summaries(customers))
    print(f"BG/NBD of {customers:,} customers, and each one's purchases within a year")
    print(f"{'':32}{'first s':>9}{'best s':>9}{'cpu s':>8}{'times':>7}{'peak MB':>9}  parameters (r, alpha, a, b)")
    mine: dict[str, Any] = {}
    for name in FITS:
        found = child(sys.executable if name == "micromarket" else peers, "--fit", name, str(file))
        if "missing" in found or "failed" in found:
            print(f"{name:32}{'left out: ' + (found.get('failed') or found['missing'] + ' is not installed')}")
            continue
        mine = mine or found
        shown = ", ".join(f"{found['parameters'][p]:.6g}" for p in NAMES)
        slower = found["best"] / mine["best"]
        print(f"{name:32}{found['first']:9.2f}{found['best']:9.2f}{found['cpu']:8.2f}", end="")
        print(f"{slower:7.0f}{found['peak']:9.0f}  {shown}", end="")
        if found is not mine:
            away = max(abs(found["parameters"][p] / mine["parameters"][p] - 1) for p in NAMES)
            apart = np.max(np.abs(np.array(found["some"]) / np.array(mine["some"]) - 1))
            print(f"  (away {away:.0e}; predictions {apart:.0e})", end="")
        print(flush=True)


def run_logs(sizes: list[int], memory_limit: str | None, threads: int | None, folder: Path) -> None:
    print("\nA log of purchases to every customer's value (Parquet to Parquet)")
    print(f"{'purchases':>12}{'customers':>12}{'seconds':>9}{'s per 10M':>11}{'cpu s':>8}{'per 10M':>9}{'peak MB':>9}")
    for size in sizes:
        log = folder / f"log{size}"
        purchases, customers = write_log(log, size)
        options = [] if memory_limit is None else ["--memory-limit", memory_limit]
        options += [] if threads is None else ["--threads", str(threads)]
        found = child(sys.executable, "--log", str(log), *options)
        for part in log.glob("*.parquet"):
            part.unlink()
        if "failed" in found:
            print(f"{purchases:12,}  failed: {found['failed']}")
            continue
        assert found["rows"] == customers
        seconds, cpu, unit = found["seconds"], found["cpu"], 1e7 / purchases
        print(f"{purchases:12,}{customers:12,}{seconds:9.1f}{seconds * unit:11.2f}", end="")
        print(f"{cpu:8.1f}{cpu * unit:9.2f}{found['peak']:9.0f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--customers", type=int, default=1_000_000)
    parser.add_argument("--purchases", type=int, default=10_000_000)
    parser.add_argument("--peers", default=sys.executable, help="the Python that has lifetimes and pymc-marketing")
    parser.add_argument("--huge", action="store_true", help="logs of 10, 30 and 100 million purchases")
    parser.add_argument("--memory-limit", help="of DuckDB, such as 4GB")
    parser.add_argument("--threads", type=int, help="of DuckDB")
    parser.add_argument("--only", choices=["fits", "logs"])
    parser.add_argument("--folder", type=Path, help="where the logs go for a while (a gigabyte for a hundred million)")
    parser.add_argument("--fit", nargs=2, metavar=("NAME", "FILE"), help=argparse.SUPPRESS)
    parser.add_argument("--log", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.fit or given.log:
        warnings.filterwarnings("ignore")
        found = measure_fit(given.fit[0], Path(given.fit[1])) if given.fit else None
        print(json.dumps(found or measure_log(given.log, given.memory_limit, given.threads)))
        return
    with tempfile.TemporaryDirectory(prefix="clv-", dir=given.folder) as folder:
        if given.only != "logs":
            compare_fits(given.customers, given.peers, Path(folder))
        if given.only != "fits":
            sizes = [10_000_000, 30_000_000, 100_000_000] if given.huge else [given.purchases]
            limit = given.memory_limit or ("4GB" if given.huge else None)
            run_logs(sizes, limit, given.threads, Path(folder))


if __name__ == "__main__":
    main()
