"""Likelihood of a purchase history when customers leave after gamma-mixed Weibull lifetimes; parameters by row.

While there, a customer buys at rate lambda ~ Gamma(r, alpha); the lifetime has cumulative hazard mu t^c with
mu ~ Gamma(s, beta^c), so survival over customers is S(t) = (1 + (t / beta)^c)^-s (Burr type XII; c = 1: Pareto/NBD).
Given the time of leaving, lambda integrates out:

    L = G(r + x) / G(r) alpha^r [ (alpha + T)^-(r+x) S(T) + int_{t_x}^{T} f(y) (alpha + y)^-(r+x) dy ],  f = -S'.

The bracket is a mixture over times of leaving, by Gauss-Legendre nodes in a power of log(alpha + y); its derivatives
are means and covariances of the parts' derivatives.
"""

from __future__ import annotations

import numpy as np
from numpy.polynomial.legendre import leggauss
from numpy.typing import ArrayLike

_POINTS, _WEIGHTS = leggauss(20)
_POINTS, _WEIGHTS = (_POINTS + 1) / 2, _WEIGHTS / 2
# nodes in (0, 1) and logarithms of their weights: plain, and squared where the density may be infinite at 0
_Z = np.stack([_POINTS, _POINTS**2])
_LOG_W = np.log(np.stack([_WEIGHTS, 2 * _POINTS * _WEIGHTS]))
_NEGLIGIBLE = 36.0  # the integrand is cut where it has fallen by exp(-36)
_CHUNK = 1024  # rows whose nodes fit the cache
Row = np.ndarray


def _parts(
    r: Row, alpha: Row, s: Row, beta: Row, c: Row, x: Row, t_x: Row, T: Row
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logarithm of every part of the mixture (rows, nodes + 1), its time y, and log(1 + (y/beta)^c)."""
    k = (r + x)[:, None]
    near = np.log(alpha + t_x)
    length = np.minimum(np.log(alpha + T) - near, _NEGLIGIBLE / k[:, 0])[:, None]
    first = (t_x <= 0).astype(int)
    u = length * _Z[first]
    y = np.maximum((alpha + t_x)[:, None] * np.exp(u) - alpha[:, None], 1e-12)
    log_y = np.log(y)
    ratio = c[:, None] * (log_y - np.log(beta)[:, None])
    gone = np.log1p(np.exp(np.minimum(ratio, 700.0)))
    # everything that is the same at all nodes of a row, once
    row = np.log(s * c * np.maximum(length[:, 0], 1e-300)) - (k[:, 0] - 1) * near
    inside = row[:, None] + ratio - log_y - (s[:, None] + 1) * gone - (k - 1) * u + _LOG_W[first]
    end = c * (np.log(np.maximum(T, 1e-12)) - np.log(beta))
    stay = np.logaddexp(0.0, end)
    alive = -k[:, 0] * np.log(alpha + T) - s * stay
    return (
        np.concatenate([inside, alive[:, None]], axis=1),
        np.concatenate([y, np.maximum(T, 1e-12)[:, None]], axis=1),
        np.concatenate([gone, stay[:, None]], axis=1),
    )


def _blocks(rows: tuple[np.ndarray, ...]) -> list[list[np.ndarray]]:
    rows = tuple(np.broadcast_arrays(*(np.atleast_1d(np.asarray(v, float)) for v in rows)))
    return [[v[i : i + _CHUNK] for v in rows] for i in range(0, len(rows[0]), _CHUNK)]


def log_bracket(*rows: np.ndarray) -> np.ndarray:
    """Logarithm of the bracket; ``rows``: r, alpha, s, beta, c, x, t_x, T."""
    out = []
    for block in _blocks(rows):
        parts = _parts(*block)[0]
        top = parts.max(axis=1)
        out.append(top + np.log(np.exp(parts - top[:, None]).sum(axis=1)))
    return np.concatenate(out)


def shape_terms(*rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log bracket (n,) and its gradient (5, n) in (log r, log alpha, log s, log beta, log c); arguments as above."""
    values, gradients = [], []
    for block in _blocks(rows):
        r, alpha, s, beta, c, x, _, _ = block
        parts, y, gone = _parts(*block)
        top = parts.max(axis=1)
        weight = np.exp(parts - top[:, None])
        total = weight.sum(axis=1)
        weight /= total[:, None]
        lost, reach = -np.expm1(-gone), np.log(y) - np.log(beta)[:, None]
        by_s, by_c = 1 - s[:, None] * gone, 1 + c[:, None] * reach * (1 - (s[:, None] + 1) * lost)
        by_b = c[:, None] * (s[:, None] + 1) * lost - c[:, None]
        by_s[:, -1] = -s * gone[:, -1]
        by_c[:, -1] = -c * s * reach[:, -1] * lost[:, -1]
        by_b[:, -1] = c * s * lost[:, -1]
        each = (
            -r[:, None] * np.log(alpha[:, None] + y),
            -(r + x)[:, None] * alpha[:, None] / (alpha[:, None] + y),
            by_s,
            by_b,
            by_c,
        )
        values.append(top + np.log(total))
        gradients.append(np.stack([(weight * d).sum(axis=1) for d in each]))
    return np.concatenate(values), np.concatenate(gradients, axis=1)


def p_alive(*rows: np.ndarray) -> np.ndarray:
    """Probability that customers with this history are still there; arguments as above."""
    out = []
    for block in _blocks(rows):
        parts = _parts(*block)[0]
        share = np.exp(parts - parts.max(axis=1, keepdims=True))
        out.append(share[:, -1] / share.sum(axis=1))
    return np.concatenate(out)


def scale_terms(*rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gradient (2, n) and Hessian (2, 2, n) of the log bracket in (log alpha, log beta); arguments as above."""
    gradients, hessians = [], []
    for block in _blocks(rows):
        r, alpha, s, _, c, x, _, _ = block
        parts, y, gone = _parts(*block)
        weight = np.exp(parts - parts.max(axis=1, keepdims=True))
        weight /= weight.sum(axis=1, keepdims=True)
        k = (r + x)[:, None]
        share = alpha[:, None] / (alpha[:, None] + y)
        near = -k * share  # d log part / d log alpha at a fixed time of leaving
        near2 = -k * share * (1 - share)
        lost = -np.expm1(-gone)  # (y/beta)^c / (1 + (y/beta)^c)
        left = c[:, None] * (s[:, None] + 1) * lost - c[:, None]
        left[:, -1] = c * s * lost[:, -1]
        left2 = -(c**2 * (s + 1))[:, None] * lost * (1 - lost)
        left2[:, -1] = -(c**2) * s * lost[:, -1] * (1 - lost[:, -1])
        g0, g1 = (weight * near).sum(axis=1), (weight * left).sum(axis=1)
        gradients.append(np.stack([g0, g1]))
        h00 = (weight * (near2 + near**2)).sum(axis=1) - g0**2
        h01 = (weight * near * left).sum(axis=1) - g0 * g1
        h11 = (weight * (left2 + left**2)).sum(axis=1) - g1**2
        hessians.append(np.stack([np.stack([h00, h01]), np.stack([h01, h11])]))
    return np.concatenate(gradients, axis=1), np.concatenate(hessians, axis=2)


def survival(s: ArrayLike, beta: ArrayLike, c: ArrayLike, t: ArrayLike) -> np.ndarray:
    """S(t), arguments broadcast."""
    s, beta, c, t = (np.asarray(v, float) for v in (s, beta, c, t))
    return np.exp(-s * np.log1p((t / beta) ** c))
