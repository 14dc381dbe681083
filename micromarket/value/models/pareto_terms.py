"""The Pareto/NBD likelihood of one history, its derivatives, P(alive) and residual purchases; parameters by row.

While alive a customer buys at rate lambda ~ Gamma(r, alpha) and leaves at rate mu ~ Gamma(s, beta) (Schmittlein,
Morrison & Colombo 1987, Management Science 33). Given the time of death, lambda integrates out in closed form:

    L = G(r + x) / G(r) alpha^r [ (alpha + T)^-(r+x) (beta / (beta + T))^s
                                  + int_{t_x}^{T} s beta^s (beta + y)^-(s+1) (alpha + y)^-(r+x) dy ].

The published form (Fader & Hardie 2005, note 009) writes the integral with differences of Gaussian hypergeometric
functions, which lose digits and overflow for busy customers. In log(min(alpha, beta) + y) the integrand has no
singularity within pi of the real axis, so Gauss-Legendre nodes give the integral to about 1e-10 for any parameters
(1e-12 for ordinary ones), and exact derivatives under the integral at the same nodes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.polynomial.legendre import leggauss
from numpy.typing import ArrayLike
from scipy.special import exprel

_NODES = {n: leggauss(n) for n in (8, 16, 32)}
_NEGLIGIBLE = 42.0  # the integrand is cut where it has fallen by exp(-42)
_CHUNK = 2048  # rows whose nodes fit the cache


def _rows(*values: ArrayLike) -> list[np.ndarray]:
    return [np.ravel(v) for v in np.broadcast_arrays(*(np.asarray(v, float) for v in values))]


def _fall(r: np.ndarray, s: np.ndarray, log_a: np.ndarray, log_b: np.ndarray) -> np.ndarray:
    return r * log_a + s * log_b


def _grid(rows: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Start and length of the integral in log(min(alpha, beta) + y), the fall of the integrand, and nodes by row."""
    r, alpha, s, beta, x, t_x, T = rows
    k, near = r + x, np.minimum(alpha, beta)
    a, b = alpha + t_x, beta + t_x
    start, end = np.log(near + t_x), np.log(near + T)
    whole = fall = _fall(k, s, np.log1p((T - t_x) / a), np.log1p((T - t_x) / b))
    long = np.flatnonzero(fall > _NEGLIGIBLE)
    if len(long):
        k, s, a, b, near, away, u = (v[long] for v in (k, s, a, b, near, near + t_x, end))
        over = fall[long] - _NEGLIGIBLE
        for _ in range(6):  # Newton on a convex rising function, from above: never cuts too much
            gone = np.exp(u)
            u = u - np.maximum(over, 0.0) / (gone * (k / (a + gone - away) + s / (b + gone - away)))
            gone = np.exp(u) - away
            over = _fall(k, s, np.log1p(gone / a), np.log1p(gone / b)) - _NEGLIGIBLE
        end = end.copy()
        end[long] = np.maximum(u, start[long])
    length, fall = end - start, np.minimum(fall, _NEGLIGIBLE)
    nodes = np.where((fall < 4) & (length < 1), 8, np.where((fall < 16) & (length < 3), 16, 32))
    return start, length, whole, nodes


def _chunks(nodes: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
    for n in _NODES:
        rows = np.flatnonzero(nodes == n)
        for i in range(0, len(rows), _CHUNK):
            yield rows[i : i + _CHUNK], n


def _integrand(
    rows: list[np.ndarray], start: np.ndarray, length: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """At each row's nodes: weight times integrand over its value scale at t_x; y - t_x; logs of (alpha + y) and of
    (beta + y) over their values at t_x."""
    r, alpha, s, beta, x, t_x, _ = (v[:, None] for v in rows)
    points, weights = _NODES[n]
    near = np.minimum(alpha, beta)
    y = (near + t_x) * np.expm1(length[:, None] * (0.5 * (points + 1)))  # time since t_x
    a, b = alpha + t_x, beta + t_x
    log_a, log_b = np.log1p(y / a), np.log1p(y / b)
    density = (near + t_x + y) / (b + y) * s * np.exp(-_fall(r + x, s, log_a, log_b))
    return density * (0.5 * length[:, None] * weights), y, log_a, log_b


def time_terms(
    r: ArrayLike, alpha: ArrayLike, s: ArrayLike, beta: ArrayLike, x: ArrayLike, t_x: ArrayLike, T: ArrayLike
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logarithm of the bracket in the module's formula, with derivatives in (r, alpha, s, beta).

    The rest of a row's log-likelihood is gammaln(r + x) - gammaln(r) + r log(alpha). Parameters may differ by row.

    Returns
    -------
    value (n,), gradient (4, n), hessian (4, 4, n)
    """
    rows = _rows(r, alpha, s, beta, x, t_x, T)
    start, length, fall, nodes = _grid(rows)
    size = len(fall)
    value, gradient, hessian = np.empty(size), np.empty((4, size)), np.empty((4, 4, size))
    for at, n in _chunks(nodes):
        some = [v[at] for v in rows]
        weight, y, log_a, log_b = _integrand(some, start[at], length[at], n)
        value[at], gradient[:, at], hessian[:, :, at] = _derivatives(some, weight, y, log_a, log_b, fall[at])
    return value, gradient, hessian


def _derivatives(
    rows: list[np.ndarray], weight: np.ndarray, y: np.ndarray, log_a: np.ndarray, log_b: np.ndarray, fall: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The bracket is a mixture over times of death and being alive at T: gradients are its means of the parts'
    gradients, the Hessian their covariance plus the mean of the parts' Hessians. Everything relative to t_x, so that
    variances of nearly equal logarithms keep their digits."""
    r, alpha, s, beta, x, t_x, T = rows
    k, a, b = r + x, alpha + t_x, beta + t_x
    ca, cb = 1 / a, 1 / b
    stay = np.exp(-fall)
    total = weight.sum(axis=1) + stay
    value = -k * np.log(a) - s * np.log1p(t_x / beta) + np.log(total)
    weight = weight / total[:, None]
    e = stay / total
    # features (1, la, da, lb, db): logs as above; da = 1 / (alpha + y) - 1 / (alpha + t_x), db alike
    features = np.empty((len(k), 5, y.shape[1]))
    features[:, 0], features[:, 1], features[:, 3] = 1.0, log_a, log_b
    features[:, 2] = -y * ca[:, None] / (a[:, None] + y)
    features[:, 4] = -y * cb[:, None] / (b[:, None] + y)
    m = np.moveaxis((features * weight[:, None, :]) @ features.transpose(0, 2, 1), 0, 2)
    q, la, da, lb, db = m[0]
    end = T - t_x
    eA, eB = np.log1p(end * ca), np.log1p(end * cb)
    fa, fb = -end * ca / (a + end), -end * cb / (b + end)
    s1 = s + 1
    g = np.stack([-la - e * eA, -k * (da + e * fa), q / s - lb - e * eB, -cb * q - s1 * db - e * s * fb])
    h = np.empty((4, 4, len(k)))
    h[0, 0] = m[1, 1] + e * eA**2
    h[0, 1] = k * (m[1, 2] + e * eA * fa) - da - e * fa
    h[0, 2] = m[1, 3] - la / s + e * eA * eB
    h[0, 3] = cb * la + s1 * m[1, 4] + e * s * eA * fb
    h[1, 1] = k * ((k + 1) * (m[2, 2] + e * fa**2) + 2 * ca * (da + e * fa))
    h[1, 2] = k * (m[2, 3] - da / s + e * fa * eB)
    h[1, 3] = k * (cb * da + s1 * m[2, 4] + e * s * fa * fb)
    h[2, 2] = m[3, 3] - 2 * lb / s + e * eB**2
    h[2, 3] = cb * lb + s1 * (m[3, 4] - db / s) - cb * q / s - db + e * fb * (s * eB - 1)
    h[3, 3] = s1 * ((s1 + 1) * m[4, 4] + 4 * cb * db) + 2 * cb**2 * q + e * s * fb * (s1 * fb + 2 * cb)
    for i in range(4):
        for j in range(i, 4):
            h[i, j] -= g[i] * g[j]
            h[j, i] = h[i, j]
    # and the scale at t_x that was divided out
    g += np.stack([-np.log(a), -k * ca, -np.log1p(t_x / beta), s * (t_x / beta) * cb])
    h[0, 1] -= ca
    h[1, 0] = h[0, 1]
    h[1, 1] += k * ca**2
    h[2, 3] += t_x / beta * cb
    h[3, 2] = h[2, 3]
    h[3, 3] += s * (cb**2 - 1 / beta**2)
    return value, g, h


def p_alive(
    r: ArrayLike, alpha: ArrayLike, s: ArrayLike, beta: ArrayLike, x: ArrayLike, t_x: ArrayLike, T: ArrayLike
) -> np.ndarray:
    """P(alive at T | x, t_x, T); parameters may differ by row."""
    rows = _rows(r, alpha, s, beta, x, t_x, T)
    start, length, fall, nodes = _grid(rows)
    result = np.empty(len(fall))
    for at, n in _chunks(nodes):
        gone = _integrand([v[at] for v in rows], start[at], length[at], n)[0].sum(axis=1)
        stay = np.exp(-fall[at])
        result[at] = stay / (gone + stay)
    return result


def residual_paths(
    shape: ArrayLike, scale: ArrayLike, s: ArrayLike, beta_T: ArrayLike, times: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Expected purchases up to each time, and the probability to be alive then, for customers who are alive now.

    Their purchase rate is Gamma(shape, scale), their rate of leaving Gamma(s, beta_T): after a history (x, T) r + x,
    alpha + T, s, beta + T. In closed form, stable at s = 1.

    Parameters
    ----------
    shape, scale, s, beta_T : array of shape (n,), or number
    times : array of shape (m,)
        Same unit as ``scale`` and ``beta_T``.

    Returns
    -------
    purchases, alive : arrays of shape (n, m)
    """
    shape, scale, s, beta_T = (v[:, None] for v in _rows(shape, scale, s, beta_T))
    passed = np.log1p(np.asarray(times, float)[None, :] / beta_T)
    return shape / scale * beta_T * passed * exprel((1 - s) * passed), np.exp(-s * passed)
