"""Does spend follow demand? And what is left of its effect when that part is taken out.

Spend of coming weeks cannot cause today's customers: where customers go with it, spend follows demand (Sims 1972,
American Economic Review 62, 540-552). If demand is a first-order autoregression and spend reveals it with noise, the
best guess of today's demand from all spend weighs leads and lags alike, less the further away (Wiener smoothing): so
the part of spend that all channels share in a market's week enters the regression as a control, with free weight today
and mirrored, fading weights for the weeks around. What carries over looks back; what follows demand looks both ways.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from micromarket.response.covariance import common_effects
from micromarket.response.linear import inverse_of
from micromarket.response.model import SaturatingPanel
from micromarket.response.transform import Array, saturated

FADES = (0.2, 0.4, 0.6, 0.8)
LEADS = 3
REACH = 12
# Evidence needed before the control enters: where spend is set without looking it only costs precision.
MAX_P = 0.001
LEAST_REGION = 4


@dataclass(frozen=True)
class Endogeneity:
    """What leads say.

    Attributes
    ----------
    p_value : float
        Chance of leads like these where spend is set without looking at demand.
    follows : bool
    fade : float or None
        Weight of a period against the one nearer to today, where the control enters.
    """

    p_value: float
    follows: bool
    fade: float | None


def movement(spend: Array, region: NDArray[np.int64] | None) -> Array:
    """What spend of all channels does together, beside market, region and period: (periods, markets), log scale.

    Channels are weighed by their precision. Flights of whole regions are no reaction to one market's demand.
    """
    periods, markets, channels = spend.shape
    used = spend > 1e-3 * np.maximum(spend.mean(axis=0), 1e-300)
    log = np.log(np.where(used, spend, 1.0))
    code = np.zeros(markets, dtype=np.int64) if region is None else region
    if region is not None:  # regions of a few markets would leave nothing
        small = np.bincount(code)[code] < LEAST_REGION
        code = np.where(small, code.max() + 1, code)
    code = np.unique(code, return_inverse=True)[1]
    groups = int(code.max()) + 1
    order = np.argsort(code, kind="stable")
    starts = np.searchsorted(code[order], np.arange(groups))
    total, weight = np.zeros((periods, markets)), np.zeros((periods, markets))
    for c in range(channels):
        on = used[..., c]
        v = np.where(on, log[..., c], 0.0)
        count = np.maximum(np.add.reduceat(on[:, order], starts, axis=1), 1)[:, code]
        for _ in range(4):
            v = np.where(on, v - v.sum(axis=0) / np.maximum(on.sum(axis=0), 1), 0.0)
            v = np.where(on, v - np.add.reduceat(v[:, order], starts, axis=1)[:, code] / count, 0.0)
        if not on.any():
            continue
        sd = max(float(np.sqrt((v**2).sum() / on.sum())), 1e-6)
        v = np.clip(v, -4 * sd, 4 * sd)
        total += v / sd**2
        weight += on / sd**2
    return total / np.maximum(weight, 1e-300)


def shifted(a: Array, by: int) -> Array:
    """``a`` as it will be ``by`` periods later; 0 (its mean) where that is not known."""
    out = np.zeros_like(a)
    if by >= 0:
        out[: len(a) - by] = a[by:]
    else:
        out[-by:] = a[:by]
    return out


def mirrored(v: Array, fade: float, alone: bool) -> Array:
    """Columns of the control: today, and the periods around it with fading weights (one column for a lone channel)."""
    around = sum(fade ** (j - 1) * (shifted(v, j) + shifted(v, -j)) for j in range(1, min(REACH, len(v) // 4) + 1))
    if alone:  # with one channel today's weight cannot be told from its effect: it follows from the leads
        return (v + fade * np.asarray(around))[..., None]
    return np.stack([v, np.asarray(around)], axis=-1)


def control(spend: Array, region: NDArray[np.int64] | None, found: Endogeneity) -> Array:
    """Columns (periods, markets, 1 or 2) for the regression where ``found`` says that spend follows demand."""
    assert found.fade is not None
    return mirrored(movement(spend, region), found.fade, spend.shape[2] == 1)


def diagnose(
    model: SaturatingPanel, outcome: Array, spend: Array, region: NDArray[np.int64] | None, extra: Array
) -> Endogeneity:
    """Tests the leads at a fitted ``model``; ``spend`` without what is known to be randomised.

    ``extra``: the columns that the model was fitted with.
    """
    if len(outcome) < 30 or outcome.shape[1] < 10:
        return Endogeneity(1.0, False, None)
    v = movement(spend, region)
    if not float(v.std()) > 1e-6:
        return Endogeneity(1.0, False, None)
    rows = model.few_
    white = model.whitening_
    cut = lambda a: np.ascontiguousarray(white.apply(a[:, rows]).transpose(1, 0, 2))  # noqa: E731
    x = cut(saturated(spend, model.shape_) * model.weight_)
    target = np.ascontiguousarray(white.apply(outcome[:, rows]).T)
    prior, noise = inverse_of(model.slope_covariance_), model.noise_[rows]
    base = cut(extra)

    def regress(more: Array) -> tuple[Array, Array]:
        return common_effects(x, np.concatenate([base, cut(more)], axis=2), target, noise, prior, white.basis)

    leads = np.stack([shifted(v, j) for j in range(1, LEADS + 1)], axis=-1)
    found, covariance = regress(leads)
    b, s = found[-LEADS:], covariance[-LEADS:, -LEADS:]
    p = float(chi2.sf(float(b @ np.linalg.solve(s, b)), LEADS))
    if not (p < MAX_P and float(b.sum()) > 0):
        return Endogeneity(p, False, None)
    alone = spend.shape[2] == 1
    best = (-np.inf, FADES[0])
    for fade in FADES:
        coefficients, spread = regress(mirrored(v, fade, alone))
        # the fade under which the periods around explain most
        best = max(best, (float(coefficients[-1] / np.sqrt(max(spread[-1, -1], 1e-300))), fade))
    return Endogeneity(p, True, best[1])
