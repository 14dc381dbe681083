"""Shifted-beta-geometric: how long contracts last (Fader & Hardie 2007, Journal of Interactive Marketing 21)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from micromarket.value.models.covariates import Likelihood, Linked, shift_link
from micromarket.value.models.retention import RetentionCurve, discount_factors

__all__ = ["ShiftedBetaGeometric", "discount_factors"]


class ShiftedBetaGeometric(RetentionCurve):
    """Each customer leaves with the same probability every period; that probability ~ Beta(alpha, beta) over customers.

    Who is still there after k periods leaves in the next with probability alpha / (alpha + beta + k).

    Parameters
    ----------
    prior_sd, coef_sd, tolerance
        See :class:`~micromarket.value.models.retention.RetentionCurve`.

    Attributes
    ----------
    alpha_, beta_ : float
    coef_ : DataFrame or None
        Covariates x (leaving,): change of the log odds of leaving, the same at every age.
    log_likelihood_, converged_, covariance_, n_customers_
        ``covariance_`` of the log parameters, then the coefficients; ``n_customers_``: largest number at risk at an
        age.

    See Also
    --------
    micromarket.value.models.bdw.BetaDiscreteWeibull : customers' own loss may rise or fall with age.
    """

    _names: ClassVar[tuple[str, ...]] = ("alpha", "beta")
    _prior, _prior_width = np.log([1.0, 32.0]), np.ones(2)

    def _link(self, base: np.ndarray, eta: np.ndarray) -> Linked:
        return shift_link(np.array([[1.0], [0.0]]), base, eta)

    def _starts(self, rate: float) -> list[np.ndarray]:
        return [np.log([1.0, max(1.0 / rate - 1.0, 0.1)])]

    def _likelihood(self, lost: np.ndarray, stayed: np.ndarray) -> Likelihood:
        age, gone, everyone = np.arange(lost.shape[1]), lost.sum(axis=1), lost + stayed

        def at(p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            alpha, beta = p
            kept = beta[:, None] + age
            both = alpha[:, None] + kept
            value = gone * np.log(alpha) + (stayed * np.log(kept) - everyone * np.log(both)).sum(axis=1)
            d_both, dd_both = -(everyone / both).sum(axis=1), (everyone / both**2).sum(axis=1)
            gradient = np.stack([gone / alpha + d_both, (stayed / kept).sum(axis=1) + d_both])
            hessian = np.stack([[dd_both, dd_both], [dd_both, dd_both]])
            hessian[0, 0] -= gone / alpha**2
            hessian[1, 1] -= (stayed / kept**2).sum(axis=1)
            return value, gradient, hessian

        return at

    def _log_stay(self, p: np.ndarray, age: np.ndarray) -> np.ndarray:
        alpha, beta = p
        return -np.log1p(alpha / (beta + age))
