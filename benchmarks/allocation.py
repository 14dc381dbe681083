"""Our allocation side by side with general solvers, in one run on equal problems.

    python benchmarks/allocation.py [--cells 100 1000 10000 100000] [--seconds 30] [--everything]

Default: total and bounds of cells only, what all of them can do; ``--everything`` adds market, channel and region
limits and the cap on moved money (ours and Clarabel). A solver that took longer than ``--seconds`` is not asked for
larger sizes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, minimize

from micromarket.allocation.solver import Group, allocate

Solution = tuple[np.ndarray, bool]


def problem(cells: int, everything: bool, seed: int = 1) -> dict:
    """Random curves, value by market, four channels, up to 20 regions; feasible at today's money."""
    rng = np.random.default_rng(seed)
    markets = cells // 4
    cells = markets * 4
    current = rng.lognormal(3, 1, cells)
    market = np.repeat(np.arange(markets), 4)
    out = {
        "amplitude": rng.lognormal(3, 1, cells),
        "half_spend": current * rng.lognormal(0, 0.7, cells),
        "value": np.repeat(rng.lognormal(0, 0.4, markets), 4),
        "current": current,
        "total": float(current.sum()),
        "low": np.zeros(cells),
        "high": 3 * current,
    }
    if everything:
        region = rng.integers(0, max(2, min(20, markets // 5)), markets)[market]
        codes = (("market", market, 0.5, 2.0), ("channel", np.tile(np.arange(4), markets), 0.8, 1.2),
                 ("region", region, 0.8, 1.25))  # fmt: skip
        for name, code, low, high in codes:
            sums = np.bincount(code, current)
            out[name] = Group(code, low * sums, high * sums)
        out["max_shift"] = 0.15 * out["total"]
    return out


def value(p: dict, x: np.ndarray) -> float:
    return float((p["amplitude"] * p["value"] * x / (x + p["half_spend"])).sum())


def ours(p: dict) -> Solution:
    found = allocate(**p)
    return found.spend, found.certificate.duality_gap < 1e-6


def _scipy(method: str) -> Callable[[dict], Solution]:
    def run(p: dict) -> Solution:
        now, weight, ratio = p["current"], p["amplitude"] * p["value"], p["half_spend"] / p["current"]
        unit = value(p, now)
        money = LinearConstraint((now / p["total"])[None], 1.0, 1.0)
        options = {"maxiter": 1000} | ({"ftol": 1e-12} if method == "SLSQP" else {"gtol": 1e-9, "xtol": 1e-12})
        extra = {} if method == "SLSQP" else {"hess": lambda r: np.diag(2 * weight * ratio / (r + ratio) ** 3 / unit)}
        found = minimize(
            lambda r: -float((weight * r / (r + ratio)).sum()) / unit,
            np.ones(len(now)),
            jac=lambda r: -weight * ratio / (r + ratio) ** 2 / unit,
            method=method, bounds=Bounds(0.0, 3.0), constraints=[money], options=options, **extra,
        )  # fmt: skip
        return found.x * now, bool(found.success)

    return run


def clarabel(p: dict) -> Solution:
    import cvxpy as cp
    from scipy import sparse

    now = p["current"]
    share, ratio = cp.Variable(len(now)), p["half_spend"] / now
    goal = cp.sum(cp.multiply(p["amplitude"] * p["value"], 1 - cp.multiply(ratio, cp.inv_pos(share + ratio))))
    unit = float(now.mean())
    x = cp.multiply(now / unit, share)
    limits = [cp.sum(x) == p["total"] / unit, share >= 0, share <= 3]
    for name in ("market", "channel", "region"):
        if name in p:
            group = p[name]
            member = sparse.csr_matrix((np.ones(len(now)), (group.code, np.arange(len(now)))))
            limits += [member @ x >= group.low / unit, member @ x <= group.high / unit]
    if "max_shift" in p:
        limits.append(cp.sum(cp.abs(x - now / unit)) / 2 <= p["max_shift"] / unit)
    task = cp.Problem(cp.Maximize(goal), limits)
    task.solve(solver=cp.CLARABEL)
    return np.asarray(share.value) * now, task.status == cp.OPTIMAL


SOLVERS: dict[str, Callable[[dict], Solution]] = {
    "ours": ours, "Clarabel": clarabel, "trust-constr": _scipy("trust-constr"), "SLSQP": _scipy("SLSQP"),
}  # fmt: skip
LARGEST = {"trust-constr": 400, "SLSQP": 200}  # beyond, minutes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, nargs="+", default=[100, 200, 400, 1_000, 10_000, 100_000])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--everything", action="store_true")
    args = parser.parse_args()
    slow: set[str] = {"trust-constr", "SLSQP"} if args.everything else set()
    print(f"{'cells':>8} {'solver':>13} {'seconds':>9} {'x ours':>8} {'value lost':>11} {'broken':>9}  converged")
    clarabel(problem(8, False))  # its first call imports and compiles
    for cells in args.cells:
        p, base = problem(cells, args.everything), None
        for name, solver in SOLVERS.items():
            if name in slow or cells > LARGEST.get(name, cells):
                continue
            start = time.perf_counter()
            try:
                x, converged = solver(p)
            except Exception as error:
                print(f"{cells:>8} {name:>13} failed: {type(error).__name__}")
                slow.add(name)
                continue
            seconds = time.perf_counter() - start
            if base is None:
                base = (seconds, value(p, x))
            broken = max(abs(x.sum() / p["total"] - 1), float((x - p["high"]).max()) / p["total"], 0.0)
            lost = 1 - value(p, x) / base[1]
            numbers = f"{seconds:>9.3f} {seconds / base[0]:>8.1f} {lost:>11.1e} {broken:>9.1e}"
            print(f"{cells:>8} {name:>13} {numbers}  {converged}")
            if seconds > args.seconds:
                slow.add(name)


if __name__ == "__main__":
    main()
