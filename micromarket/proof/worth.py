"""What a test is worth: how much better the budget would be decided with its result (expected value of information)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from micromarket.allocation.limits import solve
from micromarket.config import Budget
from micromarket.errors import InfeasibleError
from micromarket.proof.cells import Stage
from micromarket.proof.estimators.simplex import Array

_TILTS = (-1.5, -0.5, 0.5, 1.5)  # standard deviations of a channel's effect
_REPEATS = 6  # imagined results a draw
_SPREAD = 0.7  # width of a tilt, standard deviations
_MOST_CELLS = 40_000  # beyond, decisions are made on fewer tilts


def decisions(stage: Stage, limits: Budget) -> Array:
    """Value (money, plan period) by draw of budgets that one might decide for, shape (decisions, draws).

    The recommended one, today's, and the best ones should a channel turn out weaker or stronger, alone or against
    another. A finite list makes the worth of information a lower bound.
    """
    curves, draws = stage.curves, stage.draws
    effect = np.array([
        (draws.amplitude * (curves.current / (curves.current + draws.half_spend.mean(axis=1)))[:, None])[
            curves.channel == c
        ].sum(axis=0)
        for c in range(len(curves.channels))
    ])  # fmt: skip
    spread = effect.std(axis=1)
    score = (effect - effect.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1.0)[:, None]
    live = np.flatnonzero(spread > 0)
    tilts = _TILTS if len(curves.current) <= _MOST_CELLS else (-1.0, 1.0)
    aims = [{int(c): t} for c in live for t in tilts]
    if len(live) <= 6 and len(curves.current) <= _MOST_CELLS:
        aims += [{int(c): 1.0, int(d): -1.0} for c in live for d in live if c != d]
    budgets = [stage.recommended, curves.current]
    for aim in aims:
        distance = sum((score[c] - t) ** 2 for c, t in aim.items())
        weight = np.exp(-0.5 * distance / _SPREAD**2)
        amplitude = draws.amplitude @ (weight / weight.sum())
        try:
            budgets.append(solve(replace(curves, amplitude=amplitude), limits, stage.total).spend)
        except InfeasibleError:
            continue
    return np.array([draws.gains(b) for b in budgets])


def value_of_sample(values: Array, signals: Array, errors: Array, seed: int) -> tuple[float, float]:
    """Expected gain of deciding after the results instead of before (Raiffa & Schlaifer 1961).

    Every draw gives noisy results; what each decision is worth given the results is their regression on them (Strong,
    Oakley, Brennan & Breeze 2015, *Medical Decision Making* 35:570), quadratic in every result. One half of the draws
    says which decision is best after which results, the other what that brings: luck of the draws earns nothing.

    Parameters
    ----------
    values : array of shape (decisions, draws)
        The best on average is what will be decided without a test.
    signals : array of shape (results, draws)
        What each result would be without noise.
    errors : array of shape (results,)
        Standard errors.

    Returns
    -------
    worth, error : float
        Money, at least 0, and its own standard error over draws.
    """
    count = values.shape[1]
    if count < 20 or not len(errors):
        return 0.0, 0.0
    edge = values - values[int(np.argmax(values.mean(axis=1)))]
    rng = np.random.default_rng([seed, 31])
    scaled = signals / errors[:, None]
    parts = []
    for _ in range(_REPEATS):
        design = _design(scaled + rng.standard_normal(scaled.shape))
        order = rng.permutation(count)
        for here, there in ((order[: count // 2], order[count // 2 :]), (order[count // 2 :], order[: count // 2])):
            rule, judge = (np.linalg.lstsq(design[half], edge[:, half].T, rcond=None)[0] for half in (here, there))
            chosen = np.argmax(design[there] @ rule, axis=1)
            parts.append((design[there] @ judge)[np.arange(len(there)), chosen])
    gained = np.concatenate(parts)
    return max(float(gained.mean()), 0.0), float(gained.std() / np.sqrt(count))


def _design(results: Array) -> Array:
    """(draws, columns) one, and every result with its square, standardised."""
    y = (results - results.mean(axis=1, keepdims=True)) / np.maximum(results.std(axis=1, keepdims=True), 1e-12)
    return np.vstack([np.ones(y.shape[1]), y, y**2 - 1]).T
