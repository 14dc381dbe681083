"""Expected purchases and survival under BG/NBD by Gauss-Jacobi quadrature over the dropout probability.

Given purchase rate lambda ~ Gamma(s, A) and dropout probability p ~ Beta(a, b) of a customer who is alive now,
purchases go on at rate lambda exp(-lambda p t) (every purchase ends the relationship with probability p), so

    E[purchases up to t] = E_p[(1 - (A / (A + p t))^s) / p],    P(alive at t) = E_p[(A / (A + p t))^s].

The published form (Fader, Hardie & Lee 2005, eq. 9, 10) is the first integral in closed form with a Gaussian
hypergeometric function; it is 0/0 at a = 1 and loses digits near it. The integral has no such point.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

NODES = 32


def beta_nodes(a: np.ndarray, b: np.ndarray, nodes: int = NODES) -> tuple[np.ndarray, np.ndarray]:
    """Points and weights of Gauss quadrature for Beta(a, b), arrays of shape (len(a), nodes); weights sum to 1.

    Golub & Welsch 1969; the weights come from the eigenvectors, so no gamma function can overflow.
    """
    a, b = np.atleast_1d(np.asarray(a, float)), np.atleast_1d(np.asarray(b, float))
    lower, upper = (b - 1)[:, None], (a - 1)[:, None]  # exponents of (1 - z) and (1 + z) on [-1, 1]
    k = np.arange(1, nodes, dtype=float)[None, :]
    both = 2 * k + lower + upper
    diagonal = np.concatenate([(upper - lower) / (lower + upper + 2), (upper**2 - lower**2) / (both * (both + 2))], 1)
    first = 4 * (1 + lower) * (1 + upper) / ((2 + lower + upper) ** 2 * (3 + lower + upper))
    k, both = k[:, 1:], both[:, 1:]
    rest = 4 * k * (k + lower) * (k + upper) * (k + lower + upper) / (both**2 * (both + 1) * (both - 1))
    off = np.sqrt(np.concatenate([first, rest], 1))
    matrix = np.zeros((len(a), nodes, nodes))
    i = np.arange(nodes)
    matrix[:, i, i] = diagonal
    matrix[:, i[1:], i[:-1]] = off  # eigh reads the lower triangle
    z, vectors = np.linalg.eigh(matrix)
    return np.clip((1 + z) / 2, 1e-300, 1.0), vectors[:, 0, :] ** 2


def residual_paths(
    s: ArrayLike, scale: ArrayLike, a: ArrayLike, b: ArrayLike, times: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Expected purchases up to each time, and the probability to be alive then, for customers who are alive now.

    Parameters
    ----------
    s, scale, a, b : array of shape (n,), or number
        Gamma shape and scale (time) of the rate, Beta parameters of the dropout probability.
    times : array of shape (m,)
        Same unit as ``scale``.

    Returns
    -------
    purchases, alive : arrays of shape (n, m)
    """
    rows = np.broadcast_arrays(*(np.atleast_1d(np.asarray(v, float)) for v in (s, scale, a, b)))
    return paths_at_nodes(rows[0], rows[1], *beta_nodes(rows[2], rows[3]), times)


def paths_at_nodes(
    s: np.ndarray, scale: np.ndarray, p: np.ndarray, weights: np.ndarray, times: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """:func:`residual_paths` at nodes that are known already."""
    exponent = -s[:, None, None] * np.log1p(p[:, None, :] * (times[None, :, None] / scale[:, None, None]))
    purchases = np.einsum("nmj,nj->nm", -np.expm1(exponent), weights / p)
    return purchases, np.einsum("nmj,nj->nm", np.exp(exponent), weights)
