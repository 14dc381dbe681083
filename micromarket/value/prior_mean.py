"""Market effects, leaning on what market features and neighbours explain where that predicts markets left out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from micromarket.value.model import Cells
from micromarket.value.pooling import CellLikelihood, MarketEffects, _root, _sum_by

FEWEST_MARKETS = 40
PENALTIES = (0.1, 1.0, 10.0, 100.0)


@dataclass(frozen=True)
class Surroundings:
    """What is known of markets besides their customers: ``X`` standardised features (markets, p); ``pairs`` (n, 2)
    indices of neighbours, both ways."""

    X: np.ndarray
    pairs: np.ndarray

    @classmethod
    def of(
        cls,
        markets: pd.DataFrame,
        features: tuple[str, ...],
        market_ids: tuple[str, ...],
        neighbours: pd.DataFrame | None = None,
    ) -> Surroundings:
        ids = pd.Index(market_ids)
        pairs = np.empty((0, 2), int)
        if neighbours is not None and len(neighbours):
            pairs = np.stack([ids.get_indexer(pd.Index(neighbours[c])) for c in ("market_id", "neighbour_id")], axis=1)
            pairs = pairs[(pairs >= 0).all(axis=1)]
        return cls(design(markets, features, market_ids), pairs)

    def around(self, values: np.ndarray, weight: np.ndarray, prior: float) -> np.ndarray:
        """Weighted mean of ``values`` over each market's neighbours, drawn to 0 by the weight ``prior``."""
        here, there = self.pairs.T
        total = np.bincount(here, weights=(weight * values)[there], minlength=len(values))
        return total / (np.bincount(here, weights=weight[there], minlength=len(values)) + prior)


def design(markets: pd.DataFrame, features: tuple[str, ...], market_ids: tuple[str, ...]) -> np.ndarray:
    """Standardised features (markets, p): gaps filled with the median, long tails on a log scale, constants dropped."""
    frame = markets.set_index("market_id").reindex(list(market_ids))
    columns = []
    for feature in features:
        if feature not in frame.columns:
            continue
        v = pd.to_numeric(frame[feature], errors="coerce").to_numpy(float, na_value=np.nan)
        v = np.where(np.isfinite(v), v, np.nan)
        if np.isfinite(v).sum() < 0.5 * len(v):
            continue
        v = np.where(np.isnan(v), np.nanmedian(v), v)
        if v.min() > 0 and v.mean() > 1.5 * np.median(v):
            v = np.log(v)
        if v.std() > 1e-9 * max(abs(v.mean()), 1e-9):
            columns.append((v - v.mean()) / v.std())
    return np.stack(columns, axis=1) if columns else np.empty((len(market_ids), 0))


def fit_effects(
    likelihood: CellLikelihood,
    cells: Cells,
    about: Surroundings,
    k: int = 1,
    fixed: bool = False,
    start: MarketEffects | None = None,
) -> tuple[MarketEffects, bool]:
    """Effects of every cell; also whether features entered their prior mean (they must beat none out of fold).

    What features leave unexplained may be alike next door: the neighbours' mean enters too if it helps out of fold.
    ``start``: a fit of the same cells to begin from.
    """
    effects = MarketEffects(fixed=fixed).fit(likelihood, cells.market, cells.segment, k, start=start)
    if fixed or len(about.X) < FEWEST_MARKETS or (about.X.shape[1] == 0 and not len(about.pairs)):
        return effects, False
    y, variance = _market_estimates(effects, cells, k)
    parts = [_prior_mean(about, y[:, j], variance[:, j], effects.market_variance_[j, j]) for j in range(k)]
    explained = np.stack([mean for mean, _ in parts], axis=1)
    if not explained.any():
        return effects, False
    better = MarketEffects().fit(likelihood, cells.market, cells.segment, k, explained[cells.market], effects)
    return _with_doubt(better, np.stack([doubt for _, doubt in parts], axis=1)), True


def _prior_mean(
    about: Surroundings, y: np.ndarray, variance: np.ndarray, between: float
) -> tuple[np.ndarray, np.ndarray]:
    """What features and then neighbours explain of ``y`` (variance ``variance``, of which ``between`` is the markets'
    own), and its variance."""
    mean, doubt = np.zeros(len(y)), np.zeros(len(y))
    left = y
    if about.X.shape[1]:
        mean, doubt, spare = _explained(about.X, y, variance)
        left = y - spare
    if len(about.pairs):
        lag = about.around(left, 1 / variance, 1 / max(between, 1e-9))
        if lag.std() > 1e-9:
            more, unsure, _ = _explained((lag / lag.std())[:, None], left, variance)
            mean, doubt = mean + more, doubt + unsure
    return mean, doubt


def _with_doubt(effects: MarketEffects, variance: np.ndarray) -> MarketEffects:
    """Adds what is unknown of the features' slopes, ``variance`` (markets, k) of each market's prior mean, as far as a
    market leans on it."""
    posterior = effects.posterior_
    covariance = posterior.market_root @ posterior.market_root.transpose(0, 2, 1)
    lean = covariance @ np.linalg.inv(effects.market_variance_)
    more = covariance + np.einsum("mij,mj,mkj->mik", lean, variance, lean)
    effects.posterior_ = replace(posterior, market_root=_root(more))
    return effects


def _market_estimates(effects: MarketEffects, cells: Cells, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Each market's own estimate of its effect, and its variance about the prior mean."""
    info, curvature = effects.observed_
    shrink = np.linalg.inv(np.eye(k) + curvature @ effects.cell_variance_)
    precision = shrink @ curvature
    about = np.einsum("cij,cj->ci", shrink, info)
    about -= np.einsum("cij,cj->ci", precision, effects.mean_[cells.segment])
    markets = len(cells.market_ids)
    covariance = np.linalg.inv(_sum_by(precision, cells.market, markets) + 1e-6 * np.eye(k))
    y = np.einsum("mij,mj->mi", covariance, _sum_by(about, cells.market, markets))
    return y, np.einsum("mii->mi", covariance) + np.diag(effects.market_variance_)


def _explained(
    X: np.ndarray, y: np.ndarray, variance: np.ndarray, folds: int = 5
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a weighted ridge regression explains of ``y``, its variance, and what it explains of markets left out; zeros
    unless it clearly beats none there."""
    w = 1 / variance
    fold = np.arange(len(y)) % folds
    spare = {penalty: np.zeros(len(y)) for penalty in PENALTIES}
    for i in range(folds):
        train, test = fold != i, fold == i
        for penalty in PENALTIES:
            spare[penalty][test] = X[test] @ _ridge(X[train], y[train], w[train], penalty)
    nothing = w * y**2
    best = min(PENALTIES, key=lambda penalty: float((w * (y - spare[penalty]) ** 2).sum()))
    gain = nothing - w * (y - spare[best]) ** 2
    if gain.mean() <= 2 * gain.std() / np.sqrt(len(gain)):
        return np.zeros(len(y)), np.zeros(len(y)), np.zeros(len(y))
    slope_covariance = np.linalg.inv((X.T * w) @ X + best * w.mean() * np.eye(X.shape[1]))
    return X @ _ridge(X, y, w, best), np.einsum("mi,ij,mj->m", X, slope_covariance, X), spare[best]


def _ridge(X: np.ndarray, y: np.ndarray, w: np.ndarray, penalty: float) -> np.ndarray:
    scale = w.mean()
    return np.linalg.solve((X.T * (w / scale)) @ X + penalty * np.eye(X.shape[1]), (X.T * (w / scale)) @ y)
