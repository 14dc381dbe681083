"""From spend to pressure: carry-over (adstock) and saturation, with their derivatives.

Arrays are (periods, markets, channels) throughout. Geometric adstock ``a_t = decay * a_{t-1} + (1 - decay) * s_t``
keeps the level of even spending (Broadbent 1979); saturation is Michaelis-Menten, ``a / (a + k)``: concave, half its
ceiling at ``a = k`` (Jin et al. 2017, *Bayesian Methods for Media Mix Modeling with Carryover and Shape Effects*, with
slope 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# How many of the first periods stand in for the unknown spend before the panel begins.
START = 8


@dataclass(frozen=True)
class Shape:
    """What all markets share, one number a channel.

    Attributes
    ----------
    logit_decay : array (channels,)
        Logit of the part of one period's pressure that is left a period later.
    log_half : array (channels,)
        Log of the pressure with half the effect, in multiples of the channel's mean spend where it is used.
    """

    logit_decay: Array
    log_half: Array

    @property
    def decay(self) -> Array:
        return 1 / (1 + np.exp(-self.logit_decay))

    @property
    def half(self) -> Array:
        return np.exp(self.log_half)

    @property
    def vector(self) -> Array:
        return np.concatenate([self.logit_decay, self.log_half])

    @staticmethod
    def clipped(logit_decay: Array, log_half: Array) -> tuple[Array, Array]:
        """Both within what a panel can tell."""
        return np.clip(logit_decay, -4.0, 3.5), np.clip(log_half, -3.5, 3.5)


def adstock(spend: Array, decay: Array, start: Array | None = None) -> Array:
    """Pressure from ``spend`` (periods, markets, channels); ``start``: pressure before the first period.

    By default the mean of the first periods: a market that has always spent does not start from nothing.
    """
    level = spend[:START].mean(axis=0) if start is None else start
    out = np.empty_like(spend)
    for t in range(len(spend)):
        level = decay * level + (1 - decay) * spend[t]
        out[t] = level
    return out


def saturated(spend: Array, shape: Shape) -> Array:
    """Share of the ceiling that each market, period and channel reaches, 0 to 1."""
    pressure = adstock(spend, shape.decay)
    return pressure / (pressure + shape.half)


def saturated_with_slopes(spend: Array, shape: Shape) -> tuple[Array, Array, Array]:
    """:func:`saturated` and its derivatives with respect to ``logit_decay`` and ``log_half``."""
    decay, half = shape.decay, shape.half
    pressure = adstock(spend, decay)
    slope = np.zeros_like(pressure[0])
    by_decay = np.empty_like(pressure)
    before = spend[:START].mean(axis=0)
    for t in range(len(spend)):
        slope = decay * slope + before - spend[t]
        by_decay[t] = slope
        before = pressure[t]
    bend = half / (pressure + half) ** 2
    by_decay *= bend * (decay * (1 - decay))
    return pressure / (pressure + half), by_decay, -pressure * bend
