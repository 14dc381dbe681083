"""How far each market is developed: the standard indices of the field, for markets whose share nobody knows too."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from micromarket.potential.design import Design, number
from micromarket.potential.families import FloatArray
from micromarket.potential.pooling import pooled_ratio


@dataclass(frozen=True)
class Development:
    """Indices by market, 100 = the average of the company's markets.

    ``brand``: brand development index (BDI), our customers per addressable, pooled for small markets. ``category``:
    category development index (CDI), everyone's customers per addressable (NaN where unknown). ``source``: what most of
    ``brand`` is measured against: addressable_customers, market_customers, or peers (what markets like it hold).
    """

    brand: FloatArray
    category: FloatArray
    source: str


def development(markets: pd.DataFrame, design: Design, member: FloatArray) -> Development:
    """BDI and CDI of every market.

    BDI = (our customers / all our customers) / (addressable / all addressable) x 100. A market whose addressable
    customers are unknown is measured against who buys from anyone there; where that is unknown too, against the
    customers that its features let expect (nobody's size known) or that markets of its peer group hold on average.

    Parameters
    ----------
    member : int array (markets,), peer group of each market
    """
    n, people, category = design.n, number(markets, "addressable_customers"), number(markets, "market_customers")
    expected, used = np.full(len(n), np.nan), {}
    for name, size in (("addressable_customers", people), ("market_customers", category)):
        known = size > 0
        if known.any():
            fill = known & np.isnan(expected)
            rate = max(n[known].sum(), 1e-9) / size[known].sum()
            expected = np.where(fill, np.where(known, size, 1.0) * rate, expected)
            used[name] = int(fill.sum())
    rest = np.isnan(expected)
    if rest.any():
        if design.size_source == "none":
            alike = design.size * (n.sum() / max(design.size.sum(), 1e-9))
        else:
            alike = pd.Series(n).groupby(member).transform("mean").to_numpy()
        expected = np.where(rest, np.maximum(alike, 0.1), expected)
        used["peers"] = int(rest.sum())
    expected = np.maximum(expected, 1e-9)
    index = pooled_ratio(n, expected)
    mean = n.sum() / expected.sum()
    brand = 100 * index / mean if mean > 0 else np.full(len(n), 100.0)
    both = (people > 0) & (category > 0)
    cdi = np.full(len(n), np.nan)
    if both.any():
        cdi[both] = 100 * (category[both] / people[both]) / (category[both].sum() / people[both].sum())
    return Development(brand, cdi, max(used, key=lambda name: used[name]) if used else "peers")


__all__ = ["Development", "development"]
