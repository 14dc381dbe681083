"""Where nobody knows how many could buy: sizes and lever intensities relative to markets of the same kind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from micromarket.potential.families import FloatArray

_SMALL = 0.1  # of the median: what is added to a lever before its logarithm, so that none is not minus infinity
_MOST_ZERO = 0.3
_MOST_UNKNOWN = 0.5  # of a lever's own variance: unknown size beyond it drowns what the lever itself does


@dataclass(frozen=True)
class Relative:
    """Sizes and intensities where nobody knows how many could buy.

    ``size`` (markets,): customers expected; ``levers`` (markets, levers): intensities relative to markets of the same
    kind; ``error``: log sd of what is left unknown of sizes, hence of intensities; ``tilt`` (markets,): log of how much
    more of the levers a kind of market gets per expected customer, mean 0. Whether such kinds are better covered or
    only have more people who don't buy can't be told.
    """

    size: FloatArray
    levers: FloatArray
    error: float
    tilt: FloatArray


def expected_size(n: FloatArray, features: FloatArray, folds: FloatArray) -> tuple[FloatArray, float]:
    """Customers expected by ridge regression of log(n + 0.5) on the features, each fold by the others; and its R2."""
    target = np.log(n + 0.5)
    out = np.clip(held_out(target, features, folds), target.min(), target.max())
    explained = 1 - float(((target - out) ** 2).sum() / max(((target - target.mean()) ** 2).sum(), 1e-12))
    return np.exp(out), explained


def held_out(target: FloatArray, features: FloatArray, folds: FloatArray) -> FloatArray:
    """Ridge predictions (penalty 1 per standardised feature), each fold by models of the others."""
    design = np.column_stack([np.ones(len(target)), features])
    ridge = np.eye(design.shape[1])
    ridge[0, 0] = 1e-9
    out = np.empty(len(target))
    for fold in np.unique(folds):
        rest = folds != fold if (folds != fold).any() else folds == fold
        x = design[rest]
        out[folds == fold] = design[folds == fold] @ np.linalg.solve(x.T @ x + ridge, x.T @ target[rest])
    return out


def relative_levers(size: FloatArray, levers: FloatArray, features: FloatArray, folds: FloatArray) -> Relative | None:
    """Sizes and lever intensities that don't mistake a large market for a well covered one.

    A market larger than its features say has more customers *and* more reps and spend, which looks as if levers worked
    wonders. What two levers have in common beyond the features is such size (one-factor model; factor scores by
    regression, Thomson 1951); it goes into ``size``, and only the rest of each lever counts as intensity, relative to
    markets with the same features. Where the company sends both after demand that no column shows, that demand counts
    as size too, so effects of levers are rather under- than overstated. No levers where sizes stay too uncertain.

    ``levers``: totals (money, reps) by market; ``size``: expected customers. ``None`` where there are not two levers
    that most markets have: then the two can't be told apart.
    """
    if levers.shape[1] < 2 or len(size) < 30 or (levers <= 0).mean() > _MOST_ZERO:
        return None
    positive = [np.median(column[column > 0]) for column in levers.T]
    logs = np.log(levers + _SMALL * np.array(positive))
    rest = np.column_stack([column - held_out(column, features, folds) for column in logs.T])
    rest = np.clip(rest, *np.quantile(rest, [0.005, 0.995], axis=0))
    covariance = np.cov(rest, rowvar=False)
    pairs = covariance[np.triu_indices(len(covariance), 1)]
    common = float(np.clip(pairs.mean(), 0.0, 0.95 * np.diag(covariance).min()))
    if np.diag(covariance).min() <= 1e-9:
        return None
    scores = rest @ np.linalg.solve(covariance, np.full(rest.shape[1], common))
    left = common - common**2 * float(np.linalg.inv(covariance).sum())
    unique = float(np.diag(covariance).min()) - common
    if left > _MOST_UNKNOWN * unique:  # raising both levers would mostly mean a larger market
        return Relative(size * np.exp(scores), np.empty((len(size), 0)), 0.0, np.zeros(len(size)))
    tilt = (logs - rest).mean(axis=1) - np.log(size)
    return Relative(
        size * np.exp(scores), np.exp(rest - scores[:, None]), float(np.sqrt(max(left, 0.0))), tilt - tilt.mean()
    )


__all__ = ["expected_size", "held_out", "relative_levers"]
