"""Do customers of a market go with what its neighbours spend?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from micromarket.response.covariance import common_effects
from micromarket.response.linear import inverse_of
from micromarket.response.model import SaturatingPanel
from micromarket.response.transform import Array, saturated


@dataclass(frozen=True)
class Spillover:
    """``ratio``: what a mean neighbour's spend brings here, relative to what it would bring if spent here; ``error``:
    its standard error."""

    ratio: float
    error: float

    @property
    def clear(self) -> bool:
        return self.ratio > 0.05 and self.ratio > 3 * self.error


def spillover(
    model: SaturatingPanel,
    outcome: Array,
    spend: Array,
    extra: Array,
    neighbours: pd.DataFrame | None,
    markets: tuple[str, ...],
) -> Spillover | None:
    """Adds the neighbours' mean pressure, at the channels' effects, as one column; ``None`` without neighbours."""
    if neighbours is None or neighbours.empty:
        return None
    ids = pd.Index(markets)
    a, b = (ids.get_indexer(pd.Index(neighbours[c])) for c in ("market_id", "neighbour_id"))
    ok = (a >= 0) & (b >= 0) & (a != b)
    near = csr_matrix((np.ones(int(ok.sum())), (a[ok], b[ok])), shape=(len(ids), len(ids)))
    rows = model.few_
    near = near[rows]
    count = np.asarray(near.sum(axis=1)).ravel()
    if (count > 0).mean() < 0.5:
        return None
    others = np.unique(near.indices)
    reach = (saturated(spend[:, others], model.shape_) * model.weight_[others] * model.base_beta_).sum(axis=2)
    mean = np.asarray(near[:, others] @ reach.T).T / np.maximum(count, 1)
    white = model.whitening_

    def cut(x: Array) -> Array:
        return np.ascontiguousarray(white.apply(x).transpose(1, 0, 2))

    x = cut(saturated(spend[:, rows], model.shape_) * model.weight_[rows])
    more = cut(np.concatenate([extra[:, rows], mean[..., None]], axis=2))
    target = np.ascontiguousarray(white.apply(outcome[:, rows]).T)
    prior = inverse_of(model.slope_covariance_)
    found, covariance = common_effects(x, more, target, model.noise_[rows], prior, white.basis, model.tilt_[rows])
    return Spillover(float(found[-1]), float(np.sqrt(max(float(covariance[-1, -1]), 0.0))))
