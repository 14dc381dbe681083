"""Potential, headroom and their ranges: two frontiers, averaged, then shrunk by what the counts can tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri
from scipy.stats import spearmanr

from micromarket.potential.applicability import outside_area
from micromarket.potential.cross_check import peer_potential
from micromarket.potential.design import Design
from micromarket.potential.families import FloatArray
from micromarket.potential.frontier import CountFrontier, best_fifth
from micromarket.potential.means import BoostedMean, ConstantMean, MeanModel, SplineMean

_DRAWS = 300
_FEWEST = 12  # markets below which nothing but the common level can be learnt
_BOOSTED_FROM = 150
NO_SKILL = 0.05  # lower 5% bound of the out-of-fold rank correlation at or below which features tell nothing
# What no data set of markets can tell (log sd): how strong levers truly are when they follow demand, and how large the
# one-sided part is when its shape is not half-normal. Set so that 90% intervals hold over simulated worlds.
LEVER_DOUBT, LEVEL_DOUBT = 0.30, 0.35
SIZELESS_LEVER_DOUBT = 0.60  # without buyers to divide by, a lever's intensity is itself a guess


@dataclass(frozen=True)
class Levels:
    """Linear predictors of shape (markets,), every market predicted by models that never saw its block.

    ``now``: at today's levers; ``gap``: what best-practice levers would add (at least 0); ``lever_gaps``: the part of
    each lever (markets, levers), summing to ``gap``; ``gap_doubt``: relative standard error of the lever effects.
    """

    now: FloatArray
    gap: FloatArray
    lever_gaps: FloatArray
    gap_doubt: float
    method: str
    rank_skill: float
    rank_skill_low: float


@dataclass(frozen=True)
class Frontier:
    """Customers by market, shape (markets,): ``expected`` now, ``potential`` at best practice, their 90% intervals.

    ``lever_parts``: share of headroom by lever and, last, by the one-sided part that no lever explains
    (markets, levers + 1). ``top_fifth``: probability that a market is in the fifth with the largest headroom.
    ``peer_potential``: customers by the cross-check of 40 nearest peers. ``outside``: outside the area of
    applicability. ``level_known``: audits fix the level of potential; ``audited``: how many markets were measured.
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


MODELS = ("splines", "monotone boosting")


def predict_levels(design: Design, seed: int, models: tuple[str, ...] = MODELS) -> Levels:
    """Out-of-fold average of a spline model and monotone boosting; a constant where they have no skill."""
    makers = {name: make for name, make in _makers(design, seed).items() if name in models}
    if not makers:
        why = "too few markets or customers" if design.feature_names else "no usable features"
        return _constant(design, f"shrunk penetration ({why})", 0.0, 0.0)
    best = design.best_practice
    stepwise = _stepwise(design)
    now = np.zeros((len(makers), len(design.n)))
    gaps = np.zeros((len(makers), len(stepwise), len(design.n)))
    mean_gaps = np.zeros((len(makers), design.folds.max() + 1))
    for m, make in enumerate(makers.values()):
        for fold in range(design.folds.max() + 1):
            here, rest = design.folds == fold, design.folds != fold
            model = make().fit(design.features[rest], design.levers[rest], design.n[rest], design.size[rest])
            now[m, here] = model.predict(design.features[here], design.levers[here])
            if stepwise:
                everyone = model.predict(design.features, best) - model.predict(design.features, design.levers)
                mean_gaps[m, fold] = np.maximum(everyone, 0).mean()
                for i, levers in enumerate(stepwise):
                    gaps[m, i, here] = model.predict(design.features[here], levers[here])
    eta = now.mean(axis=0)
    skill, low = _rank_skill(design, eta, seed)
    if low <= NO_SKILL and not design.levers.shape[1]:
        return _constant(design, "shrunk penetration (features without skill)", skill, low)
    # each lever alone at best practice, scaled so that the parts add up to all together
    if stepwise:
        total = np.maximum(gaps[:, -1].mean(axis=0) - eta, 0.0)
        alone = np.maximum(gaps[:, :-1].mean(axis=0) - eta, 0.0).T
        parts = alone * (total / np.maximum(alone.sum(axis=1), 1e-12))[:, None]
        folds = mean_gaps.shape[1]
        within = ((folds - 1) / folds * ((mean_gaps - mean_gaps.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)).mean()
        between = mean_gaps.mean(axis=1).var()
        doubt = float(np.sqrt(within + between) / max(mean_gaps.mean(), 1e-9))
    else:
        total, parts, doubt = np.zeros_like(eta), np.zeros((len(eta), 0)), 0.0
    return Levels(eta, total, parts, min(doubt, 2.0), "stochastic frontier: " + " + ".join(makers), skill, low)


def _makers(design: Design, seed: int) -> dict[str, Callable[[], MeanModel]]:
    columns = design.features.shape[1] + design.levers.shape[1]
    if not columns or len(design.n) < _FEWEST or design.n.sum() < 10 or design.folds.max() < 1:
        return {}
    # one penalty for all folds: choosing it anew in each would cost four times as much and change little
    penalty = SplineMean(design.family).fit(design.features, design.levers, design.n, design.size).penalty_
    makers: dict[str, Callable[[], MeanModel]] = {"splines": lambda: SplineMean(design.family, penalty)}
    if len(design.n) >= _BOOSTED_FROM:
        makers["monotone boosting"] = lambda: BoostedMean(design.family, seed)
    return makers


def _stepwise(design: Design) -> list[FloatArray]:
    """Lever settings to predict at: each lever alone at best practice, then all."""
    if not design.levers.shape[1]:
        return []
    best = design.best_practice
    alone = []
    for i in range(best.shape[1]):
        levers = design.levers.copy()
        levers[:, i] = best[:, i]
        alone.append(levers)
    return [*alone, best]


def _constant(design: Design, method: str, skill: float, low: float) -> Levels:
    eta = ConstantMean(design.family).fit(design.features, design.levers, design.n, design.size)
    none = np.zeros(len(design.n))
    level = eta.predict(design.features, design.levers)
    return Levels(level, none, np.zeros((len(none), design.levers.shape[1])), 0.0, method, skill, low)


def _rank_skill(design: Design, eta: FloatArray, seed: int) -> tuple[float, float]:
    """Rank correlation of predicted with actual level out of fold, and its 5% bound over resampled blocks."""
    # chosen by size alone: choosing by the prediction would cut off the range that it is judged on
    seen = design.size * (design.n.sum() / design.size.sum()) >= 5
    use = seen if seen.sum() >= 20 else np.ones(len(eta), dtype=bool)
    actual, predicted = design.n[use] / design.size[use], eta[use]
    if not design.family.bounded:
        actual, predicted = design.n[use], eta[use] + np.log(design.size[use])
    if np.ptp(actual) == 0 or np.ptp(predicted) == 0:
        return 0.0, 0.0
    skill = float(spearmanr(actual, predicted).statistic)
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(design.blocks[use] == b) for b in np.unique(design.blocks[use])]
    drawn = []
    for _ in range(100):
        pick = np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])
        if len(pick) > 5_000:
            pick = rng.choice(pick, 5_000, replace=False)
        value = spearmanr(actual[pick], predicted[pick]).statistic
        drawn.append(value if np.isfinite(value) else 0.0)
    return skill, float(np.quantile(drawn, 0.05))


def fit_frontier(design: Design, levels: Levels, seed: int) -> Frontier:
    """Shrinks every market's distance from its level (JLMS) and draws intervals."""
    family, n, size = design.family, design.n, design.size
    testable = len(n) >= 30 and n.sum() >= 100
    model = CountFrontier(family, one_sided=testable).fit(n, size, levels.now)
    posts = model.posterior(n, size, levels.now)
    weight = model.weights_[:, None]
    noise = (weight * [p.noise for p in posts]).sum(axis=0)
    gap = (weight * [p.gap for p in posts]).sum(axis=0)
    at = levels.now + noise
    fallback = float(np.average(gap + levels.gap, weights=size)) < 0.02
    if fallback:  # nothing one-sided and no lever to pull: the best fifth of similar markets is the yardstick
        spread = max(model.sigma_v_, 1e-3)
        reach = np.maximum(best_fifth(spread) - (noise - np.average(noise, weights=size)), 0.0)
        gap = reach
        at = at + reach
    floor = np.minimum(size * family.rate(at - gap), design.bound)
    potential = _capped(size * family.rate(at + levels.gap), floor, design)
    draws = _draws(design, levels, model, posts, fallback, seed)
    potential_draws, headroom_draws = draws
    low, high = np.quantile(potential_draws, [0.05, 0.95], axis=0)
    headroom_low, headroom_high = np.quantile(headroom_draws, [0.05, 0.95], axis=0)
    parts = np.column_stack([levels.lever_gaps, gap])
    return Frontier(
        expected=floor,
        potential=potential,
        potential_low=np.minimum(low, potential),
        potential_high=np.maximum(high, potential),
        headroom_low=np.minimum(headroom_low, potential - floor),
        headroom_high=np.maximum(headroom_high, potential - floor),
        lever_parts=parts / np.maximum(parts.sum(axis=1, keepdims=True), 1e-12),
        skew=model.skew_,
        p_value=model.p_value_,
        fallback=fallback,
        top_fifth=_top_fifth(headroom_draws),
        peer_potential=peer_potential(design),
        outside=outside_area(design, np.ones(design.features.shape[1])),
        level_known=False,
        audited=int(np.isfinite(design.audited).sum()),
    )


def _top_fifth(headroom: FloatArray) -> FloatArray:
    """Share of draws (draws, markets) in which a market is in the fifth with the most headroom."""
    top = max(1, headroom.shape[1] // 5)
    found = np.zeros(headroom.shape[1])
    for draw in headroom:
        found[np.argpartition(-draw, top - 1)[:top]] += 1
    return found / len(headroom)


def _capped(potential: FloatArray, floor: FloatArray, design: Design) -> FloatArray:
    return np.maximum(np.minimum(potential, design.bound), floor)


def _draws(
    design: Design, levels: Levels, model: CountFrontier, posts: list, fallback: bool, seed: int
) -> tuple[FloatArray, FloatArray]:
    """Draws (draws, markets) of potential and headroom: shape of the distribution, market, and lever effects."""
    rng = np.random.default_rng(seed)
    # small jobs get every draw; a big one fewer, at the same quantiles
    count = _DRAWS if len(design.n) <= 10_000 else 100
    which = np.repeat(np.arange(len(posts)), np.round(model.weights_ * count).astype(int))
    potential, headroom = np.empty((len(which), len(design.n))), np.empty((len(which), len(design.n)))
    doubt = float(np.hypot(levels.gap_doubt, LEVER_DOUBT if design.family.bounded else SIZELESS_LEVER_DOUBT))
    steps = (rng.permutation(len(which)) + 0.5) / len(which)
    for d, shape in enumerate(which):
        post = posts[shape]
        z = rng.standard_normal((2, len(design.n)))
        noise = post.noise + post.noise_sd * z[0]
        gap = _gamma_draw(rng, post.gap, post.gap_sd)
        if fallback:
            spread = max(model.sigma_v_, 1e-3) * rng.uniform(0.5, 1.5)
            gap = np.maximum(best_fifth(spread) - (noise - np.average(noise, weights=design.size)), 0.0)
            noise = noise + gap
        # lever effects and the level are shared by all markets: one draw moves them together
        effect = np.exp(doubt * ndtri(steps[d]))
        stretch = np.exp(LEVEL_DOUBT * rng.standard_normal())
        noise, gap = noise + (stretch - 1) * gap, stretch * gap
        at = levels.now + noise
        floor = np.minimum(design.size * design.family.rate(at - gap), design.bound)
        potential[d] = _capped(design.size * design.family.rate(at + levels.gap * effect), floor, design)
        headroom[d] = potential[d] - floor
    return potential, headroom


def _gamma_draw(rng: np.random.Generator, mean: FloatArray, sd: FloatArray) -> FloatArray:
    """Positive draws with the posterior mean and sd of a one-sided gap."""
    ok = (mean > 1e-9) & (sd > 1e-9)
    out = mean.copy()
    shape = np.where(ok, (mean / np.where(ok, sd, 1.0)) ** 2, 1.0)
    drawn = rng.standard_gamma(shape) * np.where(ok, sd**2 / np.where(ok, mean, 1.0), 0.0)
    out[ok] = drawn[ok]
    return out
