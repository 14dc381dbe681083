"""Synthetic control of unit effects, plain or ridge-augmented, in the units of the outcome; iid conformal p-value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from micromarket.proof.estimators.simplex import Array, simplex_weights

_LAMBDAS = 20
_SMALLEST = 1e-8  # of the largest penalty tried


@dataclass(frozen=True)
class ControlResult:
    """A treated group beside its synthetic control. Outcomes in the panel's units, per unit and period.

    Attributes
    ----------
    weights : array of shape (controls,)
        They add up to 1; those of the plain model are at least 0.
    effect : float
        Average over treated units and periods of the window (ATT).
    lift : float
        ``effect`` over the counterfactual average.
    incremental : float
        Sum over treated units and periods.
    imbalance, scaled_imbalance : float
        Euclidean distance over the periods before, of averages per unit; the same over that of equal weights.
    bias : float
        What the ridge takes out of the plain estimate (0 for the plain model).
    gap : array of shape (periods,)
        Treated average less its synthetic control, level adjusted.
    """

    weights: Array
    effect: float
    lift: float
    incremental: float
    imbalance: float
    scaled_imbalance: float
    bias: float
    gap: Array


def synthetic_control(treated: Array, control: Array, before: int, ridge: bool = False) -> ControlResult:
    """Weights on controls that track the treated average through ``before`` periods, every unit less its own mean.

    Abadie, Diamond & Hainmueller (2010) with unit effects (Ferman & Pinto 2021; Ben-Michael, Feller & Rothstein 2021,
    *JASA* 116:1789, equations 10 and 17 for the ridge). The ridge's penalty is the largest within one standard error
    of the smallest leave-one-period-out error.

    Parameters
    ----------
    treated : array of shape (treated units, periods)
    control : array of shape (control units, periods)
    before : int
        Periods before the window; the window is the rest.
    """
    level = float(treated[:, :before].mean())
    one = (treated - treated[:, :before].mean(axis=1, keepdims=True)).mean(axis=0)
    pool = control - control[:, :before].mean(axis=1, keepdims=True)
    x, target = pool[:, :before].T, one[:before]
    plain, weights = _fitted(x.T, target, ridge)
    gap = one - weights @ pool
    after = slice(before, None)
    effect = float(gap[after].mean())
    expected = level + float((weights @ pool)[after].mean())
    equal = np.full(len(pool), 1 / len(pool))
    distance, usual = (float(np.linalg.norm(target - x @ w)) for w in (weights, equal))
    bias = effect - float((one - plain @ pool)[after].mean())
    return ControlResult(
        weights, effect, effect / expected if expected else np.nan,
        effect * len(treated) * (treated.shape[1] - before), distance, distance / max(usual, 1e-300), -bias, gap,
    )  # fmt: skip


def _augmentation(centred: Array, aim: Array, weights: Array, penalty: float) -> Array:
    """(controls,) what ridge regression adds to ``weights`` where they leave imbalance."""
    left = aim - weights @ centred
    inner = centred @ centred.T + penalty * np.eye(len(centred))  # push-through identity: the smaller matrix
    return np.asarray(np.linalg.solve(inner, centred @ left), dtype=float)


def _penalty(centred: Array, aim: Array) -> float:
    """Leave one period out, for penalties from the largest singular value squared downwards."""
    periods = len(aim)
    largest = float(np.linalg.norm(centred, 2)) ** 2
    if largest <= 0 or periods < 4:
        return max(largest, 1e-12)
    tried = largest * _SMALLEST ** (np.arange(_LAMBDAS + 1) / _LAMBDAS)
    errors = np.zeros((periods - 1, len(tried)))
    for i in range(periods - 1):  # the last one is never left out, as in augsynth
        kept = np.arange(periods) != i
        weights = simplex_weights(centred[:, kept].T, aim[kept])
        values, vectors = np.linalg.eigh(centred[:, kept] @ centred[:, kept].T)
        left = vectors.T @ (centred[:, kept] @ (aim[kept] - weights @ centred[:, kept]))
        for j, penalty in enumerate(tried):
            full = weights + vectors @ (left / (np.maximum(values, 0.0) + penalty))
            errors[i, j] = (aim[i] - full @ centred[:, i]) ** 2
    mean, error = errors.mean(axis=0), errors.std(axis=0, ddof=1) / np.sqrt(len(errors))
    best = int(np.argmin(mean))
    return float(tried[mean <= mean[best] + error[best]].max())


def conformal_p_value(
    treated: Array, control: Array, before: int, ridge: bool = False, draws: int = 1000, seed: int = 1
) -> float:
    """P-value of no effect: the window's residuals against the same residuals in random order.

    Chernozhukov, Wuethrich & Zhu (2021), *JASA* 116:1849, with iid permutations and the sum of absolute residuals of a
    fit through all periods. Kept to stand beside GeoLift; it takes periods for exchangeable, so its false positives
    are not those stated wherever residuals hang together in time.
    """
    periods = treated.shape[1]
    gap = _gap_through(treated, control, ridge)
    window = periods - before
    observed = float(np.abs(gap[before:]).sum())
    rng = np.random.default_rng([seed, periods])
    drawn = np.array([np.abs(rng.permutation(gap)[:window]).sum() for _ in range(draws)])
    return float(np.mean(drawn >= observed))


def _gap_through(treated: Array, control: Array, ridge: bool) -> Array:
    """Residuals of a fit through all periods."""
    one = (treated - treated.mean(axis=1, keepdims=True)).mean(axis=0)
    pool = control - control.mean(axis=1, keepdims=True)
    weights = _fitted(pool, one, ridge)[1]
    return np.asarray(one - weights @ pool)


def _fitted(pool: Array, target: Array, ridge: bool) -> tuple[Array, Array]:
    """Plain weights, and those wanted."""
    plain = simplex_weights(pool.T, target)
    if not ridge:
        return plain, plain
    middle = pool.mean(axis=0)
    centred, aim = pool - middle, target - middle
    return plain, plain + _augmentation(centred, aim, plain, _penalty(centred, aim))
