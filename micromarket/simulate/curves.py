"""How new customers answer to money, in truth: carry-over, then saturation, week by week.

A week's stock is ``a[t] = decay * a[t-1] + (1 - decay) * x[t]`` (geometric adstock, Broadbent 1979); new customers are
``amplitude * curve(stock / scale)`` with an exponential or hyperbolic curve, both concave, or with a threshold: little
money does almost nothing (Hill curve with slope 3).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.signal import lfilter

WEEKS = 52
THRESHOLD = 3.0  # slope of the Hill curve
Decay = Sequence[float] | np.ndarray  # by channel, or (m, c)


def saturate(z: np.ndarray, curves: Sequence[str], axis: int) -> np.ndarray:
    """Share of the amplitude reached at ``z`` (stock in units of the scale); ``axis`` runs over channels."""
    z = np.moveaxis(z, axis, 0)
    out = np.empty_like(z, dtype=float)
    for c, curve in enumerate(curves):
        if curve == "threshold":
            out[c] = z[c] ** THRESHOLD / (1 + z[c] ** THRESHOLD)
        else:
            out[c] = -np.expm1(-z[c]) if curve == "exponential" else z[c] / (1 + z[c])
    return np.moveaxis(out, 0, axis)


def stock(x: np.ndarray, decay: Decay, start: np.ndarray | None = None) -> np.ndarray:
    """Adstock of weekly money ``x`` of shape (m, c, t); ``start`` (m, c): the stock before the first week."""
    out = np.empty_like(x, dtype=float)
    own = np.asarray(decay, dtype=float)
    if own.ndim == 2:
        state = np.zeros(x.shape[:2]) if start is None else start
        for t in range(x.shape[2]):
            state = own * state + (1 - own) * x[..., t]
            out[..., t] = state
        return out
    for c, d in enumerate(decay):
        state = np.zeros(len(x)) if start is None else start[:, c]
        out[:, c] = lfilter([1 - d], [1.0, -d], x[:, c], axis=-1, zi=d * state[:, None])[0]
    return out


def steady_stock(x: np.ndarray, decay: Decay) -> np.ndarray:
    """Adstock where the weeks of ``x`` repeat for ever: what a plan does once its carry-over is counted in full."""
    once = stock(x, decay)
    t = np.arange(1, x.shape[2] + 1)
    d = np.asarray(decay, dtype=float)
    d = d[None, :, None] if d.ndim == 1 else d[..., None]
    return once + once[..., -1:] * d**t / (1 - d ** x.shape[2])


def weekly_customers(amplitude: np.ndarray, scale: np.ndarray, a: np.ndarray, curves: Sequence[str]) -> np.ndarray:
    """New customers (m, c, t) a week from the stock ``a``; ``amplitude`` a week, ``scale`` (money a week): (m, c)."""
    return amplitude[..., None] * saturate(a / scale[..., None], curves, axis=1)
