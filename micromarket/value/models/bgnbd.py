"""BG/NBD: how often customers buy and when they silently leave (no contract).

Fader, Hardie & Lee 2005, "Counting your customers the easy way", Marketing Science 24(2).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import ClassVar

import numpy as np
from scipy.special import betaln, digamma, gammaln

from micromarket.value.models.buy_till_you_die import BuyTillYouDie, Rows, negative_binomial
from micromarket.value.models.compression import Column, Counts, distinct
from micromarket.value.models.covariates import Linked, dropout_link
from micromarket.value.models.gamma_functions import trigamma
from micromarket.value.models.quadrature import beta_nodes, paths_at_nodes

_CHUNK = 8192  # rows that stay in the cache
_FEW = 64  # groups that are summed one by one

Sums = tuple[np.ndarray, np.ndarray, np.ndarray]


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


class BetaGeoNBD(BuyTillYouDie):
    """BG/NBD by maximum likelihood: Newton's method with analytic derivatives on compressed exact counts.

    Parameters
    ----------
    prior_sd : float, optional
        Standard deviation of a normal prior on the log parameters around plausible values (none: pure maximum
        likelihood). A wide one (2) leaves ordinary data alone and gives a finite answer where, for instance, nobody
        has bought twice.
    coef_sd : float, optional
        Ridge on the coefficients of covariates, see :class:`~micromarket.value.models.buy_till_you_die.BuyTillYouDie`.
    tolerance : float
        Largest absolute gradient of the mean log-likelihood at convergence.

    Attributes
    ----------
    r_, alpha_, a_, b_ : float
        ``alpha_`` in the unit of time of the data.
    coef_ : DataFrame or None
        Covariates x (purchase_rate, dropout).
    log_likelihood_ : float
        Without the prior.
    converged_ : bool
        By the norm of the gradient.
    covariance_ : array of shape (4, 4), or (4 + 2 p, 4 + 2 p) with p covariates
        Of the log parameters, then the coefficients (inverse information).

    See Also
    --------
    micromarket.value.models.mbgnbd.ModifiedBetaGeoNBD : customers may leave right after the first purchase.
    micromarket.value.models.paretonbd.ParetoNBD : customers may leave at any time.

    Examples
    --------
    >>> model = BetaGeoNBD().fit([2, 1, 0, 5], [30.4, 1.7, 0, 36], [38.9, 38.9, 38.9, 38], [20, 90, 300, 9])
    >>> model.converged_
    True
    """

    _names: ClassVar[tuple[str, ...]] = ("r", "alpha", "a", "b")
    #: 1 where the first purchase, too, may be the last (MBG/NBD): b becomes b + 1 in all that follows it.
    _first: ClassVar[int] = 0

    def _link(self, base: np.ndarray, eta: np.ndarray) -> Linked:
        return dropout_link(base, eta)

    def _centre(self, mean_x: float, mean_T: float) -> np.ndarray:
        return np.log([0.5, 0.5 * mean_T / (max(mean_x, 1e-9) + 0.5), 0.8, 2.5])

    def _likelihood(self, counts: Counts) -> Callable[[np.ndarray], Sums]:
        return likelihood(counts, self._first)

    def _p_alive(self, p: Rows, x: np.ndarray, t_x: np.ndarray, T: np.ndarray) -> np.ndarray:
        r, alpha, a, b = p
        return p_alive(r, alpha, a, b, x, t_x, T)

    def _new(self, p: Rows, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        r, alpha, a, b = p
        purchases, alive = paths_at_nodes(r, alpha, *beta_nodes(a, b + self._first), times)
        stay = (b / (a + b))[:, None] if self._first else 1.0
        return stay * purchases, stay * alive

    def _residual(self, p: Rows, x: np.ndarray, T: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        r, alpha, a, b = p
        a, b = np.broadcast_arrays(a, b + x + self._first)
        some, index = distinct(Column.of(a), Column.of(b))
        nodes, weights = beta_nodes(a[some], b[some])
        return paths_at_nodes(r + x, alpha + T, nodes[index], weights[index], times)

    def _frequencies(self, p: Rows, T: np.ndarray, up_to: int) -> np.ndarray:
        r, alpha, a, b = p
        made = negative_binomial(r, alpha, T, up_to)  # of who doesn't leave
        at_least = 1.0 - np.cumsum(made, axis=1) + made
        x, j = np.arange(up_to, dtype=float), self._first
        a, b = a[:, None], b[:, None]
        stayed = np.exp(betaln(a, b + x + j) - betaln(a, b))
        left = np.exp(betaln(a + 1, b + np.maximum(x + j - 1, 0)) - betaln(a, b))
        return stayed * made + np.where(x + j > 0, left, 0.0) * at_least


def likelihood(counts: Counts, first: int) -> Callable[[np.ndarray], Sums]:
    """Log-likelihood by group with derivatives in (r, alpha, a, b), as a function of them, (4, groups).

    Fader, Hardie & Lee 2005, eq. 6 (``first`` = 0); Hoppe & Wagner 2007 (``first`` = 1).
    """
    groups = counts.groups
    g, x, n = counts.levels()
    once = counts.x.array == 0 if not first else np.zeros(len(counts), bool)
    single, repeat = counts.rows(np.flatnonzero(once)), counts.rows(np.flatnonzero(~once))
    if groups <= _FEW:
        edges = repeat.bounds()
        parts = [_Table(repeat.rows(slice(i, k))) for i, k in pairwise(edges)]

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(g, weights=n * values, minlength=groups)

    def at(p: np.ndarray) -> Sums:
        r, alpha, a, b = p
        gradient, hessian = np.zeros((4, groups)), np.zeros((4, 4, groups))
        rg, ag, bg = r[g], a[g], b[g]
        end, both = bg + x + first, ag + bg
        value = total(
            gammaln(rg + x) - gammaln(rg) + rg * np.log(alpha[g])
            + gammaln(both) + gammaln(end) - gammaln(bg) - gammaln(ag + end)
        )  # fmt: skip
        gradient[0] = total(digamma(rg + x) - digamma(rg) + np.log(alpha[g]))
        gradient[1] = total(rg / alpha[g])
        gradient[2] = total(digamma(both) - digamma(ag + end))
        gradient[3] = gradient[2] + total(digamma(end) - digamma(bg))
        hessian[0, 0] = total(trigamma(rg + x) - trigamma(rg))
        hessian[0, 1] = total(1 / alpha[g])
        hessian[1, 1] = -total(rg / alpha[g] ** 2)
        hessian[2, 2] = total(trigamma(both) - trigamma(ag + end))
        hessian[2, 3] = hessian[2, 2]
        hessian[3, 3] = hessian[2, 2] + total(trigamma(end) - trigamma(bg))
        if len(single):
            h, m = single.group, single.customers
            far = alpha[h] + single.T.array
            log_far, once, twice = (
                np.bincount(h, weights=m * v, minlength=groups) for v in (np.log(far), 1 / far, 1 / far**2)
            )
            value -= r * log_far
            gradient[0] -= log_far
            gradient[1] -= r * once
            hessian[0, 1] -= once
            hessian[1, 1] += r * twice
        hessian[1, 0], hessian[3, 2] = hessian[0, 1], hessian[2, 3]
        if not len(repeat):
            return value, gradient, hessian
        if groups <= _FEW:
            sums = [part(r[i], alpha[i], a[i], b[i] + first) for i, part in enumerate(parts)]
            more = [np.stack(v, axis=-1) for v in zip(*sums, strict=True)]
        else:
            h, m = repeat.group, repeat.customers
            own = (r[h], alpha[h], a[h], b[h] + first, repeat.x.array, repeat.t_x.array, repeat.T.array)
            more = [_by_group(v * m, h, groups) for v in time_terms(*own)]
        return value + more[0], gradient + more[1], hessian + more[2]

    return at


def _by_group(values: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    """Sums over the last axis, whose rows are sorted by group."""
    first = np.flatnonzero(np.diff(group, prepend=-1))
    out = np.zeros((*values.shape[:-1], groups))
    out[..., group[first]] = np.add.reduceat(values, first, axis=-1)
    return out


class _Table:
    """Sums of :func:`time_terms` over the rows of one group: logarithms are looked up by the distinct t_x and T."""

    def __init__(self, counts: Counts):
        self._n = counts.customers
        self._x, self._near, self._far = counts.x, counts.t_x, counts.T
        size = len(self._near.values)
        self._per_near = np.bincount(self._near.code, weights=self._n, minlength=size)
        self._bought = np.bincount(self._near.code, weights=self._n * self._x.array, minlength=size)

    def __call__(self, r: float, alpha: float, a: float, b: float) -> tuple[float, np.ndarray, np.ndarray]:
        near, far = alpha + self._near.values, alpha + self._far.values
        log_near, log_far, inv_near, inv_far = np.log(near), np.log(far), 1 / near, 1 / far
        inv_b = 1.0 / np.maximum(b + self._x.values - 1.0, 1e-300)  # no row of a BG/NBD table has x = 0
        left, s = a * inv_b, r + self._x.values
        exposed = r * self._per_near + self._bought
        value = -(exposed @ log_near)
        gradient = np.array([-(self._per_near @ log_near), -(exposed @ inv_near), 0.0, 0.0])
        hessian = np.zeros((4, 4))
        hessian[0, 1] = -(self._per_near @ inv_near)
        hessian[1, 1] = exposed @ inv_near**2
        bend = out = 0.0
        for i in range(0, len(self._n), _CHUNK):
            rows = slice(i, i + _CHUNK)
            cx, cn, cf, n = self._x.code[rows], self._near.code[rows], self._far.code[rows], self._n[rows]
            q = np.empty((5, len(n)))  # minus the gradient of log stayed - log left; last the derivative's own slope
            np.subtract(log_far[cf], log_near[cn], out=q[0])
            ones, go = s[cx], left[cx]
            stayed = np.exp(-ones * q[0])
            total = stayed + go
            value += n @ np.log(total)
            w = stayed / total
            gone = 1.0 - w
            fn, ff = inv_near[cn], inv_far[cf]
            slope = ff - fn
            np.multiply(ones, slope, out=q[1])
            q[2] = 1.0 / a
            np.negative(inv_b[cx], out=q[3])
            q[4] = slope
            kept, lost = n * w, n * gone
            first = q @ kept
            hessian += (q[:4] * (kept * gone)) @ q[:4].T
            gradient[:2] -= first[:2]
            hessian[0, 1] -= first[4]
            hessian[1, 1] += kept @ (q[1] * (ff + fn))
            out += lost.sum()
            gradient[3] += lost @ q[3]
            bend += lost @ q[3] ** 2
        gradient[2] = out / a
        hessian[1, 0] = hessian[0, 1]
        hessian[2, 2] -= out / a**2
        hessian[3, 3] += bend
        return float(value), gradient, hessian


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
