"""How each market answers to money: a saturating panel regression with random slopes, fitted in closed form inside.

New customers per head of market m in period t::

    y[m,t] = market[m] + period[t] + sum_c (beta[c] + b[m,c]) * room[m]**gamma * sat(adstock(spend[m,t,c])) + e[m,t]

with ``b[m,c] ~ N(0, tau[c]^2)`` and ``e`` of variance ``noise[m]``, autocorrelated alike in all markets. Given the
shape (decay and half-saturation by channel) everything is linear: market and period effects are projected out exactly,
the rest is generalised least squares with a C x C Woodbury identity a market. Shape and tau maximise the marginal
likelihood under weak priors (quasi-Newton, exact gradient); standard errors are robust to any dependence within a
market (Liang & Zeger 1986).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from micromarket.response.transform import Array, Shape, saturated, saturated_with_slopes

# Weak priors in the panel's units: decay about .1 to .8, half-saturation about 1/4 to 4 times the usual spend.
PRIOR_LOGIT_DECAY, PRIOR_LOGIT_SD = -0.4, 1.0
PRIOR_LOG_HALF, PRIOR_HALF_SD = 0.3, 0.8
PRIOR_ROOM, PRIOR_ROOM_SD, MAX_ROOM = 0.4, 0.3, 1.25
# Markets' own effects differ by about .45 of their channel's (90% range .2 to 1). A panel of small markets cannot
# tell that spread: its maximum likelihood estimate is as often 0 as twice the truth, and money then follows noise.
PRIOR_TAU, PRIOR_TAU_LOG_SD = 0.45, 0.5
SEARCH_MARKETS = 600


@dataclass(frozen=True)
class _Fit:
    """The linear solution at one shape: effects, the markets' slopes, and how the likelihood bends there."""

    beta: Array
    slopes: Array
    slope_cov: Array
    keep: Array
    residual: Array
    loglik: float
    gradient: Array
    by_market: Array  # derivative by the log of each market's weight


class SaturatingPanel:
    """Saturating, carried-over response with partial pooling over markets.

    Parameters
    ----------
    periods_per_year : float, optional
        Lets every market have its own yearly season, where the panel is long enough.
    iterations, rounds : int
        Quasi-Newton steps at most, each time; how often noise and autocorrelation are renewed.

    Attributes
    ----------
    beta_ : array (channels,)
        Effect at full saturation per head and period, in a market of average room.
    shape_ : Shape
    covariance_ : array (3 channels + 1, 3 channels + 1)
        Of (beta, logit decay, log half, room_strength), cluster-robust by market, including the weak priors.
    slopes_ : array (markets, channels)
        Posterior mean of beta + b.
    slope_cov_, keep_ : arrays (markets, channels, channels)
        Posterior covariance of b given beta; d slopes / d beta (1: the market itself says nothing).
    tau_, noise_, rho_, room_strength_
        Standard deviation of b, variance of e by market (whitened), its autoregression, exponent of the room.
    """

    def __init__(
        self,
        periods_per_year: float | None = None,
        iterations: int = 40,
        rounds: int = 3,
    ):
        self.periods_per_year = periods_per_year
        self.iterations = iterations
        self.rounds = rounds

    # --- public ---------------------------------------------------------------------------------------------------
    def fit(
        self, outcome: Array, spend: Array, scale: Array, room: Array, region: NDArray[np.int64] | None = None
    ) -> SaturatingPanel:
        """``outcome`` (periods, markets), ``spend`` (periods, markets, channels), per head; see `panel.Panel`.

        ``region``: code of each market; shocks that a region's markets share in a period widen the standard errors.
        """
        channels, unit = spend.shape[2], max(float(outcome.mean()), 1e-12)
        y, expected = outcome / unit, np.maximum(outcome.mean(axis=0), 1e-12) / unit / (scale * unit)
        few = np.arange(0, len(scale), -(-len(scale) // SEARCH_MARKETS))
        centred = y - y.mean(axis=0) - y.mean(axis=1, keepdims=True) + y.mean()
        noise = _pooled_variance((centred**2).mean(axis=0), expected, len(y))
        shape = self._grid(y[:, few], spend[:, few], noise[few])
        self.noise_, self.rho_, self.tau_ = noise[few], np.zeros(0), np.full(channels, 0.5)
        self.shape_, self.room_strength_ = self._search(y[:, few], spend[:, few], expected[few], room[few], shape)
        self.room_, self.weight_ = room, room**self.room_strength_
        if len(few) < len(scale):
            self.noise_ = noise
            for _ in range(3):
                self._update_noise(self._solve(y, spend, self.weight_, self.shape_), expected)
        fit = self._solve(y, spend, self.weight_, self.shape_)
        covariance = self._covariance(fit, spend, region)
        up = np.concatenate([np.full(channels, unit), np.ones(2 * channels + 1)])
        self.covariance_ = covariance * np.outer(up, up)
        self.beta_, self.slopes_ = fit.beta * unit, fit.slopes * unit
        self.slope_cov_, self.keep_ = fit.slope_cov * unit**2, fit.keep
        self.noise_, self.tau_ = self.noise_ * unit**2, self.tau_ * unit
        return self

    def skill(self, outcome: Array, spend: Array, holdout: int) -> float:
        """Share of the squared error over the last ``holdout`` periods that the response explains.

        Slopes come from the periods before (the shape from all). Against: the market's and the period's mean, which
        know nothing about spend. Above 0: spend helps to predict what other markets and the calendar do not.
        """
        train = len(outcome) - holdout
        slopes = self._solve(outcome[:train], spend[:train], self.weight_, self.shape_).slopes
        signal = (saturated(spend, self.shape_)[train:] * self.weight_[:, None] * slopes).sum(axis=2)
        w = 1 / self.noise_

        def centre(a: Array) -> Array:
            a = a - a.mean(axis=0)
            return a - (a * w).sum(axis=1, keepdims=True) / w.sum()

        naive, left = centre(outcome[train:]), centre(outcome[train:] - signal)
        return float(1 - (left**2 * w).sum() / max((naive**2 * w).sum(), 1e-300))

    # --- search over the shape ------------------------------------------------------------------------------------
    def _grid(self, y: Array, spend: Array, noise: Array) -> Shape:
        """A start: one pass over a coarse grid of every channel's shape, pooled, without random slopes."""
        channels = spend.shape[2]
        w = 1 / noise

        def centre(a: Array) -> Array:
            a = a - a.mean(axis=0)
            middle = np.tensordot(a, w, axes=(1, 0)) if a.ndim == 2 else np.einsum("tmc,m->tc", a, w)
            return a - (middle / w.sum())[:, None]

        logit, log_half = np.full(channels, PRIOR_LOGIT_DECAY), np.full(channels, PRIOR_LOG_HALF)
        target = centre(y) * np.sqrt(w)
        design = centre(saturated(spend, Shape(logit, log_half))) * np.sqrt(w)[:, None]
        gram, right = np.einsum("tmc,tmd->cd", design, design), np.einsum("tmc,tm->c", design, target)
        ridge = 1e-9 * np.eye(channels) * max(np.trace(gram), 1e-12)
        for c in range(channels):
            best = (-np.inf, logit[c], log_half[c])
            for u in (-2.2, -0.4, 1.0):
                for v in (-1.0, 0.3, 1.6):
                    one = Shape(np.array([u]), np.array([v]))
                    column = centre(saturated(spend[:, :, c : c + 1], one))[..., 0] * np.sqrt(w)
                    cross = np.einsum("tmc,tm->c", design, column)
                    cross[c] = (column**2).sum()
                    g, r = gram.copy(), right.copy()
                    g[c], g[:, c], r[c] = cross, cross, (column * target).sum()
                    solved = np.linalg.solve(g + ridge, r)
                    gain = 0.5 * float(r @ solved) - _penalty(one) if solved[c] > 0 else -np.inf
                    if gain > best[0]:
                        best, kept = (gain, u, v), (column, g, r)
            if np.isfinite(best[0]):
                logit[c], log_half[c] = best[1:]
                design[..., c], gram, right = kept
        return Shape(logit, log_half)

    def _search(self, y: Array, spend: Array, expected: Array, room: Array, shape: Shape) -> tuple[Shape, float]:
        """Maximises the marginal likelihood over shape and tau; noise and autocorrelation are renewed in between."""
        channels = spend.shape[2]
        score, log_room = -np.inf, np.log(room)
        varies = float(np.ptp(room)) > 1e-9
        strength = PRIOR_ROOM if varies else 0.0
        middle, precision = _prior_mean(channels), _prior_precision(channels)

        def objective(vector: Array) -> tuple[float, Array]:
            self.tau_ = np.exp(vector[2 * channels : -1])
            weight = np.exp(vector[-1] * log_room)
            fit = self._solve(y, spend, weight, Shape(*np.split(vector[: 2 * channels], 2)))
            away = np.append(vector[: 2 * channels], vector[-1]) - middle
            pull = precision @ away
            wide = (vector[2 * channels : -1] - usual) / PRIOR_TAU_LOG_SD
            gradient = np.append(fit.gradient, float(fit.by_market @ log_room))
            gradient[: 2 * channels] -= pull[:-1]
            gradient[2 * channels : -1] -= wide / PRIOR_TAU_LOG_SD
            gradient[-1] -= pull[-1]
            return -(fit.loglik - 0.5 * float(away @ pull) - 0.5 * float(wide @ wide)), -gradient

        limits = [(-4.0, 3.5)] * channels + [(-3.5, 3.5)] * channels + [(-7.0, 3.0)] * channels
        limits.append((0.0, MAX_ROOM if varies else 0.0))
        for _ in range(self.rounds):
            weight = room**strength
            fit = self._solve(y, spend, weight, shape)
            for _ in range(2):
                self._update_noise(fit, expected)
                fit = self._solve(y, spend, weight, shape)
            left = y - (saturated(spend, shape) * weight[:, None] * fit.slopes).sum(axis=2)
            basis = self._nuisance(len(left))
            self.rho_ = _autocorrelation(left - basis @ (basis.T @ left), basis.shape[1])
            fit = self._solve(y, spend, weight, shape)
            self._update_noise(fit, expected)
            usual = _usual_tau(fit.beta)
            start = np.concatenate([shape.vector, np.clip(np.log(self.tau_), -7, 3), [strength]])
            found = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=limits,
                             options={"maxiter": self.iterations, "ftol": 1e-9})  # fmt: skip
            shape, strength = Shape.of(found.x[: 2 * channels]), float(found.x[-1])
            self.tau_ = np.exp(found.x[2 * channels : -1])
            settled, score = abs(score + found.fun) < 0.05, -float(found.fun)
            if settled:
                break
        return shape, strength

    def _update_noise(self, fit: _Fit, expected: Array) -> None:
        said = 1 - np.diagonal(fit.keep, axis1=1, axis2=2)
        lost = self._nuisance(len(fit.residual)).shape[1]
        own = (fit.residual**2).sum(axis=0) / np.maximum(len(fit.residual) - lost - said.sum(axis=1), 1.0)
        self.noise_ = _pooled_variance(own, expected, len(fit.residual))

    # --- the linear problem ---------------------------------------------------------------------------------------
    def _solve(self, y: Array, spend: Array, weight: Array, shape: Shape) -> _Fit:
        """Generalised least squares at ``shape`` with period effects, and the marginal likelihood's gradient.

        The gradient, with respect to (logit decay, log half, log tau), is Fisher's identity: the posterior mean of
        the complete-data gradient.
        """
        parts = saturated_with_slopes(spend, shape)
        x, by_decay, by_half = (
            np.ascontiguousarray(self._whiten(p * weight[:, None]).transpose(1, 0, 2)) for p in parts
        )
        target = np.ascontiguousarray(self._whiten(y).T)
        w, periods = 1 / self.noise_, target.shape[1]
        across = x.transpose(0, 2, 1)
        gram = np.matmul(across, x) * w[:, None, None]
        inverse = np.linalg.inv(gram + np.diag(1 / self.tau_**2))  # covariance of b given the rest
        inverse = (inverse + inverse.transpose(0, 2, 1)) / 2
        solver = _Projected(x, w, inverse, self._nuisance(periods))
        beta, period = solver.effects(x, target)
        part = target - period - np.matmul(x, beta)
        b = np.matmul(inverse, np.matmul(across, (part * w[:, None])[..., None]))[..., 0]
        residual = part - np.matmul(x, b[..., None])[..., 0]
        whole = np.einsum("mt,mt,m->", part, residual, w, optimize=True)  # part' V^-1 part
        logdet = -periods * np.log(w).sum() - np.linalg.slogdet(inverse)[1].sum() + 2 * np.log(self.tau_).sum() * len(w)
        slopes = beta + b
        pull = (residual * w[:, None])[:, None]

        def complete(d: Array) -> Array:
            return np.matmul(pull, d)[:, 0] * slopes - (np.matmul(across, d) * inverse).sum(axis=1) * w[:, None]

        gradient = [complete(d).sum(axis=0) for d in (by_decay, by_half)]
        by_market = complete(x).sum(axis=1)
        spread = b**2 + np.diagonal(inverse, axis1=1, axis2=2)
        gradient.append((spread / self.tau_**2 - 1).sum(axis=0))
        keep = inverse / self.tau_**2  # I - inverse @ gram
        return _Fit(
            beta, slopes, inverse, keep, residual.T, -0.5 * float(whole + logdet), np.concatenate(gradient), by_market
        )

    def _covariance(self, fit: _Fit, spend: Array, region: NDArray[np.int64] | None) -> Array:
        """Sandwich covariance of (beta, shape, strength of the room).

        Clusters both ways: markets, and regions x periods (Cameron, Gelbach & Miller 2011).

        Curves are linearised at the posterior slopes (Lindstrom & Bates 1990).
        """
        channels, weight = spend.shape[2], self.weight_[:, None]
        parts = saturated_with_slopes(spend, self.shape_)
        columns = [parts[0] * weight, *(p * (weight * fit.slopes) for p in parts[1:])]
        columns.append((columns[0] * (fit.slopes * np.log(self.room_)[:, None])).sum(axis=2, keepdims=True))
        design = np.ascontiguousarray(self._whiten(np.concatenate(columns, axis=2)).transpose(1, 0, 2))
        w = 1 / self.noise_
        nuisance = self._nuisance(design.shape[1])
        solver = _Projected(np.ascontiguousarray(design[..., :channels]), w, fit.slope_cov, nuisance)
        bread, centred = solver.information(design)
        prior = np.zeros_like(bread)
        prior[channels:, channels:] = _prior_precision(channels)
        each = centred * (fit.residual.T * w[:, None])[..., None]
        scores = each.sum(axis=1)
        meat = scores.T @ scores * (len(w) / max(len(w) - 3 * channels - 1, 1))
        if region is not None and 1 < len(np.unique(region)) < len(region):
            shared = np.zeros((int(region.max()) + 1, *each.shape[1:]))
            np.add.at(shared, region, each)
            extra = np.einsum("rtp,rtq->pq", shared, shared) - np.einsum("mtp,mtq->pq", each, each, optimize=True)
            values, vectors = np.linalg.eigh(extra)
            meat += (vectors * np.maximum(values, 0.0)) @ vectors.T
        meat += prior
        inverse = np.linalg.inv(bread + prior + 1e-10 * np.diag(np.diag(bread)) + 1e-12 * np.eye(len(bread)))
        return inverse @ meat @ inverse

    def _whiten(self, a: Array) -> Array:
        """Takes out the autocorrelation (the first periods go with it), then every market's own mean."""
        order = len(self.rho_)
        out = a[order:]
        for lag, rho in enumerate(self.rho_, start=1):
            out = out - rho * a[order - lag : len(a) - lag]
        basis = self._nuisance(len(out))
        return out - np.tensordot(basis, np.tensordot(basis, out, axes=(0, 0)), axes=(1, 0))

    def _nuisance(self, periods: int) -> Array:
        """Orthonormal columns that each market has for itself: its level and, from 1.5 years on, its own season.

        Spend has a season too: without this, markets whose demand swings more would seem to answer more.
        """
        columns = [np.ones(periods)]
        if self.periods_per_year is not None and periods >= 1.5 * self.periods_per_year:
            angle = 2 * np.pi * np.arange(periods) / self.periods_per_year
            columns += [np.sin(angle), np.cos(angle)]
        return np.linalg.qr(np.column_stack(columns))[0]


class _Projected:
    """Inner products in V^-1 = w (Q - w X K X') with the period effects projected out; all arrays market first."""

    def __init__(self, x: Array, w: Array, inverse: Array, nuisance: Array):
        self.w = w
        self.u = np.matmul(x, np.linalg.cholesky(inverse)) * np.sqrt(w)[:, None, None]
        periods = x.shape[1]
        flat = (self.u * np.sqrt(w)[:, None, None]).transpose(1, 0, 2).reshape(periods, -1)
        # what of the period effects is the markets' own (level, season) is tied to 0
        self.among = w.sum() * ((1 + 1e-12) * np.eye(periods) - (1 - 1e-9) * nuisance @ nuisance.T) - flat @ flat.T

    def _weighted(self, a: Array) -> Array:
        return (a - np.matmul(self.u, np.matmul(self.u.transpose(0, 2, 1), a))) * self.w[:, None, None]

    def effects(self, x: Array, target: Array) -> tuple[Array, Array]:
        """Coefficients of ``x`` and the period effects of ``target``."""
        whole = np.concatenate([x, target[..., None]], axis=2)
        weighted = self._weighted(whole)
        periods = np.linalg.solve(self.among, weighted.sum(axis=0))
        inner = np.matmul(x.transpose(0, 2, 1), weighted).sum(axis=0) - weighted.sum(axis=0)[:, :-1].T @ periods
        gram = inner[:, :-1]
        beta = np.linalg.solve(gram + 1e-10 * np.diag(np.diag(gram)) + 1e-12 * np.eye(len(gram)), inner[:, -1])
        effects = periods[:, -1] - periods[:, :-1] @ beta
        return beta, effects - effects.mean()

    def information(self, design: Array) -> tuple[Array, Array]:
        """Information matrix of ``design`` and ``design`` itself less what the periods explain of it."""
        weighted = self._weighted(design)
        periods = np.linalg.solve(self.among, weighted.sum(axis=0))
        inner = np.matmul(design.transpose(0, 2, 1), weighted).sum(axis=0)
        return inner - weighted.sum(axis=0).T @ periods, design - periods


def _prior_mean(channels: int) -> Array:
    return np.append(np.repeat([PRIOR_LOGIT_DECAY, PRIOR_LOG_HALF], channels), PRIOR_ROOM)


def _usual_tau(beta: Array) -> Array:
    """Log of the spread that markets' own effects have by the prior; ``beta``: the channels' effects as they stand."""
    positive = beta[beta > 0]
    typical = float(positive.mean()) if len(positive) else float(np.abs(beta).mean())
    return np.log(PRIOR_TAU * np.maximum(beta, max(0.3 * typical, 1e-6)))


def _prior_precision(channels: int) -> Array:
    return np.diag(np.append(np.repeat([PRIOR_LOGIT_SD**-2, PRIOR_HALF_SD**-2], channels), PRIOR_ROOM_SD**-2))


def _penalty(shape: Shape) -> float:
    channels = len(shape.decay)
    away = shape.vector - _prior_mean(channels)[:-1]
    return 0.5 * float(away @ _prior_precision(channels)[:-1, :-1] @ away)


def _autocorrelation(residual: Array, fitted: int) -> Array:
    """Coefficients of an autoregression that all markets share (Yule-Walker); none where there is nothing to take out.

    Sample autocorrelations of demeaned series are too low by about (1 + 2 sum r) / periods (Kendall 1954), and
    once more for each further column ``fitted`` by market; put right.
    """
    periods = len(residual)
    order = min(4, periods // 20)
    e = residual - residual.mean(axis=0) - residual.mean(axis=1, keepdims=True) + residual.mean()
    e = e / np.maximum(e.std(axis=0), 1e-12)
    r = np.array([float((e[k:] * e[: periods - k]).mean()) for k in range(1, order + 1)])
    r = r + fitted * (1 + 2 * np.clip(r, 0, None).sum()) / periods
    if order == 0 or r[0] < 0.03:
        return np.zeros(0)
    r = np.concatenate([[1.0], np.clip(r, -0.9, 0.95)])
    lags = np.abs(np.subtract.outer(np.arange(order), np.arange(order)))
    rho = np.linalg.solve(r[lags] + 1e-3 * np.eye(order), r[1:])
    return rho if 0 < rho.sum() < 0.95 else np.array([min(r[1], 0.9)])


def _pooled_variance(own: Array, expected: Array, periods: int) -> Array:
    """Noise of each market: its own, weighed by its periods, with a count-noise law worth ten periods.

    The law is ``a * expected + c``: Poisson counts per head have variance mean / heads.
    """
    own = np.maximum(own, 1e-12)
    weight = 1 / np.maximum(expected, 1e-12) ** 2
    design = np.column_stack([expected, np.full_like(expected, float(np.median(expected)))])
    fit = np.linalg.lstsq(design * np.sqrt(weight)[:, None], own * np.sqrt(weight), rcond=None)[0]
    law = design @ np.maximum(fit, 0.0)
    law = np.maximum(law, 0.05 * float(np.median(own)))
    return np.maximum((periods * own + 10 * law) / (periods + 10), 1e-9)
