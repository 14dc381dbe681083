"""Our allocation side by side with general solvers, in one run on equal problems.

    python benchmarks/allocation.py [--part total everything shaped all] [--seconds 30]

``total``: total and bounds of cells only, what all of them can do; ``everything``: market, channel and region limits
and the cap on moved money; ``shaped``: S-shaped curves (Hill, slopes 1.2 to 4), total and bounds of cells, local
solvers from ten starts (two from 200 cells on). A solver that took longer than ``--seconds`` gets no larger sizes.
Seconds are of the processor, as the clock says little on a shared machine.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, minimize

from micromarket.allocation.curves import Hill
from micromarket.allocation.solver import Allocation, Group, allocate, optimise

Solution = tuple[np.ndarray, bool]
STARTS, FEW_STARTS = 10, 2
TIGHT = {"gtol": 1e-10, "xtol": 1e-14, "barrier_tol": 1e-10}


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
    found = certified(p)
    return found.spend, found.certificate.duality_gap < 1e-9


def certified(p: dict) -> Allocation:
    return allocate(**p)


def _scipy(method: str) -> Callable[[dict], Solution]:
    def run(p: dict) -> Solution:
        now, weight, ratio = p["current"], p["amplitude"] * p["value"], p["half_spend"] / p["current"]
        n, unit = len(now), value(p, p["current"])
        capped = "max_shift" in p
        # with a cap on moves: share = 1 + up - down
        size = 2 * n if capped else n
        back = np.hstack([np.eye(n), -np.eye(n)]) if capped else np.eye(n)
        rows, low, high = [(now / p["total"])[None]], [np.ones(1)], [np.ones(1)]
        for name in ("market", "channel", "region"):
            if name in p:
                group = p[name]
                rows.append(np.eye(len(group.low))[:, group.code] * (now / p["total"]))
                low.append(group.low / p["total"])
                high.append(group.high / p["total"])
        matrix, least, most = np.concatenate(rows) @ back, np.concatenate(low), np.concatenate(high)
        if capped:
            least, most = least - matrix[:, :n].sum(axis=1), most - matrix[:, :n].sum(axis=1)
            moves = np.tile(now / p["total"], 2)[None]
            matrix = np.concatenate([matrix, moves])
            least, most = np.append(least, -np.inf), np.append(most, 2 * p["max_shift"] / p["total"])
        first = np.full(size, 0.01) if capped else np.ones(n)
        bounds = Bounds(0.0, np.repeat([2.0, 1.0], n)) if capped else Bounds(0.0, 3.0)

        def share(r: np.ndarray) -> np.ndarray:
            return np.maximum((1.0 if capped else 0.0) + back @ r, 0.0)

        exact = least == most
        limits = [LinearConstraint(matrix[k], least[k], most[k]) for k in (exact, ~exact) if k.any()]
        options = {"maxiter": 1000} | ({"ftol": 1e-12} if method == "SLSQP" else TIGHT)

        def hess(r: np.ndarray) -> np.ndarray:
            return back.T @ ((2 * weight * ratio / (share(r) + ratio) ** 3 / unit)[:, None] * back)

        found = minimize(
            lambda r: -float((weight * share(r) / (share(r) + ratio)).sum()) / unit,
            first,
            jac=lambda r: -(weight * ratio / (share(r) + ratio) ** 2 / unit) @ back,
            method=method, bounds=bounds, constraints=limits, options=options,
            **({} if method == "SLSQP" else {"hess": hess}),
        )  # fmt: skip
        return share(found.x) * now, bool(found.success)

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
    task.solve(solver=cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    return np.asarray(share.value) * now, task.status == cp.OPTIMAL


SOLVERS: dict[str, Callable[[dict], Solution]] = {
    "ours": ours, "Clarabel": clarabel, "trust-constr": _scipy("trust-constr"), "SLSQP": _scipy("SLSQP"),
}  # fmt: skip
LARGEST = {"trust-constr": 400, "SLSQP": 200, "Clarabel": 100_000}  # beyond, minutes
SIZES = {"total": [100, 200, 400, 1_000, 10_000, 100_000], "everything": [100, 200, 1_000, 10_000, 100_000, 1_000_000]}


def broken(p: dict, x: np.ndarray) -> float:
    """Largest breach of a limit, relative to the total."""
    worst = [abs(x.sum() - p["total"]), float((x - p["high"]).max()), float((p["low"] - x).max())]
    for name in ("market", "channel", "region"):
        if name in p:
            sums = np.bincount(p[name].code, x, len(p[name].low))
            worst += [float((sums - p[name].high).max()), float((p[name].low - sums).max())]
    if "max_shift" in p:
        worst.append(float(np.abs(x - p["current"]).sum() / 2 - p["max_shift"]))
    return max(*worst, 0.0) / p["total"]


def concave(part: str, seconds: float) -> None:
    slow: set[str] = set()
    print(
        f"\n{part}\n{'cells':>9} {'solver':>13} {'CPU s':>9} {'x ours':>8} {'value lost':>11} {'broken':>9}  converged"
    )
    for cells in SIZES[part]:
        p, base = problem(cells, part == "everything"), None
        for name, solver in SOLVERS.items():
            if name in slow or cells > LARGEST.get(name, cells):
                continue
            start = time.process_time()
            try:
                x, converged = solver(p)
            except Exception as error:
                print(f"{cells:>9} {name:>13} failed: {type(error).__name__}")
                slow.add(name)
                continue
            spent = time.process_time() - start
            base = base or (spent, value(p, x))
            lost = 1 - value(p, x) / base[1]
            numbers = f"{spent:>9.3f} {spent / base[0]:>8.1f} {lost:>11.1e} {broken(p, x):>9.1e}"
            gap = f"  gap {certified(p).certificate.duality_gap:.1e}" if name == "ours" else ""
            print(f"{cells:>9} {name:>13} {numbers}  {converged}{gap}", flush=True)
            if spent > seconds:
                slow.add(name)


def shaped(seconds: float) -> None:
    slow: set[str] = set()
    print(f"\nshaped\n{'cells':>9} {'solver':>13} {'CPU s':>9} {'x ours':>8} {'value lost':>11} {'gap':>9}")
    for cells in (10, 20, 40, 100, 200, 400, 1_000, 10_000, 100_000):
        p = problem(cells, False)
        n = len(p["current"])
        rng = np.random.default_rng(cells)
        curves = Hill(p["amplitude"] * p["value"], p["half_spend"] * rng.uniform(0.5, 3, n), rng.uniform(1.2, 4, n))
        start = time.process_time()
        found = optimise(curves, p["current"], total=p["total"], low=p["low"], high=p["high"])
        spent = time.process_time() - start
        print(
            f"{n:>9} {'ours':>13} {spent:>9.3f} {1:>8.1f} {0:>11.1e} {found.certificate.duality_gap:>9.1e}", flush=True
        )
        for name in ("SLSQP", "trust-constr"):
            if name in slow or n > 400:
                continue
            start = time.process_time()
            best = max(_local(name, curves, p, rng, first) for first in range(STARTS if n < 200 else FEW_STARTS))
            took = time.process_time() - start
            print(
                f"{n:>9} {name:>13} {took:>9.3f} {took / spent:>8.1f} {1 - best / found.objective:>11.1e}", flush=True
            )
            if took > seconds:
                slow.add(name)


def _local(method: str, curves: Hill, p: dict, rng: np.random.Generator, first: int) -> float:
    now = p["current"]
    n, unit = len(now), float(curves.value(now).sum())
    start = np.ones(n) if first == 0 else np.minimum(rng.dirichlet(np.full(n, 0.5)) * p["total"] / now, 3.0)
    options = {"maxiter": 500} | ({"ftol": 1e-12} if method == "SLSQP" else TIGHT)
    found = minimize(
        lambda s: -float(curves.value(now * s).sum()) / unit,
        start,
        jac=lambda s: -curves.marginal(now * s) * now / unit,
        method=method, bounds=Bounds(0.0, 3.0), constraints=[LinearConstraint((now / p["total"])[None], 1.0, 1.0)],
        options=options,
        **({} if method == "SLSQP" else {"hess": lambda s: np.diag(curves.bend(now * s) * now**2 / unit)}),
    )  # fmt: skip
    kept = abs(float(now @ found.x) / p["total"] - 1) < 1e-7
    return -float(found.fun) * unit if kept else -np.inf


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", default=["all"], choices=["total", "everything", "shaped", "all"])
    parser.add_argument("--seconds", type=float, default=30.0)
    args = parser.parse_args()
    clarabel(problem(8, False))  # its first call imports and compiles
    certified(problem(8, True))
    for part in ("total", "everything"):
        if {part, "all"} & set(args.part):
            concave(part, args.seconds)
    if {"shaped", "all"} & set(args.part):
        shaped(args.seconds)


if __name__ == "__main__":
    main()
