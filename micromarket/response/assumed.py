"""Curves for who has no history to estimate from: the literature's elasticity, with its wide range."""

from __future__ import annotations

import numpy as np

from micromarket.response.posterior import ELASTICITY_LOG_MEAN, ELASTICITY_LOG_SD
from micromarket.response.result import Curves
from micromarket.response.transform import Array

CHUNK = 2_000


def assumed_curves(new_customers: Array, current: Array, scale: Array, count: int, seed: int) -> Curves:
    """Curves from the literature's elasticity.

    A market's new customers N (plan period) move by e percent when all its spend moves by one percent: split over
    channels by money, half saturated today (``half_spend`` = current), so ``amplitude = 4 e N share``. e is
    log-normal, 90% from .03 to .3 (Sethuraman, Tellis & Briesch 2011), half of its variance common to all channels.
    How far N tells markets apart is not known either: N enters as ``N^t (money x r)^(1 - t)`` with t uniform from 0 (a
    unit of money does the same everywhere) to 1, and each market has its own factor (log-normal, standard deviation
    .5). Cells without spend get their channel's mean curve per head.
    """
    markets, channels = current.shape
    rng = np.random.default_rng(seed)
    z = (rng.standard_normal((count, 1)) + rng.standard_normal((count, channels))) / np.sqrt(2)
    elasticity = np.exp(ELASTICITY_LOG_MEAN + ELASTICITY_LOG_SD * z)
    # the sample's mean is made exact, so that the stated elasticity is the one used
    elasticity *= np.exp(ELASTICITY_LOG_MEAN + ELASTICITY_LOG_SD**2 / 2) / elasticity.mean(axis=0)
    money = current.sum(axis=1)
    share = current / np.maximum(money[:, None], 1e-300)
    amplitude = 4 * new_customers[:, None] * share
    # by draw: how much of the difference between markets is response, and each market's own factor
    even = money * (float(new_customers[money > 0].sum()) / max(float(money.sum()), 1e-300))
    apart = np.log(np.maximum(new_customers, 1e-12) / np.maximum(even, 1e-12)) * (money > 0)
    own = np.exp((rng.random((count, 1)) - 1) * apart + 0.5 * rng.standard_normal((count, markets)))
    keep = new_customers * (money > 0)
    own *= float(keep.sum()) / np.maximum((own @ keep)[:, None], 1e-300)
    used = current > 0
    heads = np.maximum((scale[:, None] * used).sum(axis=0), 1e-300)
    amplitude = np.where(used, amplitude, scale[:, None] * (amplitude.sum(axis=0) / heads))
    half = np.where(used, current, np.maximum(scale[:, None] * (current.sum(axis=0) / heads), 1e-9))
    draws = np.empty((count, markets, channels), dtype=np.float32)
    effect, low, high = (np.zeros((markets, channels)) for _ in range(3))
    for begin in range(0, markets, CHUNK):
        rows = slice(begin, begin + CHUNK)
        draws[:, rows] = elasticity[:, None] * amplitude[rows] * own[:, rows, None]
        now = draws[:, rows] * (current / (current + half))[rows].astype(np.float32)
        effect[rows] = now.mean(axis=0, dtype=float)
        low[rows], high[rows] = np.quantile(now, [0.05, 0.95], axis=0)
    pull = elasticity * (amplitude * used).sum(axis=0) / 4 / max(float(new_customers.sum()), 1e-300)
    return Curves(half, draws, effect, low, high, current, pull, np.ones((count, channels)))
