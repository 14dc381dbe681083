"""Empirical Bayes for thousands of markets at once: small markets lean on their peers, large ones stand alone.

Effects of market m in segment s on log parameters: theta[m, s] = mean[s] + offset[m, s] + market[m] + cell[m, s], with
market ~ N(0, V), cell ~ N(0, W). Each cell's log-likelihood is taken quadratic around the current theta (Laplace), V
and W by expectation-maximisation, and the expansion is renewed until nothing moves. Morris 1983 (JASA 78) for the
principle; Breslow & Clayton 1993 (JASA 88) for the iterated expansion. All steps are array operations over cells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.stats import norm, qmc
from sklearn.base import BaseEstimator

#: Markets that differ by more than a factor of 20 (two of these) are no peers.
LARGEST_SD = 1.5

#: theta of shape (cells, k) -> gradient (cells, k), curvature (cells, k, k: minus the Hessian) of each cell's fit
CellLikelihood = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def poisson(events: np.ndarray, expected: np.ndarray) -> CellLikelihood:
    """events ~ Poisson(expected exp(theta)), k = 1."""

    def at(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean = expected * np.exp(np.clip(theta[:, 0], -20, 20))
        return (events - mean)[:, None], mean[:, None, None]

    return at


def gamma(ratio: np.ndarray, size: np.ndarray) -> CellLikelihood:
    """A positive mean, ``ratio`` times its reference, known with coefficient of variation 1/sqrt(size), k = 1."""
    ratio = np.maximum(ratio, 1e-3)

    def at(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scaled = size * ratio * np.exp(-np.clip(theta[:, 0], -20, 20))
        return (scaled - size)[:, None], scaled[:, None, None]

    return at


def normal(estimate: np.ndarray, precision: np.ndarray) -> CellLikelihood:
    """estimate ~ N(theta, 1/precision), k = 1; the estimate of a cell with precision 0 doesn't matter."""
    estimate = np.where(precision > 0, estimate, 0.0)

    def at(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return (precision * (estimate - theta[:, 0]))[:, None], precision[:, None, None]

    return at


@dataclass(frozen=True)
class Posterior:
    """Joint posterior of all cells: theta = base + market part + own part.

    ``base`` (cells, k): segment mean and offset; ``market_mean``, ``market_root`` (markets, k[, k]): posterior of the
    market effect and a root of its covariance; ``pull`` (cells, k, k) and ``own_mean``, ``own_root``: the cell's own
    part given the market's; ``mean_root`` (segments, k, k): uncertainty of the segment mean.
    """

    base: np.ndarray
    market_mean: np.ndarray
    market_root: np.ndarray
    pull: np.ndarray
    own_mean: np.ndarray
    own_root: np.ndarray
    mean_root: np.ndarray
    lean: np.ndarray
    market: np.ndarray
    segment: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """Posterior mean of theta, (cells, k)."""
        return self.base + self.own_mean + np.einsum("cij,cj->ci", self.pull, self.market_mean[self.market])

    @property
    def covariance(self) -> np.ndarray:
        """Posterior covariance of theta, (cells, k, k)."""
        spread = np.einsum("cij,cjk->cik", self.pull, self.market_root[self.market])
        roots = np.concatenate([spread, self.own_root, self.lean @ self.mean_root[self.segment]], axis=2)
        return np.einsum("cij,ckj->cik", roots, roots)

    def draws(self, cells: np.ndarray, normals: dict[str, np.ndarray]) -> np.ndarray:
        """Joint draws of theta - mean for ``cells``, (draws, cells, k).

        ``normals``: standard normal numbers "market" (draws, k), "own" and "segment" (draws, segments, k). All markets
        share them: quantiles by market are exact to the numbers' evenness and markets differ by their posteriors only.
        """
        m, s = self.market[cells], self.segment[cells]
        spread = np.einsum("cij,cjk->cik", self.pull[cells], self.market_root[m])
        out = np.einsum("cij,dj->dci", spread, normals["market"])
        out += np.einsum("cij,dcj->dci", self.own_root[cells], normals["own"][:, s])
        out += np.einsum("cij,dcj->dci", self.lean[cells] @ self.mean_root[s], normals["segment"][:, s])
        return out


def even_normals(draws: int, parts: dict[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
    """Standard normal numbers from a scrambled Sobol sequence, split into named parts of given shapes."""
    sizes = [int(np.prod(shape)) for shape in parts.values()]
    points = qmc.Sobol(sum(sizes), seed=np.random.default_rng(seed)).random(draws)
    z = norm.ppf(np.clip(points, 1e-6, 1 - 1e-6))
    z = (z - z.mean(axis=0)) / z.std(axis=0)
    split = np.split(z, np.cumsum(sizes)[:-1], axis=1)
    return {name: part.reshape(draws, *shape) for (name, shape), part in zip(parts.items(), split, strict=True)}


class MarketEffects(BaseEstimator):
    """Two-level empirical Bayes (see the module's text).

    Parameters
    ----------
    prior_sd : float
        Where the estimate of a between-market standard deviation would start from, with the weight of
        ``prior_markets`` markets: keeps it from sticking at exactly 0 where markets are few.
    fixed : bool
        Effects held at their segment's mean (no signal): the posterior is then the prior, its spread the estimate.
    largest : int
        The variances are learnt from at most so many markets (evenly picked); all are then updated with them.

    Attributes
    ----------
    mean_ : array (segments, k)
    market_variance_, cell_variance_ : arrays (k, k)
    posterior_ : Posterior
    converged_ : bool
    """

    def __init__(
        self,
        prior_sd: float = 0.05,
        prior_markets: float = 2.0,
        fixed: bool = False,
        largest: int = 2000,
        rounds: int = 12,
        inner: int = 80,
    ):
        self.prior_sd = prior_sd
        self.prior_markets = prior_markets
        self.fixed = fixed
        self.largest = largest
        self.rounds = rounds
        self.inner = inner

    def fit(
        self,
        likelihood: CellLikelihood,
        market: np.ndarray,
        segment: np.ndarray,
        k: int = 1,
        offset: np.ndarray | None = None,
        start: MarketEffects | None = None,
    ) -> Self:
        """``market``, ``segment``: index of each cell (from 0); ``offset`` (cells, k): what market features explain;
        ``start``: a fit to the same cells to begin from."""
        cells, markets, segments = len(market), int(market.max()) + 1, int(segment.max()) + 1
        self._index = (market, segment, markets, segments)
        self._learn = np.zeros(markets, bool)
        self._learn[np.unique(np.linspace(0, markets - 1, min(markets, self.largest)).astype(int))] = True
        offset = np.zeros((cells, k)) if offset is None else offset
        several = segments > 1 and cells > markets
        prior = np.eye(k) * self.prior_sd**2
        mean, V = np.zeros((segments, k)), np.eye(k) * 0.04
        W = np.eye(k) * (0.02 if several else 1e-10)
        theta, self.converged_ = offset.copy(), False
        if start is not None:
            mean, V, W, theta = start._state
        for turn in range(self.rounds):
            gradient, curvature = likelihood(theta)
            curvature = _positive(curvature)
            info = gradient + np.einsum("cij,cj->ci", curvature, theta - offset)
            for _ in range(self.inner):
                before = np.stack([np.diag(V), np.diag(W)])
                mean, V, W = self._update(info, curvature, mean, V, W, prior, several)
                if np.abs(np.stack([np.diag(V), np.diag(W)]) / before - 1).max() < 2e-3:
                    break
            posterior = self._posterior(info, curvature, mean, V, W, offset)
            moved = np.clip(posterior.mean - theta, -1.0, 1.0)
            theta = theta + moved
            if np.abs(moved).max() < 2e-3 and turn > 0:
                self.converged_ = True
                break
        self.mean_, self.market_variance_, self.cell_variance_ = mean, V, W
        self.observed_ = (info, curvature)
        self._state: tuple[np.ndarray, ...] = (mean, V, W, theta)
        if self.fixed:
            nothing = np.zeros_like(info), np.zeros_like(curvature)
            spread = self._posterior(*nothing, mean, V, W, np.zeros_like(offset))
            self.posterior_ = Posterior(**{**vars(spread), "mean_root": posterior.mean_root})
        else:
            self.posterior_ = posterior
        return self

    def _market_level(self, info, curvature, mean, V, W):  # type: ignore[no-untyped-def]
        """Precision and information of each cell about mean + market, posterior of the market effects."""
        market, segment, markets, _ = self._index
        k = info.shape[1]
        shrink = _inverse(np.eye(k) + curvature @ W)
        precision = shrink @ curvature
        about = np.einsum("cij,cj->ci", shrink, info)
        total = _sum_by(precision, market, markets) + _inverse(V)
        right = _sum_by(about - np.einsum("cij,cj->ci", precision, mean[segment]), market, markets)
        covariance = _inverse(total)
        return precision, about, np.einsum("mij,mj->mi", covariance, right), covariance

    def _update(self, info, curvature, mean, V, W, prior, several):  # type: ignore[no-untyped-def]
        market, segment, _, segments = self._index
        k = info.shape[1]
        precision, about, u, covariance = self._market_level(info, curvature, mean, V, W)
        left = _sum_by(precision, segment, segments) + np.eye(k)  # segment means ~ N(0, 1): thin segments stay near
        right = _sum_by(about - np.einsum("cij,cj->ci", precision, u[market]), segment, segments)
        mean = np.einsum("sij,sj->si", _inverse(left), right)
        learn = self._learn
        second = np.einsum("mi,mj->ij", u[learn], u[learn]) + covariance[learn].sum(axis=0)
        new_V = _capped((second + self.prior_markets * prior) / (learn.sum() + self.prior_markets))
        if several:
            use = learn[market]
            own = _inverse(curvature[use] + _inverse(W))
            away = info[use] - np.einsum("cij,cj->ci", curvature[use], mean[segment[use]] + u[market[use]])
            w = np.einsum("cij,cj->ci", own, away)
            pull = own @ curvature[use]
            spread = own + pull @ covariance[market[use]] @ pull.transpose(0, 2, 1)
            second = np.einsum("ci,cj->ij", w, w) + spread.sum(axis=0)
            W = _capped((second + self.prior_markets * prior) / (use.sum() + self.prior_markets))
        return mean, new_V, W

    def _posterior(self, info, curvature, mean, V, W, offset):  # type: ignore[no-untyped-def]
        market, segment, _, segments = self._index
        k = info.shape[1]
        precision, _, u, covariance = self._market_level(info, curvature, mean, V, W)
        own = _inverse(curvature + _inverse(W))
        shift = own @ curvature
        w = np.einsum("cij,cj->ci", own, info) - np.einsum("cij,cj->ci", shift, mean[segment])
        # precision of each segment's mean once the market effects are integrated out (cells of a market taken apart)
        about = _inverse(np.eye(k) + precision @ V) @ precision
        mean_covariance = _inverse(_sum_by(about, segment, segments) + np.eye(k))
        return Posterior(
            base=mean[segment] + offset,
            market_mean=u,
            market_root=_root(covariance),
            pull=np.eye(k) - shift,
            own_mean=w,
            own_root=_root(own),
            mean_root=_root(mean_covariance),
            # with the segment's mean the cell's own part and the market's go the other way, the more they know
            lean=(np.eye(k) - shift) @ (np.eye(k) - covariance[market] @ precision),
            market=market,
            segment=segment,
        )


def _inverse(matrices: np.ndarray) -> np.ndarray:
    """Inverses of many small matrices; one and two dimensions in closed form (ten times as fast)."""
    k = matrices.shape[-1]
    if k == 1:
        return 1.0 / matrices
    if k > 2:
        return np.linalg.inv(matrices)
    a, b, c, d = matrices[..., 0, 0], matrices[..., 0, 1], matrices[..., 1, 0], matrices[..., 1, 1]
    out = np.empty_like(matrices)
    determinant = a * d - b * c
    out[..., 0, 0], out[..., 0, 1], out[..., 1, 0], out[..., 1, 1] = d, -b, -c, a
    return out / determinant[..., None, None]


def _sum_by(values: np.ndarray, index: np.ndarray, size: int) -> np.ndarray:
    flat = values.reshape(len(values), -1)
    out = np.stack([np.bincount(index, weights=flat[:, j], minlength=size) for j in range(flat.shape[1])], axis=1)
    return out.reshape(size, *values.shape[1:])


def _positive(matrices: np.ndarray) -> np.ndarray:
    """Symmetric matrices with the sign of negative curvature turned: far from a maximum the step goes uphill and stays
    finite (saddle-free Newton; Dauphin et al. 2014), and near one there is none."""
    if matrices.shape[1] == 1:
        return np.abs(matrices)
    roots, vectors = np.linalg.eigh(matrices)
    return np.einsum("cij,cj,ckj->cik", vectors, np.abs(roots), vectors)


def _capped(matrix: np.ndarray) -> np.ndarray:
    """A covariance with no standard deviation above ``LARGEST_SD``: expansions far from the maximum can ask for any."""
    roots, vectors = np.linalg.eigh(matrix)
    return (vectors * np.minimum(roots, LARGEST_SD**2)) @ vectors.T


def _root(matrices: np.ndarray) -> np.ndarray:
    roots, vectors = np.linalg.eigh(matrices)
    return vectors * np.sqrt(np.maximum(roots, 0.0))[:, None, :]
