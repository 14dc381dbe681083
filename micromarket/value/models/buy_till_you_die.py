"""What BG/NBD, MBG/NBD and Pareto/NBD share: the fit on exact counts, covariates, predictions for cohorts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Self, cast

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import gammaln
from sklearn.base import BaseEstimator

from micromarket.value.models.compression import Column, Counts, compress, distinct
from micromarket.value.models.covariates import Design, Likelihood, Linked, as_matrix, at_zero, chain
from micromarket.value.models.newton import Derivatives, Maximum, add_normal_prior, maximise
from micromarket.value.models.parameters import Parametric

#: More distinct histories than this, and the search begins on every _THIN-th.
_MANY, _THIN = 60_000, 16
_BLOCK = 4096
Covariates = ArrayLike | pd.DataFrame | None
#: the four parameters, each (n,) or (1,)
Rows = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


class BuyTillYouDie(Parametric, BaseEstimator, ABC):
    """Base of the models of purchases without a contract. Times in any unit, the same everywhere.

    Parameters
    ----------
    prior_sd : float, optional
        Standard deviation of a normal prior on the log parameters around plausible values (none: pure maximum
        likelihood). A wide one (2) leaves ordinary data alone and gives a finite answer where, for instance, nobody
        has bought twice.
    coef_sd : float, optional
        Standard deviation of a normal prior around 0 on the coefficients, per standard deviation of their covariate
        (ridge; none: maximum likelihood).
    tolerance : float
        Largest absolute gradient of the mean log-likelihood at convergence.
    """

    _effects: ClassVar[tuple[str, ...]] = ("purchase_rate", "dropout")

    def __init__(self, prior_sd: float | None = None, coef_sd: float | None = None, tolerance: float = 1e-9):
        self.prior_sd = prior_sd
        self.coef_sd = coef_sd
        self.tolerance = tolerance

    @abstractmethod
    def _link(self, base: np.ndarray, eta: np.ndarray) -> Linked:
        """See :data:`~micromarket.value.models.covariates.Link`."""

    @abstractmethod
    def _likelihood(self, counts: Counts) -> Likelihood:
        """Log-likelihood of the groups with derivatives, as a function of their parameters."""

    @abstractmethod
    def _centre(self, mean_x: float, mean_T: float) -> np.ndarray:
        """Plausible log parameters: where the search begins and the prior sits."""

    @abstractmethod
    def _p_alive(self, p: Rows, x: np.ndarray, t_x: np.ndarray, T: np.ndarray) -> np.ndarray:
        """P(alive | x, t_x, T)."""

    @abstractmethod
    def _new(self, p: Rows, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of new customers: expected repeat purchases up to each time, P(alive) then; (n, times)."""

    @abstractmethod
    def _residual(self, p: Rows, x: np.ndarray, T: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of customers alive at T with x repeat purchases: expected purchases up to each time after T, P(alive) then;
        (n, times)."""

    @abstractmethod
    def _frequencies(self, p: Rows, T: np.ndarray, up_to: int) -> np.ndarray:
        """P(x repeat purchases by T), x = 0 ... up_to - 1; (n, up_to)."""

    def fit(
        self,
        x: ArrayLike,
        t_x: ArrayLike,
        T: ArrayLike,
        weights: ArrayLike | None = None,
        covariates: Covariates = None,
    ) -> Self:
        """Fits by Newton's method with analytic derivatives on exact counts of distinct histories.

        Parameters
        ----------
        x, t_x, T : array of shape (n,)
            Repeat purchases, time of the last one and length of observation, both since the first purchase.
        weights : array of shape (n,), optional
            Number of customers per row.
        covariates : array or DataFrame of shape (n, p), optional
            Numbers (see :func:`~micromarket.value.models.covariates.dummies`).

        Raises
        ------
        ValueError
            No customers, times out of order (0 <= t_x <= T), a missing value, covariates that can't be used.
        """
        name = type(self).__name__
        x, t_x, T = (np.asarray(v, float) for v in (x, t_x, T))
        n = np.ones(len(x)) if weights is None else np.asarray(weights, float)
        if not (len(x) == len(t_x) == len(T) == len(n)):
            raise ValueError(f"{name} needs x, t_x, T and weights of one length")
        if not (n >= 0).all() or n.sum() <= 0:
            raise ValueError(f"{name} needs at least one customer, and no negative or missing weight")
        if not ((t_x >= 0) & (t_x <= T) & (x >= 0) & (np.inf > T) & (x < np.inf)).all():
            raise ValueError(f"{name} needs 0 <= t_x <= T and x >= 0 for every customer")
        design, group = (None, None) if covariates is None else Design.of(covariates, n, self.coef_sd is not None)
        counts = compress(x, t_x, T, None if weights is None else n, group)
        self._search(counts, design)
        return self

    def _search(self, counts: Counts, design: Design | None) -> None:
        n = float(counts.customers.sum())
        mean_x, mean_T = (float(counts.customers @ c.array / n) for c in (counts.x, counts.T))
        centre = self._centre(mean_x, mean_T if mean_T > 0 else 1.0)
        k, no_covariates = len(centre), np.zeros((1, 0))

        def objective(of: Counts, Z: np.ndarray):  # type: ignore[no-untyped-def]
            likelihood = self._likelihood(of)

            def at(theta: np.ndarray) -> Derivatives:
                terms = chain(theta, k, Z, self._link, likelihood)
                return self._with_priors(terms, theta, centre)

            return at

        together = counts if counts.groups == 1 else compress(*counts.histories(), counts.customers)
        whole = objective(together, no_covariates)
        starts = [centre, centre + np.array([0.0, 0.0, -1.5, 1.0]), centre + 0.7]
        if len(together) > _MANY:
            rough = maximise(objective(together.thin(_THIN), no_covariates), centre, n, 1e-4, max_steps=30)
            starts.insert(0, rough.theta)
        best: Maximum | None = None
        for start in starts:
            found = maximise(whole, start, n, self.tolerance if design is None else 1e-5)
            if best is None or found.value > best.value:
                best = found
            if found.converged:
                break
        assert best is not None
        theta, covariance = best.theta, best.covariance()
        self.coef_ = None
        Z = no_covariates
        if design is not None:
            Z = design.scaled
            start = np.concatenate([theta, np.zeros(len(self._effects) * Z.shape[1])])
            best = maximise(objective(counts, Z), start, n, self.tolerance)
            theta, covariance = best.theta, best.covariance()
        nothing = (0.0, np.zeros(len(theta)), np.zeros((len(theta), len(theta))))
        self.log_likelihood_ = best.value - self._with_priors(nothing, theta, centre)[0]
        if design is not None:
            theta, covariance = at_zero(theta, covariance, k, design, self._link)
            coefficients = theta[k:].reshape(len(self._effects), -1).T
            self.coef_ = pd.DataFrame(
                coefficients, index=pd.Index(design.names, name="covariate"), columns=list(self._effects)
            )
        for name, value in zip(self._names, np.exp(theta[:k]), strict=True):
            setattr(self, f"{name}_", float(value))
        self.covariance_, self.n_customers_ = covariance, n
        self.converged_, self.steps_ = best.converged, best.steps

    def _with_priors(self, terms: Derivatives, theta: np.ndarray, centre: np.ndarray) -> Derivatives:
        spread = np.full(len(theta), np.inf)
        spread[: len(centre)] = self.prior_sd or np.inf
        spread[len(centre) :] = self.coef_sd or np.inf
        if np.isinf(spread).all():
            return terms
        middle = np.concatenate([centre, np.zeros(len(theta) - len(centre))])
        return add_normal_prior(terms, theta, middle, spread)

    def customer_parameters(self, covariates: Covariates = None) -> Rows:
        """Parameters, each of shape (1,), or (n,) with covariates (n, p)."""
        p, index = self._groups(covariates)
        return p if index is None else _at(p, index)

    def _groups(self, covariates: Covariates) -> tuple[Rows, np.ndarray | None]:
        """Parameters of the distinct rows of covariates, and which of these each customer has."""
        base = np.array(list(self.parameters().values()))
        coefficients = getattr(self, "coef_", None)
        if coefficients is None:
            if covariates is not None:
                raise ValueError("this model was fitted without covariates")
            return cast(Rows, tuple(base[:, None])), None
        if covariates is None:
            raise ValueError(f"this model was fitted with covariates; give {', '.join(coefficients.index)}")
        if isinstance(covariates, pd.DataFrame):
            covariates = covariates[list(coefficients.index)]
        Z = as_matrix(covariates)[1]
        if Z.shape[1] != len(coefficients):
            raise ValueError(f"covariates needs {len(coefficients)} columns, has {Z.shape[1]}")
        some, index = distinct(*(Column.of(z) for z in Z.T))
        eta, logs = coefficients.to_numpy().T @ Z[some].T, np.log(base)
        parts = [self._link(logs, eta[:, i : i + _BLOCK])[0] for i in range(0, len(some), _BLOCK)]
        return cast(Rows, tuple(np.exp(np.concatenate(parts, axis=1)))), index

    def p_alive(self, x: ArrayLike, t_x: ArrayLike, T: ArrayLike, covariates: Covariates = None) -> np.ndarray:
        """Probability that a customer with this history has not left."""
        x, t_x, T = (np.asarray(v, float) for v in (x, t_x, T))
        p = self.customer_parameters(covariates)
        size = (len(np.atleast_1d(p[1])),) if covariates is not None else ()
        return self._p_alive(p, x, t_x, T).reshape(np.broadcast_shapes(x.shape, t_x.shape, T.shape, size))

    def expected_purchases(self, t: ArrayLike, covariates: Covariates = None) -> np.ndarray:
        """Repeat purchases that a new customer makes up to time ``t`` after the first one.

        Shape of ``t``; with covariates (n, p): (n,) followed by the shape of ``t``.
        """
        return self._of_new(t, covariates, 0)

    def survival(self, t: ArrayLike, covariates: Covariates = None) -> np.ndarray:
        """Probability that a new customer has not left by ``t`` after the first purchase; shapes as above."""
        return self._of_new(t, covariates, 1)

    def _of_new(self, t: ArrayLike, covariates: Covariates, which: int) -> np.ndarray:
        times = np.asarray(t, float)
        path = self._new(self.customer_parameters(covariates), times.ravel())[which]
        path = path.reshape((len(path), *times.shape))
        return path[0] if covariates is None else path

    def conditional_expected_purchases(
        self,
        t: float,
        x: ArrayLike,
        t_x: ArrayLike,
        T: ArrayLike,
        covariates: Covariates = None,
    ) -> np.ndarray:
        """Purchases in the next ``t`` of customers with this history, shape (n,)."""
        x, t_x, T = (np.atleast_1d(np.asarray(v, float)) for v in (x, t_x, T))
        x, t_x, T = np.broadcast_arrays(x, t_x, T)
        p, group = self._groups(covariates)
        kinds = [] if group is None else [Column(p[1], group)]
        some, index = distinct(Column.of(x), Column.of(T), *kinds)
        times, rows = np.array([float(t)]), []
        for i in range(0, len(some), _BLOCK):  # bounds the memory
            at = some[i : i + _BLOCK]
            rows.append(self._residual(_at(p, at if group is None else group[at]), x[at], T[at], times)[0][:, 0])
        everyone = p if group is None else _at(p, group)
        return np.concatenate(rows)[index] * self._p_alive(everyone, x, t_x, T)

    def residual_paths(self, x: ArrayLike, T: ArrayLike, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of customers who are alive at age ``T`` after ``x`` repeat purchases, without covariates.

        Parameters
        ----------
        x, T : arrays (n,)
        times : array (m,)
            From now on, in the unit of the fit.

        Returns
        -------
        purchases, alive : arrays (n, m)
            Expected purchases up to each time; probability to be alive then.
        """
        x, T = (np.atleast_1d(np.asarray(v, float)) for v in (x, T))
        p, _ = self._groups(None)
        return self._residual(p, x, T, times)

    def expected_frequencies(
        self,
        T: ArrayLike,
        weights: ArrayLike | None = None,
        up_to: int = 7,
        covariates: Covariates = None,
    ) -> np.ndarray:
        """Expected number of customers with 0, 1, ... ``up_to`` - 1, and with ``up_to`` or more, repeat purchases.

        Of customers observed for times ``T`` since their first purchase; shape (up_to + 1,).
        """
        T = np.atleast_1d(np.asarray(T, float))
        n = np.ones(len(T)) if weights is None else np.asarray(weights, float)
        p, group = self._groups(covariates)
        group = np.zeros(len(T), np.int64) if group is None else group
        some, index = distinct(Column.of(T), Column(p[1], group))
        n = np.bincount(index, weights=n, minlength=len(some))
        parts = [
            n[i : i + 512] @ self._frequencies(_at(p, group[some[i : i + 512]]), T[some[i : i + 512]], up_to)
            for i in range(0, len(some), 512)
        ]
        each = np.sum(parts, axis=0)
        return np.append(each, max(n.sum() - each.sum(), 0.0))

    def expected_tracking(
        self,
        first_day: ArrayLike,
        days: ArrayLike,
        weights: ArrayLike | None = None,
        covariates: Covariates = None,
    ) -> np.ndarray:
        """Cumulative expected repeat purchases of all customers together by each of ``days``.

        ``first_day``: when each customer first bought, on the same clock as ``days`` (in the model's unit of time);
        a customer counts from then on. Shape of ``days``.
        """
        first, days = np.atleast_1d(np.asarray(first_day, float)), np.asarray(days, float)
        n = np.ones(len(first)) if weights is None else np.asarray(weights, float)
        p, group = self._groups(covariates)
        group = np.zeros(len(first), np.int64) if group is None else group
        total = np.zeros(days.size)
        order = np.argsort(group, kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
            begins, index = np.unique(first[rows], return_inverse=True)
            starts = np.bincount(index, weights=n[rows])
            lag = np.round(np.maximum(days.ravel()[None, :] - begins[:, None], 0.0), 9)
            lags, where = np.unique(lag, return_inverse=True)
            q = _at(p, group[rows[:1]])
            path = np.concatenate([self._new(q, lags[i : i + _BLOCK])[0][0] for i in range(0, len(lags), _BLOCK)])
            total += starts @ path[where.reshape(lag.shape)]
        return total.reshape(days.shape)


def _at(p: Rows, rows: np.ndarray) -> Rows:
    return cast(Rows, tuple(v[rows] if len(v) > 1 else np.broadcast_to(v, len(rows)) for v in p))


def negative_binomial(r: np.ndarray, alpha: np.ndarray, t: np.ndarray, up_to: int) -> np.ndarray:
    """P(x purchases by t) of customers who don't leave, x = 0 ... up_to - 1; a last axis is added for x."""
    x = np.arange(up_to, dtype=float)
    r, alpha, t = (np.asarray(v, float)[..., None] for v in (r, alpha, t))
    with np.errstate(divide="ignore"):
        log_share = np.where(t > 0, np.log(t) - np.log(alpha + t), -np.inf)
    bought = np.where(x > 0, np.where(x > 0, x, 1.0) * log_share, 0.0)
    return np.exp(gammaln(r + x) - gammaln(r) - gammaln(x + 1) - r * np.log1p(t / alpha) + bought)
