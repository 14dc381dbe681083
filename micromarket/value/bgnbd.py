"""BG/NBD: how often customers buy and when they silently leave (no contract).

Fader, Hardie & Lee 2005, "Counting your customers the easy way", Marketing Science 24(2).
"""

from __future__ import annotations

from typing import Self

import numpy as np
from scipy.special import digamma, gammaln, polygamma
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from micromarket.value.newton import Derivatives, Maximum, add_normal_prior, log_scale, maximise
from micromarket.value.quadrature import residual_paths


def compress(
    x: np.ndarray, t_x: np.ndarray, T: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Distinct (x, t_x, T) and how many customers share each: the likelihood needs no more."""
    x, t_x, T = (np.asarray(v, float) for v in (x, t_x, T))
    counts = np.ones(len(x)) if weights is None else np.asarray(weights, float)
    order = np.lexsort((t_x, x, T))
    x, t_x, T, counts = x[order], t_x[order], T[order], counts[order]
    if len(x) == 0:
        return x, t_x, T, counts
    new = np.concatenate([[True], (np.diff(x) != 0) | (np.diff(t_x) != 0) | (np.diff(T) != 0)])
    first = np.flatnonzero(new)
    return x[first], t_x[first], T[first], np.add.reduceat(counts, first)


def time_terms(
    r: float | np.ndarray,
    alpha: float | np.ndarray,
    a: float | np.ndarray,
    b: float | np.ndarray,
    x: np.ndarray,
    t_x: np.ndarray,
    T: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The part of a repeat buyer's log-likelihood that holds times, with derivatives in (r, alpha, a, b); x > 0.

    In the stable form -s log(alpha + t_x) + log(a / (b + x - 1) + exp(-s D)), s = r + x,
    D = log((alpha + T) / (alpha + t_x)). Parameters may differ by row.

    Returns
    -------
    value (n,), gradient (4, n), hessian (4, 4, n)
    """
    s = r + x
    near, far = alpha + t_x, alpha + T
    log_near = np.log(near)
    ratio = np.log(far) - log_near
    left = a / (b + x - 1.0)
    stayed = np.exp(-s * ratio)
    total = left + stayed
    w = stayed / total
    gone = 1.0 - w
    slope = 1.0 / far - 1.0 / near
    inv_b = 1.0 / (b + x - 1.0)
    # the logarithm of a sum: gradients of its two terms, mixed with weights (gone, w)
    q = (-ratio, -s * slope, -np.ones_like(x) / a, inv_b)  # gradient of the second minus of the first term
    gradient = np.stack([-log_near + w * q[0], -s / near + w * q[1], gone / a, -gone * inv_b])
    mixed = w * gone
    hessian = np.empty((4, 4, len(x)))
    for i in range(4):
        for j in range(i + 1):
            hessian[i, j] = hessian[j, i] = mixed * q[i] * q[j]
    hessian[0, 1] -= 1.0 / near + w * slope
    hessian[1, 0] = hessian[0, 1]
    hessian[1, 1] += s / near**2 + w * s * (1.0 / far**2 - 1.0 / near**2)
    hessian[2, 2] -= gone / a**2
    hessian[3, 3] += gone * inv_b**2
    return -s * log_near + np.log(total), gradient, hessian


class BetaGeoNBD(BaseEstimator):
    """BG/NBD by maximum likelihood: Newton's method with analytic derivatives on compressed exact counts.

    Parameters
    ----------
    prior_sd : float, optional
        Standard deviation of a normal prior on the log parameters around plausible values (none: pure maximum
        likelihood). A wide one (2) leaves ordinary data alone and gives a finite answer where, for instance, nobody
        has bought twice.
    tolerance : float
        Largest absolute gradient of the mean log-likelihood at convergence.

    Attributes
    ----------
    r_, alpha_, a_, b_ : float
        ``alpha_`` in the unit of time of the data.
    log_likelihood_ : float
        Without the prior.
    converged_ : bool
        By the norm of the gradient.
    covariance_ : array of shape (4, 4)
        Of the log parameters (inverse information).

    Examples
    --------
    >>> model = BetaGeoNBD().fit([2, 1, 0, 5], [30.4, 1.7, 0, 36], [38.9, 38.9, 38.9, 38], [20, 90, 300, 9])
    >>> model.converged_
    True
    """

    def __init__(self, prior_sd: float | None = None, tolerance: float = 1e-9):
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
        x, t_x, T, w = compress(x, t_x, T, weights)
        if w.sum() <= 0:
            raise ValueError("BG/NBD needs at least one customer")
        if (t_x < 0).any() or (t_x > T).any() or (x < 0).any():
            raise ValueError("BG/NBD needs 0 <= t_x <= T and x >= 0 for every customer")
        n = w.sum()
        mean_T, mean_x = max((w * T).sum() / n, 1e-9), (w * x).sum() / n
        centre = np.log([0.5, 0.5 * mean_T / (mean_x + 0.5), 0.8, 2.5])
        levels, index = np.unique(x, return_inverse=True)
        per_level = np.bincount(index, weights=w)
        one, many = x == 0, x > 0
        T0, w0 = T[one], w[one]
        rows = (x[many], t_x[many], T[many])
        wm = w[many]

        def log_likelihood(theta: np.ndarray) -> Derivatives:
            r, alpha, a, b = np.exp(theta)
            value = per_level @ (gammaln(r + levels) - gammaln(r)) + n * r * np.log(alpha)
            value += per_level @ (gammaln(a + b) + gammaln(b + levels) - gammaln(b) - gammaln(a + b + levels))
            d_ab = per_level @ (digamma(a + b) - digamma(a + b + levels))
            dd_ab = per_level @ (polygamma(1, a + b) - polygamma(1, a + b + levels))
            gradient = np.array(
                [
                    per_level @ (digamma(r + levels) - digamma(r)) + n * np.log(alpha),
                    n * r / alpha,
                    d_ab,
                    d_ab + per_level @ (digamma(b + levels) - digamma(b)),
                ]
            )
            hessian = np.zeros((4, 4))
            hessian[0, 0] = per_level @ (polygamma(1, r + levels) - polygamma(1, r))
            hessian[0, 1] = hessian[1, 0] = n / alpha
            hessian[1, 1] = -n * r / alpha**2
            hessian[2:, 2:] = dd_ab
            hessian[3, 3] += per_level @ (polygamma(1, b + levels) - polygamma(1, b))
            far = alpha + T0
            value -= r * (w0 @ np.log(far))
            gradient[0] -= w0 @ np.log(far)
            gradient[1] -= r * (w0 @ (1 / far))
            hessian[0, 1] -= w0 @ (1 / far)
            hessian[1, 0] = hessian[0, 1]
            hessian[1, 1] += r * (w0 @ (1 / far**2))
            if len(wm):
                row_value, row_gradient, row_hessian = time_terms(r, alpha, a, b, *rows)
                value += row_value @ wm
                gradient += row_gradient @ wm
                hessian += row_hessian @ wm
            return log_scale(theta, value, gradient, hessian)

        def objective(theta: np.ndarray) -> Derivatives:
            return add_normal_prior(log_likelihood(theta), theta, centre, self.prior_sd)

        best: Maximum | None = None
        for start in (centre, centre + np.array([0.0, 0.0, -1.5, 1.0]), centre + np.array([0.7, 0.7, 0.7, 0.7])):
            found = maximise(objective, start, scale=n, tolerance=self.tolerance)
            if best is None or found.value > best.value:
                best = found
            if found.converged:
                break
        assert best is not None
        self.r_, self.alpha_, self.a_, self.b_ = (float(v) for v in np.exp(best.theta))
        self.log_likelihood_ = float(log_likelihood(best.theta)[0])
        self.converged_, self.steps_ = best.converged, best.steps
        self.covariance_ = best.covariance()
        self.n_customers_ = float(n)
        return self

    def parameters(self) -> dict[str, float]:
        check_is_fitted(self, "r_")
        return {"r": self.r_, "alpha": self.alpha_, "a": self.a_, "b": self.b_}

    def p_alive(self, x: np.ndarray, t_x: np.ndarray, T: np.ndarray) -> np.ndarray:
        """Probability that a customer with this history has not left (1 for who bought once, by construction)."""
        check_is_fitted(self, "r_")
        return p_alive(self.r_, self.alpha_, self.a_, self.b_, x, t_x, T)

    def expected_purchases(self, t: float | np.ndarray) -> np.ndarray:
        """Repeat purchases that a new customer makes up to time ``t`` after the first one."""
        check_is_fitted(self, "r_")
        times = np.atleast_1d(np.asarray(t, float))
        path = residual_paths(self.r_, self.alpha_, self.a_, self.b_, times)[0][0]
        return path if np.ndim(t) else path[0]

    def conditional_expected_purchases(self, t: float, x: np.ndarray, t_x: np.ndarray, T: np.ndarray) -> np.ndarray:
        """Purchases in the next ``t`` of customers with this history."""
        check_is_fitted(self, "r_")
        x, t_x, T = (np.atleast_1d(np.asarray(v, float)) for v in (x, t_x, T))
        pairs, index = np.unique(np.stack([x, T]), axis=1, return_inverse=True)
        rows = []
        for i in range(0, pairs.shape[1], 5000):  # bounds the memory
            ux, uT = pairs[:, i : i + 5000]
            rows.append(residual_paths(self.r_ + ux, self.alpha_ + uT, self.a_, self.b_ + ux, np.array([float(t)]))[0])
        return np.concatenate(rows)[:, 0][index.reshape(-1)] * self.p_alive(x, t_x, T)


def p_alive(
    r: float | np.ndarray,
    alpha: float | np.ndarray,
    a: float | np.ndarray,
    b: float | np.ndarray,
    x: np.ndarray,
    t_x: np.ndarray,
    T: np.ndarray,
) -> np.ndarray:
    """P(alive | x, t_x, T) (Fader, Hardie & Lee 2008, "Computing P(alive)"); parameters may differ by customer."""
    x, t_x, T = (np.asarray(v, float) for v in (x, t_x, T))
    log_odds_gone = np.log(a) - np.log(b + np.maximum(x, 1) - 1) + (r + x) * (np.log(alpha + T) - np.log(alpha + t_x))
    return np.where(x > 0, 1.0 / (1.0 + np.exp(np.minimum(log_odds_gone, 700.0))), 1.0)
