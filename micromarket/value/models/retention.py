"""What models of contract lifetimes share: fit on counts by age, covariates, survival, discounted lifetime."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator

from micromarket.value.models.covariates import Design, Likelihood, Linked, as_matrix, at_zero, chain
from micromarket.value.models.newton import Derivatives, Maximum, add_normal_prior, maximise
from micromarket.value.models.parameters import Parametric

Covariates = ArrayLike | pd.DataFrame | None


def discount_factors(months: np.ndarray, rate_per_year: float) -> np.ndarray:
    """Present value of one unit of money ``months`` from now."""
    return (1.0 + rate_per_year) ** (-np.asarray(months, float) / 12.0)


class RetentionCurve(Parametric, BaseEstimator, ABC):
    """Base of the models of contracts in discrete time (whole periods).

    The likelihood of any mix of cohorts, with contracts still running (right-censored) or first seen at some age
    (left-truncated), needs only how many were lost and how many stayed at each age.

    Parameters
    ----------
    prior_sd : float, optional
        Standard deviation of a normal prior on the log parameters (around a loss of 3% per period; none: maximum
        likelihood). Needed where nobody, or everybody, has left.
    coef_sd : float, optional
        Standard deviation of a normal prior around 0 on the coefficients, per standard deviation of their covariate
        (ridge; none: maximum likelihood).
    tolerance : float
        Largest absolute gradient of the mean log-likelihood at convergence.
    """

    _prior: ClassVar[np.ndarray]
    _prior_width: ClassVar[np.ndarray]  # of each parameter, times prior_sd
    _effects: ClassVar[tuple[str, ...]] = ("leaving",)

    def __init__(self, prior_sd: float | None = None, coef_sd: float | None = None, tolerance: float = 1e-10):
        self.prior_sd = prior_sd
        self.coef_sd = coef_sd
        self.tolerance = tolerance

    @abstractmethod
    def _link(self, base: np.ndarray, eta: np.ndarray) -> Linked:
        """See :data:`~micromarket.value.models.covariates.Link`."""

    @abstractmethod
    def _likelihood(self, lost: np.ndarray, stayed: np.ndarray) -> Likelihood:
        """Log-likelihood of each row of counts (g, ages) with derivatives, as a function of its parameters (k, g)."""

    @abstractmethod
    def _starts(self, rate: float) -> list[np.ndarray]:
        """Log parameters to begin at, for an average loss per period."""

    @abstractmethod
    def _log_stay(self, p: np.ndarray, age: np.ndarray) -> np.ndarray:
        """Log of the probability to stay over the next period; ``p`` (k, n, 1), result (n, ages)."""

    def fit(self, lost: ArrayLike, stayed: ArrayLike, covariates: Covariates = None) -> Self:
        """``lost[k]``, ``stayed[k]``: customers of age k (whole periods) who left, stayed, over the next period.

        ``stayed`` may hold fractions (a customer observed for half a period stayed half of it). With covariates
        (g, p) both are (g, ages): a row of counts per row of covariates.

        Raises
        ------
        ValueError
            Where nobody was observed, a count is negative or missing, or covariates can't be used.
        """
        name = type(self).__name__
        gone, kept = np.atleast_2d(np.asarray(lost, float)), np.atleast_2d(np.asarray(stayed, float))
        if gone.shape != kept.shape or gone.ndim > 2:
            raise ValueError(f"{name} needs lost and stayed of one shape, has {gone.shape} and {kept.shape}")
        if covariates is None and len(gone) > 1:
            raise ValueError(f"{name} takes one count per age; several rows need covariates that tell them apart")
        if not ((gone >= 0) & (kept >= 0)).all() or gone.sum() + kept.sum() <= 0:
            raise ValueError(f"{name} needs counts of at least 0, and somebody observed")
        design = None
        if covariates is not None:
            weights = (gone + kept).sum(axis=1)
            some = weights > 0
            gone, kept, weights = gone[some], kept[some], weights[some]
            Z = covariates.loc[some] if isinstance(covariates, pd.DataFrame) else np.asarray(covariates, float)[some]
            design, index = Design.of(Z, weights, self.coef_sd is not None)
            gone, kept = _total(gone, index, len(design.Z)), _total(kept, index, len(design.Z))
        self._search(gone, kept, design)
        return self

    def _search(self, lost: np.ndarray, stayed: np.ndarray, design: Design | None) -> None:
        k, scale = len(self._prior), max(lost.sum() + stayed.sum(), 1.0)

        def objective(lost: np.ndarray, stayed: np.ndarray, Z: np.ndarray):  # type: ignore[no-untyped-def]
            likelihood = self._likelihood(lost, stayed)

            def at(theta: np.ndarray) -> Derivatives:
                spread = np.full(len(theta), self.coef_sd or np.inf)
                spread[:k] = (self.prior_sd or np.inf) * self._prior_width
                middle = np.concatenate([self._prior, np.zeros(len(theta) - k)])
                return add_normal_prior(chain(theta, k, Z, self._link, likelihood), theta, middle, spread)

            return at

        together = lost.sum(axis=0, keepdims=True), stayed.sum(axis=0, keepdims=True)
        Z = np.zeros((1, 0))
        best: Maximum | None = None
        for start in self._starts(float((lost.sum() + 0.5) / (lost.sum() + stayed.sum() + 1.0))):
            found = maximise(objective(*together, Z), start, scale, self.tolerance, max_steps=200)
            if best is None or found.value > best.value + 1e-9 * abs(best.value):
                best = found
        assert best is not None
        if design is None:
            lost, stayed = together
        else:
            Z = design.scaled
            start = np.concatenate([best.theta, np.zeros(Z.shape[1] * len(self._effects))])
            best = maximise(objective(lost, stayed, Z), start, scale, self.tolerance, max_steps=200)
        theta, covariance = best.theta, best.covariance()
        self.log_likelihood_ = chain(theta, k, Z, self._link, self._likelihood(lost, stayed))[0]
        self.coef_ = None
        if design is not None:
            theta, covariance = at_zero(theta, covariance, k, design, self._link)
            self.coef_ = pd.DataFrame(
                theta[k:].reshape(len(self._effects), -1).T,
                index=pd.Index(design.names, name="covariate"),
                columns=list(self._effects),
            )
        for name, value in zip(self._names, np.exp(theta[:k]), strict=True):
            setattr(self, f"{name}_", float(value))
        self.covariance_, self.converged_, self.steps_ = covariance, best.converged, best.steps
        self.n_customers_ = float((together[0] + together[1]).max())

    def _rows(self, covariates: Covariates) -> np.ndarray:
        base = np.array(list(self.parameters().values()))
        coefficients = getattr(self, "coef_", None)
        if (coefficients is None) != (covariates is None):
            with_ = "without" if coefficients is None else "with"
            raise ValueError(f"this model was fitted {with_} covariates")
        if coefficients is None:
            return base[:, None, None]
        if isinstance(covariates, pd.DataFrame):
            covariates = covariates[list(coefficients.index)]
        Z = as_matrix(covariates)[1]
        return np.exp(self._link(np.log(base), coefficients.to_numpy().T @ Z.T)[0])[:, :, None]

    def hazard(self, age: ArrayLike, covariates: Covariates = None) -> np.ndarray:
        """Probability that a customer of this age (whole periods) leaves over the next period.

        Shape of ``age``; with covariates (n, p): (n, ages).
        """
        age = np.asarray(age, float)
        left = -np.expm1(self._log_stay(self._rows(covariates), age.ravel()))
        return left[0].reshape(age.shape) if covariates is None else left

    def survival(self, periods: int, age: int = 0, covariates: Covariates = None) -> np.ndarray:
        """Probability that a customer of ``age`` is still there 0, 1, ... ``periods`` periods from now.

        Shape (periods + 1,); with covariates (n, p): (n, periods + 1).
        """
        kept = np.cumsum(self._log_stay(self._rows(covariates), age + np.arange(periods, dtype=float)), axis=1)
        there = np.exp(np.concatenate([np.zeros((len(kept), 1)), kept], axis=1))
        return there[0] if covariates is None else there

    def discounted_lifetime(
        self, horizon_months: int, discount_rate: float, age: int = 0, covariates: Covariates = None
    ) -> float | np.ndarray:
        """Expected months, discounted (rate per year), that a customer of ``age`` months stays within the horizon.

        Times margin per month it is the lifetime value: of a new customer with age 0, of a current one with the age
        they have (residual lifetime). Money arrives in the middle of each month. A number; with covariates (n,).
        """
        there = self.survival(horizon_months, age, covariates)
        mid = discount_factors(np.arange(horizon_months) + 0.5, discount_rate)
        value = ((there[..., :-1] + there[..., 1:]) / 2) @ mid
        return float(value) if covariates is None else value

    def expected_survivors(self, customers: float, periods: int) -> np.ndarray:
        """Of a cohort of ``customers``: expected number still there after 0, 1, ... ``periods`` periods."""
        return customers * self.survival(periods)


def _total(counts: np.ndarray, index: np.ndarray, groups: int) -> np.ndarray:
    out = np.zeros((groups, counts.shape[1]))
    np.add.at(out, index, counts)
    return out
