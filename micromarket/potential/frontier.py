"""The one-sided part: how far each market stays behind what markets like it can reach, beyond the noise of counts."""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import minimize
from scipy.special import ndtri, softmax
from scipy.stats import chi2

from micromarket.potential.composed import KINDS, Posterior, Shape, log_marginal, posterior
from micromarket.potential.families import Family, FloatArray

_SHARES = (0.035, 0.11, 0.21, 0.39, 0.61, 0.81, 0.95)  # of the variance that is one-sided
_MIRRORED = (0.21, 0.61)
_CLEARLY = 1.92  # log-likelihood: half the 95th percentile of chi-square with one degree of freedom
_LARGEST_FIT = 3_000
_RESAMPLED = 200


class CountFrontier:
    """Stochastic frontier for counts: ``n ~ Family(size, eta + shift + v - u)``, v normal, u at least 0.

    A composed error inside a count likelihood (Fe & Hofler 2013), integrated by adaptive Gauss-Hermite quadrature, so
    that small markets carry exactly as much weight as their counts bear. How much of the spread is one-sided, and in
    which shape (half-normal, exponential, truncated normal), is what the data say least about and what the level of
    headroom rests on: neither is fixed at its maximum, both are averaged by how well they explain the counts. Weights
    are those of a bagged posterior (Huggins & Miller 2023): the mean over resampled spatial blocks, because none of the
    shapes is true and neighbouring markets err alike. ``u`` given the data follows Jondrow et al. (1982, JLMS).

    Parameters
    ----------
    family : Family
    one_sided : bool
        ``False``: only symmetric differences.
    seed : int
        Of the resampling.

    Attributes
    ----------
    shapes_, weights_ : composed-error distributions and their weights (sum 1)
    parameter_sd_ : standard error of the log scale of a shape, from the number of markets that inform it
    sigma_u_, sigma_v_ : weighted means of the root mean square of u and of the sd of v, units of the linear predictor
    mean_u_ : weighted mean of u; sd_w_ : of the sd of v - u, all that levels and counts leave unexplained
    skew_ : "one-sided", "unclear", "wrong sign" or "not tested"
    p_value_ : of no one-sided part (mixed chi-square of Coelli 1995); nan when not tested
    """

    def __init__(self, family: Family, one_sided: bool = True, seed: int = 1):
        self.family = family
        self.one_sided = one_sided
        self.seed = seed

    def fit(self, n: FloatArray, size: FloatArray, eta: FloatArray, blocks: FloatArray | None = None) -> CountFrontier:
        """``n``: customers; ``size``: buyers (or 1); ``eta``: predicted average level; ``blocks``: spatial block, whose
        markets are resampled together (default: each on its own); all of shape (markets,)."""
        blocks = np.arange(len(n)) if blocks is None else blocks
        if len(n) > _LARGEST_FIT:  # the shape has three parameters: a spread-out sample says the same
            pick = np.argsort(eta, kind="stable")[np.linspace(0, len(n) - 1, _LARGEST_FIT).astype(int)]
            n, size, eta, blocks = n[pick], size[pick], eta[pick], blocks[pick]
        start = np.array([0.0, math.log(_moment_spread(self.family, n, size, eta))])
        symmetric, base = self._fit_shape("half-normal", 0.0, n, size, eta, start)
        shapes = [symmetric]
        if self.one_sided:
            for kind in KINDS:
                start = base
                for share in _SHARES:
                    shape, start = self._fit_shape(kind, share, n, size, eta, start)
                    shapes.append(shape)
        fits = np.array([log_marginal(self.family, s, n, size, eta) for s in shapes])
        self.skew_, self.p_value_ = "not tested", math.nan
        if self.one_sided:
            half = fits[: 1 + len(_SHARES)].sum(axis=1)  # the test is the half-normal's, as in the literature
            mirrored = [self._fit_shape("half-normal", s, n, size, eta, base, -1)[0] for s in _MIRRORED]
            wrong = max(float(log_marginal(self.family, s, n, size, eta).sum()) for s in mirrored)
            ratio = 2 * (half.max() - half[0])
            self.p_value_ = 1.0 if ratio <= 0 else 0.5 * float(chi2.sf(ratio, 1))
            # with few markets a true shortfall often shows no skew, or the wrong one (Waldman 1982): a sign that chance
            # explains is no reason to leave the one-sided part out, nor its doubt
            self.skew_ = (
                "wrong sign" if wrong > half.max() + _CLEARLY else "one-sided" if self.p_value_ < 0.05 else "unclear"
            )
            if self.skew_ == "wrong sign":
                shapes, fits = shapes[:1], fits[:1]
        weights = self._weights(shapes, fits, blocks)
        keep = weights > 0.005 * weights.max()
        self.shapes_ = tuple(s for s, k in zip(shapes, keep, strict=True) if k)
        self.weights_ = weights[keep] / weights[keep].sum()
        self.mean_u_ = self._mean([s.mean_u for s in self.shapes_])
        self.sigma_u_ = self._mean([math.sqrt(s.mean_u**2 + max(s.sd_w**2 - s.sigma_v**2, 0)) for s in self.shapes_])
        self.sigma_v_ = self._mean([s.sigma_v for s in self.shapes_])
        self.sd_w_ = self._mean([s.sd_w for s in self.shapes_])
        information = size * self.family.slope(self.family.rate(eta))
        spread = symmetric.sd_w**2
        informed = float(((spread / (spread + 1 / np.maximum(information, 1e-9))) ** 2).sum())
        self.parameter_sd_ = 1 / math.sqrt(2 * max(informed, 2.0))
        return self

    def posterior(self, n: FloatArray, size: FloatArray, eta: FloatArray) -> list[Posterior]:
        """One :class:`Posterior` a shape (same order as ``weights_``); ``noise`` includes the shape's level shift."""
        return [posterior(self.family, s, n, size, eta) for s in self.shapes_]

    def _mean(self, values: list[float]) -> float:
        return float(np.dot(self.weights_, values))

    def _weights(self, shapes: list[Shape], fits: FloatArray, blocks: FloatArray) -> FloatArray:
        """Bagged posterior weights: no one-sided part as likely beforehand as any one share of the variance."""
        prior = np.array([-math.log(len(KINDS)) if s.scale else 0.0 for s in shapes])
        _, place = np.unique(blocks, return_inverse=True)
        sums = np.array([np.bincount(place, f) for f in fits])  # (shapes, blocks)
        count = sums.shape[1]
        drawn = np.random.default_rng(self.seed).multinomial(count, np.full(count, 1 / count), size=_RESAMPLED)
        return softmax(drawn @ sums.T + prior, axis=1).mean(axis=0)

    def _fit_shape(
        self, kind: str, share: float, n: FloatArray, size: FloatArray, eta: FloatArray, start: FloatArray,
        sign: int = 1,
    ) -> tuple[Shape, FloatArray]:  # fmt: skip
        """Best level and spread given kind and share; parametrised by mean and sd of v - u, which these barely move."""

        def shape(theta: FloatArray) -> Shape:
            return Shape.of_moments(kind, share, float(theta[0]), math.exp(min(max(theta[1], -6.0), 3.0)), sign)

        def loss(theta: FloatArray) -> float:
            # a weak prior on the log spread keeps it finite where counts show no spread at all
            prior = 0.5 * ((theta[1] + 1.0) / 2.0) ** 2 + 0.5 * (theta[0] / 5.0) ** 2
            return -float(log_marginal(self.family, shape(theta), n, size, eta).sum()) + prior

        simplex = np.vstack([start, start + np.array([0.05, 0.0]), start + np.array([0.0, 0.05])])
        found = minimize(
            loss, start, method="Nelder-Mead",
            options={"initial_simplex": simplex, "xatol": 2e-3, "fatol": 2e-2, "maxfev": 80},
        )  # fmt: skip
        return shape(found.x), found.x


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


def best_fifth(spread: float) -> float:
    """How far above the average the best fifth of markets like it starts, in units of the linear predictor."""
    return float(ndtri(0.8)) * spread


__all__ = ["CountFrontier", "Posterior", "best_fifth"]
