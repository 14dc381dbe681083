"""BG/BB: purchases that can only happen once a period (donations a year, visits to a yearly fair), no contract.

Fader, Hardie & Shang 2010, "Customer-Base Analysis in a Discrete-Time Noncontractual Setting", Marketing Science 29.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaln, digamma, gammaln
from sklearn.base import BaseEstimator

from micromarket.value.models.compression import Counts, compress
from micromarket.value.models.gamma_functions import trigamma
from micromarket.value.models.newton import Derivatives, Maximum, add_normal_prior, log_scale, maximise
from micromarket.value.models.parameters import Parametric


class BetaGeoBetaBinomial(Parametric, BaseEstimator):
    """While alive a customer buys in each period with the same probability ~ Beta(alpha, beta), and is lost at the
    start of each with the same probability ~ Beta(gamma, delta).

    Parameters
    ----------
    prior_sd : float, optional
        Standard deviation of a normal prior on the log parameters around plausible values (none: maximum likelihood).
    tolerance : float
        Largest absolute gradient of the mean log-likelihood at convergence.

    Attributes
    ----------
    alpha_, beta_, gamma_, delta_ : float
    log_likelihood_, converged_, n_customers_
    covariance_ : array of shape (4, 4)
        Of the log parameters.

    Examples
    --------
    >>> model = BetaGeoBetaBinomial(prior_sd=2.0).fit([0, 1, 1, 3], [0, 1, 4, 5], [6, 6, 6, 6], [30, 10, 8, 5])
    >>> bool(model.expected_purchases(5) < 5)
    True
    """

    _names: ClassVar[tuple[str, ...]] = ("alpha", "beta", "gamma", "delta")

    def __init__(self, prior_sd: float | None = None, tolerance: float = 1e-9):
        self.prior_sd = prior_sd
        self.tolerance = tolerance

    def fit(self, x: ArrayLike, t_x: ArrayLike, n: ArrayLike, weights: ArrayLike | None = None) -> Self:
        """``x``: periods with a purchase after the first one; ``t_x``: the last of these (0: none); ``n``: periods
        observed; ``weights``: customers per row.

        Raises
        ------
        ValueError
            No customers, numbers that aren't whole, or impossible histories (0 <= x <= t_x <= n, x = 0 with t_x = 0).
        """
        x, t_x, n = (np.asarray(v, float) for v in (x, t_x, n))
        w = None if weights is None else np.asarray(weights, float)
        if (len(x) if w is None else w.sum()) <= 0:
            raise ValueError("BG/BB needs at least one customer")
        fine = (x >= 0) & (x <= t_x) & (t_x <= n) & ((x > 0) == (t_x > 0)) & np.isfinite(n)
        if not (fine & (x % 1 == 0) & (t_x % 1 == 0) & (n % 1 == 0)).all():
            raise ValueError("BG/BB needs whole numbers with 0 <= x <= t_x <= n, and t_x = 0 exactly where x = 0")
        counts = compress(x, t_x, n, w)
        size = float(counts.customers.sum())
        log_likelihood = _likelihood(counts)
        periods = max(float(counts.customers @ counts.T.array), 1.0)
        rate = np.clip(2 * float(counts.customers @ counts.x.array) / periods, 0.02, 0.8)
        centre = np.log([1.0, 1.0 / rate - 1.0, 0.7, 3.0])

        def objective(theta: np.ndarray) -> Derivatives:
            return add_normal_prior(log_likelihood(theta), theta, centre, self.prior_sd)

        best: Maximum | None = None
        for start in (centre, centre + np.array([0.7, 0.7, -0.7, 0.7]), centre + np.array([-0.7, -0.7, 0.7, 0.7])):
            found = maximise(objective, start, size, self.tolerance)
            if best is None or found.value > best.value:
                best = found
            if found.converged:
                break
        assert best is not None
        self.alpha_, self.beta_, self.gamma_, self.delta_ = (float(v) for v in np.exp(best.theta))
        self.log_likelihood_, self.n_customers_ = log_likelihood(best.theta)[0], size
        self.converged_, self.steps_, self.covariance_ = best.converged, best.steps, best.covariance()
        return self

    def survival(self, periods: ArrayLike) -> np.ndarray:
        """Probability that a new customer is still alive in the period this many after the first."""
        p = self.parameters()
        return np.exp(_log_stay(p["gamma"], p["delta"], np.asarray(periods, float)))

    def expected_purchases(self, t: ArrayLike) -> np.ndarray:
        """Repeat purchases of a new customer in the next ``t`` (whole) periods; shape of ``t``."""
        t = np.asarray(t, int)
        share = self.alpha_ / (self.alpha_ + self.beta_)
        alive = np.cumsum(np.append(0.0, self.survival(np.arange(1, t.max(initial=0) + 1))))
        return share * alive[t]

    def p_alive(self, x: ArrayLike, t_x: ArrayLike, n: ArrayLike) -> np.ndarray:
        """Probability that a customer with this history is alive in period n + 1 (eq. 11)."""
        x, t_x, n = np.broadcast_arrays(*(np.asarray(v, float) for v in (x, t_x, n)))
        return np.exp(self._alive_and(0, x, t_x, n) + _log_stay(self.gamma_, self.delta_, n + 1))

    def conditional_expected_purchases(self, t: int, x: ArrayLike, t_x: ArrayLike, n: ArrayLike) -> np.ndarray:
        """Purchases in the next ``t`` periods of customers with this history (eq. 13)."""
        x, t_x, n = np.broadcast_arrays(*(np.atleast_1d(np.asarray(v, float)) for v in (x, t_x, n)))
        longest = int(n.max(initial=0)) + int(t)
        there = np.cumsum(np.exp(_log_stay(self.gamma_, self.delta_, np.arange(longest + 1.0))))
        ahead = there[n.astype(int) + int(t)] - there[n.astype(int)]
        return np.exp(self._alive_and(1, x, t_x, n)) * ahead

    def expected_frequencies(self, n: ArrayLike, weights: ArrayLike | None = None, up_to: int = 7) -> np.ndarray:
        """Expected number of customers with 0, 1, ... ``up_to`` - 1, and with ``up_to`` or more, repeat purchases
        among customers observed for ``n`` periods; shape (up_to + 1,) (eq. 7)."""
        n = np.atleast_1d(np.asarray(n, int))
        w = np.ones(len(n)) if weights is None else np.asarray(weights, float)
        lengths, index = np.unique(n, return_inverse=True)
        size = np.bincount(index, weights=w)
        a, b, g, d = self.parameters().values()
        x, i = np.arange(up_to, dtype=float)[:, None], np.arange(lengths.max(initial=0) + 1.0)
        left = np.maximum(i - x, 0.0)
        log_made = gammaln(i + 1) - gammaln(x + 1) - gammaln(left + 1) + betaln(a + x, b + left) - betaln(a, b)
        made = np.where(i >= x, np.exp(log_made), 0.0)  # x purchases in i periods alive
        died = np.exp(betaln(g + 1, d + i) - betaln(g, d))
        earlier = np.concatenate([np.zeros((up_to, 1)), np.cumsum(made * died, axis=1)], axis=1)
        each = (earlier[:, lengths] + made[:, lengths] * np.exp(_log_stay(g, d, lengths.astype(float)))) @ size
        return np.append(each, max(size.sum() - each.sum(), 0.0))

    def expected_tracking(
        self, first_period: ArrayLike, periods: ArrayLike, weights: ArrayLike | None = None
    ) -> np.ndarray:
        """Cumulative expected repeat purchases of all customers together by each of ``periods``, with the period of
        each customer's first purchase on the same count; shape of ``periods``."""
        first, periods = np.atleast_1d(np.asarray(first_period, int)), np.asarray(periods, int)
        w = np.ones(len(first)) if weights is None else np.asarray(weights, float)
        begins, index = np.unique(first, return_inverse=True)
        ahead = np.maximum(periods.ravel()[None, :] - begins[:, None], 0)
        return (np.bincount(index, weights=w) @ self.expected_purchases(ahead)).reshape(periods.shape)

    def _alive_and(self, more: int, x: np.ndarray, t_x: np.ndarray, n: np.ndarray) -> np.ndarray:
        """Log of B(alpha + x + more, beta + n - x) / B(alpha, beta) / L, the factor of a survivor's terms."""
        a, b, g, d = self.parameters().values()
        counts = compress(x.ravel(), t_x.ravel(), n.ravel())
        row = _locate(counts, x.ravel(), t_x.ravel(), n.ravel())
        log_row = _rows(counts)(np.array([a, b, g, d]))[0]
        return betaln(a + x + more, b + n - x) - betaln(a, b) - log_row[row].reshape(x.shape)


def _log_stay(gamma: float, delta: float, periods: np.ndarray) -> np.ndarray:
    return betaln(gamma, delta + periods) - betaln(gamma, delta)


def _locate(counts: Counts, x: np.ndarray, t_x: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Which row of ``counts`` each history is."""
    sizes = [int(c.array.max(initial=0)) + 1 for c in (counts.x, counts.t_x)]
    key = (counts.T.array * sizes[1] + counts.t_x.array) * sizes[0] + counts.x.array
    return np.searchsorted(key, (n * sizes[1] + t_x) * sizes[0] + x)


def _likelihood(counts: Counts) -> Callable[[np.ndarray], Derivatives]:
    rows = _rows(counts)
    w = counts.customers

    def at(theta: np.ndarray) -> Derivatives:
        value, gradient, hessian = rows(np.exp(theta), True)
        return log_scale(theta, float(w @ value), gradient @ w, hessian @ w)

    return at


def _rows(counts: Counts) -> Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Log-likelihood of each history (eq. 5): a mixture over the period of death, and of being alive at the end.

    Gradients are the mixture's means of its terms' gradients; Hessians their covariance plus the mean of Hessians.
    """
    x, t_x, n = (c.array.astype(int) for c in (counts.x, counts.t_x, counts.T))
    terms = n - t_x + 1  # lost after period t_x, ..., n - 1; alive in n
    first = np.concatenate([[0], np.cumsum(terms)[:-1]]) if len(terms) else np.zeros(0, int)
    row = np.repeat(np.arange(len(x)), terms)
    m = t_x[row] + np.arange(terms.sum()) - first[row]
    lost = (m < n[row]).astype(int)
    bought, not_ = x[row], m - x[row]
    upto = np.arange(int(n.max(initial=0)) + 2.0)

    def at(p: np.ndarray, derivatives: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        a, b, g, d = p
        bases = (a + upto, b + upto, a + b + upto, g + upto[:2], d + upto, g + d + upto)
        codes = (bought, not_, m, lost, m, m + lost)

        def terms_of(function: Callable[[np.ndarray], np.ndarray]) -> list[np.ndarray]:
            tables = [function(v) for v in bases]
            return [table[code] - table[0] for table, code in zip(tables, codes, strict=True)]

        A, B, AB, G, D, GD = terms_of(gammaln)
        logs = A + B - AB + G + D - GD
        top = np.maximum.reduceat(logs, first)
        share = np.exp(logs - top[row])
        total = np.add.reduceat(share, first)
        value = top + np.log(total)
        if not derivatives:
            return value, np.empty(0), np.empty(0)
        share = share / total[row]
        A, B, AB, G, D, GD = terms_of(digamma)
        slope = np.stack([A - AB, B - AB, G - GD, D - GD])
        A, B, AB, G, D, GD = terms_of(trigamma)
        gradient = np.add.reduceat(share * slope, first, axis=1)
        bend = slope[:, None] * slope[None]
        for i, j, extra in ((0, 0, A - AB), (0, 1, -AB), (1, 1, B - AB), (2, 2, G - GD), (2, 3, -GD), (3, 3, D - GD)):
            bend[i, j] += extra
            if i != j:
                bend[j, i] += extra
        hessian = np.add.reduceat(share * bend, first, axis=2) - gradient[:, None] * gradient[None]
        return value, gradient, hessian

    return at
