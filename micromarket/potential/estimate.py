"""Potential, headroom and their ranges: an ensemble of frontiers, shrunk by what the counts can tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from micromarket.potential.applicability import outside_area
from micromarket.potential.audits import calibrate
from micromarket.potential.cross_check import peer_potential
from micromarket.potential.design import Design
from micromarket.potential.ensemble import DELTA, Draws, confounding, draw, top_fifth
from micromarket.potential.families import FloatArray
from micromarket.potential.frontier import CountFrontier, best_fifth
from micromarket.potential.levels import MODELS, NO_SKILL, Levels, predict_levels


@dataclass(frozen=True)
class Frontier:
    """Customers by market, shape (markets,): ``expected`` now, ``potential`` at best practice, their 90% intervals.

    ``lever_parts``: share of headroom by lever and, last, by the one-sided part that no lever explains
    (markets, levers + 1). ``top_fifth``: probability that a market is in the fifth with the largest headroom.
    ``peer_potential``: customers by the cross-check of 40 nearest peers. ``outside``: outside the area of
    applicability. ``level_known``: audits fix the level of potential; ``audited``: how many markets were measured.
    ``around``: customers that a market holds more (or, below 0, fewer) than with typical neighbours, by their
    coverage, spend and rivals; 0 everywhere where these don't help to predict.
    """

    expected: FloatArray
    potential: FloatArray
    potential_low: FloatArray
    potential_high: FloatArray
    headroom_low: FloatArray
    headroom_high: FloatArray
    lever_parts: FloatArray
    skew: str
    p_value: float
    fallback: bool
    top_fifth: FloatArray
    peer_potential: FloatArray
    outside: FloatArray
    level_known: bool
    audited: int
    around: FloatArray


def fit_frontier(design: Design, levels: Levels, seed: int) -> Frontier:
    """Shrinks every market's distance from its level (JLMS), draws what could be true, calibrates it by audits."""
    family, n, size = design.family, design.n, design.size
    testable = len(n) >= 30 and n.sum() >= 100
    model = CountFrontier(family, one_sided=testable, seed=seed).fit(n, size, levels.now, design.blocks)
    posts = model.posterior(n, size, levels.now)
    weight = model.weights_[:, None]
    total = (weight * [p.total for p in posts]).sum(axis=0)
    short = (weight * [p.gap for p in posts]).sum(axis=0)
    lever_gaps = levels.lever_gaps * (1 - DELTA * confounding(levels, model.sd_w_**2))
    pull = lever_gaps.sum(axis=1)
    fallback = float(np.average(short + pull, weights=size)) < 0.02
    if fallback:  # nothing one-sided and no lever to pull: the best fifth of similar markets is the yardstick
        spread = max(model.sigma_v_, 1e-3)
        short = np.maximum(best_fifth(spread) - (total - np.average(total, weights=size)), 0.0)
    now = levels.now + total
    found = calibrate(design, draw(design, levels, model, posts, fallback, seed), (pull, short), now, seed)
    gap = found.gap
    expected = np.minimum(size * family.rate(now), design.bound)
    potential = _capped(size * family.rate(now + gap), expected, design)
    potential_draws, headroom_draws = _customers(found.draws, design)
    low, high = np.quantile(potential_draws, [0.05, 0.95], axis=0)
    headroom_low, headroom_high = np.quantile(headroom_draws, [0.05, 0.95], axis=0)
    parts = np.column_stack([lever_gaps, short])
    return Frontier(
        expected=expected, potential=potential,
        potential_low=np.minimum(low, potential), potential_high=np.maximum(high, potential),
        headroom_low=np.minimum(headroom_low, potential - expected),
        headroom_high=np.maximum(headroom_high, potential - expected),
        lever_parts=parts / np.maximum(parts.sum(axis=1, keepdims=True), 1e-12),
        skew=model.skew_, p_value=model.p_value_, fallback=fallback,
        top_fifth=top_fifth(headroom_draws), peer_potential=peer_potential(design),
        outside=outside_area(design, levels.importance), level_known=found.level_known, audited=found.audited,
        around=expected - size * family.rate(now - levels.around),
    )  # fmt: skip


def _capped(potential: FloatArray, floor: FloatArray, design: Design) -> FloatArray:
    return np.maximum(np.minimum(potential, design.bound), floor)


def _customers(draws: Draws, design: Design) -> tuple[FloatArray, FloatArray]:
    """Draws (draws, markets) of potential and headroom in customers."""
    floor = np.minimum(design.size * design.family.rate(draws.now), design.bound)
    potential = _capped(design.size * design.family.rate(draws.now + draws.gap), floor, design)
    return potential, potential - floor


__all__ = ["MODELS", "NO_SKILL", "Frontier", "Levels", "fit_frontier", "predict_levels"]
