"""Beta-discrete-Weibull: contracts whose own rate of leaving rises or falls with age.

Fader, Hardie, Liu, Davin & Steenburgh 2018, "How to project customer retention" revisited: the role of duration
dependence, Journal of Interactive Marketing 43.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from scipy.special import digamma

from micromarket.value.models.covariates import Likelihood, Linked, shift_link
from micromarket.value.models.gamma_functions import log_gamma_ratio, trigamma
from micromarket.value.models.retention import RetentionCurve


class BetaDiscreteWeibull(RetentionCurve):
    """A customer stays t periods with probability (1 - theta)^(t^c), theta ~ Beta(alpha, beta) over customers.

    S(t) = B(alpha, beta + t^c) / B(alpha, beta). With c = 1 it is the shifted-beta-geometric; c > 1: customers are
    ever more likely to leave, c < 1: ever less, apart from the sorting that heterogeneity brings.

    Parameters
    ----------
    prior_sd, coef_sd, tolerance
        See :class:`~micromarket.value.models.retention.RetentionCurve`; the prior on log c is half as wide, around 0.

    Attributes
    ----------
    alpha_, beta_, c_ : float
    coef_ : DataFrame or None
        Covariates x (leaving,): log of the factor on alpha, close to the change of the log rate of leaving.
    log_likelihood_, converged_, covariance_, n_customers_
        As in :class:`~micromarket.value.models.sbg.ShiftedBetaGeometric`.
    """

    _names: ClassVar[tuple[str, ...]] = ("alpha", "beta", "c")
    _prior, _prior_width = np.log([1.0, 32.0, 1.0]), np.array([1.0, 1.0, 0.5])

    def _link(self, base: np.ndarray, eta: np.ndarray) -> Linked:
        return shift_link(np.array([[1.0], [0.0], [0.0]]), base, eta)

    def _starts(self, rate: float) -> list[np.ndarray]:
        beta = max(1.0 / rate - 1.0, 0.1)
        return [np.log([1.0, beta, 1.0]), np.log([0.5, beta, 1.5]), np.log([3.0, 3 * beta, 0.8])]

    def _likelihood(self, lost: np.ndarray, stayed: np.ndarray) -> Likelihood:
        ages = np.arange(lost.shape[1] + 1, dtype=float)
        log_age = np.log(np.maximum(ages, 1.0))

        def at(p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            alpha, beta, c = (v[:, None] for v in p)
            u = ages**c  # derivatives of u in c: u log, u log^2
            v, d, dd = _log_survival(alpha, beta, u)
            slope = u * log_age
            first = np.stack([d[0], d[1], d[2] * slope])
            second = np.empty((3, 3, *u.shape))
            second[0, 0], second[0, 1], second[1, 1] = dd[0, 0], dd[0, 1], dd[1, 1]
            second[0, 2], second[1, 2] = dd[0, 2] * slope, dd[1, 2] * slope
            second[2, 2] = dd[2, 2] * slope**2 + d[2] * slope * log_age
            for i, j in ((1, 0), (2, 0), (2, 1)):
                second[i, j] = second[j, i]
            stay, first, second = (np.diff(w, axis=-1) for w in (v, first, second))
            stay = np.minimum(stay, -1e-300)
            leave = -np.expm1(stay)
            odds = np.exp(stay) / leave
            value = (lost * np.log(leave) + stayed * stay).sum(axis=1)
            weight, curve = stayed - lost * odds, lost * odds * (1 + odds)
            gradient = (weight * first).sum(axis=-1)
            hessian = (weight * second - curve * first[:, None] * first[None]).sum(axis=-1)
            return value, gradient, hessian

        return at

    def _log_stay(self, p: np.ndarray, age: np.ndarray) -> np.ndarray:
        alpha, beta, c = p
        here, then = (log_gamma_ratio(beta + t**c, alpha) for t in (age, age + 1))
        return np.minimum(here - then, 0.0)


def _log_survival(
    alpha: np.ndarray, beta: np.ndarray, u: np.ndarray
) -> tuple[np.ndarray, tuple[np.ndarray, ...], np.ndarray]:
    """log B(alpha, beta + u) - log B(alpha, beta), with first (3,) and second (3, 3) derivatives in alpha, beta, u."""
    value = log_gamma_ratio(beta, alpha) - log_gamma_ratio(beta + u, alpha)
    far, near = alpha + beta + u, beta + u
    psi = digamma(far), digamma(near)
    tri = trigamma(far), trigamma(near)
    d_alpha = digamma(alpha + beta) - psi[0]
    d_u = psi[1] - psi[0]
    dd = np.empty((3, 3, *u.shape))
    dd[0, 0] = trigamma(alpha + beta) - tri[0]
    dd[0, 1] = dd[1, 0] = dd[0, 0]
    dd[0, 2] = dd[2, 0] = -tri[0]
    dd[1, 1] = tri[1] - trigamma(beta) + dd[0, 0]
    dd[1, 2] = dd[2, 1] = dd[2, 2] = tri[1] - tri[0]
    return value, (d_alpha, d_u - digamma(beta) + digamma(alpha + beta), d_u), dd
