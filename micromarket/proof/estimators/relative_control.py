"""Relative, volume-weighted synthetic control with unit effects, tested against studentised placebos."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from micromarket.proof.estimators.inversion import RankTest
from micromarket.proof.estimators.simplex import Array, many_simplex_weights

# Penalty on weights, in variances of one unit's noise, and how much of the gap of the last periods before the window is
# taken to last: chosen on windows of GeoLift's panel that end by day 75 (benchmarks/proof.py reports the one after).
RIDGE, LASTING = 0.05, 0.5


@dataclass(frozen=True)
class Controls:
    """Synthetic controls of many sets of markets over one history.

    Attributes
    ----------
    level : array of shape (markets,)
        Mean of each market before the window; everything else is relative to it.
    volume : array of shape (sets, markets)
        Shares of a set's markets in its level; 0 outside the set.
    weights : array of shape (sets, markets)
        Synthetic control; adds up to 1.
    scale : array of shape (sets,)
        Root mean square of the gap before the window, relative.
    lasting : array of shape (sets,)
        Part of the gap just before the window that is taken to last through it, relative.
    """

    level: Array
    volume: Array
    weights: Array
    scale: Array
    lasting: Array

    @property
    def contrast(self) -> Array:
        return self.volume - self.weights


def fit_controls(
    before: Array,
    sets: NDArray[np.bool_],
    recent: int = 0,
    banned: NDArray[np.bool_] | None = None,
    proportional: bool = False,
) -> Controls:
    """A synthetic control for every set, out of all markets that are not in it.

    Every market is taken relative to its own mean (a unit effect on the scale of its size); a set is the
    volume-weighted mean of its markets. Weights do not look at the window, so the gap in it is linear in the outcome.

    Parameters
    ----------
    before : array of shape (markets, periods)
        Outcomes up to the window; markets whose mean is 0 carry no weight.
    sets : bool array of shape (sets, markets)
    recent : int
        Periods just before the window whose gap lasts in part (0: none); best as many as the window has.
    banned : bool array of shape (sets, markets), optional
        Markets that may not serve as a set's control (its neighbours).
    proportional : bool
        No synthetic control: all allowed markets in proportion to their size (a ratio of sums).
    """
    level = before.mean(axis=1)
    alive = level > 0
    relative = np.where(alive[:, None], before / np.where(alive, level, 1.0)[:, None] - 1, 0.0)
    size = np.where(alive, level, 0.0)
    volume = sets * size
    volume = volume / np.maximum(volume.sum(axis=1, keepdims=True), 1e-300)
    steps = np.diff(relative, axis=1)
    noise = steps.var(axis=1) / 2 if steps.shape[1] else np.zeros(len(level))
    penalty = RIDGE * before.shape[1] * float(noise[alive].mean() if alive.any() else 0.0)
    gram = relative @ relative.T + (penalty + 1e-9) * np.eye(len(level))
    target = volume @ relative
    allowed = ~sets & alive
    if banned is not None:
        some = (allowed & ~banned).any(axis=1, keepdims=True)
        allowed = np.where(some, allowed & ~banned, allowed)
    allowed = np.where(allowed.any(axis=1, keepdims=True), allowed, ~sets)
    if proportional:
        weights = allowed * np.maximum(size, 1e-12)
        weights = weights / weights.sum(axis=1, keepdims=True)
    else:
        weights = many_simplex_weights(gram, target @ relative.T, allowed)
    gap = target - weights @ relative
    scale = np.sqrt((gap**2).mean(axis=1))
    scale = np.maximum(scale, 1e-6 * max(float(scale.max(initial=0.0)), 1e-9))
    recent = min(recent, before.shape[1] // 2)
    last = LASTING * gap[:, before.shape[1] - recent :].mean(axis=1) if recent else np.zeros(len(gap))
    return Controls(level, volume, weights, scale, last)


def relative_test(controls: Controls, window: Array, chosen: int) -> RankTest:
    """Test of set ``chosen`` against all others; its ``effect`` is ``1 - 1 / (1 + lift)``: see :func:`lift_from`.

    Taking a lift out divides the treated outcome by ``1 + lift``; the statistics are linear in that factor. The treated
    markets serve as controls of placebos, with the tested effect taken out, so every set is one of equals.

    Parameters
    ----------
    window : array of shape (markets, periods)
        Outcomes in the window.
    """
    after = window.mean(axis=1) / np.where(controls.level > 0, controls.level, 1.0)
    after = np.where(controls.level > 0, after, 0.0)
    contrast = controls.contrast / controls.scale[:, None]
    treated = controls.volume[chosen] > 0
    offset = contrast @ (after - (controls.level > 0)) - controls.lasting / controls.scale
    slope = contrast[:, treated] @ after[treated]
    rest = np.arange(len(contrast)) != chosen
    return RankTest(float(offset[chosen]), float(slope[chosen]), offset[rest], slope[rest])


def lift_from(effect: float) -> float:
    """Relative lift from :func:`relative_test`'s effect; 1 or more has no finite lift."""
    return effect / (1 - effect) if effect < 1 else np.inf


def counterfactual(controls: Controls, window: Array, chosen: int) -> Array:
    """(periods,) what the chosen set would have brought, in the outcome's units (sum over its markets)."""
    alive = controls.level > 0
    relative = np.where(alive[:, None], window / np.where(alive, controls.level, 1.0)[:, None], 0.0)
    total = float(controls.level[controls.volume[chosen] > 0].sum())
    others = controls.weights[chosen] * alive
    return total * ((others @ relative) / max(float(others.sum()), 1e-300) + controls.lasting[chosen])
