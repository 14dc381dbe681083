"""Room between markets of a test, where what one gets spills over into the next."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def touching(neighbours: pd.DataFrame | None, markets: tuple[str, ...]) -> NDArray[np.bool_]:
    """(markets, markets) whether two markets are neighbours; nothing touches where that isn't known."""
    out = np.zeros((len(markets), len(markets)), dtype=bool)
    if neighbours is None or neighbours.empty:
        return out
    index = pd.Index(markets)
    a, b = (index.get_indexer(pd.Index(neighbours[c].astype(str))) for c in ("market_id", "neighbour_id"))
    known = (a >= 0) & (b >= 0) & (a != b)
    out[a[known], b[known]] = True
    return out | out.T


def apart(eligible: NDArray[np.bool_], touches: NDArray[np.bool_], weight: np.ndarray) -> NDArray[np.bool_]:
    """A large part of ``eligible`` in which no two markets touch; the others are the buffer.

    Greedy: the market with the most ``weight`` per market that it shuts out comes first.
    """
    left, kept = eligible.copy(), np.zeros(len(eligible), dtype=bool)
    while left.any():
        shut = (touches & left[None, :]).sum(axis=1)
        score = np.where(left, weight / (1.0 + shut), -np.inf)
        chosen = int(np.argmax(score))
        kept[chosen] = True
        left &= ~touches[chosen]
        left[chosen] = False
    return kept
