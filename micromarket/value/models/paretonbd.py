"""Pareto/NBD: customers buy at a steady rate and leave at any time, unseen (no contract).

Schmittlein, Morrison & Colombo 1987, Management Science 33; Fader & Hardie 2005, note 009.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.polynomial.legendre import leggauss
from scipy.special import digamma, gammaln

from micromarket.value.models.buy_till_you_die import BuyTillYouDie, Rows, negative_binomial
from micromarket.value.models.compression import Counts
from micromarket.value.models.covariates import Likelihood, Linked, shift_link
from micromarket.value.models.gamma_functions import trigamma
from micromarket.value.models.pareto_terms import p_alive, residual_paths, time_terms

__all__ = ["ParetoNBD", "p_alive", "residual_paths", "time_terms"]

_BLOCK = 1 << 16
_SHIFT = np.array([[0.0, 0.0], [-1.0, 0.0], [0.0, 0.0], [0.0, -1.0]])


class ParetoNBD(BuyTillYouDie):
    """Pareto/NBD by maximum likelihood: Newton's method with analytic derivatives on compressed exact counts.

    Purchase rates are Gamma(r, alpha), rates of leaving Gamma(s, beta) over customers; alpha and beta are times.

    Parameters
    ----------
    prior_sd, coef_sd, tolerance
        See :class:`~micromarket.value.models.buy_till_you_die.BuyTillYouDie`.

    Attributes
    ----------
    r_, alpha_, s_, beta_ : float
    coef_, log_likelihood_, converged_, covariance_, n_customers_
        As in :class:`~micromarket.value.models.bgnbd.BetaGeoNBD`.

    Examples
    --------
    >>> model = ParetoNBD(prior_sd=2.0).fit([2, 1, 0, 5], [30.4, 1.7, 0, 36], [38.9] * 4, [20, 90, 300, 9])
    >>> model.converged_
    True
    """

    _names: ClassVar[tuple[str, ...]] = ("r", "alpha", "s", "beta")

    def _link(self, base: np.ndarray, eta: np.ndarray) -> Linked:
        return shift_link(_SHIFT, base, eta)

    def _centre(self, mean_x: float, mean_T: float) -> np.ndarray:
        return np.log([0.5, 0.5 * mean_T / (max(mean_x, 1e-9) + 0.5), 0.7, 0.7 * mean_T])

    def _likelihood(self, counts: Counts) -> Likelihood:
        groups = counts.groups
        g, x, n = counts.levels()

        def total(values: np.ndarray) -> np.ndarray:
            return np.bincount(g, weights=n * values, minlength=groups)

        def at(p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            value, gradient, hessian = np.zeros(groups), np.zeros((4, groups)), np.zeros((4, 4, groups))
            r, alpha = p[0, g], p[1, g]
            value += total(gammaln(r + x) - gammaln(r) + r * np.log(alpha))
            gradient[0] = total(digamma(r + x) - digamma(r) + np.log(alpha))
            gradient[1] = total(r / alpha)
            hessian[0, 0] = total(trigamma(r + x) - trigamma(r))
            hessian[0, 1] = hessian[1, 0] = total(1 / alpha)
            hessian[1, 1] = -total(r / alpha**2)
            for i in range(0, len(counts), _BLOCK):  # bounds the memory
                rows = counts.rows(slice(i, i + _BLOCK))
                r, alpha, s, beta = p if groups == 1 else p[:, rows.group]
                terms = time_terms(r, alpha, s, beta, *rows.histories())
                for out, term in zip((value, gradient, hessian), terms, strict=True):
                    if groups == 1:
                        out[..., 0] += term @ rows.customers
                    else:
                        first = np.flatnonzero(np.diff(rows.group, prepend=-1))
                        out[..., rows.group[first]] += np.add.reduceat(term * rows.customers, first, axis=-1)
            return value, gradient, hessian

        return at

    def _p_alive(self, p: Rows, x: np.ndarray, t_x: np.ndarray, T: np.ndarray) -> np.ndarray:
        r, alpha, s, beta = p
        return p_alive(r, alpha, s, beta, x, t_x, T)

    def _new(self, p: Rows, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        r, alpha, s, beta = p
        return residual_paths(r, alpha, s, beta, times)

    def _residual(self, p: Rows, x: np.ndarray, T: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        r, alpha, s, beta = p
        return residual_paths(r + x, alpha + T, s, beta + T, times)

    def _frequencies(self, p: Rows, T: np.ndarray, up_to: int) -> np.ndarray:
        """Fader & Hardie 2006, note 012, as an integral over the time of leaving."""
        r, alpha, s, beta = p
        points, weights = leggauss(64)
        near = np.minimum(alpha, beta)
        length = np.log1p(T / near)
        y = near[:, None] * np.expm1(length[:, None] * (points + 1) / 2)
        density = s[:, None] * np.exp(-s * np.log1p(y.T / beta)).T * (near[:, None] + y) / (beta[:, None] + y)
        density *= weights * length[:, None] / 2
        left = np.einsum("nj,njx->nx", density, negative_binomial(r[:, None], alpha[:, None], y, up_to))
        return left + np.exp(-s * np.log1p(T / beta))[:, None] * negative_binomial(r, alpha, T, up_to)
