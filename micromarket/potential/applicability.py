"""Markets unlike any that the models have learnt from: their predictions are extrapolation."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from micromarket.potential.design import Design
from micromarket.potential.families import FloatArray

_FEWEST = 30
_MOST_TRAINING = 4_000


def dissimilarity(design: Design, importance: FloatArray) -> FloatArray:
    """Dissimilarity index of Meyer & Pebesma (2021, eq. 2), shape (markets,), at least 0.

    Distance to the nearest market of *other* spatial folds, features weighted by their importance, over the mean
    distance between any two markets: 0 is a twin, 1 as far as two markets drawn at random.

    Parameters
    ----------
    importance : array (features,), at least 0: how far each feature moves the prediction (any unit).
    """
    weighted = design.features * importance
    count = len(weighted)
    if count < 2 or not weighted.shape[1] or np.ptp(weighted) == 0:
        return np.zeros(count)
    sample = weighted[np.unique(np.linspace(0, count - 1, min(count, 1_000)).astype(int))]
    squares = (sample**2).sum(axis=1)
    distances = np.sqrt(np.maximum(squares[:, None] + squares - 2 * sample @ sample.T, 0.0))
    typical = distances.sum() / max(len(sample) * (len(sample) - 1), 1)
    out = np.zeros(count)
    for fold in np.unique(design.folds):
        here, rest = design.folds == fold, np.flatnonzero(design.folds != fold)
        if not len(rest):
            continue
        known = weighted[rest[np.unique(np.linspace(0, len(rest) - 1, min(len(rest), _MOST_TRAINING)).astype(int))]]
        out[here] = cKDTree(known).query(weighted[here])[0]
    return out / max(typical, 1e-12)


def outside_area(design: Design, importance: FloatArray) -> FloatArray:
    """Bool by market: outside the area of applicability, the upper whisker of the dissimilarity index.

    The whisker (third quartile + 1.5 interquartile ranges) over markets held out by spatial fold is the threshold of
    Meyer & Pebesma (2021, section 2.3), here of log(1 + index): the index is skewed, and its plain whisker would flag
    markets in any cloud. Nobody is flagged where there are too few markets to say what is usual.
    """
    index = np.log1p(dissimilarity(design, importance))
    if len(index) < _FEWEST:
        return np.zeros(len(index), dtype=bool)
    first, third = np.quantile(index, [0.25, 0.75])
    return index > third + 1.5 * (third - first)


__all__ = ["dissimilarity", "outside_area"]
