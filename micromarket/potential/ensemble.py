"""What could be true of every market: draws over shapes of the shortfall, models, lever effects and markets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from micromarket.potential.composed import Posterior
from micromarket.potential.design import Design
from micromarket.potential.families import FloatArray
from micromarket.potential.frontier import CountFrontier, best_fifth
from micromarket.potential.levels import Levels

_DRAWS, _DRAWS_LARGE, _LARGE = 300, 100, 10_000
# Levers may follow demand that no column shows: delta says how strongly, beside how they follow the features. Oster
# (2019) argues for 0 to 1; some companies do the opposite, so nine tenths of this prior lie between -0.7 and 1.2.
DELTA, DELTA_SD = 0.25, 0.6
_LEAST_EFFECT = 0.1
# Without sizes: how far levers of a kind of market follow its expected customers; 0 in proportion, 1 not at all
TILT_SD = 0.5


@dataclass(frozen=True)
class Draws:
    """Linear predictors (draws, markets): ``now``: where each market stands; ``gap``: what it stays short by."""

    now: FloatArray
    gap: FloatArray


def confounding(levels: Levels, unexplained: float) -> float:
    """Bias of the lever effects, as a part of them, if levers follow what no column shows as they follow the features.

    ``unexplained``: variance of the level that nothing explains, count noise apart. The formula is Oster's (2019,
    section 3.2) for a delta of 1, with all of that variance open to confounding (her largest R squared of 1); at most
    the whole effect, which is also what holds where no feature is there to judge by.
    """
    if not levels.gap.any():
        return 0.0
    return float(np.clip(levels.selection * unexplained, -1.0, 1.0))


def draw(
    design: Design, levels: Levels, model: CountFrontier, posts: list[Posterior], fallback: bool, seed: int
) -> Draws:
    """One draw fixes what all markets share (shape, its scale, model mix, lever effects), then draws every market."""
    rng = np.random.default_rng(seed)
    markets = len(design.n)
    count = _DRAWS if markets <= _LARGE else _DRAWS_LARGE  # a big job: fewer draws, at the same quantiles
    # systematic samples: every shape and every strength of the levers appears as often as it should
    which = np.searchsorted(np.cumsum(model.weights_)[:-1], (np.arange(count) + 0.5) / count)
    steps = (np.stack([rng.permutation(count) for _ in range(5)]) + 0.5) / count
    delta = DELTA + DELTA_SD * ndtri(steps[0])
    unconfounded = np.maximum(1 - delta * confounding(levels, model.sd_w_**2), _LEAST_EFFECT)
    effect = unconfounded * np.exp(min(levels.gap_doubt, 1.0) * ndtri(steps[3]))
    stretch = np.exp(model.parameter_sd_ * ndtri(steps[1]))
    tilted = TILT_SD * ndtri(steps[4])
    now, gap = np.empty((count, markets)), np.empty((count, markets))
    for d, shape in enumerate(which):
        post = posts[shape]
        total = post.total + post.total_sd * rng.standard_normal(markets)
        if fallback:
            spread = max(model.sigma_v_, 1e-3) * (0.5 + steps[1, d])
            short = np.maximum(best_fifth(spread) - (total - np.average(total, weights=design.size)), 0.0)
        else:
            short = model.shapes_[shape].draw_u(rng, total - model.shapes_[shape].shift) * stretch[d]
        now[d] = levels.now + total
        pull = _mixed(levels.model_gaps, steps[2, d])
        if design.lever_error:  # a market that is larger than thought is worse covered than thought
            error = design.lever_error * rng.standard_normal(markets) + tilted[d] * design.lever_tilt
            pull = np.maximum(pull + levels.lever_slope * error, 0.0)
        gap[d] = short + effect[d] * pull
    return Draws(now, gap)


def _mixed(gaps: FloatArray, weight: float) -> FloatArray:
    """A mix of two models' gaps; with one model, its own."""
    return gaps[0] if len(gaps) == 1 else weight * gaps[0] + (1 - weight) * gaps[1]


def top_fifth(headroom: FloatArray) -> FloatArray:
    """Share of draws (draws, markets) in which a market is in the fifth with most headroom; ties share the places."""
    top = max(1, headroom.shape[1] // 5)
    found = np.zeros(headroom.shape[1])
    for drawn in headroom:
        last = np.partition(drawn, -top)[-top]
        above, level = drawn > last, drawn == last
        found += above + level * ((top - above.sum()) / level.sum())
    return found / len(headroom)


__all__ = ["DELTA", "Draws", "confounding", "draw", "top_fifth"]
