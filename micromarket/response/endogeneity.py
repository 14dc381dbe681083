"""Does spend follow demand? And what is left of its effect when that part is taken out.

Spend of coming weeks cannot cause today's customers: where customers go with it, spend follows demand (Sims 1972,
American Economic Review 62, 540-552). If demand is a first-order autoregression and spend reveals it with noise, the
best guess of today's demand from all spend weighs leads and lags alike, less the further away (Wiener smoothing): so
an index of the channels' spend enters the regression as a control, with free weight today and mirrored, fading weights
for the periods around. What carries over looks back; what follows demand looks both ways. The index is what the
channels share (one factor); where leads differ by channel, it leans to those that follow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from micromarket.response.covariance import common_effects
from micromarket.response.linear import inverse_of, tilt_of
from micromarket.response.model import SaturatingPanel
from micromarket.response.transform import Array, saturated

FADES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
LEADS = 3
REACH = 12
# Chance of leads like these below which spend is said to follow demand.
MAX_P = 0.001
LEAST_REGION = 4
# Below this many channels' worth of an index, today's weight cannot be told from the channel's own effect.
LEAST_CHANNELS = 1.5


@dataclass(frozen=True)
class Endogeneity:
    """What leads say.

    Attributes
    ----------
    p_value : float
        Chance of leads like these where spend is set without looking at demand.
    follows : bool
    weights : array (channels,) or None
        Of the index of spend that enters as a control; ``None``: no control.
    fade : float
        Weight of a period against the one nearer to today.
    in_proportion : bool
        Demand swings in proportion to a market's usual level, not by so many customers a head.
    tied : bool
        Today's weight follows from those around it (else it is free: several channels tell it from their effects).
    """

    p_value: float
    follows: bool
    weights: Array | None = None
    fade: float = 0.5
    in_proportion: bool = True
    tied: bool = False


def movement(spend: Array, region: NDArray[np.int64] | None) -> Array:
    """Log spend beside market, channel, region and period: (periods, markets, channels), 0 where nothing is spent.

    Flights of whole regions are no reaction to one market's demand.
    """
    markets, channels = spend.shape[1:]
    code = np.zeros(markets, dtype=np.int64) if region is None else region
    code = np.where(np.bincount(code)[code] < LEAST_REGION, code.max() + 1, code)  # a few would leave nothing
    code = np.unique(code, return_inverse=True)[1]
    order = np.argsort(code, kind="stable")
    starts = np.searchsorted(code[order], np.arange(int(code.max()) + 1))
    out = np.zeros(spend.shape)
    for c in range(channels):
        on = spend[..., c] > 1e-3 * np.maximum(spend[..., c].mean(axis=0), 1e-300)
        if not on.any():
            continue
        v = np.where(on, np.log(np.where(on, spend[..., c], 1.0)), 0.0)
        count = np.maximum(np.add.reduceat(on[:, order], starts, axis=1, dtype=np.int64), 1)[:, code]
        for _ in range(4):
            v = np.where(on, v - v.sum(axis=0) / np.maximum(on.sum(axis=0), 1), 0.0)
            v = np.where(on, v - np.add.reduceat(v[:, order], starts, axis=1)[:, code] / count, 0.0)
        sd = max(float(np.sqrt((v**2).sum() / on.sum())), 1e-9)
        out[..., c] = np.clip(v, -4 * sd, 4 * sd)
    return out


def shared_weights(v: Array) -> Array:
    """Weights of the best guess of what the channels' movements share: loading over own variance (one factor).

    Where they share nothing to speak of, 1 over variance.
    """
    flat = v.reshape(-1, v.shape[-1])
    cov = flat.T @ flat / max(len(flat), 1)
    variance = np.maximum(np.diag(cov), 1e-12)
    sd = np.sqrt(variance)
    r = cov / np.outer(sd, sd)
    off = r - np.eye(len(r))
    if len(r) < 3 or off.sum() / (len(r) * (len(r) - 1)) < 0.02:
        return 1 / variance
    load = np.full(len(r), np.sqrt(max(off.mean(), 1e-3)))
    for _ in range(100):  # least squares on what is off the diagonal
        new = np.clip((off @ load) / np.maximum((load**2).sum() - load**2, 1e-9), 0.0, 0.98)
        load = (load + new) / 2
    return load / (1 - load**2) / sd


def shifted(a: Array, by: int) -> Array:
    """``a`` as it will be ``by`` periods later; 0 (its mean) where that is not known."""
    out = np.zeros_like(a)
    if by >= 0:
        out[: len(a) - by] = a[by:]
    else:
        out[-by:] = a[:by]
    return out


def _around(v: Array, fade: float, back: bool) -> Array:
    """Periods ahead (and ``back``) with fading weights, the nearest with 1."""
    out = np.zeros_like(v)
    for j in range(1, min(REACH, len(v) // 4) + 1):
        out += fade ** (j - 1) * (shifted(v, j) + shifted(v, -j) if back else shifted(v, j))
    return out


def _column(index: Array, fade: float, lift: float | Array) -> Array:
    """Today and the periods around it, (periods, markets, 1)."""
    return ((index + fade * _around(index, fade, back=True)) * lift)[..., None]


def control(outcome: Array, spend: Array, region: NDArray[np.int64] | None, found: Endogeneity) -> Array:
    """Columns (periods, markets, 1 or 2) for the regression."""
    assert found.weights is not None
    lift = 1 + tilt_of(outcome) if found.in_proportion else 1.0
    index = movement(spend, region) @ found.weights
    if found.tied:
        return _column(index, found.fade, lift)
    return np.stack([index * lift, _around(index, found.fade, back=True) * lift], axis=-1)


def diagnose(
    model: SaturatingPanel, outcome: Array, spend: Array, region: NDArray[np.int64] | None, extra: Array
) -> Endogeneity:
    """Tests the leads at a fitted ``model``; ``spend`` without what is known to be randomised.

    ``extra``: the columns that the model was fitted with.
    """
    channels = spend.shape[2]
    if len(outcome) < 30 or outcome.shape[1] < 10:
        return Endogeneity(1.0, False)
    v = movement(spend, region)
    live, tilt = v.std(axis=(0, 1)) > 1e-6, tilt_of(outcome)
    if not live.any():
        return Endogeneity(1.0, False)
    rows, white = model.few_, model.whitening_
    prior, noise = inverse_of(model.slope_covariance_), model.noise_[rows]

    def cut(a: Array) -> Array:
        return np.ascontiguousarray(white.apply(a[:, rows]).transpose(1, 0, 2))

    x = cut(saturated(spend, model.shape_) * model.weight_)
    target = np.ascontiguousarray(white.apply(outcome[:, rows]).T)
    base = cut(extra)

    def regress(more: Array) -> tuple[Array, Array]:
        """Coefficients of ``more`` and their covariance."""
        found, spread = common_effects(
            x, np.concatenate([base, cut(more)], axis=2), target, noise, prior, white.basis, model.tilt_[rows]
        )
        k = more.shape[2]
        return found[-k:], spread[-k:, -k:]

    weights = np.where(live, shared_weights(np.where(live, v, 1e-9)), 0.0)
    index = v @ weights * (1 + tilt)
    leads = np.stack([shifted(index, j) for j in range(1, LEADS + 1)], axis=-1)
    b, s = regress(leads)
    p = float(chi2.sf(float(b @ np.linalg.solve(s, b)), LEADS)) if b.sum() > 0 else 1.0
    if channels > 1:  # do some channels follow, and others not?
        own, spread = regress(_around(v[..., live] * (1 + tilt)[:, None], 0.5, back=False))
        one = float(chi2.sf(float(own @ np.linalg.solve(spread, own)), len(own))) if own.max() > 0 else 1.0
        p = min(1.0, 2 * min(p, one))
        if one < MAX_P:
            weights[live] = _leaning(own, spread, weights[live])
    follows = p < MAX_P
    size = weights * v.std(axis=(0, 1))
    lone = float(size.sum() ** 2 / max(float((size**2).sum()), 1e-300)) < LEAST_CHANNELS
    if lone and not follows:
        return Endogeneity(p, False)
    index = v @ weights
    best = (-np.inf, FADES[0], 1)
    for fade in FADES:  # what explains most
        for lifted in (0, 1):
            b, s = regress(_column(index, fade, 1 + lifted * tilt))
            best = max(best, (float(b[0] / np.sqrt(max(float(s[0, 0]), 1e-300))), fade, lifted))
    return Endogeneity(p, follows, weights, best[1], bool(best[2]), lone)


def _leaning(own: Array, spread: Array, weights: Array) -> Array:
    """The channels' ``own`` leads, where they clearly differ, shrunk to ``weights`` by empirical Bayes."""
    precision = np.linalg.inv(spread)
    factor = float(weights @ precision @ own / (weights @ precision @ weights))
    if factor <= 0:
        return np.maximum(own, 0.0)
    middle = factor * weights
    apart = float((own - middle) @ precision @ (own - middle))
    if chi2.sf(apart, max(len(own) - 1, 1)) > MAX_P:
        return weights
    away = (own - middle) ** 2 - np.diag(spread)
    between = np.diag(middle**2) * max(float((away / middle**2).mean()), 0.0)
    shrunk = middle + between @ np.linalg.solve(between + spread, own - middle)
    return np.maximum(shrunk, 0.0) if (shrunk > 0).any() else weights
