"""Does knowing spend help to predict? Held-out periods and markets, against forecasts that know nothing of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from micromarket.response.covariance import common_effects
from micromarket.response.linear import inverse_of
from micromarket.response.model import SaturatingPanel
from micromarket.response.transform import Array, saturated

LEVEL_PERIODS = 13


@dataclass(frozen=True)
class Skill:
    """Figures of the held-out periods and markets.

    Attributes
    ----------
    periods : float
        Share of the squared error over the last periods, beside each market's and period's mean, that response
        explains. Above 0: spend helps to predict what other markets and the calendar do not.
    markets : float or None
        The same in markets whose history the channel effects have not seen.
    errors : dict of str to float
        Root mean squared error of forecasts of the held-out periods, new customers per market and period: ``response``,
        ``last_period``, ``market_mean``, ``same_period_last_year`` (where the history is long enough).
    """

    periods: float
    markets: float | None
    errors: dict[str, float]


def _centre(a: Array, w: Array) -> Array:
    a = a - a.mean(axis=0)
    return a - (a * w).sum(axis=1, keepdims=True) / w.sum()


def _explained(signal: Array, outcome: Array, w: Array) -> float:
    naive, left = _centre(outcome, w), _centre(outcome - signal, w)
    return float(1 - (left**2 * w).sum() / max(float((naive**2 * w).sum()), 1e-300))


def measure(model: SaturatingPanel, outcome: Array, spend: Array, scale: Array, extra: Array, holdout: int) -> Skill:
    """Hides the last ``holdout`` periods, then every fifth market; among those that the search saw."""
    rows = model.few_
    y, heads = outcome[:, rows], scale[rows]
    pressure = saturated(spend[:, rows], model.shape_) * model.weight_[rows]
    white, w = model.whitening_, 1 / model.noise_[rows]
    train = len(y) - holdout
    prior = inverse_of(model.slope_covariance_)

    def fitted(periods: slice, markets: NDArray[Any]) -> tuple[Array, Array]:
        """Common coefficients, and every market's own slopes, from a part of the panel."""
        part = type(white)(len(y[periods]), white.periods_per_year, white.rho)
        x, more = (
            np.ascontiguousarray(part.apply(a[periods][:, markets]).transpose(1, 0, 2))
            for a in (pressure, extra[:, rows])
        )
        target = np.ascontiguousarray(part.apply(y[periods][:, markets]).T)
        coefficients, _ = common_effects(x, more, target, 1 / w[markets], prior, part.basis, model.tilt_[rows][markets])
        beta, left = coefficients[: x.shape[2]], target - target.mean(axis=0)
        left = left - np.matmul(x - x.mean(axis=0), coefficients[: x.shape[2]])
        across = x.transpose(0, 2, 1) * w[markets][:, None, None]
        own = np.linalg.solve(np.matmul(across, x) + prior, np.matmul(across, left[..., None]))[..., 0]
        return beta, beta + own

    everyone = np.arange(len(rows))
    _, slopes = fitted(slice(0, train), everyone)
    signal = (pressure * np.maximum(slopes, 0.0)).sum(axis=2)
    periods = _explained(signal[train:], y[train:], w)
    markets = None
    if len(rows) >= 40:
        hidden = everyone % 5 == 2
        beta, _ = fitted(slice(0, len(y)), everyone[~hidden])
        markets = _explained((pressure[:, hidden] * beta).sum(axis=2), y[:, hidden], w[hidden])

    span = min(LEVEL_PERIODS, train)
    level = (y - signal)[train - span : train].mean(axis=0)
    forecasts = {
        "response": level + signal[train:],
        "last_period": np.broadcast_to(y[train - 1], y[train:].shape),
        "market_mean": np.broadcast_to(y[train - span : train].mean(axis=0), y[train:].shape),
    }
    year = round(white.periods_per_year) if white.periods_per_year else 0
    if year and train >= year >= holdout:
        forecasts["same_period_last_year"] = y[train - year : train - year + holdout]
    errors = {name: float(np.sqrt((((f - y[train:]) * heads) ** 2).mean())) for name, f in forecasts.items()}
    return Skill(periods, markets, errors)
