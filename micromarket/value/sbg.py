"""Shifted-beta-geometric: how long contracts last (Fader & Hardie 2007, Journal of Interactive Marketing 21)."""

from __future__ import annotations

from typing import Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from micromarket.value.newton import Derivatives, add_normal_prior, log_scale, maximise


def discount_factors(months: np.ndarray, rate_per_year: float) -> np.ndarray:
    """Present value of one unit of money ``months`` from now."""
    return (1.0 + rate_per_year) ** (-np.asarray(months, float) / 12.0)


class ShiftedBetaGeometric(BaseEstimator):
    """Each customer leaves with the same probability every period; that probability ~ Beta(alpha, beta) over customers.

    Who is still there after k periods leaves in the next with probability alpha / (alpha + beta + k), so the
    likelihood of any mix of cohorts, with contracts still running (right-censored) or first seen at some age
    (left-truncated), needs only how many were lost and how many stayed at each age.

    Parameters
    ----------
    prior_sd : float, optional
        Standard deviation of a normal prior on the log parameters (around a loss of 3% per period; none: maximum
        likelihood). Needed where nobody, or everybody, has left.

    Attributes
    ----------
    alpha_, beta_, log_likelihood_, converged_, covariance_
    """

    def __init__(self, prior_sd: float | None = None, tolerance: float = 1e-10):
        self.prior_sd = prior_sd
        self.tolerance = tolerance

    def fit(self, lost: np.ndarray, stayed: np.ndarray) -> Self:
        """``lost[k]``, ``stayed[k]``: customers of age k (whole periods) who left, stayed, over the next period.

        ``stayed`` may hold fractions (a customer observed for half a period stayed half of it).

        Raises
        ------
        ValueError
            Where nobody was observed, or a count is negative.
        """
        lost, stayed = np.asarray(lost, float), np.asarray(stayed, float)
        if (lost < 0).any() or (stayed < 0).any() or lost.sum() + stayed.sum() <= 0:
            raise ValueError("sBG needs counts of at least 0, and somebody observed")
        age = np.arange(len(lost), dtype=float)
        scale = max(lost.sum() + stayed.sum(), 1.0)
        centre = np.log([1.0, 32.0])

        def log_likelihood(theta: np.ndarray) -> Derivatives:
            alpha, beta = np.exp(theta)
            both, kept = alpha + beta + age, beta + age
            everyone = lost + stayed
            value = lost.sum() * theta[0] + stayed @ np.log(kept) - everyone @ np.log(both)
            d_both = -(everyone @ (1 / both))
            dd_both = everyone @ (1 / both**2)
            gradient = np.array([lost.sum() / alpha + d_both, stayed @ (1 / kept) + d_both])
            hessian = np.full((2, 2), dd_both)
            hessian[0, 0] -= lost.sum() / alpha**2
            hessian[1, 1] -= stayed @ (1 / kept**2)
            return log_scale(theta, float(value), gradient, hessian)

        def objective(theta: np.ndarray) -> Derivatives:
            return add_normal_prior(log_likelihood(theta), theta, centre, self.prior_sd)

        rate = (lost.sum() + 0.5) / (lost.sum() + stayed.sum() + 1.0)
        start = np.log([1.0, max(1.0 / rate - 1.0, 0.1)])
        found = maximise(objective, start, scale, self.tolerance, max_steps=200)
        self.alpha_, self.beta_ = (float(v) for v in np.exp(found.theta))
        self.log_likelihood_ = float(log_likelihood(found.theta)[0])
        self.converged_, self.covariance_ = found.converged, found.covariance()
        return self

    def parameters(self) -> dict[str, float]:
        check_is_fitted(self, "alpha_")
        return {"alpha": self.alpha_, "beta": self.beta_}

    def hazard(self, age: np.ndarray) -> np.ndarray:
        """Probability that a customer of this age (whole periods) leaves over the next period."""
        check_is_fitted(self, "alpha_")
        return self.alpha_ / (self.alpha_ + self.beta_ + np.asarray(age, float))

    def survival(self, periods: int, age: int = 0) -> np.ndarray:
        """Probability that a customer of ``age`` is still there 0, 1, ... ``periods`` periods from now."""
        kept = np.log1p(-self.hazard(age + np.arange(periods)))
        return np.exp(np.concatenate([[0.0], np.cumsum(kept)]))

    def discounted_lifetime(self, horizon_months: int, discount_rate: float, age: int = 0) -> float:
        """Expected months, discounted (rate per year), that a customer of ``age`` months stays within the horizon.

        Times margin per month it is the lifetime value: of a new customer with age 0, of a current one with the age
        they have (residual lifetime). Money arrives in the middle of each month.
        """
        there = self.survival(horizon_months, age)
        mid = discount_factors(np.arange(horizon_months) + 0.5, discount_rate)
        return float(((there[:-1] + there[1:]) / 2) @ mid)
