"""How new customers answer to money, in truth: carry-over, then saturation, week by week.

A week's stock is ``a[t] = decay * a[t-1] + (1 - decay) * x[t]`` (geometric adstock, Broadbent 1979); new customers are
``amplitude * curve(stock / scale)`` with an exponential or hyperbolic curve. Both are concave.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.signal import lfilter

WEEKS = 52


def saturate(z: np.ndarray, curves: Sequence[str], axis: int) -> np.ndarray:
    """Share of the amplitude reached at ``z`` (stock in units of the scale); ``axis`` runs over channels."""
    z = np.moveaxis(z, axis, 0)
    out = np.empty_like(z, dtype=float)
    for c, curve in enumerate(curves):
        out[c] = -np.expm1(-z[c]) if curve == "exponential" else z[c] / (1 + z[c])
    return np.moveaxis(out, 0, axis)


def stock(x: np.ndarray, decay: Sequence[float], start: np.ndarray | None = None) -> np.ndarray:
    """Adstock of weekly money ``x`` of shape (m, c, t); ``start`` (m, c): the stock before the first week."""
    out = np.empty_like(x, dtype=float)
    for c, d in enumerate(decay):
        state = np.zeros(len(x)) if start is None else start[:, c]
        out[:, c] = lfilter([1 - d], [1.0, -d], x[:, c], axis=-1, zi=d * state[:, None])[0]
    return out


def steady_stock(x: np.ndarray, decay: Sequence[float]) -> np.ndarray:
    """Adstock where the weeks of ``x`` repeat for ever: what a plan does once its carry-over is counted in full."""
    once = stock(x, decay)
    t = np.arange(1, x.shape[2] + 1)
    d = np.asarray(decay, dtype=float)[None, :, None]
    return once + once[..., -1:] * d**t / (1 - d ** x.shape[2])


def weekly_customers(amplitude: np.ndarray, scale: np.ndarray, a: np.ndarray, curves: Sequence[str]) -> np.ndarray:
    """New customers (m, c, t) a week from the stock ``a``; ``amplitude`` a week, ``scale`` (money a week): (m, c)."""
    return amplitude[..., None] * saturate(a / scale[..., None], curves, axis=1)
