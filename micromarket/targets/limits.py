"""The lowest and highest target of every cell, what sets them, and where they contradict the forecast."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from micromarket.targets.attainment import EqualOdds, equal_probability
from micromarket.targets.cells import HIGHEST, LOWEST, CellForecast

FLOOR, CONTRACT, CEILING, REPS, POTENTIAL = "last year", "contracts", "growth", "reps", "potential"
#: Where a forecast lies outside what the limit alone would allow; in the order in which one is named for a cell.
CONFLICTS = {
    REPS: "forecast above what its reps can win",
    POTENTIAL: "forecast above its potential",
    CONTRACT: f"contracts above {HIGHEST:.0%} of last year",
    FLOOR: f"forecast below {LOWEST:.0%} of last year",
    CEILING: f"forecast above {HIGHEST:.0%} of last year",
}


@dataclass(frozen=True)
class Limits:
    """Arrays of shape (cells,). ``low``, ``high``: money over the plan, ``low <= high``.

    Attributes
    ----------
    floor_of, ceiling_of : what sets the limit (text)
    conflict : key of :data:`CONFLICTS`, or ""
    contracted : money that contracts bring without a further customer (0 where revenue isn't billed)
    """

    low: np.ndarray
    high: np.ndarray
    floor_of: np.ndarray
    ceiling_of: np.ndarray
    conflict: np.ndarray
    contracted: np.ndarray

    def held_by(self, targets: np.ndarray) -> np.ndarray:
        """Which limit holds each target (text, "" where it stands free); within a cent."""
        at_low, at_high = targets <= self.low + 0.011, targets >= self.high - 0.011
        return np.where(at_high, self.ceiling_of, np.where(at_low & (self.low > 0), self.floor_of, ""))


def limits(cells: CellForecast, billed: bool) -> Limits:
    """Guardrails: 0.9 to 1.3 of last year, what contracts bring, what reps can win, what potential leaves.

    A guardrail that contradicts the forecast gives way to it, and by a standard deviation more, so that equal odds
    remain possible. Reps and potential don't, beyond the forecast, which they have already cut.
    """
    mu, sigma, base = cells.mu, cells.spread.sigma(cells.mu), cells.base
    reachable = np.where(np.isfinite(cells.cap), cells.rest + np.minimum(cells.cap, 1e12) * cells.each, np.inf)
    contracted = np.where(cells.new > 0, np.minimum(cells.rest, mu), 0.0) if billed else np.zeros_like(mu)
    guard_low = np.maximum(np.minimum(LOWEST * base, mu - sigma), 0.0)
    guard_high = np.maximum(HIGHEST * base, mu + sigma)
    low = np.maximum(guard_low, contracted)
    high = np.maximum(np.minimum(guard_high, reachable), np.maximum(mu, low))
    by_reps = cells.cap_reps <= cells.cap_potential
    ceiling = np.where(reachable < guard_high, np.where(by_reps, REPS, POTENTIAL), CEILING)
    over = 1 + 1e-9
    conflict = np.select(
        [cells.capped_by_reps, cells.capped_by_potential, contracted > HIGHEST * base * over,
         LOWEST * base > mu * over, HIGHEST * base * over < mu],
        list(CONFLICTS), "",
    )  # fmt: skip
    return Limits(low, high, np.where(contracted > guard_low, CONTRACT, FLOOR), ceiling, conflict, contracted)


def solve(cells: CellForecast, bounds: Limits, goal: float) -> tuple[EqualOdds, Limits, str | None]:
    """Targets of equal odds that add up to ``goal``; limits as they held; which floors gave way ("" or why).

    A goal below all floors together is no reason to ask for more than it: first the guardrail of last year gives way,
    then, if what is under contract alone exceeds the goal, that too.
    """
    sigma, skew = cells.spread.sigma(cells.mu), cells.spread.skewness(cells.mu)
    gave = None
    for gave, low in ((None, bounds.low), (FLOOR, bounds.contracted), (CONTRACT, np.zeros_like(bounds.low))):
        if goal >= low.sum() or gave == CONTRACT:
            held = bounds if gave is None else Limits(
                low, bounds.high, np.full(len(low), CONTRACT if gave == FLOOR else ""), bounds.ceiling_of,
                bounds.conflict, bounds.contracted,
            )  # fmt: skip
            return equal_probability(cells.mu, sigma, held.low, held.high, goal, skew), held, gave
    raise AssertionError("unreachable: the last floor is 0")
