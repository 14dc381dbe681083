"""The one-sided part: how far each market stays behind what markets like it can reach, beyond the noise of counts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_ndtr, ndtri, roots_hermite
from scipy.stats import chi2

from micromarket.potential.families import Family, FloatArray

_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)
_GAMMAS = (0.0, 0.3, 0.5, 0.65, 0.8, 0.9, 0.96, 0.99)
_NODES, _WEIGHTS = roots_hermite(11)
_LARGEST_FIT = 3_000


@dataclass(frozen=True)
class Posterior:
    """Per market, on the scale of the linear predictor and relative to ``eta``.

    ``noise`` (mean and sd): the market's lasting symmetric difference; ``gap``: the one-sided shortfall (at least 0).
    """

    noise: FloatArray
    noise_sd: FloatArray
    gap: FloatArray
    gap_sd: FloatArray


@dataclass(frozen=True)
class _Shape:
    """One composed-error distribution: level ``shift``, spread ``sigma``, one-sided part ``gamma`` in (-1, 1)."""

    shift: float
    sigma: float
    gamma: float
    log_likelihood: float


class CountFrontier:
    """Stochastic frontier for counts: ``n ~ Family(size, eta + shift + v - u)``, v normal, u half-normal.

    The normal / half-normal composed error of Aigner, Lovell & Schmidt (1977) inside a count likelihood (Fe & Hofler
    2013), integrated by adaptive Gauss-Hermite quadrature, so that small markets carry exactly as much weight as
    their counts bear. ``u`` given the data follows Jondrow et al. (1982, JLMS). ``gamma = sigma_u / sigma`` is averaged
    over a grid by its profile likelihood instead of being fixed at its maximum: how much of the spread is one-sided is
    what the data say least about.

    Parameters
    ----------
    family : Family
    one_sided : bool
        ``False``: only symmetric differences.

    Attributes
    ----------
    shapes_, weights_ : composed-error distributions and their weights (sum 1)
    sigma_u_, sigma_v_ : weighted means, units of the linear predictor
    skew_ : "one-sided", "unclear", "wrong sign" or "not tested"
    p_value_ : of no one-sided part (mixed chi-square of Coelli 1995); nan when not tested
    """

    def __init__(self, family: Family, one_sided: bool = True):
        self.family = family
        self.one_sided = one_sided

    def fit(self, n: FloatArray, size: FloatArray, eta: FloatArray) -> CountFrontier:
        """``n``: customers; ``size``: buyers (or 1); ``eta``: predicted average level, all of shape (markets,)."""
        if len(n) > _LARGEST_FIT:  # the shape has three parameters: a spread-out sample says the same
            pick = np.argsort(eta, kind="stable")[np.linspace(0, len(n) - 1, _LARGEST_FIT).astype(int)]
            n, size, eta = n[pick], size[pick], eta[pick]
        start = np.array([0.0, math.log(_moment_spread(self.family, n, size, eta))])
        shapes: list[_Shape] = []
        for gamma in _GAMMAS if self.one_sided else (0.0,):
            shape, start = self._fit_shape(gamma, n, size, eta, start)
            shapes.append(shape)
        symmetric = shapes[0].log_likelihood
        best = max(s.log_likelihood for s in shapes)
        self.skew_, self.p_value_ = "not tested", math.nan
        if self.one_sided:
            _, base = self._fit_shape(0.0, n, size, eta, start)
            wrong = max(self._fit_shape(-g, n, size, eta, base)[0].log_likelihood for g in (0.65, 0.9))
            ratio = 2 * (best - symmetric)
            self.p_value_ = 1.0 if ratio <= 0 else 0.5 * float(chi2.sf(ratio, 1))
            self.skew_ = "wrong sign" if wrong > best else "one-sided" if self.p_value_ < 0.05 else "unclear"
            if self.skew_ == "wrong sign":
                shapes = shapes[:1]
        relative = np.array([s.log_likelihood - best for s in shapes])
        weights = np.exp(relative - relative.max())
        keep = weights > 0.01 * weights.max()
        self.shapes_ = tuple(s for s, k in zip(shapes, keep, strict=True) if k)
        self.weights_ = weights[keep] / weights[keep].sum()
        self.sigma_u_ = float(sum(w * s.sigma * s.gamma for w, s in zip(self.weights_, self.shapes_, strict=True)))
        self.sigma_v_ = float(
            sum(w * s.sigma * math.sqrt(1 - s.gamma**2) for w, s in zip(self.weights_, self.shapes_, strict=True))
        )
        return self

    def posterior(self, n: FloatArray, size: FloatArray, eta: FloatArray) -> list[Posterior]:
        """One :class:`Posterior` a shape (same order as ``weights_``); ``noise`` includes the shape's level shift."""
        return [_posterior(self.family, s, n, size, eta) for s in self.shapes_]

    def _fit_shape(
        self, gamma: float, n: FloatArray, size: FloatArray, eta: FloatArray, start: FloatArray
    ) -> tuple[_Shape, FloatArray]:
        """Best level and spread given ``gamma``; parametrised by mean and sd of v - u, which ``gamma`` barely moves."""
        drop, narrow = abs(gamma) * math.sqrt(2 / math.pi), math.sqrt(1 - 2 * gamma**2 / math.pi)

        def shape(theta: FloatArray) -> _Shape:
            sigma = math.exp(min(max(theta[1], -6.0), 3.0)) / narrow
            return _Shape(float(theta[0]) + math.copysign(drop, gamma) * sigma * (gamma != 0), sigma, gamma, 0.0)

        def loss(theta: FloatArray) -> float:
            # a weak prior on the log spread keeps it finite where counts show no spread at all
            prior = 0.5 * ((theta[1] + 1.0) / 2.0) ** 2 + 0.5 * (theta[0] / 5.0) ** 2
            return -float(_marginal(self.family, shape(theta), n, size, eta).sum()) + prior

        simplex = np.vstack([start, start + np.array([0.1, 0.0]), start + np.array([0.0, 0.1])])
        found = minimize(
            loss, start, method="Nelder-Mead",
            options={"initial_simplex": simplex, "xatol": 2e-3, "fatol": 2e-2, "maxfev": 80},
        )  # fmt: skip
        fitted = shape(found.x)
        return _Shape(fitted.shift, fitted.sigma, gamma, -float(found.fun)), found.x


def _moment_spread(family: Family, n: FloatArray, size: FloatArray, eta: FloatArray) -> float:
    """Spread beyond count noise by moments, as a starting value."""
    rate = family.rate(eta)
    information = size * family.slope(rate)
    step = (n - size * rate) / np.maximum(information, 1e-9)
    weight = information / (1 + information)
    inside = np.abs(step) < 3
    if not inside.any():
        return 0.5
    excess = np.average(step[inside] ** 2 - 1 / np.maximum(information[inside], 1e-9), weights=weight[inside] + 1e-12)
    return math.sqrt(min(max(excess, 1e-3), 4.0))


def _log_prior(shape: _Shape, w: FloatArray) -> FloatArray:
    """Log density of v - u (skew-normal; Aigner, Lovell & Schmidt 1977, with lambda = sigma_u / sigma_v)."""
    slant = shape.gamma / math.sqrt(1 - shape.gamma**2)
    z = w / shape.sigma
    return -0.5 * z**2 - math.log(shape.sigma) - _LOG_SQRT_2PI + (
        math.log(2) + log_ndtr(-slant * z) if shape.gamma else 0.0
    )  # fmt: skip


def _mode(
    family: Family, shape: _Shape, n: FloatArray, size: FloatArray, eta: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Mode and curvature-based sd of w given the count, by Newton steps on a concave function."""
    slant = shape.gamma / math.sqrt(1 - shape.gamma**2)
    at = eta + shape.shift
    precision = 1 / shape.sigma**2
    rate = family.rate(at)
    information = size * family.slope(rate)
    w = np.clip((n - size * rate) / (information + precision), -3 * shape.sigma, 3 * shape.sigma)
    curve = np.empty_like(w)
    for _ in range(25):
        rate = family.rate(at + w)
        gradient = n - size * rate - w * precision
        curve = size * family.slope(rate) + precision
        if shape.gamma:
            z = -slant * w / shape.sigma
            mills = np.exp(-0.5 * z**2 - _LOG_SQRT_2PI - log_ndtr(z))
            gradient = gradient - slant / shape.sigma * mills
            curve = curve + (slant / shape.sigma) ** 2 * mills * (z + mills)
        step = np.clip(gradient / curve, -1.0, 1.0)
        w = w + step
        if np.abs(step).max(initial=0.0) < 1e-4:
            break
    return w, 1 / np.sqrt(curve)


def _nodes(
    family: Family, shape: _Shape, n: FloatArray, size: FloatArray, eta: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Quadrature nodes of w, shape (markets, nodes), and the log of weight x integrand there."""
    mode, sd = _mode(family, shape, n, size, eta)
    w = mode[:, None] + math.sqrt(2) * sd[:, None] * _NODES
    value = family.log_likelihood(n[:, None], size[:, None], (eta + shape.shift)[:, None] + w) + _log_prior(shape, w)
    return w, value + _NODES**2 + np.log(_WEIGHTS) + np.log(math.sqrt(2) * sd)[:, None]


def _marginal(family: Family, shape: _Shape, n: FloatArray, size: FloatArray, eta: FloatArray) -> FloatArray:
    _, value = _nodes(family, shape, n, size, eta)
    top = value.max(axis=1)
    return top + np.log(np.exp(value - top[:, None]).sum(axis=1)) - _constant(family, n, size)


def _constant(family: Family, n: FloatArray, size: FloatArray) -> FloatArray:
    """The saturated log-likelihood: keeps sums of log-likelihoods small, so that differences keep their digits."""
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.where(n > 0, n * np.log(n / size), 0.0)
        if family.bounded:
            return part + np.where(size > n, (size - n) * np.log1p(-n / size), 0.0)
    return part - n


def _posterior(family: Family, shape: _Shape, n: FloatArray, size: FloatArray, eta: FloatArray) -> Posterior:
    w, value = _nodes(family, shape, n, size, eta)
    p = np.exp(value - value.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    mean_w = (p * w).sum(axis=1)
    var_w = (p * (w - mean_w[:, None]) ** 2).sum(axis=1)
    if not shape.gamma:
        zero = np.zeros_like(mean_w)
        return Posterior(mean_w + shape.shift, np.sqrt(var_w), zero, zero)
    mean_u, var_u = _half_normal_given(shape, w)
    gap = (p * mean_u).sum(axis=1)
    gap_var = (p * (var_u + (mean_u - gap[:, None]) ** 2)).sum(axis=1)
    noise = (p * (w + mean_u)).sum(axis=1)
    noise_var = (p * (var_u + (w + mean_u - noise[:, None]) ** 2)).sum(axis=1)
    return Posterior(noise + shape.shift, np.sqrt(noise_var), gap, np.sqrt(gap_var))


def _half_normal_given(shape: _Shape, w: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and variance of u given v - u = w: normal(-w gamma^2, sigma gamma sqrt(1 - gamma^2)) cut at 0 (JLMS)."""
    spread = shape.sigma * shape.gamma * math.sqrt(1 - shape.gamma**2)
    a = -w * shape.gamma**2 / spread
    mills = np.exp(-0.5 * a**2 - _LOG_SQRT_2PI - log_ndtr(a))
    return spread * (a + mills), np.maximum(spread**2 * (1 - mills * (a + mills)), 0.0)


def best_fifth(spread: float) -> float:
    """How far above the average the best fifth of markets like it starts, in units of the linear predictor."""
    return float(ndtri(0.8)) * spread


__all__ = ["CountFrontier", "Posterior", "best_fifth"]
