"""What randomised pulses of spend say by themselves: the level of response without what follows demand."""

from __future__ import annotations

import numpy as np

from micromarket.response.covariance import common_effects
from micromarket.response.experiments import Window
from micromarket.response.linear import inverse_of
from micromarket.response.model import SaturatingPanel
from micromarket.response.transform import Array, saturated

MOST_MARKETS = 1_500
# Standard errors of n pulsed markets are too small by about sqrt(1 + 20 / n): what would have been spent is a guess,
# and demand swings differ. Judged on simulated panels, seeds 21 to 23 of the benchmark; others are reported there.
FEW = 20


def pulse_effects(
    model: SaturatingPanel, outcome: Array, spend: Array, without: Array, extra: Array, drawn: list[Window]
) -> dict[int, tuple[float, float]]:
    """By channel (index): effect that the drawn windows alone show, in units of ``model.base_beta_``, and its variance.

    The pressure that chance added, ``sat(spend) - sat(spend without the windows)``, gets a coefficient of its own
    beside that of all other spend (two parts of one regressor, the second of which is independent of demand).

    Parameters
    ----------
    without : array (periods, markets, channels)
        Spend as it would have been.
    """
    mine = sorted({w.channel for w in drawn if not w.readout})
    if not mine:
        return {}
    touched = np.unique(np.concatenate([w.rows for w in drawn if not w.readout]))
    others = np.setdiff1d(model.few_, touched)
    rows = np.sort(np.concatenate([touched[:MOST_MARKETS], others[: max(MOST_MARKETS - len(touched), 0)]]))
    white, weight = model.whitening_, (model.base_beta_ * model.weight_ * model.own_.mean)[rows]
    after, before = saturated(spend[:, rows], model.shape_) * weight, saturated(without[:, rows], model.shape_) * weight

    def cut(a: Array) -> Array:
        return np.ascontiguousarray(white.apply(a).transpose(1, 0, 2))

    more = np.concatenate([extra[:, rows], (after - before)[..., mine]], axis=2)
    x = after.copy()
    x[..., mine] = before[..., mine]
    target = np.ascontiguousarray(white.apply(outcome[:, rows]).T)
    spread = np.diag(model.own_.omega**2 + 1e-4)
    found, covariance = common_effects(
        cut(x), cut(more), target, model.noise_[rows], inverse_of(spread), white.basis, model.tilt_[rows]
    )
    k, out = len(mine), {}
    for i, c in enumerate(mine):
        variance = float(covariance[len(found) - k + i, len(found) - k + i])
        variance *= 1 + FEW / sum(len(w.rows) for w in drawn if w.channel == c and not w.readout)
        if np.isfinite(variance) and variance > 0:
            out[c] = (float(found[len(found) - k + i]), variance)
    return out
