"""How long what people see takes: ``python benchmarks/report.py [--markets 1000] [--pages 20000]``.

Makes a simulated company and its run up to the budget, then times the PDF, the page, the workbook and the explorer's
answers. Every figure is the middle of several runs, in seconds of this process's own work (``time.process_time``, so
that neighbours on the machine don't count) and of the clock. Where a Chromium is there, the page of ``--pages`` markets
is opened in it as a phone does.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from shapely.geometry import box

from micromarket.allocation import plan_budget
from micromarket.config import Settings, read_settings
from micromarket.explore import explorer_of, scenario_panel
from micromarket.explore.panels import ScenarioPanel
from micromarket.funnel import back_solve
from micromarket.load import open_dataset
from micromarket.plan import assemble
from micromarket.potential import estimate_potential
from micromarket.report import write_page, write_pdf, write_workbook
from micromarket.response import estimate_response
from micromarket.simulate import simulate
from micromarket.summarise import summarise
from micromarket.targets import set_targets
from micromarket.value import estimate_value
from micromarket.workspace import Workspace

LIMITS = {"plan.pdf": 3.0, "dashboard.html": 2.0, "re-plan": 0.5}


def timed(work: Callable[[], Any], repeats: int = 5) -> tuple[float, float]:
    """Middle of process and clock seconds, after one run that warms up."""
    work()
    own, clock = [], []
    for _ in range(repeats):
        a, b = time.process_time(), time.perf_counter()
        work()
        own.append(time.process_time() - a)
        clock.append(time.perf_counter() - b)
    return statistics.median(own), statistics.median(clock)


def run(folder: Path, markets: int, seed: int) -> tuple[Settings, Workspace]:
    """A simulated company and its stages up to the funnel."""
    company = simulate(folder / "company", markets=markets, customers=60 * markets, weeks=104, seed=seed)
    settings = read_settings(company / "plan.yml")
    ws = Workspace(folder / "run")
    with open_dataset(settings) as dataset:
        data = summarise(dataset)
        value = estimate_value(dataset, data, settings)
    potential = estimate_potential(data, value.markets, settings)
    response = estimate_response(data, potential.scores, value.markets, settings)
    budget = plan_budget(data, response, value.markets, potential.scores, settings)
    targets = set_targets(data, value.cells, potential.scores, budget.budget, settings)
    funnel = back_solve(data, targets.targets, budget.budget, settings)
    for result in (data, value, potential, response, budget, targets, funnel):
        result.write(ws)
    return settings, ws


def many_markets(n: int, path: Path, settings: Settings, ws: Workspace) -> Path:
    """The page of a company of ``n`` square markets: the run's own rows, again and again."""
    plan = assemble(ws, settings)
    side = int(np.ceil(np.sqrt(n)))
    ids = [f"X{i:05d}" for i in range(n)]
    old = list(plan.markets["market_id"])
    origin = pd.Series([old[i % len(old)] for i in range(n)], index=pd.Index(ids, name="market_id"), name="origin")
    step = 10 / side
    squares = [box(x := 100 + step * (i % side), y := step * (i // side), x + step, y + step) for i in range(n)]
    places = pd.DataFrame(plan.markets.drop(columns="geometry", errors="ignore")).set_index("market_id")
    markets = places.loc[origin].reset_index(drop=True).assign(market_id=ids)
    tables = {}
    for name in ("scores", "budget", "targets"):
        joined = origin.reset_index().merge(
            plan.tables[name], left_on="origin", right_on="market_id", suffixes=("", "_")
        )
        tables[name] = joined.drop(columns=["origin", "market_id_"])
    wide = replace(plan, markets=gpd.GeoDataFrame(markets, geometry=squares, crs=4326), tables=tables, changes=None)
    return write_page(wide, path)


def in_a_browser(page: Path) -> dict[str, float]:
    """Milliseconds until a phone's page stands, until a search is answered, and until a tapped market is shown."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from browser import Browser

    with Browser() as browser:
        opened = browser.open(page)
        search = browser.run(
            "(() => { const f = document.getElementById('find'), t = performance.now(); f.value = 'an';"
            " f.dispatchEvent(new Event('input')); document.body.offsetHeight; return performance.now() - t; })()"
        )
        tap = browser.run(
            "(() => { const t = performance.now(); document.querySelector('#markets button').click();"
            " document.body.offsetHeight; return performance.now() - t; })()"
        )
    return {"open": opened, "search": float(search), "tap": float(tap)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--markets", type=int, default=1000)
    parser.add_argument("--pages", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--keep", type=Path, default=None, help="folder to work in (default: a temporary one)")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="micromarket-") as temporary:
        folder = asked.keep or Path(temporary)
        settings, ws = run(folder, asked.markets, asked.seed)
        plan = assemble(ws, settings)
        found = {
            "plan.pdf": timed(lambda: write_pdf(plan, folder / "plan.pdf")),
            "dashboard.html": timed(lambda: write_page(plan, folder / "dashboard.html")),
            "plan.xlsx": timed(lambda: write_workbook(plan, folder / "plan.xlsx"), 3),
        }
        panel = scenario_panel(explorer_of(ws, settings))
        assert isinstance(panel, ScenarioPanel)
        answers = []
        for name, value in (("total", 120), ("max_shift", 12), ("risk_aversion", 1.0), ("min_return", 0.6)):
            own, clock = [], []
            for k in range(5):  # another value every time: nothing is answered from memory
                a, b = time.process_time(), time.perf_counter()
                panel.sliders[name].value = value * (1 + 0.02 * k)
                own.append(time.process_time() - a)
                clock.append(time.perf_counter() - b)
            answers.append((statistics.median(own), statistics.median(clock)))
            print(
                f"  re-plan, slider {name:14} {answers[-1][0]:6.3f} s of its own, {answers[-1][1]:6.3f} s on the clock"
            )
            panel.back()
        found["re-plan"] = max(answers)
        print(f"{asked.markets:,} markets (seconds of its own work; on the clock; limit)")
        for name, (own, clock) in found.items():
            print(f"  {name:16} {own:6.2f} {clock:6.2f} {LIMITS.get(name, float('nan')):6.1f}")
        sizes = {n: (folder / n).stat().st_size for n in ("plan.pdf", "dashboard.html", "plan.xlsx")}
        print("  bytes:", ", ".join(f"{n} {s:,}" for n, s in sizes.items()))
        for n in (2000, asked.pages):
            page = many_markets(n, folder / f"page-{n}.html", settings, ws)
            print(f"page of {n:,} markets: {page.stat().st_size:,} bytes", end="")
            try:
                print("; milliseconds in a phone's browser:", in_a_browser(page))
            except BaseException as error:  # no browser: pytest's skip is no Exception
                print(f"; {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
