"""Composed errors ``v - u`` behind counts: normal differences less a one-sided shortfall of several shapes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import log_ndtr, ndtr, ndtri, roots_hermite

from micromarket.potential.families import Family, FloatArray

_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)
_NODES, _WEIGHTS = roots_hermite(11)
# mean and variance of the one-sided part per unit of its scale; a truncated normal has its mode at one scale
_MOMENTS = {
    "half-normal": (math.sqrt(2 / math.pi), 1 - 2 / math.pi),
    "exponential": (1.0, 1.0),
    "truncated normal": (1.2875999709, 0.6297353),
}
KINDS = tuple(_MOMENTS)


@dataclass(frozen=True)
class Shape:
    """One distribution of ``w = v - u`` around ``eta + shift``; scales in units of the linear predictor.

    ``v`` is normal(0, ``sigma_v``); ``u`` is half-normal (Aigner, Lovell & Schmidt 1977), exponential (Meeusen & van
    den Broeck 1977) or normal(scale, scale) cut at 0 (Stevenson 1980), all of one ``scale``; 0: no one-sided part.
    ``sign`` -1: the mirror image, for the test of skew alone.
    """

    kind: str
    shift: float
    sigma_v: float
    scale: float
    sign: int = 1

    @classmethod
    def of_moments(cls, kind: str, share: float, mean: float, sd: float, sign: int = 1) -> Shape:
        """The shape whose ``shift + v - u`` has this mean and sd, a ``share`` (0 to 1) of the variance one-sided."""
        first, second = _MOMENTS[kind]
        scale = sd * math.sqrt(share / second)
        return cls(kind, mean + sign * first * scale, sd * math.sqrt(1 - share), scale, sign)

    @property
    def mean_u(self) -> float:
        return _MOMENTS[self.kind][0] * self.scale

    @property
    def sd_w(self) -> float:
        return math.sqrt(self.sigma_v**2 + _MOMENTS[self.kind][1] * self.scale**2)

    def given_w(self, w: FloatArray) -> tuple[FloatArray, float]:
        """``u`` given ``w`` is normal with this mean and sd, cut at 0 (Jondrow et al. 1982)."""
        w = self.sign * w
        if self.kind == "exponential":
            return -w - self.sigma_v**2 / self.scale, self.sigma_v
        total = self.sigma_v**2 + self.scale**2
        mode = self.scale if self.kind == "truncated normal" else 0.0
        return (mode * self.sigma_v**2 - w * self.scale**2) / total, self.sigma_v * self.scale / math.sqrt(total)

    def log_density(self, w: FloatArray) -> FloatArray:
        """Log density of ``w``."""
        if not self.scale:
            return -0.5 * (w / self.sigma_v) ** 2 - math.log(self.sigma_v) - _LOG_SQRT_2PI
        mean, sd = self.given_w(w)
        cut, w = log_ndtr(mean / sd), self.sign * w
        if self.kind == "exponential":
            return w / self.scale + 0.5 * (self.sigma_v / self.scale) ** 2 - math.log(self.scale) + cut
        sigma = math.hypot(self.sigma_v, self.scale)
        mode = self.scale if self.kind == "truncated normal" else 0.0
        inside = log_ndtr(1.0) if mode else math.log(0.5)
        return -0.5 * ((w + mode) / sigma) ** 2 - math.log(sigma) - _LOG_SQRT_2PI + cut - inside

    def slopes(self, w: FloatArray) -> tuple[FloatArray, FloatArray]:
        """First derivative of the log density and minus the second (positive: the density is log-concave)."""
        if not self.scale:
            return -w / self.sigma_v**2, np.full_like(w, self.sigma_v**-2)
        mean, sd = self.given_w(w)
        z = mean / sd
        mills = np.exp(-0.5 * z**2 - _LOG_SQRT_2PI - log_ndtr(z))
        if self.kind == "exponential":
            line, bend, pull = np.full_like(w, 1 / self.scale), 0.0, 1 / self.sigma_v
        else:
            total = self.sigma_v**2 + self.scale**2
            mode = self.scale if self.kind == "truncated normal" else 0.0
            line, bend, pull = -(self.sign * w + mode) / total, 1 / total, self.scale**2 / (total * sd)
        return self.sign * (line - pull * mills), bend + pull**2 * mills * np.maximum(z + mills, 0.0)

    def draw_u(self, rng: np.random.Generator, w: FloatArray) -> FloatArray:
        """Draws of ``u`` given ``w``, by inversion."""
        if not self.scale:
            return np.zeros_like(w)
        mean, sd = self.given_w(w)
        tail = ndtr(mean / sd)
        # the upper tail of the cut normal, so that nothing is lost where little of it is left
        drawn = mean - sd * ndtri(np.maximum(tail * rng.random(w.shape), 1e-300))
        return np.maximum(drawn, 0.0)


@dataclass(frozen=True)
class Posterior:
    """Per market, on the scale of the linear predictor and relative to ``eta``.

    ``noise`` (mean, and sd): the market's lasting symmetric difference with the shape's level; ``gap``: the one-sided
    shortfall (at least 0); ``total`` and its sd: noise less gap, what the count itself speaks of.
    """

    noise: FloatArray
    noise_sd: FloatArray
    gap: FloatArray
    gap_sd: FloatArray
    total: FloatArray
    total_sd: FloatArray


def log_marginal(family: Family, shape: Shape, n: FloatArray, size: FloatArray, eta: FloatArray) -> FloatArray:
    """Log-likelihood of each count, ``w`` integrated out by adaptive Gauss-Hermite quadrature, less the saturated one
    (so that differences of sums keep their digits)."""
    _, value = _nodes(family, shape, n, size, eta)
    top = value.max(axis=1)
    return top + np.log(np.exp(value - top[:, None]).sum(axis=1)) - _saturated(family, n, size)


def posterior(family: Family, shape: Shape, n: FloatArray, size: FloatArray, eta: FloatArray) -> Posterior:
    """What each count says about its market."""
    w, value = _nodes(family, shape, n, size, eta)
    p = np.exp(value - value.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    total, total_sd = _moments(p, w)
    if not shape.scale:
        zero = np.zeros_like(total)
        return Posterior(total + shape.shift, total_sd, zero, zero, total + shape.shift, total_sd)
    mean, sd = shape.given_w(w)
    a = mean / sd
    mills = np.exp(-0.5 * a**2 - _LOG_SQRT_2PI - log_ndtr(a))
    mean_u = np.maximum(mean + sd * mills, 0.0)
    var_u = np.maximum(sd**2 * (1 - mills * (a + mills)), 0.0)
    gap, gap_sd = _moments(p, mean_u, var_u)
    noise, noise_sd = _moments(p, w + mean_u, var_u)
    return Posterior(noise + shape.shift, noise_sd, gap, gap_sd, total + shape.shift, total_sd)


def _moments(p: FloatArray, x: FloatArray, inner: FloatArray | float = 0.0) -> tuple[FloatArray, FloatArray]:
    mean = (p * x).sum(axis=1)
    return mean, np.sqrt((p * (inner + (x - mean[:, None]) ** 2)).sum(axis=1))


def _nodes(
    family: Family, shape: Shape, n: FloatArray, size: FloatArray, eta: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Quadrature nodes of w, shape (markets, nodes), and the log of weight x integrand there."""
    mode, sd = _mode(family, shape, n, size, eta)
    w = mode[:, None] + math.sqrt(2) * sd[:, None] * _NODES
    value = family.log_likelihood(n[:, None], size[:, None], (eta + shape.shift)[:, None] + w) + shape.log_density(w)
    return w, value + _NODES**2 + np.log(_WEIGHTS) + np.log(math.sqrt(2) * sd)[:, None]


def _mode(
    family: Family, shape: Shape, n: FloatArray, size: FloatArray, eta: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Mode and curvature-based sd of w given the count, by Newton steps on a concave function."""
    at, spread = eta + shape.shift, shape.sd_w
    rate = family.rate(at)
    information = size * family.slope(rate)
    w = np.clip((n - size * rate) / (information + spread**-2), -3 * spread, 3 * spread)
    curve = np.empty_like(w)
    for _ in range(25):
        rate = family.rate(at + w)
        first, second = shape.slopes(w)
        curve = size * family.slope(rate) + second
        # where neither the count nor an exponential tail bends, the spread of the shape limits the step
        curve = np.maximum(curve, 0.05 / spread**2)
        step = np.clip((n - size * rate + first) / curve, -1.0, 1.0)
        w = w + step
        if np.abs(step).max(initial=0.0) < 1e-4:
            break
    return w, 1 / np.sqrt(curve)


def _saturated(family: Family, n: FloatArray, size: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.where(n > 0, n * np.log(n / size), 0.0)
        if family.bounded:
            return part + np.where(size > n, (size - n) * np.log1p(-n / size), 0.0)
    return part - n


__all__ = ["KINDS", "Posterior", "Shape", "log_marginal", "posterior"]
