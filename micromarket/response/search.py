"""The outer search: shape, spread and strengths that maximise the marginal likelihood under weak priors.

Quasi-Newton with the exact gradient (Fisher's identity: the posterior mean of the complete-data gradient), on at most
:data:`SEARCH_MARKETS` markets; noise and autocorrelation are renewed in between.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize

from micromarket.response.linear import Block, Effects, NormalEquations, inverse_of
from micromarket.response.modifiers import (
    PRIOR_LOG_HALF,
    PRIOR_LOGIT_DECAY,
    Hyper,
    Modifiers,
    shape_penalty,
    usual_tau,
)
from micromarket.response.noise import NoiseLaw, Whitening, autocorrelation, own_variance
from micromarket.response.transform import Array, Shape, saturated, saturated_with_slopes

SEARCH_MARKETS = 800


@dataclass(frozen=True)
class Fit:
    """The linear solution at one point, and how the likelihood bends there.

    ``by_weight``: derivative by the log of each cell's weight; ``keep``: d slopes / d beta by market.
    """

    block: Block
    normal: NormalEquations
    effects: Effects
    slopes: Array
    keep: Array
    residual: Array
    loglik: float
    gradient: Array


@dataclass(frozen=True)
class Found:
    """Where the search ended: hyperparameters, whitening, noise by market of the subsample, and its law."""

    hyper: Hyper
    whitening: Whitening
    noise: Array
    law: NoiseLaw
    fit: Fit


class Search:
    """One subsample of markets.

    Parameters
    ----------
    y, spend, extra : arrays (periods, markets), (periods, markets, channels), (periods, markets, columns)
        Outcome in units of its mean, pressure units, and columns with one coefficient for all markets.
    expected : array (markets,)
        Mean outcome over heads, for the law of the noise.
    tilt : array (markets,)
        See :class:`~.linear.Block`.
    """

    def __init__(self, y: Array, spend: Array, extra: Array, expected: Array, modifiers: Modifiers, tilt: Array):
        self.y, self.spend, self.extra = y, spend, extra
        self.expected, self.modifiers, self.tilt = expected, modifiers, tilt

    def run(self, periods_per_year: float | None, iterations: int, rounds: int) -> Found:
        y, channels = self.y, self.spend.shape[2]
        centred = y - y.mean(axis=0) - y.mean(axis=1, keepdims=True) + y.mean()
        own = (centred**2).mean(axis=0)
        law = NoiseLaw.of(own, self.expected)
        noise = law.pooled(own, self.expected, len(y))
        whitening = Whitening(len(y), periods_per_year)
        hyper = Hyper.start(self._grid(noise), np.full(channels, 0.5), self.modifiers)
        score = -np.inf
        for _ in range(rounds):
            fit = self.solve(hyper, whitening, noise)
            for _ in range(2):
                law, noise = self._renew(fit, whitening)
                fit = self.solve(hyper, whitening, noise)
            plain = Whitening(len(y), periods_per_year)
            weight = np.exp(hyper.log_weight(self.modifiers))
            left = y - (saturated(self.spend, hyper.shape) * (weight * fit.slopes)).sum(axis=2)
            left = plain.apply(left - self.extra @ fit.effects.coefficients[channels:])
            whitening = replace(plain, rho=autocorrelation(left, plain.basis.shape[1], 1 / noise))
            fit = self.solve(hyper, whitening, noise)
            law, noise = self._renew(fit, whitening)
            hyper, top = self._climb(
                hyper, whitening, noise, usual_tau(fit.effects.coefficients[:channels]), iterations
            )
            settled, score = abs(score - top) < 0.05, top
            if settled:
                break
        fit = self.solve(hyper, whitening, noise)
        return Found(hyper, whitening, noise, law, fit)

    def _renew(self, fit: Fit, whitening: Whitening) -> tuple[NoiseLaw, Array]:
        said = fit.keep.shape[1] - np.trace(fit.keep, axis1=1, axis2=2)
        own = own_variance(fit.residual.T, said, whitening.basis.shape[1])
        law = NoiseLaw.of(own, self.expected)
        return law, law.pooled(own, self.expected, fit.residual.shape[1])

    def _climb(
        self, hyper: Hyper, whitening: Whitening, noise: Array, usual: Array, iterations: int
    ) -> tuple[Hyper, float]:
        mean, precision = hyper.prior(usual)
        target = np.ascontiguousarray(whitening.apply(self.y).T)
        extra = np.ascontiguousarray(whitening.apply(self.extra).transpose(1, 0, 2))

        def objective(vector: Array) -> tuple[float, Array]:
            fit = self.solve(hyper.at(vector), whitening, noise, target, extra)
            away = vector - mean
            pull = precision * away
            return -(fit.loglik - 0.5 * float(away @ pull)), -(fit.gradient - pull)

        limits = hyper.limits(self.modifiers)
        low, high = np.array(limits).T
        start = np.clip(hyper.vector, low, high)
        found = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=limits,
                         options={"maxiter": iterations, "ftol": 1e-8})  # fmt: skip
        return hyper.at(found.x), -float(found.fun)

    # --- one point ------------------------------------------------------------------------------------------------
    def solve(
        self,
        hyper: Hyper,
        whitening: Whitening,
        noise: Array,
        target: Array | None = None,
        extra: Array | None = None,
    ) -> Fit:
        """Generalised least squares at ``hyper``, and the marginal likelihood with its gradient."""
        if target is None or extra is None:
            target = np.ascontiguousarray(whitening.apply(self.y).T)
            extra = np.ascontiguousarray(whitening.apply(self.extra).transpose(1, 0, 2))
        channels, markets = self.spend.shape[2], len(noise)
        weight = np.exp(hyper.log_weight(self.modifiers))
        parts = saturated_with_slopes(self.spend, hyper.shape)
        x, by_decay, by_half = (np.ascontiguousarray(whitening.apply(p * weight).transpose(1, 0, 2)) for p in parts)
        covariance = hyper.covariance()
        prior = inverse_of(covariance)
        block = Block.of(x, extra, target, 1 / noise, prior, self.tilt)
        normal = NormalEquations(whitening.basis, channels + extra.shape[2])
        normal.add(block)
        effects = normal.solve()
        part = effects.part(block)
        across, w, inverse = x.transpose(0, 2, 1), block.precision, block.inverse
        b = np.matmul(inverse, np.matmul(across, (part * w[:, None])[..., None]))[..., 0]
        residual = part - np.matmul(x, b[..., None])[..., 0]
        whole = float(((part * residual).sum(axis=1) * w).sum())  # part' V^-1 part
        whole += effects.penalty
        logdet = -part.shape[1] * np.log(w).sum() - np.linalg.slogdet(inverse)[1].sum()
        logdet += np.linalg.slogdet(covariance)[1] * markets
        slopes = effects.coefficients[:channels] + b
        pull = (residual * w[:, None])[:, None]

        def complete(d: Array) -> Array:
            return np.matmul(pull, d)[:, 0] * slopes - (np.matmul(across, d) * inverse).sum(axis=1) * w[:, None]

        by_weight = complete(x)
        spread = b.T @ b + inverse.sum(axis=0)
        bend = prior @ (spread - markets * covariance) @ prior / 2
        tau = np.exp(hyper.log_tau)
        by_shared = float((bend * hyper.correlation()[1] * np.outer(tau, tau)).sum())
        by_tau = 2 * (bend * covariance).sum(axis=1)
        m = self.modifiers
        total = by_weight.sum(axis=1)
        gradient = np.concatenate([
            complete(by_decay).sum(axis=0), complete(by_half).sum(axis=0), by_tau,
            [by_shared, float(total @ m.log_room)], m.common.T @ total, (m.features.T @ by_weight).ravel(),
        ])  # fmt: skip
        keep = np.matmul(inverse, prior)
        return Fit(block, normal, effects, slopes, keep, residual, -0.5 * (whole + float(logdet)), gradient)

    def _grid(self, noise: Array) -> Shape:
        """A start: one pass over a coarse grid of every channel's shape, pooled, without random slopes."""
        channels, w = self.spend.shape[2], 1 / noise

        def centre(a: Array) -> Array:
            a = a - a.mean(axis=0)
            middle = np.tensordot(a, w, axes=(1, 0)) if a.ndim == 2 else np.einsum("tmc,m->tc", a, w)
            return a - (middle / w.sum())[:, None]

        logit, log_half = np.full(channels, PRIOR_LOGIT_DECAY), np.full(channels, PRIOR_LOG_HALF)
        target = centre(self.y) * np.sqrt(w)
        design = centre(saturated(self.spend, Shape(logit, log_half))) * np.sqrt(w)[:, None]
        gram, right = np.einsum("tmc,tmd->cd", design, design), np.einsum("tmc,tm->c", design, target)
        ridge = 1e-9 * np.eye(channels) * max(np.trace(gram), 1e-12)
        for c in range(channels):
            best = (-np.inf, logit[c], log_half[c])
            for u in (-2.2, -0.4, 1.0):
                for v in (-1.0, 0.3, 1.6):
                    one = Shape(np.array([u]), np.array([v]))
                    column = centre(saturated(self.spend[:, :, c : c + 1], one)[..., 0]) * np.sqrt(w)
                    cross = np.einsum("tmc,tm->c", design, column)
                    cross[c] = (column**2).sum()
                    g, r = gram.copy(), right.copy()
                    g[c], g[:, c], r[c] = cross, cross, (column * target).sum()
                    solved = np.linalg.solve(g + ridge, r)
                    gain = 0.5 * float(r @ solved) - shape_penalty(one) if solved[c] > 0 else -np.inf
                    if gain > best[0]:
                        best, kept = (gain, u, v), (column, g, r)
            if np.isfinite(best[0]):
                logit[c], log_half[c] = best[1:]
                design[..., c], gram, right = kept
        return Shape(logit, log_half)
