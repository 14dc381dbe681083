"""Blocked analysis of covariance: treated against control within blocks of like markets, on the log scale."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from micromarket.proof.estimators.inversion import RankTest
from micromarket.proof.estimators.simplex import Array

Ints = NDArray[np.int64]
HALF = 0.5  # added to counts, so that a market that won nobody is no infinity


def log_levels(counts: Array, split: int, before: int, after: int) -> tuple[Array, Array]:
    """Logs of what markets won a period in the ``before`` periods up to ``split`` and the ``after`` from it.

    Parameters
    ----------
    counts : array of shape (markets, periods)
        New customers, or revenue.
    """
    scale = HALF if counts.max(initial=0.0) else 1.0
    early = counts[:, split - before : split].sum(axis=1)
    late = counts[:, split : split + after].sum(axis=1)
    return np.log((early + scale) / before), np.log((late + scale) / after)


def shuffled(arms: Ints, blocks: Ints, draws: int, seed: int) -> Ints:
    """``draws`` random assignments of the same arms within the same blocks, shape (draws, markets)."""
    rng = np.random.default_rng([seed, len(arms)])
    home = np.lexsort((np.arange(len(blocks)), blocks))
    out = np.empty((draws, len(arms)), dtype=np.int64)
    for row in out:
        away = np.lexsort((rng.random(len(blocks)), blocks))
        row[home] = arms[away]
    return out


def contrasts(treated: NDArray[np.bool_], blocks: Ints, weights: Array) -> Array:
    """Treated average less control average of every block, blocks weighted; shape like ``treated``, rows apart.

    Parameters
    ----------
    treated : bool array of shape (assignments, markets)
    blocks : int array of shape (markets,), 0, 1, 2, …
    weights : array of shape (blocks,)
        Any scale; blocks without both kinds must have 0.
    """
    share = weights / max(float(weights.sum()), 1e-300)
    size = np.bincount(blocks, minlength=len(weights)).astype(float)
    first = treated[0]
    ones = np.bincount(blocks, first, len(weights))
    zeros = size - ones
    up = np.divide(share, ones, out=np.zeros_like(share), where=ones > 0)[blocks]
    down = np.divide(share, zeros, out=np.zeros_like(share), where=zeros > 0)[blocks]
    return np.where(treated, up, -down)


def within(values: Array, blocks: Ints) -> Array:
    """Values less their block's mean."""
    size = np.maximum(np.bincount(blocks), 1)
    return values - (np.bincount(blocks, values) / size)[blocks]


def blocked_test(early: Array, late: Array, blocks: Ints, weights: Array, drawn: Array, others: Array) -> RankTest:
    """Effect on logs of treated against control, adjusted for the time before, with its re-randomisation test.

    The slope on ``early`` is fitted within blocks without a look at who was treated, so under the sharp null it is the
    same for every assignment and the test stays exact. Lin (2013), *Annals of Applied Statistics* 7:295; Imbens &
    Rubin (2015), *Causal Inference*, chapters 5 and 9.

    Parameters
    ----------
    early, late : arrays of shape (markets,)
        See :func:`log_levels`.
    blocks, weights
        See :func:`contrasts`.
    drawn : array of shape (markets,)
        Contrast of the assignment that was drawn.
    others : array of shape (assignments, markets)
        Contrasts of those that might have been.
    """
    z = (drawn > 0).astype(float)
    x, y, dz = within(early, blocks), within(late, blocks), within(z, blocks)
    w = weights[blocks]
    base = float(w @ x**2)
    b_y, b_z = (float(w @ (x * y)) / base, float(w @ (x * dz)) / base) if base > 0 else (0.0, 0.0)
    left, moved = y - b_y * x, dz - b_z * x
    return RankTest(float(drawn @ left), float(drawn @ moved), others @ left, others @ moved)


def lift_of(effect: float) -> float:
    """Relative lift from an effect on logs; infinite ends stay infinite, or -1."""
    return float(np.expm1(effect)) if effect < 50 else np.inf
