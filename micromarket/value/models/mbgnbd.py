"""MBG/NBD: like BG/NBD, but a customer may also leave right after the first purchase.

Batislam, Denizel & Filiztekin 2007 (International Journal of Research in Marketing 24); Hoppe & Wagner 2007
(Marketing ZFP 29). Everything follows from BG/NBD with b + 1 in place of b.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from micromarket.value.models import bgnbd
from micromarket.value.models.buy_till_you_die import Rows


def time_terms(
    r: float | np.ndarray,
    alpha: float | np.ndarray,
    a: float | np.ndarray,
    b: float | np.ndarray,
    x: np.ndarray,
    t_x: np.ndarray,
    T: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The part of a row's log-likelihood that holds times, with derivatives in (r, alpha, a, b); x may be 0.

    -s log(alpha + t_x) + log(a / (b + x) + exp(-s D)) with s and D of :func:`bgnbd.time_terms`; the rest is
    gammaln(r + x) - gammaln(r) + r log(alpha) + betaln(a, b + x + 1) - betaln(a, b). Parameters may differ by row.

    Returns
    -------
    value (n,), gradient (4, n), hessian (4, 4, n)
    """
    return bgnbd.time_terms(r, alpha, a, b + 1.0, x, t_x, T)


def p_alive(
    r: float | np.ndarray,
    alpha: float | np.ndarray,
    a: float | np.ndarray,
    b: float | np.ndarray,
    x: np.ndarray,
    t_x: np.ndarray,
    T: np.ndarray,
) -> np.ndarray:
    """P(alive | x, t_x, T), below 1 for who bought once; parameters may differ by customer."""
    x, t_x, T = (np.asarray(v, float) for v in (x, t_x, T))
    log_odds_gone = np.log(a) - np.log(b + x) + (r + x) * (np.log(alpha + T) - np.log(alpha + t_x))
    return 1.0 / (1.0 + np.exp(np.minimum(log_odds_gone, 700.0)))


class ModifiedBetaGeoNBD(bgnbd.BetaGeoNBD):
    """MBG/NBD by maximum likelihood; parameters, attributes and methods of :class:`~bgnbd.BetaGeoNBD`.

    BG/NBD holds that everyone who bought once is still a customer; here they may have left at once, which suits
    markets where many customers never come back.

    Examples
    --------
    >>> model = ModifiedBetaGeoNBD().fit([2, 1, 0, 5], [30.4, 1.7, 0, 36], [38.9, 38.9, 38.9, 38], [20, 90, 300, 9])
    >>> bool(model.p_alive(0, 0, 38.9) < 1)
    True
    """

    _first: ClassVar[int] = 1

    def _p_alive(self, p: Rows, x: np.ndarray, t_x: np.ndarray, T: np.ndarray) -> np.ndarray:
        r, alpha, a, b = p
        return p_alive(r, alpha, a, b, x, t_x, T)
