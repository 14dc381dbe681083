"""Gamma-Gamma: what customers spend per purchase (Fader, Hardie & Lee 2005, JMR 42; Fader & Hardie 2013, note 025)."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import digamma, gammaln
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from micromarket.value.models.compression import Column, distinct
from micromarket.value.models.gamma_functions import trigamma
from micromarket.value.models.newton import Derivatives, add_normal_prior, log_scale, maximise
from micromarket.value.models.parameters import Parametric

_CHUNK = 16_384  # rows that stay in the cache


class GammaGamma(Parametric, BaseEstimator):
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
    log_likelihood_, converged_, guarded_, n_customers_
    covariance_ : array of shape (3, 3)
        Of log p, q, v; zero in q where it is held.
    """

    _names: ClassVar[tuple[str, ...]] = ("p", "q", "v")

    def __init__(self, prior_sd: float | None = None, lowest_q: float = 1.05, tolerance: float = 1e-9):
        self.prior_sd = prior_sd
        self.lowest_q = lowest_q
        self.tolerance = tolerance

    def fit(self, n: ArrayLike, mean_spend: ArrayLike, weights: ArrayLike | None = None) -> Self:
        """``n``: purchases that the mean is taken over (at least 1); ``mean_spend``: money, above 0.

        Raises
        ------
        ValueError
            Where no customer has a purchase of positive value.
        """
        n, z = np.asarray(n, float), np.asarray(mean_spend, float)  # rows with a missing value are not used either
        w = np.ones(len(n)) if weights is None else np.asarray(weights, float)
        use = (n > 0) & (z > 0) & (w > 0)
        n, z, w = n[use], z[use], w[use]
        if len(n) == 0:
            raise ValueError("Gamma-Gamma needs at least one customer with a positive mean spend")
        unit = float(np.exp((w @ np.log(z)) / w.sum()))  # fit in units of the typical spend, so that scales are tame
        z = z / unit
        size, centre = float(w.sum()), np.log([2.0, 3.0, 1.0])
        log_likelihood = _likelihood(n, z, w)

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
        free = [0, 2] if self.guarded_ else [0, 1, 2]
        self.covariance_ = np.zeros((3, 3))
        self.covariance_[np.ix_(free, free)] = found.covariance()
        self.converged_, self.n_customers_ = found.converged, size
        return self

    def _held(self) -> tuple[str, ...]:
        return ("q",) if self.guarded_ else ()

    def population_weight(self, n: np.ndarray) -> np.ndarray:
        """Weight of the population mean against a customer's own mean over ``n`` purchases: (q-1) / (p n + q - 1)."""
        check_is_fitted(self, "p_")
        return (self.q_ - 1) / (self.p_ * np.asarray(n, float) + self.q_ - 1)

    def conditional_mean(self, n: np.ndarray, mean_spend: np.ndarray) -> np.ndarray:
        """Expected spend per purchase (money) of customers with these histories."""
        weight = self.population_weight(n)
        return weight * self.mean_ + (1 - weight) * np.asarray(mean_spend, float)


def _likelihood(n: np.ndarray, z: np.ndarray, w: np.ndarray) -> Callable[[np.ndarray], Derivatives]:
    """Log-likelihood in log (p, q, v): gamma functions once per number of purchases, one logarithm per row."""
    some, index = distinct(Column.of(n))
    levels, customers = n[some], np.bincount(index, weights=w)
    log_z = np.log(z)
    total, wn, size = n * z, w * n, w.sum()
    own, fixed = wn @ (log_z + np.log(n)), w @ log_z
    weights = np.stack([w, wn])

    def at(theta: np.ndarray) -> Derivatives:
        p, q, v = np.exp(theta)
        log0 = log1 = inv0 = inv1 = sq0 = sq1 = 0.0
        for i in range(0, len(total), _CHUNK):
            scale, few = v + total[i : i + _CHUNK], weights[:, i : i + _CHUNK]
            (l0, l1), inverse = few @ np.log(scale), 1 / scale
            (i0, i1), (s0, s1) = few @ inverse, few @ inverse**2
            log0, log1, inv0, inv1, sq0, sq1 = log0 + l0, log1 + l1, inv0 + i0, inv1 + i1, sq0 + s0, sq1 + s1
        shape = p * levels
        up, up2 = digamma(shape + q), trigamma(shape + q)
        value = customers @ (gammaln(shape + q) - gammaln(shape)) + size * (q * theta[2] - gammaln(q))
        value += p * (own - log1) - q * log0 - fixed
        gradient = np.array(
            [
                customers @ (levels * (up - digamma(shape))) + own - log1,
                customers @ up + size * (theta[2] - digamma(q)) - log0,
                size * q / v - p * inv1 - q * inv0,
            ]
        )
        hessian = np.empty((3, 3))
        hessian[0, 0] = customers @ (levels**2 * (up2 - trigamma(shape)))
        hessian[0, 1] = hessian[1, 0] = customers @ (levels * up2)
        hessian[0, 2] = hessian[2, 0] = -inv1
        hessian[1, 1] = customers @ up2 - size * trigamma(q)
        hessian[1, 2] = hessian[2, 1] = size / v - inv0
        hessian[2, 2] = -size * q / v**2 + p * sq1 + q * sq0
        return log_scale(theta, float(value), gradient, hessian)

    return at
