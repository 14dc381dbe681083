"""Gamma-Gamma: what customers spend per purchase (Fader, Hardie & Lee 2005, JMR 42; Fader & Hardie 2013, note 025)."""

from __future__ import annotations

from typing import Self

import numpy as np
from scipy.special import digamma, gammaln, polygamma
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from micromarket.value.newton import Derivatives, add_normal_prior, log_scale, maximise


class GammaGamma(BaseEstimator):
    """Spend per purchase ~ Gamma(p, nu) with nu ~ Gamma(q, v) over customers; purchase frequency is independent of it.

    Parameters
    ----------
    prior_sd : float, optional
        Standard deviation of a normal prior on the log parameters around plausible ones (none: maximum likelihood).
    lowest_q : float
        With q <= 1 the mean of the population is infinite. Where the optimum lies below ``lowest_q``, q is held
        there, p and v are fitted again, and ``guarded_`` says so.

    Attributes
    ----------
    p_, q_, v_ : float
        ``v_`` in money.
    mean_ : float
        Mean spend per purchase over customers, p v / (q - 1), money.
    log_likelihood_, converged_, guarded_, covariance_
    """

    def __init__(self, prior_sd: float | None = None, lowest_q: float = 1.05, tolerance: float = 1e-9):
        self.prior_sd = prior_sd
        self.lowest_q = lowest_q
        self.tolerance = tolerance

    def fit(self, n: np.ndarray, mean_spend: np.ndarray, weights: np.ndarray | None = None) -> Self:
        """``n``: purchases that the mean is taken over (at least 1); ``mean_spend``: money, above 0.

        Raises
        ------
        ValueError
            Where no customer has a purchase of positive value.
        """
        n, z = np.asarray(n, float), np.asarray(mean_spend, float)
        w = np.ones(len(n)) if weights is None else np.asarray(weights, float)
        use = (n > 0) & (z > 0) & (w > 0)
        n, z, w = n[use], z[use], w[use]
        if len(n) == 0:
            raise ValueError("Gamma-Gamma needs at least one customer with a positive mean spend")
        unit = float(np.exp((w @ np.log(z)) / w.sum()))  # fit in units of the typical spend, so that scales are tame
        z = z / unit
        log_z, log_n, total = np.log(z), np.log(n), n * z
        size = w.sum()
        centre = np.log([2.0, 3.0, 1.0])

        def log_likelihood(theta: np.ndarray) -> Derivatives:
            p, q, v = np.exp(theta)
            shape, scale = p * n, v + total
            log_scale_ = np.log(scale)
            value = w @ (
                gammaln(shape + q) - gammaln(shape) - gammaln(q) + q * np.log(v)
                + (shape - 1) * log_z + shape * log_n - (shape + q) * log_scale_
            )  # fmt: skip
            up, at = digamma(shape + q), digamma(shape)
            up2, at2 = polygamma(1, shape + q), polygamma(1, shape)
            gradient = np.array(
                [
                    w @ (n * (up - at + log_z + log_n - log_scale_)),
                    w @ (up - digamma(q) + np.log(v) - log_scale_),
                    w @ (q / v - (shape + q) / scale),
                ]
            )
            hessian = np.empty((3, 3))
            hessian[0, 0] = w @ (n**2 * (up2 - at2))
            hessian[0, 1] = hessian[1, 0] = w @ (n * up2)
            hessian[0, 2] = hessian[2, 0] = -w @ (n / scale)
            hessian[1, 1] = w @ (up2 - polygamma(1, q))
            hessian[1, 2] = hessian[2, 1] = w @ (1 / v - 1 / scale)
            hessian[2, 2] = w @ (-q / v**2 + (shape + q) / scale**2)
            return log_scale(theta, value, gradient, hessian)

        def objective(theta: np.ndarray) -> Derivatives:
            return add_normal_prior(log_likelihood(theta), theta, centre, self.prior_sd)

        found = maximise(objective, centre, size, self.tolerance)
        theta = found.theta
        self.guarded_ = bool(np.exp(theta[1]) < self.lowest_q)
        if self.guarded_:
            fixed = np.log(self.lowest_q)

            def without_q(two: np.ndarray) -> Derivatives:
                value, gradient, hessian = objective(np.array([two[0], fixed, two[1]]))
                return value, gradient[[0, 2]], hessian[np.ix_([0, 2], [0, 2])]

            found = maximise(without_q, theta[[0, 2]], size, self.tolerance)
            theta = np.array([found.theta[0], fixed, found.theta[1]])
        self.p_, self.q_ = float(np.exp(theta[0])), float(np.exp(theta[1]))
        self.v_ = float(np.exp(theta[2]) * unit)
        self.mean_ = self.p_ * self.v_ / (self.q_ - 1)
        self.log_likelihood_ = float(log_likelihood(theta)[0] - size * np.log(unit))
        self.converged_, self.covariance_ = found.converged, found.covariance()
        return self

    def parameters(self) -> dict[str, float]:
        check_is_fitted(self, "p_")
        return {"p": self.p_, "q": self.q_, "v": self.v_}

    def population_weight(self, n: np.ndarray) -> np.ndarray:
        """Weight of the population mean against a customer's own mean over ``n`` purchases: (q-1) / (p n + q - 1)."""
        check_is_fitted(self, "p_")
        return (self.q_ - 1) / (self.p_ * np.asarray(n, float) + self.q_ - 1)

    def conditional_mean(self, n: np.ndarray, mean_spend: np.ndarray) -> np.ndarray:
        """Expected spend per purchase (money) of customers with these histories."""
        weight = self.population_weight(n)
        return weight * self.mean_ + (1 - weight) * np.asarray(mean_spend, float)
