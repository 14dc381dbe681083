"""Standard errors of what all markets share, robust to dependence within a market and within a region's period."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from micromarket.response.linear import Block, NormalEquations, information
from micromarket.response.modifiers import PRIOR_HALF_SD, PRIOR_LOGIT_SD, PRIOR_ROOM_SD
from micromarket.response.search import Found
from micromarket.response.transform import Array, saturated_with_slopes


def sandwich(found: Found, spend: Array, weight: Array, log_room: Array, region: NDArray[np.int64] | None) -> Array:
    """Covariance of (beta, logit decay, log half, strength of the room, coefficients of the extra columns).

    Clusters both ways: markets, and regions x periods (Liang & Zeger 1986; Cameron, Gelbach & Miller 2011). Curves are
    linearised at the posterior slopes (Lindstrom & Bates 1990).
    """
    fit, channels = found.fit, spend.shape[2]
    parts = saturated_with_slopes(spend, found.hyper.shape)
    columns = [parts[0] * weight, *(p * (weight * fit.slopes) for p in parts[1:])]
    columns.append((columns[0] * (fit.slopes * log_room[:, None])).sum(axis=2, keepdims=True))
    design = found.whitening.apply(np.concatenate(columns, axis=2)).transpose(1, 0, 2)
    design = np.ascontiguousarray(np.concatenate([design, fit.block.extra], axis=2))
    w = fit.block.precision
    bread, centred = information(fit.block, design, fit.normal)
    size = design.shape[2]
    prior = np.zeros((size, size))
    weak = np.repeat([PRIOR_LOGIT_SD**-2, PRIOR_HALF_SD**-2], channels)
    where = np.arange(channels, 3 * channels + 1)
    prior[where, where] = np.append(weak, PRIOR_ROOM_SD**-2)
    each = centred * (fit.residual * w[:, None])[..., None]
    scores = each.sum(axis=1)
    meat = scores.T @ scores * (len(w) / max(len(w) - size, 1))
    if region is not None and 1 < len(np.unique(region)) < len(region):
        shared = np.zeros((int(region.max()) + 1, *each.shape[1:]))
        np.add.at(shared, region, each)
        extra = np.einsum("rtp,rtq->pq", shared, shared) - np.einsum("mtp,mtq->pq", each, each, optimize=True)
        values, vectors = np.linalg.eigh(extra)
        meat += (vectors * np.maximum(values, 0.0)) @ vectors.T
    meat += prior
    inverse = np.linalg.inv(bread + prior + 1e-10 * np.diag(np.diag(bread)) + 1e-12 * np.eye(size))
    return inverse @ meat @ inverse


def common_effects(
    x: Array, extra: Array, target: Array, noise: Array, prior: Array, basis: Array, tilt: Array
) -> tuple[Array, Array]:
    """Coefficients of (x, extra) at given variances, and their covariance: robust to dependence in a market, at least
    the model's.

    Parameters
    ----------
    x, extra, target : arrays (markets, periods, columns), (markets, periods, columns), (markets, periods)
        Whitened; ``x`` has random slopes with inverse covariance ``prior``.
    """
    block = Block.of(x, extra, target, 1 / noise, prior, tilt)
    design = np.concatenate([x, extra], axis=2)
    normal = NormalEquations(basis, design.shape[2])
    normal.add(block)
    effects = normal.solve()
    bread, centred = information(block, design, normal)
    scores = np.einsum("mtp,mt->mp", centred, block.weighted(effects.part(block)[..., None])[..., 0], optimize=True)
    meat = scores.T @ scores * (len(noise) / max(len(noise) - design.shape[2], 1))
    inverse = np.linalg.inv(bread + 1e-9 * np.diag(np.diag(bread)) + 1e-12 * np.eye(len(bread)))
    robust = inverse @ meat @ inverse
    # few markets say much about a column that few have: their scatter alone would make it look surer than it is
    lift = np.sqrt(np.maximum(np.diag(inverse) / np.maximum(np.diag(robust), 1e-300), 1.0))
    return effects.coefficients, robust * np.outer(lift, lift)
