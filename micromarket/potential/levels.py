"""Average levels by market, predicted by models that never saw its surroundings, and what levers would add."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from micromarket.potential.design import Design
from micromarket.potential.families import FloatArray
from micromarket.potential.means import BoostedMean, ConstantMean, MeanModel, SplineMean, weights

_FEWEST = 12  # markets below which nothing but the common level can be learnt
_BOOSTED_FROM = 150
_SAMPLE = 5_000  # markets that a mean over all of them is taken from
NO_SKILL = 0.05  # lower 5% bound of the out-of-fold rank correlation at or below which features tell nothing
MODELS = ("splines", "monotone boosting")


@dataclass(frozen=True)
class Levels:
    """Linear predictors of shape (markets,), every market predicted by models that never saw its block.

    ``now``: at today's levers; ``gap``: what best-practice levers would add (at least 0); ``lever_gaps``: the part of
    each lever (markets, levers), summing to ``gap``; ``model_gaps``: ``gap`` by each model (models, markets);
    ``gap_doubt``: relative standard error of the lever effects (jackknife over folds); ``selection``: relative change
    of the lever effects per unit of explained variance when the features enter, what their confounding is judged by;
    ``lever_slope``: change of the level by the log of all levers together (markets,);
    ``importance``: how far each feature moves the level (sd over markets); ``around``: what neighbours' levers and
    rivals add to the level beside typical ones (0 where they are not in the model).
    """

    now: FloatArray
    gap: FloatArray
    lever_gaps: FloatArray
    model_gaps: FloatArray
    gap_doubt: float
    selection: float
    lever_slope: FloatArray
    importance: FloatArray
    around: FloatArray
    method: str
    rank_skill: float
    rank_skill_low: float


def predict_levels(design: Design, seed: int, models: tuple[str, ...] = MODELS) -> Levels:
    """Out-of-fold average of a spline model and monotone boosting; a constant where they have no skill."""
    if not _learnable(design):
        why = "too few markets or customers" if design.feature_names else "no usable features"
        return _constant(design, f"shrunk penetration ({why})", 0.0, 0.0)
    x, n, size = design.explaining, design.n, design.size
    whole = SplineMean(design.family).fit(x, design.levers, n, size)
    makers = _makers(design, seed, whole.penalty_, models)
    best = design.best_practice
    stepwise = _stepwise(design)
    folds = int(design.folds.max()) + 1
    some = np.unique(np.linspace(0, len(n) - 1, min(len(n), _SAMPLE)).astype(int))
    now = np.zeros((len(makers), len(n)))
    gaps = np.zeros((len(makers), len(stepwise), len(n)))
    mean_gaps = np.zeros((len(makers), folds))
    for m, make in enumerate(makers.values()):
        for fold in range(folds):
            here, rest = design.folds == fold, design.folds != fold
            model = make().fit(x[rest], design.levers[rest], n[rest], size[rest])
            now[m, here] = model.predict(x[here], design.levers[here])
            if stepwise:
                everyone = model.predict(x[some], best[some]) - model.predict(x[some], design.levers[some])
                mean_gaps[m, fold] = np.maximum(everyone, 0).mean()
                for i, levers in enumerate(stepwise):
                    gaps[m, i, here] = model.predict(x[here], levers[here])
    eta = now.mean(axis=0)
    skill, low = _rank_skill(design, eta, seed)
    if low <= NO_SKILL and not design.levers.shape[1]:
        return _constant(design, "shrunk penetration (features without skill)", skill, low)
    total, parts, each = _gaps(eta, now, gaps)
    doubt = _jackknife(mean_gaps) if stepwise else 0.0
    return Levels(
        now=eta, gap=total, lever_gaps=parts, model_gaps=each, gap_doubt=doubt,
        selection=_selection(design, whole, best) if stepwise else 0.0,
        lever_slope=_lever_slope(design, whole), importance=_importance(design, whole), around=_around(design, whole),
        method="stochastic frontier: " + " + ".join(makers), rank_skill=skill, rank_skill_low=low,
    )  # fmt: skip


def _learnable(design: Design) -> bool:
    columns = design.explaining.shape[1] + design.levers.shape[1]
    return bool(columns and len(design.n) >= _FEWEST and design.n.sum() >= 10 and design.folds.max() >= 1)


def _makers(
    design: Design, seed: int, penalty: float, models: tuple[str, ...]
) -> dict[str, Callable[[], MeanModel]]:  # fmt: skip
    # one penalty for all folds: choosing it anew in each would cost four times as much and change little
    makers: dict[str, Callable[[], MeanModel]] = {"splines": lambda: SplineMean(design.family, penalty)}
    if len(design.n) >= _BOOSTED_FROM:
        makers["monotone boosting"] = lambda: BoostedMean(design.family, seed)
    return {name: make for name, make in makers.items() if name in models} or makers


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


def _gaps(eta: FloatArray, now: FloatArray, gaps: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """What levers at best practice add: in all, by lever (each alone, scaled to add up to that), by model."""
    if not gaps.shape[1]:
        return np.zeros_like(eta), np.zeros((len(eta), 0)), np.zeros((1, len(eta)))
    each = np.maximum(gaps[:, -1] - now, 0.0)
    total = np.maximum(gaps[:, -1].mean(axis=0) - eta, 0.0)
    alone = np.maximum(gaps[:, :-1].mean(axis=0) - eta, 0.0).T
    return total, alone * (total / np.maximum(alone.sum(axis=1), 1e-12))[:, None], each


def _jackknife(mean_gaps: FloatArray) -> float:
    """Relative standard error of the mean gap: delete-a-fold jackknife, mean over models (models, folds)."""
    folds = mean_gaps.shape[1]
    squares = (mean_gaps - mean_gaps.mean(axis=1, keepdims=True)) ** 2
    return float(np.sqrt((folds - 1) / folds * squares.sum(axis=1).mean()) / max(mean_gaps.mean(), 1e-9))


def _selection(design: Design, whole: SplineMean, best: FloatArray) -> float:
    """(gap without features / gap with them - 1) per unit of variance of the level that the features explain.

    Times the variance that nothing explains: the bias of the lever effects if levers followed what nobody recorded as
    much as they follow the features (Altonji, Elder & Taber 2005; Oster 2019, with delta 1).
    """
    bare = SplineMean(design.family, whole.penalty_)
    none = np.empty((len(design.n), 0))
    bare.fit(none, design.levers, design.n, design.size)
    gap = np.maximum(whole.predict(design.explaining, best) - whole.predict(design.explaining, design.levers), 0.0)
    bare_gap = np.maximum(bare.predict(none, best) - bare.predict(none, design.levers), 0.0)
    counted = weights(design.family, design.n, design.size) * design.size
    level, bare_level = whole.predict(design.explaining, design.levers), bare.predict(none, design.levers)
    explained = _variance(level, counted) - _variance(bare_level, counted)
    if explained <= 0 or gap.mean() <= 1e-9:
        return np.inf
    return float((bare_gap.mean() / gap.mean() - 1) / explained)


def _variance(values: FloatArray, weight: FloatArray) -> float:
    mean = np.average(values, weights=weight)
    return float(np.average((values - mean) ** 2, weights=weight))


def _importance(design: Design, whole: SplineMean) -> FloatArray:
    """Standard deviation over markets of what each of ``design.features`` does to the level."""
    x = design.explaining
    level = whole.predict(x, design.levers)
    out = np.empty(design.features.shape[1])
    for j in range(len(out)):
        typical = x.copy()
        typical[:, j] = 0.0
        out[j] = np.std(level - whole.predict(typical, design.levers))
    return out


def _lever_slope(design: Design, whole: SplineMean) -> FloatArray:
    if not design.levers.shape[1]:
        return np.zeros(len(design.n))
    ends = [whole.predict(design.explaining, design.levers * np.exp(step)) for step in (-0.1, 0.1)]
    return (ends[1] - ends[0]) / 0.2


def _around(design: Design, whole: SplineMean) -> FloatArray:
    x = design.explaining
    if x.shape[1] == design.features.shape[1]:
        return np.zeros(len(x))
    typical = x.copy()
    typical[:, design.features.shape[1] :] = 0.0
    return whole.predict(x, design.levers) - whole.predict(typical, design.levers)


def _constant(design: Design, method: str, skill: float, low: float) -> Levels:
    eta = ConstantMean(design.family).fit(design.features, design.levers, design.n, design.size)
    none = np.zeros(len(design.n))
    return Levels(
        now=eta.predict(design.features, design.levers), gap=none,
        lever_gaps=np.zeros((len(none), design.levers.shape[1])),
        model_gaps=np.zeros((1, len(none))), gap_doubt=0.0, selection=0.0, lever_slope=none,
        importance=np.ones(design.features.shape[1]), around=none, method=method, rank_skill=skill, rank_skill_low=low,
    )  # fmt: skip


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


__all__ = ["MODELS", "NO_SKILL", "Levels", "predict_levels"]
