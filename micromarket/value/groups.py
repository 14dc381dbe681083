"""Pooled estimates of one quantity by group (channels, segments, markets), sound with two groups as with thousands."""

from __future__ import annotations

import numpy as np

from micromarket.value.pooling import CellLikelihood, MarketEffects

Z90 = 1.6448536269514722


def pooled_groups(likelihood: CellLikelihood, groups: int, prior_sd: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean and standard deviation of each group's theta (k = 1), theta ~ N(mean, V), both (groups,).

    The uncertainty of the common mean counts for a group as far as the group leans on it (Morris 1983, eq. 1.17): one
    that is known well by itself is known well however few groups there are.
    """
    index = np.arange(groups)
    effects = MarketEffects(prior_sd=prior_sd).fit(likelihood, index, np.zeros_like(index))
    variance = float(effects.market_variance_[0, 0])
    precision = np.maximum(effects.observed_[1][:, 0, 0], 0.0)
    mean_variance = 1 / ((precision / (1 + precision * variance)).sum() + 1.0)
    lean = 1 / (1 + precision * variance)
    return effects.posterior_.mean[:, 0], np.sqrt(variance * lean + lean**2 * mean_variance)
