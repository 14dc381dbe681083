"""Shares, ratios and means of markets, pulled towards their average as far as their own numbers are small."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from micromarket.potential.families import FloatArray

FEWEST_PEERS = 8  # markets of a peer group below which all markets are the yardstick


def pooled_ratio(count: FloatArray, expected: FloatArray) -> FloatArray:
    """Counts over what is expected (> 0), pooled: gamma-Poisson empirical Bayes (Clayton & Kaldor 1987).

    The prior has the mean of all together; its variance is the moment estimate of Marshall (1991, eq. 4). Where counts
    differ no more than chance would have them, every market gets the mean.
    """
    if not len(count):
        return count
    mean = count.sum() / expected.sum()
    between = (expected * (count / expected - mean) ** 2).sum() / expected.sum() - mean / expected.mean()
    if mean <= 0 or between <= 1e-12:
        return np.full(len(count), mean)
    prior = mean / between
    return (count + mean * prior) / (expected + prior)


def pooled_share(part: FloatArray, whole: FloatArray) -> FloatArray:
    """Shares (0 to 1), pooled: beta-binomial, variance by moments (Kleinman 1973); the mean where ``whole`` is 0."""
    total = whole.sum()
    if not total > 0:
        return np.zeros(len(part))
    mean = float(np.clip(part.sum() / total, 0.0, 1.0))
    own = np.where(whole > 0, part / np.maximum(whole, 1e-12), mean)
    noise = mean * (1 - mean)
    room = total - (whole**2).sum() / total
    between = ((whole * (own - mean) ** 2).sum() - ((whole > 0).sum() - 1) * noise) / max(room, 1e-12)
    if room <= 0 or between <= 1e-12 or noise <= 0:
        return np.full(len(part), mean)
    prior = max(noise / between - 1, 0.0)
    return (part + prior * mean) / np.maximum(whole + prior, 1e-12)


def pooled_mean(total: FloatArray, squares: FloatArray, count: FloatArray) -> FloatArray:
    """Means per customer, pooled: normal empirical Bayes with one variance within markets (DerSimonian & Laird 1986).

    Parameters
    ----------
    total, squares : sums of a quantity and of its squares over the customers of each market.
    count : customers; a market without any gets the mean.
    """
    everyone = count.sum()
    if not everyone > 0:
        return np.zeros(len(count))
    mean = total.sum() / everyone
    own = np.where(count > 0, total / np.maximum(count, 1e-12), mean)
    used = int((count > 0).sum())
    inside = np.maximum(squares - total**2 / np.maximum(count, 1e-12), 0.0)[count > 0].sum()
    within = inside / max(everyone - used, 1.0)
    room = everyone - (count**2).sum() / everyone
    between = ((count * (own - mean) ** 2).sum() - (used - 1) * within) / max(room, 1e-12)
    if room <= 0 or between <= 1e-12:
        return np.full(len(count), mean)
    weight = between / (between + within / np.maximum(count, 1e-12))
    return mean + np.where(count > 0, weight, 0.0) * (own - mean)


def by_group(member: FloatArray, pool: Callable[..., FloatArray], *columns: FloatArray) -> FloatArray:
    """``pool`` within each peer group; groups of fewer than :data:`FEWEST_PEERS` markets take part in that of all."""
    out = pool(*columns)
    for g in np.unique(member):
        inside = member == g
        if inside.sum() >= FEWEST_PEERS and not inside.all():
            out[inside] = pool(*(c[inside] for c in columns))
    return out


def reached_by_peers(level: FloatArray, member: FloatArray, quantile: float = 0.8) -> FloatArray:
    """What the best fifth of each market's peer group starts from."""
    out = np.full(len(level), np.quantile(level, quantile)) if len(level) else level
    for g in np.unique(member):
        inside = member == g
        if inside.sum() >= FEWEST_PEERS:
            out[inside] = np.quantile(level[inside], quantile)
    return out


__all__ = ["FEWEST_PEERS", "by_group", "pooled_mean", "pooled_ratio", "pooled_share", "reached_by_peers"]
