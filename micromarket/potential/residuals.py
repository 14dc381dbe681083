"""How far markets are from what models that never saw them predict, and where whole areas are off together."""

from __future__ import annotations

import numpy as np
import pandas as pd

from micromarket.geography import hot_spots
from micromarket.potential.design import Design
from micromarket.potential.families import FloatArray


def standardised_residuals(design: Design, level: FloatArray) -> FloatArray:
    """Customers less those predicted, over what chance and markets' own differences make of it, shape (markets,).

    ``level``: linear predictor out of fold. The variance is that of the count, plus a spread of the level that all
    markets share, by the method of moments; so markets of every size are alike but for what the features don't tell.
    """
    rate = design.family.rate(level)
    expected = np.maximum(design.size * rate, 1e-9)
    slope = design.size * design.family.slope(rate)
    chance = expected * (1 - rate) if design.family.bounded else expected
    away = design.n - expected
    spread = max(float((away**2 - chance).sum()) / max(float((slope**2).sum()), 1e-12), 0.0)
    return away / np.sqrt(chance + spread * slope**2)


def hot_and_cold(
    design: Design, level: FloatArray, market_id: pd.Series, neighbours: pd.DataFrame | None, seed: int
) -> FloatArray:
    """ "hot", "cold" or "" by market: more, or fewer, customers than predicted in a market and its neighbours together,
    beyond chance (false discovery rate 5%); always "" without neighbours."""
    if neighbours is None or not len(neighbours):
        return np.full(len(market_id), "", dtype=object)
    away = pd.Series(standardised_residuals(design, level), index=market_id.astype(str).to_numpy())
    return np.asarray(hot_spots(away, neighbours, seed), dtype=object)
