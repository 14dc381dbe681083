"""Quadrants of potential and share, with how sure they are."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from micromarket.potential.families import FloatArray

QUADRANTS = {
    "grow": "Grow: high potential, low share",
    "defend": "Defend: high potential, high share",
    "fix": "Fix: low potential, low share",
    "maintain": "Maintain: low potential, high share",
}
_WIDTH = 2 * 1.6449  # standard deviations that a 90% interval spans


def border(values: FloatArray) -> float:
    """The cut that parts ``values`` (finite) as nearly in halves as their ties allow: equals are never torn apart.

    The middle between two neighbouring values; of two cuts as good the higher one. All alike: just below them.
    """
    distinct, counts = np.unique(values, return_counts=True)
    if not len(distinct):
        return 0.0
    if len(distinct) == 1:
        return float(np.nextafter(distinct[0], -np.inf))
    below = np.cumsum(counts)[:-1]
    off = np.abs(2 * below - len(values))
    at = len(off) - 1 - int(np.argmin(off[::-1]))
    return float(distinct[at] / 2 + distinct[at + 1] / 2)


def standing(share: FloatArray, reached: FloatArray) -> FloatArray:
    """How well a market is served against the middle one: its share where that is known, else what it has reached of
    its potential, each over its own median so that the two compare.
    """
    known = np.isfinite(share)
    out = np.empty(len(share))
    for use, value in ((known, share), (~known, reached)):
        middle = np.median(value[use]) if use.any() else 1.0
        out[use] = value[use] / middle if middle > 0 else value[use]
    return out


def quadrants(
    potential: FloatArray, served: FloatArray, potential_sd: FloatArray, served_sd: FloatArray, *, well: bool = False
) -> tuple[list[str], FloatArray]:
    """Keys of ``QUADRANTS`` by market, and the probability that the market is in it rather than in another.

    Parameters
    ----------
    potential, served : positive numbers of any unit
    potential_sd, served_sd : standard deviations of their logarithms, errors normal and independent
    well : whether ``served`` counts as high where all markets are alike
    """
    names = np.array([["fix", "maintain"], ["grow", "defend"]])
    sides, odds = [], np.ones(len(potential))
    for value, sd, alike in ((potential, potential_sd, True), (served, served_sd, well)):
        if len(value) == 0 or np.ptp(value) == 0:
            sides.append(np.full(len(value), int(alike)))
            continue
        cut = border(value)
        high = value > cut
        away = np.abs(np.log(np.maximum(value, 1e-12)) - np.log(max(cut, 1e-12)))
        odds = odds * ndtr(away / np.maximum(sd, 1e-9))
        sides.append(high.astype(int))
    return names[sides[0], sides[1]].tolist(), odds


def log_sd(low: FloatArray, high: FloatArray) -> FloatArray:
    """Standard deviation of the logarithm that a 90% interval speaks of."""
    return np.log(np.maximum(high, 1e-9) / np.maximum(low, 1e-9)) / _WIDTH


__all__ = ["QUADRANTS", "border", "log_sd", "quadrants", "standing"]
