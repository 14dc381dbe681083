"""What happens next door: neighbours' coverage, spend and rivals, where knowing them helps."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from micromarket.geography import spillover
from micromarket.potential.families import Family, FloatArray
from micromarket.potential.means import SplineMean

_NEAREST = 5  # neighbours of a market where borders are unknown
_RIVALS = re.compile(r"rival|competit", re.IGNORECASE)
_LARGEST = 5_000
_FEWEST = 100


def neighbour_means(
    values: FloatArray, market_id: pd.Series, neighbours: pd.DataFrame | None, place: FloatArray
) -> FloatArray | None:
    """Mean of ``values`` (markets, columns) over each market's neighbours; a market without any gets the overall mean.

    Neighbours: pairs of ``neighbours`` (market_id, neighbour_id), else the five nearest by ``place`` (markets, 2), km;
    ``None`` where there is neither.
    """
    ids = market_id.astype(str).to_numpy(object)
    if neighbours is not None and len(neighbours):
        pairs = neighbours[["market_id", "neighbour_id"]].astype(str)
    elif len(values) > _NEAREST and np.isfinite(place).all() and np.ptp(place, axis=0).max() > 0:
        near = cKDTree(place).query(place, k=_NEAREST + 1)[1][:, 1:]
        pairs = pd.DataFrame({"market_id": np.repeat(ids, _NEAREST), "neighbour_id": ids[near.ravel()]})
    else:
        return None
    means = spillover(pd.DataFrame(values, index=pd.Index(ids)), pairs).to_numpy(float)
    return np.where(np.isfinite(means), means, values.mean(axis=0)) if np.isfinite(means).any() else None


def rivals_among(names: tuple[str, ...]) -> list[int]:
    """Places of the features that count rivals, by their names."""
    return [i for i, name in enumerate(names) if _RIVALS.search(name) and not name.endswith("(missing)")]


def helps(
    family: Family, features: FloatArray, around: FloatArray, levers: FloatArray, n: FloatArray, size: FloatArray,
    blocks: FloatArray, folds: FloatArray,
) -> bool:  # fmt: skip
    """Does ``around`` (standardised) predict held-out spatial blocks better, by more than one standard error?

    Deviance lost by block with and without it (penalised splines); the smaller model stays unless the gain is clear.
    """
    if len(n) < _FEWEST or folds.max() < 1:
        return False
    pick = np.unique(np.linspace(0, len(n) - 1, min(len(n), _LARGEST)).astype(int))
    n, size, levers, blocks, folds = n[pick], size[pick], levers[pick], blocks[pick], folds[pick]
    loss = []
    for x in (features[pick], np.column_stack([features, around])[pick]):
        lost = np.empty(len(n))
        for fold in np.unique(folds):
            here = folds == fold
            if here.all():
                return False
            model = SplineMean(family, 10.0).fit(x[~here], levers[~here], n[~here], size[~here])
            eta = model.predict(x[here], levers[here])
            # the largest markets would decide alone: each counts at most as much as its lasting spread allows
            information = size[here] * family.slope(family.rate(eta))
            lost[here] = family.deviance(n[here], size[here], eta) / (1 + 0.25 * information)
        loss.append(lost)
    gain = pd.Series(loss[0] - loss[1]).groupby(blocks).mean().to_numpy()
    return bool(len(gain) > 3 and gain.mean() > gain.std(ddof=1) / np.sqrt(len(gain)))


def mostly_neighbours(around: FloatArray, headroom: FloatArray) -> FloatArray:
    """Bool by market: more than half of the headroom (customers) is what neighbours take (``around`` below 0), so that
    the market's own reps and spend can't win it; see :class:`~micromarket.potential.estimate.Frontier`."""
    return (headroom > 0) & (-around > 0.5 * headroom)


__all__ = ["helps", "mostly_neighbours", "neighbour_means", "rivals_among"]
