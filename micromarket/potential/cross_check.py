"""The estimate that anyone can check by hand: what the better ones among the most similar markets reach."""

from __future__ import annotations

import numpy as np
from scipy.stats import spearmanr
from sklearn.neighbors import NearestNeighbors

from micromarket.potential.design import Design
from micromarket.potential.families import FloatArray

PEERS, PEER_QUANTILE = 40, 0.8
_MOST_COMPARED = 8_000  # beyond, every market is compared with a sample of the others: the 80th percentile hardly moves


def peer_potential(design: Design) -> FloatArray:
    """Customers if each market were as penetrated as the 80th percentile of its 40 most similar markets.

    Similar: the nearest by standardised features (Euclidean), the market itself left out; without features every market
    is compared with all. Penetration is relative to the expected size where nobody knows the number of buyers. At most
    the market's bound. Shape (markets,), customers. Counts are taken as they are: noise of small markets is in it, as
    it is in any comparison by hand.
    """
    rate = design.n / design.size
    count = len(rate)
    if count < 3 or not design.features.shape[1]:
        return np.minimum(design.size * np.quantile(rate, PEER_QUANTILE), design.bound)
    compared = np.unique(np.linspace(0, count - 1, min(count, _MOST_COMPARED)).astype(int))
    peers = min(PEERS, len(compared) - 1)
    found = NearestNeighbors(n_neighbors=peers + 1, algorithm="brute").fit(design.features[compared])
    near = compared[found.kneighbors(design.features, return_distance=False)]
    # its own place in the list, if it is there, goes last and out
    own = near == np.arange(count)[:, None]
    near = np.take_along_axis(near, np.argsort(own, axis=1, kind="stable"), axis=1)[:, :peers]
    return np.minimum(design.size * np.quantile(rate[near], PEER_QUANTILE, axis=1), design.bound)


def agreement(potential: FloatArray, peers: FloatArray) -> dict[str, float]:
    """How far the cross-check agrees: ``rank`` correlation over markets, ``level`` (its sum over ours), and the share
    of markets where the two differ by more than a half (``far_apart``)."""
    if len(potential) < 3 or np.ptp(potential) == 0 or np.ptp(peers) == 0:
        rank = float("nan")
    else:
        rank = float(spearmanr(potential, peers).statistic)
    ratio = np.maximum(peers, 0.5) / np.maximum(potential, 0.5)
    return {
        "rank": rank,
        "level": float(peers.sum() / max(potential.sum(), 1e-12)),
        "far_apart": float(((ratio > 1.5) | (ratio < 1 / 1.5)).mean()),
    }


__all__ = ["PEERS", "PEER_QUANTILE", "agreement", "peer_potential"]
