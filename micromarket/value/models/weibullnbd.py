"""Purchases until gamma-mixed Weibull lifetimes end: Pareto/NBD whose risk of leaving may rise or fall with time.

The continuous-time sibling of beta-discrete-Weibull. Survival over customers is Burr XII, S(t) = (1 + (t/beta)^c)^-s;
c = 1 is Pareto/NBD (Schmittlein, Morrison & Colombo 1987). Bemmaor & Glady 2012 (Management Science 58) make the same
move with Gompertz lifetimes.
"""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
from scipy.optimize import minimize
from scipy.special import digamma, gammaln
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from micromarket.value.models import weibull_terms as terms
from micromarket.value.models.parameters import Parametric

#: Distinct histories that the fit looks at; of more, every so manieth in order of length, silence and purchases.
MOST_ROWS = 30_000


class WeibullNBD(Parametric, BaseEstimator):
    """By maximum likelihood on compressed exact counts (quasi-Newton, analytic gradient).

    Parameters
    ----------
    prior_sd : float, optional
        Standard deviation of a normal prior on the log parameters around plausible values; that of ``c`` around 1 is a
        quarter of it.
    tolerance : float
        Largest absolute gradient of the mean log-likelihood at convergence.

    Attributes
    ----------
    r_, alpha_, s_, beta_, c_ : float
        ``alpha_`` and ``beta_`` in the unit of time of the data.
    log_likelihood_, converged_, covariance_, n_customers_
        As of :class:`~micromarket.value.models.bgnbd.BetaGeoNBD`; with more than :data:`MOST_ROWS` distinct histories
        the log-likelihood is that of the histories looked at, times their share.
    """

    _names: ClassVar[tuple[str, ...]] = ("r", "alpha", "s", "beta", "c")

    def __init__(self, prior_sd: float | None = None, tolerance: float = 1e-6):
        self.prior_sd = prior_sd
        self.tolerance = tolerance

    def fit(self, x: np.ndarray, t_x: np.ndarray, T: np.ndarray, weights: np.ndarray | None = None) -> Self:
        """Repeat purchases ``x``, time of the last one ``t_x`` and length of observation ``T``, both since the first
        purchase; ``weights``: number of customers per row.

        Raises
        ------
        ValueError
            No customers, or times out of order (0 <= t_x <= T).
        """
        x, t_x, T = (np.asarray(v, float) for v in (x, t_x, T))
        w = np.ones(len(x)) if weights is None else np.asarray(weights, float)
        if w.sum() <= 0:
            raise ValueError("WeibullNBD needs at least one customer")
        if (t_x < 0).any() or (t_x > T).any() or (x < 0).any():
            raise ValueError("WeibullNBD needs 0 <= t_x <= T and x >= 0 for every customer")
        x, t_x, T, w, scale = _thin(x, t_x, T, w)
        n = w.sum()
        mean_T, mean_x = max((w * T).sum() / n, 1e-9), (w * x).sum() / n
        centre = np.log([0.5, 0.5 * mean_T / (mean_x + 0.5), 1.0, 2.0 * mean_T, 1.0])
        sd = np.full(5, np.inf if self.prior_sd is None else self.prior_sd)
        sd[4] /= 4

        def likelihood(theta: np.ndarray) -> tuple[float, np.ndarray]:
            r, alpha, s, beta, c = np.exp(theta)
            value, gradient = terms.shape_terms(r, alpha, s, beta, c, x, t_x, T)
            value = value + gammaln(r + x) - gammaln(r) + r * theta[1]
            gradient[0] += r * (digamma(r + x) - digamma(r) + theta[1])
            gradient[1] += r
            return float(w @ value), gradient @ w

        def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = likelihood(theta)
            away = (theta - centre) / sd
            return -value / n + 0.5 * away @ away / n, -gradient / n + away / sd / n

        bounds = [(m - 9.0, m + 9.0) for m in centre[:4]] + [(np.log(0.2), np.log(5.0))]
        # by the gradient alone: the default stops earlier, where the value hardly changes
        stop = {"gtol": self.tolerance, "ftol": 1e-14}
        found = minimize(loss, centre, jac=True, method="L-BFGS-B", bounds=bounds, options=stop)
        theta = found.x
        hessian = np.empty((5, 5))
        for j in range(5):
            move = np.zeros(5)
            move[j] = 1e-4
            hessian[j] = (loss(theta + move)[1] - loss(theta - move)[1]) / 2e-4
        information = (hessian + hessian.T) / 2 * n * scale
        roots, vectors = np.linalg.eigh(information)
        self.covariance_ = (vectors / np.maximum(roots, 1e-8 * max(roots.max(), 1e-8))) @ vectors.T
        # the seen gradient; a parameter at a bound is not at a maximum
        inside = np.array([lo < t < hi for t, (lo, hi) in zip(theta, bounds, strict=True)])
        self.converged_ = bool(inside.all() and np.abs(found.jac).max() < max(self.tolerance, 1e-4))
        self.r_, self.alpha_, self.s_, self.beta_, self.c_ = (float(v) for v in np.exp(theta))
        self.log_likelihood_ = likelihood(theta)[0] * scale
        self.n_customers_ = float(n * scale)
        return self

    def _rows(self, x: np.ndarray, t_x: np.ndarray, T: np.ndarray) -> tuple[np.ndarray, ...]:
        check_is_fitted(self, "r_")
        rows = (np.atleast_1d(np.asarray(v, float)) for v in (x, t_x, T))
        return (*(np.array([v]) for v in self.parameters().values()), *rows)

    def p_alive(self, x: np.ndarray, t_x: np.ndarray, T: np.ndarray) -> np.ndarray:
        """Probability that a customer with this history has not left."""
        return terms.p_alive(*self._rows(x, t_x, T))

    def survival(self, t: np.ndarray) -> np.ndarray:
        """Share of new customers still there at ``t``."""
        return terms.survival(self.s_, self.beta_, self.c_, np.asarray(t, float))

    def expected_purchases(self, t: float | np.ndarray) -> np.ndarray:
        """Repeat purchases that a new customer makes up to time ``t`` after the first one."""
        check_is_fitted(self, "r_")
        times = np.atleast_1d(np.asarray(t, float))
        grid = np.linspace(0.0, max(times.max(), 1e-9), 2001)
        alive = self.survival(grid)
        path = np.concatenate([[0.0], np.cumsum((alive[1:] + alive[:-1]) / 2 * np.diff(grid))])
        got = self.r_ / self.alpha_ * np.interp(times, grid, path)
        return got if np.ndim(t) else got[0]

    def conditional_expected_purchases(self, t: float, x: np.ndarray, t_x: np.ndarray, T: np.ndarray) -> np.ndarray:
        """Purchases in the next ``t`` of customers with this history."""
        _, _, _, _, _, x, t_x, T = self._rows(x, t_x, T)
        ages, index = np.unique(T, return_inverse=True)
        grid = np.linspace(0.0, float(t), 201)
        alive = self.survival(ages[:, None] + grid) / self.survival(ages)[:, None]
        time = ((alive[:, 1:] + alive[:, :-1]) / 2 * np.diff(grid)).sum(axis=1)
        return self.p_alive(x, t_x, T) * (self.r_ + x) / (self.alpha_ + T) * time[index.reshape(-1)]


def _thin(
    x: np.ndarray, t_x: np.ndarray, T: np.ndarray, w: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
    """Every so manieth row, in an order that makes it a sample of all kinds, and all customers over those kept."""
    if len(x) <= MOST_ROWS:
        return x, t_x, T, w, 1.0
    order = np.lexsort((t_x, x, T))
    # by cumulated weight, so that rows of many customers stand for them
    at = np.searchsorted(np.cumsum(w[order]), (np.arange(MOST_ROWS) + 0.5) / MOST_ROWS * w.sum())
    chosen, times = np.unique(order[np.minimum(at, len(order) - 1)], return_counts=True)
    return x[chosen], t_x[chosen], T[chosen], times.astype(float), float(w.sum() / MOST_ROWS)
