"""The best allocation for who prefers sure gains: mean less aversion times standard deviation over joint draws.

The standard deviation of a sum of draws is a norm, and a norm is the largest of its tangents. At any tangent the
problem is an ordinary allocation with risk taken off every cell's weight; its optimum is an upper bound on what any
allocation can score (that is the certificate), and its answer is the next corner of a simplicial decomposition
(von Hohenbalken 1977), which converges fast as the corners of a set this round are never far from its edge.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from micromarket.allocation.curves import Curves
from micromarket.allocation.problem import Allocation
from micromarket.allocation.sampled import weighted
from micromarket.allocation.solver import optimise

Array = NDArray[np.float64]
CORNERS = 12


@dataclass(frozen=True)
class Cautious:
    """The answer, and how far from the best it can be.

    Attributes
    ----------
    allocation : Allocation
        Its ``objective`` is the mean of the value (not of the gain), its prices are those of the risk-adjusted weights.
    score, mean, sd : float
        ``mean - aversion x sd`` of the gain over today, over the draws (money).
    gap : float
        No allocation within the limits scores more than ``score + gap``.
    weight : array (cells,)
        Mean value of each cell's curve less what its risk costs.
    """

    allocation: Allocation
    score: float
    mean: float
    sd: float
    gap: float
    weight: Array


def cautious(
    shape: Curves,
    draws: Array,
    current: Array,
    *,
    aversion: float,
    tolerance: float = 1e-6,
    max_solves: int = 60,
    **limits: Any,
) -> Cautious:
    """The allocation with the highest ``mean - aversion x sd`` of the gain over today.

    Parameters
    ----------
    shape : Curves
        Concave curves of height one: what share of its amplitude a cell reaches with its money.
    draws : array (cells, draws)
        Joint draws of the value of each cell's amplitude (money).
    current : array (cells,)
        Money now; the gain is against it.
    aversion : float
        At least 0.
    tolerance : float
        Wanted gap, relative to the mean value of the best allocation without aversion.
    **limits
        Every further argument of :func:`micromarket.allocation.solver.optimise`, ``total`` among them.

    Notes
    -----
    Where a cell is so risky that more of it lowers the score, the problem is no longer concave: the bound still holds,
    but the gap may stay open.
    """
    if not len(draws) == len(shape) == len(current):
        raise ValueError("shape, draws and current are of different numbers of cells")
    if aversion < 0:
        raise ValueError("aversion is at least 0")
    now = np.asarray(current, float)
    mean = np.asarray(draws, float).mean(axis=1)
    spread = (np.asarray(draws, float) - mean[:, None]) / np.sqrt(draws.shape[1])
    reached_now = shape.value(now)
    low = limits.get("low")
    least = shape.value(np.zeros(len(now)) if low is None else np.maximum(np.asarray(low, float), 0.0)) - reached_now
    charge = limits.get("min_return") or 0.0

    def judged(x: Array) -> tuple[float, float, float, Array, Array]:
        reached = shape.value(x) - reached_now
        risk = reached @ spread
        sd, gain = float(np.linalg.norm(risk)), float(mean @ reached)
        return gain - aversion * sd - charge * float(x.sum()), gain, sd, risk, reached

    plain = optimise(weighted(shape, np.maximum(mean, 0.0)), now, **limits)
    score, gain, sd, risk, reached = judged(plain.spend)
    best = (score, gain, sd, plain, np.maximum(mean, 0.0), plain.spend)
    scale = max(abs(plain.objective), 1e-300)
    bound = score + aversion * sd + plain.certificate.duality_gap * scale
    mixes = not limits.get("min_ticket")  # a mixture of tickets need not be one
    corners, risks, gains = [plain.spend], [risk], [gain - charge * float(plain.spend.sum())]
    if aversion == 0 or sd == 0:
        return _done(best, max(bound - score, 0.0), shape, mean)
    at, found = risk / sd, plain
    for _ in range(max_solves):
        weight = mean - aversion * (spread @ at)
        found = optimise(weighted(shape, np.maximum(weight, 0.0)), now, start=found, **limits)
        score, gain, sd, risk, reached = judged(found.spend)
        worth = float(np.maximum(weight, 0.0) @ reached) + float(np.minimum(weight, 0.0) @ least)
        worth += found.certificate.duality_gap * max(abs(found.objective), 1e-300) - charge * float(found.spend.sum())
        bound = min(bound, worth)
        corners.append(found.spend)
        risks.append(risk)
        gains.append(gain - charge * float(found.spend.sum()))
        mixed = _mixture(np.array(gains), np.array(risks), aversion)
        x = np.asarray(mixed @ np.array(corners))
        for candidate in (found.spend, x) if mixes else (found.spend,):
            s, g, d, r, _ = judged(candidate)
            if s > best[0]:
                best = (s, g, d, found, weight, candidate)
                risk, sd = r, d
        if bound - best[0] <= tolerance * scale or best[2] <= 0:
            break
        s, g, d, r, _ = judged(x)
        at = r / d if d > 0 else at
        if len(corners) > CORNERS:  # those that the mixture leaves out go first
            keep = np.sort(np.argsort(-mixed, kind="stable")[: CORNERS - 1])
            corners = [corners[i] for i in keep] + [x]
            risks, gains = [risks[i] for i in keep] + [r], [gains[i] for i in keep] + [g - charge * float(x.sum())]
    return _done(best, max(bound - best[0], 0.0), shape, mean)


def _mixture(gains: Array, risks: Array, aversion: float) -> Array:
    """Shares of the corners with the best ``gain - aversion x |risk|``."""
    k, unit = len(gains), max(float(np.abs(gains).max()), 1e-300)
    g, q = gains / unit, risks @ risks.T / unit**2

    def loss(share: Array) -> tuple[float, Array]:
        forward = q @ share
        sd = np.sqrt(max(float(share @ forward), 1e-300))
        return -float(g @ share) + aversion * sd, -g + aversion * forward / sd

    start = np.full(k, 0.5 / k)
    start[-1] += 0.5
    found = minimize(
        loss, start, jac=True, method="SLSQP", bounds=[(0.0, 1.0)] * k, options={"maxiter": 200, "ftol": 1e-14},
        constraints=[{"type": "eq", "fun": lambda s: s.sum() - 1, "jac": lambda s: np.ones(k)}],
    )  # fmt: skip
    share = np.maximum(found.x, 0.0)
    return share / share.sum()


def _done(best: tuple[Any, ...], gap: float, shape: Curves, mean: Array) -> Cautious:
    score, gain, sd, found, weight, x = best
    objective = float(mean @ shape.value(x))
    certificate = replace(found.certificate, duality_gap=gap / max(abs(objective), 1e-300))
    return Cautious(replace(found, spend=x, objective=objective, certificate=certificate), score, gain, sd, gap, weight)
